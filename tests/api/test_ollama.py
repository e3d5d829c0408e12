"""Ollama's API through its official client: every route, streamed and whole, tools, schemas, errors, cancellation,
keep_alive, models made, copied, pulled and deleted.

Runs in the environment of tools/api/requirements.txt. The model is a tiny random one: everything here must hold whatever a
model says. Pulls come from registries of tests/cli/pull_servers.py on loopback.
"""
import asyncio
import datetime
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import unittest

import ollama
import support
import ui_support

import pull_servers  # of tests/cli

SMOL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
THINKER = ("{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
           "{{ m.content }}\n{% endfor %}{% if tools %}{{ tools | length }} tools{% endif %}"
           "{% if add_generation_prompt %}{% if enable_thinking %}<think>{% endif %}{% endif %}")  # fmt: skip
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
                   "required": ["city"], "additionalProperties": False}}}  # fmt: skip


class OllamaTest(support.ApiTest):
    """One daemon for all tests of a class. `name` is loaded at its start; tiny-llama and tiny-qwen3 are there, too."""

    daemon = None
    name = "tiny-qwen2"

    @classmethod
    def environment_of_class(cls):
        return {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls is OllamaTest:
            return
        cls.home_of_class = tempfile.mkdtemp(prefix="mlxr-home-")
        cls.folder = os.path.join(cls.home_of_class, "models")
        os.mkdir(cls.folder)
        for family in ("qwen2", "llama", "qwen3"):
            shutil.copy(os.path.join(support.tiny_models(), family + ".gguf"),
                        os.path.join(cls.folder, f"tiny-{family}.gguf"))  # fmt: skip
        if os.path.exists(SMOL):
            os.symlink(SMOL, os.path.join(cls.folder, "smol.gguf"))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MLXR_", "XDG_")) and "proxy" not in k.lower()}
        env.update(HOME=cls.home_of_class, MLXR_MODELS=cls.folder, **cls.environment_of_class())
        cls.daemon = support.Daemon("--model", cls.name, "--threads", "1", env=env)

    @classmethod
    def tearDownClass(cls):
        if cls.daemon:
            code = cls.daemon.stop()
            shutil.rmtree(cls.home_of_class, True)
            assert code == 0, code
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.client = ollama.Client(host=f"http://127.0.0.1:{self.daemon.port}", timeout=120)
        self.addCleanup(self.client.close)

    def chat(self, text="Hello", **fields):
        options = {"num_predict": 12, "temperature": 0, **fields.pop("options", {})}
        fields = {"model": self.name, "messages": [{"role": "user", "content": text}], **fields}
        return self.client.chat(options=options, **fields)

    def generate(self, prompt="Hello", **fields):
        options = {"num_predict": 12, "temperature": 0, **fields.pop("options", {})}
        return self.client.generate(**{"model": self.name, "prompt": prompt, "options": options, **fields})

    def ask(self, path, body, method="POST"):
        return self.daemon.ask(method, path, body)

    def refused(self, status, words, call, *arguments, **fields):
        with self.assertRaises(ollama.ResponseError) as caught:
            answer = call(*arguments, **fields)
            if not hasattr(answer, "model_dump"):
                list(answer)
        self.assertEqual(caught.exception.status_code, status, caught.exception)
        self.assertRegex(caught.exception.error, words)

    def loaded(self):
        return {m.model: m for m in self.client.ps().models}

    def wait_loaded(self, name, there):
        self.until(lambda: (name in self.loaded()) == there)


class Port(support.ApiTest):
    def test_a_second_port_answers_where_clients_look_by_themselves(self):
        port = support.cli.free_port()
        daemon = self.serve("--ollama-port", str(port))
        for one in (port, daemon.port):
            client = ollama.Client(host=f"http://127.0.0.1:{one}")
            self.assertEqual(client.list().models, [])
            client.close()


class Answers(OllamaTest):
    def test_clients_find_it_running(self):
        for method in ("HEAD", "GET"):
            for path in ("/", "/api/version", "/api/tags"):
                answer = self.daemon.ask(method, path)
                self.assertEqual((answer.status, answer.body == b""), (200, method == "HEAD"), (method, path))
        self.assertRegex(self.daemon.ask("GET", "/api/version").json["version"], r"^\d+\.\d+\.\d+$")
        self.assertIn("running", self.daemon.ask("GET", "/").body.decode())

    def test_a_streamed_chat_is_the_whole_one(self):
        whole = self.chat(options={"num_predict": 20, "temperature": 1, "seed": 7})
        parts = list(self.chat(options={"num_predict": 20, "temperature": 1, "seed": 7}, stream=True))
        self.assertEqual("".join(p.message.content for p in parts), whole.message.content)
        self.assertTrue(all(p.message.role == "assistant" and p.model == self.name for p in parts))
        self.assertEqual([p.done for p in parts], [False] * (len(parts) - 1) + [True])
        for last in (parts[-1], whole):
            self.assertIn(last.done_reason, ("stop", "length"))
            self.assertGreater(last.prompt_eval_count, 0)
            self.assertLessEqual(last.eval_count, 20)
            self.assertGreaterEqual(last.total_duration, last.prompt_eval_duration + last.load_duration)
            self.assertGreater(last.eval_duration, 0)
            made = datetime.datetime.fromisoformat(last.created_at.replace("Z", "+00:00"))
            self.assertLess(abs((datetime.datetime.now(datetime.timezone.utc) - made).total_seconds()), 60)
        self.assertEqual(parts[-1].eval_count, whole.eval_count)

    def test_a_streamed_completion_is_the_whole_one(self):
        whole = self.generate()
        parts = list(self.generate(stream=True))
        self.assertEqual("".join(p.response for p in parts), whole.response)
        self.assertEqual((parts[-1].done, parts[-1].context), (True, whole.context))
        self.assertEqual(len(whole.context), whole.prompt_eval_count + whole.eval_count)

    def test_lines_are_json_by_themselves(self):
        answer = self.ask("/api/chat", {"model": self.name, "messages": [{"role": "user", "content": "x"}],
                                        "options": {"num_predict": 3}})  # fmt: skip
        self.assertEqual(answer.headers["content-type"], "application/x-ndjson")
        lines = answer.body.decode().splitlines()
        self.assertEqual([json.loads(line)["done"] for line in lines][-1], True)
        whole = self.ask("/api/chat", {"model": self.name, "messages": [{"role": "user", "content": "x"}],
                                       "stream": False, "options": {"num_predict": 3}})  # fmt: skip
        self.assertTrue(whole.headers["content-type"].startswith("application/json"))

    def test_the_context_of_an_answer_goes_on(self):
        first = self.generate("One")
        second = self.generate("Two", context=first.context)
        self.assertEqual(second.context[: len(first.context)], first.context)
        self.assertGreater(second.prompt_eval_count, len(first.context))
        self.refused(400, r"context\[0\] is 999999", self.generate, context=[999999])

    def test_raw_prompts_are_what_the_model_reads(self):
        raw = self.generate("Once upon", raw=True)
        other = self.ask("/v1/completions", {"model": self.name, "prompt": "Once upon", "max_tokens": 12, "temperature": 0})
        self.assertEqual(raw.response, other.json["choices"][0]["text"])
        self.assertIsNone(raw.context)
        self.refused(400, "raw", self.generate, raw=True, system="x")

    def test_templates_in_the_place_of_the_models(self):
        """Jinja and Ollama's own; what the model reads is what the template writes."""
        raw = self.generate("<be brief|Hello>", raw=True)
        jinja = "<{% for m in messages %}{{ m.content }}{{ '' if loop.last else '|' }}{% endfor %}>"
        self.assertEqual(self.generate(template=jinja, system="be brief").response, raw.response)
        self.assertEqual(self.generate(template="<{{ .System }}|{{ .Prompt }}>", system="be brief").response, raw.response)
        self.refused(400, "no equivalent", self.generate, template="{{ .Prompt }}{{ range .Messages }}{{ end }}")
        self.refused(400, "template", self.generate, template="{% for %}")

    def test_schemas_and_json_bind_answers(self):
        schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
                  "required": ["a", "b"], "additionalProperties": False}  # fmt: skip
        for stream in (False, True):
            answer = self.chat(format=schema, stream=stream, options={"num_predict": 100})
            text = "".join(p.message.content for p in answer) if stream else answer.message.content
            self.assertEqual(set(json.loads(text)), {"a", "b"})
        text = self.generate(format="json", options={"num_predict": 200, "temperature": 1, "seed": 4}).response
        self.assertIsInstance(json.loads(text), dict)
        self.refused(400, "unevaluatedItems", self.chat, format={"type": "object", "unevaluatedItems": False})
        self.assertEqual(self.chat(format="").message.content, self.chat().message.content)

    @unittest.skipUnless(os.path.exists(SMOL), "SmolLM2 is not there")
    def test_tools_are_called_with_objects(self):
        """What forces a call is ours; how calls look is Ollama's."""
        self.name = "smol"
        body = {"model": self.name, "messages": [{"role": "user", "content": "Weather?"}], "tools": [WEATHER],
                "tool_choice": "required", "options": {"num_predict": 60, "temperature": 0}}  # fmt: skip
        whole = ollama.ChatResponse(**self.ask("/api/chat", {**body, "stream": False}).json)
        lines = [json.loads(line) for line in self.ask("/api/chat", body).body.splitlines()]
        streamed = [c for line in lines for c in ollama.ChatResponse(**line).message.tool_calls or []]
        for calls in (whole.message.tool_calls, streamed):
            self.assertGreaterEqual(len(calls), 1)
            for call in calls:
                self.assertEqual(call.function.name, "get_weather")
                self.assertIn(call.function.arguments["city"], ("Oslo", "Rome"))
        self.assertEqual([c.function for c in streamed], [c.function for c in whole.message.tool_calls])
        self.assertTrue(lines[-1]["done"])
        self.assertTrue(lines[0]["message"]["tool_calls"][0]["id"])
        after = self.chat(messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [c.model_dump() for c in streamed]},
            {"role": "tool", "tool_name": "get_weather", "content": "rain"}], tools=[WEATHER])  # fmt: skip
        self.assertTrue(after.done)

        def add(a: int, b: int) -> int:
            """Adds.

            Args:
              a: one
              b: the other
            """
            return a + b

        self.assertTrue(self.chat(tools=[add]).done)  # as the client describes functions

    def test_log_probabilities(self):
        whole = self.chat(logprobs=True, top_logprobs=3, options={"num_predict": 5})
        self.assertEqual(len(whole.logprobs), whole.eval_count)
        for token in whole.logprobs:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob, "greedy takes the most likely one")
        streamed = [t for p in self.chat(logprobs=True, top_logprobs=3, options={"num_predict": 5}, stream=True)
                    for t in p.logprobs or []]  # fmt: skip
        self.assertEqual([t.token for t in streamed], [t.token for t in whole.logprobs])
        self.refused(400, "top_logprobs", self.chat, logprobs=True, top_logprobs=21)
        self.assertEqual(len(self.generate(logprobs=True, options={"num_predict": 2}).logprobs), 2)

    def test_options_do_what_they_say(self):
        self.assertEqual(self.chat(options={"num_predict": 3}).eval_count, 3)
        full = self.chat(options={"num_predict": -1, "num_ctx": 64, "logit_bias": {"33": 100}})
        self.assertEqual((full.done_reason, full.prompt_eval_count + full.eval_count), ("length", 64))
        self.assertEqual(self.chat(options={"num_predict": -2, "num_ctx": 64, "logit_bias": {"33": 100}}).done_reason, "length")
        letter = self.daemon.ask("POST", "/detokenize", {"model": self.name, "tokens": [33]}).json["content"]
        stopped = self.chat(options={"stop": [letter * 3], "logit_bias": {"33": 100}, "num_predict": 30})
        self.assertEqual((stopped.message.content, stopped.done_reason), ("", "stop"))
        hot = {"temperature": 2, "num_predict": 20, "seed": 5}
        self.assertEqual(self.chat(options=hot).message.content, self.chat(options=hot).message.content)
        self.assertNotEqual(self.chat(options=hot).message.content, self.chat(options={**hot, "seed": 6}).message.content)
        everything = {"top_k": 10, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.9, "repeat_last_n": 32, "repeat_penalty": 1.1,
                      "presence_penalty": 0.1, "frequency_penalty": 0.1, "penalize_newline": True, "num_keep": 4,
                      "num_thread": 2, "num_gpu": 1, "num_batch": 64, "use_mmap": True, "numa": False, "tfs_z": 1.0}  # fmt: skip
        self.assertTrue(self.chat(options=everything).done)
        for version in (1, 2):
            self.assertTrue(self.chat(options={"mirostat": version, "mirostat_tau": 5, "mirostat_eta": 0.1}).done)

    def test_what_cannot_matter_is_answered_with_a_warning(self):
        body = {"model": self.name, "messages": [{"role": "user", "content": "x"}], "stream": False, "shift": True,
                "options": {"num_thread": 8, "num_gpu": 99, "num_ctx": 1000000, "num_predict": 2, "penalize_newline": False}}  # fmt: skip
        told = "\n".join(self.ask("/api/chat", body).json["warnings"])
        for word in ("num_thread", "num_gpu", "num_ctx", "shift", "penalize_newline"):
            self.assertIn(word, told)

    def test_what_makes_no_sense_is_refused_by_name(self):
        for words, fields in (
            ("temperatur", {"options": {"temperatur": 1}}),
            ("num_ctx", {"options": {"num_ctx": "big"}}),
            ("num_predict", {"options": {"num_predict": -3}}),
            ("top_p", {"options": {"top_p": 7}}),
            ("n: this API gives one answer", {"options": {"n": 2}}),
            ("keep_alive", {"keep_alive": "soon"}),
            ("think must be", {"think": "much"}),
            (r"messages\[0\]: images", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
            ("role 'robot'", {"messages": [{"role": "robot", "content": "x"}]}),
        ):
            self.refused(400, words, self.chat, **fields)
        self.refused(400, "images", self.generate, images=[b"x"])
        self.refused(400, "images cannot be made", self.generate, width=64)
        for body, words in (({"nonsense": 1}, "nonsense"), ({"model": ""}, "model is required"), ({"model": 5}, "model"),
                            ({"messages": "x"}, "messages"), ({"format": "xml"}, "format")):  # fmt: skip
            answer = self.ask("/api/chat", {"model": self.name, "messages": [{"role": "user", "content": "x"}], **body})
            self.assertEqual(answer.status, 400, body)
            self.assertEqual(list(answer.json), ["error"])
            self.assertIn(words, answer.json["error"])
        self.assertEqual(self.daemon.ask("POST", "/api/chat", "{", [("Content-Type", "application/json")]).status, 400)

    def test_models_that_are_not_there(self):
        for call in (self.client.show, self.client.delete):
            self.refused(404, "^model 'no-such' not found", call, "no-such")
        self.refused(404, "^model 'no-such' not found", self.chat, model="no-such")
        self.refused(404, "^model 'no-such' not found", self.generate, model="no-such", stream=True)
        self.refused(404, "^model 'no-such' not found", self.generate, prompt="", model="no-such")
        self.refused(404, "^model 'no-such' not found", self.client.embed, "no-such", "x")
        self.refused(404, "^model 'no-such' not found", self.client.copy, "no-such", "x")
        self.assertNotIn(self.folder, self.ask("/api/chat", {"model": "x", "messages": [{"role": "user", "content": ""}]}).json["error"])

    def test_a_prompt_that_does_not_fit_is_refused_or_cut_as_asked(self):
        long = "word " * 200
        self.refused(400, "the context holds 64", self.chat, long, options={"num_ctx": 64})
        body = {"model": self.name, "prompt": long, "raw": True, "stream": False, "truncate": True,
                "options": {"num_ctx": 64, "num_predict": 4}}  # fmt: skip
        answer = self.ask("/api/generate", body).json
        self.assertIn("left out", answer["warnings"][0])
        self.assertLess(answer["prompt_eval_count"], 64)

    def test_thinking_stands_apart(self):
        """A template that opens a thought makes all of a random model's answer one."""
        self.client.create("thinker", from_="tiny-qwen2", template=THINKER)
        self.addCleanup(self.client.delete, "thinker")
        self.assertEqual(set(self.client.show("thinker").capabilities) & {"thinking", "tools"}, {"thinking", "tools"})
        for think in (True, "high"):
            on = self.chat(model="thinker", think=think).message
            self.assertEqual((bool(on.thinking), on.content), (True, ""))
            parts = list(self.chat(model="thinker", think=think, stream=True))
            self.assertEqual("".join(p.message.thinking or "" for p in parts), on.thinking)
        off = self.chat(model="thinker", think=False).message
        self.assertEqual((off.thinking, bool(off.content)), (None, True))
        self.assertTrue(self.generate(model="thinker", think=True).thinking)
        told = self.ask("/api/chat", {"model": "tiny-llama", "messages": [{"role": "user", "content": "x"}],
                                      "think": True, "stream": False, "options": {"num_predict": 2}}).json  # fmt: skip
        self.assertIn("does not reason", "".join(told["warnings"]))

    def test_who_leaves_ends_the_answer(self):
        """A stream that is closed in its midst: what is behind it is not computed. It has more events than lie between a daemon
        and a client that does not read, so it cannot have ended before."""
        daemon = self.serve("--model", ui_support.long_model(), "--threads", "1")
        client = ollama.Client(host=f"http://127.0.0.1:{daemon.port}", timeout=120)
        self.addCleanup(client.close)
        stream = client.chat("qwen2", messages=[{"role": "user", "content": "Hello"}], stream=True,
                             options={"num_predict": 12000, "logit_bias": {"33": 100}})  # fmt: skip
        next(stream)
        stream.close()
        self.until_idle(daemon)
        self.assertLess(self.metric(daemon, "generation_tokens_total"), 12000)
        self.assertEqual(daemon.stop(), 0)

    def test_many_at_once_and_asynchronously(self):
        async def all_of_them():
            client = ollama.AsyncClient(host=f"http://127.0.0.1:{self.daemon.port}")
            calls = [client.generate(model=self.name, prompt=f"Number {i}", options={"num_predict": 8, "temperature": 0})
                     for i in range(16)]  # fmt: skip
            answers = [a.response for a in await asyncio.gather(*calls)]
            streamed = ""
            async for part in await client.generate(model=self.name, prompt="Number 3", stream=True,
                                                    options={"num_predict": 8, "temperature": 0}):  # fmt: skip
                streamed += part.response
            await client.close()
            return answers, streamed

        answers, streamed = asyncio.run(all_of_them())
        self.assertEqual(streamed, answers[3])
        self.assertEqual(answers[5], self.generate("Number 5", options={"num_predict": 8}).response)

    def test_embeddings(self):
        one = self.client.embed(self.name, "Hello")
        many = self.client.embed(self.name, ["Hello", "Other words"])
        self.assertEqual(one.embeddings[0], many.embeddings[0])
        self.assertAlmostEqual(sum(x * x for x in many.embeddings[1]), 1, places=4)
        self.assertGreater(many.prompt_eval_count, one.prompt_eval_count)
        self.assertEqual(list(self.client.embeddings(self.name, "Hello").embedding), list(one.embeddings[0]))
        short = self.client.embed(self.name, "Hello", dimensions=8)
        self.assertEqual(len(short.embeddings[0]), 8)
        self.assertAlmostEqual(sum(x * x for x in short.embeddings[0]), 1, places=4)
        long = "word " * 100
        self.assertIn("was cut", "".join(self.ask("/api/embed", {"model": self.name, "input": long, "options": {"num_ctx": 16}}).json["warnings"]))
        both = self.ask("/api/embed", {"model": self.name, "input": ["short", long, long], "options": {"num_ctx": 16}}).json["warnings"]
        self.assertEqual([w for w in both if "cut" in w], ["2 of 3 inputs were cut, input 1 the first of them: 16 tokens can be read"])
        self.refused(400, "16 can be read", self.client.embed, self.name, long, truncate=False, options={"num_ctx": 16})
        self.refused(400, "dimensions", self.client.embed, self.name, "x", dimensions=100000)

    def test_suffixes_need_a_model_that_can_fill_in(self):
        self.refused(400, "cannot fill in", self.generate, suffix="end")


class Models(OllamaTest):
    def test_lists_tell_what_there_is(self):
        listed = {m.model: m for m in self.client.list().models}
        self.assertEqual({"tiny-qwen2:latest", "tiny-llama:latest", "tiny-qwen3:latest"} - set(listed), set())
        model = listed["tiny-llama:latest"]
        self.assertEqual(model.size, os.path.getsize(os.path.join(self.folder, "tiny-llama.gguf")))
        self.assertRegex(model.digest, "^[0-9a-f]{64}$")
        self.assertEqual((model.details.family, model.details.format), ("llama", "gguf"))
        self.assertLess(abs(time.time() - model.modified_at.timestamp()), 86400)

    def test_a_model_is_shown(self):
        shown = self.client.show("tiny-qwen2:latest")
        self.assertEqual(shown.details.family, "qwen2")
        self.assertEqual(shown.modelinfo["general.architecture"], "qwen2")
        self.assertGreater(shown.modelinfo["general.parameter_count"], 0)
        self.assertIsNone(shown.modelinfo["tokenizer.ggml.tokens"])
        self.assertIn("completion", shown.capabilities)
        self.assertIn("messages", shown.template)
        self.assertTrue(shown.modelfile.startswith("FROM tiny-qwen2"))
        self.assertNotIn(self.folder, self.ask("/api/show", {"name": "tiny-qwen2", "verbose": True}).body.decode())
        self.assertTrue(self.ask("/api/show", {"name": "tiny-qwen2", "verbose": True}).json["tensors"][0]["shape"])

    def check_expiry(self, model, began, seconds):
        """Asked for from `began` on to be kept for so long; None: for ever."""
        at = model.expires_at.timestamp()
        if seconds is None:
            self.assertGreater(at, began + 1e9)
        else:
            self.assertTrue(began + seconds - 0.1 < at < time.time() + seconds + 0.1, (began, at, seconds))

    def test_models_stay_as_long_as_asked(self):
        name, full = "tiny-llama", "tiny-llama:latest"
        began = time.time()
        loaded = self.client.generate(name, keep_alive="1h30m")  # nothing asked: it loads
        self.assertEqual((loaded.done_reason, loaded.response), ("load", ""))
        model = self.loaded()[full]
        self.check_expiry(model, began, 5400)
        self.assertGreater(model.size, 0)
        self.assertEqual(model.size_vram, 0)
        self.assertGreater(model.context_length, 0)
        for keep, seconds in ((100, 100), ("250ms", 0.25), (-1, None), ("-1m", None), ("200", 200)):
            began = time.time()
            self.client.chat(name, messages=[], keep_alive=keep)
            if keep != "250ms":
                self.check_expiry(self.loaded()[full], began, seconds)
            else:
                self.wait_loaded(full, False)
        self.assertEqual(self.client.generate(name, keep_alive=0).done_reason, "unload")
        self.wait_loaded(full, False)
        self.assertEqual(self.client.chat(name, messages=[], keep_alive=0).done_reason, "unload", "it is no error")
        self.chat(model=name, keep_alive=0)  # an answer, then it goes
        self.wait_loaded(full, False)
        self.client.embed(name, "x", keep_alive="1h")
        self.assertIn(full, self.loaded())
        self.client.embed(name, "x", keep_alive=0)
        self.wait_loaded(full, False)
        self.assertGreater(self.loaded()["tiny-qwen2:latest"].expires_at.timestamp() - time.time(), 1e9, "of the start")

    def test_models_are_made_copied_and_deleted(self):
        made = self.client.create("brief", from_="tiny-qwen2", system="Be brief.", license=["MIT", "or not"],
                                  template="<{% for m in messages %}{{ m.content }};{% endfor %}>",
                                  parameters={"temperature": 0, "num_predict": 5, "stop": ["qq", "zz"], "num_ctx": 64},
                                  messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}])  # fmt: skip
        self.assertEqual(made.status, "success")
        shown = self.client.show("brief")
        self.assertIn("temperature", shown.parameters)
        self.assertEqual(shown.parameters.count("stop "), 2)
        self.assertIn("or not", shown.license)
        self.assertIn("SYSTEM Be brief.", shown.modelfile)
        answer = self.client.chat("brief", messages=[{"role": "user", "content": "x"}])
        raw = self.generate("<Be brief.;hi;yes;x;>", raw=True, options={"num_predict": 5})
        self.assertEqual(answer.message.content, raw.response, "its template, system message and parameters are used")
        other = self.daemon.ask("POST", "/v1/chat/completions", {"model": "brief", "messages": [{"role": "user", "content": "x"}]}).json
        self.assertEqual(other["choices"][0]["message"]["content"], raw.response)
        self.assertEqual(self.daemon.ask("POST", "/apply-template", {"model": "brief", "messages": [{"role": "user", "content": "x"}]}).json["prompt"], "<x;>")
        full = self.client.chat("brief", messages=[{"role": "user", "content": "x"}], options={"num_predict": -1, "logit_bias": {"33": 100}})
        self.assertEqual(full.prompt_eval_count + full.eval_count, 64, "its num_ctx")
        self.assertEqual(self.client.copy("brief", "mine/brief:v2").status, "success")
        self.assertEqual(self.client.show("mine/brief:v2").parameters, shown.parameters)
        self.assertIn("mine/brief:v2", [m.model for m in self.client.list().models])
        self.assertEqual(self.client.delete("brief").status, "success")
        self.assertEqual(self.client.delete("mine/brief:v2").status, "success")
        self.refused(404, "not found", self.client.show, "brief")
        self.refused(400, "not in the store but at", self.client.delete, "tiny-qwen2")

    def test_models_are_made_of_files_that_are_uploaded(self):
        path = os.path.join(support.tiny_models(), "llama.gguf")
        with open(path, "rb") as file:
            digest = "sha256:" + hashlib.sha256(file.read()).hexdigest()
        self.assertEqual(self.daemon.ask("HEAD", f"/api/blobs/{digest}").status, 404)
        self.assertEqual(self.client.create_blob(path), digest)
        self.assertEqual(self.daemon.ask("HEAD", f"/api/blobs/{digest}").status, 200)
        self.assertEqual(self.client.create_blob(path), digest, "again is no error")
        states = [p.status for p in self.client.create("uploaded", files={"model.gguf": digest}, stream=True)]
        self.assertEqual(states[-1], "success")
        self.assertTrue(self.chat(model="uploaded").done)
        made = self.ask("/api/create", {"model": "of-a-modelfile", "modelfile": f"FROM {digest}\nPARAMETER seed 3\nSYSTEM hi\n",
                                        "stream": False})  # fmt: skip
        self.assertEqual(made.json, {"status": "success"})
        wrong = "sha256:" + "0" * 64
        for target, body, status in ((f"/api/blobs/{wrong}", b"GGUF", 400), ("/api/blobs/nonsense", b"x", 400)):
            self.assertEqual(self.daemon.ask("POST", target, body).status, status, target)
        self.assertEqual(self.daemon.ask("HEAD", f"/api/blobs/{wrong}").status, 404)
        for words, fields in (("no blob", {"files": {"a.gguf": wrong}}), ("from or files", {}), ("no blob", {"from_": "tiny-llama", "adapters": {"a.gguf": wrong}}),
                              ("quantize", {"from_": "tiny-llama", "quantize": "q4_0"}), ("temperatur", {"from_": "tiny-llama", "parameters": {"temperatur": 1}}),
                              ("no equivalent", {"from_": "tiny-llama", "template": "{{ .Prompt }}{{ range .Messages }}{{ end }}"}),
                              ("paths are not taken", {"from_": path}), ("no-such", {"from_": "no-such"})):  # fmt: skip
            with self.assertRaises(ollama.ResponseError) as caught:
                self.client.create("x", **fields)
            self.assertIn(words, caught.exception.error)
        refused = self.ask("/api/create", {"model": "x", "modelfile": "FROM tiny-llama\nADAPTER ./x\n", "stream": False})
        self.assertIn("paths are not taken here", refused.json["error"])
        for name in ("uploaded", "of-a-modelfile"):
            self.client.delete(name)

    def test_models_are_created_with_adapters(self):
        base = support.cli.write_family("llama-lora", self.home)
        files = {name: self.client.create_blob(os.path.join(base, "adapter", name))
                 for name in ("adapter_config.json", "adapter_model.safetensors")}  # fmt: skip
        weights = {name: self.client.create_blob(os.path.join(base, name))
                   for name in sorted(os.listdir(base)) if os.path.isfile(os.path.join(base, name))}  # fmt: skip
        gguf = support.cli.gguf_adapter(os.path.join(self.home, "lora.gguf"))
        files["more.gguf"] = self.client.create_blob(gguf)
        self.client.create("plain", files=weights)
        self.client.create("peft", from_="plain", adapters={k: v for k, v in files.items() if k != "more.gguf"})
        self.client.create("both", from_="plain", adapters=files)
        self.client.create("more", from_="peft", adapters={"x.gguf": files["more.gguf"]})
        answers = {name: self.generate(model=name, raw=True).response for name in ("plain", "peft", "both", "more")}
        self.assertEqual(len(set(answers.values())), 3, answers)
        self.assertEqual(answers["both"], answers["more"])
        self.assertEqual(self.client.show("both").modelfile.count("\nADAPTER "), 2)
        for words, adapters in (("adapter_config.json", {"adapter_model.safetensors": files["adapter_model.safetensors"]}),
                                ("digest", {"a.gguf": "sha256:1"}), ("begin with 'GGUF'", {"a.gguf": weights["config.json"]})):  # fmt: skip
            with self.assertRaises(ollama.ResponseError) as caught:
                self.client.create("x", from_="plain", adapters=adapters)
            self.assertIn(words, caught.exception.error)
        for name in ("plain", "peft", "both", "more"):
            self.client.delete(name)

    def test_adapters_are_checked_against_the_files_that_come_with_them(self):
        base = support.cli.write_family("llama-lora", self.home)
        weights = {name: self.client.create_blob(os.path.join(base, name))
                   for name in sorted(os.listdir(base)) if os.path.isfile(os.path.join(base, name))}  # fmt: skip
        self.assertGreater(len(weights), 1)
        path = os.path.join(self.home, "fits.gguf")
        self.client.create("whole", files=weights, adapters={"a.gguf": self.client.create_blob(support.cli.gguf_adapter(path))})
        before = self.generate(model="whole", raw=True).response
        for words, how in (("as [32, 32]", {"n": 32}), ("family 'qwen2'", {"family": "qwen2"})):
            wrong = self.client.create_blob(support.cli.gguf_adapter(os.path.join(self.home, "wrong.gguf"), **how))
            for name in ("x", "whole"):
                with self.assertRaises(ollama.ResponseError) as caught:
                    self.client.create(name, files=weights, adapters={"a.gguf": wrong})
                self.assertIn(words, caught.exception.error)
        self.assertEqual(self.generate(model="whole", raw=True).response, before)
        self.assertNotIn("x:latest", [m.model for m in self.client.list().models])
        sets = os.listdir(os.path.join(self.home_of_class, "models", ".mlxr", "sets"))
        self.assertEqual([n for n in sets if not re.fullmatch(r"\d+-\d+", n)], [])  # none that was only tried
        self.client.delete("whole")

    def test_a_configuration_belongs_to_weights_in_its_folder(self):
        base = support.cli.write_family("llama-lora", self.home)
        config, weights = (self.client.create_blob(os.path.join(base, "adapter", name))
                           for name in ("adapter_config.json", "adapter_model.safetensors"))  # fmt: skip
        model = os.path.join(self.home, "base.gguf")
        self.assertEqual(support.cli.subprocess.run([support.cli.MLXR, "convert", base, model], capture_output=True).returncode, 0)
        self.client.create("base", files={"base.gguf": self.client.create_blob(model)})
        alone = {"adapter_config.json": config}
        for words, adapters in (("no weights", alone), ("no weights", {**alone, "a/adapter_model.safetensors": weights, "a/adapter_config.json": config}),
                                ("no blob sha256:0000", {"adapter_config.json": "sha256:" + "0" * 64})):  # fmt: skip
            with self.assertRaises(ollama.ResponseError) as caught:
                self.client.create("x", from_="base", adapters=adapters)
            self.assertEqual(caught.exception.status_code, 400)
            self.assertIn("adapter_config.json", caught.exception.error)
            self.assertIn(words, caught.exception.error)

        def several(n):
            return {f"{i}/{name}": blob for i in range(n) for name, blob in
                    (("adapter_config.json", config), ("adapter_model.safetensors", weights))}  # fmt: skip

        self.client.create("nine", from_="base", adapters=several(9))
        self.assertEqual(self.client.show("nine").modelfile.count("\nADAPTER "), 9)
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.create("x", from_="base", adapters=several(17))
        self.assertIn("17 adapters; a model has at most 16", caught.exception.error)
        for name in ("base", "nine"):
            self.client.delete(name)

    def test_models_of_several_files_are_uploaded(self):
        folder, files = os.path.join(support.tiny_models(), "llama"), {}
        for name in sorted(os.listdir(folder)):
            files[name] = self.client.create_blob(os.path.join(folder, name))
        self.assertGreater(len(files), 2)
        self.assertEqual(self.client.create("folder", files=files).status, "success")
        self.assertEqual(self.client.show("folder").details.family, "llama")
        self.assertEqual(self.generate(model="folder", raw=True).response, self.generate(model="tiny-llama", raw=True).response)
        for bad in ({"a.txt": files["config.json"], "b": files["config.json"]}, {"../x": files["config.json"], **files}):
            with self.assertRaises(ollama.ResponseError):
                self.client.create("x", files=bad)
            with self.assertRaises(ollama.ResponseError):
                self.client.create("folder", files=bad)
        self.assertEqual(self.client.show("folder").details.family, "llama", "the one that is there stays")
        self.assertEqual(self.generate(model="folder", raw=True).response, self.generate(model="tiny-llama", raw=True).response)
        self.client.delete("folder")

    def wait_upload(self, there):
        partial = os.path.join(self.folder, ".mlxr", "partial")
        self.until(lambda: (os.path.isdir(partial) and any(f.startswith("upload-") for f in os.listdir(partial))) == there)

    def test_an_upload_that_is_broken_off_leaves_nothing(self):
        data = os.urandom(3 << 20)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with self.daemon.connect() as connection:
            connection.sendall(f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[: 2 << 20])
            self.wait_upload(True)
        self.wait_upload(False)
        self.assertEqual(self.daemon.ask("HEAD", f"/api/blobs/{digest}").status, 404)
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request("POST", f"/api/blobs/{digest}", iter([data[i : i + 100000] for i in range(0, len(data), 100000)]),
                           {"Content-Type": "application/octet-stream"}, encode_chunked=True)  # fmt: skip
        self.assertEqual(connection.getresponse().status, 201)


