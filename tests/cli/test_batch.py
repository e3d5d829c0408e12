"""`mlxr batch`: many requests from a file, results that survive whatever ends the program."""
import json
import os
import random
import re
import signal
import subprocess
import time

import support


class Batch(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.add_model("llama")
        self.input, self.output = os.path.join(self.home, "in.jsonl"), os.path.join(self.home, "out.jsonl")

    def write(self, *lines):
        with open(self.input, "w", encoding="utf-8") as file:
            for line in lines:
                file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")

    def read(self):
        with open(self.output, "rb") as file:
            data = file.read()
        self.assertTrue(data == b"" or data.endswith(b"\n"))
        return [json.loads(line) for line in data.splitlines()]

    def batch(self, *options, code=0):
        """Runs it with -o and --json; returns the summary."""
        result = self.run_mlxr("batch", self.model, self.input, "-o", self.output, "--json", *options)
        self.assertEqual(result.code, code, result)
        return result.json

    def results(self, *options, code=0):
        """The results by id."""
        self.batch(*options, code=code)
        found = {line.get("id"): line for line in self.read()}
        self.assertEqual(len(found), len(self.read()))
        return found

    def alone(self, *arguments):
        return self.succeed("run", "--json", self.model, *arguments).json


class Results(Batch):
    def test_they_are_those_of_a_run_bit_for_bit(self):
        """Whatever runs beside them, however the lanes are filled, with and without drafts."""
        random.seed(3)
        cases, lines = {}, []
        words = "the inn at the corner had a lamp in each window and a sign".split()
        for i in range(24):
            prompt = " ".join(random.choices(words, k=random.randint(1, 14)))
            line = {"id": f"r{i}", "prompt": prompt, "seed": i + 1, "max_tokens": random.randint(1, 40), "logprobs": 2,
                    "temperature": random.choice([0, 0.7, 1.5]), "top_k": random.choice([0, 5, 40])}
            options = ["--seed", str(i + 1), "-n", str(line["max_tokens"]), "--logprobs", "2",
                       "--temp", str(line["temperature"]), "--top-k", str(line["top_k"])]
            if i % 3 == 0:
                line["raw"] = True
                options.append("--raw")
            if i % 4 == 1:
                line.update(repeat_penalty=1.3, min_p=0.1, stop=["e"])
                options += ["--repeat-penalty", "1.3", "--min-p", "0.1", "--stop", "e"]
            cases[line["id"]] = self.alone(prompt, *options)
            lines.append(line)
        self.write(*lines)
        for options in ([], ["--parallel", "3"], ["--draft", "ngram"], ["--batch-invariant", "--kv-bytes", "1M"]):
            if os.path.exists(self.output):
                os.remove(self.output)
            found = self.results(*options)
            self.assertEqual(set(found), set(cases))
            for name, case in cases.items():
                choice, usage = found[name]["choices"][0], found[name]["usage"]
                self.assertEqual(choice["text"], case["text"], (name, options))
                self.assertEqual(choice["logprobs"], case["logprobs"], (name, options))
                self.assertEqual(choice["finish_reason"], case["finish_reason"])
                self.assertEqual((usage["prompt_tokens"], usage["completion_tokens"]), (case["n_prompt"], case["n_generated"]))

    def test_drafts_are_told_in_the_summary(self):
        lines = [{"id": i, "prompt": "the " * (i + 1), "max_tokens": 40, "temperature": 0, "logit_bias": {"104": 1000}}
                 for i in range(5)]
        self.write(*lines)
        summary = self.batch("--draft", "ngram", "--parallel", "2")
        draft = summary["draft"]
        self.assertEqual(draft["by"], "ngram")
        self.assertGreater(draft["accepted"], 0)
        self.assertEqual(sum(p["accepted"] for p in draft["positions"]), draft["accepted"])
        self.assertLess(draft["steps"], summary["completion_tokens"])
        self.assertGreater(draft["row_cost"], 0)
        result = self.run_mlxr("batch", self.model, self.input, "--draft", "ngram", "-v")
        self.assertRegex(result.err, r"drafts by ngram: \d+ of \d+ tokens accepted")
        self.assertNotIn("draft", self.batch())

    def test_choices_are_seeded_one_by_one(self):
        self.write({"id": 7, "prompt": "the", "n": 3, "seed": 11, "max_tokens": 20, "temperature": 1.2})
        texts = [c["text"] for c in self.results()[7]["choices"]]
        self.assertEqual(texts, [self.alone("the", "--seed", str(11 + i), "-n", "20", "--temp", "1.2")["text"] for i in range(3)])

    def test_messages_and_prompts_take_the_template(self):
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "the "},
                    {"type": "text", "text": "inn"}]}]
        self.write({"id": "m", "messages": messages}, {"id": "p", "prompt": "the inn"},
                   {"id": "q", "messages": messages[1:]})
        found = self.results("--temp", "0", "-n", "12", "--system", "be brief")
        expected = self.alone("the inn", "--temp", "0", "-n", "12", "--system", "be brief")
        for name in "mpq":
            self.assertEqual(found[name]["choices"][0]["text"], expected["text"])
            self.assertEqual(found[name]["usage"]["prompt_tokens"], expected["n_prompt"])

    def test_a_line_may_bring_its_own_schema_or_grammar(self):
        schema = {"type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"], "additionalProperties": False}
        everyone = os.path.join(self.home, "g.gbnf")
        with open(everyone, "w", encoding="utf-8") as file:
            file.write('root ::= "yes" | "no"')
        self.write({"id": "s", "prompt": "x", "schema": schema, "max_tokens": 60}, {"id": "d", "prompt": "x"},
                   {"id": "g", "prompt": "x", "grammar": 'root ::= [0-9]{4}'},
                   {"id": "bad", "prompt": "x", "grammar": 'root ::= "a"\n  x ::= nil'})
        found = self.results("--grammar", everyone, "--seed", "2", code=1)
        self.assertIn(json.loads(found["s"]["choices"][0]["text"])["n"], (1, 2, 3))
        self.assertRegex(found["g"]["choices"][0]["text"], r"\A[0-9]{4}\Z")
        self.assertIn(found["d"]["choices"][0]["text"], ("yes", "no"))
        self.assertEqual(found["bad"]["error"]["code"], "bad-request")
        self.assertIn("line 2, column 9", found["bad"]["error"]["message"])

    def test_prompts_that_begin_alike_are_told_as_cached(self):
        self.write(*({"id": i, "prompt": "the inn at the corner had a lamp in each window " * 3 + str(i), "max_tokens": 2}
                     for i in range(6)))
        summary = self.batch("--parallel", "1")
        self.assertEqual(summary["prompt_tokens"], sum(r["usage"]["prompt_tokens"] for r in self.read()))
        self.assertEqual(summary["cached_tokens"], sum(r["usage"]["cached_tokens"] for r in self.read()))
        self.assertGreaterEqual(summary["cached_tokens"], 5 * 64)


