"""perplexity and bench."""
import csv
import json
import math
import os
import statistics
import struct

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
                self.assertEqual(set(found), {"ppl", "n_tokens", "n_predicted", "activations"})

    def test_the_default_window_fits_any_context(self):
        """The tiny models have 256 tokens of context: one of Gemma's goes to BOS."""
        text = "zqxkvjwp" * 80
        for model, window in (("llama", 256), ("gemma3", 255)):
            self.add_model(model)
            found, same = self.measure(model, text), self.measure(model, text, "--ctx", str(window))
            self.assertGreater(found["n_tokens"], 512)
            self.assertEqual(found, same)
        self.fail_with(1, "input has 257 tokens, the context has room for 256; ", "perplexity", "gemma3", "--file", self.write(text), "--ctx", "256")

    def test_the_first_windows_and_the_ends_of_them_may_be_asked_for(self):
        for model, bos in (("llama", 0), ("gemma3", 1)):
            self.add_model(model)
            text = "zqxkvjwpbcdfghmn" * 8
            first, both = self.measure(model, text[:32], "--ctx", "16"), self.measure(model, text, "--ctx", "16", "--windows", "2")
            self.assertEqual(both, first)
            for skip in (0, 1, 8, 14 + bos):
                found = self.measure(model, text, "--ctx", "16", "--windows", "3", "--skip", str(skip))
                self.assertEqual((found["n_tokens"], found["n_predicted"]), (48, 3 * (15 + bos - skip)))
            file = self.write(text)
            self.fail_with(2, "predicts nothing behind", "perplexity", model, "--file", file, "--ctx", "16", "--skip",
                           str(15 + bos))
            self.fail_with(1, "128 tokens, 8 whole windows", "perplexity", model, "--file", file, "--ctx", "16", "--windows", "9")
            self.fail_with(1, "at least 12", "perplexity", model, "--file", self.write(text[:11]), "--skip", "10")

    def test_skipped_positions_count_as_context(self):
        """What all positions surprise is what the first ones do and what the others do."""
        model = self.add_model("llama")
        text = "zqxkvjwpbcdfghmn" * 2
        total = lambda found: math.log(found["ppl"]) * found["n_predicted"]
        whole, end = self.measure(model, text, "--ctx", "32"), self.measure(model, text, "--ctx", "32", "--skip", "20")
        begin = self.measure(model, text[:21], "--ctx", "32")
        self.assertAlmostEqual(total(whole), total(begin) + total(end), places=4)

    def test_windows_are_independent(self):
        model = self.add_model("llama")
        one, two = "zqxkvjwpbcdfghmn", "nmhgfdcbpwjvkxqz"
        a, b = self.measure(model, one, "--ctx", "16"), self.measure(model, two, "--ctx", "16")
        both = self.measure(model, one + two, "--ctx", "16")
        self.assertEqual(both["n_tokens"], 32)
        self.assertAlmostEqual(math.log(both["ppl"]), (math.log(a["ppl"]) + math.log(b["ppl"])) / 2, places=5)

    def test_it_tells_people_too_and_what_is_wrong(self):
        model = self.add_model("llama")
        self.assertRegex(self.succeed("perplexity", model, "--file", self.write("the inn")).text, r"^perplexity \d.*tokens/s\)$")
        less = self.succeed("perplexity", model, "--file", self.write("the inn"), "--activations", "8").text
        self.assertRegex(less, r"^perplexity \d.*; activations of 8 bits$")
        found = self.measure(model, "the inn", "--batch-invariant", "--kv-type", "bf16", "--kv-bytes", "64M")
        self.assertIs(found["batch_invariant"], True)
        self.fail_with(1, "at least 2", "perplexity", model, "--file", self.write("z"))
        self.fail_with(1, "nowhere", "perplexity", model, "--file", "/nowhere")
        self.fail_with(1, "input has 300 tokens, the context has room for 256; ", "perplexity", model, "--file", self.write("zq" * 400), "--ctx", "300")


