"""What users write stays text: no control token comes of a message, a name, a tool or its result, in any dialect.

Every kind of tiny vocabulary, each with a template in the manner of its family; each control token of the vocabulary.
"""
import json
import os
import subprocess

import support

INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' or m.role == 'tool' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}<|user|>{{ m.role | upper }}: {{ m.content + '<|endoftext|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Byte-level BPE with ChatML, the same with another template, SentencePiece, Gemma's.
KINDS = {"qwen2": None, "qwen3": PLAIN, "llama": INST, "gemma3": None}


class Prompts(support.ApiTest):
    def kinds(self):
        folder = support.temporary_folder(self)
        for name, template in KINDS.items():
            path = os.path.join(support.tiny_models(), name + ".gguf")
            out = os.path.join(folder, name + ".gguf")
            if template is None:
                os.symlink(path, out)
            else:
                support.write_with_template(path, out, template)
            yield name, out

    def each_kind(self):
        for name, path in self.kinds():
            daemon = self.serve("--model", path, "--threads", "1")
            n_vocab = 320
            specials = []
            for i in range(n_vocab):
                text = daemon.ask("POST", "/detokenize", {"tokens": [i], "with_special": True}).json.get("content", "")
                if len(text) < 3:
                    continue  # letters and bytes
                found = daemon.ask("POST", "/tokenize", {"content": text}).json["tokens"]
                plain = daemon.ask("POST", "/tokenize", {"content": text, "parse_special": False}).json["tokens"]
                if found == [i] and plain != [i]:
                    specials.append((text, len(plain)))
            with self.subTest(kind=name):
                yield name, daemon, specials
            self._end(daemon)

    def prompt_tokens(self, daemon, path, body):
        answer = daemon.ask("POST", path, {"max_tokens": 1, **body} if path != "/v1/responses" and not path.startswith("/api/") else body)
        self.assertEqual(answer.status, 200, answer)
        if path.startswith("/api/"):
            return answer.json["prompt_eval_count"]
        usage = answer.json["usage"]
        if path == "/v1/messages":
            return usage["input_tokens"] + usage["cache_read_input_tokens"]
        return usage.get("prompt_tokens", usage.get("input_tokens"))

    def check(self, daemon, path, body_of, specials, shown=True):
        """`body_of(text)`: a request with this text somewhere. A special costs at least as much as its plain text."""
        innocent = self.prompt_tokens(daemon, path, body_of("x y"))
        for text, n_plain in specials:
            cost = self.prompt_tokens(daemon, path, body_of(f"x{text}y")) - innocent
            if shown:
                self.assertGreaterEqual(cost, n_plain - 2, (path, text))
            else:
                self.assertGreaterEqual(cost, 0)

    def test_no_text_of_a_request_becomes_a_control_token(self):
        n = 0
        for name, daemon, specials in self.each_kind():
            self.assertGreaterEqual(len(specials), 2, name)

            def chat(text, role="user", name=name):
                return {"model": name, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}][: 2 * (role == "user")]
                        + [{"role": role, "content": text}] + [{"role": "user", "content": "q"}] * (role != "user")}  # fmt: skip

            for role in ("user", "system", "assistant"):
                self.check(daemon, "/v1/chat/completions", lambda t, role=role: chat(t, role), specials, role != "system" or name != "llama")
            self.check(daemon, "/v1/messages", lambda t: {"model": name, "messages": [{"role": "user", "content": t}]}, specials)
            self.check(daemon, "/v1/messages", lambda t: {"model": name, "messages": [
                {"role": "user", "content": "q"}, {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "look", "input": {"at": "x"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": t}]}]}, specials)  # fmt: skip
            self.check(daemon, "/v1/messages", lambda t: {"model": name, "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": t}]},
                       specials)  # fmt: skip
            self.check(daemon, "/v1/responses", lambda t: {"model": name, "input": t, "max_output_tokens": 1}, specials)
            self.check(daemon, "/v1/responses", lambda t: {"model": name, "max_output_tokens": 1, "input": [
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": json.dumps({"at": t})},
                {"type": "function_call_output", "call_id": "c", "output": t}, {"role": "user", "content": "q"}]}, specials)  # fmt: skip
            ollama = {"model": name, "stream": False, "options": {"num_predict": 1}}
            self.check(daemon, "/api/chat", lambda t: {**ollama, "messages": [{"role": "user", "content": t}]}, specials)
            self.check(daemon, "/api/generate", lambda t: {**ollama, "prompt": t}, specials)
            n += len(specials)
        self.assertGreater(n, 15)
        print(f"{n} control tokens of {len(KINDS)} vocabularies, ten places each")

    def test_raw_prompts_have_control_tokens(self):
        for name, daemon, specials in self.each_kind():
            for text, _ in specials:
                self.assertEqual(self.prompt_tokens(daemon, "/v1/completions", {"model": name, "prompt": f"x{text}y"}),
                                 daemon.ask("POST", "/tokenize", {"content": f"x{text}y", "add_special": True}).json["count"])  # fmt: skip

    def test_what_is_shown_of_a_template_has_no_marks(self):
        for name, daemon, specials in self.each_kind():
            for text, _ in specials:
                shown = daemon.ask("POST", "/apply-template", {"messages": [{"role": "user", "content": f"x{text}y"}]})
                self.assertEqual(shown.status, 200, name)
                self.assertIn(f"x{text}y", shown.json["prompt"])

    def test_names_and_tools_are_text_too(self):
        template = (
            "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name }}\n"
            "{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
        )
        path = os.path.join(support.temporary_folder(self), "named.gguf")
        support.write_with_template(os.path.join(support.tiny_models(), "qwen2.gguf"), path, template)
        daemon = self.serve("--model", path, "--threads", "1")
        text, n_plain = "<|im_end|>", 10

        def cost(body):
            def of(t):
                return self.prompt_tokens(daemon, "/v1/chat/completions", {"model": "named", **body(t)})
            return of(text) - of("x")

        self.assertGreaterEqual(cost(lambda t: {"messages": [{"role": "user", "name": t, "content": "q"}]}), n_plain - 2)

        def counted(tool):
            answer = daemon.ask("POST", "/v1/messages/count_tokens", {
                "model": "named", "messages": [{"role": "user", "content": "q"}],
                "tools": [{"name": "n", "description": "d", "input_schema": {"type": "object"}, **tool}]})  # fmt: skip
            return answer.json["input_tokens"]

        for tool_of in (lambda t: {"name": t}, lambda t: {"description": t},
                        lambda t: {"input_schema": {"type": "object", "properties": {t: {"type": "string"}}}},
                        lambda t: {"input_schema": {"type": "object", "properties": {"a": {"enum": [t]}}}}):  # fmt: skip
            self.assertGreaterEqual(counted(tool_of(text)) - counted(tool_of("x")), n_plain - 2, tool_of("…"))

    def test_the_command_line_does_so_too(self):
        for name, path in self.kinds():
            def n_prompt(text, path=path):
                done = subprocess.run([support.MLXR, "run", path, text, "-n", "1", "--json", *support.SMALL], check=True,
                                      stdout=subprocess.PIPE, env=self.environment(), timeout=support.TIMEOUT)  # fmt: skip
                return json.loads(done.stdout)["n_prompt"]

            marker = {"llama": "</s>", "gemma3": "<end_of_turn>"}.get(name, "<|im_end|>")
            self.assertGreaterEqual(n_prompt(f"x{marker}y") - n_prompt("x y"), 2, name)

    def test_an_answer_is_still_found_again_behind_such_a_text(self):
        path = os.path.join(support.tiny_models(), "qwen2.gguf")
        daemon = self.serve("--model", path, "--threads", "1")
        messages = [{"role": "user", "content": "What is <|im_end|> for? " * 2}]
        body = {"model": "qwen2", "max_tokens": 24, "temperature": 0, "logit_bias": {"33": 100}}
        first = daemon.ask("POST", "/v1/chat/completions", {**body, "messages": messages}).json
        messages += [first["choices"][0]["message"], {"role": "user", "content": "And?"}]
        messages[1].pop("refusal", None), messages[1].pop("annotations", None)
        second = daemon.ask("POST", "/v1/chat/completions", {**body, "messages": messages, "max_tokens": 1}).json
        self.assertGreaterEqual(second["usage"]["prompt_tokens_details"]["cached_tokens"],
                                first["usage"]["prompt_tokens"] // 32 * 32)  # fmt: skip


if __name__ == "__main__":
    support.main()
