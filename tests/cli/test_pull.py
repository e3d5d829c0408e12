"""`mlxr pull` against servers that behave and servers that do not."""
import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import pull_servers
import support
from pull_servers import digest


class PullTest(support.CliTest):
    def setUp(self):
        super().setUp()
        if os.path.isdir("/dev/shm"):  # memory: these tests are about networks, and wait for no disk
            self.models = tempfile.mkdtemp(prefix="mlxr-models-", dir="/dev/shm")
            self.addCleanup(shutil.rmtree, self.models, True)
        with open(os.path.join(support.tiny_models(), "llama.gguf"), "rb") as file:
            self.model = file.read()

    def serve(self, server):
        self.addCleanup(server.close)
        return server

    def ollama(self, **texts):
        return self.serve(pull_servers.Ollama(self.model, **texts))

    def hub(self, files):
        cdn = self.serve(pull_servers.Server())
        return self.serve(pull_servers.Hub(files, cdn))

    def plain(self, script):
        server = self.serve(pull_servers.Server())
        server.on("/model.gguf", script)
        return server

    def env(self, server=None, **changes):
        url = server.url if server else "http://127.0.0.1:9"
        settings = dict(MLXR_OLLAMA_REGISTRY=url, HF_ENDPOINT=url, MLXR_ALLOW_PRIVATE="127.0.0.1",
                        MLXR_PULL_RETRY_MS="5", MLXR_PULL_PIECE_BYTES="100000", HF_TOKEN=None,
                        https_proxy=None, HTTPS_PROXY=None, http_proxy=None, all_proxy=None, ALL_PROXY=None)  # fmt: skip
        settings.update(changes)
        return self.environment(**settings)

    def blobs(self):
        folder = os.path.join(self.models, ".mlxr", "blobs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def names(self):
        return [m["name"] for m in self.succeed("list", "--json").json]

    def pulls(self, server, source, *arguments, **changes):
        """The model comes, whole: what the store has is what the server has."""
        model = self.succeed("pull", source, "--json", *arguments, env=self.env(server, **changes)).json
        if model["digest"] == digest(self.model):
            with open(model["path"], "rb") as file:
                self.assertEqual(file.read(), self.model)
        self.assertIn(model["name"], self.names())
        return model

    def refuses(self, pattern, server, source, *arguments, **changes):
        """One line that says why, nothing in the store, and the store as usable as before."""
        self.fail_with(1, pattern, "pull", source, *arguments, env=self.env(server, **changes))
        self.assertEqual((self.names(), self.blobs()), ([], []))

    def url(self, server):
        return server.url + "/model.gguf"


class Behaving(PullTest):
    def test_a_model_of_ollamas_registry_with_all_its_texts(self):
        server = self.ollama(system=b"Be brief.", license=b"MIT", template=b"{{ .System }}<u>{{ .Prompt }}</u>",
                             params=b'{"temperature": 0.5, "stop": ["a", "b"], "num_ctx": 4096}',
                             messages=b'[{"role": "user", "content": "hi"}]')  # fmt: skip
        model = self.pulls(server, "m")
        self.assertEqual(model["system"], "Be brief.")
        self.assertEqual([(p["name"], p["value"]) for p in model["parameters"]],
                         [("temperature", "0.5"), ("stop", "a"), ("stop", "b"), ("num_ctx", "4096")])  # fmt: skip
        self.assertIn("<u>", model["template"])
        self.assertEqual(model["digest"], digest(self.model))
        self.assertGreater(len(server.asked(server.blob)), 5)  # in pieces
        before = len(server.asked(server.blob))
        self.pulls(server, "m")
        self.assertEqual(len(server.asked(server.blob)), before)  # what is there is not fetched again

    def test_a_go_template_that_has_no_equivalent_is_told_and_left_out(self):
        server = self.ollama(template=b"{{ range .Messages }}{{ .Content }}{{ end }}")
        model = self.pulls(server, "m")
        self.assertIsNone(model["template"])
        self.assertIn("range .Messages", model["warnings"][0]["why"])

    def test_a_file_of_hugging_face_by_its_type(self):
        hub = self.hub({"m-Q8_0.gguf": self.model, "m-Q4_K_M.gguf": self.model[:-1], "README.md": b"x"})
        model = self.pulls(hub, "hf:o/r:Q8_0")
        self.assertEqual(model["name"], "o/r:Q8_0")
        self.assertIn(pull_servers.Hub.SHA, model["origin"])
        hub.list([hub.entry("m-F16.gguf", self.model)])
        self.assertEqual(self.pulls(hub, "hf.co/o/r", "--as", "mine")["name"], "mine")

    def test_a_split_model_becomes_a_folder_of_links(self):
        half = len(self.model) // 2
        hub = self.hub({"q/m-Q4_0-00001-of-00002.gguf": self.model[:half],
                        "q/m-Q4_0-00002-of-00002.gguf": b"GGUF" + self.model[half:]})  # fmt: skip
        model = self.pulls(hub, "hf:o/r:Q4_0")
        self.assertTrue(model["path"].endswith("/m-Q4_0-00001-of-00002.gguf"), model["path"])
        self.assertEqual(len(os.listdir(os.path.dirname(model["path"]))), 2)
        self.assertIsNotNone(model["why_not"])  # these halves are no model, and that is told

    def test_a_repository_of_safetensors(self):
        folder = os.path.join(support.tiny_models(), "llama")
        files = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                files[name] = file.read()
        model = self.pulls(self.hub(files), "hf:o/r")
        self.assertEqual((model["name"], model["family"], model["why_not"]), ("o/r", "llama", None))

    def test_a_url_with_and_without_ranges_and_lengths(self):
        server = self.plain(lambda r: r.file(self.model))
        self.assertEqual(self.pulls(server, self.url(server))["name"], "model")
        server.on("/model.gguf", lambda r: r.file(self.model, ranges=False))
        self.pulls(server, self.url(server), "--as", "b")
        server.on("/model.gguf", lambda r: r.answer(200, self.model, length=False))
        self.pulls(server, self.url(server) + "#sha256=" + digest(self.model)[7:], "--as", "c")

    def test_a_local_file_is_copied_and_a_name_of_the_catalogue_is_known(self):
        path = os.path.join(self.home, "here.gguf")
        with open(path, "wb") as file:
            file.write(self.model)
        model = self.pulls(None, path)
        self.assertEqual((model["name"], model["source"]), ("here", "store"))
        os.unlink(path)
        self.assertIn("here", self.names())
        hub = self.serve(pull_servers.Server())
        self.fail_with(1, "404", "pull", "qwen3:4b", env=self.env(hub))
        self.assertEqual(hub.requests[0].path, "/api/models/Qwen/Qwen3-4B-GGUF/revision/main")

    def test_ten_redirects_are_followed_and_relative_ones_too(self):
        server = self.plain(lambda r: r.redirect("/1"))
        for i in range(1, 10):
            server.on(f"/{i}", lambda r, i=i: r.redirect(f"{i + 1}" if i % 2 else server.url + f"/{i + 1}"))
        server.on("/10", lambda r: r.file(self.model))
        self.pulls(server, self.url(server), MLXR_PULL_PIECE_BYTES="10000000")

    def test_doctor_pull_asks_and_keeps_nothing(self):
        server = self.serve(pull_servers.Server())
        server.on("/api/models/", lambda r: r.answer(200, b"[]"))
        server.on("/ggml-org/", lambda r: r.file(self.model))
        layer = {"mediaType": pull_servers.KINDS["model"], "digest": digest(self.model), "size": len(self.model)}
        server.on("/v2/library/smollm2/manifests", lambda r: r.answer(
            200, json.dumps({"schemaVersion": 2, "layers": [layer]}).encode()))  # fmt: skip
        server.on("/v2/library/smollm2/blobs", lambda r: r.file(self.model))
        found = self.succeed("doctor", "--pull", "--json", env=self.env(server)).json["findings"]
        verdicts = {f["what"]: f["verdict"] for f in found}
        for what in ("Hugging Face", "its files", "Ollama's registry", "its blobs"):
            self.assertEqual(verdicts[what], "ok", found)
        self.assertFalse(os.path.exists(os.path.join(self.models, ".mlxr")))
        result = self.run_mlxr("doctor", "--pull", "--json", env=self.env(None))
        self.assertEqual(result.code, 1)


class Manifests(PullTest):
    def test_manifests_that_are_none(self):
        server = self.ollama()
        model = server.layers[0]
        cases = [
            ("no JSON", b"<html>"), ("no JSON", b""), ("no JSON", b'{"a": 1, "a": 2}'), ("no JSON", b"[" * 100000),
            ("no manifest of version 2", b"[]"), ("no manifest of version 2", server.manifest(schemaVersion=1)),
            ("no manifest of version 2", server.manifest(layers={})), ("index", server.manifest(manifests=[])),
            ("0 layers with weights", server.manifest(layers=[])),
            ("2 layers with weights", server.manifest(layers=[model, model])),
            ("layers; 64", server.manifest(layers=[model] * 65)),
            ("longer than", b" " * (1 << 21)),
        ]  # fmt: skip
        for change in (dict(digest="sha256:../../../../etc/passwd"), dict(digest="sha256-" + "A" * 64), dict(digest="md5:1"),
                       dict(digest=None), dict(mediaType=7)):  # fmt: skip
            cases.append(("no digest of the form|no type", server.manifest(layers=[{**model, **change}])))
        for size in (-1, 1 << 62, "5", 1.5, None):
            cases.append(("no size that is possible", server.manifest(layers=[{**model, "size": size}])))
        for pattern, manifest in cases:
            with self.subTest(pattern=pattern, manifest=str(manifest)[:80]):
                server.publish(manifest)
                self.refuses(pattern, server, "m")
        self.assertEqual(server.asked("/v2/library/m/blobs"), [])
        server.publish(server.manifest())
        self.pulls(server, "m")

    def test_a_manifest_without_an_end(self):
        server = self.ollama()

        def endless(request):
            request.answer(200, length=False)
            while True:
                request.write(b" " * 65536)

        server.on("/v2/library/m/manifests/latest", endless)
        self.refuses("longer than", server, "m")

    def test_more_than_the_disk_holds_is_refused_before_anything_is_asked_for(self):
        server = self.ollama()
        server.publish(server.manifest(layers=[{**server.layers[0], "size": 1 << 49}]))
        self.refuses("bytes are needed", server, "m")
        self.assertEqual(server.asked(server.blob), [])

    def test_projectors_are_told(self):
        self.assertEqual(self.pulls(self.ollama(projector=b"GGUF"), "m")["warnings"][0]["what"], "projector")

    def adapter(self, **how):
        with open(support.gguf_adapter(os.path.join(self.home, "lora.gguf"), **how), "rb") as file:
            return file.read()

    def answer(self, model, *more):
        return self.succeed("run", model, "the inn", "--raw", "--temp", "0", "-n", "8", "--json", *more).json["ids"]

    def test_an_adapter_layer_is_a_part_of_the_model(self):
        adapter = self.adapter()
        model = self.pulls(self.ollama(adapter=adapter), "m")
        self.assertEqual([a["digest"] for a in model["adapters"]], [digest(adapter)])
        self.assertEqual(self.answer("m"), self.answer(model["path"], "--lora", os.path.join(self.home, "lora.gguf")))
        self.assertNotEqual(self.answer("m"), self.answer(model["path"]))
        store = self.serve(pull_servers.Store())
        self.succeed("cp", "m", "me/mine")
        self.succeed("push", "me/mine", env=self.env(store))
        layers = json.loads(store.manifests["me/mine", "latest"])["layers"]
        self.assertEqual([layer["digest"] for layer in layers if layer["mediaType"] == pull_servers.KINDS["adapter"]],
                         [digest(adapter)])
        for name in ("m", "me/mine"):
            self.succeed("rm", name)
        self.assertEqual(self.blobs(), [])

    def test_a_store_with_more_adapters_than_a_model_has_is_not_pushed(self):
        self.pulls(self.ollama(adapter=self.adapter(), system=b"Be brief."), "m")
        self.succeed("cp", "m", "me/mine")
        with sqlite3.connect(os.path.join(self.models, ".mlxr", "registry.db")) as db:
            for i in range(40):
                db.execute("INSERT INTO files (model, position, role, name, digest) SELECT model, ?, role, ?, digest FROM files "
                           "WHERE role = 'adapter' AND position < 100", (100 + i, f"adapter-{i + 2}.gguf"))  # fmt: skip
        db.close()
        self.fail_with(1, "has 41 adapters; at most 16", "push", "me/mine", env=self.env(self.serve(pull_servers.Store())))

    def test_an_adapter_layer_that_does_not_fit_is_refused(self):
        for words, adapter in (("truncated", b"GGUF"), ("no model file", b"PEFT" + self.adapter()[4:]),
                               ("family 'qwen2'", self.adapter(family="qwen2")), (r"as \[32, 32\]", self.adapter(n=32)),
                               ("not a LoRA adapter", self.model)):  # fmt: skip
            self.fail_with(1, words, "pull", "m", env=self.env(self.ollama(adapter=adapter)))
            self.assertEqual(self.names(), [])

    def test_texts_with_another_digest_or_size(self):
        server = self.ollama(system=b"Be brief.")
        path = "/v2/library/m/blobs/" + server.layers[1]["digest"]
        for text in (b"Be rude...", b"Be rude.."[:8], b"Be rude."):
            server.on(path, lambda r, text=text: r.answer(200, text))
            self.refuses("longer than|another digest", server, "m")
        server.on(path, lambda r: r.answer(200, b"Be brief."))
        self.pulls(server, "m")

    def test_parameters_and_messages_that_are_none(self):
        for params in (b"[]", b"{", b'{"stop": {"a": 1}}', b'{"stop": [[1]]}'):
            self.refuses("parameter", self.ollama(params=params), "m")
        for messages in (b"{}", b"[1]", b'[{"role": "user"}]'):
            self.refuses("message", self.ollama(messages=messages), "m")


class Bodies(PullTest):
    def blob(self, script, **texts):
        server = self.ollama(**texts)
        server.on(server.blob, script)
        return server

    def test_other_bytes_than_the_digest_says(self):
        other = self.model[:5000] + b"!" + self.model[5001:]
        self.refuses("has the digest", self.blob(lambda r: r.file(other)), "m")
        self.refuses("has the digest", self.blob(lambda r: r.file(other, ranges=False)), "m")

    def test_a_body_that_ends_too_early_is_tried_again_and_then_given_up(self):
        def short(request):
            first, last = request.range
            request.write(b"HTTP/1.1 206 X\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
                          % (last - first + 1, first, last, len(self.model)))  # fmt: skip

        self.refuses("attempts", self.blob(short), "m")

    def test_a_connection_that_breaks_in_the_middle_is_gone_on_with(self):
        breaks = iter(range(6))

        def breaking(request):
            if next(breaks, None) is None:
                return request.file(self.model)
            first, last = request.range
            last = min(last, len(self.model) - 1)
            request.write(b"HTTP/1.1 206 X\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
                          % (last - first + 1, first, last, len(self.model))
                          + self.model[first : first + 30000])  # fmt: skip
            return None

        server = self.blob(breaking)
        self.pulls(server, "m")
        firsts = [r.range[0] for r in server.asked(server.blob)]
        self.assertIn(30000, firsts)  # in the middle of a piece

    def test_a_file_of_several_large_pages_comes_in_pieces_of_any_size(self):
        """Pages are begun as a whole before the first bytes of each come; what is there already must not be lost."""
        if os.path.realpath(self.models).startswith("/dev/shm"):
            shutil.rmtree(self.models)
            self.models = tempfile.mkdtemp(prefix="mlxr-models-", dir=self.home)
        body = self.model + bytes(i * 2654435761 >> 13 & 255 for i in range(5 << 20))
        self.model = body[: (5 << 20) + 3]
        for piece in ("3000001", str(32 << 20)):  # pages across the ends of pieces; one piece
            breaks = iter(range(7))

            def breaking(request, breaks=breaks):
                if next(breaks, None) is None:
                    return request.file(self.model)
                first, last = request.range
                last = min(last, len(self.model) - 1)
                request.write(b"HTTP/1.1 206 X\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
                              % (last - first + 1, first, last, len(self.model))
                              + self.model[first : first + 700001])  # fmt: skip
                return None

            self.pulls(self.blob(breaking), "m", MLXR_PULL_PIECE_BYTES=piece)
            self.succeed("rm", "m")
        self.pulls(self.blob(lambda r: r.file(self.model, ranges=False)), "m")

    def test_a_server_that_knows_no_ranges(self):
        self.pulls(self.blob(lambda r: r.file(self.model, ranges=False)), "m")

    def test_other_ranges_than_asked_for(self):
        size = len(self.model)
        for header in (f"bytes 1-99/{size}", f"bytes 0-99/{size + 1}", f"bytes 0-99/{size - 1}", "bytes */5", "bytes 0-/9",
                       f"bytes 5-2/{size}", "lines 0-9/10", f"bytes 0-{1 << 70}/{size}", "bytes 0-99/*"):  # fmt: skip
            script = lambda r, h=header: r.answer(206, self.model[:100], [("Content-Range", h)])  # noqa: E731
            self.refuses("another range", self.blob(script), "m")
        self.refuses("another range", self.blob(lambda r: r.answer(206, self.model[:100])), "m")

    def test_more_bytes_than_asked_for(self):
        def too_many(request):
            first, last = request.range
            request.answer(206, self.model[first : last + 2], [("Content-Range", f"bytes {first}-{last}/{len(self.model)}")])

        self.refuses("more bytes", self.blob(too_many), "m")

    def test_a_body_without_an_end(self):
        def endless(request):
            request.answer(200, length=False)
            request.write(self.model)
            while True:
                request.write(b"\0" * 65536)

        self.refuses("more bytes", self.blob(endless), "m")

    def test_another_size_than_the_manifest_says(self):
        self.refuses("another size", self.blob(lambda r: r.file(self.model + b"\0", ranges=False)), "m")
        self.refuses("another size", self.blob(lambda r: r.file(self.model[:-1], ranges=False)), "m")
        self.refuses("another range", self.blob(lambda r: r.file(self.model + b"\0")), "m")

    def test_compressed_bodies_are_refused(self):
        for encoding in ("gzip", "br", "zstd", "identity, gzip"):
            server = self.blob(lambda r, e=encoding: r.answer(200, b"\x1f\x8b" * 50000, [("Content-Encoding", e)]))
            self.refuses("compresses", server, "m")
        server = self.ollama()
        server.on("/v2/library/m/manifests/latest", lambda r: r.answer(200, b"\x1f\x8b", [("Content-Encoding", "gzip")]))
        self.refuses("compresses", server, "m")

    def test_errors_that_pass_and_errors_that_do_not(self):
        for code in (500, 502, 503, 429, 408):
            left = iter(range(3))

            def failing(request, code=code, left=left):
                if next(left, None) is None:
                    return request.file(self.model)
                return request.answer(code, b"busy", [("Retry-After", "0")])

            self.pulls(self.blob(failing), "m")
            self.succeed("rm", "m")
        self.refuses("503.*attempts", self.blob(lambda r: r.answer(503)), "m")
        for code in (400, 401, 403, 404, 410, 416, 451):
            server = self.blob(lambda r, code=code: r.answer(code))
            self.refuses(str(code), server, "m")
            self.assertEqual(len(server.asked(server.blob)), 1)
        for code in (204, 205, 226, 300, 304):
            self.refuses("no file|answers", self.blob(lambda r, code=code: r.answer(code, self.model)), "m")

    def test_retry_after_is_waited_for(self):
        left = iter(range(1))

        def later(request):
            if next(left, None) is None:
                return request.file(self.model)
            return request.answer(429, b"", [("Retry-After", "1")])

        began = time.monotonic()
        self.pulls(self.blob(later), "m")
        self.assertGreater(time.monotonic() - began, 1)

    def test_silence_is_given_up_after_a_while(self):
        def silent(request):
            time.sleep(4)

        server = self.blob(silent)
        server.on("/v2/library/m/manifests/latest", silent)
        self.refuses("attempts|slow|[Tt]ime", server, "m", MLXR_PULL_STALL_S="1")

    def test_a_trickle_is_given_up(self):
        def trickle(request):
            first, last = request.range
            request.write(b"HTTP/1.1 206 X\r\nContent-Length: 100000\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
                          % (first, last, len(self.model)))  # fmt: skip
            for i in range(first, last):  # until it is left
                request.write(self.model[i : i + 1])
                time.sleep(0.1)

        server = self.blob(trickle)
        child = subprocess.Popen([support.MLXR, "pull", "m"], env=self.env(server, MLXR_PULL_STALL_S="1"), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)  # fmt: skip
        end = time.monotonic() + support.TIMEOUT
        while len(server.asked(server.blob)) <= 2:  # each is ended and asked for again
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=support.TIMEOUT)
        self.assertEqual(child.returncode, 130)

    def test_heads_without_an_end_or_sense(self):
        def flood(request):
            request.write(b"HTTP/1.1 200 X\r\n")
            while True:
                request.write(b"X-Flood: " + b"x" * 1000 + b"\r\n")

        scripts = [
            flood,
            lambda r: r.write(b"HTTP/1.1 200 X\r\nX: " + b"x" * 300000 + b"\r\n\r\n"),
            lambda r: r.write(b"no HTTP at all\r\n\r\n" + self.model),
            lambda r: r.write(b"HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\n"),
            lambda r: r.write(b"HTTP/1.1 200 X\r\nContent-Length: 99999999999999999999\r\n\r\n"),
            lambda r: r.write(b"HTTP/1.1 99999 X\r\n\r\n"),
            lambda r: r.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ]
        for script in scripts:
            self.refuses(".", self.blob(script), "m")

    def test_what_is_no_model_is_noticed_with_its_first_bytes(self):
        server = self.plain(lambda r: r.answer(200, b"<html>" + b"x" * 3000000))
        self.refuses("no model file", server, self.url(server))
        server = self.plain(lambda r: r.answer(200, b""))
        self.refuses("empty", server, self.url(server))


