"""The Anthropic dialect through the official client: every route, streamed and whole, tools, thinking, errors, cancellation.

Runs in the environment of tools/api/requirements.txt. The model is SmolLM2 where it is there, for answers that mean
something, and a tiny random one for everything that must hold whatever the model says.
"""
import json
import os
import shutil
import tempfile
import threading
import unittest

import anthropic
import support
import ui_support

SMOL = os.path.join(support.cli.real_models(), "SmolLM2-135M-Instruct.Q4_1.gguf")
WEATHER = {"name": "get_weather", "description": "The weather of a city",
           "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                            "required": ["city"], "additionalProperties": False}}  # fmt: skip
NOW = {"name": "now", "input_schema": {"type": "object", "properties": {}}}
# Reasons before each answer unless it is told not to.
THINKER = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n"
    "</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
    "{% endif %}"
)


class AnthropicTest(support.ServedTest):
    def setUp(self):
        super().setUp()
        self.client = self.new_client()

    def new_client(self, **options):
        options = {"api_key": "none", "max_retries": 0, "timeout": 120, **options}
        client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{self.daemon.port}", **options)
        self.addCleanup(client.close)
        return client

    def fields(self, text="Hello", **fields):
        return {"model": self.name, "max_tokens": 12, "messages": [{"role": "user", "content": text}],
                **({} if "extra_body" in fields else {}), "temperature": 0, **fields}  # fmt: skip

    def create(self, text="Hello", **fields):
        fields = self.fields(text, **fields)
        own = {"temperature": fields.pop("temperature"), **fields.pop("extra_body", {})}
        return self.client.messages.create(extra_body=own, **fields)

    def count(self, **fields):
        fields = self.fields(**fields)
        fields.pop("max_tokens")
        fields.pop("temperature")
        return self.client.messages.count_tokens(**fields).input_tokens

    def refused(self, status, words, **fields):
        with self.assertRaises(anthropic.APIStatusError) as caught:
            self.create(**fields)
        self.assertEqual(caught.exception.status_code, status, caught.exception)
        self.assertRegex(caught.exception.message, words)
        return caught.exception

    @staticmethod
    def text_of(message):
        return "".join(b.text for b in message.content if b.type == "text")


