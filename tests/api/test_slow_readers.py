"""Clients that ask for much and read little: their answers wait, others do not, and memory does not grow.

Tiny models, standard library only, so that it runs under sanitizers, too.
"""
import os
import re
import threading
import time

import load_client
import support
import ui_support

CHOICES = 8
# 1 MiB of events: 200 tokens of eight choices, each with twenty alternatives.
LARGE = {"model": "qwen2", "prompt": "An answer that is not read.", "max_tokens": 200, "temperature": 0, "n": CHOICES,
         "logprobs": 20, "stream": True}  # fmt: skip
RECEIVE_BYTES = 4096
FAST = 240 // support.SLOW
FAST_S = 10  # of the 30 s that a slow reader has; on a machine that is slow or busy there are fewer answers in it


def small(i):
    return {"model": "qwen2", "prompt": f"Question {i % 12}.", "max_tokens": 60, "temperature": 0, "stream": True}


class SlowReaders(support.ApiTest):
    def start(self, *arguments):
        model = os.path.join(support.tiny_models(), "qwen2.gguf")
        return self.serve("--model", model, "--threads", "1", "--batch-invariant", *arguments)

    @staticmethod
    def metrics(daemon):
        text = daemon.ask("GET", "/metrics").body.decode()
        found = {}
        for name, labels, value in re.findall(r"^mlxr_(\w+)(?:{([^}]*)})? ([0-9.e+-]+)$", text, re.M):
            found[name + (":" + re.search(r'="([^"]*)"', labels).group(1) if labels else "")] = float(value)
        return found

    def wait_for(self, daemon, **wanted):
        """Until the metrics are so."""
        end = time.monotonic() + support.TIMEOUT
        while True:
            now = self.metrics(daemon)
            if all(now[name.replace("__", ":")] == value for name, value in wanted.items()):
                return
            self.assertLess(time.monotonic(), end, (wanted, {n: now[n.replace("__", ":")] for n in wanted}))
            time.sleep(0.05)

    def fast_answers(self, daemon, n, together=6):
        """Of n clients that read, or fewer where these take long, but 24 at least; how many there were."""
        found, n_asked, began = {}, 0, time.monotonic()
        crowd = load_client.Crowd(daemon)

        def asks():
            nonlocal n_asked
            while n_asked < n and (n_asked < 24 or time.monotonic() - began < FAST_S):
                yield n_asked, small(n_asked)
                n_asked += 1

        def on_answer(stream, answer):
            self.assertEqual(answer.status, 200, answer)
            found.setdefault(stream.key % 12, set()).update(load_client.texts(answer))

        crowd.run(asks(), together, on_answer)
        for texts in found.values():
            self.assertEqual(len(texts), 1)
        return found, n_asked

    def stall(self, daemon, n=1):
        """Clients that have asked for much and read the beginning only, until each waits for its reader."""
        slow = [load_client.Stream(daemon, "/v1/completions", LARGE, receive_bytes=RECEIVE_BYTES) for _ in range(n)]
        for stream in slow:
            stream.read(100)
        self.wait_for(daemon, num_requests_stalled=CHOICES * n)
        return slow

    def test_an_answer_waits_for_its_reader_while_others_go_on(self):
        daemon = self.start()
        whole = load_client.texts(load_client.Stream(daemon, "/v1/completions", LARGE).read_all())
        self.assertEqual([reason for _, reason in whole], ["length"] * CHOICES)
        expected, _ = self.fast_answers(daemon, 12)
        slow = self.stall(daemon, 3)
        before, rss = self.metrics(daemon), daemon.rss_bytes()
        time.sleep(1)
        now = self.metrics(daemon)
        self.assertEqual(now["engine_steps_total"], before["engine_steps_total"], "nobody reads, nothing is computed")
        self.assertEqual(now["generation_tokens_total:qwen2"], before["generation_tokens_total:qwen2"])
        found, n_answers = self.fast_answers(daemon, FAST)
        self.assertEqual({k: v for k, v in expected.items() if k in found}, found)
        after = self.metrics(daemon)
        self.assertEqual(after["num_requests_stalled"], 3 * CHOICES)
        self.assertEqual(after["generation_tokens_total:qwen2"] - now["generation_tokens_total:qwen2"], n_answers * 60)
        self.assertEqual(after["num_preemptions_total"], 0)
        grown = (daemon.rss_bytes() - rss) / 2**20
        print(f"24 choices wait for their readers: memory grew by {grown:.1f} MiB while {n_answers} answers were given")
        if support.SLOW == 1:  # sanitizers keep what was freed
            self.assertLess(grown, 8)
        for stream in slow:
            self.assertEqual(load_client.texts(stream.read_all()), whole)
        self.wait_for(daemon, num_requests_stalled=0, num_requests_running=0, kv_cache_bytes__running=0)
        self.assertEqual(daemon.stop(), 0)

    def test_whoever_waits_for_a_reader_gives_its_memory_to_others(self):
        """A budget for the slow one and little else."""
        daemon = self.start("--kv-bytes", "1M")
        whole = load_client.texts(load_client.Stream(daemon, "/v1/completions", LARGE).read_all())
        expected, _ = self.fast_answers(daemon, 24)
        slow = self.stall(daemon, 2)
        found, _ = self.fast_answers(daemon, 96 // support.SLOW)
        self.assertEqual({k: v for k, v in expected.items() if k in found}, found)
        now = self.metrics(daemon)
        self.assertGreater(now["num_preemptions_total"], 0)
        self.assertEqual(now["num_requests_stalled"], 2 * CHOICES)
        slow[1].close()
        self.wait_for(daemon, num_requests_stalled=CHOICES)
        self.assertEqual(load_client.texts(slow[0].read_all()), whole)
        self.wait_for(daemon, num_requests_stalled=0, num_requests_running=0, kv_cache_bytes__running=0)
        self.assertEqual(daemon.stop(), 0)

    def test_who_does_not_read_takes_no_lane_and_no_place_from_others(self):
        """As many as there are lanes: the others are answered, and whoever reads again goes on where he was."""
        daemon = self.start("--parallel", str(CHOICES), "--queue", "4")
        whole = load_client.texts(load_client.Stream(daemon, "/v1/completions", LARGE).read_all())
        expected, _ = self.fast_answers(daemon, 12)
        slow = self.stall(daemon)[0]
        found, _ = self.fast_answers(daemon, FAST)
        self.assertEqual({k: v for k, v in expected.items() if k in found}, found)
        self.assertEqual(self.metrics(daemon)["num_requests_stalled"], CHOICES)
        self.assertEqual(load_client.texts(slow.read_all()), whole)
        self.assertEqual(daemon.stop(), 0)
        # requests that are not read do not count among those that may wait either
        daemon = self.serve("--model", ui_support.long_model(), "--threads", "1", "--parallel", "2", "--queue", "1")
        long = {**LARGE, "max_tokens": 2500, "n": 1}
        slow = [load_client.Stream(daemon, "/v1/completions", long, receive_bytes=RECEIVE_BYTES) for _ in range(2)]
        [stream.read(100) for stream in slow]
        self.wait_for(daemon, num_requests_stalled=2)
        found, _ = self.fast_answers(daemon, FAST // 4, 3)
        self.assertEqual(len(found), 12 if support.SLOW == 1 else len(found))
        self.assertEqual(self.metrics(daemon)["num_requests_stalled"], 2)
        texts = []
        readers = [threading.Thread(target=lambda s=s: texts.append(load_client.texts(s.read_all()))) for s in slow]
        [reader.start() for reader in readers]
        [reader.join() for reader in readers]
        self.assertEqual(len(texts), 2)
        self.assertEqual(texts[0], texts[1])
        self.wait_for(daemon, num_requests_stalled=0, num_requests_running=0, kv_cache_bytes__running=0)
        self.assertEqual(daemon.stop(), 0)

    def test_who_reads_nothing_for_30_seconds_is_dropped(self):
        daemon = self.start()
        slow = self.stall(daemon)
        began = time.monotonic()
        self.wait_for(daemon, num_requests_stalled=0)
        seconds = time.monotonic() - began
        print(f"who did not read was dropped after {seconds:.1f} s")
        self.assertGreater(seconds, 25)
        self.wait_for(daemon, num_requests_stalled=0, num_requests_running=0, kv_cache_bytes__running=0)
        try:
            while slow[0].read():
                pass
        except ConnectionResetError:
            pass
        self.assertFalse(b"".join(slow[0].data).endswith(b"0\r\n\r\n"), "it was told an end that was none")
        slow[0].close()
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    support.main()