class Redirects(PullTest):
    def test_redirects_that_lead_nowhere(self):
        for location in ("/model.gguf", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "http://",
                         "http://user:secret@127.0.0.1:1/x", "http://user@127.0.0.1:1/x", "//", "http://[::1", "\\\\x\\y",
                         "http://127.0.0.1:99999/", "javascript:alert(1)", "http:///etc/passwd", "dict://127.0.0.1:1/"):  # fmt: skip
            with self.subTest(location=location):
                server = self.plain(lambda r, l=location: r.redirect(l))
                self.refuses("redirects|URL|attempts|404|private", server, self.url(server))
        server = self.plain(lambda r: r.answer(302))
        self.refuses("without telling where", server, self.url(server))

    def test_the_eleventh_redirect_is_refused(self):
        server = self.plain(lambda r: r.redirect("/1"))
        for i in range(1, 11):
            server.on(f"/{i}", lambda r, i=i: r.redirect(f"/{i + 1}"))
        server.on("/11", lambda r: r.file(self.model))
        self.refuses("more than 10", server, self.url(server), MLXR_PULL_PIECE_BYTES="10000000")

    def test_private_addresses_are_not_connected_to(self):
        inner = self.serve(pull_servers.Server("127.0.0.2"))
        inner.on("/", lambda r: r.file(self.model))
        for host in (f"127.0.0.2:{inner.port}", f"2130706434:{inner.port}", f"0x7f.2:{inner.port}", "[::1]:80",
                     "[::ffff:127.0.0.2]:80", "[::]:80", "0:80", "10.0.0.1", "169.254.169.254", "192.168.0.1", "172.16.0.1",
                     "100.64.0.1", "[fd00::1]", "[fe80::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost:80"):  # fmt: skip
            with self.subTest(host=host):
                server = self.plain(lambda r, h=host: r.redirect(f"http://{h}/secret"))
                # A machine without IPv6 cannot even try.
                self.refuses("private address|attempts", server, self.url(server), MLXR_ALLOW_PRIVATE="127.0.0.1")
                self.refuses("private address|attempts", None, f"http://{host}/x.gguf", MLXR_ALLOW_PRIVATE="127.0.0.1")
        self.assertEqual(inner.n_connections, 0)
        server = self.plain(lambda r: r.redirect(f"{inner.url}/x"))
        self.pulls(server, self.url(server), MLXR_ALLOW_PRIVATE=f"127.0.0.1,127.0.0.2:{inner.port}")

    def test_nothing_private_is_allowed_unless_said(self):
        server = self.plain(lambda r: r.file(self.model))
        self.refuses("private address", server, self.url(server), MLXR_ALLOW_PRIVATE=None)
        self.refuses("private address", self.ollama(), "m", MLXR_ALLOW_PRIVATE="127.0.0.2,localhost,127.0.0.1:1")
        self.assertEqual(server.n_connections, 0)
        for proxied in ("http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://0x7f000001/"):
            self.refuses("private address", None, proxied + "x.gguf", MLXR_ALLOW_PRIVATE=None, http_proxy=server.url)
        self.assertEqual(server.n_connections, 0)


