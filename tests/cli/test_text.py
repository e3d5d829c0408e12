"""tokenize and detokenize."""
import hashlib
import json
import os
import shutil
import time

import support

TEXT = "Hello there, wörld 😀\n\ttwo\x00lines"


class Embed(support.CliTest):
    def setUp(self):
        super().setUp()
        self.encoder = support.write_family("bert", self.models)

    def test_each_line_becomes_a_vector_of_length_one(self):
        found = self.succeed("embed", self.encoder, "--json", stdin=b"the inn\n\nrain in the inn\nthe inn\n").json
        self.assertEqual((len(found["embeddings"]), found["n_dims"]), (3, 80))
        for vector in found["embeddings"]:
            self.assertAlmostEqual(sum(x * x for x in vector), 1, places=5)
        self.assertEqual(found["embeddings"][0], found["embeddings"][2])
        self.assertNotEqual(found["embeddings"][0], found["embeddings"][1])
        one = self.succeed("embed", self.encoder, "the inn").text.split()
        for a, b in zip(one, found["embeddings"][0], strict=True):
            self.assertAlmostEqual(float(a), b, places=6)

    def test_a_decoder_gives_the_mean_and_says_so(self):
        self.add_model("llama")
        result = self.succeed("embed", "llama", "the inn")
        self.assertIn("not made for embeddings", result.err)
        self.assertEqual(len(result.text.split()), 64)

    def test_a_model_that_writes_no_text_says_so_before_anything_is_computed(self):
        path = os.path.join(self.home, "text")
        with open(path, "w", encoding="utf-8") as file:
            file.write("the inn at the corner " * 40)
        lines = os.path.join(self.home, "requests.jsonl")
        with open(lines, "w", encoding="utf-8") as file:
            file.write('{"prompt": "hello"}\n')
        decoder = support.write_family("qwen3-embedding", self.models)
        for model, words in ((self.encoder, "is an encoder, for embeddings or ranking"), (decoder, "is a decoder without an output matrix")):
            for verb in (["run", model, "hello", "--raw"], ["bench", model, "-p", "8", "-n", "2", "-r", "1"], ["perplexity", model, "--file", path],
                         ["batch", model, lines], ["imatrix", model, os.path.join(self.home, "out.gguf"), "--file", path]):  # fmt: skip
                result = self.fail_with(1, "this model writes and predicts no text: it " + words, *verb)
                self.assertNotIn("slice", result.err)

    def test_a_folder_without_a_tokenizer_says_which_files_are_missing(self):
        os.unlink(os.path.join(self.encoder, "tokenizer.json"))
        self.fail_with(1, "no tokenizer.json or tokenizer.model beside the weights", "embed", self.encoder, "hello")
        self.assertIn("  format       safetensors, ", self.succeed("show", self.encoder).text)


