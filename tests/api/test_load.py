"""Many streams at once, more than there can be, and what the daemon costs besides the engine.

The first runs a tiny model and checks every byte, for 60 s, with MLXR_SOAK for ten minutes. The others measure, with SmolLM2
(without it they are skipped); other programs on the machine spoil what they find, so nothing runs beside them.
"""
import os
import random
import re
import statistics
import time
import unittest

import load_client
import support

SOAK = "MLXR_SOAK" in os.environ
STREAMS = 256
SECONDS = 600 if SOAK else 60
MODEL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
NAME = "SmolLM2-135M-Instruct.Q4_1"
needs_model = unittest.skipUnless(os.path.exists(MODEL), "SmolLM2 is not in the model directory")
needs_speed = unittest.skipUnless(support.SLOW == 1, "sanitizers change what it costs")


def metric(daemon, name):
    found = re.findall(rf"^mlxr_{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", daemon.ask("GET", "/metrics").body.decode(), re.M)
    assert found, name
    return sum(map(float, found))


def cpu_seconds(daemon):
    """Of the process: user and system."""
    with open(f"/proc/{daemon.process.pid}/stat", encoding="ascii") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


class Streams(support.ApiTest):
    @staticmethod
    def body(i, stream):
        return {"model": "qwen2", "prompt": ("A beginning that many share. " if i % 3 else "") + f"Number {i}.", "stream": stream,
                "max_tokens": 20 + i % 90, "temperature": 0, "logit_bias": {"0": 0} if i % 5 else {}}  # fmt: skip

    def test_256_streams_at_once_lose_nothing_and_memory_stays_flat(self):
        """Each stream has the bytes of the same answer given whole and alone: nothing lost, nothing twice."""
        model = os.path.join(support.tiny_models(), "qwen2.gguf")
        daemon = self.serve("--model", model, "--threads", "1", "--batch-invariant", "--kv-bytes", "32M")
        expected = [load_client.texts(daemon.ask("POST", "/v1/completions", self.body(i, False))) for i in range(STREAMS)]
        began, counts, rss = time.monotonic(), [0] * STREAMS, []
        crowd = load_client.Crowd(daemon)
        n_open_most = 0

        def on_answer(stream, answer):
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(load_client.texts(answer), expected[stream.key])
            counts[stream.key] += 1
            if time.monotonic() - began < SECONDS:
                crowd.start(self.body(stream.key, True), stream.key)

        for i in range(STREAMS):
            crowd.start(self.body(i, True), i)
        next_look = began + SECONDS / 60
        while crowd.open:
            crowd.poll(1, on_answer)
            if time.monotonic() >= next_look:
                next_look += SECONDS / 60
                rss.append(daemon.rss_bytes() / 2**20)
                n_open_most = max(n_open_most, metric(daemon, "num_requests_running"))
        n = len(rss) // 3
        early, late = statistics.median(rss[n : 2 * n]), statistics.median(rss[2 * n :])
        print(f"{STREAMS} streams at once for {SECONDS} s: {sum(counts)} streams, at least {min(counts)} of each, all as alone; "
              f"{n_open_most:.0f} running at once; memory {early:.1f} MiB in the second third, {late:.1f} in the last")  # fmt: skip
        self.assertGreater(min(counts), 0)
        if support.SLOW == 1:  # sanitizers keep what was freed
            self.assertLess(late - early, 4)
        self.assertEqual(metric(daemon, "num_requests_running") + metric(daemon, "num_requests_waiting"), 0)
        self.assertEqual(daemon.stop(), 0)

    def test_a_burst_that_there_are_lanes_for_is_not_refused(self):
        """However many come while one step runs: 429 is for more than lanes and queue together."""
        model = os.path.join(support.tiny_models(), "qwen2.gguf")
        daemon = self.serve("--model", model, "--threads", "1", "--parallel", "64", "--queue", "4")
        for _ in range(5):
            crowd, statuses = load_client.Crowd(daemon), []
            for i in range(64):
                crowd.start(self.body(i, True))
            while crowd.open:
                crowd.poll(1, lambda _, answer: statuses.append(answer.status))
            self.assertEqual(statuses, [200] * 64)
        self.assertEqual(daemon.stop(), 0)


