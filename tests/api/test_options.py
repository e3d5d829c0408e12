"""The daemon's own options: its file, the command line before it, changes that apply at once or after a restart, folders."""
import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
import unittest

import support


class Options(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.folder = os.path.join(self.home, "config", "mlxr")
        self.file = os.path.join(self.folder, "serve.json")

    def start(self, *arguments, saved=None, **more):
        if saved is not None:
            os.makedirs(self.folder, exist_ok=True)
            with open(self.file, "w", encoding="utf-8") as file:
                file.write(saved if isinstance(saved, str) else json.dumps(saved))
        self.daemon = self.serve(*arguments, env=self.environment(XDG_CONFIG_HOME=os.path.join(self.home, "config")), **more)
        return self.daemon

    def get(self):
        answer = self.daemon.ask("GET", "/ui-api/options")
        self.assertEqual(answer.status, 200, answer)
        return answer.json

    def change(self, values, status=200, **more):
        answer = self.daemon.ask("PATCH", "/ui-api/options", {"values": values, **more})
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def refused(self, values, field, *words):
        error = self.change(values, 400)["error"]
        self.assertEqual(error["param"], field, error)
        for word in words:
            self.assertIn(word, error["message"])

    def option(self, name, told=None):
        return next(o for o in (told or self.get())["options"] if o["name"] == name)

    def load(self, name):
        self.assertEqual(self.daemon.ask("POST", "/ui-api/models/load", {"model": name}).status, 200)
        return self.daemon.ask("GET", "/ui-api/loaded").json["loaded"][0]

    def on_disk(self):
        with open(self.file, encoding="utf-8") as file:
            return json.load(file)

    def test_without_a_file_everything_is_as_usual_and_nothing_is_written(self):
        self.start("--threads", "1")
        told = self.get()
        self.assertEqual((told["file"], told["saved"], told["writable"]), (self.file, {}, True))
        self.assertEqual(set(told["defaults"]), {o["name"] for o in told["options"]})
        self.assertEqual(set(told["running"]), set(told["defaults"]))
        self.assertFalse(told["restart_needed"])
        self.assertEqual((self.option("threads")["source"], told["running"]["threads"]), ("command_line", 1))
        others = {n: v for n, v in told["running"].items() if n not in ("threads", *(["kv_bytes"] if support.SMALL else []))}
        self.assertEqual(others, {n: told["defaults"][n] for n in others})
        self.assertTrue({"version", "compiler", "machine", "backend", "cpu_features"} <= set(told["build"]))
        self.assertEqual((told["build"]["n_threads"], told["build"]["replaced"]), (1, False))
        self.assertFalse(os.path.exists(self.file))

    def test_the_file_is_what_the_daemon_starts_with_and_the_command_line_goes_before_it(self):
        saved = {"threads": 2, "kv_type": "q8_0", "activations": 8, "kv_bytes": 1 << 28, "expert_bytes": 1 << 27, "ctx": 512, "keep_alive_s": -1, "parallel": 7, "queue": 3,
                 "drain_s": 4, "draft": "ngram", "memory_bytes": 1 << 30}  # fmt: skip
        self.start("--threads", "1", "--queue", "5", saved=saved)
        told = self.get()
        self.assertEqual(told["saved"], saved)
        wanted = {**told["defaults"], **saved, "threads": 1, "queue": 5}
        self.assertEqual(told["running"], {**wanted, "kv_bytes": told["running"]["kv_bytes"]})
        self.assertEqual({n: self.option(n, told)["source"] for n in ("threads", "queue", "ctx", "backend")},
                         {"threads": "command_line", "queue": "command_line", "ctx": "file", "backend": "default"})  # fmt: skip
        self.assertFalse(told["restart_needed"], told)
        status = self.daemon.ask("GET", "/ui-api/status").json
        self.assertEqual((status["streams"]["running_max"], status["streams"]["queued_max"], status["memory"]["budget_bytes"]), (7, 5, 1 << 30))
        self.assertEqual(status["engine"]["activations"], 8)

    def test_the_bits_of_activations_are_told_of_the_engine_and_of_what_is_loaded(self):
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        for saved, bits in (({}, 16), ({"activations": 8}, 8)):
            self.start("--threads", "1", saved=saved)
            self.assertEqual(self.daemon.ask("GET", "/ui-api/status").json["engine"]["activations"], bits)
            loaded = self.daemon.ask("POST", "/ui-api/models/load", {"model": "qwen2"})
            self.assertEqual((loaded.status, loaded.json.get("activations")), (200, bits), loaded)
            self.assertEqual(self.daemon.stop(), 0)

    def test_contexts_beyond_the_trained_one_are_read_as_the_file_or_the_command_line_says(self):
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        prompt = {"model": "qwen2", "prompt": "zqxkvjwp" * 50, "max_tokens": 1}
        saved = {"ctx": 1024, "rope_scaling": "yarn"}
        for arguments, in_file, scaling, factor, n_ctx in (((), {}, "none", 1, 256), ((), {"ctx": 1024}, "none", 1, 256), ((), saved, "yarn", 4, 1024),
                                                           ((), {**saved, "rope_scale": 2}, "yarn", 2, 512),
                                                           (("--rope-scaling", "ntk", "--ctx", "512"), saved, "ntk", 2, 512)):  # fmt: skip
            self.start("--threads", "1", *arguments, saved=in_file)
            told = self.load("qwen2")
            self.assertEqual((told["rope_scaling"], told["rope_factor"], told["n_ctx"]), (scaling, factor, n_ctx))
            self.assertEqual(self.daemon.ask("POST", "/v1/completions", prompt).status, 400 if n_ctx == 256 else 200)
            running = self.get()["running"]
            self.assertEqual(running["rope_scaling"], "" if scaling == "none" else scaling)
            self.assertEqual(running["rope_scale"], in_file.get("rope_scale", 0))
            self.assertEqual(self.daemon.stop(), 0)

    def told_contexts(self, name):
        """What each route tells of a model's context."""
        ask, version = self.daemon.ask, [("anthropic-version", "2023-06-01")]
        listed = [m["context_length"] for m in ask("GET", "/v1/models").json["data"] if m["id"] == name]
        listed += [m["details"]["context_length"] for m in ask("GET", "/api/tags").json["models"] if m["name"].split(":")[0] == name]
        self.assertEqual(len(listed), 2)
        return {*listed, ask("GET", "/v1/models/" + name).json["context_length"],
                ask("GET", "/v1/models/" + name, headers=version).json["max_input_tokens"],
                ask("POST", "/api/show", {"model": name}).json["details"]["context_length"]}  # fmt: skip

    def test_clients_are_told_the_context_that_a_loaded_model_has(self):
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        for saved, before, after in (({"ctx": 1024, "rope_scaling": "yarn"}, {256}, {1024}), ({"ctx": 128}, {128}, {128}), ({"ctx": 1024}, {256}, {256})):
            self.start("--threads", "1", saved=saved)
            self.assertEqual(self.told_contexts("qwen2"), before)
            self.load("qwen2")
            self.assertEqual(self.told_contexts("qwen2"), after)
            self.assertEqual(self.daemon.stop(), 0)

    def test_a_model_that_cannot_be_stretched_is_served_as_it_is(self):
        os.symlink(support.cli.write_family("gpt2", self.home), os.path.join(self.models, "gpt2"))
        self.start("--threads", "1", saved={"ctx": 1024, "rope_scaling": "linear"})
        told = self.load("gpt2")
        self.assertEqual((told["rope_scaling"], told["rope_factor"], told["n_ctx"]), ("", 1, 256))

    def test_an_answer_without_a_bound_is_as_long_as_the_memory_holds(self):
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        self.start("--threads", "1", "--kv-bytes", "1M", "--rope-scaling", "yarn", "--ctx", "1048576")
        body = {"model": "qwen2", "messages": [{"role": "user", "content": "hello"}]}
        self.assertEqual(self.load("qwen2")["n_ctx"], 1 << 20)
        self.assertTrue(self.daemon.wait_line("as long as the context of 1048576 tokens needs"))
        refused = self.daemon.ask("POST", "/v1/chat/completions", {**body, "max_tokens": 1000000})
        self.assertEqual((refused.status, refused.json["error"]["code"]), (400, "memory_exceeded"), refused)
        self.assertEqual(self.daemon.ask("POST", "/v1/chat/completions", {**body, "stop": list("aeio")}).status, 200)
        answer = self.daemon.ask("POST", "/v1/chat/completions", {**body, "logit_bias": {"33": 100}, "temperature": 0}).json
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertGreater(answer["usage"]["completion_tokens"], 256)

    def test_what_embeds_texts_is_stretched_by_a_scale_that_is_named_alone(self):
        os.symlink(support.cli.write_family("modernbert", self.home), os.path.join(self.models, "embedder"))
        for more, n_ctx in (({}, 256), ({"rope_base": 900000}, 256), ({"rope_scale": 2}, 512)):
            self.start("--threads", "1", saved={"ctx": 1024, "rope_scaling": "yarn", **more})
            told = self.load("embedder")
            self.assertEqual((told["rope_scaling"], told["n_ctx"]), ("none" if n_ctx == 256 else "yarn", n_ctx))
            self.assertEqual(self.daemon.stop(), 0)

    def test_more_context_than_there_is_is_told_with_the_answer(self):
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        body = {"model": "qwen2", "prompt": "a", "max_tokens": 1}
        for arguments, words in (((), "--rope-scaling of mlxr serve reads further"), (("--ctx", "128"), "--ctx of mlxr serve allows more")):
            self.start("--threads", "1", *arguments)
            for route, more in (("/v1/completions", {"n_ctx": 1000}), ("/api/generate", {"options": {"num_ctx": 1000}, "stream": False})):
                told = self.daemon.ask("POST", route, {**body, **more}).json["warnings"]
                self.assertEqual(len(told), 1, told)
                self.assertIn("num_ctx) 1000: this model's context is " + (arguments[1] if arguments else "256"), told[0])
                self.assertIn(words, told[0])
            self.assertNotIn("warnings", self.daemon.ask("POST", "/v1/completions", {**body, "n_ctx": 100}).json)
            self.assertEqual(self.daemon.stop(), 0)

    def test_a_scaling_of_the_command_line_goes_without_the_numbers_of_the_file(self):
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        saved = {"ctx": 1024, "rope_scaling": "yarn", "rope_scale": 2, "rope_original": 128}
        for arguments, scaling, factor, n_ctx in ((("--rope-scaling", "none"), "none", 1, 1024), (("--rope-scaling", "ntk"), "ntk", 4, 1024),
                                                  (("--rope-scaling", "ntk", "--rope-scale", "3"), "ntk", 3, 768)):  # fmt: skip
            self.start("--threads", "1", *arguments, saved=saved)
            told = self.load("qwen2")
            self.assertEqual((told["rope_scaling"], told["rope_factor"], told["n_ctx"]), (scaling, factor, n_ctx))
            self.assertEqual(self.daemon.stop(), 0)

    def test_a_start_that_the_file_prevents_names_it(self):
        os.makedirs(self.folder)
        for saved, names in (({"rope_scaling": "yarn"}, "rope_scaling"), ({"rope_scale": 4, "rope_base": 20000}, "rope_scale, rope_base")):
            with open(self.file, "w", encoding="utf-8") as file:
                json.dump(saved, file)
            done = subprocess.run([support.cli.MLXR, "serve", "--port", "0"], env=self.environment(XDG_CONFIG_HOME=os.path.join(self.home, "config")),
                                  stderr=subprocess.PIPE, timeout=60)  # fmt: skip
            self.assertEqual(done.returncode, 2, done)
            self.assertIn(f"({names}: as {self.file} has it)", done.stderr.decode())

    def test_what_stretches_no_model_is_no_option(self):
        self.start("--threads", "1")
        self.refused({"rope_scaling": "dynamic"}, "rope_scaling", "none", "yarn")
        self.refused({"rope_scale": -1}, "rope_scale", "at least")

    def test_a_context_and_its_scaling_are_judged_together_before_they_are_saved(self):
        self.start("--threads", "1")
        self.refused({"rope_scaling": "yarn"}, "rope_scaling", "has to say how far", "set ctx first")
        self.refused({"rope_scale": 4}, "rope_scale", "goes with a scaling")
        self.refused({"yarn_beta_fast": 16}, "yarn_beta_fast", "goes with RoPE scaling yarn", "set rope_scaling first")
        self.assertEqual(self.get()["saved"], {})
        self.change({"rope_scaling": "yarn", "ctx": 1024})
        self.refused({"ctx": None}, "rope_scaling", "has to say how far")
        self.assertEqual(self.get()["saved"], {"rope_scaling": "yarn", "ctx": 1024})
        self.assertIn("; reset rope_scaling first", self.change({"ctx": None}, 400)["error"]["message"])
        self.restart({"now": True})
        self.assertEqual((self.get()["running"]["rope_scaling"], self.get()["note"]), ("yarn", ""))
        self.daemon.wait_line("server: ended, to begin again$")
        self.change({"yarn_beta_fast": 16})
        self.restart({"now": True})
        self.assertEqual(self.get()["running"]["yarn_beta_fast"], 16)
        self.change({"yarn_attn_factor": 1.1})  # no float's number
        self.restart({"now": True})
        self.assertAlmostEqual(self.get()["running"]["yarn_attn_factor"], 1.1, places=6)
        self.assertFalse(self.get()["restart_needed"])
        self.change({"ctx": None, "rope_scaling": None, "yarn_beta_fast": None, "yarn_attn_factor": None})
        # a file that somebody broke by hand can be mended in steps that have nothing to do with it
        with open(self.file, "w", encoding="utf-8") as file:
            json.dump({"rope_scaling": "yarn"}, file)
        self.change({"threads": 1})
        self.change({"rope_scaling": ""})

    def test_the_option_that_is_refused_is_the_one_that_makes_no_sense(self):
        self.start("--threads", "1")
        self.change({"rope_scaling": "yarn", "ctx": 1024, "yarn_beta_fast": 16})
        self.refused({"rope_base": 0.5}, "rope_base", "a number above 1, such as 10000")
        self.refused({"rope_scale": 0.5}, "rope_scale", "1 to ")
        self.refused({"yarn_beta_slow": 20}, "yarn_beta_slow", "beta-fast 16 must be more than its beta-slow 20")
        self.refused({"yarn_beta_slow": 4, "yarn_beta_fast": 3}, "yarn_beta_fast", "must be more than")
        for values in ({"rope_scaling": None}, {"rope_scaling": "ntk"}):
            self.refused(values, "yarn_beta_fast", "goes with RoPE scaling yarn; reset yarn_beta_fast first, or in the same change")
        message = self.change({"rope_scaling": "ntk", "yarn_beta_fast": 8}, 400)["error"]["message"]
        self.assertTrue(message.endswith("goes with RoPE scaling yarn"), message)
        self.change({"yarn_beta_fast": None, "rope_original": 128})
        self.refused({"rope_scaling": ""}, "rope_original", "an original context goes with a scaling", "; reset rope_original first")
        self.change({"rope_scaling": "", "rope_original": 0})
        self.refused({"rope_original": 128}, "rope_original", "; set rope_scaling first, or in the same change")

    def test_a_context_of_the_command_line_goes_with_a_scaling_of_the_file(self):
        self.start("--threads", "1", "--ctx", "1024")
        self.change({"rope_scaling": "yarn"})
        self.restart({"now": True})
        self.assertEqual(self.get()["running"]["rope_scaling"], "yarn")

    def test_an_option_tells_where_the_value_in_use_comes_from(self):
        self.start("--queue", "5", saved={"parallel": 256, "drain_s": 30, "ctx": 512})
        sources = lambda *names: [self.option(n)["source"] for n in names]  # noqa: E731
        self.assertEqual(sources("parallel", "drain_s", "ctx", "queue", "keep_alive_s", "draft"),
                         ["file", "file", "file", "command_line", "default", "default"])  # fmt: skip
        # What needs a restart still is what it was; the others are by the file as it is now.
        self.change({"ctx": None, "parallel": None, "keep_alive_s": 9, "drain_s": None, "draft": "none"})
        self.assertEqual(sources("parallel", "drain_s", "ctx", "queue", "keep_alive_s", "draft"),
                         ["file", "default", "file", "command_line", "default", "file"])  # fmt: skip
        self.restart({"now": True})
        self.assertEqual(sources("parallel", "drain_s", "ctx", "queue", "keep_alive_s", "draft"),
                         ["default", "default", "default", "command_line", "file", "file"])  # fmt: skip

    def test_a_model_that_is_to_be_kept_for_no_time_goes_behind_its_answer(self):
        self.start("--threads", "1", saved={"keep_alive_s": 0})
        told = self.get()
        self.assertEqual((told["running"]["keep_alive_s"], told["restart_needed"]), (0, False))
        self.change({"keep_alive_s": None})
        self.restart({"now": True})
        self.assertEqual(self.get()["running"]["keep_alive_s"], 300)
        os.symlink(os.path.join(support.tiny_models(), "qwen2.gguf"), os.path.join(self.models, "qwen2.gguf"))
        self.daemon = self.serve("--threads", "1", "--keep-alive", "0")
        self.assertEqual(self.daemon.ask("POST", "/v1/completions", {"model": "qwen2", "prompt": "a", "max_tokens": 1}).status, 200)
        self.until(lambda: not self.daemon.ask("GET", "/ui-api/loaded").json["loaded"])

    def test_a_file_that_is_a_link_is_read_and_changed_where_it_lies(self):
        real = os.path.join(self.home, "dotfiles", "serve.json")
        os.makedirs(os.path.dirname(real))
        os.makedirs(self.folder)
        with open(real, "w", encoding="utf-8") as file:
            file.write('{"parallel": 7}')
        os.symlink(real, self.file)
        self.start("--threads", "1")
        told = self.get()
        self.assertEqual((told["running"]["parallel"], told["file"], told["writable"]), (7, real, True))
        self.change({"parallel": 8})
        self.assertTrue(os.path.islink(self.file))
        self.assertEqual(self.on_disk(), {"parallel": 8})

    def test_a_file_that_is_named_without_a_folder_is_in_the_working_directory(self):
        with open(os.path.join(self.home, "own.json"), "w", encoding="utf-8") as file:
            file.write('{"parallel": 7}')
        for name in ("own.json", "new.json"):
            self.daemon = self.serve("--threads", "1", env=self.environment(MLXR_CONFIG=name), cwd=self.home)
            self.assertEqual(self.get()["saved"], {"parallel": 7} if name == "own.json" else {})
            self.change({"parallel": 8})
            with open(os.path.join(self.home, name), encoding="utf-8") as file:
                self.assertEqual(json.load(file), {"parallel": 8})

    @unittest.skipIf(support.SANDBOX, "not under sanitizers")
    def test_a_file_in_the_uppermost_folder_is_told_as_what_it_is_to_the_sandbox(self):
        """There it leaves nothing open to be written to."""
        mine, path = os.access("/", os.W_OK), f"/mlxr-test-{os.getpid()}.json"
        for arguments, writable in (([], mine and not sys.platform.startswith("linux")), (["--no-sandbox"], mine)):
            self.daemon = self.serve("--threads", "1", *arguments, env=self.environment(MLXR_CONFIG=path))
            told = self.get()
            self.assertEqual((told["file"], told["writable"]), (path, writable))
            if not writable:
                self.assertEqual(self.change({"parallel": 8}, 409)["error"]["code"], "not_writable")
            self.daemon.stop()
        self.assertEqual([name for name in os.listdir("/") if name.startswith((".check-", "mlxr-test-"))], [])

    def test_a_file_that_makes_no_sense_ends_the_start_with_the_place_and_what_is_allowed(self):
        for saved, words in (('{"threads": 1,', ["line 1"]), ({"threads": 5000}, ["threads", "at most 1024"]),
                             ({"thread": 1}, ['"thread"', "not known"]), ({"kv_type": "q9"}, ["kv_type", "q8_0"]), ({"activations": 4}, ["activations must be one of 16, 8"]),
                             ({"activations": "8"}, ["activations must be of type integer"]),
                             ({"kv_dir": "here"}, ["kv_dir", "beginning with /"]), ("[]", ["object"])):  # fmt: skip
            with self.assertRaises(AssertionError) as caught:
                self.start(saved=saved)
            told = str(caught.exception)
            for word in [self.file, *words]:
                self.assertIn(word, told)

    def test_changes_are_written_whole_and_say_what_needs_a_restart(self):
        self.start()
        told = self.change({"kv_type": "q8_0", "drain_s": 3, "draft": "ngram"})
        self.assertEqual(self.on_disk(), {"kv_type": "q8_0", "drain_s": 3, "draft": "ngram"})
        self.assertEqual((told["running"]["drain_s"], told["running"]["draft"]), (3, "ngram"))
        self.assertEqual((told["running"]["kv_type"], told["restart_needed"]), ("auto", True))
        self.assertEqual([o["name"] for o in told["options"] if o["pending"]], ["kv_type"])
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode) & 0o077, 0)
        self.assertEqual(os.listdir(self.folder), ["serve.json"], "nothing is left beside it")
        told = self.change({"kv_type": None, "drain_s": None})
        self.assertEqual((self.on_disk(), told["running"]["drain_s"], told["restart_needed"]), ({"draft": "ngram"}, 30, False))

    def test_drafting_with_heads_waits_for_the_start_that_loads_them(self):
        self.start("--threads", "1", saved={"drain_s": 9})

        def told(draft):
            answer = self.change({"draft": draft})
            one = self.option("draft", answer)
            self.assertEqual(answer["restart_needed"], one["pending"])
            return answer["running"]["draft"], one["pending"], one["applies"], one["source"]

        self.assertEqual(told("mtp"), ("none", True, "restart", "default"))
        self.assertEqual(told("ngram"), ("ngram", False, "now", "file"))
        self.assertEqual(told("mtp"), ("ngram", True, "restart", "file"))
        self.restart({"now": True})
        one = self.option("draft")
        self.assertEqual((self.get()["running"]["draft"], one["pending"], one["applies"], one["source"]), ("mtp", False, "now", "file"))
        # Heads stay with their models: back and forth needs no restart.
        self.assertEqual(told("none"), ("none", False, "now", "file"))
        self.assertEqual(told("mtp"), ("mtp", False, "now", "file"))

    def test_what_is_only_checked_is_not_written(self):
        self.start()
        told = self.change({"threads": 3}, check_only=True)
        self.assertEqual((told["saved"], told["restart_needed"]), ({"threads": 3}, True))
        self.assertFalse(os.path.exists(self.file))
        self.change({"threads": -1}, 400, check_only=True)
        # What would apply at once would not wait for a restart; beside something that does, only that would.
        for values, waiting in (({"drain_s": 7}, []), ({"drain_s": 7, "threads": 3}, ["threads"])):
            told = self.change(values, check_only=True)
            self.assertEqual([o["name"] for o in told["options"] if o["pending"]], waiting)
            self.assertEqual(told["restart_needed"], bool(waiting))
            self.assertNotEqual(told["running"]["drain_s"], 7)

    def test_bad_values_are_refused_by_name_and_change_nothing(self):
        self.start(saved={"threads": 1})
        self.refused({"threads": 1025}, "threads", "at most 1024")
        self.refused({"threads": "2"}, "threads", "integer")
        self.refused({"kv_type": "q8"}, "kv_type", 'one of "auto", "f32"', '"q4_0"')
        self.refused({"kv_disk_bytes": 5}, "kv_disk_bytes", "at least")
        self.refused({"nothing": None}, None, '"nothing"', "not known")
        self.refused({"kv_dir": "kv"}, "kv_dir", "beginning with /")
        self.refused({"kv_dir": self.file}, "kv_dir", "folder")
        self.refused({"kv_dir": "/no-such/folder/kv"}, "kv_dir", "/no-such/folder")
        self.refused({"drain_s": 5, "threads": 2000}, "threads")
        for body in ({"value": {}}, {}, {"values": []}, {"values": {}, "more": 1}):
            self.assertEqual(self.daemon.ask("PATCH", "/ui-api/options", body).status, 400, body)
        answer = self.daemon.ask("PATCH", "/ui-api/options", "{", headers=[("Content-Type", "application/json")])
        self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "invalid_json"))
        self.assertEqual((self.on_disk(), self.get()["running"]["drain_s"]), ({"threads": 1}, 30))

    def test_a_file_that_was_broken_by_hand_is_told_and_left_alone(self):
        self.start(saved={})
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("{nonsense")
        for method, body in (("GET", None), ("PATCH", {"values": {"threads": 1}})):
            answer = self.daemon.ask(method, "/ui-api/options", body)
            self.assertEqual((answer.status, answer.json["error"]["code"]), (409, "file_broken"))
            self.assertIn(self.file, answer.json["error"]["message"])
        with open(self.file, encoding="utf-8") as file:
            self.assertEqual(file.read(), "{nonsense")

    def test_a_restart_takes_the_file_and_keeps_the_port(self):
        self.start("--model", os.path.join(support.tiny_models(), "qwen2.gguf"), "--threads", "1")
        self.change({"kv_type": "bf16", "parallel": 9})
        for body in ({}, {"now": 1}, {"now": True, "later": 1}):
            self.assertEqual(self.daemon.ask("POST", "/ui-api/restart", body).status, 400, body)
        self.assertEqual(self.restart({"now": False})["status"], "restarting")
        told = self.get()
        self.assertEqual((told["running"]["kv_type"], told["running"]["parallel"], told["restart_needed"], told["note"]),
                         ("bf16", 9, False, ""))  # fmt: skip
        answer = self.daemon.ask("POST", "/v1/completions", {"model": "qwen2", "prompt": "a", "max_tokens": 2})
        self.assertEqual(answer.status, 200, answer)
        self.restart({"now": True})
        self.assertEqual(self.daemon.stop(), 0)

    def restart(self, body):
        answer = self.daemon.ask("POST", "/ui-api/restart", body)
        self.assertEqual(answer.status, 200, answer)
        self.n_ready = getattr(self, "n_ready", 1) + 1

        def ready():
            self.assertIsNone(self.daemon.process.poll(), self.daemon.lines)
            return sum(line is not None and line.endswith(": ready") for line in self.daemon.lines) == self.n_ready

        self.until(ready)
        return answer.json

    def test_a_restart_that_cannot_be_goes_on_with_the_options_of_before_and_says_why(self):
        # Its heads have 16 elements, blocks of q8_0 have 32: the model of the start cannot be loaded.
        self.start("--model", os.path.join(support.tiny_models(), "qwen2.gguf"), "--threads", "1")
        self.change({"kv_type": "q8_0", "parallel": 11})
        self.restart({"now": False})
        told = self.get()
        self.assertEqual((told["running"]["kv_type"], told["running"]["parallel"]), ("auto", 256))
        self.assertTrue(told["restart_needed"])
        self.assertIn("q8_0", told["note"])
        self.change({"kv_type": None})
        self.restart({"now": False})
        told = self.get()
        self.assertEqual((told["running"]["parallel"], told["restart_needed"], told["note"]), (11, False, ""))
        self.assertEqual(self.daemon.stop(), 0)

    @support.cli.unittest.skipIf(support.SANDBOX, "without the sandbox")
    def test_a_restart_cannot_leave_the_sandbox_for_another_cache_folder_and_says_so(self):
        first, other = (os.path.join(self.home, name) for name in ("kv", "kv-other"))
        self.start("--threads", "1", saved={"kv_dir": first})
        self.change({"kv_dir": first + "/below", "parallel": 12})
        self.restart({"now": False})
        told = self.get()
        self.assertEqual((told["running"]["kv_dir"], told["note"]), (first + "/below", ""))
        self.change({"kv_dir": other})
        self.restart({"now": False})
        told = self.get()
        self.assertEqual((told["running"]["kv_dir"], told["running"]["parallel"]), (first + "/below", 12))
        self.assertTrue(told["restart_needed"])
        self.assertIn(other, told["note"])
        self.assertIn("stop it and start it anew", told["note"])
        self.assertFalse(os.path.exists(other))
        self.assertEqual(self.daemon.stop(), 0)
        self.start("--threads", "1")
        self.assertEqual(self.get()["running"]["kv_dir"], other)

    def test_a_restart_whose_adapter_has_gone_ends_with_the_reason(self):
        adapter = os.path.join(self.models, "style.gguf")
        with open(adapter, "wb") as file:
            file.write(b"GGUF")
        self.start("--lora", adapter)
        os.unlink(adapter)
        self.assertEqual(self.daemon.ask("POST", "/ui-api/restart", {"now": True}).status, 200)
        self.assertEqual(self.daemon.process.wait(support.TIMEOUT), 2)
        self.daemon.wait_line(re.escape(adapter))

    def test_a_signal_in_the_middle_of_a_restart_ends_it(self):
        for delay_ms in (0, 1, 2, 4, 8, 16, 32):
            self.start("--threads", "1")
            self.assertEqual(self.daemon.ask("POST", "/ui-api/restart", {"now": True}).status, 200)
            time.sleep(delay_ms / 1000)
            self.assertEqual(self.daemon.stop(), 0, delay_ms)

    def test_speculation_that_is_set_for_the_daemon_is_used_by_requests_that_do_not_say(self):
        self.start("--model", os.path.join(support.tiny_models(), "qwen2.gguf"), "--threads", "1")
        ask = {"model": "qwen2", "prompt": "ab ab ab ab ab ab", "max_tokens": 24, "temperature": 0}
        plain = self.daemon.ask("POST", "/v1/completions", ask).json["choices"][0]["text"]
        drafts = self.drafts()
        self.change({"draft": "ngram"})
        self.assertEqual(self.daemon.ask("POST", "/v1/completions", ask).json["choices"][0]["text"], plain)
        self.assertGreater(self.drafts(), drafts)
        drafts = self.drafts()
        self.assertEqual(self.daemon.ask("POST", "/v1/completions", {**ask, "draft": "none"}).json["choices"][0]["text"], plain)
        self.assertEqual(self.drafts(), drafts)

    def test_a_models_own_head_drafts_where_it_was_loaded_and_else_says_so(self):
        model = support.cli.write_family("qwen3next-mtp", self.home)
        ask = {"model": "qwen3next-mtp", "prompt": "the the", "max_tokens": 60, "temperature": 0.8, "seed": 4}

        def text(**more):
            return self.daemon.ask("POST", "/v1/completions", {**ask, **more}).json["choices"][0]["text"]

        self.start("--model", model, "--threads", "1")
        plain, refused = text(), self.daemon.ask("POST", "/v1/completions", {**ask, "draft": "mtp"})
        self.assertEqual((refused.status, refused.json["error"]["param"]), (400, "draft"))
        self.assertIn("loaded without its multi-token-prediction head", refused.json["error"]["message"])
        self.change({"draft": "mtp"})  # models loaded from the next start on have theirs
        self.assertEqual((text(), self.drafts()), (plain, 0))
        self.assertEqual(self.heads(), {"qwen3next-mtp": False})
        self.daemon.stop()
        self.start("--model", model, "--threads", "1", saved={"draft": "mtp"})
        self.assertEqual(text(), plain)
        drafts = self.drafts()
        self.assertGreater(drafts, 0)
        self.assertEqual(self.heads(), {"qwen3next-mtp": True})
        self.assertFalse(any("does nothing" in line for line in self.daemon.lines if line))
        self.assertEqual(text(draft="none"), plain)
        self.assertEqual(self.drafts(), drafts)
        self.assertEqual(text(draft="mtp"), plain)
        self.assertGreater(self.drafts(), drafts)

    def test_a_model_without_a_head_says_so_where_heads_were_to_be_loaded(self):
        self.start("--model", os.path.join(support.tiny_models(), "qwen2.gguf"), "--threads", "1", "--draft", "mtp")
        self.assertEqual(self.heads(), {"qwen2": False})
        said = [line for line in self.daemon.lines if line and "--draft mtp does nothing for it" in line]
        self.assertEqual(len(said), 1, self.daemon.lines)
        self.assertIn("qwen2.gguf: it has no multi-token-prediction head", said[0])
        ask = {"model": "qwen2", "prompt": "a", "max_tokens": 1}
        self.assertEqual(self.daemon.ask("POST", "/v1/completions", ask).status, 200)
        refused = self.daemon.ask("POST", "/v1/completions", {**ask, "draft": "mtp"})
        self.assertEqual((refused.status, refused.json["error"]["message"]), (400, "this model has no multi-token-prediction head"))

    def heads(self):
        return {one["name"]: one["mtp"] for one in self.daemon.ask("GET", "/ui-api/loaded").json["loaded"]}

    def drafts(self):
        lines = self.daemon.ask("GET", "/metrics").body.decode().split("\n")
        return sum(float(line.split()[-1]) for line in lines if line.startswith("mlxr_spec_decode_num_drafts_total"))


