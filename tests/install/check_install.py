#!/usr/bin/env python3
"""Installs a build into a temporary prefix, moves it, and uses it as strangers would.

    check_install.py BUILD-DIRECTORY

With pkg-config, shared and static, and with find_package(MLXR) a small program is compiled, linked and run; the
examples are compiled in the same ways. The library's name, version and exported symbols are looked at.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = None
CC = os.environ.get("CC", "cc")
SHARED = "libmlxr.dylib" if sys.platform == "darwin" else "libmlxr.so"
CMAKE_PROJECT = """cmake_minimum_required(VERSION 3.20)
project(consumer C)
find_package(MLXR 0.1 REQUIRED)
foreach(kind mlxr static)
  add_executable(consumer_${kind} consumer.c)
  target_link_libraries(consumer_${kind} PRIVATE MLXR::${kind})
endforeach()
"""


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)} failed with {result.returncode}:\n{result.stdout}")
    return result.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="mlxr-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        first = os.path.join(cls.folder, "first")
        run("cmake", "--install", BUILD, "--prefix", first)
        cls.prefix = os.path.join(cls.folder, "a moved prefix")
        os.rename(first, cls.prefix)
        found = [d for d, _, files in os.walk(cls.prefix) if "mlxr.pc" in files]
        assert len(found) == 1, f"mlxr.pc installed {len(found)} times"
        cls.libdir = os.path.dirname(found[0])
        cls.environment = dict(os.environ, PKG_CONFIG_PATH=found[0] + ":" + os.environ.get("PKG_CONFIG_PATH", ""))

    def pkg_config(self, *flags):
        text = run("pkg-config", *flags, "mlxr", env=self.environment)
        # pkg-config escapes blanks with a backslash
        return [word.replace("\\ ", " ") for word in re.findall(r"(?:\\ |\S)+", text)]

    def compile_with_pkg_config(self, source, name, static):
        program = os.path.join(self.folder, name)
        libraries = self.pkg_config("--libs", "--static") if static else self.pkg_config("--libs")
        if static:
            libraries = [os.path.join(self.libdir, "libmlxr.a") if word == "-lmlxr" else word for word in libraries]
        run(CC, "-std=c11", "-Wall", "-Wextra", "-Werror", *self.pkg_config("--cflags"), source, "-o", program, *libraries)
        return program

    def run_program(self, program, shared):
        environment = dict(os.environ)
        if shared:
            environment["LD_LIBRARY_PATH"] = environment["DYLD_LIBRARY_PATH"] = self.libdir
        return run(program, env=environment)

    def version(self):
        with open(os.path.join(ROOT, "include", "mlxr.h"), encoding="utf-8") as file:
            return re.search(r'MLXR_VERSION "([^"]*)"', file.read()).group(1)

    def test_a_program_links_and_runs_through_pkg_config_shared_and_static(self):
        for static in (False, True):
            with self.subTest(static=static):
                program = self.compile_with_pkg_config(os.path.join(HERE, "consumer.c"), f"consumer-{static}", static)
                self.assertEqual(self.run_program(program, not static).strip(), self.version())

    def test_a_program_links_and_runs_through_find_package(self):
        project = os.path.join(self.folder, "project")
        os.mkdir(project)
        shutil.copy(os.path.join(HERE, "consumer.c"), project)
        with open(os.path.join(project, "CMakeLists.txt"), "w", encoding="utf-8") as file:
            file.write(CMAKE_PROJECT)
        run("cmake", "-S", project, "-B", project + "/build", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", project + "/build")
        for kind in ("mlxr", "static"):
            self.assertEqual(self.run_program(f"{project}/build/consumer_{kind}", True).strip(), self.version())

    def test_the_examples_compile_shared_and_static(self):
        folder = os.path.join(ROOT, "examples")
        for name in sorted(os.listdir(folder)):
            if name.endswith(".c"):
                for static in (False, True):
                    with self.subTest(name=name, static=static):
                        self.compile_with_pkg_config(os.path.join(folder, name), f"{name}-{static}", static)

    def test_versions_agree_everywhere(self):
        self.assertEqual(self.pkg_config("--modversion"), [self.version()])
        with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
            self.assertIn(f"VERSION {self.version()}", file.read())

    def test_the_shared_library_has_a_soname(self):
        path = os.path.join(self.libdir, SHARED)
        self.assertTrue(os.path.islink(path))
        if sys.platform != "darwin":
            text = run("readelf", "-d", path)
            self.assertRegex(text, r"SONAME.*\[libmlxr\.so\.\d+\]")
            self.assertNotRegex(text, r"R(?:UN)?PATH")

    def test_the_shared_library_exports_the_public_interface_only(self):
        run(sys.executable, os.path.join(ROOT, "tools", "check-exports"), os.path.join(self.libdir, SHARED))

    def test_the_program_was_installed_and_runs(self):
        program = os.path.join(self.prefix, "bin", "mlxr")
        if not os.path.exists(os.path.join(BUILD, "bin", "mlxr")):
            self.skipTest("this build has no program")
        self.assertIn(self.version(), run(program, "version"))

    def test_completions_lie_where_shells_look_for_them(self):
        program = os.path.join(self.prefix, "bin", "mlxr")
        if not os.path.exists(os.path.join(BUILD, "bin", "mlxr")):
            self.skipTest("this build has no program")
        share = os.path.join(self.prefix, "share")
        for shell, path in (("bash", "bash-completion/completions/mlxr"), ("zsh", "zsh/site-functions/_mlxr"),
                            ("fish", "fish/vendor_completions.d/mlxr.fish")):  # fmt: skip
            with open(os.path.join(share, path), encoding="utf-8") as file:
                self.assertEqual(file.read(), run(program, "completion", shell), shell)

    def test_nothing_installed_names_the_build_or_source_folder(self):
        for folder, _, files in os.walk(self.prefix):
            for name in files:
                if name.endswith((".pc", ".cmake", ".h")):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        text = file.read()
                    self.assertNotIn(ROOT, text, name)
                    self.assertNotIn(BUILD, text, name)
                    self.assertNotIn(os.path.join(self.folder, "first"), text, name)


if __name__ == "__main__":
    BUILD = os.path.abspath(sys.argv.pop(1))
    unittest.main()