class Adapters(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = support.write_family("llama-lora", self.models)
        self.adapter = os.path.join(self.model, "adapter")

    def ask(self, *more):
        return self.succeed("run", self.model, "the inn", "--raw", "--temp", "0", "-n", "12", "--json", *more).json["ids"]

    def test_an_adapter_changes_the_answer_by_its_scale(self):
        plain = self.ask()
        self.assertNotEqual(self.ask("--lora", self.adapter), plain)
        self.assertEqual(self.ask("--lora", f"{self.adapter}=0"), plain)
        self.assertEqual(self.ask("--lora", f"{self.adapter}=0.5", "--lora", f"{self.adapter}/adapter_model.safetensors=0.5"),
                         self.ask("--lora", self.adapter))
        note = self.succeed("run", self.model, "the inn", "--raw", "-n", "1", "-v", "--lora", self.adapter).err
        self.assertIn("adapter of rank 6 for 28 matrices", note)

    def test_the_other_verbs_take_it(self):
        path = os.path.join(self.home, "text")
        with open(path, "w", encoding="utf-8") as file:
            file.write("rain in the inn " * 40)
        found = [self.succeed("perplexity", self.model, "--file", path, "--json", *more).json["ppl"]
                 for more in ((), ("--lora", self.adapter))]
        self.assertNotAlmostEqual(found[0], found[1], places=2)
        self.succeed("bench", self.model, "-p", "16", "-n", "4", "-r", "1", "--json", "--lora", self.adapter)
        self.assertNotEqual(self.succeed("embed", self.model, "the inn").out,
                            self.succeed("embed", self.model, "the inn", "--lora", self.adapter).out)

    def make(self, name, *lines):
        path = os.path.join(self.home, "Modelfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return self.run_mlxr("create", name, "--file", path)

    def answer(self, model, *more):
        return self.succeed("run", model, "the inn", "--raw", "--temp", "0", "-n", "12", "--json", *more).json["ids"]

    def blobs(self):
        folder = os.path.join(self.models, ".mlxr", "blobs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def test_a_model_is_made_with_adapters(self):
        shutil.copytree(self.adapter, os.path.join(self.home, "lora"))
        gguf = support.gguf_adapter(os.path.join(self.home, "lora.gguf"))
        both = self.ask("--lora", self.adapter, "--lora", gguf)
        self.assertEqual(len({tuple(ids) for ids in (self.ask(), self.ask("--lora", self.adapter), both)}), 3)
        self.assertEqual(self.make("one", f"FROM {self.model}", "ADAPTER ./lora").code, 0)  # beside the Modelfile
        self.assertEqual(self.make("both", f"FROM {self.model}", f'ADAPTER "{self.adapter}/adapter_model.safetensors"',
                                   "adapter ./lora.gguf").code, 0)  # fmt: skip
        shutil.rmtree(os.path.join(self.home, "lora"))  # the store has its own
        os.unlink(gguf)
        self.assertEqual(self.answer("one"), self.ask("--lora", self.adapter))
        self.assertEqual(self.answer("both"), both)
        self.assertEqual(self.answer("one", "--lora", f"{self.adapter}=-1"), self.ask())
        self.succeed("cp", "both", "copied")
        self.assertEqual(self.answer("copied"), both)
        shown = self.succeed("show", "both", "--json").json
        digests = [a["digest"] for a in shown["registry"]["adapters"]]
        self.assertEqual([len(d) for d in digests], [71, 71])
        self.assertIn(f"adapter      {digests[1]}", self.succeed("show", "both").text)
        text = self.succeed("show", "both", "--modelfile").text
        self.assertEqual(text.count("\nADAPTER "), 2)
        self.assertEqual(self.make("again", *text.splitlines()).code, 0)
        self.assertEqual(self.answer("again"), both)
        self.assertEqual(len(self.blobs()), 2)  # the same bytes are kept once
        for name in ("one", "both", "copied"):
            self.succeed("rm", name)
        self.assertEqual(self.answer("again"), both)
        self.succeed("rm", "again")
        self.assertEqual(self.blobs(), [])

    def test_folders_of_a_check_that_was_broken_off_go_after_a_day(self):
        self.assertEqual(self.make("one", f"FROM {self.model}").code, 0)
        old, young = (os.path.join(self.models, ".mlxr", "sets", f"try-{name}") for name in ("aaaaaa", "bbbbbb"))
        for folder in (old, young):
            os.mkdir(folder)
            os.symlink("../../blobs/sha256-0", os.path.join(folder, "model.gguf"))
        os.utime(old, (time.time() - 90000,) * 2)
        self.succeed("rm", "one")
        self.assertEqual((os.path.exists(old), os.path.exists(young)), (False, True))

    def test_adapters_of_a_base_come_first_and_stay(self):
        gguf = support.gguf_adapter(os.path.join(self.home, "lora.gguf"))
        self.assertEqual(self.make("one", f"FROM {self.model}", f"ADAPTER {self.adapter}").code, 0)
        self.assertEqual(self.make("two", "FROM one", f"ADAPTER {gguf}", "SYSTEM hi").code, 0)
        self.assertEqual(self.answer("two"), self.ask("--lora", self.adapter, "--lora", gguf))
        self.succeed("rm", "one")
        self.assertEqual(self.answer("two"), self.ask("--lora", self.adapter, "--lora", gguf))

    def test_an_adapter_may_be_links_as_a_hubs_cache_has_them(self):
        """snapshots/<commit>/ of a cache has links to blobs/, whose names say nothing."""
        blobs, snapshot = os.path.join(self.home, "blobs"), os.path.join(self.home, "snapshots", "1")
        os.makedirs(blobs)
        os.makedirs(snapshot)
        for i, name in enumerate(("adapter_config.json", "adapter_model.safetensors")):
            shutil.copy(os.path.join(self.adapter, name), os.path.join(blobs, str(i)))
            os.symlink(f"../../blobs/{i}", os.path.join(snapshot, name))
        gguf = support.gguf_adapter(os.path.join(self.home, "lora.gguf"))
        for name, target in (("folder", snapshot), ("link.gguf", gguf), ("nowhere.gguf", "none"), ("round.gguf", "round.gguf")):
            os.symlink(target, os.path.join(self.home, name))
        os.mkfifo(os.path.join(self.home, "pipe.gguf"))
        wanted = self.ask("--lora", self.adapter)
        for i, path in enumerate((snapshot, f"{snapshot}/adapter_model.safetensors", "./folder")):
            self.assertEqual(self.make(f"peft{i}", f"FROM {self.model}", f"ADAPTER {path}").code, 0)
            self.assertEqual(self.answer(f"peft{i}"), wanted)
        self.assertEqual(self.make("gguf", f"FROM {self.model}", "ADAPTER ./link.gguf").code, 0)
        self.assertEqual(self.answer("gguf"), self.ask("--lora", gguf))
        self.assertEqual(len(self.blobs()), 2)
        for name, words in (("nowhere.gguf", "there is no such file"), ("round.gguf", "there is no such file"),
                            ("pipe.gguf", "is no file")):  # fmt: skip
            made = self.make("bad", f"FROM {self.model}", f"ADAPTER ./{name}")
            self.assertEqual(made.code, 1, name)
            self.assertIn(words, made.err)

    def test_convert_tells_that_it_leaves_them_out(self):
        self.assertEqual(self.make("one", f"FROM {self.model}", f"ADAPTER {self.adapter}").code, 0)
        out, merged = os.path.join(self.home, "out.gguf"), os.path.join(self.home, "merged.gguf")
        self.assertIn("1 adapter, which is left out", self.succeed("convert", "one", out).err)
        self.assertNotIn("left out", self.succeed("convert", "one", merged, "--merge", self.adapter).err)
        self.assertEqual(self.answer(out), self.ask())
        self.assertEqual(self.answer(merged), self.answer("one"))

    def test_convert_names_the_adapters_that_merge_does_not(self):
        gguf, other = (support.gguf_adapter(os.path.join(self.home, f"{i}.gguf"), values=(0.9, i)) for i in (0.5, 0.25))
        self.assertEqual(self.make("two", f"FROM {self.model}", f"ADAPTER {self.adapter}", f"ADAPTER {gguf}").code, 0)
        own = [a["path"] for a in self.succeed("show", "two", "--json").json["registry"]["adapters"]]
        out = os.path.join(self.home, "out.gguf")

        def left(*merged):
            options = [o for path in merged for o in ("--merge", path)]
            err = self.succeed("convert", "two", out, *options).err
            return err, [path for path in own if path in err]

        self.assertEqual(left(other, other)[1], own)  # as many, but others
        self.assertIn("2 adapters, which are left out", left(other, other)[0])
        err, names = left(f"{self.adapter}=0.5", other, other)
        self.assertEqual(names, own[1:])
        self.assertIn("of the model's 2 adapters 1 is left out", err)
        self.assertEqual(left(gguf)[1], own[:1])
        self.assertEqual(left(self.adapter, gguf)[1], [])
        self.assertEqual(left(own[1], own[0])[1], [])
        self.assertEqual(left(f"{self.adapter}/adapter_model.safetensors", own[1])[1], [])

    def test_a_draft_model_has_its_own_adapters(self):
        self.assertEqual(self.make("one", f"FROM {self.model}", f"ADAPTER {self.adapter}").code, 0)
        options = ("run", "one", "the inn", "--raw", "--temp", "0", "-n", "12", "--json", "-v", "--draft")
        for draft, more, n in (("one", (), 2), (self.model, (), 1), ("one", ("--lora", f"{self.adapter}=2"), 3)):
            result = self.succeed(*options, draft, *more)
            self.assertEqual(result.err.count("adapter of rank"), n, (draft, more))  # --lora is for the model alone
            self.assertEqual(result.json["ids"], self.answer("one", *more))
        os.unlink(os.path.join(self.models, ".mlxr", "blobs", self.blobs()[0]))
        result = self.run_mlxr(*options[:1], self.model, *options[2:], "one")
        self.assertNotEqual(result.code, 0)
        self.assertIn("sha256-", result.err)

    def test_adapters_that_do_not_fit_are_refused_when_the_model_is_made(self):
        other, bare = os.path.join(self.home, "other.gguf"), os.path.join(self.home, "bare")
        os.mkdir(bare)
        shutil.copy(os.path.join(self.adapter, "adapter_model.safetensors"), bare)
        nothing = os.path.join(self.home, "nothing.gguf")
        with open(nothing, "wb") as file:
            file.write(b"GGUF")
        for words, path in (("family 'qwen2'", support.gguf_adapter(other, family="qwen2")), ("no such file", "./nowhere"),
                            ("adapter_config.json", bare), ("nothing.gguf", nothing), ("config.json", self.model),
                            ("not a LoRA adapter", self.gguf_model())):  # fmt: skip
            result = self.make("x", f"FROM {self.model}", f"ADAPTER {path}")
            self.assertEqual(result.code, 1, path)
            self.assertIn(words, result.err)
        support.gguf_adapter(other, n=32)
        self.assertIn("'blk.0.attn_output.weight' as [32, 32]; the model has [64, 64]",
                      self.make("x", f"FROM {self.model}", f"ADAPTER {other}").err)
        support.gguf_adapter(other, values=(float("nan"), 1))
        self.assertIn("not finite", self.make("x", f"FROM {self.model}", f"ADAPTER {other}").err)
        support.gguf_adapter(other)
        result = self.make("x", f"FROM {self.model}", *[f"ADAPTER {other}"] * 17)
        self.assertIn("17 adapters; a model has at most 16", result.err)
        self.assertEqual((self.run_mlxr("show", "x").code, self.blobs()), (1, []))

    def gguf_model(self):
        path = os.path.join(self.home, "model.gguf")
        self.succeed("convert", self.model, path)
        return path

    def ollama(self, name, *adapters, lost=()):
        """A model with adapters as Ollama keeps it; of `lost` only the manifest knows"""
        folder = os.path.join(self.home, ".ollama", "models")
        os.makedirs(os.path.join(folder, "blobs"), exist_ok=True)
        layers = []
        for kind, path in (("model", self.gguf_model()), *(("adapter", a) for a in (*adapters, *lost))):
            with open(path, "rb") as file:
                data = file.read()
            digest = hashlib.sha256(data).hexdigest()
            layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)})
            if path not in lost:
                with open(os.path.join(folder, "blobs", f"sha256-{digest}"), "wb") as file:
                    file.write(data)
        at = os.path.join(folder, "manifests", "registry.ollama.ai", "library", name)
        os.makedirs(at)
        with open(os.path.join(at, "latest"), "w", encoding="utf-8") as file:
            json.dump({"schemaVersion": 2, "layers": layers}, file)
        return folder

    def test_a_copy_of_ollamas_model_has_its_adapters(self):
        gguf = support.gguf_adapter(os.path.join(self.home, "lora.gguf"))
        folder = self.ollama("theirs", gguf)
        adapted = self.answer("theirs")
        self.assertEqual(adapted, self.ask("--lora", gguf))
        self.succeed("cp", "theirs", "ours")
        self.assertEqual(self.answer("ours"), adapted)
        self.assertEqual(len(self.blobs()), 1)
        self.assertTrue(self.succeed("show", "ours", "--json").json["registry"]["path"].startswith(folder))
        self.succeed("cp", "ours", "twice")
        self.succeed("rm", "ours")
        self.assertEqual(self.answer("twice"), adapted)

    def listed(self, name):
        return next(m for m in self.succeed("list", "--json").json if m["name"] == name)

    def test_a_model_of_ollamas_whose_adapters_cannot_be_loaded_is_told(self):
        paths = [support.gguf_adapter(os.path.join(self.home, f"{i}.gguf"), values=(0.9, i / 100)) for i in range(18)]
        self.ollama("lost", paths[0], lost=[paths[17]])
        self.ollama("many", *paths[:17])
        self.ollama("fine", *paths[:16])
        for name, words in (("lost", "adapter sha256:[0-9a-f]{64} is not there"), ("many", "more than 16 adapters")):
            self.assertRegex(self.listed(name)["why_not"], words)
            self.assertEqual((self.run_mlxr("cp", name, "x").code, self.run_mlxr("run", name, "x").code != 0), (1, True))
        self.assertIsNone(self.listed("fine")["why_not"])
        self.assertEqual(self.blobs(), [])

    def test_what_is_no_adapter_is_told(self):
        for what, words in ((os.path.join(self.home, "nowhere"), "nowhere"), (self.model, "adapter_config.json")):
            result = self.run_mlxr("run", self.model, "x", "--lora", what)
            self.assertNotEqual(result.code, 0)
            self.assertIn(words, result.err)


