"""The chat on a pseudo-terminal."""
import array
import fcntl
import json
import os
import re
import signal
import termios
import time

import support

PROMPT = ">>> "
SOON = 20  # seconds for what comes at once


class Chat(support.CliTest):
    def start(self, *arguments, model=None, prompt=PROMPT, **changes):
        model = model or self.add_model("llama")
        terminal = support.Terminal([support.MLXR, "run", model, *arguments], self.environment(NO_COLOR="1", **changes),
                                    columns=200)  # of which no remark is longer
        self.addCleanup(terminal.close)
        if prompt:
            terminal.expect(prompt)
        return terminal

    def say(self, terminal, text, timeout=support.TIMEOUT):
        """Types a line and returns what comes up to the next prompt, without the echo."""
        terminal.type(text + "\n")
        return terminal.expect("\n" + PROMPT, timeout).partition("\n")[2]

    def user_texts(self, terminal):
        """What was sent in this chat."""
        path = os.path.join(self.home, "saved.json")
        self.assertIn("saved", self.say(terminal, "/save " + path))
        with open(path, encoding="utf-8") as file:
            return [m["content"] for m in json.load(file)["messages"] if m["role"] == "user"]

    def wait_until_silent(self, terminal, read):
        """Until it writes nothing for a while; without `read`, until it cannot, as nobody reads."""
        before, waiting = -1, array.array("i", [0])
        while before != len(terminal.raw) + waiting[0]:
            before = len(terminal.raw) + waiting[0]
            if read:
                terminal.read(0.3)
            else:
                time.sleep(0.2)
                fcntl.ioctl(terminal.fd, termios.FIONREAD, waiting)

    def timings(self, text):
        match = re.search(r"(\d+) prompt tokens \((\d+) reused\).*; (\d+) tokens, .* context (\d+)", text)
        self.assertIsNotNone(match, text)
        return [int(group) for group in match.groups()]

    def test_it_answers_and_ends_with_ctrl_d(self):
        t = self.start("-n", "8", "--seed", "1")
        self.assertTrue(self.say(t, "hello"))
        self.assertTrue(self.say(t, "and again"))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_turns_reuse_what_is_computed(self):
        t = self.start("-n", "8", "-v", "--temp", "0", "--logit-bias", "104=1000")  # h h h …: whole characters
        n_prompt, reused, n, context = self.timings(self.say(t, "hello"))
        self.assertEqual((reused, n, context), (0, 8, n_prompt + 8))
        for _ in range(3):
            before = context
            n_prompt, reused, n, context = self.timings(self.say(t, "go on"))
            self.assertEqual(reused, before - 1)  # all but the last token, which is told but not computed yet
            self.assertEqual(context, n_prompt + 8)

    def test_a_first_prompt_is_answered_before_the_chat(self):
        t = self.start("--chat", "-n", "4", "--temp", "0", "--logit-bias", "104=1000", "--", "hello", prompt=None)
        self.assertIn("hhhh", t.expect(PROMPT))
        t.type("/exit\n")
        self.assertEqual(t.wait(), 0)

    def test_a_prompt_without_chat_is_answered_once(self):
        t = self.start("hello", "-n", "4", "--temp", "0", "--logit-bias", "104=1000", prompt=None)
        self.assertEqual(t.wait(), 0)
        self.assertEqual(t.screen, "hhhh\n")

    def test_texts_of_several_lines(self):
        t = self.start("-n", "2", "--temp", "0", "--logit-bias", "104=1000")
        t.type('"""first\n')
        t.expect("... ")
        t.type("\n")
        t.expect("... ")
        t.type('last"""\n')
        t.expect("\n" + PROMPT)
        t.type("one\\\n")
        t.expect("... ")
        self.say(t, "two")
        path = os.path.join(self.home, "saved.json")
        self.assertIn("saved", self.say(t, "/save " + path))
        with open(path, encoding="utf-8") as file:
            messages = json.load(file)["messages"]
        self.assertEqual([m["content"] for m in messages], ["first\n\nlast", "hh", "one\ntwo", "hh"])
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"] * 2)

    def test_what_is_pasted_is_one_text(self):
        t = self.start("-n", "2", "--temp", "0", "--logit-bias", "104=1000", TERM="xterm")
        self.assertIn(b"\x1b[?2004h", t.raw)  # the terminal is to mark what is pasted
        t.type("Explain: \x1b[200~def f():\r\treturn 1\r\nf()\x07 日本\r\x1b[201~")
        t.expect("f() 日本")
        self.say(t, " at once")
        t.type("\x1b[200~/show\rthis\x1b[201~")  # several lines are no command
        t.expect("this")
        self.say(t, "")
        self.assertEqual(self.user_texts(t), ["Explain: def f():\n\treturn 1\n\nf() 日本 at once", "/show\nthis"])
        t.type("\x1b[200~" + "many words " * 3000 + "\r\x1b[201~")
        t.expect("many words")
        t.type("\x03")
        t.expect("\n" + PROMPT)
        t.type("/exit\n")
        self.assertEqual(t.wait(), 0)
        self.assertTrue(t.raw.rindex(b"\x1b[?2004l") > t.raw.rindex(b"\x1b[?2004h"))

    def test_pasted_lines_keep_their_quotes_and_backslashes(self):
        t = self.start("-n", "1", "--temp", "0", "--logit-bias", "104=1000")
        program = '"""What it does."""\nimport os\n\n\ndef f():\n    """Nothing."""'
        shell = "make \\\n  all \\"
        for pasted in (program, shell):
            t.type("\x1b[200~" + pasted.replace("\n", "\r") + "\r\x1b[201~")
            t.expect(pasted[-3:])
            t.type("\n")
            t.expect("\n" + PROMPT, SOON)
        t.type("\x1b[A\x1b[A")  # the program again
        t.expect("Nothing.")
        t.type("\n")
        t.expect("\n" + PROMPT, SOON)
        t.type('"""Explain: \x1b[200~a\rb\x1b[201~"""\n')  # these are typed, and so is the backslash
        t.expect("\n" + PROMPT, SOON)
        t.type("\x1b[200~a\rb\x1b[201~ \\\n")
        t.expect("... ", SOON)
        self.say(t, "c")
        self.assertEqual(self.user_texts(t), [program, shell, program, "Explain: a\nb", "a\nb \nc"])

    def test_what_is_pasted_in_a_search_of_the_history_is_one_text(self):
        t = self.start("-n", "1", "--temp", "0", "--logit-bias", "104=1000")
        self.say(t, "hello")
        t.type("\x12")  # Ctrl-R
        t.expect("bck:")
        t.type("hel")
        t.expect("hello")
        t.type("\x1b[200~one\rtwo\x1b[201~")
        t.expect("two", SOON)
        t.type("\n")
        t.expect("\n" + PROMPT)
        texts = self.user_texts(t)
        self.assertEqual(len(texts), 2, texts)
        self.assertEqual(texts[1].replace("one\ntwo", ""), "hello")

    def test_a_character_cut_short_takes_no_other_with_it(self):
        t = self.start("-n", "1", "--temp", "0", "--logit-bias", "104=1000")
        t.type(b"a\xc3\r")
        t.expect("\n" + PROMPT, SOON)
        t.type(b"b\xe6\x97c\xff\r")
        t.expect("\n" + PROMPT, SOON)
        t.type(b"\x1b[200~d\xc3\x1b[201~\r")
        t.expect("\n" + PROMPT, SOON)
        self.assertEqual(self.user_texts(t), ["a\ufffd", "b\ufffdc\ufffd", "d\ufffd"])

    def test_without_editing_lines_are_read_all_the_same(self):
        with open(os.path.join(self.home, ".editrc"), "w", encoding="utf-8") as file:
            file.write("edit off\n")
        t = self.start("-n", "1", "--temp", "0", "--logit-bias", "104=1000", TERM="xterm")
        self.assertNotIn(b"\x1b[?2004h", t.raw)
        t.type("never sent")
        t.expect("never sent")
        t.type("\x03")
        t.expect("\n" + PROMPT, SOON)
        self.say(t, "hello")
        self.assertEqual(self.user_texts(t), ["hello"])

    def test_a_terminal_without_escape_sequences_is_sent_no_marks(self):
        t = self.start("-n", "1", TERM="dumb")
        t.type("/exit\n")
        self.assertEqual(t.wait(), 0)
        self.assertNotIn(b"\x1b[?2004", t.raw)

    def test_a_line_is_drawn_in_its_place_when_the_terminal_is_resized(self):
        t = self.start("-n", "1", TERM="xterm")
        for text, columns, rows in (("a line that is short", 60, b""), (" and " + "grows " * 12 + "long", 40, b"\x1b[2A")):
            t.type(text)
            t.expect(text[-4:])
            before, t.seen = len(t.raw), len(t.screen)
            t.resize(t.fd, 24, columns)
            t.expect(PROMPT + "a line that is s")
            self.assertIn(b"\r" + rows + b"\x1b[J", t.raw[before:])
            t.expect(text[-4:])
        before = len(t.raw)
        t.resize(t.fd, 30, 40)  # higher, and as wide
        t.expect(PROMPT + "a line that is s")
        self.assertIn(b"\r\x1b[2A\x1b[J", t.raw[before:])
        t.type("\x03")
        t.expect("\n" + PROMPT)

    def test_every_resize_is_seen_while_nothing_is_typed(self):
        t = self.start("-n", "1", TERM="xterm")
        for columns in range(60, 90):
            t.resize(t.fd, 24, columns)
            t.expect(PROMPT, SOON)
        self.assertIn("messages  0", self.say(t, "/show"))

    def test_long_remarks_are_broken_between_words(self):
        t = self.start("-n", "1", TERM="xterm")
        t.seen = len(t.screen)
        t.resize(t.fd, 24, 40)
        t.expect(PROMPT)  # drawn again
        lines = self.say(t, "/nonsense").splitlines()
        self.assertEqual(lines, ["mlxr: no command /nonsense; /help lists", "them"])
        self.assertLessEqual(max(map(len, self.say(t, "/help").splitlines())), 40)

    def test_a_chat_of_raw_texts_says_so_and_nothing_of_the_template(self):
        t = self.start("-n", "1", "--raw")
        self.assertIn("type a text for the model to go on with; /help", t.screen)
        self.assertNotIn("template", t.screen)

    def test_non_ascii_text_is_typed_whole(self):
        for locale in ("C.UTF-8", "C", None):
            t = self.start("-n", "1", LC_ALL=locale)
            self.say(t, "Grüße 😀 日本")
            path = os.path.join(self.home, "saved.json")
            self.say(t, "/save " + path)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(json.load(file)["messages"][0]["content"], "Grüße 😀 日本")

    def test_ctrl_c_gives_a_line_up(self):
        t = self.start("-n", "1")
        t.type("never sent")
        t.expect("never sent")
        t.type("\x03")
        t.expect("\n" + PROMPT)
        t.type('"""several\n')
        t.expect("... ")
        t.type("\x03")
        t.expect("\n" + PROMPT)
        self.assertIn("messages  0", self.say(t, "/show"))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_ctrl_c_behind_the_begin_of_a_key_gives_a_line_up(self):
        t = self.start("-n", "1")
        for begin in ("\x1b", "\x1b[", "\x1b[200", "\x18"):
            t.type("never sent" + begin)
            t.expect("never sent")
            self.wait_until_silent(t, True)  # it has read the rest, too
            t.type("\x03")
            t.expect("\n" + PROMPT, SOON)
        self.assertEqual(self.user_texts(t), [])

    def test_ctrl_c_ends_an_answer_that_ctrl_s_has_stopped_and_not_the_chat(self):
        t = self.start("--temp", "0", "--logit-bias", "104=1000", "--ctx", "16384", "--rope-scaling", "linear")  # seconds of h
        for _ in range(3):
            t.type("go on\n")
            t.expect("hhhh")
            t.type("\x13")
            self.wait_until_silent(t, True)
            t.type("\x03")
            t.expect("(interrupted)", SOON)
            t.expect(PROMPT, SOON)
            self.say(t, "/clear")
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_ctrl_c_right_behind_enter_ends_the_answer_that_begins(self):
        t = self.start("--temp", "0", "--logit-bias", "104=1000", "--ctx", "16384", "--rope-scaling", "linear")  # seconds of h
        folder = os.open(os.path.join(self.home, ".local/state/mlxr"), os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)  # it waits with the history, between Enter and the answer
        t.type("go on\n")
        t.expect("go on\n", SOON)
        os.kill(t.pid, signal.SIGINT)
        os.close(folder)
        self.assertEqual(t.expect("(interrupted)", SOON).strip(), "")
        t.expect(PROMPT, SOON)
        self.assertEqual(self.user_texts(t), [])

    def test_ctrl_c_while_much_is_drawn_does_not_end_the_chat(self):
        t = self.start("-n", "1")
        t.resize(t.fd, 120, 200)  # more than a terminal takes that nobody reads
        t.expect(PROMPT)
        for i in range(12):
            t.type("\x1b[200~" + "many words " * (2000 + 37 * i) + "\r\x1b[201~")
            self.wait_until_silent(t, False)
            t.type("\x03")
            t.expect("\n" + PROMPT, SOON)
        self.assertEqual(self.user_texts(t), [])
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_commands(self):
        t = self.start("-n", "4", "--temp", "0", "--logit-bias", "104=1000", "-v")
        help_text = self.say(t, "/help")
        for command in "/help /clear /system /save /load /set /show /regen /other /exit".split():
            self.assertIn(command, help_text)
        self.assertIn("did you mean /help", self.say(t, "/hlep"))
        self.assertIn("no command /nonsense", self.say(t, "/nonsense"))
        self.assertIn("no answer", self.say(t, "/regen"))
        self.assertIn("no other answer", self.say(t, "/other"))
        self.assertIn("hhhh", self.say(t, "hello"))
        n_prompt, reused, _, _ = self.timings(self.say(t, "/regen"))
        self.assertEqual(reused, n_prompt - 1)
        self.assertIn("messages  2", self.say(t, "/show"))
        self.assertIn("forgotten", self.say(t, "/clear"))
        self.assertIn("messages  0", self.say(t, "/show"))
        self.assertIn("set", self.say(t, "/system be brief"))
        self.assertIn("be brief", self.say(t, "/show"))
        with_system = self.timings(self.say(t, "hello"))[0]
        self.assertGreater(with_system, n_prompt)
        self.assertIn("removed", self.say(t, "/system"))
        self.say(t, "/clear")
        self.assertEqual(self.timings(self.say(t, "hello"))[0], n_prompt)
        self.assertIn("needs the name", self.say(t, "/save"))
        self.assertIn("needs the name", self.say(t, "/load"))
        self.assertEqual("mlxr: /nowhere/x: No such file or directory", self.say(t, "/load /nowhere/x"))
        t.type("/exit\n")
        self.assertEqual(t.wait(), 0)

    def last_answer(self, terminal):
        path = os.path.join(self.home, "saved.json")
        self.assertIn("saved", self.say(terminal, "/save " + path))
        with open(path, encoding="utf-8") as file:
            messages = json.load(file)["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"] * (len(messages) // 2))
        return messages[-1]["content"]

    def test_an_answer_outlives_another_one_that_was_stopped(self):
        t = self.start("--temp", "0", "--logit-bias", "104=1000", "--ctx", "16384", "--rope-scaling", "linear")  # seconds of h
        t.type("go on\n")
        t.expect("hhhh")
        t.type("\x03")
        t.expect("(interrupted)\n" + PROMPT, SOON)
        first = self.last_answer(t)
        self.assertRegex(first, r"^h+$")
        self.say(t, "/set logit-bias 105=2000")
        t.type("/regen\n")
        t.expect("iiii")
        t.type("\x03")
        t.expect("(interrupted: the answer before it stays; /other takes this one)\n" + PROMPT, SOON)
        self.assertEqual(self.last_answer(t), first)
        self.assertIn("iiii", self.say(t, "/other"))
        self.assertRegex(self.last_answer(t), r"^i+$")
        self.assertIn("hhhh", self.say(t, "/other"))
        self.assertEqual(self.last_answer(t), first)
        self.say(t, "/clear")
        self.assertIn("there is no other answer", self.say(t, "/other"))

    def test_the_answer_before_one_that_came_to_its_end_can_be_taken_back(self):
        t = self.start("-n", "4", "--temp", "0", "--logit-bias", "104=1000")
        self.say(t, "hello")
        for token, letter in ((105, "i"), (106, "j")):
            self.say(t, f"/set logit-bias {token}={token}00")
            self.assertIn(letter * 4, self.say(t, "/regen"))
            self.assertEqual(self.last_answer(t), letter * 4)
        found = []
        for _ in range(3):
            self.say(t, "/other")
            found.append(self.last_answer(t))
        self.assertEqual((sorted(found), found[2]), (["hhhh", "iiii", "jjjj"], "jjjj"))
        self.say(t, "and then")
        self.assertIn("there is no other answer", self.say(t, "/other"))

    def test_settings_change_the_sampler_and_keep_what_is_computed(self):
        t = self.start("-n", "4", "--temp", "0", "-v", "--logit-bias", "104=1000")
        self.assertIn("hhhh", self.say(t, "hello"))
        self.assertRegex(self.say(t, "/set"), r"temp +0 +temperature; 0: always the likeliest token\n")
        self.assertEqual(self.say(t, "/set logit-bias 105=2000"), "")
        answer = self.say(t, "hello")
        self.assertIn("iiii", answer)
        self.assertGreater(self.timings(answer)[1], 10)
        self.assertIn("--top-p 7: a number from 0 to 1 is needed", self.say(t, "/set top-p 7"))
        listed = self.say(t, "/set")
        self.assertRegex(listed, r"top-p +0.95 +choose among")
        self.assertRegex(listed, r"draft-max +usual +the longest guess, 1 to 15; 0: the usual \[8\]")
        self.assertRegex(listed, r"dry-sequence-breaker +usual +text that ends")
        self.assertRegex(listed, r"logit-bias +2 given +add BIAS")
        self.assertRegex(listed, r"schema +none +answers are JSON")
        self.assertIn("no setting", self.say(t, "/set nonsense 3"))
        self.assertIn("needs a value", self.say(t, "/set temp"))
        for name, value in (("draft-max", "9"), ("tokens", "3"), ("dry-sequence-breaker", "x")):  # what is shown can be set
            self.say(t, f"/set {name} {value}")
            self.assertEqual(self.say(t, f"/set {name} usual"), "")
            self.assertRegex(self.say(t, "/set"), rf"{name} +usual ")
        self.assertEqual(self.say(t, "/set draft-max 0"), "")
        self.assertEqual(self.say(t, "/set tokens 2"), "")
        self.assertIn("(stopped after 2 tokens)", self.say(t, "hello"))

    def test_conversations_are_saved_and_loaded(self):
        path = os.path.join(self.home, "a file.json")
        t = self.start("-n", "4", "--temp", "0", "--logit-bias", "104=1000")
        self.say(t, "hello")
        self.assertIn("saved in", self.say(t, "/save " + path))
        self.say(t, "/clear")
        self.assertIn("2 messages", self.say(t, "/load " + path))
        self.assertIn("messages  2", self.say(t, "/show"))
        for wrong in ('{"messages": [{"role": "king", "content": "x"}]}', "[]x", '{"messages": 3}', "[[]]"):
            with open(path, "w", encoding="utf-8") as file:
                file.write(wrong)
            self.assertIn("mlxr: ", self.say(t, "/load " + path))
        self.assertIn("messages  2", self.say(t, "/show"))
        self.assertTrue(self.say(t, "still here"))

    def test_history_is_kept_for_the_next_time_and_for_this_user_only(self):
        t = self.start("-n", "1")
        self.say(t, "remember me")
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        path = os.path.join(self.home, ".local/state/mlxr/history")
        self.assertEqual(os.stat(path).st_mode & 0o77, 0)
        t = self.start("-n", "1")
        t.type("\x1b[A")  # arrow up
        t.expect("remember me")
        t.type("\n")
        t.expect("\n" + PROMPT)
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        state = os.path.join(self.home, "state")
        t = self.start("-n", "1", XDG_STATE_HOME=state)
        self.say(t, "elsewhere")
        t.type("\x04")
        t.wait()
        self.assertTrue(os.path.exists(os.path.join(state, "mlxr/history")))

    def history(self):
        """What the next chat will have, the oldest first."""
        with open(os.path.join(self.home, ".local/state/mlxr/history"), encoding="utf-8") as file:
            return file.read().splitlines()[1:]

    def test_chats_at_a_time_keep_the_history_of_each_other(self):
        one, other = self.start("-n", "1"), self.start("-n", "1")
        for i in range(3):
            self.say(one, f"one{i}")
            self.say(other, f"other{i}")
        for t in (one, other):
            t.type("\x04")
            self.assertEqual(t.wait(), 0)
        self.assertEqual(self.history(), ["one0", "other0", "one1", "other1", "one2", "other2"])

    def start_on_a_full_disk(self):
        """A chat whose files can have 512 bytes."""
        limited = 'trap "" XFSZ; ulimit -f 1; exec "$@"'
        t = support.Terminal(["/bin/sh", "-c", limited, "sh", support.MLXR, "run", self.add_model("llama"), "-n", "1"],
                             self.environment(NO_COLOR="1"), columns=200)
        self.addCleanup(t.close)
        t.expect(PROMPT)
        return t

    def test_a_full_disk_takes_nothing_of_the_history(self):
        t = self.start("-n", "1")
        self.say(t, "x" * 600)
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        t = self.start_on_a_full_disk()
        self.assertIn("history", self.say(t, "one"))
        self.assertNotIn("history", self.say(t, "two"))  # that was told
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        self.assertEqual(self.history(), ["x" * 600])
        self.assertEqual(os.listdir(os.path.join(self.home, ".local/state/mlxr")), ["history"])

    def test_what_is_no_history_is_not_replaced_by_one(self):
        path = os.path.join(self.home, ".local/state/mlxr/history")
        os.makedirs(os.path.dirname(path))
        with open(path, "w", encoding="utf-8") as file:
            file.write("something that nobody has anywhere else\n")
        t = self.start("-n", "1")
        self.assertIn("cannot be read", self.say(t, "one"))
        self.assertNotIn("cannot be read", self.say(t, "two"))  # that was told
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "something that nobody has anywhere else\n")

    def test_a_full_disk_takes_nothing_of_a_conversation_saved_before(self):
        path = os.path.join(self.home, "saved.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"messages": [{"role": "user", "content": "x" * 600}]}, file)
        t = self.start_on_a_full_disk()
        self.assertIn("1 messages", self.say(t, "/load " + path))
        self.assertIn("File too large", self.say(t, "/save " + path))
        self.say(t, "/clear")
        self.assertIn("1 messages", self.say(t, "/load " + path))
        self.assertEqual([name for name in os.listdir(self.home) if "saved" in name], ["saved.json"])

    def test_a_conversation_is_saved_in_the_place_of_no_other_thing(self):
        path, link = os.path.join(self.home, "saved.json"), os.path.join(self.home, "link.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump([{"role": "user", "content": "of before"}], file)
        os.chmod(path, 0o600)
        os.symlink(path, link)
        self.add_model("llama")
        model = os.path.join(self.models, "llama.gguf")
        with open(model, "rb") as file:
            weights = file.read()
        schema = os.path.join(self.home, "schema.json")
        with open(schema, "w", encoding="utf-8") as file:
            file.write("{}")
        t = self.start("-n", "1", "--schema", schema)
        self.say(t, "hello")
        self.assertIn("saved in", self.say(t, "/save " + link))
        self.assertTrue(os.path.islink(link))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)  # still for this user only
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["messages"][0]["content"], "hello")
        own = os.path.join(self.home, "notes.txt")
        for text in ("my own text", '{"messages": 1}', '[{"role": "user"}]'):
            with open(own, "w", encoding="utf-8") as file:
                file.write(text)
            self.assertIn("no conversation, and would be lost", self.say(t, "/save " + own))
            with open(own, encoding="utf-8") as file:
                self.assertEqual(file.read(), text)
        with open(own, "w", encoding="utf-8") as file:
            file.write('[{"role": "user", "content": "a\\u0000b"}]')
        if os.geteuid():  # nothing is kept from root
            os.chmod(own, 0o200)
            self.assertIn("cannot be read, and would be lost (Permission denied)", self.say(t, "/save " + own))
            os.chmod(own, 0o600)
        self.assertIn("saved in", self.say(t, "/save " + own))  # a conversation, though /load refuses it
        open(own, "w", encoding="utf-8").close()
        self.assertIn("saved in", self.say(t, "/save " + own))  # nothing was in it
        for read in (model, schema):
            self.assertIn("would be lost", self.say(t, "/save " + read))
        os.mkfifo(path + ".pipe")
        self.assertIn("no regular file", self.say(t, f"/save {path}.pipe"))
        self.assertIn("directory", self.say(t, "/save " + self.home))
        with open(model, "rb") as file:
            self.assertEqual(file.read(), weights)
        with open(schema, encoding="utf-8") as file:
            self.assertEqual(file.read(), "{}")

    def test_tab_completes_commands(self):
        t = self.start("-n", "1")
        t.type("/sho\t\n")
        t.expect("messages  0")
        t.expect(PROMPT)

    def test_a_full_context_is_told_and_clear_helps(self):
        t = self.start("--ctx", "40", "--temp", "0", "--logit-bias", "104=1000")
        self.assertIn("context of 40 tokens is full", self.say(t, "hi"))
        self.assertIn("mlxr: context of 40 tokens", self.say(t, "this does not fit any more"))
        self.say(t, "/clear")
        self.assertIn("hhh", self.say(t, "hi"))

    def test_control_characters_of_the_model_do_not_reach_the_terminal(self):
        t = self.start("-n", "6", "--raw", "--temp", "0", "--logit-bias", "27=1000")  # the byte ESC, again and again
        t.type("x\n")
        answer = t.expect("??????")
        self.assertNotIn("\x1b", answer)
        self.assertNotIn(b"\x1b\x1b", t.raw)

    def test_colours_only_without_no_color(self):
        t = self.start("-n", "1")
        t.type("/exit\n")
        t.wait()
        self.assertNotRegex(t.raw.decode(), r"\x1b\[[0-9]*m")
        t = support.Terminal([support.MLXR, "doctor"], self.environment())
        self.addCleanup(t.close)
        t.wait()
        self.assertIn(b"\x1b[32mok", t.raw)

    def test_a_terminal_that_goes_away_ends_it(self):
        t = self.start("-n", "1")
        os.close(t.fd)
        for _ in range(400):
            if os.waitpid(t.pid, os.WNOHANG)[0]:
                break
            time.sleep(0.05)
        else:
            self.fail("it still runs")
        t.fd, t.code = os.open(os.devnull, os.O_RDONLY), 0


if __name__ == "__main__":
    support.main()
