#!/usr/bin/env python3
"""Compares our template engine with apply_chat_template() of transformers, and with Jinja2 as transformers sets it up.

    template_compare.py --program build/bin/render_template real DIR      every *.jinja in DIR × our conversations
    template_compare.py --program … freeze tests/unit/text/templates      writes the frozen expected outputs
    template_compare.py --program … cases FILE                            expression cases, one template per line
    template_compare.py --program … fuzz --cases 100000 --seed 1          random templates (template_fuzz.py)

Needs transformers and jinja2; nothing in `make test` does.
"""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2
import transformers.utils.chat_template_utils as chat_utils
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

NOW = 1753700000  # what strftime_now sees, in both engines


class FrozenDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


chat_utils.datetime = FrozenDatetime
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Ours:
    """The C engine behind a pipe: one request and one answer per line."""

    def __init__(self, program):
        self.program = program
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        encoding="utf-8")

    def render(self, template, variables, steps=0, apply=False):
        line = json.dumps({"template": template, "variables": variables, "now": NOW, "steps": steps, "apply": apply})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the engine died (exit {self.process.wait()}) on:\n{line}")
        return json.loads(answer)


def theirs(template, variables):
    """{"text": …} or {"error": …}, as Jinja2 ends on these variables."""
    try:
        compiled = chat_utils._compile_jinja_template(template)
        return {"text": compiled.render(**variables)}
    except Exception as e:  # noqa: BLE001 - templates may raise anything
        return {"error": f"{type(e).__name__}: {e}"}


class Applied:
    """apply_chat_template() of a tokenizer that has nothing but the special tokens of `settings`."""

    def __init__(self):
        vocabulary = {text: i for i, text in enumerate(TOKENS.values())}
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "<unk>")), **TOKENS)

    def __call__(self, template, variables):
        arguments = {name: value for name, value in variables.items() if name != "messages" and name not in TOKENS}
        try:
            return {"text": self.tokenizer.apply_chat_template(variables["messages"], chat_template=template, tokenize=False,
                                                               **arguments)}
        except Exception as e:  # noqa: BLE001 - templates may raise anything
            return {"error": f"{type(e).__name__}: {e}"}


def same(a, b):
    return a.get("text") == b.get("text") if "text" in a and "text" in b else "text" not in a and "text" not in b


# ---- conversations ------------------------------------------------------------------------------------------------

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Says what the weather is like.\nIn one city.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city, e.g. 'Zürich'"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "details": {"type": "object", "properties": {"wind": {"type": "boolean"}}, "required": ["wind"]},
            "tags": {"type": "array", "items": {"type": "string"}}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds \"two\" numbers <now> & then.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number", "description": "first"},
                                                        "b": {"type": ["number", "null"]}},
                       "required": ["a", "b"]},
        "return": {"type": "number", "description": "the sum"}}},
    {"type": "function", "function": {"name": "noop", "description": "Does nothing.",
                                      "parameters": {"type": "object", "properties": {}}}},
]

SIMPLE_TOOLS = [
    {"type": "function", "function": {
        "name": "lookup", "description": "Looks a word up.",
        "parameters": {"type": "object", "properties": {
            "word": {"type": "string", "description": "the word"},
            "exact": {"type": "boolean", "description": "no similar words"}}, "required": ["word"]},
        "return": {"type": "string", "description": "what it means"}}},
]


