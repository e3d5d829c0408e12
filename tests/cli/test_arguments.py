"""Arguments, help, exit codes, and the verbs that need no model."""
import os
import re
import shutil
import subprocess
import time
import unittest

import support

VERBS = "run quantize show tokenize detokenize perplexity bench batch doctor version completion help".split()


class Usage(support.CliTest):
    def test_without_arguments_it_tells_the_verbs_and_exits_2(self):
        result = self.run_mlxr()
        self.assertEqual(result.code, 2)
        for verb in VERBS:
            self.assertIn(f"  {verb} ", result.text)

    def test_help_is_data_and_names_every_option_of_a_verb(self):
        self.assertEqual(self.succeed("help").out, self.succeed("--help").out)
        for verb in VERBS:
            text = self.succeed("help", verb).text
            self.assertEqual(text, self.succeed(verb, "--help").text)
            self.assertIn(f"Usage: mlxr {verb}", text)
        text = self.succeed("help", "run").text
        for option in ("--temp --top-k --top-p --min-p --typical --xtc-probability --xtc-threshold --dry-multiplier "
                       "--dry-base --dry-allowed-length --dry-penalty-last-n --mirostat --mirostat-tau --mirostat-eta "
                       "--repeat-penalty --presence-penalty --frequency-penalty --repeat-last-n --logit-bias --seed "
                       "--stop --logprobs --grammar --schema --draft --draft-max --kv-dir --kv-disk-bytes --kv-bytes --expert-bytes --batch-invariant --activations --ctx --threads --system --cpu-features --kv-type --json --raw --chat").split():
            self.assertIn(option + " ", text + " ")

    def test_lines_of_help_fit_a_terminal(self):
        for verb in VERBS:
            for line in self.succeed("help", verb).text.splitlines():
                self.assertLessEqual(len(line), 100, line)

    def test_what_a_line_of_help_explains_does_not_touch_the_words(self):
        """Longer than its column, it has a line of its own."""
        lines = self.succeed("help").text.splitlines()
        at = lines.index("  imatrix MODEL OUT --file FILE")
        self.assertRegex(lines[at + 1], r"^ {29}measure which inputs")
        lines = self.succeed("help", "run").text.splitlines()
        at = lines.index("      --dry-sequence-breaker TEXT")
        self.assertEqual(lines[at + 1], " " * 33 + "text that ends a phrase; may be repeated")

    def test_help_is_broken_between_words_at_the_width_of_the_terminal(self):
        verbs = re.findall(r"^  ([a-z]+)", self.succeed("help").text, re.M)
        self.assertGreater(len(verbs), 20)
        for columns in (80, 40):
            for arguments in ["help", *(f"{verb} --help" for verb in verbs)]:
                with self.subTest(columns=columns, arguments=arguments):
                    t = support.Terminal([support.MLXR, *arguments.split()], self.environment(), columns)
                    self.addCleanup(t.close)
                    self.assertEqual(t.wait(), 0)
                    plain = self.succeed(*arguments.split()).text
                    self.assertEqual(t.screen.split(), plain.split())
                    for line in t.screen.splitlines():
                        self.assertLess(len(line), columns, line)

    def test_verbs_of_other_programs_lead_to_ours(self):
        for theirs, ours in (("chat", "run"), ("download", "pull"), ("remove", "rm")):
            self.fail_with(2, f"unknown command '{theirs}'; did you mean {ours}\\?", theirs)

    def test_an_unknown_verb_suggests_the_nearest(self):
        self.fail_with(2, "unknown command 'rnu'; did you mean run", "rnu")
        self.fail_with(2, "did you mean tokenize", "tokenise", "x")
        self.fail_with(2, "mlxr help lists them", "frobnicate")
        self.fail_with(2, "unknown command", "help", "frobnicate")

    def test_an_unknown_option_suggests_the_nearest(self):
        self.fail_with(2, "--tmep; did you mean --temp", "run", "m", "--tmep", "1")
        self.fail_with(2, "--top_k; did you mean --top-k", "run", "m", "--top_k=3")
        for theirs, ours in (("--temperature", "temp"), ("--temprature", "temp"), ("--max_tokens", "tokens"), ("--ctx-size", "ctx"),
                             ("--num-predict", "tokens"), ("--cache-type-k", "kv-type")):
            self.fail_with(2, f"unknown option {theirs}; did you mean --{ours}\\?", "run", "m", theirs, "1")
        self.fail_with(2, "unknown option --temperature; mlxr help list lists", "list", "--temperature", "1")
        self.fail_with(2, "--jsno; did you mean --json", "doctor", "--jsno")
        # of what is another word nothing is guessed
        self.fail_with(2, "unknown option --nope; mlxr help run lists", "run", "m", "--nope")
        self.fail_with(2, "unknown command '-v'; mlxr help lists", "-v")
        self.fail_with(2, "unknown option --zzzzzzzz; mlxr help run", "run", "m", "--zzzzzzzz")
        self.fail_with(2, "unknown option -q", "run", "m", "-q")

    def test_options_of_other_verbs_are_unknown(self):
        self.fail_with(2, "unknown option --temp", "bench", "m", "--temp", "1")

    def test_values_are_checked(self):
        self.fail_with(2, "--temp needs a value: T", "run", "m", "--temp")
        self.fail_with(2, "--temp hot: a number", "run", "m", "--temp", "hot")
        self.fail_with(2, "--temp nan: a number", "run", "m", "--temp", "nan")
        self.fail_with(2, "--temp 1x: a number", "run", "m", "--temp", "1x")
        self.fail_with(2, "--threads -1: a whole number", "run", "m", "--threads", "-1")
        self.fail_with(2, "--threads 1.5: a whole number", "run", "m", "--threads=1.5")
        self.fail_with(2, "--ctx 99999999999: a whole number", "run", "m", "--ctx", "99999999999")
        self.fail_with(2, "--seed -1: a whole number", "run", "m", "--seed", "-1")
        self.fail_with(2, "--seed 99999999999999999999999", "run", "m", "--seed", "99999999999999999999999")
        self.fail_with(2, "--kv-bytes 5X: a size", "run", "m", "--kv-bytes", "5X")
        self.fail_with(2, "--logit-bias 5: ID=BIAS", "run", "m", "--logit-bias", "5")
        self.fail_with(2, "--logit-bias x=1: ID=BIAS", "run", "m", "--logit-bias", "x=1")
        self.fail_with(2, "--logit-bias 1=: ID=BIAS", "run", "m", "--logit-bias", "1=")
        self.fail_with(2, "--logit-bias 1=2x: ID=BIAS", "run", "m", "--logit-bias", "1=2x")
        self.fail_with(2, "--logit-bias 1=inf: the bias is a number", "run", "m", "--logit-bias", "1=inf")
        for value in ("1e99", "-1e99", "1e-99"):
            self.fail_with(2, f"--logit-bias 1={value}: the bias is a number", "run", "m", "--logit-bias", f"1={value}")
        for token in ("99999999999999999999", "-1", "2147483648"):
            self.fail_with(2, f"--logit-bias {token}=1: the token is a whole number from 0 to 2147483647", "run", "m", "--logit-bias", f"{token}=1")
        self.fail_with(2, "--raw takes no value", "run", "m", "--raw=1")

    def test_every_number_that_is_none_is_repeated_with_what_it_may_be(self):
        verbs = re.findall(r"^  ([a-z]+)", self.succeed("help").text, re.M)
        n = 0
        for verb in verbs:
            options = re.findall(r"--([a-z-]+) (N|K|P|T|X|F|THETA|PORT|SECONDS|SIZE|N,N)(?= |$)", self.succeed("help", verb).text, re.M)
            for option, kind in options:
                words = r"from -?[0-9]+ to [0-9]+|a number (of|above) [0-9]+|up to [0-9]+T|a number is needed"
                with self.subTest(verb=verb, option=option):
                    for value in ["abc", ""] + (["-9"] if kind in ("PORT", "SECONDS", "SIZE", "N,N") else []):
                        self.fail_with(2, f"--{option} {value}: .*({words})", verb, f"--{option}={value}")
                    n += 1
        self.assertGreater(n, 100)

    def test_numbers_beyond_what_is_possible_are_told_before_anything_begins(self):
        for words, *arguments in (("--port 65536: a whole number from 0 to 65535", "serve", "--port", "65536"),
                                  ("--parallel 5000: a whole number from 0 to 4096", "serve", "--parallel", "5000"),
                                  ("--drain 4294968: a whole number from 0 to 86400", "serve", "--drain", "4294968"),
                                  ("--keep-alive 2000001: a whole number from -1 to 2000000", "serve", "--keep-alive", "2000001"),
                                  ("--keep-alive 1000000001: a whole number from -1 to 1000000000", "load", "m", "--keep-alive", "1000000001"),
                                  ("--days 4294967295: a whole number from 0 to 36500", "key", "create", "--days", "4294967295"),
                                  ("--lines 2001: a whole number from 0 to 2000", "logs", "-n", "2001"),
                                  ("--threads 1025: a whole number from 0 to 1024", "run", "m", "x", "--threads", "1025")):  # fmt: skip
            self.fail_with(2, words, *arguments)

    def test_the_number_of_arguments_is_checked(self):
        self.fail_with(2, "usage: mlxr run MODEL", "run")
        self.fail_with(2, "too many arguments: 'c'; put a text of several words in quotes", "run", "a", "b", "c")
        self.fail_with(2, "too many arguments", "version", "x")
        self.fail_with(2, "usage: mlxr completion bash", "completion")
        self.fail_with(2, "needs --file", "perplexity", "m")
        self.fail_with(2, "at least 2", "perplexity", "m", "--file", "/dev/null", "--ctx", "1")
        self.fail_with(2, "--repetitions 0: a whole number from 1 to 10000", "bench", "m", "-r", "0")
        self.fail_with(2, "nothing to measure", "bench", "m", "-p", "0", "-n", "0")

    def test_options_that_exclude_each_other_are_refused(self):
        self.fail_with(2, "--logprobs needs --json", "run", "m", "x", "--logprobs", "3")
        self.fail_with(2, "--json", "run", "m", "x", "--json", "--chat")
        self.fail_with(2, "--system", "run", "m", "x", "--raw", "--system", "s")
        self.fail_with(2, "not both", "tokenize", "m", "x", "--file", "y")

    def test_error_lines_hold_no_control_characters(self):
        self.fail_with(2, r"unknown command '\?\[31mx\?'", "\x1b[31mx\n")
        # Beyond ASCII: 8-bit controls (U+009B begins a sequence as ESC [ does), ends of lines, what turns the direction.
        for c in "\x80\x85\u009b\x9f\u2028\u2029\u202a\u202e\u2066\u2069":
            self.fail_with(2, r"unknown command 'a\?31mb'", f"a{c}31mb")
        for c in ("\u00a0", "é", "–", "\u200d", "\u2027", "\u202f", "\u2065", "\u206a", "中", "א"):
            self.fail_with(2, f"unknown command 'a{c}b'", f"a{c}b")