class Folders(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.top = os.path.join(self.home, "things")
        for name in ("b", "a", ".hidden", "a/below"):
            os.makedirs(os.path.join(self.top, name))
        for name, data in (("m.gguf", b"12345"), ("N.GGUF", b"12"), (".gguf", b""), ("notes.txt", b"secret"), ("w.safetensors", b"1")):
            with open(os.path.join(self.top, name), "wb") as file:
                file.write(data)
        self.daemon = self.serve()

    def ask(self, path=None, status=200, **more):
        query = "&".join(f"{k}={v}" for k, v in {**({"path": path} if path is not None else {}), **more}.items())
        answer = self.daemon.ask("GET", "/ui-api/directories" + (f"?{query}" if query else ""))
        self.assertEqual(answer.status, status, answer)
        return answer.json

    def test_folders_and_models_are_listed_and_nothing_else(self):
        told = self.ask(self.top)
        self.assertEqual((told["path"], told["parent"]), (self.top, self.home))
        self.assertEqual(told["folders"], ["a", "b"])
        self.assertEqual(told["files"], [{"name": n, "bytes": b} for n, b in (("N.GGUF", 2), ("m.gguf", 5), ("w.safetensors", 1))])
        self.assertEqual(self.ask(self.top, hidden="true")["folders"], [".hidden", "a", "b"])
        self.assertEqual(self.ask(self.top + "/a/../b/./")["path"], self.top + "/b")
        self.assertEqual(self.ask()["path"], os.path.realpath(self.home))
        self.assertIn(self.home, self.ask()["places"])

    def test_what_cannot_be_listed_says_why(self):
        self.assertEqual(self.ask(self.top + "/none", 404)["error"]["param"], "path")
        self.assertEqual(self.ask("relative", 400)["error"]["param"], "path")
        self.assertEqual(self.ask(self.top, 400, hidden="x")["error"]["param"], "hidden")
        self.assertEqual(self.ask(self.top, 400, hidden="x" * 20)["error"]["param"], "hidden")
        self.ask(self.top + "/notes.txt", 404)
        for path in ("%zz", "/x%2", "/%00", "/" + "x" * 4200):  # not the user's own folder, which is for none
            error = self.ask(path, 400)["error"]
            self.assertEqual((error["param"], "4,096" in error["message"]), ("path", True))
        deep = "/".join(["%C3%A4" * 60] * 12)  # more bytes with their escapes than without
        self.assertEqual(self.ask(self.top + "/" + deep, 404)["error"]["param"], "path")

    @support.cli.unittest.skipIf(support.SANDBOX, "without the sandbox")
    def test_the_sandbox_lists_names_of_the_users_folder_and_opens_none_of_its_files(self):
        closed = self.ask("/proc/1", 403)["error"]
        self.assertEqual(closed["code"], "folder_closed")
        answer = self.daemon.ask("POST", "/ui-api/models/create", {"name": "x", "from": os.path.join(self.top, "m.gguf")})
        self.assertNotIn(b'"error": null', answer.body)

    def test_without_a_key_only_this_machine_sees_them(self):
        address = self.outside()
        if not address:
            self.skipTest("this machine has no other address")
        key, _ = self.key("boss", "--scopes", "admin")
        daemon = self.serve("--host", "0.0.0.0", env=self.environment(), port=0)
        for headers, status in (([], 401), ([("Authorization", f"Bearer {key}")], 200)):
            with socket.create_connection((address, daemon.port), support.TIMEOUT) as connection:
                lines = ["GET /ui-api/directories HTTP/1.1", f"Host: {address}:{daemon.port}", "Connection: close"]
                lines += [f"{n}: {v}" for n, v in headers]
                connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
                with connection.makefile("rb") as file:
                    self.assertEqual(support.read_answer(file).status, status)

    def test_without_a_key_only_this_machine_changes_options_restarts_and_names_paths(self):
        address = self.outside()
        if not address:
            self.skipTest("this machine has no other address")
        # A service manager may hand over any socket; LISTEN_PID must be the daemon's own: a shell that becomes it knows it.
        with socket.create_server((address, 0)) as inherited:
            port = inherited.getsockname()[1]
            command = ["/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$0" serve "$@"', support.MLXR, *support.SANDBOX]
            process = support.subprocess.Popen(command, env=self.environment(LISTEN_FDS="1"), close_fds=False, stderr=support.subprocess.DEVNULL,
                                               preexec_fn=lambda: (os.dup2(inherited.fileno(), 3), os.set_inheritable(3, True)))  # fmt: skip
            try:
                for method, path, body in (("PATCH", "options", {"values": {"threads": 1}}), ("POST", "restart", {"now": True}),
                                           ("POST", "models/register", {"path": "/x", "name": "x"}), ("GET", "directories", None)):  # fmt: skip
                    text = json.dumps(body).encode() if body else b""
                    head = f"{method} /ui-api/{path} HTTP/1.1\r\nHost: {address}:{port}\r\nContent-Type: application/json\r\n"
                    with socket.create_connection((address, port), support.TIMEOUT) as connection:
                        connection.sendall(f"{head}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text)
                        with connection.makefile("rb") as file:
                            answer = support.read_answer(file)
                    self.assertEqual(answer.status, 403, (path, answer))
                    self.assertIn("from this machine only" if body else "on this machine only", answer.json["error"]["message"])
            finally:
                process.terminate()
                process.wait()

    @staticmethod
    def outside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing
                return probe.getsockname()[0]
            except OSError:
                return None


if __name__ == "__main__":
    support.main()
