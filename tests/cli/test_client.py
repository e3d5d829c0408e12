"""The program and a daemon: verbs over its API and without it, chats, `run --serve`, and daemons that are none.

Every daemon here listens on a port of its own; what the program is to ask is told by MLXR_HOST.
"""
import http.client
import http.server
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import pull_servers  # noqa: E402

_spec = importlib.util.spec_from_file_location("api_support", os.path.join(os.path.dirname(HERE), "api", "support.py"))
api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api)
support = api.cli

PROMPT = ">>> "
# h h h …: whole characters, and never an end
ENDLESS = ["--temp", "0", "--logit-bias", "104=1000"]


# A real model, which takes its time, and never ends by itself.
SLOW_MODEL = os.path.join(support.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
ON_AND_ON = ["--temp", "0", "--logit-bias", "0=-inf", "--logit-bias", "2=-inf"]


free_port = support.free_port


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


class Other(http.server.BaseHTTPRequestHandler):
    """Some other server."""

    def do_GET(self):
        body = json.dumps({"version": "0.9"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class ClientTest(api.ApiTest):
    def here(self, port, **changes):
        """An environment in which the daemon is asked that is at this port."""
        return self.environment(MLXR_HOST=f"127.0.0.1:{port}", NO_COLOR="1", **changes)

    def add_slow_model(self):
        if not os.path.exists(SLOW_MODEL):
            self.skipTest("SmolLM2 is not installed")
        os.symlink(SLOW_MODEL, os.path.join(self.models, "slow.gguf"))

    def other_server(self, handler=Other):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server.server_address[1]

    def terminal(self, *arguments, env):
        t = support.Terminal([support.MLXR, *arguments], env)
        self.addCleanup(t.close)
        return t

    def say(self, t, text):
        t.type(text + "\n")
        return t.expect("\n" + PROMPT).partition("\n")[2]


class RunServe(ClientTest):
    """`make run` is this verb with this option."""

    def test_without_a_terminal_it_answers_over_the_api_and_leaves_nothing_running(self):
        self.add_model("llama")
        port = free_port()
        plain = self.succeed("run", "llama", "hello", "-n", "16", "--temp", "0")
        served = self.succeed("run", "llama", "hello", "-n", "16", "--temp", "0", "--serve", "--chat", env=self.here(port))
        self.assertEqual(served.out, plain.out)
        self.assertIn(f"serving at http://127.0.0.1:{port} until this ends", served.err)
        self.assertFalse(answers(port))

    def test_a_port_that_something_else_has_is_left_to_it(self):
        self.add_model("llama")
        port = self.other_server()
        served = self.succeed("run", "llama", "hello", "-n", "4", *ENDLESS, "--serve", env=self.here(port))
        self.assertEqual(served.text, "hhhh\n")
        self.assertIn(f"something else is at http://127.0.0.1:{port}", served.err)
        own = int(re.search(r"serving at http://127.0.0.1:(\d+)", served.err).group(1))
        self.assertNotEqual(own, port)
        self.assertTrue(answers(port))
        self.assertFalse(answers(own))

    def test_a_port_whose_owner_says_nothing_is_left_to_it_too(self):
        self.add_model("llama")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(8)
            served = self.succeed("run", "llama", "hello", "-n", "4", *ENDLESS, "--serve",
                                  env=self.here(silent.getsockname()[1]))  # fmt: skip
        self.assertEqual(served.text, "hhhh\n")
        self.assertIn("the daemon takes another port", served.err)

    def test_a_port_that_is_bound_without_an_ear_is_left_to_it_too(self):
        self.add_model("llama")
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            served = self.succeed("run", "llama", "hello", "-n", "4", *ENDLESS, "--serve",
                                  env=self.here(deaf.getsockname()[1]))  # fmt: skip
        self.assertEqual(served.text, "hhhh\n")
        self.assertIn("the daemon takes another port", served.err)

    def test_a_daemon_that_is_there_answers_and_goes_on(self):
        self.add_model("llama")
        daemon = self.serve()
        served = self.succeed("run", "llama", "hello", "-n", "4", *ENDLESS, "--serve", env=self.here(daemon.port))
        self.assertEqual(served.text, "hhhh\n")
        self.assertEqual(served.err, f"mlxr: answered by the daemon at http://127.0.0.1:{daemon.port}, which goes on when "
                                     "this ends\n")  # fmt: skip
        self.assertEqual(daemon.ask("GET", "/ready").status, 200)
        self.assertIn('mlxr_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1',
                      daemon.ask("GET", "/metrics").body.decode())  # fmt: skip

    def test_a_chat_goes_on_over_the_api_while_others_are_served_and_ctrl_d_ends_both(self):
        self.add_model("llama")
        port = free_port()
        t = self.terminal("run", "llama", "--serve", "--chat", "-n", "4", *ENDLESS, "--", "hello", env=self.here(port))
        self.assertIn("hhhh", t.expect(PROMPT))
        daemon = api.Daemon.__new__(api.Daemon)  # somebody else's view of it
        daemon.port = port
        self.assertIn("llama", daemon.ask("GET", "/v1/models").body.decode())
        self.assertIn("hhhh", self.say(t, "and again"))
        self.assertIn("4 tokens", self.say(t, "/set tokens 4") + self.say(t, "go on"))
        self.assertIn("messages  6", self.say(t, "/show"))
        body = {"model": "llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "temperature": 0}
        self.assertEqual(daemon.ask("POST", "/v1/chat/completions", body).status, 200)
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        self.assertFalse(answers(port))

    def test_a_context_that_is_longer_is_had_with_rope_scaling_or_told(self):
        self.add_model("llama")
        with open(os.path.join(self.home, "Modelfile"), "w", encoding="utf-8") as file:
            file.write("FROM llama\nPARAMETER num_ctx 512\n")
        self.succeed("create", "wider", "-f", os.path.join(self.home, "Modelfile"))
        told = self.succeed("run", "llama", "hello", "-n", "1", "--serve", "--ctx", "1000", env=self.here(free_port())).err
        self.assertIn("1000: this model's context is 256; --rope-scaling of mlxr serve reads further", told)
        for model, more, words in (("llama", ["--ctx", "1024"], "1024, RoPE scaling yarn by 4"), ("wider", [], "512, RoPE scaling yarn by 2")):
            t = self.terminal("run", model, "--serve", "--chat", "-n", "4", "--rope-scaling", "yarn", *more, *ENDLESS, env=self.here(free_port()))
            t.expect(PROMPT)
            self.assertIn(f"tokens used of {words}; trained for 256", self.say(t, "/show"))
            t.type("\x04")
            self.assertEqual(t.wait(), 0)
        t = self.terminal("run", "llama", "--chat", "--rope-base", "20000", env=self.environment(MLXR_HOST="none", NO_COLOR="1"))
        t.expect(PROMPT)
        self.assertIn("; RoPE base 20000", self.say(t, "/show"))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_its_daemon_reads_what_it_needs_and_nothing_else(self):
        """A link that leads out of the model directory, made when it runs: not what it was confined to."""
        self.add_model("llama")
        elsewhere = os.path.join(self.home, "elsewhere")
        os.mkdir(elsewhere)
        shutil.copy(os.path.join(self.models, "llama.gguf"), elsewhere)
        body = {"model": "late", "prompt": "x", "max_tokens": 2}
        for more, statuses, mode in (([], (404, 500), 2), (["--no-sandbox"], (200,), 0)):
            port = free_port()
            t = self.terminal("run", "llama", "--serve", *more, env=self.here(port))
            t.expect(PROMPT)
            with open(f"/proc/{t.pid}/status", encoding="ascii") as file:
                seccomp = int(re.search(r"^Seccomp:\t(\d)", file.read(), re.M).group(1))
            daemon = api.Daemon.__new__(api.Daemon)
            daemon.port = port
            os.symlink(os.path.join(elsewhere, "llama.gguf"), os.path.join(self.models, "late.gguf"))
            self.assertIn(daemon.ask("POST", "/v1/completions", body).status, statuses, more)
            os.unlink(os.path.join(self.models, "late.gguf"))
            t.type("\x04")  # and the chat's history is written
            self.assertEqual(t.wait(), 0)
            self.assertEqual(seccomp, mode)

    def test_two_of_them_do_not_depend_on_each_other(self):
        self.add_model("llama")
        port = free_port()
        first = self.terminal("run", "llama", "--serve", "-n", "4", *ENDLESS, env=self.here(port))
        first.expect(PROMPT)
        second = self.terminal("run", "llama", "--serve", "-n", "4", *ENDLESS, env=self.here(port))
        second.expect("the daemon takes another port")
        second.expect(PROMPT)
        first.type("\x04")
        self.assertEqual(first.wait(), 0)
        self.assertIn("hhhh", self.say(second, "hello"))
        second.type("\x04")
        self.assertEqual(second.wait(), 0)

    def test_it_leaves_nothing_running_however_it_ends(self):
        self.add_model("llama")
        port = free_port()
        t = self.terminal("run", "llama", "--serve", env=self.here(port))
        t.expect(PROMPT)
        self.assertTrue(answers(port))
        os.kill(t.pid, signal.SIGKILL)
        self.assertEqual(t.wait(), -signal.SIGKILL)
        self.assertFalse(answers(port))

    def test_keys_of_the_store_do_not_lock_it_out_and_still_count_for_others(self):
        self.add_model("llama")
        self.key("somebody")
        port = free_port()
        self.assertEqual(self.succeed("run", "llama", "x", "-n", "4", *ENDLESS, "--serve", env=self.here(port)).text, "hhhh\n")
        t = self.terminal("run", "llama", "--serve", env=self.here(port))
        t.expect(PROMPT)
        self.fail_with(1, "wants an API key", "list", env=self.here(port))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_a_daemon_of_another_machine_is_not_started(self):
        self.fail_with(1, "starts one on this machine only", "run", "llama", "hello", "--serve",
                       env=self.environment(MLXR_HOST="192.0.2.1:9"))  # fmt: skip

    def test_a_path_is_nothing_for_a_daemon(self):
        path = os.path.join(support.tiny_models(), "llama.gguf")
        self.fail_with(2, "always answered for in this process", "run", path, "hello", "--serve")


def shape(value):
    """A value's keys, their order and types; texts and numbers that differ from run to run left out."""
    if isinstance(value, dict):
        return [(key, shape(one)) for key, one in value.items()]
    if isinstance(value, list):
        return [shape(one) for one in value]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


class BothWays(ClientTest):
    """Each verb over a daemon and without one: the same bytes on stdout, but for times; the same errors."""

    def setUp(self):
        super().setUp()
        self.add_model("llama")
        self.add_model("qwen3")
        self.daemon = self.serve()

    def without(self, **changes):
        return self.environment(MLXR_HOST="none", NO_COLOR="1", **changes)

    def both(self, *arguments, stdin=b""):
        """The results with the daemon and without."""
        return (self.succeed(*arguments, env=self.here(self.daemon.port), stdin=stdin),
                self.succeed(*arguments, env=self.without(), stdin=stdin))  # fmt: skip

    def same(self, *arguments):
        asked, direct = self.both(*arguments)
        self.assertEqual(asked.out, direct.out)
        return asked

    def fails_alike(self, *arguments):
        asked = self.run_mlxr(*arguments, env=self.here(self.daemon.port))
        direct = self.run_mlxr(*arguments, env=self.without())
        self.assertNotEqual(asked.code, 0)
        self.assertEqual((asked.code, asked.out, self.without_place(asked.err)),
                         (direct.code, direct.out, self.without_place(direct.err)))  # fmt: skip

    @staticmethod
    def without_place(text):
        """A model that is not there: a daemon does not tell its clients where it looked, nor what else there is."""
        return re.sub(r"no model ('.*?') in [^;\n]*(?:; there is [^\n]*)?", r"model \1 not found", text)

    def counted(self, method, route):
        """How often the daemon has answered this route."""
        text = self.daemon.ask("GET", "/metrics").body.decode()
        found = re.search(rf'mlxr_http_requests_total{{method="{method}",route="{re.escape(route)}",status="200"}} (\d+)', text)
        return int(found.group(1)) if found else 0

    def test_list_and_show(self):
        for arguments in (["list"], ["ls", "--json"], ["show", "llama", "--json"], ["show", "llama", "--json", "--tensors"],
                          ["show", "qwen3"], ["show", "llama", "--modelfile"]):  # fmt: skip
            self.same(*arguments)
        self.assertEqual(self.counted("GET", "/ui-api/models"), 2)
        self.assertEqual(self.counted("GET", "/ui-api/models/{name...}"), 4)
        asked, direct = self.both("show", "llama")
        self.assertEqual(asked.err, f"mlxr: as the daemon at http://127.0.0.1:{self.daemon.port} has it\n")
        self.assertEqual(direct.err, "mlxr: as the store of this machine has it\n")
        self.fails_alike("show", "lama", "--json")

    def test_copies_aliases_and_removals(self):
        self.succeed("cp", "llama", "base", env=self.without())
        for verb in (["cp", "base", "NAME"], ["cp", "base", "NAME", "--alias"], ["rm", "NAME"]):
            for json_too in ([], ["--json"]):
                results = []
                for name, env in (("one", self.here(self.daemon.port)), ("two", self.without())):
                    if verb[0] == "rm":
                        self.succeed("cp", "base", name, env=self.without())
                    result = self.succeed(*[name if v == "NAME" else v for v in verb], *json_too, env=env)
                    results.append(result.text.replace(name, "NAME"))
                    if verb[0] != "rm":
                        self.assertIn(name, self.succeed("list", env=self.without()).text)
                        self.succeed("rm", name, env=self.without())
                    self.assertNotIn(name, self.succeed("list", env=self.without()).text)
                self.assertEqual(results[0], results[1])
        self.fails_alike("cp", "nothing", "else")
        for env in (self.here(self.daemon.port), self.without()):
            self.fail_with(1, "model 'nothing'", "rm", "nothing", env=env)
        self.assertEqual(self.counted("DELETE", "/ui-api/models/{name...}"), 2)
        self.assertEqual(self.counted("POST", "/ui-api/models/copy"), 4)

    def test_creating_of_a_modelfile(self):
        path = os.path.join(self.home, "Modelfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write('FROM llama\nPARAMETER temperature 0.25\nPARAMETER stop "x"\nSYSTEM be brief\n'
                       "MESSAGE user hi\nMESSAGE assistant ho\nLICENSE MIT\n")  # fmt: skip
        shown = []
        for name, env in (("one", self.here(self.daemon.port)), ("two", self.without())):
            self.assertEqual(self.succeed("create", name, "--file", path, "--json", env=env).json,
                             {"status": "created", "name": name})  # fmt: skip
            model = self.succeed("show", name, "--json", env=self.without()).json["registry"]
            shown.append({k: v for k, v in model.items() if k not in ("name", "id", "modified")})
        self.assertEqual(shown[0], shown[1])
        self.assertEqual(shown[0]["system"], "be brief")
        self.fails_alike("create", "three", "--from", "nothing")
        self.assertEqual(self.counted("POST", "/ui-api/models/create"), 2)
        # A file is for this process, whatever runs: the daemon has the same store and sees it.
        source = os.path.join(support.tiny_models(), "llama.gguf")
        self.succeed("create", "mine", "--from", source, env=self.here(self.daemon.port))
        self.assertIn("mine", self.succeed("list", env=self.here(self.daemon.port)).text)
        self.assertEqual(self.counted("POST", "/ui-api/models/create"), 2)

    def test_keys_and_what_happens_without_them(self):
        made = [self.succeed("key", "create", "a label", "--scopes", "admin", "--days", "3", "--json", env=env).json
                for env in (self.here(self.daemon.port), self.without())]  # fmt: skip
        self.assertEqual(shape(made[0]), shape(made[1]))
        self.assertEqual([m["scopes"] for m in made], ["admin", "admin"])
        self.until(lambda: self.daemon.ask("GET", "/v1/models").status == 401)  # it looks for keys once a second
        keyless = self.here(self.daemon.port)
        self.fail_with(1, "wants an API key: set MLXR_API_KEY", "list", env=keyless)
        self.fail_with(1, "wants another API key", "list", env=dict(keyless, MLXR_API_KEY="mlxr-wrong"))
        keyed = dict(keyless, MLXR_API_KEY=made[0]["key"])
        listed = self.succeed("key", "list", "--json", env=keyed)
        self.assertEqual(listed.out, self.succeed("key", "list", "--json", env=self.without()).out)
        reader = self.succeed("key", "create", "--scopes", "read", env=keyed).text.strip()
        self.fail_with(1, "does not allow it", "key", "list", env=dict(keyless, MLXR_API_KEY=reader))
        self.succeed("key", "revoke", made[1]["id"], env=keyed)
        self.assertIn("revoked", self.succeed("key", "list", env=self.without()).text)
        self.fail_with(2, "are known", "key", "create", "--scopes", "all", env=keyed)

    def test_what_somebody_called_a_key_steers_no_terminal(self):
        for env in (self.here(self.daemon.port), self.without()):
            self.succeed("key", "create", "a\x1b]0;x\x07\nb\u009b2J\u202ec", "--json", env=env)
            listed = self.succeed("key", "list", env=self.without()).text
            self.assertEqual(listed.count("  a?]0;x??b?2J?c  "), listed.count("\n") - 1, listed)

    def test_answers(self):
        for more in ([], ["--logprobs", "2"], ["--system", "be brief", "--top-k", "5", "--seed", "7"],
                     ["--stop", "h", "--logit-bias", "104=3"], ["--raw"], ["--ctx", "200"],
                     ["--repeat-penalty", "1.1", "--repeat-last-n", "32", "--min-p", "0.1", "--typical", "0.9"],
                     ["--mirostat", "2", "--seed", "3"], ["--dry-multiplier", "0.5", "--dry-sequence-breaker", "e"]):  # fmt: skip
            temperature = [] if "--seed" in more else ["--temp", "0"]
            arguments = ["run", "llama", "hello there", "-n", "12", "--json", *temperature, *more]
            asked, direct = (one.json for one in self.both(*arguments))
            self.assertEqual(list(asked), list(direct))
            for key in asked:
                if not key.endswith(("_ms", "_per_s", "n_cached")):
                    self.assertEqual(asked[key], direct[key], (more, key))
            plain = [a for a in arguments if a != "--json" and not (more and a in ("--logprobs", "2") and "--logprobs" in more)]
            self.same(*plain)
        asked, direct = self.both("run", "llama", "-n", "4", *ENDLESS, stdin=b"from stdin\n")
        self.assertEqual(asked.out, direct.out)
        self.assertEqual(asked.err, f"mlxr: answered by the daemon at http://127.0.0.1:{self.daemon.port}\n")
        self.assertEqual(direct.err, "")
        self.fails_alike("run", "lama", "hello")

    def test_a_chat_goes_back_to_the_usual_breakers_of_dry(self):
        """':' is one of them: where they stand, DRY sees no repetition in colons; an empty list would be none at all."""
        for env in (self.here(self.daemon.port), self.without()):
            t = self.terminal("run", "llama", "--chat", "-n", "12", "--temp", "0", "--logit-bias", "58=1000", "--dry-multiplier",
                              "5000", env=env)  # fmt: skip
            t.expect(PROMPT)
            self.assertIn(":" * 12, self.say(t, "hello"))
            self.assertEqual(self.say(t, "/set dry-sequence-breaker x"), "")
            self.assertNotIn(":" * 12, self.say(t, "hello"))
            self.assertEqual(self.say(t, "/set dry-sequence-breaker usual"), "")
            self.assertIn(":" * 12, self.say(t, "hello"))

    def test_answers_bound_by_a_grammar(self):
        grammar, schema = os.path.join(self.home, "g"), os.path.join(self.home, "s")
        for path, text in ((grammar, 'root ::= "yes" | "no"'), (schema, '{"enum": ["a", "b"]}')):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        for option in (["--grammar", grammar], ["--schema", schema]):
            self.assertIn(self.same("run", "llama", "hello", "--temp", "0", *option).text.strip(), ("yes", "no", '"a"', '"b"'))
        with open(grammar, "w", encoding="utf-8") as file:
            file.write("root ::= [")
        for env in (self.here(self.daemon.port), self.without()):
            result = self.run_mlxr("run", "llama", "hello", "--grammar", grammar, env=env)
            self.assertEqual(result.out.strip(), b"")
            self.assertRegex(result.err, "line 1, column 11")

    def test_what_a_model_was_made_with_counts_in_both(self):
        path = os.path.join(self.home, "Modelfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write("FROM llama\nPARAMETER temperature 0\nPARAMETER num_predict 7\nSYSTEM be brief\n")
        self.succeed("create", "brief", "--file", path, env=self.without())
        asked, direct = (one.json for one in self.both("run", "brief", "hello", "--json", "--logit-bias", "104=1000"))
        self.assertEqual((asked["n_generated"], asked["ids"], asked["n_prompt"]),
                         (direct["n_generated"], direct["ids"], direct["n_prompt"]))  # fmt: skip
        self.assertEqual(asked["n_generated"], 7)

    def test_a_path_and_an_engine_of_its_own_stay_here(self):
        env = self.here(self.daemon.port)
        path = os.path.join(self.models, "llama.gguf")
        result = self.succeed("run", path, "hello", "-n", "4", *ENDLESS, env=env)
        self.assertEqual((result.text, result.err), ("hhhh\n", ""))
        self.assertEqual(self.succeed("show", path, "--json", env=env).err, "")
        result = self.succeed("run", "llama", "hello", "-n", "4", *ENDLESS, "--threads", "1", env=env)
        self.assertIn("because of --threads", result.err)
        self.fail_with(2, "for an engine in this process", "run", "llama", "hello", "--threads", "1", "--server",
                       f"127.0.0.1:{self.daemon.port}", env=env)  # fmt: skip
        self.assertEqual(self.counted("POST", "/v1/chat/completions"), 0)

    def test_pulls(self):
        with open(os.path.join(support.tiny_models(), "gemma3.gguf"), "rb") as file:
            data = file.read()
        server = pull_servers.Server()
        self.addCleanup(server.close)
        server.on("/model.gguf", lambda request: request.file(data))
        server.on("/missing.gguf", lambda request: request.answer(404))
        settings = {"MLXR_ALLOW_PRIVATE": "127.0.0.1", "MLXR_PULL_RETRY_MS": "5",
                    "https_proxy": None, "http_proxy": None}  # fmt: skip
        daemon = self.serve(env=self.environment(**settings))
        pulled = []
        for name, env in (("one", self.here(daemon.port)), ("two", self.without(**settings))):
            model = self.succeed("pull", server.url + "/model.gguf", "--as", name, "--json", env=env).json
            pulled.append({k: v for k, v in model.items() if k not in ("name", "id", "modified")})
            self.assertEqual(list(model)[:3], ["name", "path", "source"])
            self.assertEqual(self.succeed("pull", server.url + "/model.gguf", "--as", name, env=env).text, name + "\n")
        self.assertEqual(pulled[0], pulled[1])
        for env in (self.here(daemon.port), self.without(**settings)):
            self.fail_with(1, "404", "pull", server.url + "/missing.gguf", env=env)
            self.fail_with(1, "sha256", "pull", server.url + "/model.gguf", "--digest", "sha256:" + "0" * 64, env=env)
        # A file of this machine goes into the store from here; the daemon shows it.
        path = os.path.join(self.home, "file.gguf")
        shutil.copy(os.path.join(support.tiny_models(), "gemma3.gguf"), path)
        self.succeed("pull", path, "--as", "three", env=self.here(daemon.port))
        self.assertIn("three", self.succeed("list", env=self.here(daemon.port)).text)


    def test_pushes(self):
        store = pull_servers.Store()
        self.addCleanup(store.close)
        settings = {"MLXR_OLLAMA_REGISTRY": store.url, "MLXR_ALLOW_PRIVATE": "127.0.0.1", "https_proxy": None, "http_proxy": None}
        daemon = self.serve(env=self.environment(**settings))
        told = []
        for env in (self.here(daemon.port), self.without(**settings)):
            store.manifests.clear()
            store.blobs.clear()
            self.succeed("cp", "llama", "me/mine", env=self.without())
            self.assertEqual(self.succeed("push", "me/mine", "--json", env=env).json, {"status": "pushed", "name": "me/mine"})
            self.assertEqual(self.succeed("push", "me/mine", env=env).text, "pushed me/mine\n")  # again is no error
            told.append((sorted(store.blobs), store.manifests["me/mine", "latest"]))
            self.fail_with(1, "nothing", "push", "me/nothing", env=env)
        self.assertEqual(told[0], told[1])


class Looking(ClientTest):
    """Verbs for a daemon that runs."""

    def test_loading_unloading_and_what_is_loaded(self):
        self.add_model("llama")
        daemon = self.serve()
        env = self.here(daemon.port)
        self.assertIn("no model is loaded", self.succeed("ps", env=env).err)
        self.assertEqual(self.succeed("ps", "--json", env=env).json, [])
        self.assertRegex(self.succeed("load", "llama", "--keep-alive", "-1", env=env).text, r"loaded llama in \d")
        row = self.succeed("ps", env=env).text.splitlines()[1]
        self.assertRegex(row, r"^llama .* for ever$")
        loaded = self.succeed("load", "llama", "--keep-alive", "1000000000", "--json", env=env).json
        self.assertEqual(loaded["status"], "loaded")  # as long as the API has it
        loaded = self.succeed("load", "llama", "--keep-alive", "60", "--json", env=env).json
        self.assertEqual((loaded["status"], loaded["name"]), ("loaded", "llama"))
        left = self.succeed("ps", "--json", env=env).json[0]["expires_in_ms"]
        self.assertTrue(30000 < left <= 60000, left)
        self.assertEqual(self.succeed("unload", "llama", env=env).text, "unloaded llama\n")
        self.assertEqual(self.succeed("stop", "llama", "--json", env=env).json, {"status": "not_loaded", "name": "llama"})
        self.fail_with(1, "lama", "load", "lama", env=env)

    def test_status(self):
        self.add_model("llama")
        daemon = self.serve()
        self.succeed("load", "llama", env=self.here(daemon.port))
        status = self.succeed("status", "--json", env=self.here(daemon.port)).json
        self.assertEqual((status["state"], status["engine"]["alive"], status["models"]["loaded"]), ("ready", True, 1))
        self.assertEqual(status["loaded"][0]["name"], "llama")
        self.assertGreater(status["memory"]["weight_bytes"], 0)
        text = self.succeed("status", env=self.here(daemon.port)).text
        for what in (f"http://127.0.0.1:{daemon.port}", "ready", "of KV cache", "running of 256", "llama"):
            self.assertIn(what, text)
        self.assertNotIn("activations", text)
        less = self.serve("--activations", "8")
        self.assertIn(", activations of 8 bits", self.succeed("status", env=self.here(less.port)).text)

    def test_the_log_and_what_is_added_to_it(self):
        daemon = self.serve()
        env = self.here(daemon.port)
        daemon.ask("GET", "/v1/models")
        self.assertRegex(self.succeed("logs", env=env).text, r"(?m)^\d\d:\d\d:\d\d\.\d{3} info  server: listening on")
        lines = [json.loads(line) for line in self.succeed("logs", "--json", "-n", "2", env=env).text.splitlines()]
        self.assertEqual(len(lines), 2)
        self.assertIn("seq", lines[0])
        self.assertEqual(self.succeed("logs", "--level", "error", env=env).text, "")
        self.fail_with(1, "level", "logs", "--level", "nonsense", env=env)
        t = self.terminal("logs", "-f", "-n", "1", env=env)
        t.expect("\n")
        daemon.ask("GET", "/v1/models/nothing")
        t.expect("status=404")
        t.type("\x03")
        self.assertEqual(t.wait(), -signal.SIGINT)

    def test_stop_ends_it(self):
        daemon = self.serve()
        env = self.here(daemon.port)
        self.assertEqual(self.succeed("stop", env=env).text, f"stopped the daemon at http://127.0.0.1:{daemon.port}\n")
        self.assertEqual(daemon.process.wait(support.TIMEOUT), 0)
        self.fail_with(1, "no daemon answers", "stop", env=env)

    def read_status(self, daemon):
        return daemon.ask("GET", "/ui-api/status").json["streams"]

    def test_stop_waits_for_answers_and_now_does_not(self):
        self.add_slow_model()
        for now in (False, True):
            daemon = self.serve()
            env = self.here(daemon.port)
            t = self.terminal("run", "slow", "hello", "-n", "8000" if now else "200", *ON_AND_ON, "-v", env=env)
            self.until(lambda d=daemon: self.read_status(d)["running"] > 0)
            self.succeed("stop", *(["--now"] if now else []), env=env)
            self.assertEqual(t.wait(), 1 if now else 0)
            self.assertEqual(daemon.process.wait(support.TIMEOUT), 0)

    def test_what_came_of_an_answer_stays_in_the_chat_when_the_daemon_is_gone(self):
        self.add_model("llama")
        daemon = self.serve("--ctx", "16384", "--rope-scaling", "linear")  # seconds of h
        t = self.terminal("run", "llama", *ENDLESS, env=self.here(daemon.port))
        t.expect(PROMPT)
        for text in ("one\n", "two\n"):
            t.type(text)
            t.expect("hhhh")
            if text == "one\n":
                t.type("\x03")
                t.expect("(interrupted)\n" + PROMPT)
        daemon.process.kill()
        shown = "hhhh" + t.expect("mlxr: ").rstrip("\n")
        t.expect("\n" + PROMPT)
        path = os.path.join(self.home, "saved.json")
        self.assertIn("saved", self.say(t, "/save " + path))
        with open(path, encoding="utf-8") as file:
            messages = json.load(file)["messages"]
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"] * 2)
        self.assertEqual((messages[2]["content"], messages[3]["content"]), ("two", shown))
        before = messages[3]["content"]
        self.say(t, "/regen")  # nobody is there to make another
        self.say(t, "three")
        self.assertIn("saved", self.say(t, "/save " + path))
        with open(path, encoding="utf-8") as file:
            messages = json.load(file)["messages"]
        self.assertEqual((len(messages), messages[3]["content"]), (4, before))

    def test_what_came_of_another_answer_has_no_line_feed_of_the_error(self):
        self.add_model("llama")
        daemon = self.serve("--ctx", "16384", "--rope-scaling", "linear")  # seconds of h
        t = self.terminal("run", "llama", *ENDLESS, env=self.here(daemon.port))
        t.expect(PROMPT)
        t.type("one\n")
        t.expect("hhhh")
        t.type("\x03")
        t.expect("(interrupted)\n" + PROMPT)
        t.type("/regen\n")
        t.expect("hhhh")
        daemon.process.kill()
        t.expect("the answer before it stays; /other takes this one)\n" + PROMPT)
        self.say(t, "/other")
        path = os.path.join(self.home, "saved.json")
        self.assertIn("saved", self.say(t, "/save " + path))
        with open(path, encoding="utf-8") as file:
            self.assertRegex(json.load(file)["messages"][1]["content"], r"\Ah{4,}\Z")

    def test_without_a_daemon_they_say_so(self):
        port = free_port()
        for verb in (["ps"], ["status"], ["logs"], ["stop"], ["load", "x"], ["unload", "x"]):
            self.fail_with(1, rf"no daemon answers at http://127.0.0.1:{port}; mlxr serve starts one", *verb, env=self.here(port))
            self.fail_with(2, "MLXR_HOST says none", *verb, env=self.environment(MLXR_HOST="none"))


class Finding(ClientTest):
    """Which daemon is meant, and what is none."""

    def test_a_unix_socket_and_every_form_of_an_address(self):
        self.add_model("llama")
        path = os.path.join(self.home, "sock")
        daemon = self.serve("--socket", path)
        for host in (f"127.0.0.1:{daemon.port}", f"http://127.0.0.1:{daemon.port}/", f"localhost:{daemon.port}",
                     f":{daemon.port}", f"0.0.0.0:{daemon.port}", f"unix:{path}", path):  # fmt: skip
            result = self.succeed("run", "llama", "x", "-n", "1", *ENDLESS, env=self.environment(MLXR_HOST=host, NO_COLOR="1"))
            self.assertIn("answered by the daemon at", result.err, host)
            self.assertEqual(self.succeed("list", "--server", host).text, self.succeed("list", "--server", "none").text)
        for host in ("a b", "host:x", "host:0", "host:99999", "unix:relative", "[::1", "ho/st", "u@host", " "):
            self.fail_with(2, "is needed", "list", "--server", host)

    def test_the_same_variable_says_where_it_listens(self):
        port, path = free_port(), os.path.join(self.home, "own.sock")
        self.serve(env=self.here(port), tcp=False, port=None)
        self.assertTrue(answers(port))
        self.serve(env=self.environment(MLXR_HOST="unix:" + path), tcp=False, port=None)
        self.assertEqual(self.succeed("ps", "--json", "--server", path).json, [])
        self.fail_with(2, "is needed", "serve", env=self.environment(MLXR_HOST="a b"))

    def test_one_that_was_named_and_is_not_there_is_an_error(self):
        port = free_port()
        for verb in (["list"], ["run", "llama", "x"], ["show", "llama"], ["pull", "x"], ["key", "list"]):
            self.fail_with(1, "no daemon answers", *verb, env=self.here(port))
        self.fail_with(1, "no daemon answers", "list", "--server", "unix:" + os.path.join(self.home, "none"))

    def test_other_servers_are_told_from_daemons(self):
        class Html(Other):
            def do_GET(self):
                self.send_error(404)

        class Hanging(Other):
            def do_GET(self):
                time.sleep(4)

        for handler in (Other, Html, Hanging):
            port = self.other_server(handler)
            self.fail_with(1, "is no MLXR daemon, or an older one", "list", env=self.here(port))

    def test_what_an_older_daemon_does_not_say_is_left_out(self):
        self.add_model("llama")
        daemon = self.serve()

        class Older(Other):
            """The daemon, as it was before it told of activations, and of types of the KV cache."""

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=support.TIMEOUT)
                connection.request(self.command, self.path, body or None, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
                if self.path == "/ui-api/models/load":
                    data = json.dumps({k: v for k, v in json.loads(data).items() if k != "activations"}).encode()
                if self.path.startswith("/ui-api/models/llama"):
                    shown = json.loads(data)
                    for name in ("kv_types", "kv_type_auto"):
                        del shown["description"]["memory"][name]
                    data = json.dumps(shown).encode()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                connection.close()

            do_POST = do_GET

        run = ["run", "llama", "x", "-n", "1", "--json", *ENDLESS]
        self.assertEqual(self.succeed(*run, env=self.here(daemon.port)).json["activations"], 16)
        older = self.here(self.other_server(Older))
        self.assertNotIn("activations", self.succeed(*run, env=older).json)
        shown = r"KV cache +[1-9][^\n]* per token, [1-9][^\n]* for a full context \(f16\)\n"
        told = [re.search(shown, self.succeed("show", "llama", env=env).text) for env in (self.here(daemon.port), older)]
        self.assertEqual(told[0] and told[0][0], told[1] and told[1][0])
        self.assertIsNotNone(told[0])

    def test_a_daemon_with_another_store_is_not_meant(self):
        if answers(11435):
            self.skipTest("something is at the usual port")
        other = os.path.join(self.home, "other")
        os.mkdir(other)
        self.add_model("llama")
        self.serve(env=self.environment(MLXR_MODELS=other), port=11435)
        result = self.succeed("run", "llama", "x", "-n", "1", *ENDLESS, env=self.environment(NO_COLOR="1"))
        self.assertEqual(result.err, "")
        self.assertEqual(self.succeed("list", "--json", env=self.environment(MLXR_MODELS=other)).json, [])
        self.fail_with(1, "has another store", "ps")
        self.assertEqual(self.succeed("ps", "--json", "--server", "127.0.0.1").json, [])

    def test_a_daemon_of_another_version_that_lacks_a_route_is_named(self):
        class Old(Other):
            def do_GET(self):
                body = json.dumps({"server": "mlxr", "version": "0.0.1", "state": "ready", "store": ""}).encode()
                if self.path != "/ui-api/version":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        port = self.other_server(Old)
        self.fail_with(1, "is version 0.0.1 and has no GET /ui-api/models; this program is version", "list", env=self.here(port))

    def test_a_key_is_not_told_to_who_is_no_daemon(self):
        seen = []

        class Curious(Other):
            def do_GET(self):
                seen.append((self.path, self.headers.get("Authorization")))
                super().do_GET()

        port = self.other_server(Curious)
        self.fail_with(1, "no MLXR daemon", "list", env=self.here(port, MLXR_API_KEY="mlxr-secret"))
        self.assertEqual(seen, [("/ui-api/version", None)])

    def test_a_redirect_is_not_followed(self):
        seen = []

        class There(Other):
            def do_GET(self):
                seen.append(self.path)
                super().do_GET()

        target = self.other_server(There)

        class Here(Other):
            def do_GET(self):
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{target}/ui-api/version")
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.fail_with(1, "no MLXR daemon", "list", env=self.here(self.other_server(Here)))
        self.assertEqual(seen, [])


class Breaking(ClientTest):
    """Answers that do not come to their end."""

    def expect_more(self, t, n=20):
        """Waits for so many further characters of an answer."""
        end, before = time.monotonic() + support.TIMEOUT, len(t.screen)
        while len(t.screen) < before + n and time.monotonic() < end:
            t.read(0.1)
        self.assertGreaterEqual(len(t.screen), before + n)
        t.seen = len(t.screen)

    def running(self, daemon):
        return daemon.ask("GET", "/ui-api/status").json["streams"]["running"]

    def wait_idle(self, daemon):
        self.until(lambda: self.running(daemon) == 0)

    def test_ctrl_c_in_a_chat_ends_the_answer_at_the_daemon_and_not_the_chat(self):
        self.add_slow_model()
        daemon = self.serve()
        t = self.terminal("run", "slow", *ON_AND_ON, env=self.here(daemon.port))
        t.expect(PROMPT)
        for _ in range(2):
            t.type("hello\n")
            self.expect_more(t)
            self.assertEqual(self.running(daemon), 1)
            t.type("\x03")
            t.expect("(interrupted)")
            t.expect(PROMPT)
            self.wait_idle(daemon)
            self.assertIn("forgotten", self.say(t, "/clear"))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_ctrl_c_and_a_reader_that_goes_away_end_one_answer(self):
        self.add_slow_model()
        daemon = self.serve()
        t = self.terminal("run", "slow", "hello", "-n", "8000", *ON_AND_ON, env=self.here(daemon.port))
        self.expect_more(t)
        t.type("\x03")
        self.assertEqual(t.wait(), -signal.SIGINT)
        self.wait_idle(daemon)
        command = [support.MLXR, "run", "slow", "hello", "-n", "8000", *ON_AND_ON]
        with api.subprocess.Popen(command, env=self.here(daemon.port), stdin=api.subprocess.DEVNULL,
                                  stdout=api.subprocess.PIPE, stderr=api.subprocess.PIPE) as process:  # fmt: skip
            self.assertEqual(len(process.stdout.read(8)), 8)
            process.stdout.close()
            process.wait(support.TIMEOUT)
            process.stderr.close()
        self.wait_idle(daemon)

    def test_a_daemon_that_dies_in_mid_answer_is_told_and_what_came_stays(self):
        self.add_slow_model()
        daemon = self.serve()
        t = self.terminal("run", "slow", "hello", "-n", "8000", *ON_AND_ON, env=self.here(daemon.port))
        self.expect_more(t)
        daemon.process.kill()
        t.expect("broke its answer off")
        self.assertEqual(t.wait(), 1)
        self.assertRegex(t.screen, r"\S.*\nmlxr: the daemon at http://127.0.0.1:\d+ broke its answer off")

    def test_a_chat_survives_a_daemon_that_dies_and_finds_the_next_one(self):
        self.add_slow_model()
        daemon = self.serve()
        t = self.terminal("run", "slow", *ON_AND_ON, env=self.here(daemon.port))
        t.expect(PROMPT)
        t.type("hello\n")
        self.expect_more(t)
        daemon.process.kill()
        t.expect("broke its answer off")
        t.expect(PROMPT)
        daemon.process.wait()
        self.assertIn("does not answer", self.say(t, "are you there?"))
        self.serve(port=daemon.port)
        self.say(t, "/set tokens 4")
        self.assertIn("(stopped after 4 tokens)", self.say(t, "and now?"))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)

    def test_a_pull_that_is_interrupted_ends_at_the_daemon(self):
        release = threading.Event()
        self.addCleanup(release.set)

        def slow(request):
            request.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n" + b"GGUF" + b"x" * 5000)
            while not release.wait(0.1):  # a bar is drawn when something has come behind its first second
                request.write(b"x")

        server = pull_servers.Server()
        self.addCleanup(server.close)
        server.on("/model.gguf", slow)
        daemon = self.serve(env=self.environment(MLXR_ALLOW_PRIVATE="127.0.0.1", MLXR_PULL_STALL_S="600"))
        t = self.terminal("pull", server.url + "/model.gguf", env=self.here(daemon.port))
        t.expect("pull [")
        self.assertEqual(len(daemon.ask("GET", "/ui-api/jobs").json["jobs"]), 1)
        t.type("\x03")
        self.assertEqual(t.wait(), 130)
        self.until(lambda: daemon.ask("GET", "/ui-api/jobs").json["jobs"][0]["state"] == "ended")
        job = daemon.ask("GET", "/ui-api/jobs").json["jobs"][0]
        self.assertEqual((job["state"], job["end"]["cancelled"]), ("ended", True))


if __name__ == "__main__":
    support.main()