class Pushes(OllamaTest):
    @classmethod
    def environment_of_class(cls):
        cls.store = pull_servers.Store(token="t0k3n")
        return dict(MLXR_OLLAMA_REGISTRY=cls.store.url, MLXR_ALLOW_PRIVATE="127.0.0.1", MLXR_PULL_RETRY_MS="5")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if cls.daemon:
            cls.store.close()

    def test_what_is_pushed_can_be_pulled_again(self):
        self.client.create("me/mine:v1", from_="tiny-llama", system="Be kind.", license="MIT",
                           template="{% for m in messages %}{{ m.content }};{% endfor %}",
                           parameters={"temperature": 0, "stop": ["qq", "zz"], "num_predict": 5},
                           messages=[{"role": "user", "content": "hi"}])  # fmt: skip
        parts = list(self.client.push("me/mine:v1", stream=True))
        self.assertEqual(parts[-1].status, "success")
        self.assertEqual(sum(p.completed == p.total for p in parts if p.digest and p.total > 100000), 1)
        manifest = json.loads(self.store.manifests["me/mine", "v1"])
        self.assertEqual(len(manifest["layers"]), 6)
        self.assertEqual(len(self.store.blobs), 7)
        for layer in [*manifest["layers"], manifest["config"]]:
            self.assertEqual(len(self.store.blobs[layer["digest"]]), layer["size"])
        shown, answer = self.client.show("me/mine:v1"), self.client.generate("me/mine:v1", "Hello").response
        self.client.delete("me/mine:v1")
        self.assertEqual(self.client.pull("me/mine:v1").status, "success")
        again = self.client.show("me/mine:v1")
        for what in ("template", "parameters", "license", "details", "modelfile"):
            self.assertEqual(getattr(again, what), getattr(shown, what), what)
        self.assertEqual(self.client.generate("me/mine:v1", "Hello").response, answer)
        uploads = self.store.uploads
        self.assertEqual(self.client.push("me/mine:v1").status, "success", "again is no error")
        self.assertEqual(self.store.uploads, uploads, "and sends nothing twice")

    def test_what_cannot_be_pushed_is_told(self):
        for name, words in (("no-such", "no model"), ("tiny-llama", "does not let us")):
            if name == "tiny-llama":
                self.store.token, kept = "another", self.store.token
                self.store.on("/token", lambda r: r.answer(200, b'{"token": "wrong"}'))
            with self.assertRaises(ollama.ResponseError) as caught:
                list(self.client.push(name, stream=True))
            self.assertIn(words, caught.exception.error)
        self.store.token = kept
        self.store.on("/token", lambda r: r.answer(200, json.dumps({"token": kept}).encode()))
        self.assertNotIn(("library/tiny-llama", "latest"), self.store.manifests)
        self.assertEqual(self.ask("/api/push", {"model": "a/b/c/d/e", "stream": False}).status, 400)


