"""tools/check-layers passes on the sources and fails on every planted violation."""
import os
import shutil
import unittest

from support import SourceTree

HEAD = "/*\n * Planted.\n * Owner: the test. Lifetime: the test.\n */\n"


class CheckLayers(SourceTree):
    def plant(self, path, include, *expected):
        self.write(path, f"{HEAD}#include {include}\n")
        self.assert_fails("check-layers", path, *expected)

    def test_the_sources_pass(self):
        self.assert_passes("check-layers")

    def test_no_layer_may_include_a_higher_one(self):
        headers = {
            "base": "base/error.h", "quant": "quant/tensor.h", "loaders": "loaders/model_file.h",
            "text": "text/tokenizer.h", "kernels": "kernels/plan.h", "graph": "graph/graph.h",
            "runtime": "runtime/sampler.h",
        }  # fmt: skip
        below = {
            "base": [], "quant": ["base"], "loaders": ["base", "quant"], "text": ["base"], "kernels": ["base", "quant"],
            "graph": ["base", "quant", "loaders", "text", "kernels"], "runtime": list(headers),
        }  # fmt: skip
        for layer in headers:
            for other, header in headers.items():
                path = f"core/{layer}/planted.c"
                self.write(path, f'{HEAD}#include "{header}"\n')
                code, output = self.run_tool("check-layers")
                allowed = other == layer or other in below[layer]
                self.assertEqual(code, 0 if allowed else 1, f"{layer} includes {other}: {output}")
                if not allowed:
                    self.assertIn(f"{path}: core/{layer} includes core/{header}", output)
                self.remove(path)

    def test_programs_see_the_public_header_only(self):
        for folder in ("cli", "examples", "bench"):
            self.write(f"{folder}/planted.h", HEAD)
            self.write(f"{folder}/planted.c", f'{HEAD}#include "mlxr.h"\n#include <mlxr.h>\n#include "planted.h"\n')
            self.assert_passes("check-layers")
            self.plant(f"{folder}/planted.c", '"base/error.h"', "core/base/error.h")
            self.plant(f"{folder}/planted.c", '"../core/base/error.h"', "core/base/error.h")
            self.remove(f"{folder}/planted.c")
        self.write("cli/planted.c", HEAD)
        self.plant("examples/planted.c", '"../cli/planted.h"', "cli/planted.h")

    def test_angle_brackets_do_not_hide_a_header_of_ours(self):
        self.plant("core/base/planted.c", "<runtime/sampler.h>", "core/runtime/sampler.h")

    def test_spelling_does_not_hide_an_include(self):
        for include in ('"../graph/graph.h"', '"./../../core/graph/graph.h"', '/* why */ "graph/graph.h"'):
            self.plant("core/text/planted.c", include, "core/graph/graph.h")
        self.write("core/text/planted.c", f'{HEAD}  #  include\\\n "graph/graph.h"\n')
        self.assert_fails("check-layers", "core/text/planted.c", "core/graph/graph.h")

    def test_headers_are_checked_like_sources(self):
        self.plant("core/quant/planted.h", '"text/tokenizer.h"', "core/text/tokenizer.h")

    def test_includes_in_comments_are_not_includes(self):
        self.write("core/base/planted.c", f'{HEAD}// #include "graph/graph.h"\n/*\n#include "graph/graph.h"\n*/\n')
        self.assert_passes("check-layers")

    def test_an_include_through_a_macro_is_refused(self):
        self.plant("core/base/planted.c", "PLANTED_FILE", "cannot be checked")

    def test_a_quoted_include_must_be_ours(self):
        self.plant("core/base/planted.c", '"stdio.h"', "not a file of this project")

    def test_backends_do_not_know_each_other(self):
        self.write("core/kernels/metal/planted.h", HEAD)
        shutil.copy(
            os.path.join(self.tree, "core/kernels/cpu/README.md"), os.path.join(self.tree, "core/kernels/metal/README.md")
        )
        self.plant("core/kernels/cpu/planted.c", '"kernels/metal/planted.h"', "backends do not know each other")
        self.write("core/kernels/cpu/planted.c", f'{HEAD}#include "kernels/backend.h"\n')
        self.assert_passes("check-layers")

    def test_unknown_folders_are_an_error(self):
        for path in ("core/planted/x.c", "planted/x.c", "daemon/planted/x.h", "planted.c", "app/macos/x.m"):
            self.write(path, HEAD)
            self.assert_fails("check-layers", path, "is in no layer")
            self.remove(path)

    def test_the_daemons_parts_stand_where_the_design_puts_them(self):
        readme = "Purpose\nInvariants\nReading order\n\nfour\nfive\n"
        for part in ("server", "scheduler", "registry", "telemetry"):
            self.write(f"daemon/{part}/planted.h", HEAD)
            self.write(f"daemon/{part}/README.md", readme)
        self.write("daemon/server/planted.c", HEAD + '#include "../scheduler/planted.h"\n#include "../registry/planted.h"\n')
        self.write("daemon/scheduler/planted.c", HEAD + '#include "../telemetry/planted.h"\n#include "mlxr.h"\n')
        self.assert_passes("check-layers")
        self.plant("daemon/scheduler/planted.c", '"../registry/planted.h"', "daemon/registry/planted.h")
        self.write("daemon/scheduler/planted.c", HEAD)
        self.plant("daemon/registry/planted.c", '"../server/planted.h"', "daemon/server/planted.h")
        self.write("daemon/registry/planted.c", HEAD)
        self.plant("daemon/telemetry/planted.c", '"../scheduler/planted.h"', "daemon/scheduler/planted.h")
        self.write("daemon/telemetry/planted.c", HEAD)
        self.plant("daemon/server/planted.c", '"runtime/sampler.h"', "core/runtime/sampler.h")

    def test_every_folder_needs_a_readme_that_says_enough(self):
        self.remove("core/quant/README.md")
        self.assert_fails("check-layers", "core/quant/README.md", "missing")
        self.write("core/quant/README.md", "Purpose, invariants, reading order.\n")
        self.assert_fails("check-layers", "core/quant/README.md", "1 lines")
        self.write("core/quant/README.md", "Purpose\n" * 5 + "Reading order\n")
        self.assert_fails("check-layers", "core/quant/README.md", "invariant")
        self.write("core/quant/README.md", "Purpose, invariants, reading order.\n" * 40)
        self.assert_fails("check-layers", "core/quant/README.md", "40 lines")

    def test_a_tree_without_sources_is_not_a_pass(self):
        for name in os.listdir(self.tree):
            shutil.rmtree(os.path.join(self.tree, name))
        self.assert_fails("check-layers", "no sources")


if __name__ == "__main__":
    unittest.main()
