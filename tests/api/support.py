"""What the tests of the daemon share: a daemon of one's own, and requests byte by byte.

Everything is as in tests/cli/support.py, whose helpers are reused: $MLXR_BIN is the program, tiny models are made once.
"""
import ctypes
import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(os.path.dirname(HERE), "cli"))
import importlib.util  # noqa: E402

_spec = importlib.util.spec_from_file_location("cli_support", os.path.join(os.path.dirname(HERE), "cli", "support.py"))
cli = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cli)


def pull_servers():
    """tests/cli/pull_servers.py: hosts that models are pulled from."""
    spec = importlib.util.spec_from_file_location(
        "pull_servers", os.path.join(os.path.dirname(HERE), "cli", "pull_servers.py"))  # fmt: skip
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MLXR, ROOT = cli.MLXR, cli.ROOT
tiny_models = cli.tiny_models
main = cli.main
# Sanitizers make everything several times slower; tests of time allow for it.
SLOW = 10 if re.search(r"/(asan|tsan|ubsan|coverage)/", MLXR) else 1
TIMEOUT = 60 if SLOW == 1 else 300
SANITIZER = re.compile(r"runtime error: |(ERROR|WARNING|SUMMARY): \w+Sanitizer")
# They also look into the process in ways that its sandbox forbids.
SMALL = ["--kv-bytes", "256M"] if SLOW > 1 else []  # ThreadSanitizer frees large pools slowly
SANDBOX = ["--no-sandbox", *SMALL] if SLOW > 1 else []
# Suppressions go by names, which something has to look up.
TSAN = f"suppressions={ROOT}/tests/support/tsan.supp:external_symbolizer_path=/usr/bin/addr2line"


class Answer:
    def __init__(self, status, headers, body, raw):
        self.status, self.headers, self.body, self.raw = status, headers, body, raw

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers}\n{self.body[:2000]!r}"


def without_landlock():
    """For a process of Linux, before its program begins: to it the kernel has no Landlock, and says so as one without it does."""
    libc = ctypes.CDLL(None, use_errno=True)
    load, equal, give = 0x20, 0x15, 0x06  # the call's number; is it landlock_create_ruleset?; ENOSYS, or go on
    code = b"".join(struct.pack("=HBBI", *line) for line in (
        (load, 0, 0, 0), (equal, 0, 1, 444), (give, 0, 0, 0x00050000 | errno.ENOSYS), (give, 0, 0, 0x7FFF0000)))  # fmt: skip
    lines = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(lines))
    no_new_privileges, seccomp, by_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(seccomp, by_filter, program, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter for system calls")


def read_answer(file, head_only=False):
    """One answer from a connection's file; None at its end."""
    line = file.readline()
    if not line:
        return None
    raw = line
    status = int(line.split()[1])
    headers = {}
    while True:
        line = file.readline()
        raw += line
        if line in (b"\r\n", b""):
            break
        name, _, value = line.decode("latin-1").partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    body = b""
    if head_only or status in (204, 304):
        pass
    elif headers.get("transfer-encoding") == "chunked":
        while True:
            size = int(file.readline(), 16)
            body += file.read(size)
            file.readline()
            if size == 0:
                break
    elif "content-length" in headers:
        body = file.read(int(headers["content-length"]))
    else:
        body = file.read()
    return Answer(status, headers, body, raw + body)


class Daemon:
    """`mlxr serve` on a free port (None: the one it takes itself). `arguments` are further ones; `ready`: wait until it answers."""

    def __init__(self, *arguments, env, ready=True, port=0, tcp=True, **popen):
        self.lines, self.port, self.began = [], None, time.monotonic()
        command = [MLXR, "serve", *([] if port is None else ["--port", str(port)]), *SANDBOX, *arguments]
        if "/tsan/" in MLXR:
            env = {**env, "TSAN_OPTIONS": f"{TSAN}:{env.get('TSAN_OPTIONS', '')}"}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, env=env, **popen)  # fmt: skip
        self.told = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            if tcp:
                self.port = int(self.wait_line(r"listening on \w+://.*:(\d+)$").group(1))
            if ready:
                self.wait_line(r": ready$")
                self.ready_s = time.monotonic() - self.began
        except BaseException:  # nobody will have it, so nobody else ends it
            self.process.kill()
            self.process.wait()
            raise

    def _read(self):
        for line in self.process.stderr:
            with self.told:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self.told.notify_all()
        with self.told:
            self.lines.append(None)
            self.told.notify_all()

    def wait_line(self, pattern, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        with self.told:
            while True:
                for line in self.lines:
                    found = line is not None and re.search(pattern, line)
                    if found:
                        return found
                if self.lines and self.lines[-1] is None or time.monotonic() > end:
                    raise AssertionError(f"{pattern!r} was not told: {self.lines}")
                self.told.wait(end - time.monotonic())

    def connect(self, timeout=TIMEOUT):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, data, timeout=TIMEOUT):
        """Sends bytes on a connection of their own; everything that comes until the end of it."""
        with self.connect(timeout) as connection:
            connection.sendall(data)
            parts = []
            try:
                while True:
                    part = connection.recv(65536)
                    if not part:
                        break
                    parts.append(part)
            except (socket.timeout, ConnectionResetError):
                pass
            return b"".join(parts)

    def ask(self, method, target, body=None, headers=(), host="localhost", timeout=TIMEOUT):
        """One request, its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Connection: close"]
        if host is not None:
            lines.append(f"Host: {host}")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            if not any(name.lower() == "content-type" for name, _ in headers):
                lines.append("Content-Type: application/json")
        if isinstance(body, str):
            body = body.encode()
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")
        with self.connect(timeout) as connection:
            connection.sendall(data)
            with connection.makefile("rb") as file:
                return read_answer(file, method == "HEAD")

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024

    def stop(self, timeout=TIMEOUT):
        """SIGTERM and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.reader.join()
        self.process.stderr.close()
        self.check_findings()
        return code

    def check_findings(self):
        """A sanitizer's findings are no test's success."""
        found = [i for i, line in enumerate(self.lines) if line and SANITIZER.search(line)]
        if found:
            raise AssertionError("\n".join(line for line in self.lines[found[0] : found[0] + 120] if line))