class OpenAI(Batch):
    def line(self, name, url="/v1/chat/completions", **body):
        return {"custom_id": name, "method": "POST", "url": url, "body": body}

    def test_lines_of_openai_batch_files_give_theirs(self):
        user = [{"role": "user", "content": "the inn"}]
        self.write(self.line("a", model="llama", messages=user, max_tokens=9, temperature=0, logprobs=True, top_logprobs=2),
                   self.line("b", model="gpt-x", messages=user, max_completion_tokens=5, seed=3, n=2, stream=False, user="me"),
                   self.line("c", "/v1/completions", prompt="the inn", max_tokens=6, temperature=0),
                   self.line("d", messages=user, max_tokens=60, response_format={"type": "json_schema", "json_schema": {
                       "name": "x", "schema": {"type": "object", "properties": {"a": {"type": "boolean"}},
                                               "required": ["a"], "additionalProperties": False}}}),
                   self.line("e", "/v1/embeddings", input="x"), self.line("f", messages=user, tools=[]),
                   {"custom_id": "g", "url": "/v1/chat/completions"}, dict(self.line("h", messages=user), method="GET"))
        self.batch(code=1)
        found = {line["custom_id"]: line for line in self.read()}
        body = found["a"]["response"]["body"]
        expected = self.alone("the inn", "--temp", "0", "-n", "9", "--logprobs", "2")
        self.assertEqual(body["choices"][0]["message"], {"role": "assistant", "content": expected["text"]})
        self.assertEqual(body["usage"]["completion_tokens"], expected["n_generated"])
        self.assertEqual(body["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual([t["logprob"] for t in body["choices"][0]["logprobs"]["content"]],
                         [t["logprob"] for t in expected["logprobs"]])
        self.assertEqual(len(body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]), 2)
        self.assertEqual((body["object"], body["model"]), ("chat.completion", "llama"))
        self.assertNotIn("warnings", found["a"])
        self.assertIn("gpt-x", found["b"]["warnings"][0])
        self.assertEqual([c["index"] for c in found["b"]["response"]["body"]["choices"]], [0, 1])
        text = found["c"]["response"]["body"]["choices"][0]["text"]
        self.assertEqual(text, self.alone("the inn", "--temp", "0", "-n", "6", "--raw")["text"])
        self.assertIn("a", json.loads(found["d"]["response"]["body"]["choices"][0]["message"]["content"]))
        for name, word in (("e", "/v1/embeddings"), ("f", '"tools"'), ("g", "body"), ("h", "only POST")):
            self.assertEqual(found[name]["response"]["status_code"], 400)
            self.assertIn(word, found[name]["response"]["body"]["error"]["message"])
        self.assertEqual(found["f"]["response"]["body"]["error"]["param"], "tools")
        self.assertEqual(self.batch()["skipped"], 8)


