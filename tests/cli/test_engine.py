"""Grammars, schemas, drafts, the KV directory and batch invariance, as options of a run and of a chat."""
import json
import os
import re
import subprocess
import sys

import support

SCHEMA = {"type": "object", "properties": {"name": {"enum": ["inn", "lamp"]}, "n": {"type": "integer", "maximum": 99,
          "minimum": 10}}, "required": ["name", "n"], "additionalProperties": False}
REPEATS = ["--temp", "0", "--logit-bias", "104=1000"]  # h h h …


class Options(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.add_model("llama")

    def write(self, name, text):
        path = os.path.join(self.home, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def answer(self, *arguments):
        return self.succeed("run", "--json", self.model, *arguments).json


class Grammar(Options):
    def test_answers_are_sentences_of_the_grammar(self):
        path = self.write("g.gbnf", 'root ::= ("ab" | "ba") [0-9]{3} "."\n')
        for seed in range(1, 6):
            found = self.answer("the", "--grammar", path, "--seed", str(seed), "--temp", "1.5")
            self.assertRegex(found["text"], r"\A(ab|ba)[0-9]{3}\.\Z")
            self.assertEqual(found["finish_reason"], "stop")

    def test_answers_are_instances_of_the_schema(self):
        path = self.write("s.json", json.dumps(SCHEMA))
        for seed in range(1, 6):
            text = self.answer("the", "--schema", path, "--seed", str(seed), "--temp", "1.5")["text"]
            value = json.loads(text)
            self.assertEqual(set(value), {"name", "n"})
            self.assertIn(value["name"], ["inn", "lamp"])
            self.assertIn(value["n"], range(10, 100))

    def test_errors_tell_file_line_and_column(self):
        for option, text, says in (
                ("--grammar", 'root ::= "a"\nb ::= [x\n', "line 2, column"),
                ("--grammar", 'root ::= "a"\n  b ::= c\n', "line 2, column 9: rule 'c' is used but not defined"),
                ("--grammar", "", "no rule named 'root'"),
                ("--schema", '{\n "type": }', "line 2, column"),
                ("--schema", '{"properties": {\n  "a": {"not": 1}}}', r"line 2, column 16, at #/properties/a/not: .*'not'"),
                ("--schema", '{"type": "strin"}', "line 1, column 1, at #: .*strin")):
            path = self.write("bad", text)
            self.fail_with(1, re.escape(path) + ": .*" + says, "run", self.model, "x", option, path)
        self.fail_with(1, "/nowhere: No such file", "run", self.model, "x", "--grammar", "/nowhere")
        self.fail_with(2, "not both", "run", self.model, "x", "--grammar", path, "--schema", path)


class Draft(Options):
    def test_drafts_change_nothing_but_the_steps(self):
        for options in (REPEATS + ["-n", "40"], ["--seed", "5", "--temp", "1", "-n", "60"],
                        REPEATS + ["-n", "60", "--stop", "hhhhhhhhhhhhhhhhhhhhhhh"],
                        REPEATS + ["--ctx", "64", "--raw", "-n", "200"]):
            plain = self.answer("the the the", "--logprobs", "2", *options)
            for draft in ("ngram", self.model):
                found = self.answer("the the the", "--logprobs", "2", "--draft", draft, "--draft-max", "6", *options)
                for key in ("ids", "text", "finish_reason", "logprobs", "n_generated"):
                    self.assertEqual(found[key], plain[key], (key, draft, options))
                self.assertNotIn("draft", plain)
                self.assertEqual(found["draft"]["by"], draft)

    def test_acceptance_and_its_cost_are_told(self):
        result = self.succeed("run", self.model, "the", "--json", "-v", "--draft", "ngram", "-n", "60", *REPEATS)
        draft = result.json["draft"]
        self.assertGreater(draft["accepted"], 0)
        self.assertLessEqual(draft["accepted"], draft["drafted"])
        self.assertEqual(sum(p["drafted"] for p in draft["positions"]), draft["drafted"])
        self.assertEqual(sum(p["accepted"] for p in draft["positions"]), draft["accepted"])
        self.assertLess(draft["steps"], result.json["n_generated"])
        for key in ("acceptance", "accepted_share", "row_cost", "drafting_steps"):
            self.assertGreater(draft[key], 0)
        self.assertRegex(result.err, r"drafts by ngram: \d+ of \d+ tokens accepted, by position [\d ]+%; \d+ of \d+ steps "
                                     r"drafted; a drafted row costs \d")

    def test_drafts_obey_a_schema(self):
        path = self.write("s.json", json.dumps(SCHEMA))
        options = ["--schema", path, "--seed", "3", "--temp", "1.2"]
        self.assertEqual(self.answer("x", *options, "--draft", "ngram")["text"], self.answer("x", *options)["text"])

    def test_a_models_own_head_changes_nothing_but_the_steps(self):
        model = support.write_family("qwen3next-mtp", self.home)
        for options in (["--temp", "0"], ["--seed", "5", "--temp", "1"]):
            answers = [self.succeed("run", model, "the the", "--raw", "--logprobs", "2", "-n", "60", "--json", *options, *more).json
                       for more in ([], ["--draft", "mtp"], ["--draft", "mtp", "--draft-max", "3"])]
            for found in answers[1:]:
                self.assertEqual((found["ids"], found["logprobs"]), (answers[0]["ids"], answers[0]["logprobs"]))
                self.assertEqual(found["draft"]["by"], "mtp")
                self.assertGreater(found["draft"]["drafted"], 0)
        self.assertRegex(self.succeed("show", model).text, r"mtp head +1 layer, .*; --draft mtp reads .* a drafted token")
        head = self.succeed("show", model, "--json").json["mtp"]
        self.assertEqual((head["layers"], head["usable"]), (1, True))

    def test_a_model_without_a_head_says_so(self):
        model = support.write_family("qwen3next", self.home)
        for verb in (["run", model, "x", "--raw"], ["bench", model]):
            self.fail_with(1, "this qwen3next model has no multi-token-prediction head", *verb, "--draft", "mtp")
        self.fail_with(2, "--draft ahead: there are ngram, mtp and none", "serve", "--draft", "ahead")

    def test_what_cannot_draft_is_refused(self):
        other = self.add_model("gemma3")
        self.fail_with(2, "draft model: token \\d+ is|vocabulary", "run", self.model, "x", "--draft", other)
        self.fail_with(1, "nowhere", "run", self.model, "x", "--draft", "/nowhere.gguf")
        self.fail_with(2, "0 to 15", "run", self.model, "x", "--draft", "ngram", "--draft-max", "16")
        self.fail_with(2, "--draft-max needs --draft", "run", self.model, "x", "--draft-max", "4")


class Cache(Options):
    def test_a_kv_directory_survives_the_program(self):
        folder = os.path.join(self.home, "kv")
        prompt = "the inn at the corner had a lamp in each window, and so on " * 3
        options = [prompt, "--raw", "--temp", "0", "-n", "8", "--kv-dir", folder, "--kv-disk-bytes", "64M", "--kv-bytes", "16M"]
        os.mkdir(folder)
        first, second = self.answer(*options), self.answer(*options)
        self.assertEqual(first["n_cached"], 0)
        self.assertGreater(second["n_cached"], 64)
        self.assertEqual(second["ids"], first["ids"])
        other = self.answer(*options, "--kv-type", "f32")
        self.assertEqual(other["n_cached"], 0)

    def test_its_options_are_checked(self):
        self.fail_with(2, "--kv-disk-bytes needs --kv-dir", "run", self.model, "x", "--kv-disk-bytes", "1G")
        self.fail_with(1, "not-there", "run", self.model, "x", "--kv-dir", "/not-there/at/all")
        self.fail_with(2, "unknown option --kv-dir", "bench", self.model, "--kv-dir", "x")


class BatchInvariant(Options):
    def test_it_is_reported_where_it_was_asked_for(self):
        options = ["the", "--seed", "3", "-n", "20"]
        plain, asked = self.answer(*options), self.answer(*options, "--batch-invariant")
        self.assertIs(plain["batch_invariant"], True)  # the CPU keeps it unasked
        self.assertIs(asked["batch_invariant"], True)
        self.assertEqual(asked["ids"], plain["ids"])
        self.fail_with(2, "takes no value", "run", self.model, "x", "--batch-invariant=yes")
        self.fail_with(2, "unknown option", "tokenize", self.model, "x", "--batch-invariant")

    def test_activations_of_8_bits_are_an_option_and_told(self):
        plain, same, less = (self.answer("the", "--temp", "0", "-n", "8", *o) for o in ([], ["--activations", "16"], ["--activations=8"]))
        self.assertEqual([told["activations"] for told in (plain, same, less)], [16, 16, 8])
        self.assertEqual(same["ids"], plain["ids"])
        self.assertEqual(len(less["ids"]), len(plain["ids"]))
        self.fail_with(2, "'4' bits.*16 or 8", "run", self.model, "x", "--activations", "4")
        backends = {b["name"]: b for b in self.succeed("doctor", "--json").json["backends"]}
        self.assertEqual(backends["cpu"]["activations"], [16, 8])
        self.assertIn("activations of 16 or 8 bits", self.succeed("doctor").text)

    def test_activations_of_8_bits_change_numbers_where_weights_are_quantised(self):
        """Behind the first layers, which keep 16."""
        self.model = os.path.join(self.home, "quantised.gguf")
        synth = os.path.join(support.ROOT, "bench", "synth")
        shape = "layers=4,width=256,ffn=512,heads=8,kv_heads=2,vocab=512,ctx=512"
        subprocess.run([sys.executable, synth, shape, "Q8_0", self.model], check=True, stdout=subprocess.DEVNULL, timeout=support.TIMEOUT)
        options = ["the inn at the corner had a lamp", "--raw", "--temp", "0", "-n", "1", "--logprobs", "20"]
        top = lambda *more: {t["id"]: t["logprob"] for t in self.answer(*options, *more)["logprobs"][0]["top"]}  # noqa: E731
        plain, same, less = top(), top("--activations", "16"), top("--activations", "8")
        self.assertEqual(same, plain)
        both = plain.keys() & less.keys()
        self.assertTrue(any(less[i] != plain[i] for i in both), less)
        self.assertLess(max(abs(less[i] - plain[i]) for i in both), 1)  # less exact, no other model

    def test_more_threads_than_cores_are_told(self):
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        told = self.succeed("run", self.model, "the", "-n", "1", "--threads", str(n_cores + 1)).err
        self.assertRegex(told, rf"warning: {n_cores + 1} threads, and this process may use \d+ cores?: ")
        self.assertNotIn("threads", self.succeed("run", self.model, "the", "-n", "1", "--threads", "1").err)

    def test_doctor_tells_which_backends_keep_it(self):
        self.assertIn("results never depend on the batch", self.succeed("doctor").text)
        backends = {b["name"]: b for b in self.succeed("doctor", "--json").json["backends"]}
        self.assertIs(backends["cpu"]["batch_invariant"], True)
        self.assertNotIn("batch_invariant", backends["cuda"])


class Table(Options):
    def test_the_table_of_bench_fits_the_terminal(self):
        for columns, bytes_told in ((80, False), (140, True)):
            t = support.Terminal([support.MLXR, "bench", self.model, "-p", "8", "-n", "4"], self.environment(), columns)
            self.addCleanup(t.close)
            self.assertEqual(t.wait(), 0)
            lines = re.sub(r"[^\n]*\x1b\[K", "", t.screen).splitlines()
            table = lines[next(i for i, line in enumerate(lines) if line.startswith("test ")):]
            self.assertEqual("bytes/token" in table[0], bytes_told)
            self.assertIn("% of the limit", table[0])
            self.assertLessEqual(max(map(len, lines)), columns, t.screen)


class ChatSettings(Options):
    def start(self, *arguments):
        terminal = support.Terminal([support.MLXR, "run", self.model, *arguments], self.environment(NO_COLOR="1"))
        self.addCleanup(terminal.close)
        terminal.expect(">>> ")
        return terminal

    def say(self, terminal, text):
        terminal.type(text + "\n")
        return terminal.expect("\n>>> ").partition("\n")[2]

    def test_a_chat_takes_a_schema_and_gives_it_back(self):
        schema, grammar = self.write("s.json", json.dumps(SCHEMA)), self.write("g", 'root ::= "yes" | "no"')
        bad = self.write("bad", "root ::= x")
        t = self.start("-n", "150", "--seed", "1")
        self.assertNotIn("mlxr:", self.say(t, "/set schema " + schema))
        for _ in range(2):  # each answer is a sentence of its own
            self.assertEqual(set(json.loads(self.say(t, "hello"))), {"name", "n"})
        self.assertIn("line 1, column 10", self.say(t, "/set grammar " + bad))
        self.assertEqual(set(json.loads(self.say(t, "still a schema"))), {"name", "n"})
        self.assertNotIn("mlxr:", self.say(t, "/set grammar=" + grammar))
        self.assertIn(self.say(t, "hello").strip(), ("yes", "no"))
        self.assertIn(grammar, self.say(t, "/set"))
        self.say(t, "/set grammar none")
        self.say(t, "/set logit-bias 104=1000")
        self.assertIn("hhh", self.say(t, "hello"))

    def test_a_chat_turns_drafts_on_and_off(self):
        t = self.start("-n", "30", "-v", *REPEATS)
        self.assertNotIn("drafts by", self.say(t, "hello"))
        self.assertNotIn("mlxr:", self.say(t, "/set draft ngram"))
        self.assertIn("drafts by ngram", self.say(t, "hello"))
        self.assertIn("--draft-max 40: a whole number from 0 to 15", self.say(t, "/set draft-max 40"))
        self.assertNotIn("mlxr:", self.say(t, "/set draft-max usual"))
        self.assertNotIn("mlxr:", self.say(t, "/set draft-max 0"))
        self.assertNotIn("mlxr:", self.say(t, "/set draft-max 4"))
        self.assertIn("drafts by ngram", self.say(t, "hello"))
        self.assertIn("nowhere", self.say(t, "/set draft /nowhere"))
        self.assertNotIn("mlxr:", self.say(t, "/set draft none"))
        text = self.say(t, "hello")
        self.assertIn("hhh", text)
        self.assertNotIn("drafts by", text)


if __name__ == "__main__":
    support.main()
