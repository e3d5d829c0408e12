"""quantize, convert: model files out of model files."""
import json
import os
import shutil
import signal
import subprocess
import time

import support


class Quantize(support.CliTest):
    def out(self, name="out.gguf"):
        return os.path.join(self.home, name)

    def test_it_writes_a_model_that_answers(self):
        model = self.add_model("llama")
        report = self.succeed("quantize", model, self.out(), "--type", "q8_0", "--json").json
        self.assertEqual((report["type"], report["gave_way"], report["requantised"]), ("q8_0", 0, 0))
        self.assertEqual(report["bytes_out"], os.path.getsize(self.out()))
        types = {t["type"] for t in self.succeed("show", self.out(), "--tensors", "--json").json["tensors"]}
        self.assertEqual(types, {"F32", "Q8_0"})
        options = ["--raw", "-n", "8", "--temp", "0"]
        self.assertEqual(self.succeed("run", self.out(), "zqxk", *options).code, 0)

    def test_f32_of_f32_is_the_same_model(self):
        model = self.add_model("gemma3")
        self.succeed("quantize", model, self.out(), "--type", "F32")
        options = ["--raw", "-n", "24", "--temp", "0"]
        before = self.succeed("run", model, "zqxk", *options).out
        self.assertEqual(self.succeed("run", self.out(), "zqxk", *options).out, before)

    def test_people_are_told_the_sizes_and_what_gave_way(self):
        result = self.succeed("quantize", self.add_model("llama"), self.out(), "--type", "Q4_K_M")
        self.assertRegex(result.text, r"^[0-9.]+ .iB → [0-9.]+ .iB, [0-9.]+ bits a weight; [0-9.]+.? weights in ")
        self.assertIn("rows that do not divide into the blocks of their type", result.err)

    def test_a_type_is_needed_and_must_be_known(self):
        model = self.add_model("llama")
        self.fail_with(2, "quantize needs --type, such as --type Q4_K_M", "quantize", model, self.out())
        self.fail_with(2, "type 'Q4_X' is unknown; known: F32, F16", "quantize", model, self.out(), "--type", "Q4_X")
        self.assertFalse(os.path.exists(self.out()))

    def test_a_file_that_is_no_model_is_refused(self):
        path = os.path.join(self.home, "x.gguf")
        with open(path, "wb") as file:
            file.write(b"GGUFnonsense")
        self.fail_with(1, "GGUF version", "quantize", path, self.out(), "--type", "Q8_0")
        self.assertFalse(os.path.exists(self.out()))

    def test_an_interrupted_run_leaves_nothing(self):
        model = self.add_model("llama")
        for wait in (0, 0.002, 0.01):
            process = subprocess.Popen([support.MLXR, "quantize", model, self.out(), "--type", "Q2_K"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait()
            left = [name for name in os.listdir(self.home) if name.endswith(".new")]
            self.assertEqual(left, [])


def folders():
    tiny = support.tiny_models()
    return [os.path.join(tiny, name) for name in sorted(os.listdir(tiny)) if not name.endswith(".gguf")]


class Convert(support.CliTest):
    def compare(self, folder):
        out = os.path.join(self.home, "out.gguf")
        report = self.succeed("convert", folder, out, "--json").json
        self.assertEqual((report["type"], report["encoded"]), ("kept", 0))
        options = ["--raw", "-n", "12", "--temp", "0", "--logprobs", "20", "--json"]
        found = [self.succeed("run", model, "zqxkvjwp the end", *options).json for model in (folder, out)]
        self.assertEqual(found[0]["text"], found[1]["text"], folder)
        for one, other in zip(*[place["logprobs"] for place in found]):
            for a, b in zip(one["top"], other["top"]):
                self.assertAlmostEqual(a["logprob"], b["logprob"], 3, folder)

    def test_a_folder_and_its_file_give_the_same_probabilities(self):
        """The order of rows differs for some families, and with it that of summation: nothing else may."""
        for folder in folders():
            self.compare(folder)

    def test_rows_that_rope_does_not_turn_stay_where_they_are(self):
        """A share of each head turns: only its rows become pairs."""
        folder = os.path.join(self.home, "partial")
        shutil.copytree(next(f for f in folders() if os.path.basename(f).startswith("llama")), folder)
        path = os.path.join(folder, "config.json")
        with open(path) as file:
            config = json.load(file)
        config["partial_rotary_factor"] = 0.5
        with open(path, "w") as file:
            json.dump(config, file)
        self.compare(folder)

    def test_a_merged_adapter_is_the_adapter_applied(self):
        folder = support.write_family("llama-lora", self.home)
        adapter, plain, out = os.path.join(folder, "adapter"), *(os.path.join(self.home, f"{n}.gguf") for n in ("plain", "out"))
        text = os.path.join(self.home, "text")
        with open(text, "w", encoding="utf-8") as file:
            file.write("rain in the inn " * 60)

        def logprobs(model, *more):
            return [place["top"] for place in self.succeed("run", model, "the inn", "--raw", "-n", "6", "--temp", "0", "--logprobs",
                                                           "20", "--json", *more).json["logprobs"]]  # fmt: skip

        self.succeed("convert", folder, plain)
        applied = logprobs(folder, "--lora", f"{adapter}=0.8")
        for source in (folder, plain):  # rows of Q and K in either order
            self.succeed("convert", source, out, "--merge", f"{adapter}=0.5", "--merge", f"{adapter}=0.3")
            for one, other in zip(applied, logprobs(out)):
                self.assertEqual([a["id"] for a in one], [b["id"] for b in other])
                for a, b in zip(one, other):
                    self.assertAlmostEqual(a["logprob"], b["logprob"], 2)  # the cache rounds to f16
        self.assertNotEqual(applied, logprobs(plain))
        self.succeed("quantize", plain, out, "--type", "Q8_0", "--merge", adapter)
        self.succeed("run", out, "the inn", "--raw", "-n", "2")
        result = self.run_mlxr("convert", plain, os.path.join(self.home, "none.gguf"), "--merge", folder)
        self.assertNotEqual(result.code, 0)
        self.assertFalse(os.path.exists(os.path.join(self.home, "none.gguf")))

    def test_a_type_may_be_given_at_once(self):
        both, once = os.path.join(self.home, "both.gguf"), os.path.join(self.home, "once.gguf")
        self.succeed("convert", folders()[0], both)
        self.succeed("quantize", both, both, "--type", "Q4_0")
        self.succeed("convert", folders()[0], once, "--type", "Q4_0")
        with open(both, "rb") as first, open(once, "rb") as second:
            self.assertEqual(first.read(), second.read())


if __name__ == "__main__":
    support.main()
