"""The OpenAI dialect through the official client: every route, streamed and whole, tools, schemas, errors, cancellation.

Runs in the environment of tools/api/requirements.txt. The model is SmolLM2 where it is there, for answers that mean
something, and a tiny random one for everything that must hold whatever the model says.
"""
import concurrent.futures
import json
import os
import threading
import time
import unittest

import openai
import support
import ui_support

SMOL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                   "required": ["city"], "additionalProperties": False}}}  # fmt: skip
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


class OpenAITest(support.ServedTest):
    def setUp(self):
        super().setUp()
        self.client = self.new_client()

    def new_client(self, **options):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.daemon.port}/v1", api_key="none", max_retries=0,
                               timeout=120, **options)  # fmt: skip
        self.addCleanup(client.close)
        return client

    def chat(self, text="Hello", **fields):
        fields = {"max_tokens": 12, "temperature": 0, **fields}
        return self.client.chat.completions.create(model=self.name, messages=[{"role": "user", "content": text}], **fields)

    def refused(self, status, words, **fields):
        with self.assertRaises(openai.APIStatusError) as caught:
            self.chat(**fields)
        self.assertEqual(caught.exception.status_code, status, caught.exception)
        self.assertRegex(caught.exception.message, words)
        return caught.exception.body


class Tiny(OpenAITest):
    def test_models_are_listed_and_found(self):
        listed = self.client.models.list().data
        self.assertIn(self.name, [m.id for m in listed])
        self.assertEqual(self.client.models.retrieve(self.name).id, self.name)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no/such:model")

    def test_a_streamed_answer_is_the_whole_one(self):
        for n in (1, 3):
            whole = self.chat(n=n, seed=7, temperature=1, max_tokens=20)
            parts = [""] * n
            reasons, usage = [None] * n, None
            for event in self.chat(n=n, seed=7, temperature=1, max_tokens=20, stream=True,
                                   stream_options={"include_usage": True}):  # fmt: skip
                for choice in event.choices:
                    parts[choice.index] += choice.delta.content or ""
                    self.assertIsNone(reasons[choice.index], "nothing comes behind the finish")
                    reasons[choice.index] = choice.finish_reason
                usage = event.usage or usage
            self.assertEqual(parts, [c.message.content for c in whole.choices])
            self.assertEqual(reasons, [c.finish_reason for c in whole.choices])
            self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)
            self.assertEqual(usage.prompt_tokens, whole.usage.prompt_tokens)

    def test_greedy_answers_are_the_same_each_time(self):
        first = self.chat("Twice the same")
        self.assertEqual(first.choices[0].message.content, self.chat("Twice the same").choices[0].message.content)

    def test_log_probabilities(self):
        answer = self.chat(logprobs=True, top_logprobs=3, max_tokens=5)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 5)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].bytes, token.bytes, "greedy takes the most likely one")
            self.assertLessEqual(token.logprob, 0)
        streamed = [t for e in self.chat(logprobs=True, top_logprobs=3, max_tokens=5, stream=True)
                    for c in e.choices if c.logprobs for t in c.logprobs.content]  # fmt: skip
        self.assertEqual([t.bytes for t in streamed], [t.bytes for t in content])

    def test_a_bias_forbids_and_forces(self):
        only = self.chat(logit_bias={"33": 100}, max_tokens=4)
        self.assertEqual(only.choices[0].message.content, only.choices[0].message.content[0] * 4)
        self.refused(400, "logit_bias", logit_bias={"x": 1})

    def test_stop_strings_end_an_answer(self):
        letter = self.daemon.ask("POST", "/detokenize", {"tokens": [33]}).json["content"]
        answer = self.chat(logit_bias={"33": 100}, max_tokens=30, stop=[letter * 3])
        self.assertEqual((answer.choices[0].message.content, answer.choices[0].finish_reason), ("", "stop"))
        streamed = "".join(c.delta.content or "" for e in self.chat(logit_bias={"33": 100}, stop=[letter * 3], stream=True)
                           for c in e.choices)  # fmt: skip
        self.assertEqual(streamed, "")

    def test_the_length_is_kept_and_told(self):
        answer = self.chat(max_tokens=3)
        self.assertEqual((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3))
        self.assertEqual(self.chat(max_completion_tokens=2, max_tokens=None).usage.completion_tokens, 2)

    def test_a_schema_binds_the_answer(self):
        schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
                  "required": ["a", "b"], "additionalProperties": False}  # fmt: skip
        wanted = {"type": "json_schema", "json_schema": {"name": "t", "strict": True, "schema": schema}}
        value = json.loads(self.chat(response_format=wanted, max_tokens=100).choices[0].message.content)
        self.assertEqual(set(value), {"a", "b"})
        self.assertIsInstance(value["a"], int)
        json.loads(self.chat(response_format={"type": "json_object"}, max_tokens=150, seed=4).choices[0].message.content)
        bad = {"type": "json_schema", "json_schema": {"name": "t", "schema": {"type": "object", "unevaluatedItems": False}}}
        self.refused(400, "unevaluatedItems", response_format=bad)
        self.refused(400, "unevaluatedItems", response_format=bad, stream=True)

    def test_what_makes_no_sense_is_refused_by_name(self):
        self.refused(400, 'unknown field "frobnicate"', extra_body={"frobnicate": 1})
        self.refused(400, 'did you mean "temperature"', extra_body={"temperatur": 1})
        for field, value in (("temperature", -1), ("top_p", 2), ("n", 0), ("n", 1000), ("max_tokens", 0), ("seed", "x"),
                             ("presence_penalty", "x"), ("stop", [""]), ("tools", {}), ("tool_choice", "never"),
                             ("response_format", {"type": "xml"}), ("priority", 1000), ("modalities", ["audio"]),
                             ("reasoning_effort", "much"), ("stream", 1)):  # fmt: skip
            body = self.refused(400, field, extra_body={field: value})
            self.assertEqual(body["param"], field)
        self.refused(400, "tool_choice", tool_choice="required")
        self.refused(400, "top_logprobs needs logprobs", top_logprobs=2)

    def test_messages_that_cannot_be_read_are_refused_by_place(self):
        for messages, words in (([], "1 to 10000"), ([{"role": "user", "content": 1}], "content is a text"),
                                ([{"role": "king", "content": "x"}], "king"), ([{"content": "x"}], "no role"),
                                ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
                                 "image_url")):  # fmt: skip
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client.chat.completions.create(model=self.name, messages=messages)
            self.assertRegex(caught.exception.message, words)

    def test_an_unknown_model_is_404(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="nonsense", messages=[{"role": "user", "content": "x"}])
        self.assertEqual(caught.exception.body["code"], "model_not_found")

    def test_without_a_model_it_is_400(self):
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
            answer = self.daemon.ask("POST", path, {"messages": [{"role": "user", "content": "x"}]})
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "model"))

    def test_what_ordinary_clients_send_comes_with_a_warning(self):
        answer = self.chat(service_tier="auto", metadata={"a": "b"}, store=False, prompt_cache_key="mine")
        self.assertTrue(any("service_tier" in w for w in answer.warnings), answer)
        self.assertTrue(any("prompt_cache_key" in w for w in answer.warnings), answer)
        self.assertTrue(any("metadata" in w for w in answer.warnings))

    def test_a_prompt_that_does_not_fit_is_told_in_numbers(self):
        body = self.refused(400, r"has \d+ tokens, but the context holds 256", text="word " * 300)
        self.assertEqual(body["code"], "context_length_exceeded")
        long = [{"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "ok"},
                {"role": "user", "content": "Hi"}]  # fmt: skip
        answer = self.client.chat.completions.create(model=self.name, messages=long, max_tokens=4,
                                                     extra_body={"truncation": "auto"})  # fmt: skip
        self.assertTrue(any("were left out" in w for w in answer.warnings), answer)

    def test_completions(self):
        one = self.client.completions.create(model=self.name, prompt="one two", max_tokens=5, temperature=0, echo=True)
        self.assertTrue(one.choices[0].text.startswith("one two"))
        self.assertEqual(one.usage.completion_tokens, 5)
        many = self.client.completions.create(model=self.name, prompt=["one two", "three"], max_tokens=5, temperature=0,
                                              n=2, echo=True)  # fmt: skip
        self.assertEqual([c.index for c in many.choices], [0, 1, 2, 3])
        self.assertEqual([c.text.split()[0][:5] for c in many.choices], ["one", "one", "three", "three"])
        self.assertEqual(many.choices[0].text, one.choices[0].text)
        for _ in range(20):  # each prompt is read by a thread of its own, in any order
            many = self.client.completions.create(model=self.name, prompt=["one two", "three", "four"], max_tokens=1, echo=True)
            self.assertEqual([c.text.split()[0][:4] for c in many.choices], ["one", "thre", "four"])
        tokens = self.client.completions.create(model=self.name, prompt=[1, 2, 3], max_tokens=2, logprobs=2)
        self.assertEqual(len(tokens.choices[0].logprobs.tokens), 2)
        streamed = "".join(c.text for e in self.client.completions.create(
            model=self.name, prompt="one two", max_tokens=5, temperature=0, stream=True) for c in e.choices)  # fmt: skip
        self.assertEqual("one two" + streamed, one.choices[0].text)
        self.assertEqual(self.client.completions.create(model=self.name, prompt="x", logit_bias={"33": 100})
                         .usage.completion_tokens, 16)
        with self.assertRaises(openai.BadRequestError):
            self.client.completions.create(model=self.name, prompt="x", best_of=3)

    def test_embeddings_are_normal_and_say_what_they_are(self):
        texts = ["one two three", "another text", "one two three"]
        made = self.client.embeddings.create(model=self.name, input=texts, encoding_format="float")
        vectors = [e.embedding for e in made.data]
        for vector in vectors:
            self.assertAlmostEqual(sum(x * x for x in vector), 1, places=5)
        self.assertEqual(vectors[0], vectors[2])
        self.assertNotEqual(vectors[0], vectors[1])
        self.assertTrue(any("decoder" in w for w in made.warnings))
        one = self.client.embeddings.create(model=self.name, input=texts[0]).data[0].embedding  # base64 on the wire
        for a, b in zip(one, vectors[0]):
            self.assertAlmostEqual(a, b, places=6)
        ids = [t for t in self.daemon.ask("POST", "/tokenize", {"content": texts[1], "add_special": True}).json["tokens"]]
        self.assertEqual(self.client.embeddings.create(model=self.name, input=[ids], encoding_format="float")
                         .data[0].embedding, vectors[1])  # fmt: skip
        long = self.client.embeddings.create(model=self.name, input=["word " * 40] * 9, encoding_format="float")
        self.assertEqual(long.data[0].embedding, long.data[8].embedding)
        for bad in ("", [], [[]], {"a": 1}, ["x", 1], "word " * 400, [[10**7]]):
            answer = self.daemon.ask("POST", "/v1/embeddings", {"input": bad})
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "input"), answer)
        with self.assertRaises(openai.BadRequestError):
            self.client.embeddings.create(model=self.name, input="x", dimensions=3)

    def test_an_encoder_gives_its_own_vectors_and_no_text(self):
        models = os.path.join(self.home_of_class, "models")
        os.makedirs(models, exist_ok=True)
        name = os.path.basename(support.cli.write_family("bert", models))
        texts = ["one two three", "another " * 40, "one two three"]
        made = self.client.embeddings.create(model=name, input=texts, encoding_format="float")
        self.assertEqual(made.data[0].embedding, made.data[2].embedding)
        self.assertEqual(len(made.data[1].embedding), 80)
        self.assertFalse(any("decoder" in w for w in getattr(made, "warnings", None) or []))
        alone = self.client.embeddings.create(model=name, input=texts[1], encoding_format="float")
        self.assertEqual(alone.data[0].embedding, made.data[1].embedding)
        answer = self.daemon.ask("POST", "/v1/completions", {"model": name, "prompt": "x", "max_tokens": 4})
        self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "model"), answer)
        self.assertIn("writes and predicts no text: it is an encoder", answer.json["error"]["message"])

    def test_the_document_says_what_is_there(self):
        document = self.daemon.ask("GET", "/openapi.json").json
        told = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
        routes = self.succeed("serve", "--routes").json
        self.assertEqual(told, {(r["method"], r["pattern"].replace("...}", "}")) for r in routes})
        bad = {"number": "x", "integer": "x", "boolean": "x", "string": 1, "object": 1, "array": 1}
        n = 0
        for path, item in document["paths"].items():
            schema = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            for name, alternatives in schema.get("properties", {}).items():
                if not alternatives["anyOf"][0].get("type") or name in ("model", "user"):
                    continue
                kind = {k: v["anyOf"][0].get("type") for k, v in schema["properties"].items()}
                good = {k: 5 if k == "max_tokens" else False if kind[k] == "boolean" else
                        "x" if kind[k] == "string" or k in ("model", "prompt", "input", "content") else
                        [{"role": "user", "content": "x"}] for k in schema["required"]}  # fmt: skip
                good.update({"model": self.name} if "model" in kind else {})
                answer = self.daemon.ask("POST", path, {**good, name: bad[alternatives["anyOf"][0]["type"]]})
                self.assertEqual(answer.status, 400, (path, name, answer))
                self.assertIn(name, str(answer.json["error"]), (path, answer))
                n += 1
            if schema.get("additionalProperties") is False:
                model = {"model": self.name} if "model" in schema["properties"] else {}
                answer = self.daemon.ask("POST", path, {**model, "zzz_unknown": 1})
                self.assertEqual(answer.status, 400, answer)
                self.assertIn('unknown field "zzz_unknown"', answer.json["error"] if path.startswith("/api/") else
                              answer.json["error"]["message"])  # fmt: skip
                if not path.startswith(("/v1/messages", "/api/")):  # their errors have no such member
                    self.assertEqual(answer.json["error"]["param"], "zzz_unknown")
        self.assertGreater(n, 150)

    def test_rerank_orders_documents(self):
        models = os.path.join(self.home_of_class, "models")
        os.makedirs(models, exist_ok=True)
        for family in ("xlm-roberta-reranker", "bert-reranker", "modernbert-reranker"):
            with self.subTest(family):
                self.check_rerank(support.cli.write_family(family, models))

    def check_rerank(self, folder):
        ask = {"model": os.path.basename(folder), "query": "one two", "documents": ["the inn", {"text": "rain " * 30}, "one two three", "zzz"]}
        answer = self.daemon.ask("POST", "/v1/rerank", ask)
        self.assertEqual(answer.status, 200, answer)
        found, texts = answer.json["results"], ["the inn", "rain " * 30, "one two three", "zzz"]
        scores = [r["relevance_score"] for r in found]
        self.assertEqual((scores, {r["index"] for r in found}), (sorted(scores, reverse=True), {0, 1, 2, 3}))
        self.assertTrue(all(0 < s < 1 for s in scores) and "warnings" not in answer.json, answer.json)
        alone = self.succeed("rerank", folder, "one two", "--json", "--top", "3", stdin="\n".join(texts).encode()).json
        self.assertEqual([r["index"] for r in alone["results"]], [r["index"] for r in found][:3])
        for a, b in zip(alone["results"], found):
            self.assertAlmostEqual(a["relevance_score"], b["relevance_score"], places=6)
        self.assertEqual(alone["n_tokens"], answer.json["usage"]["prompt_tokens"])
        more = {**ask, "top_n": 2, "return_documents": True, "raw_scores": True, "max_tokens_per_doc": 8}
        cut = self.daemon.ask("POST", "/v1/rerank", more).json
        self.assertEqual(len(cut["results"]), 2)
        self.assertEqual(cut["warnings"], ["2 of 4 documents were cut behind 8 tokens, document 1 the first of them"])
        one = self.daemon.ask("POST", "/v1/rerank", {**more, "documents": ["no", "rain " * 30]}).json
        self.assertEqual(one["warnings"], ["document 1 was cut behind 8 tokens"])
        for r in cut["results"]:
            self.assertEqual(r["document"]["text"], texts[r["index"]])
        many = self.daemon.ask("POST", "/v1/rerank", {**more, "documents": ["no"] + ["rain " * 30] * 40}).json
        self.assertEqual([w for w in many["warnings"] if "cut" in w],
                         ["40 of 41 documents were cut behind 8 tokens, document 1 the first of them"])  # fmt: skip
        told = self.daemon.ask("POST", "/v1/rerank", {**ask, "instruction": "Find the inn."}).json
        self.assertEqual((told["results"], [w.split(":")[0] for w in told["warnings"]]), (answer.json["results"], ["instruction"]))
        for field, value in (("documents", ["x " * 600]), ("documents", [7]), ("documents", [{"title": "x"}]), ("query", None)):
            answer = self.daemon.ask("POST", "/v1/rerank", {**ask, field: value})
            self.assertEqual((answer.status, answer.json["error"]["param"]), (400, field), answer)
        self.assertEqual(self.daemon.ask("POST", "/v1/rerank", {**ask, "documents": []}).json["results"], [])

    def test_a_model_that_cannot_rank_says_so(self):
        answer = self.daemon.ask("POST", "/v1/rerank", {"model": self.name, "query": "x", "documents": ["y"]})
        self.assertEqual((answer.status, answer.json["error"]["param"]), (400, "model"))
        self.assertIn("cannot rank", answer.json["error"]["message"])

    def test_texts_and_tokens(self):
        made = self.daemon.ask("POST", "/tokenize", {"content": "The one", "with_pieces": True}).json
        self.assertEqual("".join(t["piece"] for t in made["tokens"]), "The one")
        ids = [t["id"] for t in made["tokens"]]
        self.assertEqual(self.daemon.ask("POST", "/detokenize", {"tokens": ids}).json["content"], "The one")
        shown = self.daemon.ask("POST", "/apply-template", {"messages": [{"role": "user", "content": "Hi"}]}).json
        self.assertIn("Hi", shown["prompt"])
        self.assertEqual(self.daemon.ask("POST", "/detokenize", {"tokens": [10**6]}).status, 400)
        self.assertEqual(self.daemon.ask("POST", "/infill", {"input_prefix": "a", "input_suffix": "b"}).status, 400)

    def test_a_body_that_is_no_json_is_400(self):
        for body in ('{"a":', "[]", "1", '{"messages":[],"messages":[]}', "\x00"):
            answer = self.daemon.ask("POST", "/v1/chat/completions", body, [("Content-Type", "application/json")])
            self.assertEqual(answer.status, 400, answer)

    def test_many_at_once_get_their_own_answers(self):
        alone = {i: self.chat(f"Number {i}", max_tokens=16).choices[0].message.content for i in range(12)}
        seen, problems = {}, []

        def ask(i):
            try:
                seen[i] = "".join(c.delta.content or "" for e in self.chat(f"Number {i}", max_tokens=16, stream=True)
                                  for c in e.choices)  # fmt: skip
            except Exception as problem:  # pylint: disable=broad-except
                problems.append(problem)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual((problems, seen), ([], alone))


