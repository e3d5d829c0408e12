"""Every metric of the table, as Prometheus's own checker and a strict reader see it."""
import os
import shutil
import subprocess
import unittest

from prometheus import Scrape

WRITER = os.environ["MLXR_WRITE_METRICS"]
# vLLM's names that its dashboards ask for, with their kinds.
VLLM = {
    "num_requests_running": "gauge", "num_requests_waiting": "gauge", "kv_cache_usage_perc": "gauge",
    "prefix_cache_queries_total": "counter", "prefix_cache_hits_total": "counter", "num_preemptions_total": "counter",
    "prompt_tokens_total": "counter", "prompt_tokens_cached_total": "counter", "generation_tokens_total": "counter",
    "request_success_total": "counter", "request_prompt_tokens": "histogram",
    "request_generation_tokens": "histogram", "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram", "request_time_per_output_token_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram", "request_queue_time_seconds": "histogram",
    "request_inference_time_seconds": "histogram", "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram", "spec_decode_num_drafts_total": "counter",
    "spec_decode_num_draft_tokens_total": "counter", "spec_decode_num_accepted_tokens_total": "counter",
    "spec_decode_num_accepted_tokens_per_pos_total": "counter",
}  # fmt: skip


def write(*arguments):
    return subprocess.run([WRITER, *arguments], check=True, stdout=subprocess.PIPE).stdout.decode("utf-8")


class Prometheus(unittest.TestCase):
    def test_promtool_finds_nothing_to_say(self):
        self.assertIsNotNone(shutil.which("promtool"), "promtool is missing: tools/setup test installs it")
        done = subprocess.run(["promtool", "check", "metrics"], input=write().encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, ""))

    def test_a_strict_reader_takes_every_line(self):
        scrape = Scrape(write())
        self.assertEqual(set(scrape.types), set(scrape.helps))
        self.assertTrue(all(name.startswith("mlxr_") for name in scrape.types))

    def test_vllm_names_mean_what_they_mean_there(self):
        types = Scrape(write()).types
        self.assertEqual({name: types.get("mlxr_" + name) for name in VLLM}, VLLM)

    def test_between_two_scrapes_no_counter_falls(self):
        first, second = (Scrape(text) for text in write("twice").split("\f"))
        self.assertEqual(set(first.samples), set(second.samples))
        for key, value in first.samples.items():
            name = key[0]
            if first.types.get(name) == "counter" or name.endswith(("_bucket", "_count", "_sum")):
                self.assertGreaterEqual(second.samples[key], value, key)
            if first.types.get(name) == "counter":
                self.assertGreater(second.samples[key], value, key)


if __name__ == "__main__":
    unittest.main()
