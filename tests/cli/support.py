"""What the tests of the program share: running it, tiny models for it, and a terminal to talk to it.

The program is $MLXR_BIN, the writer of tiny models $MLXR_WRITE_TINY_MODELS; ctest sets both. The real models are those of
$MLXR_TEST_MODELS, else of the model directory. Standard library only.
"""
import errno
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MLXR = os.environ.get("MLXR_BIN", os.path.join(ROOT, "build", "bin", "mlxr"))
WRITER = os.environ.get("MLXR_WRITE_TINY_MODELS", os.path.join(os.path.dirname(MLXR), "write_tiny_models"))
TIMEOUT = 120

_tiny = None


def tiny_models():
    """A folder with every tiny model as a GGUF file, made once a process."""
    global _tiny
    if _tiny is None:
        _tiny = tempfile.mkdtemp(prefix="mlxr-tiny-")
        subprocess.run([WRITER, _tiny], check=True, stdout=subprocess.DEVNULL)
    return _tiny


def gguf_adapter(path, family="llama", n=64, values=(0.9, 0.7), name="blk.0.attn_output.weight"):
    """A GGUF adapter of rank 1 for one matrix of n inputs and n outputs"""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    data = b"GGUF" + struct.pack("<IQQ", 3, 2, 4)
    for key, value in (("general.type", "adapter"), ("general.architecture", family), ("adapter.type", "lora")):
        data += text(key) + struct.pack("<I", 8) + text(value)
    data += text("adapter.lora.alpha") + struct.pack("<If", 6, 1)
    data += text(name + ".lora_a") + struct.pack("<IQQIQ", 2, n, 1, 0, 0)
    data += text(name + ".lora_b") + struct.pack("<IQQIQ", 2, 1, n, 0, 4 * n)
    data += b"\0" * (-len(data) % 32)
    for value in values:
        data += struct.pack(f"<{n}f", *(value * (-1) ** i for i in range(n)))
    with open(path, "wb") as file:
        file.write(data)
    return path


def write_family(name, folder):
    """folder/name, one of tests/oracle/families"""
    subprocess.run([WRITER, folder, name], check=True, cwd=ROOT)
    return os.path.join(folder, name)


def remove_tiny_models():
    if _tiny:
        shutil.rmtree(_tiny, True)


def real_models():
    """The folder that may hold the two real models."""
    folder = os.environ.get("MLXR_TEST_MODELS") or os.environ.get("MLXR_MODELS")
    if folder:
        return folder
    data = os.environ.get("XDG_DATA_HOME", "")
    return os.path.join(data if os.path.isabs(data) else os.path.expanduser("~/.local/share"), "mlxr", "models")


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def text(self):
        return self.out.decode("utf-8")

    @property
    def json(self):
        """The output's one JSON value, on one line."""
        assert self.out.endswith(b"\n") and self.out.count(b"\n") == 1, self.out
        return json.loads(self.out)

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.out!r}\nstderr: {self.err}"


