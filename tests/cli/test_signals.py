"""Signals that end or stop a chat: the terminal is given back as it was."""
import json
import os
import signal
import sys
import time

import support

PROMPT = ">>> "
SOON = 20  # seconds for what comes at once
MARKS_ON, MARKS_OFF = b"\x1b[?2004h", b"\x1b[?2004l"

# What a shell does with a program, and no more: it tells how the program ended or stopped, and whether the terminal is
# as it was; a line that it reads has the program go on. It changes the terminal no more than a plain shell does.
SHELL = r"""
import os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
before = termios.tcgetattr(0)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    status = os.waitpid(child, os.WUNTRACED)[1]
    os.tcsetpgrp(0, os.getpgrp())
    how = "stopped" if os.WIFSTOPPED(status) else "killed by %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) \
        else "exit %d" % os.WEXITSTATUS(status)
    terminal = "the same" if termios.tcgetattr(0) == before else "changed"
    termios.tcsetattr(0, termios.TCSADRAIN, before)
    print("<%s, %s>" % (how, terminal), flush=True)
    if not os.WIFSTOPPED(status):
        break
    if sys.stdin.readline() == "fg\n":
        os.tcsetpgrp(0, child)
    os.kill(-child, signal.SIGCONT)
"""


class Signals(support.CliTest):
    def start(self, *arguments):
        """A chat that a shell has started."""
        model = self.add_model("llama")
        chat = [support.MLXR, "run", model, "--temp", "0", "--logit-bias", "104=1000", *arguments]
        t = support.Terminal([sys.executable, "-c", SHELL, *chat], self.environment(NO_COLOR="1", TERM="xterm"))
        self.addCleanup(t.close)
        t.expect(PROMPT)
        self.chat = os.tcgetpgrp(t.fd)
        self.addCleanup(self.end_chat)
        return t

    def end_chat(self):
        try:
            os.kill(self.chat, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def assert_marks(self, t, on):
        """What is pasted is marked, or is not any more."""
        self.assertEqual(t.raw.rfind(MARKS_ON) > t.raw.rfind(MARKS_OFF), on, t.raw[-300:])

    def test_a_signal_that_ends_a_chat_gives_the_terminal_back(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            for typed, seen in (("not sent", "not sent"), ("go on\n", "hhhh")):
                with self.subTest(number=number, typed=typed):
                    t = self.start("--ctx", "16384", "--rope-scaling", "linear")  # seconds of h
                    t.type(typed)
                    t.expect(seen)
                    self.assert_marks(t, True)
                    os.kill(self.chat, number)
                    t.expect(f"<killed by {int(number)}, the same>", SOON)
                    self.assert_marks(t, False)

    def test_a_chat_that_ends_with_a_terminal_that_ctrl_s_has_stopped_ends_at_once(self):
        t = self.start("--ctx", "16384", "--rope-scaling", "linear")
        t.type("go on\n")
        t.expect("hhhh")
        t.type("\x13")
        os.kill(self.chat, signal.SIGTERM)
        end = time.monotonic() + SOON
        while os.tcgetpgrp(t.fd) == self.chat and time.monotonic() < end:
            t.read(0.05)
        self.assertNotEqual(os.tcgetpgrp(t.fd), self.chat)  # it has ended
        t.type("\x11")
        t.expect(f"<killed by {int(signal.SIGTERM)}, the same>", SOON)

    def test_ctrl_z_stops_a_line_as_often_as_it_is_pressed(self):
        t = self.start("-n", "2")
        typed = ""
        for word in ("one", "-two", "-three"):
            t.type(word)
            typed += word
            t.expect(word)
            t.type("\x1a")
            t.expect("<stopped, the same>", SOON)
            self.assert_marks(t, False)
            t.type("fg\n")
            t.expect(PROMPT + typed, SOON)  # the line is drawn again
            self.assert_marks(t, True)
        t.type("-four\n")
        t.expect("\n" + PROMPT, SOON)
        path = os.path.join(self.home, "saved.json")
        t.type("/save " + path + "\n")
        t.expect("\n" + PROMPT)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["messages"][0]["content"], "one-two-three-four")
        t.type("\x04")
        t.expect("<exit 0, the same>", SOON)

    def test_ctrl_z_stops_an_answer_which_goes_on(self):
        t = self.start("--ctx", "16384", "--rope-scaling", "linear")
        t.type("go on\n")
        for _ in range(3):
            t.expect("hhhh")
            t.type("\x1a")
            t.expect("<stopped, the same>", SOON)
            self.assert_marks(t, False)
            t.type("fg\n")
        t.expect("hhhh")
        t.type("\x03")
        t.expect("(interrupted)\n" + PROMPT, SOON)
        self.assert_marks(t, True)
        t.type("\x1b[200~a\rb\x1b[201~")
        t.expect("b")
        t.type("\x1a")
        t.expect("<stopped, the same>", SOON)
        t.type("fg\n")
        t.expect("b", SOON)
        t.type("\x03")
        t.expect("\n" + PROMPT, SOON)
        t.type("\x04")
        t.expect("<exit 0, the same>", SOON)

    def test_a_stopped_chat_that_is_ended_gives_the_terminal_back(self):
        t = self.start("-n", "2")
        t.type("never sent")
        t.expect("never sent")
        t.type("\x1a")
        t.expect("<stopped, the same>", SOON)
        os.kill(self.chat, signal.SIGTERM)
        t.type("bg\n")
        t.expect(f"<killed by {int(signal.SIGTERM)}, the same>", SOON)
        self.assert_marks(t, False)


if __name__ == "__main__":
    support.main()
