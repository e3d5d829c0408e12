"""Nobody gets another's tokens: clients with markers, shared beginnings, departures, a KV cache that is too small.

Every answer is compared byte by byte with the same request alone. In `make test` 400 answers and 600 requests of chaos;
with MLXR_SOAK 5,000 and 10,000. Standard library only, so that it runs under sanitizers, too.
"""
import json
import os
import random
import re
import shutil
import tempfile
import threading
import time

import support

SOAK = "MLXR_SOAK" in os.environ
ANSWERS = 5000 if SOAK else 400
CHAOS = 10000 if SOAK else 600
CLIENTS = 32


def question(i):
    """Some begin alike, each has a marker of its own."""
    shared = "The tests of isolation begin in one of a few ways. " if i % 3 else f"Beginning number {i % 7}. "
    return shared + f"marker-{i * 7919 % 100003:06d}"


class Isolation(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.kv = tempfile.mkdtemp(prefix="mlxr-kv-")
        self.addCleanup(shutil.rmtree, self.kv, True)
        self.model = os.path.join(support.tiny_models(), "qwen2.gguf")

    def start(self, *arguments):
        return self.serve("--model", self.model, "--threads", "1", "--batch-invariant", *arguments)

    @staticmethod
    def body(i, stream=False, n=1):
        return {"model": "qwen2", "messages": [{"role": "user", "content": question(i)}], "max_tokens": 8 + i % 17,
                "temperature": 0, "stream": stream, "n": n, "user": f"client-{i % CLIENTS}"}  # fmt: skip

    @staticmethod
    def texts(answer):
        """The texts of an answer by choice, whole or streamed; every stream must end properly, once."""
        if answer.headers["content-type"].startswith("application/json"):
            return [c["message"]["content"] for c in answer.json["choices"]]
        events = [e[6:] for e in answer.body.decode().split("\n\n") if e]
        assert events[-1] == "[DONE]", events[-1]
        texts, reasons = {}, {}
        for event in map(json.loads, events[:-1]):
            for c in event["choices"]:
                texts[c["index"]] = texts.get(c["index"], "") + (c["delta"].get("content") or "")
                if c["finish_reason"]:
                    assert c["index"] not in reasons, "two finish reasons"
                    reasons[c["index"]] = c["finish_reason"]
        assert set(texts) == set(reasons), (texts, reasons)
        return [texts[i] for i in sorted(texts)]

    def leave(self, daemon, i, chance):
        """Asks for a stream and leaves somewhere in the middle."""
        data = json.dumps(self.body(i, stream=True, n=1 + i % 3)).encode()
        with daemon.connect() as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(data) + data)  # fmt: skip
            wanted = int(chance * 3000)
            connection.settimeout(support.TIMEOUT)
            while wanted > 0:
                got = len(connection.recv(min(wanted, 512)))
                if not got:
                    return
                wanted -= got

    def at_rest(self, daemon):
        """Nothing runs: nobody holds a page any more, all of the budget can be had, and no request, choice or lease is left. What
        the daemon counted."""
        self.until_idle(daemon)
        # What is told of pages is up to a second old; behind this one everything that was read is in it.
        before = self.metric(daemon, "prefix_cache_queries_total")
        self.assertEqual(daemon.ask("POST", "/v1/chat/completions", self.body(0)).status, 200)
        self.until(lambda: self.metric(daemon, "prefix_cache_queries_total") > before)
        end = time.monotonic() + support.TIMEOUT
        while True:
            text = daemon.ask("GET", "/metrics").body.decode()

            def value(name, label=""):
                found = re.findall(rf"^mlxr_{name}{{?[^}}\n]*{label}[^}}\n]*}}? ([0-9.e+-]+)$", text, re.M)
                assert found, (name, label)
                return sum(map(float, found))

            held = {name: value(f"num_requests_{name}") for name in ("running", "waiting", "paused", "stalled")}
            held["pages"], held["leases"] = value("kv_cache_bytes", "running"), value("model_uses") - 1  # that of --model
            if not any(held.values()):
                break
            self.assertLess(time.monotonic(), end, held)
            time.sleep(0.05)
        all_bytes = value("kv_cache_bytes", "free") + value("kv_cache_bytes", "cached")
        self.assertEqual(all_bytes, value("kv_cache_bytes"))
        return {"preemptions": value("num_preemptions_total"), "evicted": value("kv_cache_evicted_bytes_total"),
                "disk_hits": value("kv_disk_blocks_total", "\"hit\""), "budget": all_bytes}  # fmt: skip

    def run_clients(self, work, n):
        problems, next_one, lock = [], iter(range(n)), threading.Lock()

        def client():
            while not problems:
                with lock:
                    i = next(next_one, None)
                if i is None:
                    return
                try:
                    work(i)
                except Exception as problem:  # pylint: disable=broad-except
                    problems.append((i, repr(problem)))

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(problems, [])

    def test_answers_among_others_are_those_alone(self):
        n_questions = 60
        alone = []
        daemon = self.start()
        for i in range(n_questions):
            alone.append(self.texts(daemon.ask("POST", "/v1/chat/completions", self.body(i)))[0])
        self.assertEqual(daemon.stop(), 0)
        # Room for a few conversations only: pages are evicted, written and read again, sequences pre-empted.
        daemon = self.start("--kv-bytes", "96K", "--kv-dir", self.kv)

        def work(i):
            chance = random.Random(i).random()
            if i % 5 == 4:  # one of five leaves, the others are compared
                self.leave(daemon, i % n_questions, chance)
                return
            answer = daemon.ask("POST", "/v1/chat/completions", self.body(i % n_questions, stream=chance < 0.5, n=1))
            assert answer.status == 200, answer
            text = self.texts(answer)[0]
            assert text == alone[i % n_questions], (i, text, alone[i % n_questions])
            foreign = set(re.findall(r"marker-\d{6}", text)) - set(re.findall(r"marker-\d{6}", question(i % n_questions)))
            assert not foreign, (i, foreign)

        n_asked = ANSWERS * 5 // 4
        self.run_clients(work, n_asked)
        found = self.at_rest(daemon)
        print(f"{ANSWERS} answers of {CLIENTS} clients as alone, {n_asked - ANSWERS} more left early; {found['preemptions']:.0f} "
              f"pre-empted, {found['evicted'] / 2**20:.0f} MiB evicted, {found['disk_hits']:.0f} blocks read from disk")  # fmt: skip
        self.assertGreater(found["evicted"], 0)
        self.assertGreater(found["disk_hits"], 0)
        self.assertTrue(found["preemptions"] > 0 or not SOAK)
        self.assertEqual(daemon.stop(), 0)

    def test_departures_leave_nothing_behind(self):
        daemon = self.start("--kv-bytes", "4M")

        def work(i):
            chance = random.Random(i).random()
            if chance < 0.3:
                self.leave(daemon, i, random.Random(-i).random())
            else:
                answer = daemon.ask("POST", "/v1/chat/completions", self.body(i, stream=chance < 0.7, n=1 + i % 2))
                assert answer.status in (200, 429), answer
                assert answer.status == 429 or len(self.texts(answer)) == 1 + i % 2

        self.run_clients(work, 200)
        before = daemon.rss_bytes()
        self.run_clients(work, CHAOS)
        self.at_rest(daemon)
        grown = (daemon.rss_bytes() - before) / 2**20
        print(f"{CHAOS} requests, 30 % left early: memory grew by {grown:.1f} MiB")
        if support.SLOW == 1:  # sanitizers keep what was freed
            self.assertLess(grown, 8)
        self.assertEqual(self.texts(daemon.ask("POST", "/v1/chat/completions", self.body(1))),
                         self.texts(daemon.ask("POST", "/v1/chat/completions", self.body(1))))  # fmt: skip
        began = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - began, 10 * support.SLOW, "nothing was running any more")
        self.assertFalse([line for line in daemon.lines if line and "there go on" in line], "nothing was running any more")


if __name__ == "__main__":
    support.main()