class Names(OllamaTest):
    """Names that are not what they seem, through every route: nothing outside the store is opened, made or changed."""

    @classmethod
    def environment_of_class(cls):
        return dict(MLXR_OLLAMA_REGISTRY="http://127.0.0.1:9", HF_ENDPOINT="http://127.0.0.1:9", MLXR_PULL_RETRY_MS="1")

    def tree(self):
        found = {}
        for folder, _, files in os.walk(self.home_of_class):
            if ".mlxr" not in folder and "/.cache" not in folder:
                found.update({os.path.join(folder, f): os.path.getmtime(os.path.join(folder, f)) for f in files})
        return found

    def test_hostile_names_open_nothing_outside_the_store(self):
        secret = os.path.join(self.home_of_class, "secret.gguf")
        shutil.copy(os.path.join(support.tiny_models(), "llama.gguf"), secret)
        before = ["", "/", "../", "../../", "./", "~/", "a/../../", "file://", "file:", "%2e%2e/", "..\\", "//", "hf:", "hf.co/",
                  "http://127.0.0.1:9/", "sha256:", "\u202e", " "]  # fmt: skip
        names = ["secret.gguf", "secret", self.home_of_class[1:] + "/secret.gguf", "etc/passwd", "..", ".mlxr/registry.db",
                 "x" * 300, "a:b:c", "a\nb", "%s%n", "secret.gguf:latest"]  # fmt: skip
        tree, n = self.tree(), 0
        for name in (b + m for b in before for m in names):
            requests = [
                ("POST", "/api/generate", {"model": name, "prompt": "x", "stream": False}),
                ("POST", "/api/chat", {"model": name, "messages": []}),
                ("POST", "/api/embed", {"model": name, "input": "x"}),
                ("POST", "/api/show", {"model": name}),
                ("POST", "/api/copy", {"source": name, "destination": "stolen"}),
                ("POST", "/api/create", {"model": "stolen", "from": name, "stream": False}),
                ("POST", "/api/create", {"model": "stolen", "files": {name: "sha256:" + "0" * 64}, "stream": False}),
                ("POST", "/api/pull", {"model": name, "stream": False}),
                ("POST", "/api/copy", {"source": "tiny-llama", "destination": name}),
                ("POST", "/api/create", {"model": name, "from": "tiny-llama", "stream": False}),
                ("POST", "/api/push", {"model": name, "stream": False}),
                ("DELETE", "/api/delete", {"model": name}),
            ]  # fmt: skip
            for method, path, body in requests:
                answer = self.daemon.ask(method, path, body)
                fine = path in ("/api/copy", "/api/create") and body.get("destination", body.get("model")) == name
                if not fine and path != "/api/delete":  # what can be a name is one, in the store
                    self.assertNotEqual(answer.status, 200, (method, path, name))
                self.assertTrue(answer.status < 500 or path in ("/api/pull", "/api/push"), (method, path, name, answer))
                n += 1
        self.refused(404, "not found", self.client.show, "stolen")
        self.assertEqual(self.tree(), tree)
        self.assertEqual(self.daemon.ask("GET", "/health").status, 200)
        print(f"{n} requests with hostile names")


