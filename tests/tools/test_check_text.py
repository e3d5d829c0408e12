"""tools/check-text passes on the sources and fails on every planted fault; tools/check-format runs where it can."""
import os
import shutil
import subprocess
import unittest

from support import ROOT, SourceTree

HEAD = "/*\n * Planted.\n * Owner: the test. Lifetime: the test.\n */\n"


class CheckText(SourceTree):
    def setUp(self):
        super().setUp()
        if "sources" not in self.id():
            self.shrink()

    def plant(self, text, *expected, path="core/graph/planted.c"):
        self.write(path, text)
        self.assert_fails("check-text", path, *expected)
        self.remove(path)

    def accept(self, text, path="core/graph/planted.c"):
        self.write(path, text)
        self.assert_passes("check-text")
        self.remove(path)

    def test_the_sources_pass(self):
        self.assert_passes("check-text")

    def test_files_open_with_purpose_owner_and_lifetime(self):
        self.accept(HEAD + "int x;\n")
        self.plant("int x;\n", "purpose, owner and lifetime")
        self.plant("/*\n * Planted.\n * Owner: the test.\n */\nint lifetime;\n", "purpose, owner and lifetime")

    def test_blanks_tabs_and_ends(self):
        self.plant(HEAD + "int x; \n", "blanks", ":5:")
        self.plant(HEAD + "int x;\r\n", "blanks")
        self.plant(HEAD + "\tint x;\n", "tab")
        self.plant(HEAD + "int x;", "newline")

    def test_lines_have_at_most_120_columns_however_many_bytes(self):
        self.accept(HEAD + "/* " + "ü" * 114 + " */\n")
        self.plant(HEAD + "/* " + "ü" * 115 + " */\n", "121 columns")
        self.plant(HEAD + "/* " + "模" * 58 + " */\n", "122 columns")

    def test_notes_to_self_are_refused(self):
        for note in ("TO" + "DO", "FIX" + "ME", "XX" + "X"):
            self.plant(f"{HEAD}/* {note}: later */\n", "note to self")

    def test_the_library_neither_prints_nor_exits(self):
        for call in ("printf(", "exit (", "abort(", "perror(", "puts(", "fprintf(stderr,", "fflush(stdout), f("):
            self.plant(f"{HEAD}void f(void)\n{{\n    {call}1);\n}}\n", "never prints or exits", ":7:")
        self.accept(f'{HEAD}/* exit(1) */\nconst char *s = "printf(";\n')
        self.accept(f"{HEAD}void f(void)\n{{\n    snprintf(a, b, c);\n    atexit_like(1);\n}}\n")
        self.accept(f'{HEAD}int main(void)\n{{\n    printf("x");\n}}\n', path="cli/planted.c")

    def test_conditional_compilation_stays_in_platform_files(self):
        self.accept(f"{HEAD}#ifdef __linux__\n#endif\n", path="core/base/planted.c")
        self.accept(f"{HEAD}#ifndef MLXR_PLANTED_H\n#define MLXR_PLANTED_H\n#endif\n", path="core/graph/planted.h")
        for line in ("#ifdef __linux__", "#if 0", "#ifndef NDEBUG", "  #  if X"):
            self.plant(f"{HEAD}{line}\n#endif\n", "platform files")

    def test_what_a_patch_leaves_behind_is_refused(self):
        for path in ("core/graph/planted.c.orig", "core/graph/planted.c.rej", "tests/data/planted.json.orig"):
            self.plant(HEAD, "left by a patch", path=path)

    def test_bytes_that_are_not_utf8_are_refused(self):
        self.write("core/graph/planted.c", "")
        with open(os.path.join(self.tree, "core/graph/planted.c"), "wb") as file:
            file.write(HEAD.encode() + b"/* \xff */\n")
        self.assert_fails("check-text", "UTF-8")


@unittest.skipUnless(shutil.which("clang-format-19"), "clang-format-19 is not installed")
class CheckFormat(SourceTree):
    def run_format(self, *arguments):
        command = ["sh", os.path.join(self.tree, "tools", "check-format"), *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def test_unformatted_code_is_named_and_mended(self):
        shutil.copy(os.path.join(ROOT, ".clang-format"), self.tree)
        code, output = self.run_format()
        self.assertEqual(code, 0, output)
        self.write("core/base/planted.c", HEAD + "int f( int a ){return a;}\n")
        code, output = self.run_format()
        self.assertEqual(code, 1)
        self.assertIn("core/base/planted.c: is not formatted", output)
        self.assertEqual(self.run_format("--fix")[0], 0)
        self.assertEqual(self.run_format()[0], 0)


if __name__ == "__main__":
    unittest.main()