class Tiny(AnthropicTest):
    def test_a_message_has_all_its_parts(self):
        made = self.create()
        self.assertEqual((made.type, made.role, made.model), ("message", "assistant", self.name))
        self.assertTrue(made.id.startswith("msg_"))
        self.assertEqual((made.stop_reason, made.stop_sequence, made.usage.output_tokens), ("max_tokens", None, 12))
        self.assertEqual([b.type for b in made.content], ["text"])
        self.assertEqual(made.usage.service_tier, "standard")
        self.assertTrue(made._request_id)  # pylint: disable=protected-access

    def test_a_streamed_message_is_the_whole_one(self):
        whole = self.create(max_tokens=24)
        kinds, text = [], ""
        for event in self.create(max_tokens=24, stream=True):
            kinds.append(event.type)
            if event.type == "content_block_delta":
                self.assertEqual((event.index, event.delta.type), (0, "text_delta"))
                text += event.delta.text
            last = event if event.type == "message_delta" else None if event.type == "message_start" else last
        self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual((text, last.delta.stop_reason), (self.text_of(whole), whole.stop_reason))
        self.assertEqual(last.usage.output_tokens, whole.usage.output_tokens)
        self.assertEqual(last.usage.input_tokens + last.usage.cache_read_input_tokens,
                         whole.usage.input_tokens + whole.usage.cache_read_input_tokens)  # fmt: skip

    def test_the_stream_helper_collects_the_same_message(self):
        whole = self.create(max_tokens=24)
        fields = self.fields(max_tokens=24)
        fields["extra_body"] = {"temperature": fields.pop("temperature")}
        with self.client.messages.stream(**fields) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual((text, self.text_of(final)), (self.text_of(whole),) * 2)
        self.assertEqual((final.stop_reason, final.usage.output_tokens), (whole.stop_reason, whole.usage.output_tokens))

    def test_events_are_named_as_their_type_and_pings_come(self):
        body = {"model": self.name, "max_tokens": 3, "stream": True, "messages": [{"role": "user", "content": "x"}]}
        answer = self.daemon.ask("POST", "/v1/messages", body)
        self.assertEqual(answer.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertTrue(answer.headers["request-id"])
        blocks = [b.split("\n") for b in answer.body.decode().strip().split("\n\n")]
        names = [b[0][len("event: ") :] for b in blocks]
        self.assertEqual(names, [json.loads(b[1][len("data: ") :])["type"] for b in blocks])
        self.assertEqual(names[:2], ["message_start", "ping"])

    def test_what_was_read_before_is_told_as_cached(self):
        text = "The same words again and again. " * 8
        marked = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        first = self.create(system=marked).usage
        again = self.create(system=marked).usage
        self.assertGreaterEqual(again.cache_read_input_tokens, 32)
        self.assertEqual(first.input_tokens + first.cache_read_input_tokens,
                         again.input_tokens + again.cache_read_input_tokens)  # fmt: skip
        self.refused(400, "cache_control", system=[{"type": "text", "text": "x", "cache_control": {"type": "eternal"}}])

    def test_tokens_are_counted_as_a_message_counts_them(self):
        for fields in ({}, {"system": "Be brief."}, {"system": [{"type": "text", "text": "Be brief."}]}):
            usage = self.create(**fields).usage
            self.assertEqual(self.count(**fields), usage.input_tokens + usage.cache_read_input_tokens, fields)
        self.assertEqual(self.count(system="Be brief."), self.count(system=[{"type": "text", "text": "Be brief."}]))
        self.assertGreater(self.count(text="word " * 1000), 256)  # more than the context: counted all the same
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.count_tokens(model="nonsense", messages=[{"role": "user", "content": "x"}])

    def test_a_stop_sequence_ends_a_message_and_is_named(self):
        letter = self.daemon.ask("POST", "/detokenize", {"tokens": [33]}).json["content"]
        fields = {"stop_sequences": ["never met", letter * 3], "extra_body": {"logit_bias": {"33": 100}}, "max_tokens": 30}
        made = self.create(**fields)
        self.assertEqual((made.stop_reason, made.stop_sequence, self.text_of(made)), ("stop_sequence", letter * 3, ""))
        last = [e for e in self.create(stream=True, **fields) if e.type == "message_delta"][0]
        self.assertEqual((last.delta.stop_reason, last.delta.stop_sequence), ("stop_sequence", letter * 3))

    def test_a_full_context_is_told(self):
        made = self.create(max_tokens=100000, extra_body={"logit_bias": {"33": 100}})
        self.assertEqual(made.stop_reason, "model_context_window_exceeded")
        problem = self.refused(400, r"has \d+ tokens, but the context holds 256", text="word " * 300)
        self.assertEqual(problem.body["error"]["type"], "invalid_request_error")
        long = [{"role": "user", "content": "word " * 100}, {"role": "assistant", "content": "ok"},
                {"role": "user", "content": "Hi"}]  # fmt: skip
        made = self.create(messages=long, extra_body={"truncation": "auto"}, max_tokens=4)
        self.assertTrue(any("were left out" in w for w in made.warnings), made)

    def test_samplers_of_both_kinds_are_taken(self):
        made = self.create(temperature=1, extra_body={"top_k": 1, "top_p": 0.9, "seed": 3, "min_p": 0.05})
        self.assertEqual(self.text_of(made), self.text_of(self.create()))

    def test_turns_and_blocks_become_one_conversation(self):
        same = [[{"role": "user", "content": "one\n\ntwo"}],
                [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}],
                [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
                [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain",
                                                                              "data": "one"}},
                                              {"type": "text", "text": "two"}]}]]  # fmt: skip
        texts = [self.text_of(self.create(messages=m)) for m in same]
        self.assertEqual(texts, [texts[0]] * 4)

    def test_the_beginning_of_an_answer_is_gone_on_with(self):
        whole = self.text_of(self.create(max_tokens=16))
        for cut in (1, len(whole) // 2):
            begun = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": whole[:cut]}]
            self.assertEqual(self.count(messages=begun), self.count() + self.tokens(whole[:cut]))
        self.assertGreater(self.create(messages=begun).usage.output_tokens, 0)

    def tokens(self, text):
        return self.daemon.ask("POST", "/tokenize", {"content": text}).json["count"]

    def test_results_of_tools_go_back(self):
        messages = [{"role": "user", "content": "When?"},
                    {"role": "assistant", "content": [{"type": "text", "text": "Let me see."},
                                                      {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:30"},
                                                 {"type": "text", "text": "Thanks."}]}]  # fmt: skip
        plain = self.count(messages=messages, tools=[NOW])
        messages[2]["content"][0]["content"] = [{"type": "text", "text": "12:30"}]
        self.assertEqual(self.count(messages=messages, tools=[NOW]), plain)
        messages[2]["content"][0]["is_error"] = True
        self.assertGreater(self.count(messages=messages, tools=[NOW]), plain)

    def test_tools_are_not_told_where_none_may_be_called(self):
        self.assertEqual(self.count(tools=[NOW], tool_choice={"type": "none"}), self.count())
        self.assertGreater(self.count(tools=[NOW]), self.count())

    def test_a_schema_binds_the_answer(self):
        schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
                  "additionalProperties": False}  # fmt: skip
        form = {"type": "json_schema", "schema": schema}
        for body in ({"output_config": {"format": form}}, {"output_format": form}):
            self.assertIsInstance(json.loads(self.text_of(self.create(extra_body=body, max_tokens=60)))["a"], bool)
        self.refused(400, "output_config", extra_body={"output_config": {"format": form}, "tools": [NOW]})
        bad = {"output_config": {"format": {"type": "json_schema", "schema": {"unevaluatedItems": False}}}}
        self.refused(400, "unevaluatedItems", extra_body=bad)
        self.refused(400, "unevaluatedItems", extra_body=bad, stream=True)

    def test_what_makes_no_sense_is_refused_by_name(self):
        for field, value in (("frobnicate", 1), ("temperature", -1), ("top_k", -1), ("top_p", 2), ("max_tokens", 0),
                             ("stop_sequences", [""]), ("tools", {}), ("tool_choice", "auto"),
                             ("tool_choice", {"type": "any"}), ("tool_choice", {"type": "sometimes"}),
                             ("system", 1), ("system", [{"type": "image"}]), ("thinking", {"type": "maybe"}),
                             ("thinking", {"type": "between_tools"}), ("thinking", {"type": "enabled"}), ("thinking", {"type": "enabled", "budget_tokens": 1}),
                             ("thinking", {"type": "enabled", "budget_tokens": 2048}), ("metadata", {"user": "x"}),
                             ("metadata", {"user_id": 1}), ("service_tier", "gold"), ("stream", 1), ("n", 2),
                             ("logprobs", True), ("container", "abc"), ("mcp_servers", [{"type": "url"}]),
                             ("output_config", {"effort": "some"}), ("output_config", {"nonsense": 1}),
                             ("tools", [{"name": "x"}]), ("tools", [{"type": "web_search_20250305", "name": "web_search"}]),
                             ("tools", [{**NOW, "nonsense": 1}]), ("cache_control", {"type": "x"})):  # fmt: skip
            problem = self.refused(400, field, extra_body={field: value})
            self.assertEqual(problem.body["error"]["type"], "invalid_request_error")
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.client.post("/v1/messages", body={"model": self.name, "messages": [{"role": "user", "content": "x"}]},
                             cast_to=object)  # fmt: skip
        self.assertIn("max_tokens", caught.exception.message)

    def test_messages_that_cannot_be_read_are_refused_by_place(self):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
        pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}
        for messages, words in (([], "messages"), ([{"role": "king", "content": "x"}], "king"),
                                ([{"role": "user", "content": []}], r"messages\[0\].content"),
                                ([{"role": "user", "content": 1}], r"messages\[0\].content"),
                                ([{"role": "user", "content": "x", "name": "y"}], '"name"'),
                                ([{"role": "user", "content": [image]}], r"messages\[0\].content\[0\] is of type 'image'"),
                                ([{"role": "user", "content": [pdf]}], "'document'; only text"),
                                ([{"role": "user", "content": [{"type": "video"}]}], "'video'"),
                                ([{"role": "user", "content": [{"type": "text"}]}], "no text"),
                                ([{"role": "user", "content": [{"type": "text", "text": "x", "y": 1}]}], '"y"'),
                                ([{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}], "tool_use_id"),
                                ([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x",
                                                                "content": [image]}]}], "'image'"),
                                ([{"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "y"}]}],
                                 "input")):  # fmt: skip
            self.refused(400, words, messages=messages)

    def test_errors_have_the_clients_types(self):
        problem = self.refused(404, "nonsense", model="nonsense")
        self.assertIsInstance(problem, anthropic.NotFoundError)
        self.assertEqual((problem.type, problem.body["type"]), ("not_found_error", "error"))
        self.assertEqual(problem.request_id, problem.body["request_id"])
        with self.assertRaises(anthropic.NotFoundError) as caught:
            self.client.get("/v1/messages/batches", cast_to=object)
        self.assertEqual(caught.exception.body["type"], "error")
        for version in ("2022-01-01", "newest", "2023-6-1"):
            self.refused(400, f"anthropic-version: {version}", extra_headers={"anthropic-version": version})
        made = self.create(extra_headers={"anthropic-version": "2099-01-01"})
        self.assertTrue(any("anthropic-version" in w for w in made.warnings))
        for version in ("2023-06-01", "2026-10-21"):
            self.assertFalse(hasattr(self.create(extra_headers={"anthropic-version": version}), "warnings"))
        for body in ('{"model":', "[]", "\x00"):
            answer = self.daemon.ask("POST", "/v1/messages", body, [("Content-Type", "application/json")])
            self.assertEqual((answer.status, answer.json["error"]["type"]), (400, "invalid_request_error"))

    def test_keys_are_taken_in_both_headers(self):
        home = support.temporary_folder(self)
        env = self.environment(HOME=home)
        key = json.loads(self.succeed("key", "create", "--json", env=env).out)["key"]
        daemon = support.Daemon("--model", self.model_path(), "--threads", "1", env=env)
        self.addCleanup(self._end, daemon)
        url = f"http://127.0.0.1:{daemon.port}"
        for options in ({"api_key": key}, {"auth_token": key, "api_key": None}):
            with anthropic.Anthropic(base_url=url, max_retries=0, **options) as client:
                self.assertEqual(client.messages.create(**self.with_body(max_tokens=2)).usage.output_tokens, 2)
        with anthropic.Anthropic(base_url=url, max_retries=0, api_key="wrong") as client:
            with self.assertRaises(anthropic.AuthenticationError) as caught:
                client.messages.create(**self.with_body(max_tokens=2))
            self.assertEqual(caught.exception.type, "authentication_error")

    def with_body(self, **fields):
        fields = self.fields(**fields)
        fields["extra_body"] = {"temperature": fields.pop("temperature")}
        return fields

    def test_models_are_listed_in_their_form(self):
        listed = self.client.models.list()
        self.assertIn(self.name, [m.id for m in listed.data])
        one = self.client.models.retrieve(self.name)
        self.assertEqual((one.type, one.id, one.display_name, one.max_input_tokens), ("model", self.name, self.name, 256))
        with self.assertRaises(anthropic.NotFoundError) as caught:
            self.client.models.retrieve("no-such-model")
        self.assertEqual(caught.exception.type, "not_found_error")
        plain = self.daemon.ask("GET", "/v1/models").json
        self.assertEqual(plain["object"], "list")

    def test_lists_of_models_come_in_pages(self):
        for name in ("a-copy", "b-copy", "c-copy"):
            shutil.copy(self.model_path(), os.path.join(self.home_of_class, "models", name + ".gguf"))
        names = [m.id for m in self.client.models.list(limit=2)]  # pages by itself
        self.assertEqual(names, [m.id for m in self.client.models.list(limit=1000).data])
        self.assertGreaterEqual(len(names), 4)
        page = self.client.models.list(limit=2, after_id=names[1])
        self.assertEqual([m.id for m in page.data], names[2:4])
        self.assertEqual([m.id for m in self.client.models.list(limit=1, before_id=names[2]).data], names[1:2])
        for bad in ({"limit": 0}, {"limit": 1001}, {"limit": "0" * 20 + "1"}, {"after_id": "nothing"},
                    {"after_id": "n" * 300}, {"before_id": "n" * 300}):  # fmt: skip
            with self.assertRaises(anthropic.BadRequestError):
                self.client.models.list(**bad)

    def test_many_at_once_get_their_own_answers(self):
        alone = {i: self.text_of(self.create(f"Number {i}", max_tokens=16)) for i in range(12)}
        seen, problems = {}, []

        def ask(i):
            try:
                seen[i] = "".join(e.delta.text for e in self.create(f"Number {i}", max_tokens=16, stream=True)
                                  if e.type == "content_block_delta")  # fmt: skip
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
        client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{daemon.port}", api_key="none", max_retries=0, timeout=120)
        self.addCleanup(client.close)
        stream = client.messages.create(model="qwen2", messages=[{"role": "user", "content": "Hello"}], max_tokens=12000, stream=True,
                                        extra_body={"logit_bias": {"33": 100}})  # fmt: skip
        next(e for e in stream if e.type == "content_block_delta")  # what comes before a token may come without any
        stream.close()
        self.until_idle(daemon)
        self.assertLess(self.metric(daemon, "generation_tokens_total"), 12000)
        self.assertEqual(daemon.stop(), 0)


class Thinking(AnthropicTest):
    """A model whose template opens reasoning."""

    @classmethod
    def model_path(cls):
        cls.folder = getattr(cls, "folder", None) or tempfile.mkdtemp(prefix="mlxr-thinker-")
        path = os.path.join(cls.folder, "thinker.gguf")
        return support.write_with_template(os.path.join(support.tiny_models(), "qwen2.gguf"), path, THINKER)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder, True)

    def test_reasoning_is_a_block_of_its_own(self):
        made = self.create()
        self.assertEqual([b.type for b in made.content], ["thinking"])
        self.assertTrue(made.content[0].thinking)
        self.assertTrue(made.content[0].signature)
        self.assertEqual(made.usage.output_tokens_details.thinking_tokens, 12)
        kinds = [(e.type, getattr(getattr(e, "delta", None), "type", None)) for e in self.create(stream=True)]
        self.assertIn(("content_block_delta", "thinking_delta"), kinds)
        self.assertEqual(kinds[-4:-2], [("content_block_delta", "signature_delta"), ("content_block_stop", None)])

    def test_it_can_be_left_out_or_hidden(self):
        self.assertEqual([b.type for b in self.create(thinking={"type": "disabled"}).content], ["text"])
        hidden = self.create(thinking={"type": "adaptive", "display": "omitted"})
        self.assertEqual([(b.type, b.thinking) for b in hidden.content], [("thinking", "")])
        on = self.create(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
        self.assertEqual(on.content[0].type, "thinking")
        self.assertTrue(any("budget_tokens" in w for w in on.warnings))

    def test_it_goes_back_as_what_it_was(self):
        made = self.create()
        turn = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": made.content[0].to_dict()},
                {"role": "user", "content": "And?"}]  # fmt: skip
        turn[1]["content"] = [made.content[0].to_dict()]
        with_it = self.count(messages=turn)
        turn[1]["content"] = [{"type": "redacted_thinking", "data": "abc"}]
        self.assertGreater(with_it, self.count(messages=turn) + 10)
        self.assertTrue(any("redacted" in w for w in self.create(messages=turn).warnings))


