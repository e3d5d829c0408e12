"""The example programs."""
import os
import subprocess

import support

FOLDER = os.path.dirname(support.MLXR)


class Examples(support.CliTest):
    def run_example(self, name, *arguments):
        done = subprocess.run([os.path.join(FOLDER, name), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.environment(), timeout=support.TIMEOUT)
        return support.Result(done.returncode, done.stdout, done.stderr.decode())

    def model(self, name):
        return os.path.join(support.tiny_models(), name + ".gguf")

    def test_simple_generation_goes_on_with_the_prompt(self):
        result = self.run_example("simple_generation", self.model("llama"), "The inn")
        self.assertEqual(result.code, 0, result)
        self.assertTrue(result.text.startswith("The inn"))
        self.assertGreater(len(result.text), 10)

    def test_kv_cache_test_shows_the_whole_life_of_a_prompt(self):
        """Paging, sharing, forks, eviction to disk, a restart, another type, damage: each claim checked by the example."""
        for name, tokens in (("llama", 100), ("gemma3", 101), ("qwen3", 96)):
            result = self.run_example("kv_cache_test", self.model(name), str(tokens), "20")
            self.assertEqual(result.code, 0, result)
            self.assertNotIn("WRONG", result.text)
            cached = (tokens - 1) // 32 * 32
            for word in (f"prefill  {tokens} tokens in", "decode   19 tokens in", "tokens/s", "pages of 32 tokens",
                         "prompt appended", "no more pages than the computed tokens need", "the formula allows",
                         f"{cached} of {tokens} tokens found in the cache", "times sooner",
                         f"4 forks of {tokens} tokens take no page", "copies one page" if tokens % 32 else "adds one page",
                         "original and copies go on with the same 19 tokens", "never more than the budget",
                         "pages were evicted, and are on disk", f"{cached} of {tokens} tokens came back from disk",
                         f"{cached} of {tokens} tokens survived in", "with another KV type nothing of it is used (new)",
                         "damaged files are misses, not wrong answers (rejected)"):
                self.assertIn(word, result.text)
            self.assertEqual(result.text.count("the same 20 tokens"), 5)
            folder = result.text.partition("eviction to ")[2].splitlines()[0]
            self.assertFalse(os.path.exists(folder))

    def test_kv_cache_test_leaves_a_directory_it_was_given(self):
        folder = os.path.join(self.home, "kv")
        for _ in range(2):
            result = self.run_example("kv_cache_test", self.model("llama"), "80", "4", folder)
            self.assertIn("survived", result.text)
        self.assertTrue(any(name.endswith(".kv") for name in os.listdir(folder)))

    def test_they_tell_what_is_wrong(self):
        for name in ("simple_generation", "kv_cache_test"):
            self.assertEqual(self.run_example(name).code, 2)
            result = self.run_example(name, "/nowhere.gguf")
            self.assertEqual((result.code, result.out), (1, b""))
            self.assertIn("/nowhere.gguf", result.err)
        result = self.run_example("kv_cache_test", self.model("llama"), "300", "20")
        self.assertEqual(result.code, 1)
        self.assertIn("input has 300 tokens, the context has room for 256; ", result.err)


if __name__ == "__main__":
    support.main()
