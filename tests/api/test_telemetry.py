"""What the daemon tells about itself: /metrics, the log and its tail, profiles."""
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import support

sys.path.append(os.path.join(support.ROOT, "tests", "telemetry"))
from prometheus import Scrape  # noqa: E402


def scrape(daemon, **options):
    answer = daemon.ask("GET", "/metrics", **options)
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", answer
    return Scrape(answer.body.decode("utf-8"))


class Metrics(support.ApiTest):
    def test_two_scrapes_are_well_formed_and_no_counter_falls(self):
        model = self.add_model("llama")
        daemon = self.serve("--model", os.path.join(self.models, model + ".gguf"))
        first = scrape(daemon)
        for _ in range(3):
            self.assertEqual(daemon.ask("GET", "/health").status, 200)
        second = scrape(daemon)
        for key, value in first.samples.items():
            if first.types.get(key[0]) == "counter":
                self.assertGreaterEqual(second.samples.get(key, -1), value, key)
        health = {"method": "GET", "route": "/health", "status": "200"}
        grown = second.value("mlxr_http_requests_total", **health) - first.value("mlxr_http_requests_total", **health)
        self.assertEqual(grown, 3)
        self.assertEqual(second.value("mlxr_http_requests_total", route="/metrics"), 1)
        self.assertEqual(second.value("mlxr_http_request_duration_seconds_count", route="/health"),
                         second.value("mlxr_http_requests_total", route="/health"))  # fmt: skip
        self.assertEqual(second.value("mlxr_models_loaded"), 1)
        self.assertGreater(second.value("mlxr_model_weight_bytes", model_name=model), 1000)
        self.assertEqual(second.value("mlxr_model_uses", model_name=model), 1)
        self.assertGreater(second.value("mlxr_process_cpu_seconds_total"), 0)
        self.assertGreater(second.value("mlxr_process_resident_memory_bytes"), 1e6)
        self.assertAlmostEqual(second.value("mlxr_process_start_time_seconds"), time.time(), delta=120)

    def test_a_mixture_larger_than_the_budget_of_memory_is_loaded_and_its_experts_are_counted(self):
        path = os.path.join(self.models, "mixture.gguf")
        shape = "layers=4,width=256,ffn=512,heads=8,kv_heads=2,vocab=512,experts=32,used=2"
        subprocess.run([sys.executable, os.path.join(support.ROOT, "bench", "synth"), shape, "pure:Q4_0", path],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        body = {"model": "mixture", "prompt": "it was", "max_tokens": 40, "temperature": 1.5, "seed": 5}
        texts = []
        for memory in ("1G", "16M"):  # experts have 27 MiB
            daemon = self.serve("--memory", memory, "--model", path)
            self.assertEqual(daemon.ask("GET", "/ui-api/models/mixture?details=true").json["fit"]["fits"], "now")
            answer = daemon.ask("POST", "/v1/completions", body)
            self.assertEqual(answer.status, 200, answer)
            texts.append(answer.json["choices"][0]["text"])
            end = time.monotonic() + support.TIMEOUT  # what the engine's thread counts is up to a second old
            while (seen := scrape(daemon)).value("mlxr_prefix_cache_queries_total") < answer.json["usage"]["prompt_tokens"] or seen.value(
                    "mlxr_kv_cache_usage_perc") > 0:  # fmt: skip
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)
            of = {what: seen.value("mlxr_expert_bytes", what=what) for what in ("all", "budget", "hot", "locked")}
            uses = [seen.value("mlxr_expert_uses_total", outcome=outcome) for outcome in ("hit", "miss")]
            if memory == "1G":
                self.assertEqual((set(of.values()), uses), ({0}, [0, 0]))
            else:
                self.assertTrue(of["all"] > of["budget"] > 0 and of["hot"] > 0 and of["locked"] == 0, of)
                self.assertGreaterEqual(sum(uses), 39 * 4 * 2)
                self.assertGreater(min(uses), 0)
        self.assertEqual(*texts)
        streams, never = "by_streaming_experts", "never"
        for options, fits in (([], streams), (["--expert-bytes", "4M"], streams), (["--expert-bytes", "0"], never), (["--expert-bytes", "16M"], never)):
            daemon = self.serve("--memory", "16M", "--kv-bytes", "1M", *options)
            self.assertEqual(daemon.ask("GET", "/ui-api/models/mixture?details=true").json["fit"]["fits"], fits, options)
            self.assertEqual(daemon.ask("POST", "/v1/completions", body).status == 200, fits == streams, options)

    def test_promtool_finds_nothing_to_say(self):
        answer = self.serve().ask("GET", "/metrics")
        done = subprocess.run(["promtool", "check", "metrics"], input=answer.body, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)  # fmt: skip
        self.assertEqual((done.returncode, done.stdout), (0, b""))

    def test_a_completion_is_measured_and_its_line_tells_tokens_but_no_text(self):
        model = self.add_model("llama")
        daemon = self.serve("--model", os.path.join(self.models, model + ".gguf"))
        body = {"model": model, "prompt": "zqxkvjwpCANARY" * 10, "max_tokens": 5, "temperature": 0}
        for i in range(2):
            answer = daemon.ask("POST", "/v1/completions", body, headers=[("X-Request-Id", f"measured-{i}")])
            self.assertEqual(answer.status, 200, answer)
            usage = answer.json["usage"]
        found = scrape(daemon)
        mine = {"model_name": model}
        for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
                     "request_prefill_time_seconds", "request_decode_time_seconds", "request_inference_time_seconds",
                     "request_prompt_tokens", "request_generation_tokens"):  # fmt: skip
            self.assertEqual(found.value(f"mlxr_{name}_count", **mine), 2, name)
        generated = found.value("mlxr_generation_tokens_total", **mine)
        self.assertEqual(generated, found.value("mlxr_request_generation_tokens_sum", **mine))
        self.assertEqual(found.value("mlxr_prompt_tokens_total", **mine), 2 * usage["prompt_tokens"])
        self.assertEqual(found.value("mlxr_prompt_tokens_cached_total", **mine),
                         usage["prompt_tokens_details"]["cached_tokens"])  # fmt: skip
        self.assertEqual(found.value("mlxr_inter_token_latency_seconds_count", **mine), generated - 2)
        self.assertEqual(found.value("mlxr_request_success_total", **mine), 2)
        self.assertEqual(found.value("mlxr_prefix_cache_misses_total"), 2)
        self.assertGreaterEqual(found.value("mlxr_engine_steps_total"), 2)
        line = []

        def logged():
            lines[:] = daemon.ask("GET", "/ui-api/logs").json["lines"]
            line[:] = [line for line in lines if line.get("request") == "measured-1"]
            return line

        lines = []
        self.until(logged)
        self.assertEqual((line[0]["model"], line[0]["prompt_tokens"], line[0]["cached_tokens"], line[0]["route"]),
                         (model, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"],
                          "/v1/completions"))  # fmt: skip
        self.assertNotIn("CANARY", json.dumps(lines))
        # as old as the watchdog's last beat
        self.until(lambda: self.metric(daemon, "prefix_cache_queries_total") >= 2 * usage["prompt_tokens"])
        self.until(lambda: self.metric(daemon, "kv_cache_usage_perc") == 0)
        self.assertEqual(self.metric(daemon, "prefix_cache_queries_total"), 2 * usage["prompt_tokens"])

    def test_unknown_paths_and_methods_make_no_new_labels(self):
        daemon = self.serve()
        for i in range(30):
            self.assertIn(daemon.ask("GET", f"/nothing/{i}?token=CANARY").status, (404, 405))
            daemon.ask(f"M{i}", "/health")
        text = daemon.ask("GET", "/metrics").body.decode()
        self.assertNotIn("CANARY", text)
        found = Scrape(text)
        routes = {dict(labels)["route"] for name, labels in found.samples if name == "mlxr_http_requests_total"}
        self.assertLessEqual(routes, {"none", "/health", "/ready", "/metrics"})
        methods = {dict(labels)["method"] for name, labels in found.samples if name == "mlxr_http_requests_total"}
        self.assertLessEqual(methods, {"GET", "other"})

    def test_where_there_are_keys_a_scrape_needs_one(self):
        key, _ = self.key("--scopes", "read")
        other, _ = self.key("--scopes", "inference")
        daemon = self.serve()
        self.assertEqual(daemon.ask("GET", "/metrics").status, 401)
        self.assertEqual(daemon.ask("GET", "/metrics", headers=[("Authorization", f"Bearer {other}")]).status, 403)
        scrape(daemon, headers=[("Authorization", f"Bearer {key}")])


