"""Contexts longer than a model was trained for: --rope-scaling and the options beside it. The tiny models are trained for 256."""
import os

import support

TEXT = "the inn at the corner had a lamp in each window, and so on. " * 16


class Context(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.add_model("llama")
        self.text = os.path.join(self.home, "text.txt")
        with open(self.text, "w", encoding="utf-8") as file:
            file.write(TEXT)

    def perplexity(self, *options, model=None):
        return self.succeed("perplexity", model or self.model, "--file", self.text, "--json", "--windows", "1", *options).json

    def begin_with_bos(self, name):
        path, key = os.path.join(self.models, name + ".gguf"), b"tokenizer.ggml.add_bos_token"
        with open(path, "r+b") as file:
            file.seek(file.read().index(key) + len(key) + 4)  # behind the type
            self.assertEqual(file.read(1), b"\0")
            file.seek(-1, os.SEEK_CUR)
            file.write(b"\1")
        return name

    def test_without_an_option_a_longer_context_is_cut_and_told_which_option_has_it(self):
        answer = self.succeed("run", self.model, "a", "--raw", "-n", "1", "--ctx", "1024")
        self.assertIn("context of 1024 tokens was asked for; the model was trained for 256 and gets that; --rope-scaling yarn", answer.err)
        self.assertEqual(self.succeed("run", self.model, "a", "--raw", "-n", "1", "--ctx", "256").err, "")

    def test_each_scaling_reads_further_and_says_what_it_costs(self):
        self.fail_with(1, "has room for 256", "run", self.model, TEXT, "--raw", "-n", "1")
        for scaling, words in (("linear", "clearly worse"), ("ntk", "worse"), ("yarn", "somewhat worse"), ("none", "nonsense")):
            answer = self.succeed("run", self.model, TEXT, "--raw", "-n", "1", "--ctx", "1024", "--rope-scaling", scaling)
            self.assertIn("context 1024 is 4 times the 256 tokens that the model was trained for", answer.err)
            self.assertIn(words, answer.err)
            self.assertNotIn("already", answer.err)
        verbose = self.succeed("run", self.model, "a", "--raw", "-n", "1", "--ctx", "1024", "--rope-scaling", "yarn", "-v").err
        self.assertIn("context 1024, RoPE scaling yarn by 4", verbose)

    def test_scalings_give_other_numbers_and_a_factor_is_one_however_it_is_said(self):
        found = {s: self.perplexity("--ctx", "512", "--rope-scaling", s, "--rope-scale", "2")["ppl"] for s in ("linear", "ntk", "yarn")}
        found["none"] = self.perplexity("--ctx", "512", "--rope-scaling", "none")["ppl"]
        self.assertEqual(len(set(found.values())), 4, found)
        self.assertEqual(self.perplexity("--ctx", "512", "--rope-scaling", "yarn")["ppl"], found["yarn"])
        self.assertEqual(self.perplexity("--ctx", "512", "--rope-scaling=yarn", "--rope-original", "256")["ppl"], found["yarn"])
        self.assertNotEqual(self.perplexity("--ctx", "512", "--rope-scaling", "yarn", "--rope-original", "64")["ppl"], found["yarn"])
        self.assertNotEqual(self.perplexity("--ctx", "512", "--rope-scaling", "yarn", "--rope-base", "50000")["ppl"], found["yarn"])
        for more in (["--yarn-beta-fast", "4"], ["--yarn-beta-slow", "2"], ["--yarn-attn-factor", "1.1"]):
            self.assertNotEqual(self.perplexity("--ctx", "512", "--rope-scaling", "yarn", *more)["ppl"], found["yarn"], more)
        self.assertEqual(self.perplexity("--ctx", "512", "--rope-scaling", "yarn", "--yarn-beta-fast", "32", "--yarn-beta-slow", "1",
                                         "--yarn-attn-factor", "1")["ppl"], found["yarn"])  # fmt: skip
        # within the trained context, as a window that is shorter says, nothing is scaled
        self.assertEqual(self.perplexity("--ctx", "128", "--rope-scaling", "yarn"), self.perplexity("--ctx", "128"))
        self.assertNotEqual(self.perplexity("--ctx", "128", "--rope-scaling", "yarn", "--rope-scale", "2"), self.perplexity("--ctx", "128"))

    def test_a_window_has_room_for_bos_of_models_that_begin_with_it(self):
        begins = self.begin_with_bos(self.add_model("llama", "begins"))
        for options in (["yarn"], ["ntk"], ["none"], ["yarn", "--rope-scale", "2"], ["none", "--rope-base", "50000"]):
            told = self.perplexity("--ctx", "512", "--rope-scaling", *options, model=begins)
            self.assertEqual((told["n_tokens"], told["n_predicted"]), (511, 511), options)
        yarn = ["--ctx", "512", "--rope-scaling", "yarn"]
        self.assertEqual(self.perplexity(*yarn, model=begins), self.perplexity(*yarn, "--rope-scale", "2", model=begins))
        # windows that need nothing of it are those that there are without it
        plain = self.perplexity("--ctx", "128", model=begins)
        self.assertEqual(plain["n_predicted"], 128)
        for options in (["yarn"], ["none"]):
            self.assertEqual(self.perplexity("--ctx", "128", "--rope-scaling", *options, model=begins), plain)
        self.assertEqual(self.perplexity("--ctx", "128", "--rope-scaling", "yarn", "--rope-scale", "4", model=begins)["n_predicted"], 128)
        self.fail_with(1, "has room for 256", "perplexity", begins, "--file", self.text, "--ctx", "256")

    def test_verbs_that_read_texts_take_it(self):
        longer = ["--rope-scaling", "yarn", "--rope-scale", "4"]
        self.fail_with(2, "context has 256", "bench", self.model, "-p", "300", "-n", "2", "-r", "1")
        self.succeed("bench", self.model, "-p", "300", "-n", "2", "-r", "1", *longer)
        self.succeed("imatrix", self.model, os.path.join(self.home, "m"), "--file", self.text, "--ctx", "512", "--windows", "1", *longer)
        requests = os.path.join(self.home, "requests.jsonl")
        with open(requests, "w", encoding="utf-8") as file:
            file.write('{"prompt": "%s"}\n' % TEXT)
        options = [self.model, requests, "--raw", "-n", "1"]
        self.assertIn("the context 256", self.run_mlxr("batch", *options).text)
        self.succeed("batch", *options, "--ctx", "1024", "--rope-scaling", "yarn")
        self.succeed("bench", self.model, "-p", "300", "-n", "2", "-r", "1", "--ctx", "512", "--rope-scaling", "none")
        self.fail_with(2, "context has 128", "bench", self.model, "-p", "200", "-n", "2", "-r", "1", "--ctx", "128")
        encoder = support.write_family("modernbert", self.home)
        with open(self.text, "w", encoding="utf-8") as file:
            file.write(TEXT.replace("\n", " "))
        self.fail_with(1, "256", "embed", encoder, TEXT)
        self.succeed("embed", encoder, TEXT, *longer)
        for further in (["--rope-scaling", "yarn"], ["--rope-scaling", "none"], ["--rope-base", "900000"]):
            self.succeed("embed", encoder, TEXT, "--ctx", "1024", *further)

    def test_a_scale_that_the_file_has_already_is_told(self):
        yarn = self.add_model("llama-yarn")
        of_file = self.succeed("show", yarn, "--json").json["context"]["rope_factor"]
        run = ["run", yarn, "a", "--raw", "-n", "1", "--rope-scaling", "yarn", "--rope-scale"]
        self.assertIn(f"the model's file has yarn by {of_file:g} already, and both make it {of_file**2:g}", self.succeed(*run, f"{of_file:g}").err)
        self.assertNotIn("already", self.succeed(*run, f"{of_file + 1:g}").err)
        self.assertNotIn("already", self.succeed(*run, f"{of_file:g}", "--rope-original", "64").err)

    def test_a_draft_model_reads_as_far(self):
        options = [self.model, TEXT, "--raw", "-n", "24", "--temp", "0", "--ctx", "1024", "--rope-scaling", "yarn", "--json"]
        plain, drafted = self.succeed("run", *options), self.succeed("run", *options, "--draft", self.model)
        self.assertEqual(drafted.json["ids"], plain.json["ids"])
        self.assertEqual(drafted.err.count("context 1024 is 4 times the 256 tokens"), 2, drafted.err)

    def test_pages_on_disk_are_taken_for_the_same_scaling_alone(self):
        options = ["run", self.model, TEXT[:400], "--raw", "-n", "4", "--temp", "0", "--json", "--ctx", "1024", "--kv-dir",
                   os.path.join(self.home, "kv"), "--kv-bytes", "16M"]  # fmt: skip
        os.mkdir(os.path.join(self.home, "kv"))
        cached = lambda *more: self.succeed(*options, *more).json["n_cached"]  # noqa: E731
        yarn = ["--rope-scaling", "yarn"]
        self.assertEqual(cached(*yarn), 0)
        self.assertGreater(cached(*yarn), 64)
        for other in (["--rope-scaling", "ntk"], [*yarn, "--rope-scale", "5"], [*yarn, "--rope-base", "20000"], ["--rope-scaling", "linear"]):
            self.assertEqual(cached(*other), 0, other)
        self.assertEqual(cached("--rope-scaling", "none"), 0)
        self.assertGreater(cached(), 64)  # which is as the file has it, too

    def test_models_without_rope_are_refused_by_name(self):
        gpt2, nemotron = (support.write_family(name, self.home) for name in ("gpt2", "nemotron-h"))
        self.fail_with(1, "gpt2 models learn each position and have no RoPE", "run", gpt2, "a", "--raw", "--ctx", "1024", "--rope-scaling", "yarn")
        self.fail_with(1, "have no RoPE to stretch; scaling none reads further", "run", nemotron, "a", "--raw", "--ctx", "1024", "--rope-scaling", "yarn")
        answer = self.succeed("run", nemotron, TEXT, "--raw", "-n", "1", "--ctx", "1024", "--rope-scaling", "none")
        self.assertIn("no position that is new to the model", answer.err)
        self.succeed("run", gpt2, "a", "--raw", "-n", "1", "--ctx", "200", "--rope-scaling", "yarn")  # it reads as many

    def test_show_tells_the_context_and_the_scaling_of_the_file(self):
        yarn = self.add_model("llama-yarn")
        self.assertEqual(self.succeed("show", self.model, "--json").json["context"],
                         {"trained": 256, "original": 256, "rope_scaling": "none", "rope_factor": 1, "rope_base": 10000})  # fmt: skip
        self.assertRegex(self.succeed("show", self.model).text, r"  context      256 tokens; RoPE base 10000\n")
        self.assertRegex(self.succeed("show", yarn).text, r"  context      256 tokens; RoPE scaling yarn by \d+, from \d+; RoPE base")
        factors = self.add_model("llama3")  # one a pair, which is no number to show
        self.assertRegex(self.succeed("show", factors).text, r"  context      256 tokens; RoPE scaling factors; RoPE base")
        gpt2 = support.write_family("gpt2", self.home)
        self.assertIsNone(self.succeed("show", gpt2, "--json").json["context"]["rope_scaling"])
        self.assertIn("  context      256 tokens\n", self.succeed("show", gpt2).text)

    def test_values_that_make_no_sense_are_refused(self):
        for options, words in ((["--rope-scaling", "yarn", "--rope-scale", "1e400"], "--rope-scale 1e400: the number is too large"),
                               (["--rope-base", "1e-50"], "--rope-base 1e-50: the number is too small"),
                               (["--rope-scale", "4"], "--rope-scale 4: .*; add --rope-scaling yarn"),
                               (["--rope-original", "64"], "--rope-original 64: .*; add --rope-scaling yarn"),
                               (["--rope-scaling", "dynamic"], "--rope-scaling dynamic: there are none, linear, ntk and yarn"),
                               (["--rope-scaling", "yarn"], "a context or a scale has to say how far"),
                               (["--rope-scaling", "yarn", "--rope-scale", "0"], "--rope-scale 0: a number from 1 to 1073741824 is needed"),
                               (["--rope-scaling", "yarn", "--rope-scale=-2"], "--rope-scale -2: a number from 1 to 1073741824"),
                               (["--rope-scaling", "yarn", "--rope-scale", "0.5"], "--rope-scale 0.5: a number from 1 to 1073741824"),
                               (["--rope-scaling", "yarn", "--rope-scale", "nan"], "--rope-scale nan: a number from 1 to 1073741824"),
                               (["--rope-scaling", "yarn", "--rope-scale", "inf"], "--rope-scale inf: a number from 1"),
                               (["--rope-scaling", "yarn", "--rope-scale", "1e30"], "--rope-scale 1e30: a number from 1"),
                               (["--rope-scaling", "none", "--ctx", "4294967295"], "at most 1073741824"),
                               (["--rope-scale", "4"], "goes with a scaling"),
                               (["--rope-original", "64"], "goes with a scaling"),
                               (["--rope-original", "0", "--rope-scaling", "yarn"], "--rope-original 0"),
                               (["--yarn-beta-fast", "16"], "beta-fast 16 goes with RoPE scaling yarn"),
                               (["--rope-scaling", "ntk", "--rope-scale", "2", "--yarn-beta-slow", "2"], "beta-slow 2 goes with RoPE scaling yarn"),
                               (["--rope-scaling", "yarn", "--rope-scale", "2", "--yarn-beta-slow", "0"], "--yarn-beta-slow 0: a number above 0"),
                               (["--rope-scaling", "yarn", "--rope-scale", "2", "--yarn-beta-fast", "1", "--yarn-beta-slow", "2"], "must be more"),
                               (["--rope-base", "0"], "--rope-base 0: a number above 1 is needed"),
                               (["--rope-base", "1"], "--rope-base 1: a number above 1 is needed")):  # fmt: skip
            for verb in (["run", self.model, "a", "--raw"], ["perplexity", self.model, "--file", self.text], ["serve", "--port", "0"]):
                self.fail_with(2, words.replace("+", r"\+"), *verb, *options)
        self.fail_with(1, "at most 1073741824", "run", self.model, "a", "--rope-scaling", "yarn", "--rope-scale", "1e8")
        self.fail_with(2, "unknown option --rope-scale", "tokenize", self.model, "a", "--rope-scale", "4")


if __name__ == "__main__":
    support.main()