@needs_model
@needs_speed
class Costs(support.ApiTest):
    def begin(self, *arguments):
        return self.serve("--model", MODEL, "--kv-bytes", "1G", *arguments)

    @staticmethod
    def body(i, n_tokens):
        return {"model": NAME, "prompt": f"{i}. Tell me everything.", "max_tokens": n_tokens, "stream": True,
                "temperature": 1.0, "seed": i + 1, "logit_bias": {"0": -100, "2": -100}}  # fmt: skip

    def test_all_but_the_engine_takes_at_most_5_percent_of_the_processor_at_64_streams(self):
        """With one thread the engine's CPU time is that of steps, and everything else is what it does not take."""
        daemon = self.begin("--threads", "1", "--parallel", "64")
        crowd, ended = load_client.Crowd(daemon), []
        for i in range(64):
            crowd.start(self.body(i, 1900), i)
        until = time.monotonic() + support.TIMEOUT
        while metric(daemon, "num_requests_running") < 64 or metric(daemon, "generation_tokens_total") < 64:
            self.assertLess(time.monotonic(), until)
            crowd.poll(0.1, lambda *_: None)
        before = cpu_seconds(daemon), metric(daemon, "engine_step_cpu_seconds_total"), metric(daemon, "generation_tokens_total")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            crowd.poll(0.5, lambda stream, answer: ended.append(answer))
        after = cpu_seconds(daemon), metric(daemon, "engine_step_cpu_seconds_total"), metric(daemon, "generation_tokens_total")
        self.assertEqual(ended, [])
        total, engine, n_tokens = (b - a for a, b in zip(before, after))
        print(f"64 streams, {n_tokens:.0f} tokens in 20 s: {(total - engine) / n_tokens * 1e6:.0f} us a token outside of the engine")
        self.figure("of the processor's time outside of the engine", 100 * (total - engine) / total, "%", 5)
        for stream in list(crowd.open):
            crowd.leave(stream)
        self.assertEqual(daemon.stop(), 0)

    def goodput(self, daemon, n_tokens, seconds, at_once=None, rate=None):
        """Tokens of complete answers a second: of `at_once` clients that ask again and again, or of `rate` requests a second
        that come whatever happens. And the milliseconds that refusals took.

        An answer counts for the part of its time that lies in the `seconds` behind three to warm up: answers that begin
        together end together, sixteen at once, and how many such ends fall in so few seconds says little of the rate."""
        crowd, done, refusals = load_client.Crowd(daemon), [], []
        began, number = time.monotonic(), 0
        warm, end = began + 3, began + 3 + seconds

        def on_answer(stream, answer):
            nonlocal number
            if answer.status == 200:
                self.assertEqual(load_client.texts(answer)[0][1], "length")
                ended = stream.began + stream.seconds
                inside = max(0, min(ended, end) - max(stream.first, warm))
                done.append(n_tokens * inside / (ended - stream.first))
            else:
                self.assertEqual(answer.status, 429, answer)
                self.assertGreater(int(answer.headers["retry-after"]), 0)
                refusals.append((stream.first - stream.began) * 1e3)
            if at_once and time.monotonic() < end:
                number += 1
                crowd.start(self.body(number, n_tokens))

        for _ in range(at_once or 0):
            number += 1
            crowd.start(self.body(number, n_tokens))
        next_one, chance = began, random.Random(1)
        while time.monotonic() < end:
            while rate and time.monotonic() >= next_one:
                number += 1
                crowd.start(self.body(number, n_tokens))
                next_one += chance.expovariate(rate)
            crowd.poll(max(0, min(0.05, next_one - time.monotonic())) if rate else 0.05, on_answer)
        for stream in [s for s in crowd.open if not s.first]:
            crowd.leave(stream)
        until = time.monotonic() + support.TIMEOUT
        while crowd.open:  # what had begun by the end is complete only later
            self.assertLess(time.monotonic(), until)
            crowd.poll(0.05, on_answer)
        return sum(done) / seconds, refusals

    def test_ten_times_more_than_it_can_do_keeps_goodput_and_refuses_at_once(self):
        daemon, shares, refusals = self.begin("--parallel", "16", "--queue", "16"), [], []
        for _ in range(3):  # in turn, and the median: what else the machine does meets both
            most, refused = self.goodput(daemon, 48, 7, at_once=16)
            self.assertEqual(refused, [])
            time.sleep(0.5)
            under_load, more = self.goodput(daemon, 48, 9, rate=10 * most / 48)
            self.assertGreater(len(more), 50)
            refusals += more
            shares.append(under_load / most)
            print(f"saturated: {most:.0f} tokens/s; at ten times that: {under_load:.0f}, {100 * shares[-1]:.0f} %; "
                  f"{len(more)} refusals")  # fmt: skip
            time.sleep(0.5)
        self.figure("a refusal at p99 under ten times the load", sorted(refusals)[int(len(refusals) * 0.99)], "ms", 100)
        self.assertGreaterEqual(statistics.median(shares), 0.8)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    support.main()