@unittest.skipUnless(shutil.which("openssl"), "there is no openssl to make a certificate with")
class Encrypted(PullTest):
    def setUp(self):
        super().setUp()
        self.certificate, key = os.path.join(self.home, "cert.pem"), os.path.join(self.home, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", self.certificate, "-days", "2", "-subj", "/CN=127.0.0.1",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)  # fmt: skip
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.certificate, key)

    def encrypted(self, script, host="127.0.0.1"):
        server = self.serve(pull_servers.Server(host, self.tls))
        server.on("/model.gguf", script)
        return server

    def test_a_certificate_must_be_trusted_and_the_hosts_own(self):
        server = self.encrypted(lambda r: r.file(self.model))
        self.refuses("certificate|attempts", server, self.url(server))
        self.refuses("certificate|attempts", server, self.url(server), SSL_CERT_FILE=os.devnull)
        other = self.encrypted(lambda r: r.file(self.model), "127.0.0.2")
        self.refuses("certificate|attempts", other, self.url(other), SSL_CERT_FILE=self.certificate,
                     MLXR_ALLOW_PRIVATE="127.0.0.2")  # fmt: skip
        self.assertEqual((server.asked("/"), other.asked("/")), ([], []))
        self.pulls(server, self.url(server), SSL_CERT_FILE=self.certificate)

    def test_a_redirect_from_https_to_http_is_refused_and_the_other_way_followed(self):
        plain = self.plain(lambda r: r.file(self.model))
        server = self.encrypted(lambda r: r.redirect(self.url(plain)))
        self.refuses("redirects from https to http", server, self.url(server), SSL_CERT_FILE=self.certificate)
        self.assertEqual(plain.n_connections, 0)
        twice = self.encrypted(lambda r: r.redirect(self.url(server)))  # https, https, http
        self.refuses("redirects from https to http", twice, self.url(twice), SSL_CERT_FILE=self.certificate)
        self.assertEqual(plain.n_connections, 0)
        whole = self.encrypted(lambda r: r.file(self.model))
        upward = self.plain(lambda r: r.redirect(self.url(whole)))
        self.pulls(upward, self.url(upward), SSL_CERT_FILE=self.certificate)


