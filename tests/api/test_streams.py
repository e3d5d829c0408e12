"""Answers that take their time, over real sockets and a real model: clients that leave, signals, overload.

What counts here is how the daemon treats an answer that runs; what is in it is for other tests. The tiny models answer too
fast for that, so SmolLM2 computes; without it these tests are skipped.
"""
import json
import os
import signal
import threading
import time
import unittest

import support

MODEL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
NAME = "SmolLM2-135M-Instruct.Q4_1"


@unittest.skipUnless(os.path.exists(MODEL), "SmolLM2 is not in the model directory")
class Streams(support.ApiTest):
    def setUp(self):
        super().setUp()
        if not any(r["pattern"] == "/v1/completions" for r in self.succeed("serve", "--routes").json):
            self.skipTest("this daemon does not complete")

    def begin(self, *arguments, **options):
        return self.serve("--model", MODEL, "--kv-bytes", "256M", *arguments, **options)

    def ask_long(self, daemon, n_tokens=1900, prompt="Tell me everything.", stream=True):
        """Sends a request for a long answer; the connection and its file."""
        body = json.dumps({"model": NAME, "prompt": prompt, "max_tokens": n_tokens, "stream": stream,
                           "temperature": 1.0, "seed": 1, "logit_bias": {"0": -100, "2": -100}}).encode()  # fmt: skip
        connection = daemon.connect()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip
        return connection, connection.makefile("rb")

    @staticmethod
    def leave(connection, file):
        file.close()  # it holds the socket open, too
        connection.close()

    def head(self, file):
        """Status and headers of an answer."""
        line = file.readline()
        headers = {}
        for text in iter(file.readline, b"\r\n"):
            name, _, value = text.decode().partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def events(self, file):
        """Data of the events of a chunked stream, until it ends."""
        text = b""
        while True:
            line = file.readline()
            if not line:
                return
            size = int(line, 16)
            text += file.read(size)
            file.read(2)
            while b"\n\n" in text:
                event, text = text.split(b"\n\n", 1)
                for part in event.split(b"\n"):
                    if part.startswith(b"data: "):
                        yield part[6:].decode()
            if size == 0:
                return

    def test_a_client_that_leaves_frees_what_it_had_within_a_second(self):
        """Whether it waits, reads its prompt or streams; seen in what runs and waits."""
        daemon = self.begin("--parallel", "2")
        for n_asked, read in ((1, True), (1, False), (4, True), (4, False)):
            self.best_figure(f"{n_asked} clients left, {'streaming' if read else 'waiting'}: all is free after",
                             lambda n=n_asked, r=read: self.all_free(daemon, n, r), "s", 1)  # fmt: skip
            self.until(lambda: self.metric(daemon, "kv_cache_usage_perc") == 0)  # what is told of pages is up to a second old
        self.assertEqual(daemon.stop(), 0)

    def all_free(self, daemon, n_asked, read):
        clients = [self.ask_long(daemon) for _ in range(n_asked)]
        if read:
            next(self.events_of(clients[0][1]))
        self.until(lambda: self.running(daemon) > 0)
        for connection, file in clients:
            self.leave(connection, file)
        began = time.monotonic()
        self.until_idle(daemon)
        return time.monotonic() - began

    def running(self, daemon):
        return self.metric(daemon, "num_requests_running") + self.metric(daemon, "num_requests_waiting")

    def events_of(self, file):
        status, headers = self.head(file)
        if status != 200:
            self.fail(f"{status}: {file.read(int(headers['content-length']))}")
        return self.events(file)

    def test_whoever_waits_for_a_client_that_leaves_is_served_within_a_second(self):
        """One lane: the next answer begins when the one before was cancelled, whatever that was doing."""
        daemon = self.begin("--parallel", "1")
        for prompt in ("Tell me everything.", "word " * 1500):  # streams; reads its prompt
            self.best_figure("a client left; the next was answered after", lambda p=prompt: self.next_one(daemon, p), "s", 1)
        self.assertEqual(daemon.stop(), 0)

    def next_one(self, daemon, prompt):
        connection, file = self.ask_long(daemon, prompt=prompt)
        if len(prompt) < 100:
            next(self.events_of(file))
        self.until(lambda: self.metric(daemon, "num_requests_running") >= 1)
        waiting, answer = self.ask_long(daemon, 1, "Hi")
        self.until(lambda: self.metric(daemon, "num_requests_waiting") >= 1)
        began = time.monotonic()
        self.leave(connection, file)
        self.assertEqual(list(self.events_of(answer))[-1], "[DONE]")
        seconds = time.monotonic() - began
        self.leave(waiting, answer)
        return seconds

    def test_running_answers_finish_when_the_daemon_is_told_to_end(self):
        daemon = self.begin()
        connection, file = self.ask_long(daemon, 200 // support.SLOW)
        events = self.events_of(file)
        next(events)
        daemon.process.send_signal(signal.SIGTERM)
        self.until(lambda: daemon.ask("GET", "/ready").status == 503)
        answer = daemon.ask("GET", "/ready")
        self.assertEqual(answer.json, {"status": "draining"})
        self.assertGreater(int(answer.headers["retry-after"]), 0)
        self.assertEqual(daemon.ask("GET", "/health").status, 200)
        refused = daemon.ask("POST", "/v1/completions", {"model": NAME, "prompt": "x"})
        self.assertEqual(refused.status, 503)
        self.assertIn("retry-after", refused.headers)
        got = list(events)
        self.assertEqual(got[-1], "[DONE]")
        reasons = [c["finish_reason"] for e in got[:-1] for c in json.loads(e).get("choices", []) if c.get("finish_reason")]
        self.assertEqual(reasons, ["length"])
        self.assertEqual(daemon.process.wait(support.TIMEOUT), 0)
        self.leave(connection, file)

    def test_answers_that_take_too_long_end_with_an_error(self):
        daemon = self.begin("--drain", "1")
        connection, file = self.ask_long(daemon)
        other, whole = self.ask_long(daemon, stream=False)
        events = self.events_of(file)
        next(events)
        self.until(lambda: self.running(daemon) == 2)
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        got = list(events)
        self.assertIn("error", json.loads(got[-1] if got[-1] != "[DONE]" else got[-2]))
        status, _ = self.head(whole)
        self.assertEqual(status, 503)
        self.assertEqual(daemon.process.wait(support.TIMEOUT), 0)
        self.figure("with --drain 1 it ends after", time.monotonic() - began, "s", 4)
        daemon.wait_line("ending: nothing new is taken; for 1 s at most there go on: 2 requests$")
        daemon.wait_line("ended unfinished: 2 requests$")
        self.leave(connection, file)
        self.leave(other, whole)

    def test_a_second_signal_ends_it_within_two_seconds(self):
        self.best_figure("after the second signal it ends in", self.second_signal, "s", 2)

    def second_signal(self):
        daemon = self.begin()
        connection, file = self.ask_long(daemon)
        next(self.events_of(file))
        daemon.process.send_signal(signal.SIGTERM)
        self.until(lambda: daemon.ask("GET", "/ready").status == 503)  # two signals that wait are one
        self.assertIsNone(daemon.process.poll())
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.wait(support.TIMEOUT)
        seconds = time.monotonic() - began
        self.leave(connection, file)
        return seconds

    def test_the_log_tells_of_a_time_to_end_only_where_there_is_one(self):
        daemon = self.begin()
        connection, file = self.ask_long(daemon)
        next(self.events_of(file))
        self.assertEqual(daemon.ask("POST", "/ui-api/drain", {"now": True}).status, 200)
        daemon.process.wait(support.TIMEOUT)
        daemon.wait_line(r"ended unfinished: \d request")
        self.assertFalse([line for line in daemon.lines if line and "s at most" in line], daemon.lines)
        self.leave(connection, file)
        daemon = self.begin()  # nor where nothing waits
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse([line for line in daemon.lines if line and "s at most" in line], daemon.lines)

    def test_what_is_in_the_cache_survives_the_end(self):
        folder = os.path.join(self.home, "kv")
        prompt = "The quick brown fox jumps over the lazy dog. " * 40
        for run in range(2):
            daemon = self.begin("--kv-dir", folder)
            answer = daemon.ask("POST", "/v1/completions", {"model": NAME, "prompt": prompt, "max_tokens": 4})
            self.assertEqual(answer.status, 200, answer)
            cached = answer.json["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)
            self.assertEqual(cached > 300, run == 1, answer.json["usage"])
            self.assertEqual(daemon.stop(), 0)

    def test_beyond_the_queue_the_answer_is_429_at_once(self):
        daemon = self.begin("--parallel", "1", "--queue", "4")
        clients = [self.ask_long(daemon)]
        next(self.events_of(clients[0][1]))  # before the others ask: any of those who ask at once may be the first
        clients += [self.ask_long(daemon) for _ in range(4)]

        def slowest_refusal():
            times = []
            while len(times) < 40:
                began = time.perf_counter()
                connection, file = self.ask_long(daemon)
                status, headers = self.head(file)
                if status == 200:  # it waits: one of the first had not been counted yet
                    clients.append((connection, file))
                    self.assertLess(len(clients), 12)
                    continue
                times.append((time.perf_counter() - began) * 1e3)
                answer = json.loads(file.read(int(headers["content-length"])))
                self.assertEqual(status, 429, answer)
                self.assertIn(int(headers["retry-after"]), range(1, 31))
                self.assertEqual(answer["error"]["type"], "rate_limit_error")
                self.leave(connection, file)
            return max(times)

        self.best_figure("the slowest of 40 refusals while all lanes compute", slowest_refusal, "ms", 100)
        for connection, file in clients:
            self.leave(connection, file)
        began = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.figure("all left: it ends after", time.monotonic() - began, "s", 5)

    def test_readers_that_do_not_read_do_not_hold_up_others(self):
        daemon = self.begin("--parallel", "8")
        lazy = [self.ask_long(daemon, 400 // support.SLOW) for _ in range(4)]
        results = []

        def read():
            connection, file = self.ask_long(daemon, 100 // support.SLOW)
            results.append(list(self.events_of(file))[-1])
            self.leave(connection, file)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(support.TIMEOUT)
        self.assertEqual(results, ["[DONE]"] * 4)
        for connection, file in lazy:
            self.assertEqual(list(self.events_of(file))[-1], "[DONE]")
            self.leave(connection, file)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    support.main()
