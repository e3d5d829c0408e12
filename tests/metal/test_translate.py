"""tools/metal-emulator/translate.py: address spaces by clang, refusals in words, sources as MLX takes them."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRANSLATE = os.path.join(ROOT, "tools/metal-emulator/translate.py")
KERNELS = sorted(glob.glob(os.path.join(ROOT, "core/kernels/metal/*.metal")))
CLANG = next((c for c in ("clang++-19", "clang++") if shutil.which(c)), None)
KERNEL = "[[kernel]] void k(const device float *x [[buffer(0)]], device float *y [[buffer(1)]])\n{\n    %s\n}\n"


class Translate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-metal-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def translate(self, *arguments):
        done = subprocess.run([sys.executable, TRANSLATE, *arguments], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def write(self, text, name="planted.metal"):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#include <metal_stdlib>\nusing namespace metal;\n" + text)
        return path

    def syntax(self, path):
        """What clang says of a file whose address spaces are the language's."""
        code, out, errors = self.translate("address-spaces", path)
        self.assertEqual(code, 0, errors)
        source = os.path.join(self.folder, "spaces.cpp")
        with open(source, "w", encoding="utf-8") as file:
            file.write(out)
        include = os.path.join(ROOT, "tools/metal-emulator")
        command = [CLANG, "-std=c++20", "-fsyntax-only", "-w", "-I", include, source]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stderr

    @unittest.skipUnless(CLANG, "needs clang")
    def test_no_kernel_mixes_address_spaces(self):
        self.assertEqual(len(KERNELS), 6)
        for path in KERNELS + [os.path.join(ROOT, "tests/metal/emulator/good.metal")]:
            code, errors = self.syntax(path)
            self.assertEqual(code, 0, f"{path}: {errors[:2000]}")

    @unittest.skipUnless(CLANG, "needs clang")
    def test_a_pointer_in_the_wrong_address_space_is_found_by_line(self):
        for body in (
            "threadgroup float s[4]; device float *p = s; p[0] = x[0];",
            "constant float *p = x; y[0] = p[0];",
            "thread float *p = y; p[0] = 1;",
        ):
            code, errors = self.syntax(self.write(KERNEL % body))
            self.assertNotEqual(code, 0, body)
            self.assertIn("planted.metal:5", errors)

    def test_what_is_not_emulated_is_refused_by_line(self):
        for body, why in (
            ("double d = 1;", "double"), ("goto end;", "goto"), ("int *p = new int;", "new"),
            ("texture2d<float> t;", "textures"), ("atomic_int a;", "atomics"), ("y[0] = std::abs(x[0]);", "std"),
        ):  # fmt: skip
            code, _, errors = self.translate("run", self.write(KERNEL % body), "planted")
            self.assertEqual(code, 1, body)
            self.assertIn(why, errors)
            self.assertIn("planted.metal:5", errors)
        for text, why in (
            ("[[kernel]] void k(device float *y)\n{\n}\n", "no [[attribute]]"),
            ("[[kernel]] void k(device float *y [[buffer(31)]])\n{\n}\n", "below 31"),
            ("[[kernel]] void k(uint i [[quadgroup_index_in_threadgroup]])\n{\n}\n", "not emulated"),
            ("inline void f()\n{\n    threadgroup float s[4];\n}\n" + KERNEL % "", "outside a kernel"),
            ("inline void f()\n{\n}\n", "no kernel"),
        ):
            code, _, errors = self.translate("run", self.write(text), "planted")
            self.assertEqual(code, 1, text)
            self.assertIn(why, errors)

    def test_comments_and_strings_hide_nothing_and_are_not_code(self):
        code, _, errors = self.translate("run", self.write(KERNEL % "y[0] = x[0]; // double, goto /* new"), "planted")
        self.assertEqual(code, 0, errors)

    def test_sources_for_mlx_hold_each_kernel_with_its_arguments(self):
        code, out, errors = self.translate("sources", *KERNELS)
        self.assertEqual(code, 0, errors)
        for name in (
            "rms_norm", "rope_apply", "rope_table", "attention_decode_fused", "attention_decode_merge", "kv_write",
            "attention_prefill_fused", "q_gemm_vector", "q_gemm_matrix", "swiglu_mlp_fused", "gated_apply",
        ):  # fmt: skip
            self.assertIn(f'{{"{name}", ', out)
        self.assertIn('{"typename T", "typename KV", "int HEAD", NULL}', out)
        self.assertNotIn("[[kernel]]", out)

    def test_sources_for_mlx_need_its_order_and_names(self):
        for text, why in (
            ("[[kernel]] void k(device float *y [[buffer(0)]], const device float *x [[buffer(1)]])\n{\n}\n", "before"),
            ("[[kernel]] void k(device float *y [[buffer(0)]], uint i [[thread_position_in_grid]])\n{\n}\n", "name"),
        ):
            code, _, errors = self.translate("sources", self.write(text))
            self.assertEqual(code, 1)
            self.assertIn(why, errors)


if __name__ == "__main__":
    unittest.main()