class Credentials(PullTest):
    def tokens(self, server, prefix="/"):
        return {r.headers.get("authorization") for r in server.asked(prefix)}

    def test_a_token_goes_to_its_host_and_to_no_other(self):
        hub = self.hub({"m-Q8_0.gguf": self.model})
        self.pulls(hub, "hf:o/r", HF_TOKEN="hf_secret")
        self.assertEqual(self.tokens(hub), {"Bearer hf_secret"})
        self.assertEqual(self.tokens(hub.cdn), {None})
        for request in hub.cdn.requests:
            self.assertNotIn("hf_secret", str(request.headers) + request.path)

    def test_a_token_from_the_file_of_a_login_and_none_with_line_breaks(self):
        hub = self.hub({"m-Q8_0.gguf": self.model})
        os.makedirs(os.path.join(self.home, ".cache/huggingface"))
        with open(os.path.join(self.home, ".cache/huggingface/token"), "w", encoding="utf-8") as file:
            file.write("hf_file\n")
        self.pulls(hub, "hf:o/r")
        self.assertEqual(self.tokens(hub), {"Bearer hf_file"})

    def test_a_token_is_not_sent_in_the_clear(self):
        """Over http it would be; only a server on this machine is told."""
        inner = self.serve(pull_servers.Server("127.0.0.2"))
        self.fail_with(1, "404", "pull", "hf:o/r", env=self.env(inner, MLXR_ALLOW_PRIVATE="*", HF_TOKEN="hf_secret"))
        self.assertEqual(self.tokens(inner), {None})

    def test_the_list_of_files_does_not_lead_to_another_host(self):
        hub = self.hub({"m-Q8_0.gguf": self.model})
        other = self.serve(pull_servers.Server())
        link = [("Link", f'<{other.url}/next>; rel="next"')]
        hub.on("/api/models/o/r/tree/", lambda r: r.answer(200, b"[]", link))
        self.refuses("another host", hub, "hf:o/r", HF_TOKEN="hf_secret")
        self.assertEqual(other.n_connections, 0)

    def test_a_registry_that_wants_a_token_and_gives_one(self):
        server = self.ollama()
        cdn = self.serve(pull_servers.Server())
        cdn.on("/blob", lambda r: r.file(self.model))
        manifest = json.dumps(server.manifest()).encode()
        challenge = [("WWW-Authenticate", f'Bearer realm="{server.url}/token",service="s s",scope="repository:x:pull"')]

        def guarded(answer):
            return lambda r: answer(r) if r.headers.get("authorization") == "Bearer T0K" else r.answer(401, b"", challenge)

        server.on("/token", lambda r: r.answer(200, b'{"token": "T0K"}'))
        server.on("/v2/library/m/manifests/latest", guarded(lambda r: r.answer(200, manifest)))
        server.on(server.blob, guarded(lambda r: r.redirect(cdn.url + "/blob")))
        self.pulls(server, "m")
        self.assertEqual(self.tokens(cdn), {None})
        self.assertIn("service=s%20s&scope=repository%3Ax%3Apull", server.asked("/token")[0].path)

    def test_a_login_at_another_host_is_refused(self):
        other = self.serve(pull_servers.Server())
        server = self.ollama()
        challenges = [
            (f'Bearer realm="{other.url}/token",service="s"', "another host"),
            ('Bearer realm="http://169.254.169.254/latest"', "another host"),
            (f'Bearer realm="{server.url}@{other.host}:{other.port}/"', "another host"),
            ("Basic realm=x", "kind that is not known"),
            ('Bearer realm="', "kind that is not known"),
            ("Bearer service=x", "kind that is not known"),
            ('Bearer realm="' + "x" * 600 + '"', "kind that is not known"),
        ]
        for challenge, pattern in challenges:
            server.on("/v2/library/m/manifests/latest",
                      lambda r, c=challenge: r.answer(401, b"", [("WWW-Authenticate", c)]))  # fmt: skip
            self.refuses(pattern, server, "m")
        self.assertEqual(other.n_connections, 0)

    def test_tokens_that_could_not_be_sent_and_logins_without_end(self):
        server = self.ollama()
        challenge = [("WWW-Authenticate", f'Bearer realm="{server.url}/token"')]
        server.on("/v2/library/m/manifests/latest", lambda r: r.answer(401, b"", challenge))
        for token in ('{"token": "a\\r\\nX: y"}', '{"token": ""}', "{}", "[]", "no", '{"token": "' + "x" * 9000 + '"}'):
            server.on("/token", lambda r, t=token: r.answer(200, t.encode()))
            self.refuses("no token", server, "m")
        server.on("/token", lambda r: r.answer(200, b'{"token": "wrong"}'))
        self.refuses("does not give", server, "m")

    def test_secrets_are_in_no_message(self):
        hub = self.serve(pull_servers.Server())
        hub.on("/", lambda r: r.answer(403))
        result = self.run_mlxr("pull", "hf:o/r", env=self.env(hub, HF_TOKEN="hf_secret"))
        self.assertNotIn("hf_secret", result.err + result.text)