class Text(support.CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.add_model("llama")

    def test_tokens_come_back_as_the_text(self):
        for model in ("llama", "mistral", "gemma3", "qwen2"):
            self.add_model(model)
            found = self.succeed("tokenize", model, "--json", stdin=TEXT.encode()).json
            self.assertEqual(found["n_tokens"], len(found["ids"]))
            self.assertEqual(len(found["texts"]), len(found["ids"]))
            ids = [str(i) for i in found["ids"]]
            self.assertEqual(self.succeed("detokenize", model, *ids).out, TEXT.encode())
            self.assertEqual(self.succeed("detokenize", model, stdin=json.dumps(found["ids"]).encode()).out, TEXT.encode())
            self.assertEqual(self.succeed("detokenize", model, "-", "--json", stdin=" ".join(ids).encode()).json,
                             {"text": TEXT})

    def test_the_forms_of_output_agree(self):
        ids = self.succeed("tokenize", self.model, "the inn", "--json").json["ids"]
        self.assertEqual(self.succeed("tokenize", self.model, "the inn", "--ids").text.split(), [str(i) for i in ids])
        lines = self.succeed("tokenize", self.model, "the inn").text.splitlines()
        self.assertEqual([int(line.split()[0]) for line in lines], ids)
        self.assertEqual("".join(json.loads(line.split(None, 1)[1]) for line in lines), "the inn")

    def test_control_bytes_are_shown_escaped(self):
        text = self.succeed("tokenize", self.model, "\x1b[31m\x7f\"\\").text
        self.assertNotIn("\x1b", text)
        self.assertIn('"\\x1b"', text)

    def test_special_tokens_only_where_asked_for(self):
        plain = self.succeed("tokenize", self.model, "<|im_end|>", "--json").json
        special = self.succeed("tokenize", self.model, "<|im_end|>", "--json", "--parse-special").json
        self.assertGreater(plain["n_tokens"], 1)
        self.assertEqual((special["n_tokens"], special["texts"]), (1, ["<|im_end|>"]))
        ids = [str(i) for i in special["ids"]]
        self.assertEqual(self.succeed("detokenize", self.model, *ids).text, "")
        self.assertEqual(self.succeed("detokenize", self.model, *ids, "--with-special").text, "<|im_end|>")
        self.add_model("gemma3")
        without = self.succeed("tokenize", "gemma3", "a", "--json").json["ids"]
        with_bos = self.succeed("tokenize", "gemma3", "a", "--json", "--add-special").json["ids"]
        self.assertEqual(with_bos[1:], without)

    def test_files_and_stdin_do_the_same(self):
        path = os.path.join(self.home, "text")
        with open(path, "wb") as file:
            file.write(TEXT.encode())
        from_file = self.succeed("tokenize", self.model, "--file", path, "--json").out
        self.assertEqual(from_file, self.succeed("tokenize", self.model, "-", "--json", stdin=TEXT.encode()).out)
        self.fail_with(1, "nowhere", "tokenize", self.model, "--file", "/nowhere")
        self.fail_with(1, "directory", "tokenize", self.model, "--file", self.home)
        self.assertEqual(self.succeed("tokenize", self.model, "", "--json").json["ids"], [])

    def test_bytes_that_are_no_utf8_survive_as_tokens(self):
        found = self.succeed("tokenize", self.model, "--json", stdin=b"a\xff\xc3").json
        self.assertEqual(found["n_tokens"], 3)
        ids = [str(i) for i in found["ids"]]
        self.assertEqual(self.succeed("detokenize", self.model, *ids).text, "a\ufffd\ufffd")

    def test_ids_are_checked(self):
        self.fail_with(1, "no token 320; the vocabulary has 320", "detokenize", self.model, "320")
        self.fail_with(2, "'x1' is no token id", "detokenize", self.model, "1", "x1")
        self.fail_with(2, "'1.5' is no token id", "detokenize", self.model, "1.5")
        self.fail_with(2, "is no token id", "detokenize", self.model, "99999999999999999999")
        self.fail_with(2, "is no token id", "detokenize", self.model, stdin=b"{}")


if __name__ == "__main__":
    support.main()
