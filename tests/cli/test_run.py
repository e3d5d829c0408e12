"""`mlxr run` without a terminal."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import support


class Run(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.add_model("llama")

    def answer(self, *arguments, **options):
        return self.succeed("run", "--json", self.model, *arguments, **options).json

    def test_raw_json_prints_exactly_one_object(self):
        found = self.answer("The inn", "--raw", "--temp", "0", "-n", "24")
        for key in ("text", "ids", "load_ms", "ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "finish_reason"):
            self.assertIn(key, found)
        self.assertEqual(len(found["ids"]), found["n_generated"])
        self.assertLessEqual(len(found["ids"]), 24)
        for key in ("load_ms", "ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s"):
            self.assertGreater(found[key], 0)
        tokens = self.succeed("tokenize", self.model, "The inn", "--json").json["n_tokens"]
        self.assertEqual(found["n_prompt"], tokens)

    def test_the_stream_is_the_text(self):
        found = self.answer("The inn", "--raw", "--temp", "0", "-n", "24")
        plain = self.succeed("run", self.model, "The inn", "--raw", "--temp", "0", "-n", "24")
        self.assertEqual(plain.text.rstrip("\n"), found["text"].rstrip("\n"))
        self.assertTrue(plain.out.endswith(b"\n"))
        self.assertEqual(plain.err, "")

    def test_the_chat_template_wraps_the_prompt(self):
        raw = self.answer("hi", "--raw", "-n", "1")["n_prompt"]
        chat = self.answer("hi", "-n", "1")["n_prompt"]
        system = self.answer("hi", "-n", "1", "--system", "be short")["n_prompt"]
        self.assertTrue(raw < chat < system)
        rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        ids = self.succeed("tokenize", self.model, rendered, "--parse-special", "--json").json["ids"]
        self.assertEqual(chat, len(ids))

    def test_a_model_without_a_template_goes_on_with_the_text_and_says_so(self):
        name = self.add_model("qwen3")  # has none
        result = self.succeed("run", name, "hi", "-n", "4", "--temp", "0", "--json")
        self.assertIn("no chat template", result.err)
        raw = self.succeed("run", name, "hi", "-n", "4", "--temp", "0", "--json", "--raw")
        self.assertEqual(raw.err, "")
        self.assertEqual(raw.json["ids"], result.json["ids"])

    def test_the_prompt_may_come_from_stdin(self):
        expected = self.answer("the inn", "--temp", "0", "-n", "8")["ids"]
        self.assertEqual(self.answer("-", "--temp", "0", "-n", "8", stdin=b"the inn\n")["ids"], expected)
        self.assertEqual(self.answer("--temp", "0", "-n", "8", stdin=b"the inn")["ids"], expected)
        self.assertEqual(self.answer("--temp", "0", "-n", "8", "--", "the inn")["ids"], expected)
        self.fail_with(2, "stdin is empty", "run", self.model, "-")
        self.fail_with(2, "stdin is empty", "run", self.model)
        self.fail_with(2, "NUL", "run", self.model, "-", stdin=b"a\0b")

    def test_chat_without_a_terminal_answers_once_and_exits_0(self):
        result = self.succeed("run", self.model, "--chat", "-n", "4", "--", "--not-an-option")
        self.assertTrue(result.out)

    def test_a_seed_gives_the_same_tokens_whatever_the_threads(self):
        first = self.answer("the", "--seed", "7", "-n", "40", "--temp", "1.5")["ids"]
        self.assertEqual(self.answer("the", "--seed", "7", "-n", "40", "--temp", "1.5", "--threads", "1")["ids"], first)
        self.assertEqual(self.answer("the", "--seed", "7", "-n", "40", "--temp", "1.5", "--threads", "3")["ids"], first)
        self.assertNotEqual(self.answer("the", "--seed", "8", "-n", "40", "--temp", "1.5")["ids"], first)

    def test_stop_strings_end_the_text_before_them(self):
        whole = self.answer("the", "--raw", "--temp", "0", "-n", "60")["text"]
        for begin in range(2, len(whole) - 6, 5):
            stop = whole[begin:begin + 4]
            if "\ufffd" in stop:
                continue
            found = self.answer("the", "--raw", "--temp", "0", "-n", "60", "--stop", "nowhere to be found", "--stop", stop)
            self.assertEqual(found["text"], whole[:whole.index(stop)])
            self.assertEqual(found["finish_reason"], "stop")
        self.fail_with(2, "empty", "run", self.model, "x", "--stop", "")

    def test_log_probabilities_are_told_for_each_token(self):
        found = self.answer("the", "--raw", "--temp", "0", "-n", "6", "--logprobs", "3")
        self.assertEqual([t["id"] for t in found["logprobs"]], found["ids"])
        for token in found["logprobs"]:
            self.assertEqual(len(token["top"]), 3)
            self.assertEqual(token["top"][0]["id"], token["id"])
            values = [t["logprob"] for t in token["top"]]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLessEqual(values[0], 0)
        alone = self.answer("the", "--raw", "--temp", "0", "-n", "2", "--logprobs", "0")["logprobs"]
        self.assertEqual([t["top"] for t in alone], [[], []])

    def test_logit_bias_forbids_and_forces(self):
        first = self.answer("the", "--raw", "--temp", "0", "-n", "1")["ids"][0]
        other = self.answer("the", "--raw", "--temp", "0", "-n", "1", "--logit-bias", f"{first}=-inf")["ids"][0]
        self.assertNotEqual(first, other)
        forced = self.answer("the", "--raw", "--temp", "0", "-n", "3", "--logit-bias", "104=1000")["ids"]
        self.assertEqual(forced, [104, 104, 104])
        self.fail_with(2, "vocabulary has 0 to 319", "run", self.model, "x", "--logit-bias", "320=1")

    def test_sampling_out_of_range_is_a_usage_error(self):
        for option, value, words in (("top-p", "2", "from 0 to 1"), ("temp", "-1", "of 0 or more"), ("min-p", "-0.1", "from 0 to 1"),
                                     ("mirostat", "3", "from 0 to 2"), ("typical", "5", "from 0 to 1"),
                                     ("repeat-penalty", "0", "above 0"), ("dry-base", "0.5", "of 1 or more"),
                                     ("xtc-probability", "7", "from 0 to 1"), ("top-k", "-1", "from 0 to 2147483647")):  # fmt: skip
            for given in (value, "abc"):
                self.fail_with(2, f"--{option} {given}: a (whole )?number {words} is needed", "run", self.model, "x", "--" + option, given)

    def test_every_sampler_makes_an_answer(self):
        for options in (["--top-k", "0", "--top-p", "0.5"], ["--typical", "0.3"], ["--mirostat", "1"], ["--mirostat", "2"],
                        ["--xtc-probability", "1", "--xtc-threshold", "0.01"], ["--dry-multiplier", "0.8"],
                        ["--repeat-penalty", "1.3", "--repeat-last-n", "-1"], ["--presence-penalty", "-0.5"],
                        ["--frequency-penalty", "0.5"], ["--min-p", "0.5"],
                        ["--dry-multiplier", "1", "--dry-sequence-breaker", "x", "--dry-penalty-last-n", "32"]):
            first = self.answer("the", "--seed", "3", "-n", "20", *options)["ids"]
            self.assertEqual(self.answer("the", "--seed", "3", "-n", "20", *options)["ids"], first)

    def test_a_prompt_longer_than_the_context_is_told_with_the_numbers(self):
        for n, room, more in (("4[0-9][0-9]", 256, ["--raw", "x y " * 100]),
                              ("[2-9][0-9]", 16, ["--ctx", "16", "a long prompt indeed, this one"])):
            told = f"input has {n} tokens, the context has room for {room}; shorten it or raise"
            self.fail_with(1, told, "run", self.model, *more)

    def test_a_full_context_ends_the_answer(self):
        result = self.succeed("run", self.model, "the", "--raw", "--ctx", "32", "-n", "100", "--temp", "1", "--seed", "5",
                              "--logit-bias", "315=-inf", "--json", "--logit-bias", "313=-inf", "--logit-bias", "314=-inf")
        found = result.json
        self.assertEqual(found["finish_reason"], "length")
        self.assertEqual(found["n_prompt"] + found["n_generated"], 33)  # the last one is told, but has no place

    def test_backends_and_kv_types_can_be_chosen(self):
        for options in (["--backend", "cpu-scalar"], ["--kv-type", "f32"], ["--cpu-features", "scalar"], ["--kv-bytes", "64M"]):
            self.assertEqual(len(self.answer("the", "--temp", "0", "-n", "3", *options)["ids"]), 3)
        self.fail_with(2, "warp", "run", self.model, "x", "--backend", "warp")

    def test_kv_types_are_those_the_help_lists(self):
        model = self.add_model("gemma3")
        listed = re.search(r"--kv-type TYPE +type of the KV cache: ([a-z0-9_, ]+) \[auto\]", self.succeed("help", "run").text)[1]
        self.fail_with(2, f"KV type 'q99' is unknown; use one of {listed}\n", "run", model, "x", "--kv-type", "q99")
        self.assertIn("q4_0", listed)
        for name in listed.split(", "):
            answer = ("run", model, "the inn", "--raw", "--temp", "0", "-n", "3", "--json", "--kv-type", name)
            self.assertEqual(len(self.succeed(*answer).json["ids"]), 3)

    def test_a_kv_type_that_does_not_fit_the_model_is_refused_with_the_numbers(self):
        model = self.add_model("llama")  # heads of 16
        for name in ("i16", "q8_0", "q4_0"):
            self.fail_with(1, f"llama.gguf: KV type {name} stores heads in blocks of 32 elements, but this model's heads have "
                              "16; use f16, bf16 or f32", "run", model, "x", "--kv-type", name)

    def test_verbose_tells_timings_on_stderr(self):
        result = self.succeed("run", self.model, "the", "-n", "4", "-v")
        self.assertIn("tokens/s", result.err)

    def test_n_0_generates_nothing(self):
        found = self.answer("the", "-n", "0")
        self.assertEqual((found["ids"], found["text"], found["ttft_ms"]), ([], "", None))

    def test_no_control_codes_without_a_terminal(self):
        result = self.succeed("run", self.model, "the", "-n", "4")
        self.assertNotIn("\x1b", result.err)

    def test_interrupting_ends_it_at_once_and_leaves_nothing(self):
        process = subprocess.Popen([support.MLXR, "run", self.model, "the", "-n", "2000000000"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=self.environment(), start_new_session=True)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=support.TIMEOUT)
        self.assertIn(process.returncode, (-signal.SIGINT, 0))
        with self.assertRaises(ProcessLookupError):
            os.killpg(process.pid, 0)

    def test_a_reader_that_goes_away_ends_it_quietly(self):
        for restore in (True, False):  # False: SIGPIPE is ignored, as some parents leave it
            process = subprocess.Popen([support.MLXR, "run", self.model, "the", "--raw", "-n", "200"], env=self.environment(),
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=restore)
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            process.stderr.close()
            self.assertNotEqual(process.wait(timeout=support.TIMEOUT), 0)

    def test_text_is_written_token_by_token(self):
        # Each write is a record of its own, however late this process looks; macOS has no such sockets.
        records = sys.platform == "linux"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if records else socket.SOCK_STREAM)
        with ours, theirs:
            process = subprocess.Popen([support.MLXR, "run", self.model, "the", "--raw", "--temp", "0", "-n", "200", "--logit-bias",
                                        "104=1000"], stdout=theirs, env=self.environment())  # fmt: skip
            theirs.close()
            pieces = 0
            while ours.recv(65536):
                pieces += 1
        self.assertEqual(process.wait(), 0)
        self.assertGreaterEqual(pieces, 200 if records else 2)


if __name__ == "__main__":
    support.main()
