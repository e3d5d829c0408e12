"""The routes for who looks after a daemon: its models, what takes long, its keys, its state."""
import concurrent.futures
import hashlib
import json
import math
import os
import re
import struct
import sys
import threading
import unittest

import load_client
import support

pull_servers = support.pull_servers()


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
                                                      MLXR_PULL_STALL_S="600", http_proxy=None))  # fmt: skip

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

    def wait_keys(self):
        """Until the daemon has seen that there are keys: it looks once a second."""
        self.until(lambda: self.daemon.ask("GET", "/ui-api/status").status == 401)

    def read_to(self, connection, words):
        """What comes up to these words, which may come in pieces."""
        heard = b""
        while words not in heard:
            heard += connection.recv(65536) or self.fail(f"no {words} in {heard}")
        return heard

    def test_who_it_is_is_public_and_tells_no_path(self):
        self.key("someone")
        self.wait_keys()
        told = self.get("/ui-api/version")
        self.assertEqual((told["server"], told["state"], len(told["store"])), ("mlxr", "ready", 16))
        self.assertNotIn(self.home, json.dumps(told))
        self.get("/ui-api/status", 401)

    def test_one_model_with_what_is_in_its_file_and_whether_it_fits(self):
        shown = self.get("/ui-api/models/llama")
        self.assertEqual(list(shown), ["model", "modelfile"])
        self.assertEqual(list(self.get("/ui-api/models/llama?details=false")), ["model", "modelfile"])
        for bad in ("yes", "1", "true" + "+" * 40, "%zz"):
            self.assertEqual(self.get("/ui-api/models/llama?details=" + bad, 400)["error"]["param"], "details")
        shown = self.get("/ui-api/models/llama?details=true")
        self.assertEqual((shown["fit"]["fits"], shown["fit"]["loaded_weight_bytes"]), ("now", 0))
        self.assertEqual(shown["fit"]["weight_bytes"], shown["description"]["memory"]["weight_bytes"])
        self.assertEqual(self.get("/ui-api/models/nothing", 404)["error"]["code"], "model_not_found")
        weights = shown["fit"]["weight_bytes"]
        small = self.serve("--memory", str(weights // 2), "--kv-bytes", "1M")
        self.assertEqual(small.ask("GET", "/ui-api/models/llama?details=true").json["fit"]["fits"], "never")
        # by what is free, too: a file whose weights are more than this machine has, with nothing in them
        fit = shown["fit"]
        with open("/proc/meminfo", encoding="ascii") as file:
            total, free = (1024 * int(re.search(name + r":\s+(\d+)", text).group(1)) for text in [file.read()]
                           for name in ("MemTotal", "MemAvailable"))  # fmt: skip
        self.assertLessEqual(fit["machine_bytes"], total)
        self.assertLess(abs(fit["available_bytes"] - free), total / 4)
        self.huge_model(fit["machine_bytes"])
        huge = self.get("/ui-api/models/huge?details=true")["fit"]
        self.assertGreater(huge["weight_bytes"], fit["machine_bytes"])
        self.assertEqual((huge["fits"], huge["budget_bytes"]), ("never", 0))
        self.post("/ui-api/models/load", {"model": "llama"})
        loaded = self.get("/ui-api/models/llama?details=true")["fit"]
        self.assertEqual((loaded["fits"], loaded["loaded"], loaded["loaded_weight_bytes"]), ("now", True, weights))

    def huge_model(self, n_bytes):
        """The tiny Llama with matrices of zeros that have more than so many bytes together: a file full of holes."""
        with open(os.path.join(self.models, "llama.gguf"), "rb") as file:
            data = bytearray(file.read())
        n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)
        sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
        at = 24

        def text():
            nonlocal at
            n = struct.unpack_from("<Q", data, at)[0]
            at += 8 + n
            return bytes(data[at - n : at]).decode()

        def skip(kind):
            nonlocal at
            if kind == 8:
                text()
            elif kind == 9:
                inner, n = struct.unpack_from("<IQ", data, at)
                at += 12
                for _ in range(n):
                    skip(inner)
            else:
                at += sizes[kind]

        places, values, n_ffn = {}, {}, 1 << 22
        for _ in range(n_keys):
            key, kind = text(), struct.unpack_from("<I", data, at)[0]
            at += 4
            places[key], values[key] = at, struct.unpack_from("<I", data, at)[0]
            skip(kind)
        n_layers = n_bytes // (4 * 3 * n_ffn * values["llama.embedding_length"]) + 1
        struct.pack_into("<I", data, places["llama.feed_forward_length"], n_ffn)
        struct.pack_into("<I", data, places["llama.block_count"], n_layers)
        begin, tensors, infos, offset = at, [], b"", 0
        for _ in range(n_tensors):
            name, n_dims = text(), struct.unpack_from("<I", data, at)[0]
            dims = struct.unpack_from(f"<{n_dims}Q", data, at + 4)
            at += 4 + 8 * n_dims + 12
            dims = [n_ffn if d == values["llama.feed_forward_length"] and "ffn" in name else d for d in dims]
            if name.startswith("blk.0."):  # every layer is as the first
                tensors += [(name.replace("blk.0.", f"blk.{i}."), dims) for i in range(n_layers)]
            elif not name.startswith("blk."):
                tensors.append((name, dims))
        for name, dims in tensors:
            infos += struct.pack(f"<Q{len(name)}sI{len(dims)}QIQ", len(name), name.encode(), len(dims), *dims, 0, offset)  # F32
            offset += (4 * math.prod(dims) + 31) // 32 * 32
        struct.pack_into("<Q", data, 8, len(tensors))
        head = bytes(data[:begin]) + infos
        with open(os.path.join(self.models, "huge.gguf"), "wb") as file:
            file.write(head + bytes(-len(head) % 32))
            file.truncate(file.tell() + offset)

    def test_unloading_answers_when_the_memory_is_free(self):
        for _ in range(20):
            self.post("/ui-api/models/load", {"model": "llama"})
            self.assertEqual(self.post("/ui-api/models/unload", {"model": "llama"})["state"], "unloaded")
            status = self.get("/ui-api/status")
            self.assertEqual((self.get("/ui-api/loaded")["loaded"], status["memory"]["weight_bytes"]), ([], 0))
        self.assertEqual(self.post("/ui-api/models/unload", {"model": "llama"})["state"], "not_loaded")
        # one that is in use goes behind its answers, and it is said that it has not gone
        slow = load_client.Stream(self.daemon, "/v1/completions", receive_bytes=4096, body={
            "model": "llama", "prompt": "An answer that is not read.", "max_tokens": 200, "n": 8, "logprobs": 20, "stream": True})
        slow.read(100)
        self.assertEqual(self.post("/ui-api/models/unload", {"model": "llama"})["state"], "in_use")
        self.assertEqual(len(self.get("/ui-api/loaded")["loaded"]), 1)
        slow.close()
        self.until(lambda: not self.get("/ui-api/loaded")["loaded"])
        pinned = self.serve("--model", "llama")
        answer = pinned.ask("POST", "/ui-api/models/unload", {"model": "llama"})
        self.assertEqual((answer.status, answer.json["state"]), (200, "pinned"))

    def test_loading_says_how_long_it_took_and_keeps_it_so_long(self):
        loaded = self.post("/ui-api/models/load", {"model": "llama", "keep_alive_s": -1})
        self.assertEqual(loaded["model"]["name"], "llama")
        self.assertGreater(loaded["load_ms"], 0)
        self.assertIsNone(self.get("/ui-api/loaded")["loaded"][0]["expires_in_ms"])
        self.post("/ui-api/models/load", {"model": "llama", "keep_alive_s": 5})
        self.assertLessEqual(self.get("/ui-api/loaded")["loaded"][0]["expires_in_ms"], 5000)
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
        for grace_s in ("x", "0" * 40 + "60", "%zz"):  # a bad one is no word for none: that would be for good
            answer = self.daemon.ask("DELETE", f"/ui-api/models/llama?grace_s={grace_s}")
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "grace_s"))
        self.refused("/ui-api/models/copy", {"from": "llama"}, "to")

    def test_a_model_that_another_deletion_took_first_is_not_found(self):
        for _ in range(30):
            self.post("/ui-api/models/copy", {"from": "llama", "to": "two"})
            begin = threading.Barrier(4)

            def delete(_):
                begin.wait()
                return self.daemon.ask("DELETE", "/ui-api/models/two").status

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                self.assertEqual(sorted(pool.map(delete, range(4))), [200, 404, 404, 404])

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

    def tiny(self, name="gemma3"):
        with open(os.path.join(support.tiny_models(), name + ".gguf"), "rb") as file:
            return file.read()

    def test_a_file_that_is_sent_becomes_a_model(self):
        data = self.tiny()
        answer = self.daemon.ask("POST", "/ui-api/models/import?name=mine", data)
        self.assertEqual((answer.status, answer.json["name"]), (200, "mine"), answer)
        model = self.get("/ui-api/models/mine?details=true")
        self.assertEqual((model["model"]["bytes"], model["model"]["family"]), (len(data), "gemma3"))
        self.assertEqual(self.daemon.ask("POST", "/v1/completions", {"model": "mine", "prompt": "a", "max_tokens": 1}).status, 200)
        for body, word in ((b"GGUF" + bytes(100), ""), (b"", ""), (data[: len(data) // 2], "")):
            answer = self.daemon.ask("POST", "/ui-api/models/import?name=bad", body)
            self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "import_failed"), answer)
        blobs = os.path.join(self.models, ".mlxr", "blobs")
        self.assertEqual([os.path.getsize(os.path.join(blobs, n)) for n in os.listdir(blobs)], [len(data)], "what was refused is gone")
        # The same bytes that somebody has brought to make a model of them are not taken away by who brings them in vain.
        digest = "sha256:" + hashlib.sha256(b"GGUF" + bytes(100)).hexdigest()
        self.assertEqual(self.daemon.ask("POST", f"/api/blobs/{digest}", b"GGUF" + bytes(100)).status, 201)
        self.assertEqual(self.daemon.ask("POST", "/ui-api/models/import?name=bad", b"GGUF" + bytes(100)).status, 400)
        self.assertEqual(self.daemon.ask("HEAD", f"/api/blobs/{digest}").status, 200)
        for name in ("", "?name=", "?name=../x", "?name=%2Fetc%2Fpasswd", "?name=a%20b"):
            self.assertEqual(self.daemon.ask("POST", "/ui-api/models/import" + name, data).json["error"]["param"], "name", name)
        with self.daemon.connect() as connection:  # one that leaves in the middle leaves nothing
            connection.sendall(b"POST /ui-api/models/import?name=half HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data))
            connection.sendall(data[:1000])
        self.assertEqual(sorted(self.names()), ["llama", "mine"])

    def test_a_name_that_is_taken_is_not_taken_from_its_model_unasked(self):
        data, other = self.tiny(), self.tiny("qwen2")
        path = os.path.join(self.models, "below", "other.gguf")
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(other)
        answer = self.daemon.ask("POST", "/ui-api/models/import?name=mine", data)
        self.assertEqual(answer.status, 200, answer)
        for name in ("mine", "mine:latest", "llama"):  # stored, and found in the folder of models
            for target, body in ((f"import?name={name}", other), ("register", {"path": path, "name": name})):
                answer = self.daemon.ask("POST", "/ui-api/models/" + target, body)
                error = answer.json["error"]
                self.assertEqual((answer.status, error["code"], error["param"]), (409, "name_taken", "name"), answer)
        self.assertEqual(self.get("/ui-api/models/mine")["model"]["family"], "gemma3")
        self.assertEqual(self.daemon.ask("POST", "/ui-api/models/import?name=mine&replace=yes", other).json["error"]["param"], "replace")
        self.assertEqual(self.daemon.ask("POST", "/ui-api/models/import?name=mine&replace=true", other).status, 200)
        self.assertEqual(self.get("/ui-api/models/mine")["model"]["family"], "qwen2")
        self.post("/ui-api/models/register?replace=true", {"path": path, "name": "mine"})
        self.assertEqual(self.get("/ui-api/models/mine")["model"]["path"], os.path.realpath(path))

    def test_a_file_of_this_machine_is_used_where_it_lies(self):
        path = os.path.join(self.models, "below", "other.gguf")
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(self.tiny())
        self.assertEqual(self.post("/ui-api/models/register", {"path": path, "name": "there"}), {"name": "there"})
        self.assertEqual(self.get("/ui-api/models/there")["model"]["path"], os.path.realpath(path))
        self.refused("/ui-api/models/register", {"path": path}, "name")
        self.refused("/ui-api/models/register", {"name": "x"}, "path")
        self.refused("/ui-api/models/register", {"path": "x.gguf", "name": "x"}, "path")
        self.refused("/ui-api/models/register", {"path": path + ".no", "name": "x"}, "path")
        self.refused("/ui-api/models/register", {"path": path, "name": "../x"}, "name")
        os.mkfifo(os.path.join(self.models, "below", "pipe.gguf"))
        # nobody waits for what never comes of it
        self.refused("/ui-api/models/register", {"path": os.path.join(self.models, "below", "pipe.gguf"), "name": "x"}, "path")
        outside = os.path.join(self.home, "outside.gguf")
        with open(outside, "wb") as file:
            file.write(self.tiny())
        if not support.SANDBOX:
            self.refused("/ui-api/models/register", {"path": outside, "name": "x"}, "path", 403)
            self.refused("/ui-api/models/register", {"path": "/etc/shadow", "name": "x"}, "path", 403)
        self.assertEqual(sorted(n for n in self.names() if "other" not in n), ["llama", "there"])

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
            release.wait()
            request.write(data[5000:])

        body = json.dumps({"source": self.server(slow), "name": "slow", "keep_going": True}).encode()
        head = b"POST /ui-api/models/pull HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        with self.daemon.connect() as connection:
            connection.sendall(head % len(body) + body)
            self.read_to(connection, b"file_done")
        job = self.get("/ui-api/jobs")["jobs"][0]
        self.assertEqual((job["kind"], job["state"], job["keep_going"]), ("pull", "running", True))
        path = f"/ui-api/jobs/{job['id']}"
        watched = []

        def watch():
            answer = self.daemon.ask("GET", path + "?after=0", headers=[("Accept", "text/event-stream")])
            watched.append(events_of(answer.body.decode()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.until(lambda: self.metric(self.daemon, "http_requests_in_flight") == 2)  # it is there, and who asks
        self.assertEqual(self.get(path)["state"], "running")
        for bad in ("x", "-1", "0" * 40, "%zz"):  # not from the beginning
            error = self.get(f"{path}?after={bad}", 400, headers=[("Accept", "text/event-stream")])["error"]
            self.assertEqual(error["param"], "after")
        release.set()
        watcher.join()
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
            self.read_to(connection, b"file_done")
            job = self.get("/ui-api/jobs")["jobs"][-1]
            self.assertEqual(self.daemon.ask("DELETE", f"/ui-api/jobs/{job['id']}").status, 200)
            self.read_to(connection, b"cancelled")
        self.assertTrue(self.get(f"/ui-api/jobs/{job['id']}")["end"]["cancelled"])
        self.assertNotIn("never", self.names())

    def test_more_tokens_than_are_read_at_once_are_refused_by_name(self):
        data, key = bytearray(self.tiny("llama")), b"llama.context_length"
        struct.pack_into("<I", data, data.index(key) + len(key) + 4, 1 << 14)
        with open(os.path.join(self.models, "long.gguf"), "wb") as file:
            file.write(data)
        inputs = [[1] * 12000] * 400  # 4.8 million; each of them fits
        answer = self.daemon.ask("POST", "/v1/embeddings", json.dumps({"model": "long", "input": inputs}, separators=(",", ":")),
                                 headers=[("Content-Type", "application/json")])  # fmt: skip
        self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "input"), answer)
        self.assertIn("at most 4194304", answer.json["error"]["message"])

    def test_keys(self):
        made = self.post("/ui-api/keys", {"label": "ui", "scopes": "read", "requests_per_minute": 600})
        self.assertTrue(made["key"].startswith("mlxr-"))
        self.wait_keys()
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
        self.assertEqual(self.daemon.process.wait(support.TIMEOUT), 0)
        self.daemon.wait_line("server: ended$")
        self.assertFalse([line for line in self.daemon.lines if line and "nothing new is taken" in line], self.daemon.lines)

    def test_the_catalogue(self):
        answer = self.get("/ui-api/catalogue")
        models = answer["models"]
        self.assertGreater(len(models), 5)
        # Some are to begin with, the smallest of them on any machine that this runs on.
        first = [m for m in models if m["first"]]
        self.assertTrue(1 < len(first) < len(models))
        self.assertLess(min(m["memory_bytes"] for m in first), answer["machine_bytes"])
        self.assertTrue(all(m["digest"] is None or m["digest"].startswith("sha256:") or m["digest"] == "" for m in models))

    @unittest.skipUnless(sys.platform.startswith("linux") and not support.SANDBOX, "Linux only, not under sanitizers")
    def test_the_machine_is_looked_at_once_for_the_catalogue(self):
        def reads(path):
            def so_far():
                with open(f"/proc/{self.daemon.process.pid}/io", encoding="ascii") as file:
                    return int(re.search(r"syscr: (\d+)", file.read()).group(1))

            before = so_far()
            for _ in range(5):
                self.get(path)
            return so_far() - before

        self.get("/ui-api/catalogue")
        reads("/health")
        # A machine is told of by files and libraries, which take dozens of reads; a request takes its own, and one more
        # where a thread answers it. Wakes that fall together are read once: five requests take 9 to 11, or 14 to 16.
        catalogue, health = ([reads(path) for _ in range(8)] for path in ("/ui-api/catalogue", "/health"))
        self.assertLessEqual(min(catalogue), max(health) + 5, (catalogue, health))


if __name__ == "__main__":
    support.main()
