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

    def test_an_unknown_backend_is_told_which_there_are(self):
        self.fail_with(2, "it has cpu, cpu-scalar, mlx, mlx-metal", "run", self.model, "x", "--backend", "warp")


if __name__ == "__main__":
    support.main()
