"""perplexity and bench."""
import json
import math
import os

import support


class Perplexity(support.CliTest):
    def write(self, text):
        path = os.path.join(self.home, "text.txt")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        return path

    def measure(self, model, text, *options):
        return self.succeed("perplexity", model, "--file", self.write(text), "--json", *options).json

    def surprises(self, model, text, bos):
        """−ln p of each token after the first (with `bos`: of every token), one run each."""
        ids = self.succeed("tokenize", model, text, "--json").json["ids"]
        found = []
        for n in range(0 if bos else 1, len(ids)):
            prefix = self.succeed("detokenize", model, *[str(i) for i in ids[:n]]).text if n else ""
            self.assertEqual(self.succeed("tokenize", model, prefix, "--json").json["ids"], ids[:n])
            options = ["--raw", "-n", "1", "--temp", "0", "--logprobs", "320", "--json", "--kv-type", "f32"]
            top = self.succeed("run", model, *options, "-", stdin=prefix.encode()).json if prefix else None
            if top is None:
                return None, ids
            found.append(-next(t["logprob"] for t in top["logprobs"][0]["top"] if t["id"] == ids[n]))
        return found, ids

    def test_it_is_the_mean_of_the_log_probabilities(self):
        model = self.add_model("llama")
        text = "zqxkvjwz"
        surprises, ids = self.surprises(model, text, False)
        found = self.measure(model, text, "--kv-type", "f32")
        self.assertEqual((found["n_tokens"], found["n_predicted"]), (len(ids), len(ids) - 1))
        self.assertAlmostEqual(math.log(found["ppl"]), sum(surprises) / len(surprises), places=4)

    def test_windows_follow_the_rule(self):
        """Windows of --ctx file tokens, the last shorter, a single token dropped; with BOS each file token counts."""
        for model, bos in (("llama", 0), ("gemma3", 1)):
            self.add_model(model)
            for n in (2, 3, 15, 16, 17, 18, 31, 32, 33, 34, 100):
                text = ("zqxkvjwp" * 20)[:n]
                count = self.succeed("tokenize", model, text, "--json").json["n_tokens"]
                expected = 0
                for at in range(0, count, 16):
                    window = min(16, count - at)
                    expected += window - 1 + bos if window > 1 else 0
                found = self.measure(model, text, "--ctx", "16")
                self.assertEqual((found["n_tokens"], found["n_predicted"]), (count, expected))
                self.assertEqual(set(found), {"ppl", "n_tokens", "n_predicted"})

    def test_windows_are_independent(self):
        model = self.add_model("llama")
        one, two = "zqxkvjwpbcdfghmn", "nmhgfdcbpwjvkxqz"
        a, b = self.measure(model, one, "--ctx", "16"), self.measure(model, two, "--ctx", "16")
        both = self.measure(model, one + two, "--ctx", "16")
        self.assertEqual(both["n_tokens"], 32)
        self.assertAlmostEqual(math.log(both["ppl"]), (math.log(a["ppl"]) + math.log(b["ppl"])) / 2, places=5)

    def test_it_tells_people_too_and_what_is_wrong(self):
        model = self.add_model("llama")
        self.assertRegex(self.succeed("perplexity", model, "--file", self.write("the inn")).text, r"^perplexity \d")
        found = self.measure(model, "the inn", "--batch-invariant", "--kv-type", "bf16", "--kv-bytes", "64M")
        self.assertIs(found["batch_invariant"], True)
        self.fail_with(1, "at least 2", "perplexity", model, "--file", self.write("z"))
        self.fail_with(1, "nowhere", "perplexity", model, "--file", "/nowhere")
        self.fail_with(1, "context of 256", "perplexity", model, "--file", self.write("zq" * 400), "--ctx", "300")