def call(name, arguments, number="call_00001", as_text=False):
    return {"id": number, "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments) if as_text else arguments}}


def conversations():
    user = {"role": "user", "content": "Hello, who are you?"}
    system = {"role": "system", "content": "You are a helpful\nassistant.  "}
    answer = {"role": "assistant", "content": "I am a test."}
    more = {"role": "user", "content": "  What's 2+2? <b>&\"quotes\"</b> é 漢字 😀 \n"}
    think = {"role": "assistant", "content": "<think>\nhm, 4?\n</think>\n\nIt is 4."}
    reason = {"role": "assistant", "content": "It is 4.", "reasoning_content": "two and two\nmake four"}
    weather = {"role": "assistant", "content": "", "tool_calls": [
        call("get_weather", {"city": "Zürich", "days": 3, "tags": ["a", "b"], "details": {"wind": True}})]}
    weather_text = {"role": "assistant", "content": "Let me see.", "tool_calls": [
        call("get_weather", {"city": "Bern"}, "abcdefghi", True)]}
    two_calls = {"role": "assistant", "content": None, "tool_calls": [
        call("add", {"a": 1, "b": 2.5}, "call_0001"), call("noop", {}, "call_0002")]}
    reason_call = dict(weather, reasoning_content="I need the weather.")
    tool = {"role": "tool", "content": "{\"temperature\": 21.5}", "name": "get_weather", "tool_call_id": "call_00001"}
    tool_a = {"role": "tool", "content": "3.5", "name": "add", "tool_call_id": "call_0001"}
    tool_b = {"role": "tool", "content": "done", "name": "noop", "tool_call_id": "call_0002"}
    tool_c = {"role": "tool", "content": "{\"temperature\": 1}", "name": "get_weather", "tool_call_id": "abcdefghi"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Describe "}, {"type": "text", "text": "this."}]}
    image = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}
    developer = {"role": "developer", "content": "Be brief."}
    thinking = {"role": "assistant", "content": "4.", "thinking": "so: 4", "tool_calls": None}
    reasoned = {"role": "assistant", "reasoning": "hm", "content": "Four.", "reasoning_content": None, "name": None}
    return {
        "empty": [],
        "user": [user],
        "system_user": [system, user],
        "multi": [user, answer, more],
        "system_multi": [system, user, answer, more, answer],
        "ends_with_assistant": [user, answer],
        "two_systems": [system, user, system, more],
        "system_only": [system],
        "user_user": [user, more],
        "assistant_first": [answer, user],
        "thinking_inline": [user, think, more],
        "thinking_last": [user, think],
        "reasoning": [user, reason, more, reason],
        "tool_call": [user, weather, tool],
        "tool_call_answer": [system, user, weather, tool, answer, more],
        "tool_call_text": [user, weather_text, tool_c, answer],
        "tool_call_open": [user, weather],
        "two_calls": [user, two_calls, tool_a, tool_b, answer],
        "reasoning_call": [user, reason_call, tool, reason, more],
        "reasoning_names": [system, user, thinking, more, reasoned, user, thinking],
        "parts": [system, parts, answer],
        "image": [image, answer],
        "developer": [developer, user],
        "odd_role": [{"role": "critic", "content": "bad"}, user],
        "no_content": [{"role": "user"}, answer],
        "null_content": [user, {"role": "assistant", "content": None}],
    }


def settings(thorough=True):
    """Every conversation with each combination of what callers may turn on; (name, variables, whether they are for
    apply_chat_template). That refuses an empty conversation and leaves nothing undefined: then the engine alone is compared."""
    tool_sets = {"none": {"tools": None}, "tools": {"tools": TOOLS}}
    if thorough:
        tool_sets["simple"] = {"tools": SIMPLE_TOOLS, "functions": json.dumps(SIMPLE_TOOLS), "datetime": "today",
                               "documents": [{"title": "T", "text": "body"}], "date_string": "26 Jul 2024"}
        tool_sets["unset"] = {}
    for name, messages in conversations().items():
        for generate in (False, True):
            for tool_name, tools in tool_sets.items():
                for thinking in (None, False, True):
                    applied = tool_name != "unset" and len(messages) > 0
                    given = messages if applied else chat_utils._alias_reasoning_fields(messages)
                    variables = dict(TOKENS, messages=given, add_generation_prompt=generate, **tools)
                    if "documents" not in variables and tool_name != "unset":
                        variables["documents"] = None
                    if thinking is not None:
                        variables["enable_thinking"] = thinking
                    yield f"{name}/gen={generate:d}/tools={tool_name}/think={thinking}", variables, applied


def compare_real(ours, folder, verbose):
    totals = [0, 0, 0, 0]
    apply = Applied()
    paths = sorted(pathlib.Path(folder).glob("*.jinja"))
    for path in paths:
        template = path.read_text(encoding="utf-8")
        n = n_applied = errors = different = 0
        for name, variables, applied in settings():
            given = {k: v for k, v in variables.items() if v is not None} if applied else variables  # null if missing
            a, b = ours.render(template, given, apply=applied), (apply if applied else theirs)(template, variables)
            n += 1
            n_applied += applied
            errors += "error" in a and "error" in b
            if not same(a, b):
                different += 1
                if different <= verbose:
                    print(f"--- {path.name} {name}\n  ours:   {str(a)[:600]}\n  theirs: {str(b)[:600]}")
        figures = (n, n_applied, errors, different)
        totals = [sum(pair) for pair in zip(totals, figures)]
        print("{}: {} renderings, {} by apply_chat_template, {} an error in both, {} different".format(path.name, *figures))
    print("{} templates: {} renderings, {} by apply_chat_template, {} an error in both, {} different".format(len(paths), *totals),
          flush=True)
    return totals[0] > 0 and totals[3] == 0


# ---- frozen expectations for `make test` ----------------------------------------------------------------------------

def case_lines(path):
    """One template a line; ⏎, ␍ and ⇥ stand for line feed, carriage return and tab, ## begins a comment line."""
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("##"):
            yield line.replace("⏎", "\n").replace("␍", "\r").replace("⇥", "\t")


CASE_VARIABLES = {
    "a": 1, "b": -7, "f": 2.5, "z": 0, "s": "Hello World", "e": "", "u": "ÄÖü ß 漢字 😀é", "t": True, "n": None,
    "l": [3, 1, 2], "ll": [[1, 2], [3, 4]], "w": "  pad\t\n", "m": "one\ntwo\n\nthree", "q": "it's \"q\"",
    "d": {"k": "v", "x": 1, "y": [1, 2]}, "names": ["bob", "Al", "cy", "Bob"], "big": 9007199254740993,
    "users": [{"name": "bob", "age": 3, "tag": {"id": 1}}, {"name": "Al", "age": 1, "tag": {"id": 2}},
              {"name": "cy", "age": 3}],
}


def freeze(folder, sources=None):
    """Writes into `folder` what becomes of the cases and templates in `sources` (or in `folder` itself)."""
    folder = pathlib.Path(folder)
    sources = pathlib.Path(sources or folder)
    rows = []
    apply = Applied()
    for template in case_lines(sources / "cases.txt"):
        answer = theirs(template, CASE_VARIABLES)
        rows.append({"template": template, **({"text": answer["text"]} if "text" in answer else {"error": True})})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "cases.json").write_text(
        '{"variables": ' + json.dumps(CASE_VARIABLES, ensure_ascii=False) + ',\n"cases": [\n' + lines + "\n]}\n",
        encoding="utf-8")
    rendered = 0
    for path in sorted(sources.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        texts, out = [], []
        for name, variables, applied in settings(thorough=False):
            answer = (apply if applied else theirs)(template, variables)
            row = -1  # an error
            if "text" in answer:  # settings a template does not look at repeat: each text is kept once
                if answer["text"] not in texts:
                    texts.append(answer["text"])
                row = texts.index(answer["text"])
            out.append(f"{json.dumps(name)}: {row}")
            rendered += 1
        (folder / (path.stem + ".json")).write_text(
            '{"texts": [\n' + ",\n".join(json.dumps(t, ensure_ascii=False) for t in texts)
            + '\n],\n"renderings": {\n' + ",\n".join(out) + "\n}}\n", encoding="utf-8")
    (folder / "conversations.json").write_text(
        '{"now": ' + str(NOW) + ',\n"tools": ' + json.dumps(TOOLS, ensure_ascii=False) + ',\n"conversations": {\n'
        + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in conversations().items())
        + "\n}}\n", encoding="utf-8")
    print(f"{len(rows)} cases, {rendered} renderings frozen from jinja2 {jinja2.__version__}")


