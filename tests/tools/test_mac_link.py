"""tools/mac/link-check: everything links for macOS with the MLX that users run, and what is missing is found."""
import importlib.machinery
import importlib.util
import os
import platform
import struct
import subprocess
import sys
import tempfile
import unittest

import support

PROGRAM = os.path.join(support.ROOT, "tools", "mac", "link-check")


def load():
    loader = importlib.machinery.SourceFileLoader("link_check", PROGRAM)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("link_check", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


@unittest.skipUnless(sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"), "zig comes for these")
class MacLink(unittest.TestCase):
    def run_check(self, *arguments):
        return subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)

    def test_1_program_library_and_bridge_link_with_the_mlx_that_users_run(self):
        done = self.run_check()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^mlxr: .*[1-9]\d* from libmlx\.dylib")
        self.assertRegex(done.stdout, r"(?m)^libmlxr\.[0-9.]+\.dylib: .*[1-9]\d* from libmlx\.dylib")
        print(done.stdout)

    def test_2_a_function_that_mlx_has_not_is_found(self):
        done = self.run_check("--planted", "mlx")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("undefined symbol: __ZN3mlx4core7plantedERKNS0_5arrayE", done.stderr)

    def test_3_a_function_that_a_library_of_homebrew_has_not_is_found(self):
        done = self.run_check("--planted", "jansson")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("undefined symbol: _json_planted", done.stderr)

    def test_4_nothing_of_a_failed_link_stays(self):
        done = self.run_check()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_5_a_program_that_needs_anything_else_is_refused(self):
        check = load()
        with tempfile.NamedTemporaryFile() as file:
            file.write(mach_o(["/usr/lib/libSystem.B.dylib", "@rpath/libmlx.dylib"], [("_a", 1), ("_b", 2)]))
            file.flush()
            self.assertEqual(check.needs(file.name), {"/usr/lib/libSystem.B.dylib": 1, "@rpath/libmlx.dylib": 1})
        for libraries, symbols, said in (
            (["@rpath/libmlx.dylib", "/opt/lib/libother.dylib"], [("_a", 1)], "needs /opt/lib/libother.dylib"),
            (["@rpath/libmlx.dylib"], [("_a", 1), ("_b", 254)], "_b is looked up in no library"),
            (["@rpath/libmlx.dylib"], [], "takes nothing from libmlx.dylib"),
        ):
            with tempfile.NamedTemporaryFile() as file:
                file.write(mach_o(libraries, symbols))
                file.flush()
                with self.assertRaisesRegex(check.Failure, said):
                    check.check_needs(file.name)
        for path in (sys.executable, os.devnull):
            with self.assertRaisesRegex(check.Failure, "is not Mach-O"):
                check.needs(path)


def mach_o(libraries, symbols):
    """A Mach-O file of load commands and undefined symbols [(name, number of its library)]."""
    commands = b""
    for library in libraries:
        name = library.encode() + b"\0"
        name += b"\0" * (-len(name) % 8)
        commands += struct.pack("<6I", 0xC, 24 + len(name), 24, 0, 0, 0) + name
    at = 32 + len(commands) + 24
    table, strings = b"", b"\0"
    for name, ordinal in symbols:
        table += struct.pack("<IBBHQ", len(strings), 1, 0, ordinal << 8, 0)
        strings += name.encode() + b"\0"
    commands += struct.pack("<6I", 0x2, 24, at, len(symbols), at + len(table), len(strings))
    header = struct.pack("<8I", 0xFEEDFACF, 0x0100000C, 0, 2, len(libraries) + 1, len(commands), 0, 0)
    return header + commands + table + strings


if __name__ == "__main__":
    unittest.main()
