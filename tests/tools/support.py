"""What the tests of tools/ share: a copy of the project's sources to plant violations in."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("include", "core", "daemon", "cli", "examples", "bench", "tests", "tools", "cmake")


def skip_data(folder, names):
    return [n for n in names if n in ("corpus", "data", "__pycache__", "logits") or n.endswith((".gguf", ".safetensors"))]


class SourceTree(unittest.TestCase):
    """Each test gets self.tree: the sources as they are, without data; self.shrink() leaves little of it."""

    @classmethod
    def setUpClass(cls):
        cls.original = tempfile.mkdtemp(prefix="mlxr-tree-")
        cls.addClassCleanup(shutil.rmtree, cls.original, True)
        for folder in FOLDERS:
            source = os.path.join(ROOT, folder)
            if os.path.isdir(source):
                shutil.copytree(source, os.path.join(cls.original, folder), symlinks=True, ignore=skip_data)

    def setUp(self):
        self.tree = tempfile.mkdtemp(prefix="mlxr-planted-")
        self.addCleanup(shutil.rmtree, self.tree, True)
        shutil.copytree(self.original, self.tree, symlinks=True, dirs_exist_ok=True)

    def shrink(self):
        """Leaves one folder of sources, for tests of rules that look at one file at a time."""
        for name in os.listdir(self.tree):
            shutil.rmtree(os.path.join(self.tree, name))
        shutil.copytree(os.path.join(self.original, "core/base"), os.path.join(self.tree, "core/base"))

    def write(self, path, text):
        full = os.path.join(self.tree, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8", newline="") as file:
            file.write(text)

    def append(self, path, text):
        with open(os.path.join(self.tree, path), "a", encoding="utf-8") as file:
            file.write(text)

    def remove(self, path):
        os.unlink(os.path.join(self.tree, path))

    def run_tool(self, name, *arguments):
        """(exit code, output) of ROOT/tools/NAME over the copy."""
        command = [sys.executable, os.path.join(ROOT, "tools", name), *arguments, self.tree]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def assert_passes(self, name, *arguments):
        code, output = self.run_tool(name, *arguments)
        self.assertEqual(code, 0, output)
        return output

    def assert_fails(self, name, *expected):
        """The tool exits 1, names each expected text in one line, and finds nothing else."""
        code, output = self.run_tool(name)
        self.assertEqual(code, 1, output)
        lines = output.splitlines()
        self.assertTrue(any(all(text in line for text in expected) for line in lines), output)
        return output
