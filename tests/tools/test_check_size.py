"""tools/check-size passes on the sources, fails on what is too long, and counts as a reader would."""
import importlib.machinery
import importlib.util
import os
import subprocess
import unittest

from support import ROOT, SourceTree

LOADER = importlib.machinery.SourceFileLoader("check_size", os.path.join(ROOT, "tools", "check-size"))
check_size = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_size", LOADER))
LOADER.exec_module(check_size)

COUNTED = r"""
#include <x.h>
#define SHORT 1
#define LONG(x)  \
    do {         \
    } while (0)
extern "C" {
typedef struct thing {
    int a;
} thing;
static const int table[] = {1, 2, '{', "}"[0]};
static inline __attribute__((always_inline)) uint16_t first(const void *p)
{
    return "}}}" /* } */ [0]; // }
}
struct thing second(int (*callback)(void), /* { */
                    int b)
{
    struct { int c; } d = {0};
    if (b) { return; }
}
enum kind { ONE, TWO };
int third(void) { return 1; }
void (*const pointers[])(void) = {fourth, fifth};
struct __attribute__((packed)) packed_thing {
    char c;
};
static int sixth(void)
{
#ifdef X
    if (x) {
#endif
#ifdef X
    }
#endif
}
}
"""


class Counting(unittest.TestCase):
    def test_functions_are_found_with_their_lines(self):
        found = {name: (line, n) for name, line, n in check_size.c_functions(COUNTED)}
        self.assertEqual(
            found,
            {"SHORT": (3, 1), "LONG": (4, 3), "first": (12, 4), "second": (16, 6), "third": (23, 1), "sixth": (28, 9)},
        )

    def test_braces_that_do_not_balance_are_not_guessed_at(self):
        with self.assertRaises(ValueError):
            list(check_size.c_functions("void f(void)\n{\n"))

    def test_python_functions_are_counted_too(self):
        text = "def a():\n    pass\n\n\nclass B:\n    def c(self):\n        x = 1\n        return x\n"
        self.assertEqual(sorted(check_size.python_functions(text)), [("a", 1, 2), ("c", 6, 3)])


def function(name, lines):
    return f"int {name}(void)\n{{\n" + "    x();\n" * (lines - 3) + "}\n"


class CheckSize(SourceTree):
    def test_the_sources_pass(self):
        # Copied with their list of exceptions; the history of its ceilings is in the repository itself.
        self.assert_passes("check-size")
        done = subprocess.run([os.path.join(ROOT, "tools", "check-size")], stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_a_function_of_150_lines_passes_and_one_of_151_fails(self):
        self.write("core/base/planted.c", function("planted", 150))
        self.assertIn("planted has 150 lines", self.assert_passes("check-size", "--verbose"))
        self.write("core/base/planted.c", "\n" + function("planted", 151))
        self.assert_fails("check-size", "core/base/planted.c:2: planted has 151 lines")

    def test_a_file_of_1500_lines_passes_and_one_of_1501_fails(self):
        self.write("core/base/planted.c", "int x;\n" * 1500)
        self.assertIn("core/base/planted.c: 1500 lines", self.assert_passes("check-size", "--verbose"))
        self.write("core/base/planted.c", "int x;\n" * 1501)
        self.assert_fails("check-size", "core/base/planted.c: 1501 lines")

    def test_limits_to_worry_about_are_60_and_800(self):
        self.write("core/base/planted.c", function("quiet", 60))
        self.write("core/base/planted_too.c", "int x;\n" * 800)
        self.assertNotIn("planted", self.assert_passes("check-size", "--verbose"))
        self.write("core/base/planted.c", function("loud", 61))
        self.write("core/base/planted_too.c", "int x;\n" * 801)
        output = self.assert_passes("check-size", "--verbose")
        self.assertIn("loud has 61 lines", output)
        self.assertIn("planted_too.c: 801 lines", output)

    def test_headers_tests_scripts_and_macros_count(self):
        for path in ("include/planted.h", "tests/unit/base/planted.c"):
            self.write(path, function("planted", 151))
            self.assert_fails("check-size", path, "151 lines")
            self.remove(path)
        self.write("core/base/planted.h", "#define PLANTED \\\n" + "    x(); \\\n" * 149 + "    y()\n")
        self.assert_fails("check-size", "PLANTED has 151 lines")
        self.remove("core/base/planted.h")
        self.write("tools/planted", "#!/usr/bin/env python3\ndef planted():\n" + "    x()\n" * 150)
        self.assert_fails("check-size", "tools/planted:2: planted has 151 lines")

    def test_unbalanced_sources_are_named(self):
        self.write("core/base/planted.c", "int f(void)\n{\n")
        self.assert_fails("check-size", "core/base/planted.c", "braces")

    def test_a_generated_table_has_a_ceiling_that_must_be_exact(self):
        self.write("core/base/planted_table.c", "int x;\n" * 2000)
        self.assert_fails("check-size", "planted_table.c: 2000 lines")
        self.append("tools/check-size.exempt", "core/base/planted_table.c 2000 # a test\n")
        self.assert_passes("check-size")
        self.append("core/base/planted_table.c", "int y;\n")
        self.assert_fails("check-size", "2001 lines, above its ceiling of 2000")
        self.write("core/base/planted_table.c", "int x;\n" * 1999)
        self.assert_fails("check-size", "lower its ceiling")
        self.remove("core/base/planted_table.c")
        self.assert_fails("check-size", "remove its line")

    def test_a_ceiling_that_was_lowered_cannot_rise_again(self):
        def git(*arguments):
            environment = dict(os.environ, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
            identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
            command = ["git", "-C", self.tree, *identity, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

        git("init", "-q")
        self.write("core/base/planted_table.c", "int x;\n" * 1800)
        self.write("tools/check-size.exempt", "core/base/planted_table.c 1800\n")
        with open(os.path.join(self.original, "tools/check-size.exempt"), encoding="utf-8") as file:
            self.append("tools/check-size.exempt", file.read())
        git("add", "tools/check-size.exempt")
        git("commit", "-q", "-m", "lower")
        self.assert_passes("check-size")
        self.append("core/base/planted_table.c", "int y;\n")
        with open(os.path.join(self.tree, "tools/check-size.exempt"), encoding="utf-8") as file:
            text = file.read()
        self.write("tools/check-size.exempt", text.replace("1800", "1801"))
        self.assert_fails("check-size", "rose from 1800 to 1801")


if __name__ == "__main__":
    unittest.main()