class Log(support.ApiTest):
    @staticmethod
    def read(path):
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read()

    def lines(self, daemon, query=""):
        answer = daemon.ask("GET", "/ui-api/logs" + query)
        self.assertEqual(answer.status, 200, answer)
        return answer.json

    def test_the_tail_goes_on_behind_the_last_number(self):
        daemon = self.serve()
        first = self.lines(daemon)
        self.assertTrue(any(line["message"] == "ready" and line["part"] == "server" for line in first["lines"]))
        self.assertEqual([line["seq"] for line in first["lines"]], list(range(1, first["next"] + 1)))
        daemon.ask("GET", "/nothing", headers=[("X-Request-Id", "mine-1")])
        then = {}

        def told():
            then.update(self.lines(daemon, f"?after={first['next']}"))
            return any(line.get("request") == "mine-1" for line in then["lines"])

        self.until(told)
        line = next(line for line in then["lines"] if line.get("request") == "mine-1")
        self.assertEqual((line["method"], line["route"], line["status"], line["part"]), ("GET", "none", 404, "http"))
        self.assertGreaterEqual(line["ms"], 0)
        self.assertEqual(then["lost"], 0)
        limited = self.lines(daemon, "?limit=1")
        self.assertEqual((len(limited["lines"]), limited["next"]), (1, 1))
        self.assertEqual(self.lines(daemon, "?level=error")["lines"], [])
        again = self.lines(daemon, "?after=999999999")  # a number from before a restart
        self.assertEqual(again["lines"][0]["seq"], 1)

    def test_questions_that_make_no_sense_are_refused(self):
        daemon = self.serve()
        for query in ("after=-1", "after=x", "after=" + "0" * 40, "limit=100000", "limit=%zz", "level=loud", "level=debug" + "+" * 20):
            answer = daemon.ask("GET", "/ui-api/logs?" + query)
            self.assertEqual(answer.status, 400, query)
            self.assertEqual(answer.json["error"]["param"], query.split("=")[0])

    def test_a_stream_shows_lines_as_they_come(self):
        daemon = self.serve()
        with daemon.connect() as connection:
            connection.sendall(b"GET /ui-api/logs?after=0 HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            file = connection.makefile("rb")
            self.assertIn(b" 200 ", file.readline())
            seen = []

            def wait_for(what):
                while True:
                    line = file.readline()
                    self.assertTrue(line, seen)
                    if line.startswith(b"data: "):
                        seen.append(json.loads(line[6:]))
                        if what(seen[-1]):
                            return

            wait_for(lambda line: line["message"] == "ready")
            daemon.ask("GET", "/nothing", headers=[("X-Request-Id", "streamed")])
            wait_for(lambda line: line.get("request") == "streamed")
            numbers = [line["seq"] for line in seen]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual(daemon.stop(), 0)

    def test_streams_that_come_and_go_leave_nothing(self):
        daemon = self.serve()
        for i in range(100):
            with daemon.connect() as connection:
                connection.sendall(b"GET /ui-api/logs HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
                if i % 2:
                    connection.recv(100)
        self.assertEqual(daemon.ask("GET", "/health").status, 200)
        self.assertEqual(daemon.stop(), 0)

    def test_a_file_gets_json_lines_and_is_rotated_beside_itself(self):
        path = os.path.join(self.home, "logs", "mlxr.log")
        os.mkdir(os.path.dirname(path))
        daemon = self.serve("--log-file", path, "--log-level", "debug", tcp=False, ready=False)
        self.until(lambda: '"message":"ready"' in self.read(path))
        self.assertEqual(daemon.stop(), 0)
        lines = [json.loads(line) for line in self.read(path).splitlines()]
        self.assertEqual([line["seq"] for line in lines], list(range(1, len(lines) + 1)))
        self.assertIn("engine", {line["part"] for line in lines})
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    def test_wrong_options_are_refused(self):
        self.fail_with(2, "loud", "serve", "--port", "0", "--log-level", "loud")
        self.fail_with(2, "there are json", "serve", "--port", "0", "--log-format", "xml")
        key, models = os.path.join(self.home, "key.pem"), os.path.join(self.home, "models")
        options = os.path.join(self.home, "serve.json")
        environment = {**self.environment(), "MLXR_MODELS": models, "MLXR_CONFIG": options}
        self.succeed("key", "create", "x", env=environment)
        model = shutil.copy(os.path.join(support.tiny_models(), "qwen2.gguf"), self.home)

        def read_bytes(path):
            with open(path, "rb") as file:
                return file.read()

        link = os.path.join(self.home, "link.log")
        os.symlink(key, link)
        for path in (key, options):
            with open(path, "w", encoding="ascii") as file:
                file.write("{}")
        for log in (key, link, options, model, os.path.join(models, ".mlxr", "registry.db"),
                    os.path.join(models, ".mlxr", "chats.db")):  # fmt: skip
            before = os.path.exists(log) and read_bytes(log)
            self.fail_with(2, "link.log" if log == link else os.path.basename(log), "serve", "--port", "0", "--tls-cert", key,
                           "--tls-key", key, "--model", model, "--log-file", log, env=environment)  # fmt: skip
            self.assertEqual(os.path.exists(log) and read_bytes(log), before)
        self.fail_with(1, "/no/where/x.log", "serve", "--port", "0", "--log-file", "/no/where/x.log")

    def test_three_canaries_are_nowhere_at_the_highest_verbosity(self):
        """A key, a token of the environment, a prompt: in headers, paths, queries and bodies, of all routes."""
        key, _ = self.key()
        key, token, prompt = key, "hf_CANARYtokenCANARYtoken", "CANARYprompt tell me"
        env = self.environment(HF_TOKEN=token)
        path = os.path.join(self.home, "all.log")
        model = self.add_model("llama")
        model_path = os.path.join(self.models, model + ".gguf")
        routes = json.loads(subprocess.run([support.MLXR, "serve", "--routes"], check=True, stdout=subprocess.PIPE).stdout)
        daemon = self.serve("--log-level", "debug", "--model", model_path, env=env)
        body = {"model": model, "prompt": prompt, "input": prompt, "max_tokens": 4, "stream": False,
                "messages": [{"role": "user", "content": prompt}], "api_key": token}  # fmt: skip
        bearer = [("Authorization", f"Bearer {key}"), ("Cookie", f"session={token}")]
        for route in routes:
            target = re.sub(r"\{[^}]*\}", "CANARYprompt", route["pattern"])
            for headers in (bearer, [("X-Api-Key", key)], [("Authorization", f"Bearer {token}")]):
                method = route["method"]
                wrong = f"{target}?token={token}&q=CANARYprompt"
                daemon.ask(method, wrong if method == "GET" else target,
                           body=None if method in ("GET", "DELETE") else dict(body), headers=headers)  # fmt: skip
        tail = daemon.ask("GET", "/ui-api/logs?limit=2000", headers=bearer).body.decode()
        metrics = daemon.ask("GET", "/metrics", headers=bearer).body.decode()
        self.assertEqual(daemon.stop(), 0)
        written = "\n".join(line for line in daemon.lines if line)
        self.assertIn("route=/ui-api/logs", written)
        for canary in (key, key.rsplit("-", 1)[-1], token, "CANARY", prompt):
            for where, text in (("stderr", written), ("tail", tail), ("metrics", metrics)):
                self.assertNotIn(canary, text, where)
        self.assertFalse(os.path.exists(path))


class Profile(support.ApiTest):
    def test_an_idle_engine_gives_an_empty_profile_when_the_time_is_over(self):
        daemon = self.serve()
        began = time.monotonic()
        answer = daemon.ask("POST", "/ui-api/profile", {"seconds": 1, "details": True})
        self.assertEqual(answer.status, 200, answer)
        seconds = time.monotonic() - began
        found = answer.json
        self.assertEqual((found["phases"], found["steps"], found["lost"]), ({}, [], 0))
        self.assertGreaterEqual(found["duration_ms"], 998)  # the loop counts whole milliseconds
        self.assertGreaterEqual(seconds, 0.998)
        began = time.monotonic()
        trace = daemon.ask("POST", "/ui-api/profile", {"seconds": 30, "format": "trace"}).json
        self.assertLess(time.monotonic() - began, 5 * support.SLOW, "who has nothing to do for a second keeps nobody waiting")
        self.assertTrue(all(event["ph"] == "M" for event in trace["traceEvents"]))

    def test_a_profile_has_the_steps_of_what_runs(self):
        model = self.add_model("llama")
        daemon = self.serve("--model", os.path.join(self.models, model + ".gguf"))
        stop = threading.Event()

        def generate():
            while not stop.is_set():
                daemon.ask("POST", "/v1/completions", {"model": model, "prompt": "zqxkvj", "max_tokens": 50})

        thread = threading.Thread(target=generate)
        thread.start()
        try:
            answer = daemon.ask("POST", "/ui-api/profile", {"steps": 20, "seconds": 60, "details": True})
        finally:
            stop.set()
            thread.join()
        self.assertEqual(answer.status, 200, answer)
        found = answer.json
        self.assertGreaterEqual(len(found["steps"]), 15)
        self.assertIn("attend", found["operations"])
        self.assertIn("decode", found["phases"])
        for step in found["steps"]:
            self.assertTrue(step["spans"])
            self.assertLessEqual(sum(span[3] for span in step["spans"]) / 1e3, step["run_ms"] + 0.01)

    def test_one_profile_at_a_time_and_a_client_that_leaves_ends_it(self):
        daemon = self.serve()
        with daemon.connect() as connection:
            connection.sendall(b"POST /ui-api/profile HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               b"Content-Length: 35\r\n\r\n" + b'{"seconds": 60, "idle_seconds": 60}')  # fmt: skip
            self.until(lambda: self.metric(daemon, "http_requests_in_flight") == 2)  # with that which asks
            self.assertEqual(daemon.ask("POST", "/ui-api/profile", {"seconds": 1}).status, 409)
        self.until(lambda: daemon.ask("POST", "/ui-api/profile", {"seconds": 1}).status == 200)
        with daemon.connect() as connection:  # it does not keep the daemon from ending
            connection.sendall(b"POST /ui-api/profile HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               b"Content-Length: 35\r\n\r\n" + b'{"seconds": 60, "idle_seconds": 60}')  # fmt: skip
            self.until(lambda: self.metric(daemon, "http_requests_in_flight") == 2)
            self.assertEqual(daemon.ask("POST", "/ui-api/profile", {"seconds": 1}).status, 409)
            began = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.figure("ended during a profile", time.monotonic() - began, "s", 5)

    def test_fields_that_make_no_sense_are_refused_by_name(self):
        daemon = self.serve()
        for body in ({"steps": 0}, {"steps": "1"}, {"seconds": 1e9}, {"format": "xml"}, {"details": 1}, {"more": 1}):
            answer = daemon.ask("POST", "/ui-api/profile", body)
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, next(iter(body))), body)
        self.assertEqual(daemon.ask("POST", "/ui-api/profile", [1]).status, 400)


if __name__ == "__main__":
    support.main()