class Small(support.CliTest):
    def test_version(self):
        self.assertRegex(self.succeed("version").text, r"\Amlxr \d+\.\d+\.\d+\n\Z")
        self.assertEqual(self.succeed("--version").out, self.succeed("version").out)
        version = self.succeed("version", "--json").json["version"]
        self.assertEqual(self.succeed("version").text, f"mlxr {version}\n")

    def test_doctor_tells_what_the_machine_offers_and_where_models_go(self):
        text = self.succeed("doctor").text
        for word in ("processor", "instructions", "memory", "backend cpu", "models", self.models, "->"):
            self.assertIn(word, text)
        self.assertIn("put a .gguf file there", text)
        self.assertNotIn("\x1b", text)
        self.add_model("llama")
        self.assertIn(f"1 in {self.models}", self.succeed("doctor").text)

    def test_doctor_as_json(self):
        found = self.succeed("doctor", "--json").json
        for key in ("version", "cpu", "cpu_features", "cores_usable", "memory_bytes", "backends", "findings"):
            self.assertIn(key, found)
        self.assertIn("models", [finding["what"] for finding in found["findings"]])

    def test_doctor_without_a_home_reports_a_problem(self):
        result = self.run_mlxr("doctor", env=self.environment(HOME=None, MLXR_MODELS=None))
        self.assertEqual(result.code, 1)
        self.assertIn("set HOME or MLXR_MODELS", result.text)

    def test_doctor_has_no_metal_kernels_where_the_build_has_none(self):
        if any(b["name"] == "mlx" and b["present"] for b in self.succeed("doctor", "--json").json["backends"]):
            self.skipTest("this build has them")
        self.fail_with(1, "no Metal kernels.*docs/apple.md", "doctor", "--metal")

    def test_a_full_disk_is_an_error(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        model, text = self.add_model("llama"), os.path.join(self.home, "text")
        with open(text, "w", encoding="utf-8") as file:
            file.write("the inn at the corner " * 40)
        for arguments in (f"show {model}", f"show {model} --json", f"show {model} --tensors --json", f"tokenize {model} the",
                          f"tokenize {model} the --json", f"tokenize {model} the --ids", f"detokenize {model} 70 71",
                          f"run {model} the -n 4", f"run {model} the -n 4 --json", f"perplexity {model} --file {text} --ctx 32",
                          f"perplexity {model} --file {text} --ctx 32 --json", f"bench {model} -p 8 -n 2 -r 1",
                          f"bench {model} -p 8 -n 2 -r 1 --json", f"bench {model} -p 8 -n 2 -r 1 --csv",
                          f"quantize {model} {text}.gguf --type Q8_0", f"quantize {model} {text}.gguf --type Q8_0 --json",
                          f"imatrix {model} {text}.im --file {text} --ctx 32", "list", "models", "help", "help run", "version", "version --json", "doctor", "doctor --json", "completion bash", "completion zsh",
                          "completion fish", "manual run", "list --json", "list --catalogue", "serve --routes"):  # fmt: skip
            with self.subTest(arguments=arguments), open("/dev/full", "wb") as full:
                done = subprocess.run([support.MLXR, *arguments.split()], stdout=full, stderr=subprocess.PIPE, env=self.environment())
                self.assertEqual(done.returncode, 1)
                self.assertEqual(done.stderr.decode(), "mlxr: cannot write the output: No space left on device\n")

    def test_an_output_that_is_closed_is_an_error(self):
        for arguments in ("help", "doctor --json", "serve --routes"):
            done = subprocess.run(f"exec {support.MLXR} {arguments} >&-", shell=True, stderr=subprocess.PIPE, env=self.environment())
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.decode(), "mlxr: cannot write the output: Bad file descriptor\n")

    def test_a_reader_that_goes_away_is_no_news(self):
        with subprocess.Popen([support.MLXR, "help", "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")


class Completion(support.CliTest):
    def test_scripts_know_verbs_and_options(self):
        for shell in ("bash", "zsh", "fish"):
            script = self.succeed("completion", shell).text
            for word in VERBS + ["top-k", "repeat-penalty", "mlxr models" if shell == "fish" else "models"]:
                self.assertIn(word, script)
        self.fail_with(2, "bash, zsh and fish", "completion", "csh")

    def complete(self, *words):
        """What bash completes the last word to."""
        script = self.succeed("completion", "bash").text
        quoted = " ".join(f"'{word}'" for word in words)
        script += f"\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _mlxr; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        env = self.environment(PATH=os.path.dirname(support.MLXR) + ":" + os.environ["PATH"])
        done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=self.home)
        self.assertEqual(done.stderr, b"")
        return done.stdout.decode().split()

    @unittest.skipUnless(shutil.which("bash"), "no bash here")
    def test_bash_completes_verbs_options_and_models(self):
        self.assertEqual(self.complete("mlxr", "per"), ["perplexity"])
        self.assertEqual(self.complete("mlxr", "run", "m", "--top"), ["--top-k", "--top-p"])
        self.assertEqual(self.complete("mlxr", "help", "to"), ["tokenize"])
        self.assertEqual(self.complete("mlxr", "completion", "z"), ["zsh"])
        self.add_model("llama", "some-model.Q4")
        self.assertEqual(self.complete("mlxr", "run", "some"), ["some-model.Q4"])
        self.assertEqual(self.complete("mlxr", "bench", "m", "--rep"), ["--repetitions"])
        self.assertEqual(self.complete("mlxr", "run", "m", "--draft", "ng"), ["ngram"])
        self.assertEqual(self.complete("mlxr", "run", "m", "--draft", "mt"), ["mtp"])
        self.assertEqual(self.complete("mlxr", "run", "m", "--draft", "some"), ["some-model.Q4"])
        self.assertEqual(self.complete("mlxr", "batch", "m", "--ou"), ["--output"])
        for name in ("schema.json", "requests.jsonl"):
            open(os.path.join(self.home, name), "w").close()
        self.assertEqual(self.complete("mlxr", "run", "m", "--schema", "sch"), ["schema.json"])
        self.assertEqual(self.complete("mlxr", "batch", "m", "-o", "req"), ["requests.jsonl"])
        self.assertEqual(self.complete("mlxr", "batch", "m", "req"), ["requests.jsonl"])

    @unittest.skipUnless(shutil.which("bash"), "no bash here")
    def test_bash_completes_values_files_and_every_model_of_rm(self):
        self.assertEqual(self.complete("mlxr", "run", "m", "--kv-type", "q"), ["q8_0", "q4_0"])
        self.assertEqual(self.complete("mlxr", "key", "r"), ["revoke"])
        self.assertEqual(self.complete("mlxr", "serve", "--log-level", "w"), ["warn"])
        self.add_model("llama", "some-model.Q4")
        self.assertEqual(self.complete("mlxr", "rm", "other", "some"), ["some-model.Q4"])
        open(os.path.join(self.home, "weights.gguf"), "w").close()
        for verb in ("quantize", "pull"):
            self.assertIn("weights.gguf" if verb == "quantize" else "smollm2:135m", self.complete("mlxr", verb, ""))
        self.assertEqual(self.complete("mlxr", "quantize", "weights.gguf", "wei"), ["weights.gguf"])

    def test_types_that_are_completed_are_the_ones_there_are(self):
        model = os.path.join(support.tiny_models(), "llama.gguf")
        known = self.run_mlxr("quantize", model, os.path.join(self.home, "out.gguf"), "--type", "none").err.split("known: ")[1].strip().split(", ")
        self.assertIn(f"-W '{' '.join(known)}'", self.succeed("completion", "bash").text)

    @unittest.skipUnless(shutil.which("fish"), "no fish here")
    def test_fish_completes_verbs_values_and_models(self):
        self.add_model("llama", "some-model.Q4")
        env = self.environment(PATH=os.path.dirname(support.MLXR) + ":" + os.environ["PATH"])
        for line, found in (("mlxr per", "perplexity"), ("mlxr run some", "some-model.Q4"), ("mlxr run m --kv-type bf", "bf16"),
                            ("mlxr run m --repeat-p", "--repeat-penalty"), ("mlxr key rev", "revoke"), ("mlxr pull smollm2:1.", "smollm2:1.7b")):  # fmt: skip
            script = f"mlxr completion fish | source; complete -C '{line}'"
            done = subprocess.run(["fish", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=self.home)
            self.assertEqual([row.split("\t")[0] for row in done.stdout.decode().splitlines()], [found], (line, done.stderr))

    @unittest.skipUnless(shutil.which("zsh"), "no zsh here")
    def test_zsh_completes_at_the_first_tab_from_a_folder_of_functions(self):
        self.add_model("llama", "some-model.Q4")
        functions = os.path.join(self.home, "functions")
        os.mkdir(functions)
        with open(os.path.join(functions, "_mlxr"), "wb") as file:
            file.write(self.succeed("completion", "zsh").out)
        with open(os.path.join(self.home, ".zshrc"), "w") as file:
            file.write(f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u; PS1='ready> '; unsetopt beep\n"
                       "zle-line-init() { echo -n 'line editor> ' }; zle -N zle-line-init\n")
        env = self.environment(PATH=os.path.dirname(support.MLXR) + ":" + os.environ["PATH"], TERM="xterm", ZDOTDIR=self.home)
        for line, found in (("mlxr perp", "mlxr perplexity"), ("mlxr run some", "mlxr run some-model.Q4"), ("mlxr run m --kv-type b", "bf16"),
                            ("mlxr run m --repeat-p", "--repeat-penalty"), ("mlxr key rev", "revoke"), ("mlxr pull smollm2:1.", "smollm2:1.7b")):  # fmt: skip
            with self.subTest(line=line):
                t = support.Terminal(["/usr/bin/env", "zsh", "-i"], env)
                self.addCleanup(t.close)  # which ends it
                t.expect("line editor> ")  # before, what is typed is the terminal's
                t.type(line + "\t")
                t.expect(found[len(line):] if found.startswith(line) else found[len(line.split()[-1]):])

    def test_texts_keep_their_marks(self):
        for shell in ("zsh", "fish"):
            self.assertIn("hf:owner/repo[:type]", self.succeed("completion", shell).text.replace("\\:", ":"))

    def test_scripts_are_valid(self):
        for shell, check in (("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])):
            if shutil.which(shell):
                done = subprocess.run([shell, *check], input=self.succeed("completion", shell).out, stderr=subprocess.PIPE)
                self.assertEqual((done.returncode, done.stderr), (0, b""))


class Manual(support.CliTest):
    def verbs(self):
        return [line.split()[0] for line in self.succeed("help").text.splitlines() if re.match(r"  \S", line)]

    def page(self, *verb):
        """The page as man would show it, without its formatting."""
        done = subprocess.run(["scdoc"], input=self.succeed("manual", *verb).out, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)  # fmt: skip
        self.assertEqual((done.returncode, done.stderr), (0, b""), verb)
        text = re.sub(r"\\f[BIRP]", "", done.stdout.decode())
        return text.replace("\\-", "-").replace("\\~", "~").replace("\\&", "").replace("\\(ti", "~").replace("\\e", "\\")

    def test_each_verb_has_a_page_with_all_its_options(self):
        self.assertIsNotNone(shutil.which("scdoc"), "scdoc is missing: tools/setup test installs it")
        verbs = self.verbs()
        self.assertIn("serve", verbs)
        for verb in verbs:
            page, help_text = self.page(verb), self.succeed("help", verb).text
            self.assertIn(f'.TH "mlxr-{verb}" "1"', page)
            options = re.findall(r"^  (?:-\w, |    )(--[a-z-]+)(?: ([^ ]+))?  +(\S.*)$", help_text, re.M)
            self.assertEqual(len(options), help_text.count("--help") + len(options) - 1)
            for option, argument, words in options:
                self.assertIn(option, page)
                self.assertIn(argument, page)
                self.assertIn(words.split(" [")[0], page)

    def test_the_overview_lists_the_verbs(self):
        page = self.page()
        for verb in self.verbs():
            self.assertRegex(page, rf"(?m)^{verb}\b")

    def test_an_unknown_verb_is_refused(self):
        self.fail_with(2, "unknown command 'nonsense'", "manual", "nonsense")


if __name__ == "__main__":
    support.main()
