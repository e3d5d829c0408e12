"""quantize, convert: model files out of model files."""
import json
import math
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

import support


def cpu_seconds(pid):
    """What a process of Linux has computed so far, which does not depend on what else runs."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


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

    def test_what_is_read_is_never_written_over(self):
        model = self.out("model.gguf")
        shutil.copy(os.path.join(self.models, self.add_model("llama") + ".gguf"), model)
        with open(model, "rb") as file:
            before = file.read()
        os.symlink(model, self.out("symbolic.gguf"))
        os.link(model, self.out("hard.gguf"))
        for out in (model, self.out("symbolic.gguf"), self.out("hard.gguf")):
            for verb, more in (("quantize", ["--type", "Q8_0"]), ("convert", [])):
                self.fail_with(2, "this is what is read, and would be lost; give another name", verb, model, out, *more)
            with open(model, "rb") as file:
                self.assertEqual(file.read(), before)
        self.succeed("quantize", model, self.out(), "--type", "Q8_0")
        self.succeed("quantize", model, self.out(), "--type", "Q4_0")  # another file may be replaced

    def keeps(self, paths, *arguments, **options):
        """The command is refused, and the files are what they were."""
        def contents():
            found = []
            for path in paths:
                with open(path, "rb") as file:
                    found.append(file.read())
            return found

        before = contents()
        self.fail_with(2, "this is what is read, and would be lost; give another name", *arguments, **options)
        self.assertEqual(contents(), before)

    def test_no_part_takes_the_place_of_a_part_that_is_read(self):
        model = self.add_model("llama")
        n = self.succeed("convert", model, self.out(), "--split-max-size", "40K", "--json").json["files"]
        self.assertGreater(n, 2)
        parts = [self.out(f"out-{i + 1:05}-of-{n:05}.gguf") for i in range(n)]
        os.mkdir(self.out("links"))
        os.symlink(parts[1], self.out(f"links/x-00001-of-{n:05}.gguf"))
        for out in (self.out(), self.out("out"), self.out("links/x.gguf")):
            self.keeps(parts, "convert", parts[0], out, "--split-max-size", "40K")
        for out in parts:
            self.keeps(parts, "quantize", parts[0], out, "--type", "Q8_0")
        self.keeps(parts, "convert", os.path.basename(parts[0]), "out.gguf", "--split-max-size", "40K", cwd=self.home)
        text = self.out("text")
        with open(text, "w") as file:
            file.write("the quick brown fox " * 20)
        for verb in (["imatrix", parts[0], parts[1]], ["perplexity", parts[0], "--save-logits", parts[1]]):
            self.keeps(parts, *verb, "--file", text, "--ctx", "32")
        for option in ("--profile", "--trace"):
            self.keeps(parts, "bench", parts[0], "-p", "4", "-n", "0", "-r", "1", option, parts[1])
        self.succeed("convert", parts[0], self.out())  # no part has that name
        self.succeed("convert", parts[0], self.out("other.gguf"), "--split-max-size", "40K")
        self.succeed("convert", parts[0], self.out("other.gguf"), "--split-max-size", "40K")

    def test_parts_answer_as_the_whole_does(self):
        model, options = self.add_model("llama"), ["--raw", "-n", "12", "--temp", "0"]
        self.succeed("quantize", model, self.out(), "--type", "Q8_0")
        for verb, source, more in (("quantize", model, ["--type", "Q8_0"]), ("convert", self.out(), [])):
            out = self.out(f"{verb}.gguf")
            report = self.succeed(verb, source, out, *more, "--split-max-size", "40K", "--json").json
            self.assertGreater(report["files"], 2)
            parts = [self.out(f"{verb}-{i + 1:05}-of-{report['files']:05}.gguf") for i in range(report["files"])]
            self.assertEqual(report["bytes_out"], sum(map(os.path.getsize, parts)))
            self.assertFalse(os.path.exists(out))
            self.assertEqual(self.succeed("run", parts[0], "zqxk", *options).out,
                             self.succeed("run", self.out(), "zqxk", *options).out)
            self.fail_with(1, "open the first", "run", parts[1], "zqxk", *options)
        result = self.succeed("quantize", model, self.out(), "--type", "Q8_0", "--split-max-size", "40K")
        self.assertIn("00001-of-", result.err)
        self.fail_with(2, "--split-max-size", "quantize", model, self.out(), "--type", "Q8_0", "--split-max-size", "much")

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

    def test_more_threads_than_cores_are_told_as_by_other_verbs(self):
        model, n_cores = self.add_model("llama"), os.cpu_count()
        told = "threads, and this process may use"
        self.assertIn(told, self.succeed("quantize", model, self.out(), "--type", "Q8_0", "--threads", str(n_cores + 1)).err)
        self.assertNotIn(told, self.succeed("quantize", model, self.out(), "--type", "Q8_0", "--threads", "1").err)

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

    def test_a_failure_that_comes_with_ctrl_c_is_told(self):
        model = os.path.join(support.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
        if not os.path.exists(model):
            self.skipTest("make models")
        for n_bytes, code, words in ((1, 1, "File too large"), (None, 130, "stopped; nothing was written")):
            process = subprocess.Popen([support.MLXR, "quantize", model, self.out(), "--type", "Q2_K", "--threads", "1"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, restore_signals=False)  # fmt: skip
            while cpu_seconds(process.pid) < 0.5:  # it computes a piece, which it writes before it looks whether it is to stop
                self.assertIsNone(process.poll())
                time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
            self.assertIsNone(process.poll())
            if n_bytes:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGCONT)
            err = process.communicate()[1].decode()
            self.assertIn(words, err)
            self.assertEqual(process.returncode, code)
            self.assertFalse(os.path.exists(self.out()))


class Imatrix(support.CliTest):
    def test_what_was_measured_weighs_the_errors(self):
        model, text = self.add_model("llama"), os.path.join(self.home, "text")
        matrix, out = os.path.join(self.home, "im.gguf"), os.path.join(self.home, "out.gguf")
        with open(text, "w") as file:
            file.write("the quick brown fox zqxk jumps over it 123 times. " * 20)
        report = self.succeed("imatrix", model, matrix, "--file", text, "--ctx", "32", "--windows", "3", "--json").json
        self.assertEqual((report["windows"], report["tokens"], report["tensors"]), (3, 96, 28))
        weighted = self.succeed("quantize", model, out, "--type", "Q4_0", "--imatrix", matrix, "--json").json
        self.assertEqual(weighted["weighted"], 28)
        self.fail_with(2, "imatrix needs --file FILE", "imatrix", model, matrix)
        self.fail_with(1, "whole windows of 5000", "imatrix", model, out + "x", "--file", text, "--ctx", "5000")
        self.assertFalse(os.path.exists(out + "x"))
        for taken in (text, os.path.join(self.models, model + ".gguf")):
            self.fail_with(2, "this is what is read, and would be lost", "imatrix", model, taken, "--file", text, "--ctx", "32")
            self.fail_with(2, "this is what is read", "perplexity", model, "--save-logits", taken, "--file", text, "--ctx", "32")
        with open(text, "rb") as file:
            self.fail_with(2, "this is what is read", "imatrix", model, text, "--file", "-", "--ctx", "32", stdin=file)
        self.fail_with(2, "would change nothing", "quantize", model, out, "--type", "F16", "--imatrix", matrix)

    def test_sigterm_ends_it_with_143_and_no_file(self):
        name, text, out = self.add_model("llama"), os.path.join(self.home, "long.txt"), os.path.join(self.home, "out.gguf")
        with open(text, "w") as file:
            file.write("The inn was old and warm. " * 100_000)
        t = support.Terminal([support.MLXR, "imatrix", name, out, "--file", text, "--threads", "1"], self.environment())
        self.addCleanup(t.close)
        t.expect("imatrix [")
        os.kill(t.pid, signal.SIGTERM)
        self.assertEqual(t.wait(), 143)
        self.assertIn("stopped; nothing was written", t.raw.decode())
        self.assertFalse(os.path.exists(out))

    def test_ctrl_c_ends_it_with_130_a_line_of_its_own_and_no_file(self):
        name, text, out = self.add_model("llama"), os.path.join(self.home, "long.txt"), os.path.join(self.home, "out.gguf")
        with open(text, "w") as file:
            file.write("The inn was old and warm. " * 100_000)
        t = support.Terminal([support.MLXR, "imatrix", name, out, "--file", text, "--threads", "1"], self.environment())
        self.addCleanup(t.close)
        t.expect("imatrix [")
        t.type("\x03")
        self.assertEqual(t.wait(), 130)
        self.assertIn("\r\x1b[Kmlxr: stopped; nothing was written", t.raw.decode())
        self.assertFalse(os.path.exists(out))


class Memory(support.CliTest):
    """Pages of a file that is mapped are resident, too, until they are given back."""

    RESIDENT_MAX = 160 << 20
    WIDTH = 1024

    def write_folder(self, tensors, **config):
        """gpt-oss's, with one layer of these tensors, all zeros: the file has holes, which are read as any other bytes."""
        folder = support.write_family("gpt-oss", self.home)
        with open(os.path.join(folder, "config.json"), "r+", encoding="utf-8") as file:
            known = json.load(file)
            known.update(hidden_size=self.WIDTH, intermediate_size=self.WIDTH, num_hidden_layers=1, layer_types=["full_attention"],
                         tie_word_embeddings=True, **config)  # fmt: skip
            file.seek(0)
            file.truncate()
            json.dump(known, file)
        header, at = {}, 0
        for name, kind, size, dims in [("model.embed_tokens.weight", "BF16", 2, [320, self.WIDTH]), *tensors]:
            n_bytes = size * math.prod(dims)
            header[name] = {"dtype": kind, "shape": dims, "data_offsets": [at, at + n_bytes]}
            at += n_bytes
        text = json.dumps(header).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
        return folder, at

    def check(self, tensors, *options, **config):
        folder, n_bytes = self.write_folder(tensors, **config)
        self.assertGreater(n_bytes, 2.3 * self.RESIDENT_MAX)
        out = os.path.join(self.home, "out.gguf")
        process = subprocess.Popen([support.MLXR, "convert", folder, out, *options], env=self.environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
        with process.stderr:
            said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, said)
        resident = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.assertLess(resident, self.RESIDENT_MAX, f"{n_bytes} bytes of tensors")

    def test_a_model_larger_than_the_limit_is_converted_within_it(self):
        matrices = [(f"model.layers.0.self_attn.{name}_proj.weight", "BF16", 2, [65536, self.WIDTH]) for name in "vkq"]
        self.check(matrices, "--type", "Q4_K_M")

    def test_a_stack_that_is_turned_is_never_in_memory_as_a_whole(self):
        stacks = [("gate_up_proj", [64, self.WIDTH, 2 * self.WIDTH]), ("down_proj", [64, self.WIDTH, self.WIDTH])]
        self.check([(f"model.layers.0.mlp.experts.{name}", "BF16", 2, dims) for name, dims in stacks], "--type", "Q4_0",
                   num_local_experts=64)  # fmt: skip

    def test_a_stack_that_is_quantised_is_never_in_memory_as_a_whole(self):
        n, rows, blocks = 512, 2 * self.WIDTH, self.WIDTH // 32
        stacks = [("gate_up_proj_blocks", [n, rows, blocks, 16]), ("gate_up_proj_scales", [n, rows, blocks])]
        stacks += [("down_proj_blocks", [n, self.WIDTH, blocks, 16]), ("down_proj_scales", [n, self.WIDTH, blocks])]
        self.check([(f"model.layers.0.mlp.experts.{name}", "U8", 1, dims) for name, dims in stacks], num_local_experts=n,
                   quantization_config={"quant_method": "mxfp4"})  # fmt: skip


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
        for taken in (os.path.join(adapter, "adapter_model.safetensors"), os.path.join(folder, "config.json")):
            self.fail_with(2, "this is what is read, and would be lost", "convert", folder, taken, "--merge", f"{adapter}=0.5")
        inside = os.path.join(folder, "made.gguf")
        self.succeed("convert", folder, inside)
        self.succeed("convert", folder, inside)  # what was made of a folder lies there, but is not read
        results, profile = os.path.join(folder, "results.jsonl"), os.path.join(folder, "profile.json")
        for _ in range(2):  # nor is what a run before left there
            self.succeed("batch", folder, "-", "-o", results, stdin=b'{"id": 1, "prompt": "inn", "max_tokens": 1}\n')
            self.succeed("bench", folder, "-p", "4", "-n", "1", "-r", "1", "--profile", profile)
        self.succeed("run", out, "the inn", "--raw", "-n", "2")
        result = self.run_mlxr("convert", plain, os.path.join(self.home, "none.gguf"), "--merge", folder)
        self.assertNotEqual(result.code, 0)
        self.assertFalse(os.path.exists(os.path.join(self.home, "none.gguf")))

    def test_a_type_may_be_given_at_once(self):
        first, both, once = (os.path.join(self.home, f"{name}.gguf") for name in ("first", "both", "once"))
        self.succeed("convert", folders()[0], first)
        self.succeed("quantize", first, both, "--type", "Q4_0")
        self.succeed("convert", folders()[0], once, "--type", "Q4_0")
        with open(both, "rb") as first, open(once, "rb") as second:
            self.assertEqual(first.read(), second.read())