class Pulls(OllamaTest):
    @classmethod
    def environment_of_class(cls):
        with open(os.path.join(support.tiny_models(), "llama.gguf"), "rb") as file:
            cls.weights = file.read()
        cls.registry = pull_servers.Ollama(cls.weights, system=b"Be kind.", params=b'{"temperature": 0}')
        return dict(MLXR_OLLAMA_REGISTRY=cls.registry.url, HF_ENDPOINT=cls.registry.url, MLXR_ALLOW_PRIVATE="127.0.0.1",
                    MLXR_PULL_STALL_S="600", MLXR_PULL_RETRY_MS="5", MLXR_PULL_PIECE_BYTES="100000")  # fmt: skip

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if cls.daemon:
            cls.registry.close()

    def setUp(self):
        super().setUp()
        self.open = threading.Event()
        self.open.set()
        digest = self.registry.layers[0]["digest"]

        def weights(request):  # all but the first piece wait until they may
            if request.range and request.range[0] > 0:
                self.open.wait()
            request.file(self.weights)

        self.registry.on("/v2/library/m/blobs/" + digest, weights)
        self.addCleanup(self.open.set)

    def remove(self, *names):
        for name in names:
            try:
                self.client.delete(name)
            except ollama.ResponseError:
                pass

    def test_a_pull_tells_its_progress_and_the_model_is_there(self):
        parts = list(self.client.pull("m", stream=True))
        self.assertEqual(parts[0].status, "pulling manifest")
        self.assertEqual(parts[-1].status, "success")
        files = [p for p in parts if p.digest]
        self.assertEqual({p.digest for p in files}, {self.registry.layers[0]["digest"]})
        self.assertEqual({p.total for p in files}, {len(self.weights)})
        self.assertEqual(files[-1].completed, len(self.weights))
        self.assertEqual([p.completed for p in files], sorted(p.completed for p in files))
        self.assertEqual(self.client.show("m").details.family, "llama")
        self.assertEqual(self.ask("/api/show", {"model": "m"}).json["system"], "Be kind.")
        self.assertTrue(self.chat(model="m").done)
        self.assertEqual(self.client.pull("m").status, "success", "again is no error")
        self.remove("m")

    def test_two_who_pull_the_same_share_one_download(self):
        self.open.clear()
        self.remove("m")
        before = len(self.registry.asked("/v2/library/m/manifests"))
        one = self.client.pull("m", stream=True)
        self.assertEqual(next(one).status, "pulling manifest")
        joined, states = threading.Event(), []

        def follow():
            for part in ollama.Client(host=f"http://127.0.0.1:{self.daemon.port}").pull("m", stream=True):
                states.append(part.status)
                joined.set()

        other = threading.Thread(target=follow)
        other.start()
        self.assertTrue(joined.wait(support.TIMEOUT))
        self.until(lambda: self.metric(self.daemon, "http_requests_in_flight") == 3)  # with that which asks
        one.close()  # who began it leaves; the other has it still
        self.until(lambda: self.metric(self.daemon, "http_requests_in_flight") == 2)
        self.assertNotIn("success", states)
        self.open.set()
        other.join(support.TIMEOUT)
        self.assertEqual(states[-1], "success")
        self.assertEqual(len(self.registry.asked("/v2/library/m/manifests")) - before, 1)
        self.remove("m")

    def test_a_pull_ends_with_the_last_who_waits_and_is_gone_on_with(self):
        self.remove("m")
        for part in self.client.pull("m", stream=True):  # so that there is a blob to be removed, and time
            pass
        self.remove("m")
        self.open.clear()
        stream = self.client.pull("m", stream=True)
        next(stream)
        stream.close()
        self.until(lambda: self.daemon.ask("GET", "/ui-api/jobs").json["jobs"][-1]["state"] == "ended")  # it has seen that nobody waits
        self.open.set()
        self.refused(404, "not found", self.client.show, "m")
        self.assertEqual(self.client.pull("m").status, "success")
        self.remove("m")

    def test_what_is_not_there_is_told(self):
        for stream in (False, True):
            with self.assertRaises(ollama.ResponseError) as caught:
                list(self.client.pull("no-such-model", stream=stream))
            self.assertIn("404", caught.exception.error)
        self.assertEqual(self.ask("/api/pull", {}).status, 400)
        answer = self.ask("/api/pull", {"model": "/etc/passwd", "stream": False})
        self.assertEqual(answer.status, 400)

    def test_an_insecure_pull_is_as_safe_as_any(self):
        answer = self.ask("/api/pull", {"model": "m", "stream": False, "insecure": True})
        self.assertIn("insecure", answer.json["warnings"][0])
        self.remove("m")


if __name__ == "__main__":
    support.main()
