"""The program with the MLX backend in it: chosen by name, described by doctor, refused what it cannot promise."""
import os

import support


class Mlx(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.add_model("gemma3")

    def answer(self, *arguments):
        return self.succeed("run", "--json", self.model, *arguments).json

    def test_its_greedy_answer_is_the_cpus(self):
        options = ["the", "--temp", "0", "-n", "24", "--kv-type", "f32"]
        found = self.answer(*options, "--backend", "mlx")
        self.assertEqual(len(found["ids"]), 24)
        self.assertEqual(found["ids"], self.answer(*options, "--backend", "cpu-scalar")["ids"])

    def test_drafts_and_schemas_work_with_it(self):
        options = ["the", "--temp", "0", "-n", "24", "--kv-type", "f32", "--backend", "mlx"]
        self.assertEqual(self.answer(*options, "--draft", "ngram")["ids"], self.answer(*options)["ids"])

    def test_the_cpu_is_still_what_is_taken_without_asking(self):
        self.assertIn("backend cpu,", self.succeed("run", self.model, "the", "-n", "1", "-v").err)

    def test_doctor_tells_its_version_and_device(self):
        version = os.environ["MLXR_MLX_VERSION"]
        backends = {b["name"]: b for b in self.succeed("doctor", "--json").json["backends"]}
        self.assertIs(backends["mlx"]["present"], True)
        self.assertIs(backends["mlx"]["batch_invariant"], False)
        self.assertRegex(backends["mlx"]["device"], rf"^MLX {version} (CPU|Metal)$")
        self.assertRegex(self.succeed("doctor").text, rf"backend mlx +present: MLX {version} ")

    def test_it_refuses_to_be_batch_invariant(self):
        self.fail_with(1, "'mlx'.*batch", "run", self.model, "x", "--backend", "mlx", "--batch-invariant")

    def test_it_refuses_activations_of_8_bits(self):
        self.fail_with(1, "'mlx'.*8 bits.*'cpu'", "run", self.model, "x", "--backend", "mlx", "--activations", "8")

    def test_an_unknown_backend_is_told_which_there_are(self):
        self.fail_with(2, "it has cpu, cpu-scalar, mlx, mlx-metal", "run", self.model, "x", "--backend", "warp")

    def metal(self, *arguments, code=0, **environment):
        result = self.run_mlxr("doctor", "--metal", *arguments, env=self.environment(**environment))
        self.assertEqual(result.code, code, result.err)
        return result

    def test_doctor_checks_the_kernels_and_keeps_what_it_found(self):
        version, file = os.environ["MLXR_MLX_VERSION"], os.path.join(self.home, ".cache/mlxr/kernels")
        found = self.metal("--json").json
        self.assertEqual({k["verdict"] for k in found["kernels"]}, {"ok"})
        self.assertEqual((found["file"], found["emulated"], found["mlx"]), (file, True, version))
        text = self.metal().text
        self.assertIn(f"MLX {version}; backend mlx-emulated", text)
        self.assertIn("There is no Metal here", text)
        self.assertRegex(text, r"(?m)^q_gemm_dequant/q6_k +ok +\d")
        self.assertIn(f"All kernels are used with --backend mlx-metal. Kept in {file}.", text)
        with open(file) as f:
            self.assertRegex(f.read(), rf"CPU\t{version}\trms_norm\t[0-9a-f]{{16}}\tok\t0\t\n")

    def test_a_wrong_kernel_is_put_aside_until_that_is_undone(self):
        cache = os.path.join(self.home, "elsewhere")
        file = os.path.join(cache, "mlxr/kernels")
        wrong = {"XDG_CACHE_HOME": cache, "MLXR_TEST_SPOIL": "rope_apply"}
        text = self.metal(code=1, **wrong).text
        self.assertRegex(text, r"(?m)^rope_apply +failed .*\n +case 0: .* from the recorded vector")
        self.assertIn(f"1 kernels are put aside; MLX's operations do their work. Kept in {file}.", text)
        self.assertIn(f"rm '{file}'", text)
        answer = ["run", "--json", self.model, "the", "--temp", "0", "-n", "8", "--kv-type", "f32", "--backend"]
        usual = self.succeed(*answer, "mlx").json["ids"]

        def ids():
            result = self.run_mlxr(*answer, "mlx-emulated", env=self.environment(**wrong))
            self.assertEqual(result.code, 0, result.err)
            return result.json["ids"], result.err

        self.assertEqual(ids(), (usual, ""))  # the kernel is wrong, and not used
        with open(file, "r+") as f:
            f.write("M")
        found, warning = ids()
        self.assertNotEqual(found, usual)
        self.assertIn("damaged and ignored", warning)
        os.remove(file)
        self.assertNotEqual(ids()[0], usual)


if __name__ == "__main__":
    support.main()
