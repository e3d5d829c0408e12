"""tools/check-exports on small libraries compiled for the purpose."""
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "check-exports")
LOADER = importlib.machinery.SourceFileLoader("check_exports", TOOL)
check_exports = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_exports", LOADER))
LOADER.exec_module(check_exports)


class CheckExports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.names = sorted(name for header in sorted(os.listdir(os.path.join(ROOT, "include")))
                           for name in check_exports.declared(os.path.join(ROOT, "include", header)))  # fmt: skip

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-exports-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def check(self, names, more=""):
        """(exit code, output) for a library that exports functions of these names."""
        source = os.path.join(self.folder, "library.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write("#define API __attribute__((visibility(\"default\")))\n")
            file.write("".join(f"API void {name}(void);\nvoid {name}(void) {{}}\n" for name in names) + more)
        library = os.path.join(self.folder, "library.so")
        flags = ["-shared", "-fPIC", "-fvisibility=hidden", "-w"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, source, "-o", library], check=True)
        done = subprocess.run([sys.executable, TOOL, library], stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout

    def test_the_header_is_understood(self):
        self.assertGreater(len(self.names), 20)
        for name in ("mlxr_engine_open", "mlxr_status_text", "mlxr_model_info_get", "mlxr_step", "mlxr_model_ref"):
            self.assertIn(name, self.names)
        self.assertTrue(all(name.startswith("mlxr_") for name in self.names), self.names)

    def test_exactly_the_declared_functions_pass(self):
        self.assertEqual(self.check(self.names)[0], 0)
        self.assertEqual(self.check(self.names, "int internal_helper(void) { return 1; }\n")[0], 0)

    def test_an_extra_symbol_fails(self):
        code, output = self.check(self.names + ["region_alloc"])
        self.assertEqual(code, 1)
        self.assertIn("region_alloc: exported, but not declared", output)
        code, output = self.check(self.names, "API int mlxr_secret = 1;\n")
        self.assertEqual(code, 1)
        self.assertIn("mlxr_secret: exported, but not declared", output)

    def test_a_missing_symbol_fails(self):
        code, output = self.check(self.names[1:])
        self.assertEqual(code, 1)
        self.assertIn(f"{self.names[0]}: declared in include, but not exported", output)

    def test_printing_and_exiting_fail(self):
        for call in ('printf("%d", 1)', 'puts("x")', "exit(1)", "abort()", 'fprintf(stderr, "x")'):
            code, output = self.check(self.names, f"#include <stdio.h>\n#include <stdlib.h>\nvoid f(void) {{ {call}; }}\n"
                                      "API void mlxr_free(void);\nvoid (*volatile keep)(void) = f;\n")
            self.assertEqual(code, 1, call)
            self.assertIn("never prints", output)


if __name__ == "__main__":
    unittest.main()