class CliTest(unittest.TestCase):
    """Tests get self.home: a home directory of their own, whose model directory is self.models."""

    maxDiff = None

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="mlxr-home-")
        self.addCleanup(shutil.rmtree, self.home, True)
        self.models = os.path.join(self.home, "models")
        os.mkdir(self.models)

    def environment(self, **changes):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLXR_", "XDG_", "LC_", "LANG"))}
        env.update(HOME=self.home, MLXR_MODELS=self.models, TERM="xterm", LC_ALL="C.UTF-8")
        for name, value in changes.items():
            env.pop(name, None)
            if value is not None:
                env[name] = value
        return env

    def add_model(self, tiny, name=None):
        """Puts a tiny model into the model directory and returns its name there."""
        name = name or tiny
        shutil.copy(os.path.join(tiny_models(), tiny + ".gguf"), os.path.join(self.models, name + ".gguf"))
        return name

    def add_words_model(self):
        """One whose KV cache --kv-type auto makes words of (i16), where this machine's backend gains by them."""
        name, path = "words", os.path.join(self.models, "words.gguf")
        shape = "arch=qwen3,layers=2,width=128,ffn=128,heads=1,head_dim=128,vocab=400,ctx=512"
        subprocess.run([sys.executable, os.path.join(ROOT, "bench", "synth"), shape, "Q8_0", path], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        auto = self.succeed("show", name, "--json").json["memory"]["kv_type_auto"]
        return name if auto == "i16" else self.skipTest(f"auto is {auto} here")

    def run_mlxr(self, *arguments, stdin=b"", env=None, timeout=TIMEOUT, cwd=None, preexec_fn=None):
        given = {"input" if isinstance(stdin, bytes) else "stdin": stdin}  # bytes, or an open file
        done = subprocess.run([MLXR, *arguments], **given, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=env or self.environment(), timeout=timeout, cwd=cwd, preexec_fn=preexec_fn)
        return Result(done.returncode, done.stdout, done.stderr.decode("utf-8"))

    def close_models(self):
        """The folder of models cannot be written any more. Returns options of a process; what they take from it is kept from it as
        from anybody else."""
        for folder, _, files in os.walk(self.models):
            for path in [folder, *(os.path.join(folder, file) for file in files)]:
                os.chmod(path, 0o555 if path == folder else 0o444)
                self.addCleanup(os.chmod, path, 0o755)
        if os.geteuid() != 0:
            return {}
        os.chown(self.home, 65534, 65534)
        return {"preexec_fn": lambda: (os.setgroups([]), os.setgid(65534), os.setuid(65534))}

    def succeed(self, *arguments, **options):
        result = self.run_mlxr(*arguments, **options)
        self.assertEqual(result.code, 0, result)
        return result

    def fail_with(self, code, pattern, *arguments, **options):
        """It must say one line on stderr that matches, nothing on stdout, and exit with this code."""
        result = self.run_mlxr(*arguments, **options)
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.out, b"", result)
        self.assertRegex(result.err, r"\Amlxr: [^\n]+\n\Z")
        self.assertRegex(result.err, pattern)
        return result


def free_port():
    """A port where nobody listens; not of those that the system gives to others who ask for any."""
    while True:
        port = random.SystemRandom().randrange(15000, 30000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Terminal:
    """A program on a pseudo-terminal. `screen` holds all it has written, without escape sequences."""

    ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>78]|\r")

    def __init__(self, arguments, env, columns=100):
        self.raw, self.seen, self.code = b"", 0, None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:  # the size before the program asks for it
                self.resize(0, 24, columns)
                os.execve(arguments[0], arguments, env)
            finally:
                os._exit(127)

    @staticmethod
    def resize(fd, rows, columns):
        termios.tcsetwinsize(fd, (rows, columns)) if hasattr(termios, "tcsetwinsize") else None

    @property
    def screen(self):
        return self.ESCAPES.sub("", self.raw.decode("utf-8", "replace"))

    def read(self, seconds):
        """Reads what comes within this time; False at the end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError as problem:
            if problem.errno == errno.EIO:
                return False
            raise
        self.raw += data
        return bool(data)

    def expect(self, text, timeout=TIMEOUT):
        """Waits until `text` appears after what was expected before; returns what came up to its end."""
        end = time.monotonic() + timeout
        while True:
            at = self.screen.find(text, self.seen)
            if at >= 0:
                before, self.seen = self.screen[self.seen:at], at + len(text)
                return before
            if time.monotonic() > end or not self.read(0.2):
                raise AssertionError(f"{text!r} did not appear; the screen since the last: {self.screen[self.seen:]!r}")

    def type(self, text):
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def wait(self, timeout=TIMEOUT):
        """Waits for the end; returns the exit code, negative for a signal."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            alive = self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while alive and self.read(0.05) and select.select([self.fd], [], [], 0)[0]:
                    pass
                self.code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                return self.code
        raise AssertionError(f"still running; the screen since the last: {self.screen[self.seen:]!r}")

    def close(self):
        if self.code is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        os.close(self.fd)


def main():
    try:
        unittest.main(verbosity=2 if "-v" in sys.argv else 1)
    finally:
        remove_tiny_models()