@unittest.skipUnless(os.path.exists(SMOL), "SmolLM2 is not in the model directory")
class Real(AnthropicTest):
    MODEL = SMOL

    def test_an_answer_makes_sense(self):
        made = self.create("What is the capital of France? Answer in one word.", max_tokens=16, system="Be brief.")
        self.assertIn("Paris", self.text_of(made))
        self.assertEqual(made.stop_reason, "end_turn")

    def test_forced_calls_fit_their_schema(self):
        for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
            made = self.create("What is the weather in Paris?", tools=[WEATHER, NOW], tool_choice=choice, max_tokens=160)
            call = next(b for b in made.content if b.type == "tool_use")
            self.assertEqual(made.stop_reason, "tool_use")
            self.assertRegex(call.id, "^[a-zA-Z0-9_-]+$")
            if call.name == "get_weather":
                self.assertIsInstance(call.input["city"], str)
        one = {"type": "any", "disable_parallel_tool_use": True}
        made = self.create("Weather in Paris and Rome?", tools=[WEATHER], tool_choice=one, max_tokens=200)
        self.assertEqual([b.type for b in made.content], ["tool_use"])

    def test_a_streamed_call_is_the_whole_one(self):
        fields = dict(tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=160)
        whole = [b for b in self.create("Weather in Paris?", **fields).content if b.type == "tool_use"]
        starts, parts, reason = [], {}, None
        for event in self.create("Weather in Paris?", stream=True, **fields):
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                starts.append((event.index, event.content_block.name))
                self.assertEqual(event.content_block.input, {})
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                parts[event.index] = parts.get(event.index, "") + event.delta.partial_json
            reason = event.delta.stop_reason if event.type == "message_delta" else reason
        self.assertEqual([name for _, name in starts], [b.name for b in whole])
        self.assertEqual([json.loads(parts[i]) for i, _ in starts], [b.input for b in whole])
        self.assertEqual(reason, "tool_use")

    def test_a_follow_up_reuses_the_tokens_of_the_turn_before(self):
        messages = [{"role": "user", "content": "Tell me a story about a dog."}]
        first = self.create(messages=messages, max_tokens=64)
        n = first.usage.input_tokens + first.usage.cache_read_input_tokens + first.usage.output_tokens
        messages += [{"role": "assistant", "content": [b.to_dict() for b in first.content]},
                     {"role": "user", "content": "And then?"}]  # fmt: skip
        second = self.create(messages=messages, max_tokens=4)
        self.assertGreaterEqual(second.usage.cache_read_input_tokens, n // 32 * 32)

    def test_what_agents_send_is_taken(self):
        made = self.client.beta.messages.create(
            model=self.name, max_tokens=4, system=[{"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1;"},
                                                   {"type": "text", "text": "You write code.",
                                                    "cache_control": {"type": "ephemeral"}}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "<system-reminder>x</system-reminder>"},
                                                   {"type": "text", "text": "Go", "cache_control": {"type": "ephemeral"}}]}],
            tools=[{**WEATHER, "input_schema": {"$schema": "http://json-schema.org/draft-07/schema#",
                                                **WEATHER["input_schema"]}, "eager_input_streaming": True}],
            metadata={"user_id": "user_1_account__session_2"}, betas=["claude-code-20250219", "interleaved-thinking-2025-05-14"],
            extra_body={"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}})  # fmt: skip
        told = " ".join(made.warnings)
        for word in ("claude-code-20250219", "context_management", "header line"):
            self.assertIn(word, told)

    def test_tokens_of_tools_are_counted(self):
        usage = self.create(tools=[WEATHER, NOW], max_tokens=1).usage
        self.assertEqual(self.count(tools=[WEATHER, NOW]), usage.input_tokens + usage.cache_read_input_tokens)

    def test_a_loop_of_an_agent_calls_and_goes_on(self):
        messages = [{"role": "user", "content": "What is the weather in Paris?"}]
        first = self.create(messages=messages, tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=160)
        call = next(b for b in first.content if b.type == "tool_use")
        messages += [{"role": "assistant", "content": first.content},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny, 20 °C"}]}]
        second = self.create(messages=messages, tools=[WEATHER], max_tokens=24)
        self.assertGreater(second.usage.cache_read_input_tokens, 0)
        self.assertTrue(second.content)


if __name__ == "__main__":
    support.main()
