"""schemathesis over our own /openapi.json, with data that fits it and data that does not.

No 5xx (503 with Retry-After excepted), no status that the document does not name, no error in another shape than it says,
nothing that breaks the schema accepted, no request without an answer, and a daemon that lives and ends well. Seeded; the
long form (MLXR_SOAK) has ten seeds and many more examples. Runs in the environment of tools/api/requirements.txt.
"""
import os
import re
import subprocess
import sys

import support

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
          "unsupported_method", "negative_data_rejection", "not_now_says_when")  # fmt: skip
SOAK = bool(os.environ.get("MLXR_SOAK"))
# They end the daemon, never end themselves, or wait for seconds; each has tests of its own.
LEFT_OUT = ["/ui-api/drain", "/ui-api/restart", "/ui-api/logs", "/ui-api/events"] + ([] if SOAK else ["/ui-api/profile"])
CONFIG = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
# What it takes for a refusal unasked, and 414: a parameter beyond its length may make the request's line too long.
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "414", "415", "422", "428", "429", "5xx"]
"""


class Schema(support.ApiTest):
    name = "qwen2"

    def setUp(self):
        super().setUp()
        # One of the routes makes keys; from the first on nothing is answered without one.
        self.headers = [("Authorization", "Bearer " + self.key("all", "--scopes", "inference,read,admin")[0])]
        self.daemon = self.serve("--model", os.path.join(support.tiny_models(), self.name + ".gguf"), "--threads", "1")

    def run_schemathesis(self, seed, *arguments):
        folder = support.temporary_folder(self)
        with open(os.path.join(folder, "schemathesis.toml"), "w", encoding="utf-8") as file:
            file.write(CONFIG)
        program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
        env = dict(os.environ, MLXR_TEST_MODEL=self.name, SCHEMATHESIS_HOOKS="schema_hooks", PYTHONPATH=support.HERE)
        command = [program, "run", f"http://127.0.0.1:{self.daemon.port}/openapi.json", "--checks", ",".join(CHECKS),
                   "--seed", str(seed), "--request-timeout", str(30 * support.SLOW), "--no-color", "--warnings", "off",
                   "--continue-on-failure", "--generation-database", "none", "--generation-with-security-parameters", "false",
                   "--suppress-health-check", "all", "--header", ": ".join(self.headers[0])]  # fmt: skip
        for path in LEFT_OUT:
            command += ["--exclude-path", path]
        done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=env,
                              cwd=folder, text=True)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout[-20000:])
        n = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
        self.assertIsNotNone(n, done.stdout[-5000:])
        print(f"seed {seed}: {n.group(0)}")
        return int(n.group(1))

    def statuses(self):
        """How many answers of each route had each status."""
        text = self.daemon.ask("GET", "/metrics", headers=self.headers).body.decode()
        found = re.findall(r"^mlxr_http_requests_total\{(.*)\} (\d+)", text, re.M)
        return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), int(count)) for labels, count in found]

    def test_nothing_that_fits_the_schema_or_breaks_it_makes_the_daemon_fail(self):
        n = 0
        if SOAK:
            for seed in range(10):
                n += self.run_schemathesis(seed, "--phases", "coverage,fuzzing", "--max-examples", "300")
        else:
            n = self.run_schemathesis(7, "--phases", "coverage,fuzzing", "--max-examples", "4")
        self.assertGreater(n, 3000)
        self.assertEqual(self.daemon.ask("GET", "/health").status, 200)
        counts = self.statuses()
        self.assertTrue(counts)
        for labels, count in counts:
            self.assertFalse(labels["status"].startswith("5") and labels["status"] != "503", (labels, count))
        answered = {labels["route"] for labels, count in counts if labels["status"] == "200"}
        for route in ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses",
                      "/tokenize", "/v1/models"):  # fmt: skip
            self.assertIn(route, answered, "no data that fits was found for it")
        refused = sum(count for labels, count in counts if labels["status"] == "401")
        self.assertLess(refused, n // 4, "it is the handlers that are to be tested, not the keys")
        print(f"{len(counts)} kinds of answers; 200: {sum(c for labels, c in counts if labels['status'] == '200')}")
        if "-v" in sys.argv:
            print("\n".join(sorted(f"{labels['route']} {labels['status']}: {count}" for labels, count in counts)))
        self.assertEqual(self.daemon.stop(), 0)


if __name__ == "__main__":
    support.main()