class Leaving(support.ApiTest):
    def test_a_client_that_leaves_stops_its_work(self):
        """Its answer has more events than lie between a daemon and a client that does not read: it cannot have ended before."""
        daemon = self.serve("--model", ui_support.long_model(), "--threads", "1")
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="none", max_retries=0, timeout=120)
        self.addCleanup(client.close)
        stream = client.chat.completions.create(model="qwen2", messages=[{"role": "user", "content": "Hello"}], max_tokens=12000, n=4,
                                                stream=True, logit_bias={"33": 100}, logprobs=True, top_logprobs=20)  # fmt: skip
        next(e for e in stream if any(c.delta.content for c in e.choices))  # what comes before a token may come without any
        stream.close()
        self.until_idle(daemon)
        self.assertLess(self.metric(daemon, "generation_tokens_total"), 4 * 12000)
        self.assertEqual(daemon.stop(), 0)


class Responses(OpenAITest):
    def create(self, **fields):
        fields = {"input": "Hello", "max_output_tokens": 12, "temperature": 0, **fields}
        return self.client.responses.create(model=self.name, **fields)

    def test_a_response_is_made_kept_and_deleted(self):
        made = self.create(metadata={"a": "b"}, instructions="Be brief.")
        self.assertIn(made.status, ("completed", "incomplete"))
        self.assertEqual(made.metadata, {"a": "b"})
        self.assertEqual(self.client.responses.retrieve(made.id).output_text, made.output_text)
        self.assertEqual(self.client.responses.input_items.list(made.id).data[0].content[0].text, "Hello")
        self.client.responses.delete(made.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(made.id)

    def test_what_is_not_stored_is_not_there(self):
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve(self.create(store=False).id)

    def test_the_next_turn_goes_on(self):
        first = self.create()
        second = self.create(input="And then?", previous_response_id=first.id)
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens + first.usage.output_tokens)
        self.assertEqual(second.previous_response_id, first.id)
        with self.assertRaises(openai.BadRequestError):
            self.create(previous_response_id="resp_nothing")

    def test_events_tell_the_whole_response(self):
        whole = self.create()
        kinds, text, last, numbers = [], "", None, []
        for event in self.create(stream=True):
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
            last = event
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertEqual(kinds[:4], ["response.created", "response.in_progress", "response.output_item.added",
                                     "response.content_part.added"])  # fmt: skip
        self.assertEqual(kinds[-4:-1], ["response.output_text.done", "response.content_part.done",
                                        "response.output_item.done"])  # fmt: skip
        self.assertIn(kinds[-1], ("response.completed", "response.incomplete"))
        self.assertEqual((text, last.response.output_text), (whole.output_text, whole.output_text))

    def test_a_schema_binds_the_text(self):
        schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
                  "additionalProperties": False}  # fmt: skip
        made = self.create(text={"format": {"type": "json_schema", "name": "t", "schema": schema}}, max_output_tokens=60)
        self.assertIsInstance(json.loads(made.output_text)["a"], bool)

    def test_in_the_background_it_can_be_cancelled(self):
        made = self.create(background=True, max_output_tokens=200)
        self.assertEqual(made.status, "in_progress")
        state = self.client.responses.cancel(made.id).status
        self.assertIn(state, ("cancelled", "completed", "incomplete"))
        self.assertEqual(self.client.responses.retrieve(made.id).status, state)
        with self.assertRaises(openai.BadRequestError):
            self.client.responses.cancel(self.create().id)

    def test_in_the_background_it_is_cancelled_or_done_whenever_that_comes(self):
        """Also while its last version is on its way to the disk, where it is still in progress."""

        def try_once(delay):
            made = self.create(background=True, max_output_tokens=2, truncation="auto",
                               input=[{"role": "user", "content": "x" * 200000}, {"role": "user", "content": "Hello"}])  # fmt: skip
            time.sleep(delay)
            state = self.client.responses.cancel(made.id).status
            return state, self.client.responses.retrieve(made.id).status

        delays = [i * 0.0015 for i in range(64)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(try_once, delays))
        for told, kept in seen:
            self.assertIn(told, ("cancelled", "completed", "incomplete"))
            self.assertEqual(kept, told)

    def test_in_the_background_it_gets_done(self):
        made = self.create(background=True)
        self.until(lambda: self.client.responses.retrieve(made.id).status != "in_progress")
        made = self.client.responses.retrieve(made.id)
        self.assertEqual(made.output_text, self.create().output_text)

    def test_what_makes_no_sense_is_refused_by_name(self):
        for field, value in (("input", []), ("input", 1), ("input", [{"type": "item_reference", "id": "x"}]),
                             ("text", {"format": {"type": "xml"}}), ("include", ["nothing"]), ("nonsense", 1),
                             ("reasoning", {"effort": "much"})):  # fmt: skip
            with self.assertRaises(openai.BadRequestError, msg=field) as caught:
                self.create(extra_body={field: value})
            self.assertIn(field if field != "reasoning" else "effort", caught.exception.message)


