"""tools/check-coverage over made-up figures: the floor holds for parsers and for nothing else."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "check-coverage")


class CheckCoverage(unittest.TestCase):
    def check(self, *arguments, **branches):
        """Runs the tool with a gcovr that reports (covered, total) branches of the files given."""
        folder = tempfile.mkdtemp(prefix="mlxr-coverage-")
        self.addCleanup(shutil.rmtree, folder, True)
        files = [
            {
                "filename": "core/" + path.replace("__", "/") + ".c",
                "line_percent": 99.0,
                "branch_covered": covered,
                "branch_total": total,
            }
            for path, (covered, total) in branches.items()
        ]
        with open(os.path.join(folder, "gcovr.py"), "w", encoding="utf-8") as file:
            file.write(f"print({json.dumps({'files': files})!r})\n")
        environment = dict(os.environ, PYTHONPATH=folder)
        command = [sys.executable, TOOL, folder, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        return done.returncode, done.stdout

    def test_the_floor_is_95_percent_of_branches(self):
        code, output = self.check(loaders__gguf_read=(95, 100), text__jinja_lexer=(200, 200))
        self.assertEqual(code, 0, output)
        code, output = self.check(loaders__gguf_read=(949, 1000), text__jinja_lexer=(200, 200))
        self.assertEqual(code, 1)
        self.assertIn("below 95 %", output)

    def test_every_parser_counts(self):
        for path in ("loaders__gguf", "loaders__safetensors_header", "text__tokenizer_json", "text__json_text",
                     "text__sentencepiece_model", "text__jinja_parse", "loaders__json_config"):  # fmt: skip
            self.assertEqual(self.check(**{path: (1, 100)})[0], 1, path)

    def test_other_files_are_shown_but_have_no_floor(self):
        code, output = self.check("--all", base__team=(1, 100), loaders__gguf=(100, 100))
        self.assertEqual(code, 0)
        self.assertIn("core/base/team.c", output)
        self.assertNotIn("core/base/team.c", self.check(base__team=(1, 100), loaders__gguf=(1, 1))[1])

    def test_measuring_nothing_is_a_failure(self):
        self.assertEqual(self.check(base__team=(1, 1))[0], 1)


if __name__ == "__main__":
    unittest.main()