def read_safetensors(path):
    """name → (dtype, shape, bytes)"""
    with open(path, "rb") as file:
        n, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(n)), file.read()
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def floats(content):
    return struct.unpack("<%df" % (len(content) // 4), content)


def half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def as_gptq(stem, shape, content):
    """Pieces of a weight in groups of 32 around 8, and its weights as float32."""
    rows, columns = shape
    values, exact = floats(content), [0.0] * (rows * columns)
    words, scales = [0] * (columns // 8 * rows), []
    for first in range(0, columns, 32):
        for row in range(rows):
            part = values[row * columns + first:row * columns + first + 32]
            scales.append(half(max(max(map(abs, part)) / 7, 1e-4)))
            for k, x in enumerate(part, first):
                q = min(max(round(x / scales[-1]) + 8, 0), 15)
                words[k // 8 * rows + row] |= q << 4 * (k % 8)
                exact[row * columns + k] = scales[-1] * (q - 8)
    groups = columns // 32
    pieces = {stem + ".qweight": ("I32", [columns // 8, rows], struct.pack("<%dI" % len(words), *words)),
              stem + ".qzeros": ("I32", [groups, rows // 8], b"\x77" * (groups * rows // 2)),
              stem + ".scales": ("F16", [groups, rows], struct.pack("<%de" % len(scales), *scales))}
    return pieces, struct.pack("<%df" % len(exact), *exact)


def as_fp8(stem, shape, content):
    """Floats of 8 bits (E5M2: the upper half of a half) with a scale a row."""
    rows, columns = shape
    values, exact, codes, scales = floats(content), [], bytearray(), []
    for row in range(rows):
        part = values[row * columns:(row + 1) * columns]
        scale, = struct.unpack("<f", struct.pack("<f", max(map(abs, part)) / 1000 or 1.0))
        scales.append(scale)
        for x in part:
            codes.append(struct.pack("<e", x / scale)[1])
            exact.append(struct.unpack("<e", bytes((0, codes[-1])))[0] * scale)
    pieces = {stem + ".weight": ("F8_E5M2", shape, bytes(codes)),
              stem + ".weight_scale": ("F32", [rows, 1], struct.pack("<%df" % rows, *scales))}
    return pieces, struct.pack("<%df" % len(exact), *exact)


class Quantised(support.CliTest):
    """A quantised checkpoint answers as the same weights in float32 do, and so does what it is converted to."""

    def folders(self, name, pack, quant, source=None):
        source = source or next(f for f in folders() if os.path.basename(f).startswith("llama"))
        packed, plain = os.path.join(self.home, name), os.path.join(self.home, name + "-plain")
        shutil.copytree(source, packed)
        shutil.copytree(source, plain)
        tensors, decoded = {}, {}
        for key, (dtype, shape, content) in read_safetensors(os.path.join(source, "model.safetensors")).items():
            pieces = {key: (dtype, shape, content)}
            if key.endswith("_proj.weight") and shape[1] % 32 == 0:
                pieces, content = pack(key[:-len(".weight")], shape, content)
            tensors.update(pieces)
            decoded[key] = (dtype, shape, content)
        self.assertGreater(len(tensors), len(decoded) + 8)
        write_safetensors(os.path.join(packed, "model.safetensors"), tensors)
        write_safetensors(os.path.join(plain, "model.safetensors"), decoded)
        path = os.path.join(packed, "config.json")
        with open(path) as file:
            config = dict(json.load(file), quantization_config=quant)
        with open(path, "w") as file:
            json.dump(config, file)
        return packed, plain

    def compare(self, one, other):
        options = ["--raw", "-n", "12", "--temp", "0", "--logprobs", "20", "--json"]
        found = [self.succeed("run", model, "zqxkvjwp the end", *options).json for model in (one, other)]
        self.assertEqual(found[0]["text"], found[1]["text"])
        for a, b in zip(*[place["logprobs"] for place in found]):
            for x, y in zip(a["top"], b["top"]):
                self.assertAlmostEqual(x["logprob"], y["logprob"], delta=0.004)  # inputs of 16 bits there, floats here

    def test_gptq(self):
        packed, plain = self.folders("gptq", as_gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32})
        self.compare(packed, plain)
        out = os.path.join(self.home, "out.gguf")
        self.assertEqual(self.succeed("convert", packed, out, "--json").json["encoded"], 0)
        types = {t["type"] for t in self.succeed("show", out, "--tensors", "--json").json["tensors"]}
        self.assertIn("Q4_0", types)
        self.compare(out, plain)

    def test_experts_in_gptq(self):
        quant = {"quant_method": "gptq", "bits": 4, "group_size": 32}
        packed, plain = self.folders("moe", as_gptq, quant, support.write_family("qwen3moe", self.home))
        self.compare(packed, plain)
        out = os.path.join(self.home, "out.gguf")
        self.assertEqual(self.succeed("convert", packed, out, "--json").json["encoded"], 0)
        tensors = {t["name"]: t for t in self.succeed("show", out, "--tensors", "--json").json["tensors"]}
        for name, kind, shape in (("gate", "Q4_0", [64, 48, 7]), ("up", "Q4_0", [64, 48, 7]), ("down", "F32", [48, 64, 7])):
            found = tensors[f"blk.0.ffn_{name}_exps.weight"]
            self.assertEqual((found["type"], found["shape"]), (kind, shape))
        self.compare(out, plain)

    def test_fp8(self):
        quant = {"quant_method": "compressed-tensors", "format": "float-quantized"}
        packed, plain = self.folders("fp8", as_fp8, quant)
        self.compare(packed, plain)
        out = os.path.join(self.home, "out.gguf")
        self.succeed("convert", packed, out, "--type", "F32")
        self.compare(out, plain)
        result = self.succeed("convert", packed, out)
        self.assertIn("tensors have a type that GGUF has not: F16 was written", result.err)


if __name__ == "__main__":
    support.main()