class Bench(support.CliTest):
    def test_json_lines_have_the_figures(self):
        model = self.add_model("llama")
        lines = self.succeed("bench", model, "-p", "32", "-n", "8", "-r", "2", "--json").text.splitlines()
        tests = [json.loads(line) for line in lines]
        self.assertEqual([t["test"] for t in tests], ["pp32", "tg8"])
        for t in tests:
            self.assertTrue(0 < t["min"] <= t["tokens_per_s"] <= t["max"])
            self.assertEqual(t["model_bytes"], os.path.getsize(os.path.join(self.models, "llama.gguf")))
            self.assertTrue(0 < t["bytes_per_token"] <= t["model_bytes"])
            self.assertGreater(t["peak_rss_bytes"], 1 << 20)

    def test_tests_can_be_left_out(self):
        model = self.add_model("llama")
        self.assertEqual(self.succeed("bench", model, "-p", "0", "-n", "4", "-r", "1", "--json").json["test"], "tg4")
        self.assertEqual(self.succeed("bench", model, "-p", "4", "-n", "0", "-r", "1", "--json").json["test"], "pp4")
        text = self.succeed("bench", model, "-p", "4", "-n", "2", "-r", "1").text
        self.assertRegex(text, r"pp4 +\d")
        self.assertRegex(text, r"tg2 +\d")

    def test_batches_are_measured_in_addition(self):
        model = self.add_model("llama")
        options = ["bench", model, "-p", "16", "-n", "8", "-r", "2", "--json"]
        tests = [json.loads(line) for line in self.succeed(*options, "-b", "1,8,32").text.splitlines()]
        self.assertEqual([t["test"] for t in tests], ["pp16", "tg8", "batch", "batch", "batch"])
        self.assertEqual([t["batch"] for t in tests[2:]], [1, 8, 32])
        for t in tests[2:]:
            self.assertTrue(0 < t["min"] <= t["tokens_per_s"] <= t["max"])
            self.assertEqual((t["n_prompt"], t["n_generate"]), (16, 8))
        alone = json.loads(self.succeed("bench", model, "-n", "4", "-r", "1", "--json", "--batch=3").text.splitlines()[2])
        self.assertEqual((alone["batch"], alone["n_prompt"], alone["n_generate"]), (3, 128, 4))
        text = self.succeed("bench", model, "-p", "0", "-n", "2", "-r", "1", "-b", "2").text
        self.assertRegex(text, r"(?m)^tg2 +\d[^\n]*\nbatch2 +\d")

    def test_batches_that_make_no_sense_are_refused(self):
        model = self.add_model("llama")
        for value in ("", "0", "1,", ",1", "1,,2", "-1", "a", "1;2", "99999999999", ",".join(["1"] * 33)):
            self.fail_with(2, "--batch .*: (whole numbers|at most 32)", "bench", model, "--batch=" + value)
        self.fail_with(2, "--batch measures generation", "bench", model, "-b", "1", "-n", "0")
        self.fail_with(2, "-p 250 -n 8: the model's context has 256", "bench", model, "-b", "1", "-p", "250", "-n", "8")
        lines = ["bench", model, "-p", "0", "-n", "2", "-r", "1", "--json"]
        self.assertIn("a step computes at most 512", self.run_mlxr(*lines, "-b", "513").err)
        result = self.run_mlxr(*lines, "-b", "64", "--kv-bytes", "64K")
        self.assertEqual(result.code, 1)
        self.assertIn("KV", result.err)

    def test_drafts_and_batch_invariance_are_reported(self):
        model = self.add_model("llama")
        options = ["bench", model, "-p", "8", "-n", "64", "-r", "1", "-b", "2", "--json"]
        for t in map(json.loads, self.succeed(*options).text.splitlines()):
            self.assertIs(t["batch_invariant"], False)
            self.assertNotIn("draft", t)
        result = self.succeed(*options, "--batch-invariant", "--draft", "ngram", "--draft-max", "4", "-v")
        for t in map(json.loads, result.text.splitlines()):
            self.assertIs(t["batch_invariant"], True)
            self.assertEqual("draft" in t, t["test"] != "pp8")
        self.assertRegex(result.err, r"drafts by ngram: \d+ of \d+ tokens accepted")

    def test_more_than_the_context_is_refused(self):
        model = self.add_model("llama")
        self.fail_with(2, "context has 256", "bench", model, "-p", "300")
        self.fail_with(2, "context has 256", "bench", model, "-n", "256")


if __name__ == "__main__":
    support.main()
