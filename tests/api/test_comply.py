"""llm-comply's cases of chat completions, responses and messages: all pass but those with an image, refused by name.

Runs in the environment of tools/api/requirements.txt, with SmolLM2; skipped where that is not there.
"""
import json
import os
import subprocess
import sys
import unittest

import support

SMOL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
# The case about thinking wants a model that thinks, and looks at its name for whether it may run.
THINKER = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)


@unittest.skipUnless(os.path.exists(SMOL), "SmolLM2 is not in the model directory")
class Comply(support.ApiTest):
    def serve_greedily(self, name, path):
        """What an answer without max_tokens says, and so whether it ends before the context does, must not be chance."""
        modelfile = os.path.join(support.temporary_folder(self), "Modelfile")
        with open(modelfile, "w", encoding="utf-8") as file:
            file.write(f"FROM {path}\nPARAMETER temperature 0\n")
        self.succeed("create", name, "-f", modelfile)
        return self.serve("--threads", "2")

    @staticmethod
    def run_cases(daemon, name, form, *arguments):
        program = os.path.join(os.path.dirname(sys.executable), "llm-comply")
        done = subprocess.run([program, "-u", f"http://127.0.0.1:{daemon.port}/v1", "-k", "none", "-m", name, "--format",
                               form, "--timeout", "300", "--json", *arguments],
                              stdout=subprocess.PIPE, check=False, timeout=900)  # fmt: skip
        found = json.loads(done.stdout)
        results = found["results"] if isinstance(found, dict) else found
        skipped = [r.get("name") for r in results if r["status"] == "skipped"]
        failed = [r for r in results if r["status"] not in ("passed", "skipped")]
        print(f"{form}: {len(results)} cases, failed: {[r.get('name') for r in failed]}, skipped: {skipped}")
        return results, failed, skipped

    def test_all_cases_pass_but_those_with_an_image(self):
        daemon = self.serve_greedily("comply", SMOL)
        for form, left_out in (("openai-chat", None), ("open-responses", None), ("anthropic", ["Thinking Display"])):
            results, failed, skipped = self.run_cases(daemon, "comply", form)
            self.assertGreater(len(results), 8)
            self.assertEqual([r.get("name") for r in failed], ["Image Input"], failed)
            if left_out is not None:
                self.assertEqual(skipped, left_out)

    def test_the_case_about_thinking_passes_with_a_model_that_thinks(self):
        path = os.path.join(support.temporary_folder(self), "thinker.gguf")
        support.write_with_template(SMOL, path, THINKER)
        daemon = self.serve_greedily("claude-4-thinker", path)
        results, failed, skipped = self.run_cases(daemon, "claude-4-thinker", "anthropic", "-f", "anth-thinking-display")
        self.assertEqual((len(results), failed, skipped), (1, [], []))

    def test_an_image_is_refused_by_name(self):
        daemon = self.serve_greedily("comply", SMOL)
        block = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "aGk="}}
        answer = daemon.ask("POST", "/v1/messages", {"model": "comply", "max_tokens": 5,
                                                     "messages": [{"role": "user", "content": [block]}]})  # fmt: skip
        self.assertEqual(answer.status, 400)
        self.assertIn("'image'", answer.json["error"]["message"])


if __name__ == "__main__":
    support.main()
