"""bench/synth: models of random weights."""
import collections
import importlib.machinery
import importlib.util
import math
import os
import subprocess
import sys

import support

SYNTH = os.path.join(support.ROOT, "bench", "synth")
SHAPE = "layers=3,width=512,ffn=768,heads=8,kv_heads=2,vocab=512,ctx=512"


def load():
    loader = importlib.machinery.SourceFileLoader("synth", SYNTH)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("synth", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


synth = load()


class Synth(support.CliTest):
    def write(self, shape, types, name="model", *options):
        path = os.path.join(self.models, name + ".gguf")
        done = subprocess.run([sys.executable, SYNTH, shape, types, path, *options], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=support.TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stdout)
        return path

    def refuse(self, pattern, *arguments):
        out = os.path.join(self.models, "refused.gguf")
        done = subprocess.run([sys.executable, SYNTH, *arguments, out], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stdout, pattern)
        self.assertEqual(os.listdir(self.models), [])

    def types_of(self, path):
        tensors = self.succeed("show", path, "--tensors", "--json").json["tensors"]
        return {tensor["name"]: tensor["type"] for tensor in tensors}

    def test_every_mix_runs_and_its_logits_spread_as_designed(self):
        """With logits of N(0, 4²) that know nothing, −ln p of a token is ln n_vocab + 8 on average, or a little less: 512
        draws seldom reach the tail that the mean of their exponentials comes from."""
        text = os.path.join(support.ROOT, "CONTRIBUTING.md")
        mixes = list(synth.MIXES) + ["pure:Q4_K", "Q4_0,ffn_down=Q8_0,output=F32"]
        for mix in mixes:
            path = self.write(SHAPE, mix)
            found = self.succeed("perplexity", path, "--file", text, "--ctx", "64", "--json").json
            self.assertLess(abs(math.log(found["ppl"]) - math.log(512) - 7), 2.5, mix)

    def test_the_same_arguments_give_the_same_bytes(self):
        def read(*options):
            with open(self.write(SHAPE, "Q4_K_M", "model", *options), "rb") as file:
                return file.read()

        self.assertEqual(read(), read())
        self.assertNotEqual(read(), read("--seed", "2"))

    def test_other_families_and_narrow_rows(self):
        """Rows of 96 are no blocks of 256, rows of 80 no blocks at all."""
        path = self.write("arch=qwen3,layers=2,width=96,ffn=320,heads=4,kv_heads=4,head_dim=20,vocab=400,tied=1",
                          "Q4_K_M")
        types = self.types_of(path)
        self.assertNotIn("output.weight", types)
        self.assertEqual({types[f"blk.0.{part}.weight"] for part in ("attn_q", "ffn_up")}, {"Q5_0"})
        self.assertEqual(types["blk.0.attn_output.weight"], "F16")
        self.assertEqual(types["token_embd.weight"], "Q8_0")
        self.assertEqual(len(self.succeed("run", path, "--raw", "-n", "3", "--temp", "0", "abc", "--json").json["ids"]), 3)

    def test_latent_attention_in_both_forms_of_its_matrices(self):
        """One row of latent numbers a token, whatever the heads."""
        for apart in (0, 1):
            path = self.write(f"arch=deepseek2,layers=2,width=64,ffn=96,heads=4,head_dim=32,rot=8,value_dim=16,kv_rank=24,"
                              f"q_rank={28 * apart},vocab=400,apart={apart}", "F16")
            run = self.succeed("run", path, "--raw", "-n", "3", "--temp", "0", "abc", "--json").json
            self.assertEqual(len(run["ids"]), 3)
            memory = self.succeed("show", path, "--json").json["memory"]
            self.assertEqual(memory["kv_bytes_per_token_f16"], 2 * (24 + 8) * 2)

    def test_experts_are_stacks(self):
        path = self.write("layers=2,width=64,ffn=96,heads=4,vocab=400,experts=6,used=2", "Q8_0")
        self.assertEqual(self.types_of(path)["blk.1.ffn_down_exps.weight"], "Q8_0")
        self.assertEqual(len(self.succeed("run", path, "--raw", "-n", "3", "--temp", "0", "abc", "--json").json["ids"]), 3)

    def test_named_shapes_have_the_types_and_sizes_of_real_files(self):
        """Counts as the loaders of the field print them for the published Q4_K_M files of these models."""
        for shape, counts, n_weights in (
            ("TinyLlama-1.1B", {"F32": 45, "Q4_K": 135, "Q6_K": 21}, 1_100_048_384),
            ("Llama-3.2-1B", {"F32": 34, "Q4_K": 96, "Q6_K": 17}, 1_235_814_432),
            ("Llama-3.2-3B", {"F32": 58, "Q4_K": 168, "Q6_K": 29}, 3_212_749_888),
            ("Llama-3.1-8B", {"F32": 66, "Q4_K": 193, "Q6_K": 33}, 8_030_261_312),
        ):
            tensors = synth.list_tensors(synth.parse_shape(shape)[0], synth.parse_types("Q4_K_M"))
            self.assertEqual(dict(collections.Counter(kind for _, _, kind, _ in tensors)), counts, shape)
            self.assertEqual(sum(math.prod(dims) for _, dims, _, _ in tensors), n_weights, shape)

    def test_what_is_wrong_is_said(self):
        for pattern, shape, types in (
            ("is no shape", "Llama-9", "Q4_0"),
            ("is no property", "layers=1,depth=2", "Q4_0"),
            ("a number is needed", "layers=x", "Q4_0"),
            ("lacks width", "layers=1,ffn=2,heads=1", "Q4_0"),
            ("do not fit", SHAPE + ",kv_heads=3", "Q4_0"),
            ("at least 354", SHAPE + ",vocab=10", "Q4_0"),
            ("qwen3 and deepseek2", SHAPE + ",arch=phi", "Q4_0"),
            ("kv_rank, rot", SHAPE + ",kv_rank=16", "Q4_0"),
            ("kv_rank, rot", SHAPE + ",arch=deepseek2", "Q4_0"),
            ("has experts", SHAPE + ",experts=4,used=5", "Q4_0"),
            ("has experts", SHAPE + ",arch=qwen3,experts=4,used=1", "Q4_0"),
            ("has experts", SHAPE + ",used=1", "Q4_0"),
            ("is no mix", SHAPE, "Q9"),
            ("NAME=TYPE", SHAPE, "Q4_0,Q5_0"),
            ("no tensor is called router", SHAPE, "Q4_0,router=Q8_0"),
            ("not whole blocks", SHAPE + ",ffn=320", "Q4_0,ffn_down=Q4_K"),
        ):
            self.refuse(pattern, shape, types)


if __name__ == "__main__":
    support.main()