class Hubs(PullTest):
    def test_lists_that_are_none(self):
        hub = self.hub({"m-Q8_0.gguf": self.model})
        good = hub.entry("m-Q8_0.gguf", self.model)
        cases = [
            ("no JSON", b"<html>"), ("no list", b"{}"), ("no possible size", [{**good, "lfs": {"oid": "0" * 64, "size": -1}}]),
            ("no SHA-256", [{**good, "lfs": {"oid": "zz", "size": 5}}]), ("no SHA-256", [{**good, "lfs": {"size": 5}}]),
            ("neither GGUF", []), ("neither GGUF", [1, None, "x", {}, {"type": "directory", "path": "a.gguf"}]),
            ("neither GGUF", [{**good, "path": "mmproj-x-F16.gguf"}]),
        ]  # fmt: skip
        for path in ("../m-Q8_0.gguf", "/etc/m-Q8_0.gguf", "a/../m.gguf", "a\\b.gguf", "a b.gguf", "x?y.gguf", "a//b.gguf",
                     "%2e%2e/x.gguf", "é.gguf", "a\nb.gguf", ""):  # fmt: skip
            cases.append(("neither GGUF", [{**good, "path": path}]))
        for pattern, entries in cases:
            with self.subTest(pattern=pattern, entries=str(entries)[:100]):
                hub.list(entries)
                self.refuses(pattern, hub, "hf:o/r")
        for sha in ("", "main", "../../x", "A" * 40, 5):
            hub.on("/api/models/o/r/revision/main", lambda r, s=sha: r.answer(200, json.dumps({"sha": s}).encode()))
            self.refuses("which commit", hub, "hf:o/r")

    def test_a_list_with_pages_without_end(self):
        hub = self.hub({"m-Q8_0.gguf": self.model})
        link = [("Link", f'<{hub.url}/api/models/o/r/tree/more>; rel="next"')]
        hub.on("/api/models/o/r/tree/", lambda r: r.answer(200, b"[]", link))
        self.refuses("too many pages", hub, "hf:o/r")
        self.assertLess(len(hub.asked("/api/models/o/r/tree/")), 25)

    def test_a_type_that_is_not_there_names_those_that_are(self):
        hub = self.hub({"m-Q8_0.gguf": self.model, "m-Q2_K.gguf": self.model})
        self.refuses("no GGUF file is called 'Q4_0'; there is m-Q8_0, m-Q2_K", hub, "hf:o/r:Q4_0")
        self.refuses("no GGUF file is called 'Q2'", hub, "hf:o/r:Q2")

    def test_a_split_model_that_lacks_a_part(self):
        self.refuses("is one of 3 parts, of which 2", self.hub({f"m-Q4_0-0000{i}-of-00003.gguf": self.model for i in (1, 3)}),
                     "hf:o/r:Q4_0")  # fmt: skip

    def test_a_small_file_that_is_another_one(self):
        folder = os.path.join(support.tiny_models(), "llama")
        files = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                files[name] = file.read()
        hub = self.hub(files)
        changed = files["config.json"].replace(b"{", b" ", 1)
        hub.on(f"/o/r/resolve/{hub.SHA}/config.json", lambda r: r.answer(200, changed))
        result = self.fail_with(1, "not the file that the list describes", "pull", "hf:o/r", env=self.env(hub))
        self.assertEqual(self.names(), [], result)

    def test_names_that_are_no_repository(self):
        for name in ("hf:", "hf:x", "hf:../..", "hf:o/r/x", "hf:o/r:", "hf:/r", "hf:o/", "hf:o/../x", "hf:-o/r", "hf:o/r?x"):
            with self.subTest(name=name):
                self.fail_with(1, "repository|404|name", "pull", name, env=self.env(self.serve(pull_servers.Server())))


