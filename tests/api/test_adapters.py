"""LoRA adapters of the daemon: by request, many different ones at once, the same answers as `mlxr run`.

Tiny models, standard library only.
"""
import json
import os
import struct
import threading

import support


class Adapters(support.ApiTest):
    def setUp(self):
        super().setUp()
        self.model = support.cli.write_family("llama-lora", self.models)
        self.adapter = os.path.join(self.model, "adapter")
        self.other = os.path.join(self.home, "other")
        support.cli.shutil.copytree(self.adapter, self.other)

    def ask(self, daemon, lora=None, **fields):
        body = {"model": "llama-lora", "prompt": "the inn", "max_tokens": 12, "temperature": 0, **fields}
        return daemon.ask("POST", "/v1/completions", {**body, "lora": lora} if lora is not None else body)

    def text(self, daemon, lora=None, **fields):
        answer = self.ask(daemon, lora, **fields)
        self.assertEqual(answer.status, 200, answer)
        return answer.json["choices"][0]["text"]

    def alone(self, *scales):
        options = [o for s in scales for o in ("--lora", f"{self.adapter}={s}")]
        return self.succeed("run", self.model, "the inn", "--raw", "--temp", "0", "-n", "12", "--json", *options).json["text"]

    def test_requests_choose_by_number_and_scale(self):
        daemon = self.serve("--model", self.model, "--threads", "1", "--lora", f"{self.adapter}/adapter_model.safetensors",
                            "--lora", f"{self.other}=0")  # fmt: skip
        self.assertEqual(self.text(daemon), self.alone(1))  # what it was started with
        self.assertEqual(self.text(daemon, []), self.alone())
        self.assertEqual(self.text(daemon, [{"id": 0, "scale": 0}]), self.alone())
        self.assertEqual(self.text(daemon, [{"id": 1}]), self.alone(1))
        self.assertEqual(self.text(daemon, [{"id": 0, "scale": 0.5}, {"id": 1, "scale": -1.5}]), self.alone(0.5, -1.5))
        self.assertEqual(len({self.alone(), self.alone(1), self.alone(0.5, -1.5)}), 3)
        chat = daemon.ask("POST", "/v1/chat/completions", {"model": "llama-lora", "max_tokens": 4, "lora": [{"id": 0}], "messages": [
            {"role": "user", "content": "x"}]})  # fmt: skip
        self.assertIn(chat.status, (200, 400), chat)  # the tiny model may have no chat template
        for bad in ([{"id": 2}], [{"id": -1}], [{"scale": 1}], [{"id": 0, "scale": "x"}], [{"id": 0, "weight": 1}], [0],
                    [{"id": 0, "scale": 1e7}], [{"id": 0}] * 17, {"id": 0}, "x"):  # fmt: skip
            answer = self.ask(daemon, bad)
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "lora"), (bad, answer))
        self.assertEqual(daemon.stop(), 0)

    def test_those_of_a_model_are_applied_and_added_to(self):
        path = os.path.join(self.home, "Modelfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"FROM {self.model}\nADAPTER {self.adapter}\n")
        self.succeed("create", "made", "--file", path)
        daemon = self.serve("--threads", "1", "--lora", f"{self.other}=0.5")
        for lora, scales in ((None, (1, 0.5)), ([], (1,)), ([{"id": 0, "scale": -1}], (1, -1))):
            self.assertEqual(self.text(daemon, lora, model="made"), self.alone(*scales), lora)
        self.assertEqual(self.text(daemon, [], model=self.model.rsplit("/", 1)[1]), self.alone())
        vectors = [daemon.ask("POST", "/v1/embeddings", {"model": name, "input": "the inn", "lora": []}).json["data"][0]["embedding"]
                   for name in ("llama-lora", "made")]  # fmt: skip
        self.assertNotEqual(*vectors)
        answer = self.ask(daemon, [{"id": 0}] * 16, model="made")
        self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "lora"), answer)
        self.assertIn("the model's own with them", answer.json["error"]["message"])
        self.assertEqual(daemon.stop(), 0)

    def test_an_adapter_that_cannot_be_read_is_told_by_its_field(self):
        daemon = self.serve("--model", self.model, "--threads", "1", "--lora", f"{self.adapter}=0", "--lora", f"{self.other}=0")
        self.assertEqual(self.text(daemon, [{"id": 0}]), self.alone(1))
        for folder in (self.adapter, self.other):
            os.remove(os.path.join(folder, "adapter_config.json"))
        self.text(daemon, [{"id": 0}])  # it was read, and is kept
        for path, body in (("/v1/completions", {"prompt": "x", "max_tokens": 1}), ("/v1/embeddings", {"input": "x"})):
            answer = daemon.ask("POST", path, {"model": "llama-lora", "lora": [{"id": 1}], **body})
            error = answer.json["error"]
            self.assertEqual((answer.status, error["param"], error["code"]), (500, "lora", "internal_error"), answer)
            self.assertIn("adapter_config.json", error["message"])
        self.assertEqual(daemon.stop(), 0)

    def test_embeddings_get_them_as_answers_do(self):
        daemon = self.serve("--model", self.model, "--threads", "1", "--lora", self.adapter)

        def embedding(**fields):
            answer = daemon.ask("POST", "/v1/embeddings", {"model": "llama-lora", "input": "the inn", **fields})
            self.assertEqual(answer.status, 200, answer)
            return answer.json["data"][0]["embedding"]

        def alone(*options):
            return self.succeed("embed", self.model, "the inn", "--json", *options).json

        plain, adapted = embedding(lora=[]), embedding()
        self.assertNotEqual(plain, adapted)
        self.assertEqual(embedding(lora=[{"id": 0}]), adapted)
        self.assertNotEqual(embedding(lora=[{"id": 0, "scale": 0.5}]), adapted)
        for found, own in ((plain, alone()), (adapted, alone("--lora", self.adapter))):
            own = own["embeddings"][0] if isinstance(own, dict) else own[0]
            for a, b in zip(own["embedding"] if isinstance(own, dict) else own, found):
                self.assertAlmostEqual(a, b, places=5)
        answer = daemon.ask("POST", "/v1/embeddings", {"model": "llama-lora", "input": "x", "lora": [{"id": 1}]})
        self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "lora"), answer)
        support.cli.shutil.copy(os.path.join(support.tiny_models(), "qwen2.gguf"), self.models)
        answer = daemon.ask("POST", "/v1/embeddings", {"model": "qwen2", "input": "x"})
        self.assertEqual(answer.status, 400, answer)
        self.assertEqual(daemon.ask("POST", "/v1/embeddings", {"model": "qwen2", "input": "x", "lora": []}).status, 200)

    def teach_yes_and_no(self):
        """A template, and the words as tokens in the place of two others."""
        path = os.path.join(self.model, "tokenizer.json")
        with open(path) as f:
            tokenizer = json.load(f)
        for token in tokenizer["added_tokens"]:
            if token["content"] in ("<|user|>", "<|tool|>"):
                token.update(content="yes" if token["content"] == "<|user|>" else "no", special=False)
        with open(path, "w") as f:
            json.dump(tokenizer, f)
        with open(os.path.join(self.model, "chat_template.jinja"), "w") as f:
            f.write("{{ messages[0].content }}{{ messages[1].content }}")

    def write_output_adapter(self):
        """For the output matrix alone, of rank 1."""
        a, b = [0.1] * 64, [0.01 * i for i in range(320)]
        name = "base_model.model.lm_head.lora_%s.weight"
        header = json.dumps({
            name % "A": {"dtype": "F32", "shape": [1, len(a)], "data_offsets": [0, 4 * len(a)]},
            name % "B": {"dtype": "F32", "shape": [len(b), 1], "data_offsets": [4 * len(a), 4 * len(a + b)]}}).encode()  # fmt: skip
        folder = os.path.join(self.home, "output")
        os.mkdir(folder)
        with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", len(header)) + header + struct.pack("<%df" % len(a + b), *a, *b))
        with open(os.path.join(folder, "adapter_config.json"), "w") as f:
            json.dump({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "bias": "none"}, f)
        return folder

    def test_none_of_the_output_matrix_is_ranked_with(self):
        self.teach_yes_and_no()
        daemon = self.serve("--model", self.model, "--threads", "1", "--lora", self.adapter, "--lora", self.write_output_adapter())
        ask = {"model": "llama-lora", "query": "the inn", "documents": ["rain", "the inn"], "raw_scores": True}

        def scores(lora):
            answer = daemon.ask("POST", "/v1/rerank", {**ask, "lora": lora})
            self.assertEqual(answer.status, 200, answer)
            return sorted((r["index"], r["relevance_score"]) for r in answer.json["results"])

        self.assertNotEqual(scores([]), scores([{"id": 0}]))
        answer = daemon.ask("POST", "/v1/rerank", {**ask, "lora": [{"id": 0}, {"id": 1}]})
        self.assertEqual(answer.status, 400, answer)
        self.assertIn("changes its output matrix", answer.json["error"]["message"])
        self.assertNotEqual(self.text(daemon, [{"id": 1, "scale": 30}]), self.text(daemon, []))  # texts are written with it
        self.assertEqual(daemon.stop(), 0)

    def test_different_ones_at_once_do_not_mix(self):
        daemon = self.serve("--model", self.model, "--threads", "1", "--lora", self.adapter)
        scales = [0, 1, 0.5, -1.5]
        expected = [self.alone(*([s] if s else [])) for s in scales]
        wrong = []

        def client(i):
            for turn in range(3):
                found = self.text(daemon, [{"id": 0, "scale": scales[(i + turn) % 4]}])
                if found != expected[(i + turn) % 4]:
                    wrong.append((i, turn, found))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        self.assertEqual(daemon.stop(), 0)

    def test_an_adapter_for_other_models_is_named(self):
        qwen = os.path.join(support.tiny_models(), "qwen2.gguf")
        daemon = self.serve("--model", qwen, "--threads", "1", "--lora", self.adapter)
        body = {"model": "qwen2", "prompt": "x", "max_tokens": 2}
        answer = daemon.ask("POST", "/v1/completions", body)
        self.assertGreaterEqual(answer.status, 400)
        self.assertIn("adapter", answer.json["error"]["message"])
        self.assertEqual(daemon.ask("POST", "/v1/completions", {**body, "lora": []}).status, 200)
        self.assertEqual(daemon.stop(), 0)
        result = self.run_mlxr("serve", "--lora", os.path.join(self.home, "nowhere"))
        self.assertEqual(result.code, 2)
        self.assertIn("nowhere", result.err)


if __name__ == "__main__":
    support.cli.main()