def compare_cases(ours, path):
    bad = 0
    n = 0
    for template in case_lines(path):
        n += 1
        a, b = ours.render(template, CASE_VARIABLES), theirs(template, CASE_VARIABLES)
        if not same(a, b):
            bad += 1
            print(f"{template}\n  ours:   {str(a)[:300]}\n  jinja2: {str(b)[:300]}")
    print(f"{n} cases, {bad} different")
    return bad == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/bin/render_template")
    parser.add_argument("--verbose", type=int, default=1, help="differences shown for each template")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("real").add_argument("folder")
    verbs.add_parser("freeze").add_argument("folder")
    verbs.add_parser("cases").add_argument("file")
    fuzz = verbs.add_parser("fuzz")
    fuzz.add_argument("--cases", type=int, default=100000)
    fuzz.add_argument("--seed", type=int, default=1)
    fuzz.add_argument("--show", type=int, default=20)
    args = parser.parse_args()
    if args.verb == "freeze":
        freeze(args.folder)
        return 0
    ours = Ours(args.program)
    if args.verb == "real":
        return not compare_real(ours, args.folder, args.verbose)
    if args.verb == "cases":
        return not compare_cases(ours, args.file)
    import template_fuzz
    return not template_fuzz.run(ours, theirs, same, args.cases, args.seed, args.show)


if __name__ == "__main__":
    sys.exit(main())