class Interrupted(PullTest):
    STATE_HEAD = 224  # bytes of a state file before the first piece's (daemon/registry/download.c)

    def setUp(self):
        super().setUp()
        self.over = threading.Event()
        self.addCleanup(self.over.set)

    def slowly(self, request, **how):
        """The pieces from 300000 on come when the test is over."""
        if request.range[0] >= 300000:
            self.over.wait()
        request.file(how.pop("content", self.model), **how)

    def start(self, server, source):
        child = subprocess.Popen([support.MLXR, "pull", source], env=self.env(server, MLXR_PULL_STALL_S="600"),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        partial = os.path.join(self.models, ".mlxr", "partial")
        end = time.monotonic() + support.TIMEOUT
        while time.monotonic() < end:
            states = [f for f in os.listdir(partial) if f.endswith(".state")] if os.path.isdir(partial) else []
            if states:
                with open(os.path.join(partial, states[0]), "rb") as file:
                    if file.read()[self.STATE_HEAD :].count(b"\1") >= 3:
                        return child
            time.sleep(0.02)
        child.kill()
        self.fail(f"three pieces were not there; exit {child.wait()}, {os.listdir(self.models)}")

    def gone_on_with(self, server, signal_number, code):
        server.on(server.blob, self.slowly)
        child = self.start(server, "m")
        child.send_signal(signal_number)
        self.assertEqual(child.wait(support.TIMEOUT), code)
        self.assertEqual(self.names(), [])
        server.on(server.blob, lambda r: r.file(self.model))
        before = len(server.asked(server.blob))
        self.pulls(server, "m")
        again = [r.range[0] for r in server.asked(server.blob)[before:]]
        self.assertTrue(again and min(again) >= 300000, again)

    def test_a_killed_pull_is_gone_on_with(self):
        self.gone_on_with(self.ollama(), signal.SIGKILL, -signal.SIGKILL)

    def test_ctrl_c_ends_a_pull_which_is_gone_on_with(self):
        self.gone_on_with(self.ollama(), signal.SIGINT, 130)

    def test_what_was_left_behind_and_spoiled_is_fetched_anew(self):
        server = self.ollama()
        server.on(server.blob, self.slowly)
        child = self.start(server, "m")
        child.kill()
        child.wait()
        partial = os.path.join(self.models, ".mlxr", "partial", "sha256-" + digest(self.model)[7:])
        with open(partial, "r+b") as file:
            file.seek(1234)
            file.write(b"spoiled")
        server.on(server.blob, lambda r: r.file(self.model))
        self.pulls(server, "m")
        self.assertEqual(os.listdir(os.path.dirname(partial)), [])

    def test_states_that_make_no_sense_are_not_believed(self):
        server = self.ollama()
        server.on(server.blob, self.slowly)
        child = self.start(server, "m")
        child.kill()
        child.wait()
        path = os.path.join(self.models, ".mlxr", "partial", "sha256-" + digest(self.model)[7:] + ".state")
        with open(path, "rb") as file:
            state = file.read()
        server.on(server.blob, lambda r: r.file(self.model))
        for spoiled in (b"", state[:50], b"\xff" * len(state), state[:-1], state + b"\1", state[:20] + b"\xff" * 8 + state[28:]):
            with open(path, "wb") as file:
                file.write(spoiled)
            self.pulls(server, "m")
            self.succeed("rm", "m")

    def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(self):
        old = self.model[:-1] + b"\x7f"
        server = self.plain(lambda r: self.slowly(r, content=old, etag="old"))
        child = self.start(server, self.url(server))
        child.kill()
        child.wait()
        server.on("/model.gguf", lambda r: r.file(self.model, etag="new"))
        self.assertEqual(self.pulls(server, self.url(server))["digest"], digest(self.model))

    def test_two_pulls_of_one_model_at_a_time(self):
        server = self.ollama()
        server.on(server.blob, lambda r: (time.sleep(0.3), r.file(self.model)))
        children = [subprocess.Popen([support.MLXR, "pull", "m"], env=self.env(server), stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE) for _ in range(2)]  # fmt: skip
        results = [(child.communicate(timeout=support.TIMEOUT)[1], child.returncode) for child in children]
        self.assertIn(0, [code for _, code in results], results)
        for text, code in results:
            self.assertTrue(code == 0 or b"already" in text, results)
        self.pulls(server, "m")


if __name__ == "__main__":
    support.main()