class KeptResponses(support.ApiTest):
    """Responses outlive the process that made them."""

    def serve_tiny(self):
        daemon = self.serve("--model", os.path.join(support.tiny_models(), "qwen2.gguf"), "--threads", "1")
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{daemon.port}/v1", api_key="none", max_retries=0, timeout=120)
        self.addCleanup(client.close)
        return daemon, client

    @staticmethod
    def create(client, **fields):
        return client.responses.create(model="qwen2", **{"input": "Hello", "max_output_tokens": 12, "temperature": 0, **fields})

    def test_what_was_told_is_there_after_the_daemon_was_killed(self):
        daemon, client = self.serve_tiny()
        made = [self.create(client, input=f"Number {i}", metadata={"i": str(i)}) for i in range(5)]
        streamed = [e for e in self.create(client, stream=True)][-1].response
        client.responses.delete(made[0].id)
        running = self.create(client, background=True, max_output_tokens=200, extra_body={"logit_bias": {"33": 100}})
        daemon.process.kill()
        daemon.process.wait()
        _, client = self.serve_tiny()
        for response in [*made[1:], streamed]:
            again = client.responses.retrieve(response.id)
            self.assertEqual(again.to_dict(), response.to_dict())
            self.assertEqual(client.responses.input_items.list(response.id).data[0].role, "user")
        with self.assertRaises(openai.NotFoundError):
            client.responses.retrieve(made[0].id)
        self.assertIn(client.responses.retrieve(running.id).status, ("failed", "completed", "incomplete"))
        after = self.create(client, input="And then?", previous_response_id=made[1].id)
        self.assertGreater(after.usage.input_tokens, made[1].usage.input_tokens)
        client.responses.delete(made[1].id)
        with self.assertRaises(openai.BadRequestError):
            self.create(client, previous_response_id=made[1].id)

    def test_what_is_deleted_is_not_in_the_file_any_more(self):
        _, client = self.serve_tiny()
        made = self.create(client, input="a secret nobody should find")
        path = os.path.join(self.models, ".mlxr", "responses.db")
        with open(path, "rb") as file:
            self.assertIn(b"a secret nobody should find", file.read())
        client.responses.delete(made.id)
        with open(path, "rb") as file:
            self.assertNotIn(b"a secret nobody should find", file.read())
        self.create(client, store=False, input="another secret")
        with open(path, "rb") as file:
            self.assertNotIn(b"another secret", file.read())

    def test_one_that_is_made_in_the_background_can_be_deleted(self):
        daemon, client = self.serve_tiny()
        made = self.create(client, background=True, max_output_tokens=200, extra_body={"logit_bias": {"33": 100}})
        client.responses.delete(made.id)
        self.until_idle(daemon)
        with self.assertRaises(openai.NotFoundError):
            client.responses.retrieve(made.id)

    def test_a_file_that_cannot_be_used_is_told_and_answers_go_on(self):
        path = os.path.join(self.models, ".mlxr", "responses.db")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"this is no database" * 500)
        daemon, client = self.serve_tiny()
        made = self.create(client)
        self.assertTrue(any("could not be kept" in w for w in made.warnings), made)
        self.assertNotIn(self.models, str(made.warnings))
        self.assertEqual(daemon.ask("GET", "/v1/responses/resp_x").status, 500)
        self.assertEqual(daemon.ask("GET", "/v1/models").status, 200)


