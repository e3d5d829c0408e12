"""The daemon as a process: start, options that make no sense, signals, the service manager, what it costs."""
import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
import unittest

import support
import ui_support


class Start(support.ApiTest):
    def ready_ms(self):
        """From its start, the median of 5."""
        ready = []
        for _ in range(5):
            daemon = self.serve()
            ready.append(daemon.ready_s * 1e3)
            self.assertEqual(daemon.stop(), 0)
        return sorted(ready)[2]

    def first_byte_ms(self, daemon):
        """Of a list, the median of 50."""
        first = []
        with daemon.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as file:
                for _ in range(50):
                    began = time.perf_counter()
                    connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    connection.recv(1, socket.MSG_PEEK)
                    first.append((time.perf_counter() - began) * 1e3)
                    self.assertEqual(support.read_answer(file).status, 200)
        return sorted(first)[25]

    def test_what_it_costs_to_start_and_to_wait(self):
        """Start to ready, the first byte of a list, idle memory: as promised."""
        self.best_figure("start to ready, the median of 5", self.ready_ms, "ms", 150)
        last = self.serve()
        self.best_figure("first byte of /v1/models, the median of 50", lambda: self.first_byte_ms(last), "ms", 2)
        time.sleep(1.5)
        if support.SLOW == 1:
            self.figure("memory of an idle daemon", last.rss_bytes() / 2**20, "MiB", 20)
        with open(f"/proc/{last.process.pid}/stat", encoding="ascii") as file:
            before = sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
        time.sleep(2)
        with open(f"/proc/{last.process.pid}/stat", encoding="ascii") as file:
            used = sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) - before
        self.figure("CPU of an idle daemon in 2 s", used * 10, "ms", 50)
        self.assertEqual(last.stop(), 0)

    def test_options_that_make_no_sense_are_told_in_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            for option, free in (("--port", []), ("--ollama-port", ["--port", "0"])):
                self.fail_with(2, f"cannot listen on 127.0.0.1:{port}: address already in use; {option} N takes another, and "
                                  f"mlxr status --server 127.0.0.1:{port} tells whether", "serve", *free, option, port,
                               *support.SANDBOX)  # fmt: skip
        path = os.path.join(self.home, "taken")
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind(path)
            taken.listen()
            self.fail_with(2, f"cannot listen on {path}: address already in use; --socket PATH takes another, and mlxr status "
                              f"--server unix:{path} tells", "serve", "--no-tcp", "--socket", path, *support.SANDBOX)  # fmt: skip
        for arguments, words in (
            (["--port", "65536"], "--port 65536: a whole number from 0 to 65535 is needed"),
            (["--port", "x"], "--port x: a whole number from 0 to 65535 is needed"),
            (["--port", "-1"], "a whole number"),
            (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
            (["--tls-cert", "/nonexistent"], "both a certificate and a key"),
            (["--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"], "/nonexistent: no certificate"),
            (["--backend", "nonsense"], "nonsense"),
            (["--kv-type", "q3"], "q3"),
            (["--socket", "/nonexistent/socket"], "cannot listen on /nonexistent/socket: no such file or directory"),
            (["--socket", os.path.join(self.home, "x" * 200)], "a socket's path may have"),
            (["--kv-bytes", "x"], "--kv-bytes x: a size such as 512M or 4G is needed"),
            (["--no-such-option"], "no-such-option"),
            (["model"], "too many arguments"),
        ):
            port = [] if "--port" in arguments else ["--port", "0"]
            result = self.run_mlxr("serve", *port, *support.SANDBOX, *arguments)
            self.assertIn(result.code, (1, 2), (arguments, result))
            self.assertRegex(result.err, r"\A([\d:.]+ info +engine: [^\n]+\n)?mlxr: [^\n]+\n\Z", arguments)
            self.assertIn(words, result.err)

    def test_a_model_that_is_not_there_ends_it(self):
        result = self.run_mlxr("serve", "--port", "0", *support.SANDBOX, "--model", "no-such-model")
        self.assertEqual(result.code, 1, result)
        self.assertIn("no-such-model", result.err)

    def test_models_of_the_start_are_loaded_before_it_is_ready(self):
        name = self.add_model("llama", "tiny")
        other = os.path.join(self.home, "given by path.gguf")
        shutil.copy(os.path.join(support.tiny_models(), "qwen2.gguf"), other)
        daemon = self.serve("--model", name, "--model", other)
        self.assertEqual(daemon.ask("GET", "/ready").json["status"], "ready")
        self.assertEqual(daemon.stop(), 0)

    def test_models_in_a_folder_that_cannot_be_written_are_served(self):
        name = self.add_model("llama", "tiny")
        for stored in (False, True):
            with self.subTest(stored=stored):
                if stored:
                    os.chmod(self.models, 0o755)
                    self.succeed("cp", name, "copied")
                    name = "copied"
                daemon = self.serve("--model", name, **self.close_models())
                daemon.wait_line("\\.mlxr.*: the models that are there are served; pull, create, cp, rm, keys and kept chats need a folder")
                self.assertIn(name, [m["id"] for m in daemon.ask("GET", "/v1/models").json["data"]])
                ask = {"model": name, "prompt": "a", "max_tokens": 2}
                self.assertEqual(daemon.ask("POST", "/v1/completions", ask).status, 200)
                kept = daemon.ask("POST", "/v1/responses", {"model": name, "input": "a", "max_output_tokens": 16}).json
                self.assertIn("could not be kept", kept["warnings"][-1])
                for method, path, body in (("POST", "/ui-api/models/copy", {"from": name, "to": "other"}),
                                           ("DELETE", f"/ui-api/models/{name}", None),
                                           ("POST", "/ui-api/keys", {"label": "x"})):  # fmt: skip
                    answer = daemon.ask(method, path, body)
                    self.assertEqual(answer.status, 400, answer)
                    self.assertIn("nothing can be changed here: cannot", answer.json["error"]["message"])
                self.assertEqual(daemon.stop(), 0)

    @unittest.skipUnless(os.geteuid() == 0, "what its owner made unreadable this process could make readable")
    def test_keys_that_cannot_be_read_let_nobody_in(self):
        self.add_model("llama", "tiny")
        self.key("one")
        options = self.close_models()
        os.chmod(os.path.join(self.models, ".mlxr"), 0o700)
        daemon = self.serve(ready=False, tcp=False, **options)
        daemon.wait_line("registry.db: Permission denied")
        self.assertNotEqual(daemon.process.wait(support.TIMEOUT), 0)

    def test_health_and_readiness(self):
        daemon = self.serve()
        for path, expected in (("/health", {"status": "ok", "state": "ready"}), ("/ready", {"status": "ready"})):
            answer = daemon.ask("GET", path)
            self.assertEqual((answer.status, answer.json), (200, expected))
            self.assertEqual(daemon.ask("HEAD", path).status, 200)


class Memory(support.ApiTest):
    @unittest.skipUnless(sys.platform.startswith("linux") and not support.SANDBOX, "Linux only, not under sanitizers")
    def test_want_of_memory_is_not_the_clients_fault(self):
        folder = support.cli.write_family("xlm-roberta-reranker", self.models)
        daemon = self.serve("--threads", "1", "--kv-bytes", "1M")
        pid, seen = daemon.process.pid, set()

        def status(n_words):
            ask = {"model": os.path.basename(folder), "query": "one", "documents": ["rain " * n_words]}
            answer = daemon.ask("POST", "/v1/rerank", ask)
            message = answer.json["error"]["message"]
            self.assertEqual(answer.status == 400, "can be read" in message, answer)
            seen.add(answer.status)
            return answer.status

        self.assertEqual(status(1000), 400)  # too long; finding that out takes memory where it is much too long
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            used = 1024 * int(re.search(r"VmSize:\s+(\d+)", file.read()).group(1))
        for more in range(4, 400, 4):
            resource.prlimit(pid, resource.RLIMIT_AS, (used + (more << 20), resource.RLIM_INFINITY))
            if status(1 << 20) == 400:
                break
        self.assertEqual(seen, {400, 503})


class Confined(support.ApiTest):
    @unittest.skipUnless(sys.platform.startswith("linux") and not support.SANDBOX, "Linux only, not under sanitizers")
    def test_the_process_is_confined_and_still_loads_models_from_where_they_lie(self):
        """Own store, a path, and another program's folder, which a link leads out of."""
        name = self.add_model("llama", "tiny")
        hub = os.path.join(self.home, ".cache", "huggingface", "hub", "models--a--b")
        snapshot = os.path.join(hub, "snapshots", "0" * 40)
        os.makedirs(snapshot)
        os.makedirs(os.path.join(hub, "blobs"))
        os.makedirs(os.path.join(hub, "refs"))
        with open(os.path.join(hub, "refs", "main"), "w", encoding="ascii") as file:
            file.write("0" * 40)
        shutil.copy(os.path.join(support.tiny_models(), "qwen3.gguf"), os.path.join(hub, "blobs", "f00"))
        os.symlink("../../blobs/f00", os.path.join(snapshot, "b.gguf"))
        elsewhere = os.path.join(self.home, "elsewhere")
        os.mkdir(elsewhere)
        shutil.copy(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(elsewhere, "given.gguf"))
        daemon = self.serve("--verbose", "--model", name, "--model", os.path.join(elsewhere, "given.gguf"),
                            "--model", self.foreign_name())  # fmt: skip
        daemon.wait_line("sandbox: Landlock and seccomp")
        with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as file:
            status = file.read()
        self.assertIn("NoNewPrivs:\t1", status)
        self.assertIn("Seccomp:\t2", status)
        self.assertEqual(daemon.stop(), 0)
        free = self.serve("--no-sandbox")
        with open(f"/proc/{free.process.pid}/status", encoding="ascii") as file:
            self.assertIn("Seccomp:\t0", file.read())

    @unittest.skipUnless(sys.platform.startswith("linux") and not support.SANDBOX, "Linux only, not under sanitizers")
    def test_what_would_leave_the_whole_disk_open_is_refused(self):
        os.symlink("/", os.path.join(self.home, "top"))
        for option, path in (("--socket", "/mlxr-test.sock"), ("--socket", os.path.join(self.home, "top", "mlxr-test.sock")),
                             ("--kv-dir", "/"), ("--kv-dir", os.path.join(self.home, "top"))):  # fmt: skip
            result = self.run_mlxr("serve", "--port", "0", option, path)
            self.assertEqual(result.code, 2, result)
            self.assertIn(f"{option}: the sandbox would have to leave all of / open", result.err)

    @unittest.skipUnless(sys.platform.startswith("linux") and not support.SANDBOX, "Linux only, not under sanitizers")
    def test_where_the_kernel_keeps_nobody_from_files_it_is_no_reason_not_to_serve(self):
        path = f"/mlxr-test-{os.getpid()}.sock"
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        name = self.add_model("llama", "tiny")
        daemon = self.serve("--verbose", "--socket", path, ready=False, tcp=False, preexec_fn=support.without_landlock)
        daemon.wait_line("sandbox: seccomp$")
        if os.access("/", os.W_OK):
            daemon.wait_line(": ready$")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                body = json.dumps({"model": name, "prompt": "a", "max_tokens": 2, "temperature": 0})
                connection.sendall("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                   f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())  # fmt: skip
                answer = support.read_answer(connection.makefile("rb"))
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.json["usage"]["completion_tokens"], 2)
            self.assertEqual(daemon.stop(), 0)
        else:  # no sandbox, but the disk's own rules are in the way, and that is what is told
            daemon.wait_line(f"mlxr: cannot listen on {path}: permission denied$")
            self.assertEqual(daemon.process.wait(support.TIMEOUT), 1)
        self.assertFalse([line for line in daemon.lines if line and "the sandbox would have to" in line], daemon.lines)

    def foreign_name(self):
        names = [m["name"] for m in self.succeed("list", "--json").json if "a/b" in m["name"]]
        self.assertTrue(names)
        return names[0]


class End(support.ApiTest):
    def test_both_signals_end_it_with_0(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.best_figure("an idle daemon ends after", lambda n=number: self.end_ms(n), "ms", 1000)

    def end_ms(self, number):
        daemon = self.serve()
        with daemon.connect():
            began = time.monotonic()
            daemon.process.send_signal(number)
            self.assertEqual(daemon.process.wait(support.TIMEOUT), 0)
            ms = (time.monotonic() - began) * 1e3
        daemon.wait_line("server: ended")
        return ms

    def test_a_unix_socket_is_served_and_removed(self):
        path = os.path.join(self.home, "socket")
        daemon = self.serve("--socket", path, "--no-tcp", tcp=False)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            self.assertEqual(support.read_answer(connection.makefile("rb")).status, 200)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(os.path.exists(path))

    def test_a_second_daemon_starts_at_once_after_a_killed_one(self):
        self.best_figure("a restart takes", self.restart_s, "s", 2)

    def restart_s(self):
        daemon = self.serve()
        port = daemon.port
        with daemon.connect():
            daemon.process.kill()
            daemon.process.wait()
        again = self.serve(port=port)
        self.assertEqual(again.port, port)
        return again.ready_s


class Background(ui_support.UiTest):
    """A response that is made in the background has nobody's request beside it."""

    def begin(self, daemon, n_tokens):
        made = daemon.ask("POST", "/v1/responses", {"model": "qwen2", "input": "Tell me.", "background": True,
                                                    "temperature": 0, "max_output_tokens": n_tokens})  # fmt: skip
        self.assertEqual(made.json["status"], "in_progress", made)
        return made.json["id"]

    def test_it_is_finished_before_the_daemon_ends(self):
        daemon = self.start()
        response = self.begin(daemon, 6000)
        self.assertEqual(daemon.stop(), 0)  # it may take 30 s
        made = self.start().ask("GET", f"/v1/responses/{response}").json
        self.assertEqual((made["status"], made["usage"] and made["usage"]["output_tokens"]), ("incomplete", 6000), made["error"])

    def test_what_does_not_get_done_in_time_is_told_as_failed(self):
        daemon = self.start("--drain", "1")
        responses = [self.begin(daemon, 12000) for _ in range(24)]
        self.assertEqual(daemon.stop(), 0)
        again = self.start()
        made = [again.ask("GET", f"/v1/responses/{r}").json for r in responses]
        self.assertTrue({m["status"] for m in made} <= {"incomplete", "failed"}, [m["status"] for m in made])
        unfinished = [m for m in made if m["status"] == "failed"]
        self.assertTrue(all(m["error"]["code"] == "shutting_down" for m in unfinished), [m["error"] for m in unfinished])
        if unfinished:
            daemon.wait_line(r"for 1 s at most there go on: (\d+ requests?, )?\d+ responses? in the background$")
            daemon.wait_line(rf"ended unfinished: {len(unfinished)} responses? in the background$")


class ServiceManager(support.ApiTest):
    def notifications(self, listener, until):
        listener.settimeout(support.TIMEOUT)
        heard = []
        while until not in heard:
            heard.append(listener.recv(4096).decode())
        return heard

    def test_systemd_is_told_of_readiness_life_and_the_end(self):
        for name in (os.path.join(self.home, "notify"), "\0mlxr-test-%d" % os.getpid()):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
                listener.bind(name)
                env = self.environment(NOTIFY_SOCKET=name.replace("\0", "@"), WATCHDOG_USEC="2000000")
                daemon = self.serve(env=env)
                heard = self.notifications(listener, "READY=1")
                heard += self.notifications(listener, "WATCHDOG=1")
                daemon.process.send_signal(signal.SIGTERM)
                self.notifications(listener, "STOPPING=1")
                self.assertEqual(daemon.process.wait(support.TIMEOUT), 0)

    def test_sockets_of_the_service_manager_are_served(self):
        with socket.create_server(("127.0.0.1", 0)) as inherited:
            port = inherited.getsockname()[1]

            def hand_over():
                os.dup2(inherited.fileno(), 3)
                os.set_inheritable(3, True)
                os.environ["LISTEN_PID"] = str(os.getpid())

            # LISTEN_PID must be the daemon's own: a shell that becomes it knows the number.
            env = self.environment(LISTEN_FDS="1")
            script = 'export LISTEN_PID=$$; exec "$0" serve "$@"'
            process = support.subprocess.Popen(["/bin/sh", "-c", script, support.MLXR, *support.SANDBOX], env=env, close_fds=False,
                                               stderr=support.subprocess.PIPE, preexec_fn=hand_over)  # fmt: skip
            try:
                with socket.create_connection(("127.0.0.1", port), support.TIMEOUT) as connection:
                    connection.settimeout(support.TIMEOUT)
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    self.assertEqual(support.read_answer(connection.makefile("rb")).status, 200)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(support.TIMEOUT), 0)
                self.assertIn(b"listening on 1 inherited sockets", process.stderr.read())
            finally:
                process.kill()
                process.wait()
                process.stderr.close()


if __name__ == "__main__":
    support.main()