class ApiTest(cli.CliTest):
    def serve(self, *arguments, env=None, **options):
        daemon = Daemon(*arguments, env=env or self.environment(), **options)
        self.addCleanup(self._end, daemon)
        return daemon

    @staticmethod
    def _end(daemon):
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        daemon.reader.join()
        daemon.process.stderr.close()
        daemon.check_findings()

    def until(self, holds):
        """Until it holds, however long this machine takes for it."""
        end = time.monotonic() + TIMEOUT
        while not holds():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def metric(self, daemon, name, label="", **options):
        """The sum of a metric's values, of those with such a label only."""
        text = daemon.ask("GET", "/metrics", **options).body.decode()
        found = re.findall(rf"^mlxr_{name}{{?[^}}\n]*{label}[^}}\n]*}}? ([0-9.e+-]+)$", text, re.M)
        self.assertIn(f"# TYPE mlxr_{name} ", text)  # of labels that nothing was counted for there is no line
        return sum(map(float, found))

    def until_idle(self, daemon):
        """Until nothing is computed any more, and nothing waits."""
        self.until(lambda: self.metric(daemon, "num_requests_running") + self.metric(daemon, "num_requests_waiting") == 0)

    def key(self, *arguments):
        """A new key: its text and its id."""
        made = self.succeed("key", "create", *arguments, "--json").json
        return made["key"], made["id"]

    def figure(self, name, value, unit, limit):
        """Prints a figure that is promised, and keeps the promise (with time for sanitizers)."""
        print(f"{name}: {value:.2f} {unit} (at most {limit:g})")
        self.assertLess(value, limit * (SLOW if unit in ("ms", "s") else 1), name)


    def best_figure(self, name, measure, unit, limit):
        """The best of three: what else the machine does meanwhile is no part of a promise."""
        values = [measure()]
        while len(values) < 3 and min(values) >= limit:
            values.append(measure())
        self.figure(name, min(values), unit, limit)


class ServedTest(ApiTest):
    """One daemon for all tests of a class."""

    MODEL = None  # a path; None: a tiny model
    daemon = None

    @classmethod
    def model_path(cls):
        return cls.MODEL or os.path.join(tiny_models(), "qwen2.gguf")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not any(name.startswith("test_") for name in dir(cls)):
            return  # a base of others
        path = cls.model_path()
        cls.name = os.path.basename(path)[: -len(".gguf")]
        cls.home_of_class = tempfile.mkdtemp(prefix="mlxr-home-")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLXR_", "XDG_"))}
        env.update(HOME=cls.home_of_class, MLXR_MODELS=os.path.join(cls.home_of_class, "models"))
        cls.daemon = Daemon("--model", path, "--threads", "2" if cls.MODEL else "1", env=env)

    @classmethod
    def tearDownClass(cls):
        if cls.daemon:
            code = cls.daemon.stop()
            cli.shutil.rmtree(cls.home_of_class, True)
            assert code == 0, code
        super().tearDownClass()


def _skip_gguf_value(data, at, kind):
    """Where a value of GGUF's metadata ends."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind == 9:
        inner, n = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner in sizes:
            return at + n * sizes[inner]
        for _ in range(n):
            at = _skip_gguf_value(data, at, inner)
        return at
    return at + sizes[kind]


def write_with_template(path, out, template):
    """A copy of a GGUF file whose chat template is another."""
    with open(path, "rb") as file:
        data = file.read()
    version, n_tensors, n_pairs = struct.unpack_from("<IQQ", data, 4)
    at, pairs, align = 24, [], 32
    for _ in range(n_pairs):
        begin = at
        n = struct.unpack_from("<Q", data, at)[0]
        key = data[at + 8 : at + 8 + n]
        at += 8 + n
        kind = struct.unpack_from("<I", data, at)[0]
        if key == b"general.alignment":
            align = struct.unpack_from("<I", data, at + 4)[0]
        at = _skip_gguf_value(data, at + 4, kind)
        if key != b"tokenizer.chat_template":
            pairs.append(data[begin:at])
    key, text = b"tokenizer.chat_template", template.encode()
    pairs.append(struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text)
    tensors = at
    for _ in range(n_tensors):
        n = struct.unpack_from("<Q", data, at)[0]
        n_dims = struct.unpack_from("<I", data, at + 8 + n)[0]
        at += 8 + n + 4 + 8 * n_dims + 12
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, len(pairs)) + b"".join(pairs) + data[tensors:at]
    head += bytes(-len(head) % align)
    with open(out, "wb") as file:
        file.write(head + data[at + -at % align :])
    return out


def temporary_folder(test):
    folder = tempfile.mkdtemp(prefix="mlxr-api-")
    test.addCleanup(cli.shutil.rmtree, folder, True)
    return folder
