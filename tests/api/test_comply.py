"""llm-comply's cases for chat completions and responses: all pass but the one that sends an image, refused by name.

Runs in the environment of tools/api/requirements.txt, with SmolLM2; skipped where that is not there.
"""
import json
import os
import subprocess
import sys
import unittest

import support

SMOL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")


@unittest.skipUnless(os.path.exists(SMOL), "SmolLM2 is not in the model directory")
class Comply(support.ApiTest):
    def test_all_cases_pass_but_that_with_an_image(self):
        # What an answer without max_tokens says, and so whether it ends before the context does, must not be chance.
        modelfile = os.path.join(support.temporary_folder(self), "Modelfile")
        with open(modelfile, "w", encoding="utf-8") as file:
            file.write(f"FROM {SMOL}\nPARAMETER temperature 0\n")
        self.succeed("create", "comply", "-f", modelfile)
        daemon = self.serve("--threads", "2")
        program = os.path.join(os.path.dirname(sys.executable), "llm-comply")
        for form in ("openai-chat", "open-responses"):
            done = subprocess.run([program, "-u", f"http://127.0.0.1:{daemon.port}/v1", "-k", "none", "-m",
                                   "comply", "--format", form, "--timeout", "300", "--json"],
                                  stdout=subprocess.PIPE, check=False, timeout=900)  # fmt: skip
            found = json.loads(done.stdout)
            results = found["results"] if isinstance(found, dict) else found
            failed = [r for r in results if r["status"] not in ("passed", "skipped")]
            print(f"{form}: {len(results)} cases, failed: {[r.get('name') for r in failed]}")
            self.assertGreater(len(results), 8)
            self.assertEqual([r.get("name") for r in failed], ["Image Input"], failed)


if __name__ == "__main__":
    support.main()
