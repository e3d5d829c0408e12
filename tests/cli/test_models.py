"""Finding models by name or path, and showing them."""
import json
import math
import os
import re
import shutil
import struct
import unicodedata

import support

FAMILIES = os.path.join(support.ROOT, "tests", "oracle", "families")


def write_packed(family, part, folder, width=None):
    """The family's model of zeros as a checkpoint of MLX, with 4 bits in the tensors whose names hold `part`. `width`: (old, new) of
    each layer, where rows have to be whole groups."""
    old, new = width or (0, 0)
    tensors, data = {}, 0

    def put(name, dtype, shape, size):
        nonlocal data
        end = data + math.prod(shape) * size
        tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": [data, end]}
        data = end

    with open(os.path.join(FAMILIES, family + ".json"), encoding="utf-8") as f:
        config = json.load(f)
    config["quantization"] = {"group_size": 32, "bits": 4}
    if width:
        config["hidden_size"] = new
    with open(os.path.join(FAMILIES, family + ".tensors"), encoding="utf-8") as f:
        for line in f:
            name, *rest = line.split()
            if name == "seed":
                continue
            shape = [new if width and int(n) == old else int(n) for n in rest[2:]]
            if part in name:
                put(name, "U32", [shape[0], shape[1] // 8], 4)
                for end in (".scales", ".biases"):
                    put(name.removesuffix(".weight") + end, "BF16", [shape[0], shape[1] // 32], 2)
            else:
                put(name, "F32", shape, 4)
    head = json.dumps(tensors).encode()
    head += b" " * (-len(head) % 8)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + bytes(data))


class Names(support.CliTest):
    def show(self, model, **options):
        return self.succeed("show", model, "--json", **options).json["path"]

    def test_a_name_is_found_ignoring_case_and_ending(self):
        self.add_model("llama", "Tiny-Llama.F32")
        path = os.path.join(self.models, "Tiny-Llama.F32.gguf")
        for name in ("Tiny-Llama.F32", "tiny-llama.f32", "TINY-LLAMA.F32", "Tiny-Llama.F32.gguf"):
            self.assertEqual(self.show(name), path)

    def test_a_path_is_a_path(self):
        self.add_model("llama", "a")
        path = os.path.join(self.models, "a.gguf")
        self.assertEqual(self.show(path), path)
        self.fail_with(1, "nowhere", "show", "/nowhere/model.gguf")
        self.fail_with(1, self.models, "show", self.models + "/")

    def test_an_exact_name_wins_over_others_that_differ_in_case(self):
        self.add_model("llama", "model")
        self.add_model("qwen2", "MODEL")
        if len(os.listdir(self.models)) < 2:
            self.skipTest("file names here ignore case")
        self.assertTrue(self.show("MODEL").endswith("MODEL.gguf"))
        self.fail_with(1, "'Model' is the name of several models.*MODEL.gguf.*model.gguf", "show", "Model")

    def test_an_unknown_name_tells_the_directory_and_what_is_near(self):
        self.fail_with(1, f"no model 'x': there are no models in {self.models}; put a .gguf file.*mlxr list --catalogue", "run", "x", "hi")
        self.fail_with(1, f"no model 'smollm2:135m' in {self.models} yet; mlxr pull smollm2:135m gets it", "run", "smollm2:135m", "hi")
        self.fail_with(1, f"no model 'Qwen3' in {self.models} yet; mlxr pull qwen3:0.6b gets one", "run", "Qwen3", "hi")
        self.add_model("llama", "SmolLM2-135M")
        self.add_model("llama", "gemma-3-270m")
        self.fail_with(1, "there is gemma-3-270m, SmolLM2-135M; mlxr pull qwen3:0.6b gets one", "run", "qwen3", "hi")
        self.fail_with(1, "there is gemma-3-270m, SmolLM2-135M; mlxr pull phi4 asks Ollama's registry for it", "run", "phi4", "hi")
        self.fail_with(1, "there is gemma-3-270m, SmolLM2-135M; mlxr pull a ", "run", "a", "hi")  # a letter is near to nothing
        self.fail_with(1, "mlxr pull a/b:c asks Ollama's registry for it\n", "run", "a/b:c", "hi")
        # What cannot be pulled by that name, is of another host, or a file's name, is not said to be there.
        for name in ("a b", "hf.co/a/b", "huggingface.co/a/b", "hf:a/b", "example.com/a/b", "qq.gguf", "q" * 101):
            self.fail_with(1, "there is gemma-3-270m, SmolLM2-135M\n", "run", name, "hi")
        self.fail_with(1, f"no model 'smollm2' in {self.models}; did you mean SmolLM2-135M\\?", "run", "smollm2", "hi")
        self.fail_with(1, "did you mean gemma-3-270m", "bench", "gema-3-270m")
        self.fail_with(1, "there is gemma-3-270m, SmolLM2-135M", "show", "zzz")

    def test_names_from_outside_stay_in_their_line_and_column(self):
        # A file can have any name, a model's metadata say anything: neither steers a terminal, or makes lines of its own.
        self.add_model("llama", "plain")
        os.rename(os.path.join(self.models, "plain.gguf"), os.path.join(self.models, "a\x1b]0;x\x07\nb\u009b2J\u202ec.gguf"))
        self.add_model("llama", "ünï còde")
        listed = self.succeed("list").out.decode().splitlines()
        self.assertEqual(len(listed), 3, listed)
        self.assertEqual(listed[1].split("  ")[0], "a?]0;x??b?2J?c")
        self.assertEqual(len({line.index(text) for line, text in zip(listed, ("FROM", "directory", "directory"))}), 1, listed)
        hostile = os.path.join(self.models, "hostile.gguf")
        self.add_model("llama", "hostile")
        with open(hostile, "rb") as file:
            data = file.read()
        at = data.index(b"general.name") + len(b"general.name") + 4
        length = struct.unpack_from("<Q", data, at)[0]
        with open(hostile, "wb") as file:
            file.write(data[:at + 8] + (b"\x1b[\n" * length)[:length] + data[at + 8 + length:])
        title, path, *_ = self.succeed("show", hostile).out.splitlines()
        self.assertEqual(title, (b"?[?" * length)[:length])
        self.assertTrue(path.startswith(b"  path "), path)

    def test_a_name_and_what_it_is_stand_under_one_title(self):
        self.add_model("llama", "known")
        lines = self.succeed("show", "known").out.decode().splitlines()
        self.assertRegex(lines[0], r"^\S")
        self.assertEqual(lines[1], "  name         known (directory)")
        self.assertRegex(lines[2], r"^  path ")

    def test_what_is_not_the_store_s_is_not_removed_and_told_so_whatever_its_name(self):
        self.add_model("llama", "ünï còde")
        self.fail_with(1, f"'ünï còde' is not in the store but at {self.models}/ünï còde.gguf .directory.; remove it there",
                       "rm", "ünï còde")
        self.add_model("llama", "plain")
        self.fail_with(1, f"'plain' is not in the store but at {self.models}/plain.gguf", "rm", "plain")
        self.fail_with(1, "no model 'neither' in the store\n", "rm", "neither")
        self.assertTrue(os.path.exists(os.path.join(self.models, "plain.gguf")))

    def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(self):
        name = self.add_model("llama")
        other = os.path.join(self.home, "other.gguf")
        shutil.copy(os.path.join(support.tiny_models(), "qwen2.gguf"), other)
        for stored in (False, True):
            if stored:
                os.chmod(self.models, 0o755)
                self.succeed("cp", name, "stored")
            options = self.close_models()
            for verb in (["rm", "stored"], ["cp", name, "else"], ["pull", other]):
                with self.subTest(verb=verb, stored=stored):
                    self.fail_with(1, f"the models in {re.escape(self.models)} cannot be changed: cannot (open|make) {re.escape(self.models)}"
                                   "/.mlxr.*: Permission denied; let this user write there, or name another folder for models with MLXR_MODELS",
                                   *verb, **options)  # fmt: skip
            self.succeed("list", **options)

    def test_a_name_that_is_not_there_ends_every_verb_with_1(self):
        for with_one_there in (False, True):
            for verb in (["rm", "nothing"], ["cp", "nothing", "else"], ["cp", "nothing", "else", "--alias"], ["show", "nothing"],
                         ["create", "else", "--from", "nothing"], ["run", "nothing", "hi"]):  # fmt: skip
                self.fail_with(1, "no model 'nothing'", *verb)
            self.add_model("llama", "known")

    def test_cp_says_of_a_path_that_it_is_one_and_what_takes_it(self):
        self.add_model("llama", "known")
        path = os.path.join(self.models, "known.gguf")
        shutil.copy(path, os.path.join(self.home, "beside.gguf"))
        for given in (path, "./beside.gguf", "beside.gguf"):
            for alias in ([], ["--alias"]):
                self.fail_with(2, f"{given} is a path, and cp takes the name of a model: mlxr create NAME --from PATH", "cp",
                               given, "mine", *alias, cwd=self.home)  # fmt: skip
        self.succeed("create", "mine", "--from", path)
        self.succeed("cp", "known", "other", cwd=self.home)

    def test_columns_stand_under_each_other_whatever_the_width_of_characters(self):
        names = ("plain", "模型七", "ﾊﾝｶｸ", "e\u0301te\u0301", "rocket🚀")
        for name in names:
            self.add_model("llama", name)
        lines = self.succeed("list", env=self.environment(LC_ALL="C")).out.decode().splitlines()

        def columns(text):
            return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)

        at = {columns(line[: line.index(word)]) for line, word in zip(lines, ["FROM"] + ["directory"] * len(names))}
        self.assertEqual((len(lines), len(at)), (len(names) + 1, 1), lines)

    def test_the_directory_follows_the_environment(self):
        data = os.path.join(self.home, "data")
        where = {
            os.path.join(self.home, ".local/share/mlxr/models"): dict(MLXR_MODELS=None),
            os.path.join(data, "mlxr/models"): dict(MLXR_MODELS=None, XDG_DATA_HOME=data),
            os.path.join(self.home, "other"): dict(MLXR_MODELS=os.path.join(self.home, "other"), XDG_DATA_HOME=data),
        }
        for folder, changes in where.items():
            os.makedirs(folder)
            shutil.copy(os.path.join(support.tiny_models(), "llama.gguf"), os.path.join(folder, "here.gguf"))
            self.assertEqual(self.show("here", env=self.environment(**changes)), os.path.join(folder, "here.gguf"))
        relative = self.environment(MLXR_MODELS=None, XDG_DATA_HOME="data")  # to be ignored, says the specification
        self.assertIn(self.home + "/.local", self.show("here", env=relative))
        self.fail_with(1, "no model directory", "show", "here", env=self.environment(MLXR_MODELS=None, HOME=None))

    def test_split_models_have_one_name_and_folders_with_a_config_are_models(self):
        for part in (1, 2):
            open(os.path.join(self.models, f"big-{part:05}-of-00002.gguf"), "w").close()
        shutil.copytree(os.path.join(support.tiny_models(), "llama"), os.path.join(self.models, "folder"))
        os.mkdir(os.path.join(self.models, "no-model"))
        open(os.path.join(self.models, ".hidden.gguf"), "w").close()
        self.assertEqual(self.succeed("models", "--json").json, ["big", "folder"])
        self.assertEqual(self.succeed("models").text, "big\nfolder\n")
        self.assertEqual(self.show("folder"), os.path.join(self.models, "folder"))

    def test_names_with_odd_characters_are_safe(self):
        self.fail_with(1, "no model '%s%n%s'", "show", "%s%n%s")
        self.fail_with(1, "is empty", "show", "")
        self.fail_with(1, "too long", "show", "x" * 5000)
        self.fail_with(1, "longer than", "show", "x/" * 5000)


class Made(support.CliTest):
    """Models made of models: what of a Modelfile `run` uses."""

    def create(self, name, text):
        path = os.path.join(self.home, "Modelfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.succeed("create", name, "--file", path)

    def test_a_template_is_used_in_the_place_of_the_files(self):
        self.add_model("qwen2", "base")
        self.create("jinja", "FROM base\nSYSTEM be brief\nPARAMETER temperature 0\nPARAMETER num_predict 8\n"
                             'TEMPLATE """<{% for m in messages %}{{ m.content }}|{% endfor %}>"""\n')  # fmt: skip
        self.create("go", 'FROM base\nSYSTEM be brief\nPARAMETER temperature 0\nPARAMETER num_predict 8\n'
                          'TEMPLATE """<{{ .System }}|{{ .Prompt }}|>"""\n')  # fmt: skip
        self.create("turns", "FROM base\nSYSTEM be brief\nPARAMETER temperature 0\nPARAMETER num_predict 8\n"
                             "MESSAGE user hi\nMESSAGE assistant yes\n"
                             'TEMPLATE """<{% for m in messages %}{{ m.content }}|{% endfor %}>"""\n')  # fmt: skip
        more = self.succeed("run", "base", "--raw", "--temp", "0", "-n", "8", "<be brief|hi|yes|hello|>").out
        self.assertEqual(self.succeed("run", "turns", "hello").out, more)
        raw = self.succeed("run", "base", "--raw", "--temp", "0", "-n", "8", "<be brief|hello|>").out
        for name in ("jinja", "go"):
            answer = self.succeed("run", name, "hello")
            self.assertEqual(answer.out, raw)
            self.assertNotIn("template", answer.err)
        self.create("bad", 'FROM base\nTEMPLATE """{% for %}"""\n')
        self.fail_with(1, "the template given for this model", "run", "bad", "hello")

    def test_a_template_makes_a_chat_of_a_model_without_one(self):
        self.add_model("qwen3", "base")
        self.assertIn("no chat template", self.succeed("run", "base", "-n", "2", "x").err)
        self.create("made", 'FROM base\nTEMPLATE """{{ .Prompt }}"""\n')
        self.assertNotIn("no chat template", self.succeed("run", "made", "-n", "2", "x").err)

    def test_its_context_is_the_modelfiles_unless_the_command_line_says_another(self):
        self.add_model("qwen2", "base")
        self.create("small", "FROM base\nPARAMETER num_ctx 24\n")
        self.assertIn("24", self.run_mlxr("run", "small", "word " * 40).err)
        self.assertNotEqual(self.run_mlxr("run", "small", "word " * 40).code, 0)
        self.succeed("run", "small", "--ctx", "100", "-n", "2", "word " * 20)


class Show(support.CliTest):
    def test_it_describes_a_model(self):
        self.add_model("gemma3")
        text = self.succeed("show", "gemma3").text
        for word in ("gemma3", "parameters", "F32", "KV cache", "memory", "runs here    yes", "general.architecture"):
            self.assertIn(word, text)
        self.assertNotIn("blk.0.attn_q.weight", text)
        self.assertIn("blk.0.attn_q.weight", self.succeed("show", "gemma3", "--tensors").text)

    def test_json_has_metadata_tensors_and_memory(self):
        self.add_model("qwen2")
        found = self.succeed("show", "qwen2", "--json").json
        self.assertEqual(found["metadata"]["general.architecture"], "qwen2")
        self.assertTrue(found["supported"])
        self.assertEqual(sum(t["bytes"] for t in found["tensors"]), found["tensor_bytes"])
        self.assertGreater(found["memory"]["weight_bytes"], 0)
        self.assertEqual(found["file_bytes"], os.path.getsize(os.path.join(self.models, "qwen2.gguf")))

    def test_the_need_of_each_kv_type_is_told(self):
        self.add_model("gemma3")
        self.add_model("llama")
        memory = self.succeed("show", "gemma3", "--json").json["memory"]
        of_32 = dict(f32=128, f16=64, bf16=64, i16=68, q8_0=34, q4_0=18)
        self.assertEqual([t["type"] for t in memory["kv_types"]], list(of_32))
        for t in memory["kv_types"]:  # one layer of eight sees everything, seven a window of 16; one head of 32
            self.assertEqual(t["kv_bytes_per_token"], of_32[t["type"]] * memory["kv_bytes_per_token_f16"] // 64)
            self.assertEqual(t["kv_bytes_full_context"] * 64, of_32[t["type"]] * memory["kv_bytes_full_context_f16"])
        self.assertRegex(self.succeed("show", "gemma3").text, r"q4_0 +36 bytes per token, ")
        types = {t["type"]: t for t in self.succeed("show", "llama", "--json").json["memory"]["kv_types"]}
        self.assertIn("blocks of 32", types["q8_0"]["why_not"])
        self.assertNotIn("why_not", types["bf16"])
        self.assertRegex(self.succeed("show", "llama").text, r"q8_0 +no: KV type q8_0 stores heads in blocks of 32")

    def test_the_memory_told_is_of_the_type_that_auto_takes(self):
        self.add_model("gemma3")
        self.assertEqual(self.succeed("show", "gemma3", "--json").json["memory"]["kv_type_auto"], "f16")
        self.assertRegex(self.succeed("show", "gemma3").text, r"KV cache +128 bytes per token, .* for a full context \(f16\)")
        name = self.add_words_model()  # 2 layers, keys and values of a head of 128 and a step each
        text = self.succeed("show", name).text
        self.assertRegex(text, r"KV cache +1.02 KiB per token, 520 KiB for a full context \(i16\)\n")
        self.assertRegex(text, r"\n +f16 +1.00 KiB per token, 512 KiB for a full context\n")
        self.assertNotRegex(text, r"\n +i16 ")
        run = self.succeed("run", name, "--raw", "-n", "1", "-v", "a")
        self.assertIn("i16", run.err)

    def test_a_truncated_file_gives_one_line(self):
        name = self.add_model("llama")
        path = os.path.join(self.models, name + ".gguf")
        size = os.path.getsize(path)
        for keep in (0, 3, 100, 5000, size - 1):
            with open(os.path.join(support.tiny_models(), "llama.gguf"), "rb") as whole:
                data = whole.read(keep)
            with open(path, "wb") as cut:
                cut.write(data)
            self.fail_with(1, "llama.gguf", "show", name)
            self.fail_with(1, "llama.gguf", "run", name, "hi")


class Packed(support.CliTest):
    def test_what_is_made_of_packed_tensors_is_shown_though_they_are_not_decoded(self):
        """Parts of fused matrices, and a vector of one: to show a model its numbers are not read."""
        for family, part, width in (("phi3", "qkv_proj", None), ("deepseek2-lite", "kv_a_proj", None),
                                    ("bert", "token_type", (80, 160))):  # fmt: skip
            folder = os.path.join(self.models, family + "-packed")
            write_packed(family, part, folder, width)
            self.assertEqual(self.succeed("show", folder, "--json").json["path"], folder)


if __name__ == "__main__":
    support.main()
