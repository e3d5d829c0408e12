"""Quotas of keys, at their edges: what counts, what does not, and what a restart forgets.

Tiny models, standard library only.
"""
import os
import signal
import sqlite3
import time
from contextlib import closing

import load_client
import support


class Quotas(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.admin, _ = self.key("an admin's", "--scopes", "admin")  # so that keys are asked for
        self.model = os.path.join(support.tiny_models(), "qwen2.gguf")

    def start(self, *arguments):
        return self.serve("--model", self.model, "--threads", "1", *arguments)

    @staticmethod
    def ask(daemon, key, n_tokens=1, path="/v1/completions", **fields):
        body = {"model": "qwen2", "prompt": "x", "max_tokens": n_tokens, "temperature": 0, "logit_bias": {"0": 0}, **fields}
        if path == "/v1/embeddings":
            body = {"model": "qwen2", **fields}
        return daemon.ask("POST", path, body, [("Authorization", f"Bearer {key}")])

    def refused(self, answer, least=1, most=86400):
        self.assertEqual(answer.status, 429, answer)
        self.assertIn(int(answer.headers["retry-after"]), range(least, most + 1))

    def test_requests_a_minute_are_counted_for_each_key_and_refusals_are_not(self):
        key, _ = self.key("three", "--requests-per-minute", "3")
        other, _ = self.key("another", "--requests-per-minute", "3")
        daemon = self.start()
        for _ in range(10):  # what is public costs nothing
            self.assertEqual(daemon.ask("GET", "/health", headers=[("X-Api-Key", key)]).status, 200)
        began, answers = time.monotonic(), []
        for _ in range(12):  # what is refused does not count, or nobody would ever be let in again
            answers.append((self.ask(daemon, key), time.monotonic() - began))
        n_taken, n_refused = sum(a.status == 200 for a, _ in answers), 0
        self.assertIn(n_taken, range(3, 4 + int(answers[-1][1] / 20)))  # one more every 20 s
        for answer, _ in answers:
            if answer.status != 200:
                self.refused(answer, 1, 21)
                n_refused += 1
        self.assertEqual(n_taken + n_refused, 12)
        self.assertEqual(self.ask(daemon, other).status, 200)
        self.assertEqual(daemon.ask("GET", "/health", headers=[("X-Api-Key", key)]).status, 200)
        self.assertEqual(daemon.stop(), 0)

    def used(self, daemon, key, n_tokens, **fields):
        answer = self.ask(daemon, key, n_tokens, **fields)
        self.assertEqual(answer.status, 200, answer)
        return answer.json["usage"]["total_tokens"]

    def test_tokens_a_day_let_the_last_answer_end_and_then_wait_also_behind_a_restart(self):
        key, _ = self.key("few", "--tokens-per-day", "100")
        other, _ = self.key("as few", "--tokens-per-day", "100")
        daemon = self.start()
        self.assertLess(self.used(daemon, key, 40), 100)
        self.assertEqual(self.used(daemon, key, 120), 121)  # begun with a quota, it ends
        self.refused(self.ask(daemon, key), 3600)
        self.assertEqual(self.ask(daemon, other).status, 200)
        self.assertEqual(daemon.stop(), 0)
        daemon = self.start()
        self.refused(self.ask(daemon, key), 3600)
        self.assertEqual(self.ask(daemon, other).status, 200)
        self.assertEqual(daemon.stop(), 0)

    def test_what_was_counted_is_written_within_seconds_and_outlives_a_kill(self):
        key, _ = self.key("few", "--tokens-per-day", "100")
        other, _ = self.key("as few", "--tokens-per-day", "100")
        daemon = self.start()
        with closing(sqlite3.connect(os.path.join(self.models, ".mlxr", "registry.db"))) as store:
            def written():
                return store.execute("SELECT total(n_requests), total(prompt_tokens + answer_tokens) FROM usage").fetchone()

            self.assertEqual(self.used(daemon, key, 120), 121)
            self.until(lambda: written() == (1, 121))
            answer = self.ask(daemon, other, path="/v1/embeddings", input=["a" * 60, "b" * 80])
            n_tokens = answer.json["usage"]["total_tokens"]
            self.assertGreater(n_tokens, 100)
            self.until(lambda: written() == (2, 121 + n_tokens))
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        daemon = self.start()
        self.refused(self.ask(daemon, key), 3600)
        self.refused(self.ask(daemon, other), 3600)
        self.assertEqual(daemon.stop(), 0)

    def test_embeddings_and_every_choice_use_tokens(self):
        key, _ = self.key("embeds", "--tokens-per-day", "150")
        daemon = self.start()
        answer = self.ask(daemon, key, path="/v1/embeddings", input=["a" * 60, "b" * 80])
        self.assertEqual(answer.status, 200, answer)
        self.assertGreaterEqual(answer.json["usage"]["total_tokens"], 100)
        self.used(daemon, key, 20, n=3)
        self.refused(self.ask(daemon, key), 60)
        self.refused(self.ask(daemon, key, path="/v1/embeddings", input="a"), 60)
        self.assertEqual(daemon.stop(), 0)

    def test_who_leaves_early_has_used_what_was_computed(self):
        key, _ = self.key("leaves", "--tokens-per-day", "30")  # the prompt has 27
        daemon = self.start()
        body = {"model": "qwen2", "prompt": "An answer that is not read.", "max_tokens": 200, "temperature": 0, "n": 8,
                "logprobs": 20, "stream": True}  # fmt: skip
        stream = load_client.Stream(daemon, "/v1/completions", body, receive_bytes=4096, headers=[("X-Api-Key", key)])
        while sum(map(len, stream.data)) < 30000:  # a dozen tokens
            self.assertTrue(stream.read())
        stream.close()
        self.until(lambda: daemon.ask("GET", "/ui-api/status", headers=[("X-Api-Key", self.admin)]).json["streams"]["answers"] == 0)
        self.refused(self.ask(daemon, key), 60)
        self.assertEqual(daemon.stop(), 0)

    def test_a_request_that_is_wrong_uses_no_tokens(self):
        key, _ = self.key("wrong", "--tokens-per-day", "10")
        daemon = self.start()
        for _ in range(20):
            self.assertEqual(self.ask(daemon, key, no_such_field=1).status, 400)
            self.assertEqual(self.ask(daemon, key, prompt="x" * 1000).status, 400)
        self.assertEqual(self.ask(daemon, key).status, 200)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    support.main()