@unittest.skipUnless(os.path.exists(SMOL), "SmolLM2 is not in the model directory")
class Real(OpenAITest):
    MODEL = SMOL

    def test_an_answer_makes_sense(self):
        answer = self.chat("What is the capital of France? Answer in one word.", max_tokens=16)
        self.assertIn("Paris", answer.choices[0].message.content)

    def test_a_follow_up_reuses_the_tokens_of_the_turn_before(self):
        messages = [{"role": "user", "content": "Tell me a story about a dog."}]
        first = self.client.chat.completions.create(model=self.name, messages=messages, max_tokens=64, temperature=0)
        n = first.usage.prompt_tokens + first.usage.completion_tokens
        messages += [{"role": "assistant", "content": first.choices[0].message.content},
                     {"role": "user", "content": "And then?"}]  # fmt: skip
        second = self.client.chat.completions.create(model=self.name, messages=messages, max_tokens=4, temperature=0)
        self.assertGreaterEqual(second.usage.prompt_tokens_details.cached_tokens, n // 32 * 32)

    def test_forced_calls_fit_their_schema(self):
        for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
            answer = self.chat(tools=[WEATHER, NOW], tool_choice=choice, max_tokens=120).choices[0]
            self.assertEqual(answer.finish_reason, "tool_calls")
            call = answer.message.tool_calls[0]
            self.assertIn(call.function.name, ("get_weather", "now") if choice == "required" else ("get_weather",))
            arguments = json.loads(call.function.arguments)
            if call.function.name == "get_weather":
                self.assertIsInstance(arguments["city"], str)
            self.assertTrue(call.id)

    def test_several_calls_can_be_forced(self):
        tools = [WEATHER, NOW]
        ask = "Call get_weather for Paris, then get_weather for Rome, then get_weather for Berlin."
        seen = set()
        for seed in range(12):
            calls = self.chat(ask, tools=tools, tool_choice="required", temperature=1.2, seed=seed, max_tokens=400).choices[0]
            found = calls.message.tool_calls or []
            seen.add(min(len(found), 2))
            for call in found:
                json.loads(call.function.arguments)
            self.assertEqual(len({c.id for c in found}), len(found))
            single = self.chat(ask, tools=tools, tool_choice="required", temperature=1.2, seed=seed, max_tokens=400,
                               parallel_tool_calls=False).choices[0]  # fmt: skip
            self.assertLessEqual(len(single.message.tool_calls or []), 1)
            if seen == {1, 2}:
                break
        self.assertIn(2, seen, "no seed gave two calls")
        named = self.chat(ask, tools=tools, tool_choice={"type": "function", "function": {"name": "now"}}, max_tokens=200)
        self.assertEqual([c.function.name for c in named.choices[0].message.tool_calls], ["now"])

    def test_a_turn_behind_forced_calls_reuses_their_tokens(self):
        messages = [{"role": "user", "content": "What is the weather in Paris? Answer with one call."}]
        fields = dict(model=self.name, tools=[WEATHER], temperature=0, parallel_tool_calls=False)
        first = self.client.chat.completions.create(messages=messages, tool_choice="required", max_tokens=200, **fields)
        self.assertEqual(first.choices[0].finish_reason, "tool_calls")
        answer = first.choices[0].message
        messages.append({"role": "assistant", "content": answer.content, "tool_calls": [c.to_dict() for c in answer.tool_calls]})
        messages += [{"role": "tool", "tool_call_id": c.id, "content": "sunny"} for c in answer.tool_calls]
        second = self.client.chat.completions.create(messages=messages, max_tokens=4, **fields)
        n = first.usage.prompt_tokens + first.usage.completion_tokens
        self.assertGreaterEqual(second.usage.prompt_tokens_details.cached_tokens, (n - 2) // 32 * 32)

    def test_strict_tools_are_warned_of_where_no_call_is_forced(self):
        strict = {"type": "function", "function": dict(WEATHER["function"], strict=True)}
        for choice, warned in (("auto", True), ("required", False)):
            answer = self.chat(tools=[strict], tool_choice=choice, max_tokens=120)
            told = getattr(answer, "warnings", None) or []
            self.assertEqual(any("strict" in w for w in told), warned, answer)

    def test_a_streamed_call_is_the_whole_one(self):
        fields = dict(tools=[WEATHER], tool_choice="required", max_tokens=120, seed=3)
        whole = self.chat(**fields).choices[0].message.tool_calls[0]
        name, arguments, reason = "", "", None
        for event in self.chat(stream=True, **fields):
            for choice in event.choices:
                for call in choice.delta.tool_calls or []:
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
                reason = choice.finish_reason or reason
        self.assertEqual((name, arguments, reason), (whole.function.name, whole.function.arguments, "tool_calls"))

    def test_results_of_tools_go_back(self):
        call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
        answer = self.client.chat.completions.create(
            model=self.name, max_tokens=5, tools=[NOW],
            messages=[{"role": "user", "content": "When?"}, {"role": "assistant", "tool_calls": [call]},
                      {"role": "tool", "tool_call_id": "call_1", "content": "12:30"}])  # fmt: skip
        self.assertGreater(answer.usage.prompt_tokens, 5)

    def respond(self, **fields):
        fields = {"input": "Hello", "max_output_tokens": 12, "temperature": 0, **fields}
        return self.client.responses.create(model=self.name, **fields)

    def test_calls_are_items(self):
        tool = {"type": "function", **WEATHER["function"]}
        made = self.respond(tools=[tool], tool_choice="required", max_output_tokens=120)
        call = next(i for i in made.output if i.type == "function_call")
        self.assertIn("city", json.loads(call.arguments))
        arguments = [e.arguments for e in self.respond(tools=[tool], tool_choice="required", max_output_tokens=120, stream=True)
                     if e.type == "response.function_call_arguments.done"]  # fmt: skip
        self.assertEqual(arguments, [i.arguments for i in made.output if i.type == "function_call"])
        after = self.respond(previous_response_id=made.id, tools=[tool],
                            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])  # fmt: skip
        self.assertGreater(after.usage.input_tokens, made.usage.input_tokens)

    def test_headers_that_change_do_not_break_a_prefix(self):
        system = "You are a helpful assistant. " * 12
        def ask(tag):
            return self.client.chat.completions.create(
                model=self.name, max_tokens=2, temperature=0,
                messages=[{"role": "system", "content": f"x-anthropic-billing-header: cc_version=2.1; cch={tag};\n{system}"},
                          {"role": "user", "content": "Hi"}])  # fmt: skip
        ask("a1b2c")
        again = ask("99999")
        self.assertGreaterEqual(again.usage.prompt_tokens_details.cached_tokens, 64)
        self.assertTrue(any("header line" in w for w in again.warnings))


if __name__ == "__main__":
    support.main()
