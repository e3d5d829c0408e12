"""The program and a daemon: verbs over its API and without it, chats, `run --serve`, and daemons that are none.

Every daemon here listens on a port of its own; what the program is to ask is told by MLXR_HOST.
"""
import http.server
import importlib.util
import json
import os
import re
import signal
import socket
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
_spec = importlib.util.spec_from_file_location("api_support", os.path.join(os.path.dirname(HERE), "api", "support.py"))
api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api)
support = api.cli

PROMPT = ">>> "
# h h h …: whole characters, and never an end
ENDLESS = ["--temp", "0", "--logit-bias", "104=1000"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


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

    def test_it_leaves_nothing_running_however_it_ends(self):
        self.add_model("llama")
        port = free_port()
        t = self.terminal("run", "llama", "--serve", env=self.here(port))
        t.expect(PROMPT)
        self.assertTrue(answers(port))
        os.kill(t.pid, signal.SIGKILL)
        self.assertEqual(t.wait(), -signal.SIGKILL)
        self.assertFalse(answers(port))

    def test_a_daemon_of_another_machine_is_not_started(self):
        self.fail_with(1, "starts one on this machine only", "run", "llama", "hello", "--serve",
                       env=self.environment(MLXR_HOST="192.0.2.1:9"))  # fmt: skip

    def test_a_path_is_nothing_for_a_daemon(self):
        path = os.path.join(support.tiny_models(), "llama.gguf")
        self.fail_with(2, "always answered for in this process", "run", path, "hello", "--serve")


if __name__ == "__main__":
    support.main()