class Errors(Batch):
    def test_a_bad_line_is_its_own_error_and_no_one_elses(self):
        bad = [('{"id": 1, "prompt": "x", "temperatur": 1}', r'line 1: unknown field "temperatur"; did you mean "temperature"'),
               ('{"id": 2, "prompt": "x", "frobnicate": 1}', 'line 2: unknown field "frobnicate"'),
               ('{"id": 3, "prompt": "x", "temperature": "hot"}', "temperature must be a number"),
               ('{"id": 4}', "either"), ('{"id": 5, "prompt": "x", "messages": []}', "not both"),
               ('{"id": 6, "prompt": ""}', "empty"), ('{"id": 7, "messages": []}', "list"),
               ('{"id": 8, "messages": [{"content": "x"}]}', "message 1 has no role"),
               ('{"id": 9, "prompt": "x", "n": 0}', "n must be a whole number above 0"),
               ('{"id": 10, "prompt": "x", "max_tokens": 1.5}', "max_tokens"),
               ('{"id": 11, "prompt": "x", "stop": [""]}', "stop"),
               ('{"id": 12, "prompt": "x", "logit_bias": {"a": 1}}', "logit_bias"),
               ('{"id": 13, "prompt": "x", "schema": {}, "grammar": "root ::= [a]"}', "already"),
               ('{"id": 14, "prompt": "x", "priority": 101}', "priority 101"),
               ('{"id": 15, "prompt": "x", "n": 1000}', "at most 32 sequences"),
               ('{"id": 16, "prompt": "' + "x y " * 200 + '"}', "too-long.*context"),
               ('{"id": 17, "prompt": "x", "top_p": 5}', "it must be from"),
               ('{"id": 18, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "image_url"),
               ('{"id": 19, "prompt": "x", "top_logprobs": 3}', "needs logprobs"),
               ('{"id": 20, "messages": [{"role": "user", "content": "x"}], "raw": true}', "raw is for a prompt"),
               ('{"id": 21, "prompt": "x", "schema": {"not": {}}}', "keyword 'not'"),
               ('{"id": 22, "prompt": 4}', "must be a text"), ('{"id": 23, "prompt": "a\\u0000b"}', "u0000"),
               ('{"id": 24, "prompt": "x", "stream": true}', "stream must be false"),
               ('{"id": 25, "prompt": "x", "seed": 1.5}', "seed")]
        self.write(*[line for line, _ in bad], {"id": "good", "prompt": "x", "max_tokens": 3})
        found = self.results(code=1)
        self.assertEqual(len(found["good"]["choices"]), 1)
        found[23] = found[None]  # an id cannot be read from what is no JSON
        for i, (_, says) in enumerate(bad):
            self.assertRegex(found[i + 1]["error"]["message"], says)
            self.assertEqual(found[i + 1]["mlxr"]["line"], i + 1)
        self.assertEqual(found[1]["error"]["field"], "temperatur")

    def test_what_is_no_json_is_told_by_its_line(self):
        self.write("", "nonsense", "[1]", '{"id": 1, "id": 2}', '{"prompt": "x", "max_tokens": 2}', '{"id": [1], "prompt": "x"}')
        summary = self.batch(code=1)
        self.assertEqual((summary["lines"], summary["done"], summary["failed"]), (5, 1, 4))
        found = {line["mlxr"]["line"]: line for line in self.read()}
        self.assertEqual(sorted(found), [2, 3, 4, 5, 6])
        for line in (2, 3, 4, 6):
            self.assertIsNone(found[line]["id"])
            self.assertTrue(found[line]["error"]["message"].startswith(f"line {line}: "))
        self.assertEqual(self.batch()["skipped"], 5)

    def test_errors_can_be_tried_again(self):
        self.write({"id": "a", "prompt": "x", "max_tokens": 2}, {"id": "b", "prompt": "x", "n": 9, "max_tokens": 2})
        self.assertIn("at most 4", self.results("--parallel", "4", code=1)["b"]["error"]["message"])
        summary = self.batch("--parallel", "16", "--retry-errors")
        self.assertEqual((summary["done"], summary["skipped"], summary["failed"]), (1, 1, 0))
        found = {line["id"]: line for line in self.read()}
        self.assertEqual(len(found["b"]["choices"]), 9)
        self.assertEqual(len(self.read()), 2)
        self.assertEqual(os.listdir(self.home).count("out.jsonl"), 1)
        self.assertFalse([name for name in os.listdir(self.home) if name.endswith(".tmp")])

    def test_the_type_of_the_kv_cache_counts_as_the_model_has_it(self):
        self.write({"prompt": "x", "max_tokens": 2})

        def goes_on(begun, *then):
            self.batch(*begun)
            before = [self.batch(*options, code=code)["skipped"] for options, code in then]
            os.remove(self.output)
            return before

        f16, i16, bf16, auto = (["--kv-type", name] for name in ("f16", "i16", "bf16", "auto"))
        self.assertEqual(goes_on([], (auto, 0), (f16, 0), (bf16, 1)), [1, 1, 0])
        self.assertEqual(goes_on(f16, ([], 0), (auto, 0), (bf16, 1)), [1, 1, 0])
        self.model = self.add_words_model()
        self.assertEqual(goes_on([], (auto, 0), (i16, 0), (f16, 1)), [1, 1, 0])
        self.assertEqual(goes_on(f16, (f16, 0), ([], 1), (auto, 1)), [1, 0, 0])

    def test_usage(self):
        self.write({"prompt": "x"})
        self.fail_with(2, "results need a file", "batch", self.model, self.input, "--json")
        self.fail_with(2, "--retry-errors needs", "batch", self.model, self.input, "--retry-errors")
        self.fail_with(1, "/nowhere: No such file", "batch", self.model, "/nowhere")
        self.fail_with(1, "directory", "batch", self.model, self.home)
        self.fail_with(2, "the file the requests come from", "batch", self.model, self.input, "-o", self.input)
        grammar = os.path.join(self.home, "grammar")
        with open(grammar, "w", encoding="utf-8") as file:
            file.write('root ::= "a"')  # without an end of line it looks like a result that was never finished
        for taken in (grammar, os.path.join(self.models, self.model + ".gguf")):
            self.fail_with(2, "this is what is read", "batch", self.model, self.input, "--grammar", grammar, "-o", taken)
        with open(grammar, encoding="utf-8") as file:
            self.assertEqual(file.read(), 'root ::= "a"')
        self.fail_with(1, r"\Amlxr: no model 'nope'[^\n]*\n\Z", "batch", self.model, self.input, "--draft", "nope", "-o",
                       os.path.join(self.home, "never"))  # fmt: skip
        self.assertFalse(os.path.exists(os.path.join(self.home, "never")))
        self.fail_with(2, "named twice", "batch", self.model, self.input, "-m", "x")
        self.fail_with(2, "nothing to generate", "batch", self.model, self.input, "-n", "0")
        self.fail_with(1, "regular file", "batch", self.model, self.input, "-o", "/dev/null")
        self.assertEqual(len(self.succeed("batch", self.input, "-n", "1").text.splitlines()), 1)  # the only model there is
        self.add_model("qwen2")
        self.fail_with(2, "which model.*has 2", "batch", self.input)
        self.succeed("batch", self.input, "-n", "1", "--model", "qwen2")

    def test_a_full_disk_keeps_whole_lines(self):
        self.write({"id": 1, "prompt": "x", "max_tokens": 2})
        with open("/dev/full", "wb") as full:
            done = subprocess.run([support.MLXR, "batch", self.model, self.input], stdout=full, stderr=subprocess.PIPE,
                                  env=self.environment(), timeout=support.TIMEOUT)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left", done.stderr)

    def test_standard_files_that_are_closed_get_no_other_files_bytes(self):
        """Whatever is opened first would have their numbers."""
        self.write({"id": 1, "prompt": "x", "max_tokens": 2})
        for closed in (">&-", "2>&-", "<&-", ">&- 2>&-", ">&- 2>&- <&-"):
            done = subprocess.run(f"exec {support.MLXR} batch {self.model} {self.input} -o {self.output} --json -v {closed}", shell=True,
                                  capture_output=True, env=self.environment(), timeout=support.TIMEOUT)  # fmt: skip
            self.assertEqual(done.returncode, 1 if closed.startswith(">") else 0, done)
            self.assertEqual([line["id"] for line in self.read()], [1])
            os.unlink(self.output)


class Resume(Batch):
    def setUp(self):
        super().setUp()
        self.lines = [{"id": i, "prompt": f"the inn {i}", "seed": i + 1, "max_tokens": 30} for i in range(40)]
        self.write(*self.lines)

    def start(self, *options, **more):
        return subprocess.Popen([support.MLXR, "batch", self.model, self.input, "-o", self.output, "--parallel", "2", "--threads",
                                 "1", *options], stderr=subprocess.PIPE, env=self.environment(), **more)

    def wait_for(self, process, n):
        """Until n results are there."""
        end = time.monotonic() + support.TIMEOUT
        while process.poll() is None and time.monotonic() < end:
            if os.path.exists(self.output):
                with open(self.output, "rb") as file:
                    if file.read().count(b"\n") >= n:
                        return
            time.sleep(0.002)

    def whole(self, *options):
        """What an undisturbed run gives."""
        path = os.path.join(self.home, "whole.jsonl")
        self.succeed("batch", self.model, self.input, "-o", path, *options)
        with open(path, encoding="utf-8") as file:
            return {line["id"]: line["choices"] for line in map(json.loads, file)}

    def test_killed_at_any_time_it_goes_on(self):
        """SIGKILL again and again; each run takes up what is left, and in the end nothing is missing, double or different."""
        slow = ["--backend", "cpu-scalar"]
        expected = self.whole(*slow)
        n_killed = 0
        for round_number in range(10):
            before = len(self.read()) if os.path.exists(self.output) else 0
            process = self.start(*slow)
            self.wait_for(process, before + 1 + round_number % 3)
            process.kill()
            n_killed += process.wait() == -signal.SIGKILL
            process.stderr.close()
            with open(self.output, "rb") as file:
                data = file.read()
            ids = [json.loads(line)["id"] for line in data.split(b"\n")[:-1]]  # whole lines are results, each once
            self.assertEqual(len(ids), len(set(ids)))
            self.assertGreaterEqual(len(ids), before)
        self.assertGreater(n_killed, 3)
        summary = self.batch(*slow)
        self.assertEqual(summary["done"] + summary["skipped"], 40)
        self.assertEqual({line["id"]: line["choices"] for line in self.read()}, expected)
        self.assertEqual(len(self.read()), 40)

    def test_ctrl_c_and_sigterm_end_it_cleanly(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            before = len(self.read()) if os.path.exists(self.output) else 0
            process = self.start()
            self.wait_for(process, before + 2)
            process.send_signal(number)
            err = process.communicate(timeout=support.TIMEOUT)[1].decode()
            self.assertEqual(process.returncode, 128 + number, err)
            self.assertIn("the same command goes on from here", err)
            self.assertGreater(len(self.read()), before)
        self.batch()
        self.assertEqual({line["id"]: line["choices"] for line in self.read()}, self.whole())

    def test_every_torn_end_is_cut_off(self):
        self.write(*self.lines[:3])
        self.batch()
        with open(self.output, "rb") as file:
            data = file.read()
        second = data.index(b"\n") + 1
        for n in list(range(second + 1, len(data), 37)) + [len(data) - 1]:
            with open(self.output, "wb") as file:
                file.write(data[:n])
            summary = self.batch()
            n_whole = data[:n].count(b"\n")
            self.assertEqual((summary["done"], summary["skipped"]), (3 - n_whole, n_whole))
            self.assertEqual(sorted(line["id"] for line in self.read()), [0, 1, 2])
        with open(self.output, "wb") as file:
            file.write(data + b"\0" * 5000)  # what a file system may leave after a loss of power
        self.assertEqual(self.batch()["skipped"], 3)
        self.assertEqual(len(self.read()), 3)

    def test_files_of_others_are_left_as_they_are(self):
        for text in (b"my notes", b"my notes\n", b'{"id": 1}\n', b"\n", b"{", b'{"mlxr', b"\0" * 5000,
                     b"\0" * 4096 + b"an image\nof a disk"):  # fmt: skip
            with open(self.output, "wb") as file:
                file.write(text)
            self.fail_with(1, "no result of mlxr batch", "batch", self.model, self.input, "-o", self.output)
            with open(self.output, "rb") as file:
                self.assertEqual(file.read(), text)
        os.remove(self.output)
        self.write(*self.lines[:3])
        self.batch()
        with open(self.output, "rb") as file:
            lines = file.read().splitlines(True)
        damaged = lines[0] + lines[1][:-20] + b"\n" + lines[2]
        with open(self.output, "wb") as file:
            file.write(damaged)
        self.fail_with(1, "line 2 is no result", "batch", self.model, self.input, "-o", self.output)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), damaged)
        behind_a_torn_line = lines[0] + lines[1][:40] + b"a note\nand another\n"
        with open(self.output, "wb") as file:
            file.write(behind_a_torn_line)
        self.fail_with(1, "is no result of mlxr batch", "batch", self.model, self.input, "-o", self.output)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), behind_a_torn_line)
        with open(self.output, "wb") as file:
            file.write(lines[0][:40])  # the first result of all, which was never finished
        self.assertEqual(self.batch()["done"], 3)
        self.assertEqual(len(self.read()), 3)

    def test_a_result_of_another_request_is_not_taken_for_this_one(self):
        self.write(*self.lines[:4])
        self.batch()
        changed = [dict(self.lines[0], prompt="something else"), self.lines[1], self.lines[2], dict(self.lines[3])]
        self.write(*changed)
        result = self.run_mlxr("batch", self.model, self.input, "-o", self.output, "--json")
        self.assertEqual((result.code, result.json["conflicts"], result.json["skipped"]), (1, 1, 3))
        self.assertIn("line 1: 0 has a result already, of another request", result.err)
        self.assertEqual(self.batch("--temp", "1.3", code=1)["conflicts"], 4)
        self.assertEqual(len(self.read()), 4)

    def test_an_id_given_twice_is_answered_once(self):
        self.write(self.lines[0], self.lines[0], dict(self.lines[0], seed=99))
        summary = self.batch(code=1)
        self.assertEqual((summary["done"], summary["skipped"], summary["conflicts"]), (1, 1, 1))

    def test_two_at_once_are_refused(self):
        process = self.start()
        self.wait_for(process, 1)
        self.fail_with(1, "another mlxr batch", "batch", self.model, self.input, "-o", self.output)
        process.kill()
        process.communicate()

    def test_the_input_may_be_a_pipe(self):
        with open(self.input, "rb") as file:
            data = b"\xef\xbb\xbf" + file.read()
        self.succeed("batch", self.model, "-", "-o", self.output, stdin=data)
        self.assertEqual(len(self.read()), 40)
        plain = self.succeed("batch", self.model, "-", stdin=data)
        self.assertEqual(len(plain.text.splitlines()), 40)
        self.assertRegex(plain.err, r"40 done, 0 failed, 0 done before, 0 left out; \d+ prompt tokens")

    def test_results_do_not_wait_for_the_next_request_of_a_pipe(self):
        lines = [json.dumps({"id": i, "prompt": "the inn", "max_tokens": 4}).encode() + b"\n" for i in range(4)]
        arguments = [support.MLXR, "batch", self.model, "-", "-o", self.output]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment())
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        for n, data in ((2, lines[0] + lines[1] + lines[2][:9]), (3, lines[2][9:]), (4, lines[3])):
            process.stdin.write(data)
            process.stdin.flush()
            self.wait_for(process, n)  # with the pipe open
        self.assertEqual(sorted(line["id"] for line in self.read()), [0, 1, 2, 3])
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(support.TIMEOUT), 128 + signal.SIGINT)
        err = process.stderr.read().decode()
        self.assertIn("4 done, 0 failed", err)
        self.assertNotIn("mlxr: ", err)  # that it was interrupted is no error of the pipe

    def test_a_terminal_shows_a_bar(self):
        many = self.input + ".many"  # a bar comes after a second: enough that no machine is done by then
        with open(self.input, encoding="utf-8") as file, open(many, "w", encoding="utf-8") as out:
            requests = [json.loads(line) for line in file if line.strip()]
            for i in range(2000):
                out.write(json.dumps({**requests[i % len(requests)], "id": f"r{i}"}) + "\n")
        t = support.Terminal([support.MLXR, "batch", self.model, many, "-o", self.output, "--parallel", "1", "--threads",
                              "1", "--backend", "cpu-scalar", "-v"], self.environment(NO_COLOR="1"))
        self.addCleanup(t.close)
        t.expect(" of 2000, 0 failed, ")
        self.assertIn("batch [", t.screen)
        t.type("\x03")
        t.expect("the same command goes on")
        self.assertEqual(t.wait(), 128 + signal.SIGINT)


if __name__ == "__main__":
    support.main()
