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

    def test_kv_cache_test_finds_everything_in_order(self):
        for name in ("llama", "gemma3", "qwen3"):
            result = self.run_example("kv_cache_test", self.model(name), "100", "20")
            self.assertEqual(result.code, 0, result)
            self.assertNotIn("WRONG", result.text)
            for word in ("prefill  100 tokens", "decode   19 tokens", "tokens/s", "pages of"):
                self.assertIn(word, result.text)

    def test_they_tell_what_is_wrong(self):
        for name in ("simple_generation", "kv_cache_test"):
            self.assertEqual(self.run_example(name).code, 2)
            result = self.run_example(name, "/nowhere.gguf")
            self.assertEqual((result.code, result.out), (1, b""))
            self.assertIn("/nowhere.gguf", result.err)
        result = self.run_example("kv_cache_test", self.model("llama"), "300", "20")
        self.assertEqual(result.code, 1)
        self.assertIn("context of 256", result.err)


if __name__ == "__main__":
    support.main()