class Reference(support.CliTest):
    """perplexity --save-logits and --kld."""

    TEXT = "zqxkvjwpbcdfghmn the inn " * 5

    def setUp(self):
        super().setUp()
        self.model = self.add_model("llama")
        self.text = os.path.join(self.home, "text.txt")
        with open(self.text, "w", encoding="utf-8") as file:
            file.write(self.TEXT)

    def arguments(self, *options):
        return ["perplexity", self.model, "--file", self.text, "--ctx", "32", *options]

    def save(self, name, *options):
        path = os.path.join(self.home, name)
        self.succeed(*self.arguments("--save-logits", path, *options))
        return path

    def read(self, path):
        """[[log-probability]] as the header of cli/reference_logits.h describes them."""
        with open(path, "rb") as file:
            data = file.read()
        magic, version, n_vocab, n_window, bos, n_tokens, n_rows = struct.unpack_from("<8sIIIiQQ", data)
        self.assertEqual((magic, version, n_vocab, n_window, bos), (b"MLXRREF\n", 1, 320, 32, -1))
        size = 4 + 2 * n_vocab + 8
        self.assertEqual(len(data), 64 + n_rows * size)
        rows = []
        for at in range(64, len(data), size):
            greatest, *q = struct.unpack_from(f"<f{n_vocab}H", data, at)
            rows.append([greatest - 32 / 65535 * x for x in q])
        return rows

    def test_a_run_agrees_with_itself(self):
        path = self.save("ref", "--kv-type", "f32")
        plain = self.succeed(*self.arguments("--kv-type", "f32", "--json")).json
        found = self.succeed(*self.arguments("--kv-type", "f32", "--json", "--kld", path)).json
        self.assertEqual({key: found[key] for key in plain}, plain)
        self.assertEqual(found["top1_agreement"], 1)
        self.assertLess(abs(found["kld_mean"]), 1e-7)  # what the file's rounding costs
        self.assertLess(abs(found["ppl_ratio"] - 1), 1e-4)
        self.assertLess(found["ppl_ratio_error"], 1e-4)
        self.assertEqual(len(self.read(path)), found["n_predicted"])
        text = self.succeed(*self.arguments("--kld", path)).text
        self.fail_with(2, "this is what is read, and would be lost", *self.arguments("--kld", path, "--save-logits", path))
        self.succeed(*self.arguments("--kld", path))  # it is what it was
        self.assertRegex(text, r"KL divergence from the reference \d")
        self.assertRegex(text, r"perplexity [+-]0\.0\d\d % from the reference's, standard error 0\.0\d\d %")

    def test_figures_follow_from_the_two_files(self):
        """The oracle's float32 run as the reference, a run with a coarse KV cache compared with it."""
        self.model = self.add_model("llama-wide")
        reference = self.save("ref", "--backend", "cpu-scalar", "--kv-type", "f32")
        own = self.save("own", "--kv-type", "q4_0")
        found = self.succeed(*self.arguments("--kv-type", "q4_0", "--json", "--kld", reference)).json
        divergences, agree = [], 0
        for p, q in zip(self.read(reference), self.read(own)):
            divergences.append(sum(math.exp(a) * (a - b) for a, b in zip(p, q)))
            agree += p.index(max(p)) == q.index(max(q))
        divergences.sort()
        self.assertAlmostEqual(found["kld_mean"], sum(divergences) / len(divergences), delta=1e-5)
        self.assertAlmostEqual(found["kld_p99"], divergences[round(0.99 * (len(divergences) - 1))], delta=5e-4)
        self.assertAlmostEqual(found["top1_agreement"], agree / len(divergences), delta=0.02)  # ties of the rounding
        ids = self.succeed("tokenize", self.model, "--file", self.text, "--json").json["ids"]
        predicted = [i for at in range(0, len(ids), 32) for i in ids[at + 1 : at + 32]]
        excess = [p[i] - q[i] for p, q, i in zip(self.read(reference), self.read(own), predicted, strict=True)]
        self.assertGreater(max(max(p) - p[i] for p, i in zip(self.read(reference), predicted)), 31.9)  # as far as a file tells
        self.assertAlmostEqual(math.log(found["ppl_ratio"]), statistics.mean(excess), delta=1e-4)
        error = statistics.stdev(excess) / math.sqrt(len(excess))
        self.assertAlmostEqual(found["ppl_ratio_error"] / found["ppl_ratio"], error, delta=0.02 * error)
        close = self.succeed(*self.arguments("--kv-type", "f32", "--json", "--kld", reference)).json
        self.assertLess(close["kld_mean"], 1e-5)
        self.assertLess(close["kld_mean"], found["kld_mean"] / 10)

    def test_other_references_and_damage_are_refused(self):
        path = self.save("ref")
        with open(path, "rb") as file:
            good = file.read()

        def refuse(pattern, data=None, *options):
            bad = os.path.join(self.home, "bad")
            with open(bad, "wb") as file:
                file.write(good if data is None else data)
            self.fail_with(1, pattern, *self.arguments("--kld", bad, *options))

        def flipped(at):
            data = bytearray(good)
            data[at] ^= 4
            return bytes(data)

        refuse("not a file of reference logits", b"GGUF" + good[4:])
        refuse("not a file of reference logits", good[:40])
        refuse("version 5 of reference logits; this build reads version 1", flipped(8))
        for at in (13, 17, 25, 33, 41, 57):
            refuse("damaged: the checksum of its head", flipped(at))
        for at in (64, 200, len(good) - 1):
            refuse("damaged: the checksum of row", flipped(at))
        refuse(r"ends after \d+ of \d+ rows", good[:-1])
        refuse("has .* bytes behind them", good + b"x")
        refuse("its window is 32, here it is 16", None, "--ctx", "16")
        refuse("its --skip is 0, here it is 4", None, "--skip", "4")
        refuse("its number of tokens is", None, "--windows", "1")
        with open(self.text, "a", encoding="utf-8") as file:
            file.write("zqx")
        refuse("its number of tokens is")
        with open(self.text, "w", encoding="utf-8") as file:
            file.write(self.TEXT.replace("z", "y"))
        refuse("its text has other tokens")
        self.model = self.add_model("gemma3")
        refuse("its (vocabulary|BOS) is")
        self.fail_with(1, "No such file", *self.arguments("--kld", os.path.join(self.home, "none")))

    def test_a_run_that_fails_leaves_no_file(self):
        folder = os.path.join(self.home, "out")
        os.mkdir(folder)
        path = os.path.join(folder, "ref")
        self.assertEqual(self.run_mlxr(*self.arguments("--save-logits", path, "--kld", self.text)).code, 1)
        self.assertEqual(self.run_mlxr(*self.arguments("--save-logits", path, "--kv-bytes", "4K")).code, 1)
        self.assertEqual(os.listdir(folder), [])
        self.fail_with(1, "No such file", *self.arguments("--save-logits", os.path.join(folder, "no", "ref")))


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
            self.assertIs(t["batch_invariant"], True)  # the CPU keeps it unasked
            self.assertNotIn("draft", t)
        result = self.succeed(*options, "--batch-invariant", "--draft", "ngram", "--draft-max", "4", "-v")
        for t in map(json.loads, result.text.splitlines()):
            self.assertIs(t["batch_invariant"], True)
            self.assertEqual("draft" in t, t["test"] != "pp8")
            self.assertEqual(t["limit_pct"] is None, "draft" in t)
        self.assertRegex(result.err, r"drafts by ngram: \d+ of \d+ tokens accepted")

    def test_depths_are_measured_in_addition(self):
        for name in ("llama", "gemma3"):  # the second has windows shorter than the depths
            model = self.add_model(name)
            options = ["bench", model, "-p", "16", "-n", "8", "-r", "2", "--json", "-d", "0,96,40"]
            tests = [json.loads(line) for line in self.succeed(*options).text.splitlines()]
            self.assertEqual([(t["test"], t.get("depth")) for t in tests], [
                ("pp16", None), ("tg8", None), ("pp16", 96), ("tg8", 96), ("pp16", 40), ("tg8", 40)])
            for few, many in ((4, 2), (5, 3), (0, 4), (1, 5)):
                least, most = sorted((tests[few], tests[many]), key=lambda t: t.get("depth", 0))
                self.assertLess(least["flops_per_token"], most["flops_per_token"])
                self.assertLess(least["read_bytes_per_token"], most["read_bytes_per_token"])
        self.fail_with(2, "--depth 250 and 32 tokens behind it: the model's context has 256", "bench", model, "-p",
                       "32", "-n", "8", "-d", "250")
        self.fail_with(2, "--depth x: whole numbers are needed", "bench", model, "-d", "x")

    def test_prompts_and_depths_are_tokens_of_a_text_where_one_is_given(self):
        model = self.add_model("llama")
        path = os.path.join(self.home, "text.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("the quick brown fox jumps over the lazy dog. " * 3)
        n = len(self.succeed("tokenize", model, "--file", path, "--json").json["ids"])
        half = n // 2
        for fits, more, needed in ((["-p", "16", "-d", f"{n - 16}"], ["-p", "17", "-d", f"{n - 16}"], n + 1),
                                   (["-p", f"{half}", "-b", "2"], ["-p", f"{half + 1}", "-b", "2"], 2 * half + 2)):
            options = ["bench", model, "-n", "8", "-r", "1", "--json", "--file", path]
            tests = [json.loads(line) for line in self.succeed(*options, *fits).text.splitlines()]
            self.assertEqual({t["file"] for t in tests}, {path})
            self.assertTrue(any("depth" in t or "batch" in t for t in tests))
            self.fail_with(1, f"text.txt has {n} tokens; these tests need {needed}", *options, *more)
        self.fail_with(1, "missing", "bench", model, "--file", os.path.join(self.home, "missing"))
        self.assertNotIn("file", json.loads(self.succeed("bench", model, "-p", "8", "-n", "0", "--json").text))

    def test_costs_are_counted_from_the_model(self):
        """The tiny Llama: 4 layers, width 64, 4 heads on 2 of 16, FFN 160, vocabulary 320."""
        model = self.add_model("llama")
        layers = 4 * (64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 160)
        info = self.succeed("show", model, "--json").json
        pp, tg = [json.loads(line) for line in self.succeed(
            "bench", model, "-p", "8", "-n", "1", "-r", "1", "--json", "--kv-type", "f32").text.splitlines()]
        keys = 4 * (4 * 16) * 4  # operations of a key: two multiply-adds for each element of each head, in 4 layers
        # In the last layer what is behind its keys and values is computed for the row whose logits are wanted: attention (which sees 8
        # of the 36 keys), its output and the MLP.
        late = 64 * 64 + 3 * 64 * 160
        self.assertEqual(pp["flops_per_token"] * 8, 2 * (layers * 8 - late * 7 + 320 * 64) + keys * 36 - keys // 4 * 28)
        self.assertEqual(tg["flops_per_token"], 2 * (layers + 320 * 64) + keys * 2)
        kv_page = 32 * 4 * 2 * (2 * 16) * 4
        self.assertEqual(tg["read_bytes_per_token"], info["memory"]["bytes_per_token"] + kv_page)

    def test_all_logits_are_computed_only_when_asked_for(self):
        """The tiny Llama's matrix is too little of what it reads to be kept in halves: figures are the same."""
        options = ["bench", self.add_model("llama"), "-p", "0", "-n", "4", "-r", "1", "--json"]
        greedy, whole = self.succeed(*options).json, self.succeed(*options, "--logits").json
        self.assertEqual((greedy["logits"], whole["logits"]), (False, True))
        self.assertEqual(greedy["read_bytes_per_token"], whole["read_bytes_per_token"])

    def test_the_limit_beside_a_figure_follows_from_what_was_measured(self):
        model = self.add_model("llama")
        first, second = [json.loads(line) for line in self.succeed(
            "bench", model, "-p", "16", "-n", "8", "-r", "3", "--json", "--threads", "1").text.splitlines()]
        self.assertNotIn("machine", second)
        machine = first["machine"]
        self.assertGreater(machine["peak_tops"]["f32"], 0)
        self.assertEqual([entry["bytes"] for entry in machine["read"]], [1 << 20])  # enough for a small file
        for t in (first, second):
            self.assertEqual((t["n_repeat"], t["threads"], t["backend"]), (3, 1, "cpu"))
            self.assertTrue(0 <= t["mad"] <= t["max"] - t["min"])
            seconds = max(t["read_bytes_per_token"] / (t["read_gb_s"] * 1e9),
                          t["flops_per_token"] / (t["peak_tops"] * 1e12))
            self.assertAlmostEqual(t["limit_pct"], 100 * seconds * t["tokens_per_s"], delta=1e-4 * t["limit_pct"])
            self.assertIn(t["limit"], ("read", "peak"))

    def test_masked_features_are_not_used(self):
        model = self.add_model("llama")
        options = ["bench", model, "-p", "4", "-n", "0", "-r", "1", "--json"]
        found = self.succeed(*options).json
        for mask in ("scalar", "-avx512,-amx", "-avx2", "-dotprod"):
            masked = self.succeed(*options, "--cpu-features", mask).json
            left = set(masked["cpu_features"].split(",")) - {""}
            self.assertLessEqual(left, set(found["cpu_features"].split(",")))
            for level in mask.replace("-", "").split(","):
                self.assertFalse([name for name in left if name.startswith(level) or mask == "scalar"])
        for verb in ("run", "tokenize", "bench", "perplexity", "batch"):
            extra = {"perplexity": ["--file", os.devnull], "batch": [os.devnull]}.get(verb, [])
            extra = extra if verb != "run" and verb != "tokenize" else ["x"]
            self.fail_with(2, "sse9", verb, model, *extra, "--cpu-features", "-sse9")

    def test_tables_have_a_row_a_test(self):
        model = self.add_model("llama")
        options = ["bench", model, "-p", "16", "-n", "8", "-r", "2", "-d", "32", "-b", "2"]
        rows = list(csv.DictReader(self.succeed(*options, "--csv").text.splitlines()))
        self.assertEqual([(row["test"], row["depth"]) for row in rows],
                         [("pp16", "0"), ("tg8", "0"), ("pp16", "32"), ("tg8", "32"), ("batch2", "0")])
        for row in rows:
            self.assertTrue(0 < float(row["min"]) <= float(row["tokens_per_s"]) <= float(row["max"]))
            self.assertTrue(float(row["limit_pct"]) > 0 and float(row["read_gb_s"]) > 0)
        lines = self.succeed(*options, "--md").text.splitlines()
        table = [line for line in lines if line.startswith("|")]
        self.assertEqual(len(table), 2 + 5)
        self.assertEqual({line.count("|") for line in table}, {len(rows[0]) + 1})
        self.assertNotIn("activations", self.succeed(*options).text)
        self.assertRegex(self.succeed(*options, "--activations", "8").text, r"(?m)^cpu.*, activations of 8 bits")
        self.assertRegex(self.succeed(*options).text, r"(?m)^pp16 @32 +\d.*% (reading|computing)$")
        self.fail_with(2, "exclude each other", *options, "--csv", "--json")

    def test_a_profile_tells_where_the_time_of_each_test_went(self):
        model = self.add_model("llama")
        profile, trace = (os.path.join(self.home, name) for name in ("profile.json", "trace.json"))
        self.succeed("bench", model, "-p", "32", "-n", "4", "-r", "1", "-b", "3", "--profile", profile, "--trace", trace)
        with open(profile, encoding="utf-8") as file:
            tests = {test["test"]: test["profile"] for test in json.load(file)["tests"]}
        self.assertEqual(set(tests), {"pp32", "tg4", "batch3"})
        for name, phase in (("pp32", "prompt"), ("tg4", "decode"), ("batch3", "decode")):
            found = tests[name]["phases"][phase]
            layers = [layer["layer"] for layer in found["layers"]]
            self.assertEqual(layers, [None, *range(len(layers) - 1)])
            self.assertGreater(len(layers), 2)
            by_operation = sum(o["ms"] for o in found["operations"])
            self.assertAlmostEqual(by_operation, sum(layer["ms"] for layer in found["layers"]), delta=0.01)
            self.assertLessEqual(by_operation, found["run_ms"] + 0.01)
            self.assertGreater(by_operation, 0)
        self.assertEqual(tests["batch3"]["phases"]["decode"]["rows"] % 3, 0)
        self.assertEqual(sum(step["rows"] for step in tests["pp32"]["steps"]), 32)
        with open(trace, encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        self.assertEqual({e["args"]["name"] for e in events if e["name"] == "process_name"}, set(tests))
        spans = sum(len(step["spans"]) for test in tests.values() for step in test["steps"])
        self.assertEqual(sum(e["ph"] == "X" and "layer" in e.get("args", {}) for e in events), spans)

    def test_a_profile_and_a_trace_of_one_name_are_refused(self):
        model, there = self.add_model("llama"), os.path.join(self.home, "there")
        with open(there, "w", encoding="utf-8") as file:
            file.write("what was there")
        os.symlink(there, os.path.join(self.home, "link"))
        for one, other in (("new", "new"), ("new", "./new"), ("there", "link")):
            paths = [os.path.join(self.home, name) for name in (one, other)]
            self.fail_with(2, "one would be written over the other", "bench", model, "-p", "4", "-n", "0", "-r", "1",
                           "--profile", paths[0], "--trace", paths[1])  # fmt: skip
            self.assertFalse(os.path.exists(os.path.join(self.home, "new")))
        with open(there, encoding="utf-8") as file:
            self.assertEqual(file.read(), "what was there")
        self.succeed("bench", model, "-p", "4", "-n", "0", "-r", "1", "--profile", os.path.join(self.home, "new"), "--trace", there)

    def test_a_profile_that_cannot_be_written_is_an_error(self):
        result = self.run_mlxr("bench", self.add_model("llama"), "-p", "4", "-n", "0", "-r", "1", "--profile", "/no/where")
        self.assertEqual(result.code, 1)
        self.assertIn("/no/where: No such file or directory", result.err)

    def test_more_than_the_context_is_refused(self):
        model = self.add_model("llama")
        self.fail_with(2, "context has 256", "bench", model, "-p", "300")
        self.fail_with(2, "context has 256", "bench", model, "-n", "256")


if __name__ == "__main__":
    support.main()
