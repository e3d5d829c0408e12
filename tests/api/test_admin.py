"""The routes for who looks after a daemon: its models, what takes long, its keys, its state."""
import importlib.util
import json
import os
import threading
import time

import support

_spec = importlib.util.spec_from_file_location(
    "pull_servers", os.path.join(os.path.dirname(support.HERE), "cli", "pull_servers.py"))  # fmt: skip
pull_servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pull_servers)


def events_of(text):
    """[(event, data)] of a stream of events."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            name = next((line[7:] for line in lines if line.startswith("event: ")), "")
            found.append((name, json.loads("\n".join(line[6:] for line in lines if line.startswith("data: ")))))
    return found


class Admin(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.add_model("llama")
        self.daemon = self.serve(env=self.environment(MLXR_ALLOW_PRIVATE="127.0.0.1", MLXR_PULL_RETRY_MS="5",
                                                      MLXR_PULL_STALL_S="20", http_proxy=None))  # fmt: skip

    def get(self, path, status=200, headers=()):
        answer = self.daemon.ask("GET", path, headers=headers)
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def post(self, path, body, status=200):
        answer = self.daemon.ask("POST", path, body)
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def refused(self, path, body, field, status=400):
        error = self.post(path, body, status)["error"]
        self.assertEqual(error["param"], field, error)

    def names(self):
        return [m["name"] for m in self.get("/ui-api/models")["models"]]

    def job(self, path, body):
        """A job's events to its end."""
        answer = self.daemon.ask("POST", path, body)
        self.assertEqual(answer.status, 200, answer)
        events = events_of(answer.body.decode())
        self.assertEqual([events[0][0], events[-1][0]], ["job", "end"])
        return events

    def server(self, script):
        server = pull_servers.Server()
        self.addCleanup(server.close)
        server.on("/model.gguf", script)
        return server.url + "/model.gguf"

    def test_who_it_is_is_public_and_tells_no_path(self):
        self.key("someone")
        time.sleep(1.1)
        told = self.get("/ui-api/version")
        self.assertEqual((told["server"], told["state"], len(told["store"])), ("mlxr", "ready", 16))
        self.assertNotIn(self.home, json.dumps(told))
        self.get("/ui-api/status", 401)

    def test_one_model_with_what_is_in_its_file_and_whether_it_fits(self):
        shown = self.get("/ui-api/models/llama")
        self.assertEqual(list(shown), ["model", "modelfile"])
        shown = self.get("/ui-api/models/llama?details=true")
        self.assertEqual((shown["fit"]["fits"], shown["fit"]["loaded_weight_bytes"]), ("now", 0))
        self.assertEqual(shown["fit"]["weight_bytes"], shown["description"]["memory"]["weight_bytes"])
        self.assertEqual(self.get("/ui-api/models/nothing", 404)["error"]["code"], "model_not_found")
        weights = shown["fit"]["weight_bytes"]
        small = self.serve("--memory", str(weights // 2), "--kv-bytes", "1M")
        self.assertEqual(small.ask("GET", "/ui-api/models/llama?details=true").json["fit"]["fits"], "never")

    def test_loading_says_how_long_it_took_and_keeps_it_so_long(self):
        loaded = self.post("/ui-api/models/load", {"model": "llama", "keep_alive_s": -1})
        self.assertEqual(loaded["model"]["name"], "llama")
        self.assertGreater(loaded["load_ms"], 0)
        self.assertIsNone(self.get("/ui-api/loaded")["loaded"][0]["expires_in_ms"])
        self.post("/ui-api/models/load", {"model": "llama", "keep_alive_s": 5})
        self.assertLessEqual(self.get("/ui-api/loaded")["loaded"][0]["expires_in_ms"], 5000)
        self.assertTrue(self.post("/ui-api/models/unload", {"model": "llama"})["was_loaded"])
        until = time.monotonic() + 20
        while self.get("/ui-api/loaded")["loaded"] and time.monotonic() < until:  # it is let go behind the answer
            time.sleep(0.01)
        self.assertFalse(self.post("/ui-api/models/unload", {"model": "llama"})["was_loaded"])
        self.refused("/ui-api/models/load", {}, "model")
        self.refused("/ui-api/models/load", {"model": "llama", "keep_alive_s": "5m"}, "keep_alive_s")
        self.refused("/ui-api/models/load", {"model": "llama", "keepalive": 5}, "keepalive")
        self.assertEqual(self.post("/ui-api/models/load", {"model": "nothing"}, 404)["error"]["code"], "model_not_found")

    def test_copies_deletion_and_its_taking_back(self):
        self.post("/ui-api/models/copy", {"from": "llama", "to": "two"})
        self.assertEqual(self.names(), ["llama", "two"])
        self.assertEqual(self.daemon.ask("DELETE", "/ui-api/models/two?grace_s=60").status, 200)
        self.assertEqual(self.names(), ["llama"])
        self.post("/ui-api/models/restore", {"model": "two"})
        self.assertEqual(self.names(), ["llama", "two"])
        self.post("/ui-api/models/copy", {"from": "two", "to": "three", "alias": True})
        self.assertEqual(self.get("/ui-api/models/three")["model"]["path"], self.get("/ui-api/models/two")["model"]["path"])
        self.assertEqual(self.daemon.ask("DELETE", "/ui-api/models/two").status, 200)
        self.assertEqual(self.daemon.ask("DELETE", "/ui-api/models/two").status, 404)
        self.assertEqual(self.daemon.ask("DELETE", "/ui-api/models/llama?grace_s=x").status, 400)
        self.refused("/ui-api/models/copy", {"from": "llama"}, "to")

    def test_creating_by_parts_and_by_a_modelfile(self):
        parts = {"name": "one", "from": "llama", "system": "be brief", "parameters": [{"name": "temperature", "value": "0.5"}],
                 "messages": [{"role": "user", "content": "hi"}], "license": "MIT"}  # fmt: skip
        end = self.job("/ui-api/models/create", parts)[-1][1]
        self.assertEqual((end["name"], end["error"], end["cancelled"]), ("one", None, False))
        text = "FROM llama\nSYSTEM be brief\nPARAMETER temperature 0.5\nMESSAGE user hi\nLICENSE MIT\n"
        self.assertIsNone(self.job("/ui-api/models/create", {"name": "two", "modelfile": text})[-1][1]["error"])
        first, second = (self.get("/ui-api/models/" + name)["model"] for name in ("one", "two"))
        for key in ("system", "parameters", "messages", "license", "path"):
            self.assertEqual(first[key], second[key])
        self.refused("/ui-api/models/create", {"name": "x"}, "from")
        self.refused("/ui-api/models/create", {"name": "x", "modelfile": "FROM llama", "system": "y"}, "modelfile")
        self.refused("/ui-api/models/create", {"name": "x", "modelfile": "NONSENSE"}, "modelfile")
        self.refused("/ui-api/models/create", {"name": "x", "from": "llama", "parameters": [{"a": 1}]}, "parameters")
        for path in ("/etc/passwd", "./x", "../x"):  # files are not read for clients
            events = self.job("/ui-api/models/create", {"name": "x", "from": path})
            self.assertIsNotNone(events[-1][1]["error"])
        self.assertNotIn("x", self.names())

    def test_a_pull_tells_how_far_it_is(self):
        with open(os.path.join(support.tiny_models(), "gemma3.gguf"), "rb") as file:
            data = file.read()
        events = self.job("/ui-api/models/pull", {"source": self.server(lambda r: r.file(data)), "name": "pulled"})
        progress = [data for name, data in events if name == "progress"]
        self.assertTrue(progress)
        numbers = [p["number"] for p in progress]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(events[-1][1], {"name": "pulled", "cancelled": False, "error": None})
        self.assertIn("pulled", self.names())
        end = self.job("/ui-api/models/pull", {"source": self.server(lambda r: r.answer(404))})[-1][1]
        self.assertIn("404", end["error"]["message"])
        self.refused("/ui-api/models/pull", {"source": "/etc/passwd"}, "source")
        self.refused("/ui-api/models/pull", {"source": "qwen3:4b", "digest": "sha256:" + "0" * 64}, "digest")
        self.refused("/ui-api/models/pull", {}, "source")

    def test_a_pull_that_keeps_going_can_be_left_watched_again_and_cancelled(self):
        release = threading.Event()
        self.addCleanup(release.set)
        with open(os.path.join(support.tiny_models(), "gemma3.gguf"), "rb") as file:
            data = file.read()

        def slow(request):
            request.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data[:5000])
            release.wait(20)
            request.write(data[5000:])

        body = json.dumps({"source": self.server(slow), "name": "slow", "keep_going": True}).encode()
        head = b"POST /ui-api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        with self.daemon.connect() as connection:
            connection.sendall(head % len(body) + body)
            while b"file_done" not in connection.recv(65536):  # chunks cut lines anywhere
                pass
        job = self.get("/ui-api/jobs")["jobs"][0]
        self.assertEqual((job["kind"], job["state"], job["keep_going"]), ("pull", "running", True))
        path = f"/ui-api/jobs/{job['id']}"
        watched = []

        def watch():
            answer = self.daemon.ask("GET", path + "?after=0", headers=[("Accept", "text/event-stream")])
            watched.append(events_of(answer.body.decode()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        time.sleep(0.2)
        self.assertEqual(self.get(path)["state"], "running")
        release.set()
        watcher.join(30)
        self.assertEqual(watched[0][-1], ("end", {"name": "slow", "cancelled": False, "error": None}))
        self.assertIn("slow", self.names())
        self.assertEqual(self.get(path)["end"]["name"], "slow")
        self.assertEqual(self.daemon.ask("DELETE", path).status, 404)  # it has ended
        for bad in ("/ui-api/jobs/999", "/ui-api/jobs/x", "/ui-api/jobs/0"):
            self.get(bad, 404)
            self.get(bad, 404, headers=[("Accept", "text/event-stream")])

        release.clear()
        with self.daemon.connect() as connection:
            body = json.dumps({"source": self.server(slow), "name": "never"}).encode()
            connection.sendall(head % len(body) + body)
            while b"file_done" not in connection.recv(65536):  # chunks cut lines anywhere
                pass
            job = self.get("/ui-api/jobs")["jobs"][-1]
            self.assertEqual(self.daemon.ask("DELETE", f"/ui-api/jobs/{job['id']}").status, 200)
            rest = b""
            while b"cancelled" not in rest:
                rest += connection.recv(65536)
        self.assertTrue(self.get(f"/ui-api/jobs/{job['id']}")["end"]["cancelled"])
        self.assertNotIn("never", self.names())

    def test_keys(self):
        made = self.post("/ui-api/keys", {"label": "ui", "scopes": "read", "requests_per_minute": 600})
        self.assertTrue(made["key"].startswith("mlxr-"))
        time.sleep(1.1)
        admin = self.key("admin", "--scopes", "admin")[0]
        answer = self.daemon.ask("GET", "/ui-api/keys", headers=[("Authorization", "Bearer " + admin)])
        self.assertEqual(sorted(k["label"] for k in answer.json["keys"]), ["admin", "ui"])
        self.assertNotIn("key", answer.json["keys"][0])
        header = [("Authorization", "Bearer " + admin)]
        self.assertEqual(self.daemon.ask("DELETE", f"/ui-api/keys/{made['id']}", headers=header).status, 200)
        for bad in ("0" * 16, "x", "0" * 40):
            self.assertIn(self.daemon.ask("DELETE", f"/ui-api/keys/{bad}", headers=header).status, (400, 404))
        for body, field in (({"scopes": "all"}, "scopes"), ({"label": "x" * 99}, "label"), ({"tokens_per_day": -1}, "tokens_per_day")):
            answer = self.daemon.ask("POST", "/ui-api/keys", body, headers=header)
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, field))

    def test_it_ends_when_asked_to_and_not_by_an_empty_body(self):
        self.refused("/ui-api/drain", {}, "now")
        self.assertEqual(self.post("/ui-api/drain", {"now": False}), {"status": "draining"})
        self.assertEqual(self.daemon.process.wait(10), 0)

    def test_the_catalogue(self):
        models = self.get("/ui-api/catalogue")["models"]
        self.assertGreater(len(models), 5)
        self.assertTrue(all(m["digest"] is None or m["digest"].startswith("sha256:") or m["digest"] == "" for m in models))


if __name__ == "__main__":
    support.main()
