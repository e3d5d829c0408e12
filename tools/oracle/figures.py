#!/usr/bin/env python3
"""Writes the measured figures into docs/oracle.md, between its markers.

    figures.py --build build/dev [--models DIR] [--log FILE] [TABLE …]

Runs the programs of tests/oracle (the perplexity ones over the whole text), check_tokenizers.py, check_templates.py and
mutations.py, and replaces what stands between "<!-- figures: NAME -->" and "<!-- end -->" in the document. With --log the
output of `make oracle` in FILE stands for another run of the two check scripts.
"""
import argparse
import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENT = os.path.join(ROOT, "docs", "oracle.md")
MODELS = ("SmolLM2-135M-Instruct.Q4_1", "gemma-3-270m-Q4_K_M")


def output_of(*command, **environment):
    """What the program prints, also when its tests fail: a figure that is too large shall be seen."""
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ, **environment), stdout=subprocess.PIPE, text=True)
    return done.stdout


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def greatest(values):
    """NaN where one is: max would keep or lose it, depending on where it stands"""
    return next((v for v in values if v != v), None) or max(values)


def logits_table(program):
    """model → largest NMSE by format and cache"""
    columns = (("gguf", "f32"), ("safetensors", "f32"), ("gguf", "f16"), ("gguf", "bf16"),
               ("gguf", "q8_0"), ("gguf", "q4_0"))
    worst = collections.defaultdict(dict)
    for line in "".join(output_of(program, kind) for kind in ("gguf", "safetensors", "cache")).splitlines():
        match = re.match(r"(\S+) (gguf|safetensors)\s+(cpu\S*)\s+(f32|f16|bf16|i16|q8_0|q4_0)\s+(.*)", line)
        if match:
            model, form, _, cache, rest = match.groups()
            values = [float(v) for v in re.findall(r"\d\.\de[-+]\d+|nan|inf", rest)]
            key = (form, cache)
            worst[model][key] = greatest([worst[model].get(key, 0.0), *values])
    rows = [[model] + [f"{found[c]:.0e}" if c in found else "–" for c in columns] for model, found in worst.items()]
    return table(["model", "GGUF, F32 cache", "safetensors, F32 cache", "F16 cache", "BF16 cache",
                  "Q8_0 cache", "Q4_0 cache"], rows)


def quantised_table(program):
    """weight type → largest NMSE over the models, for each backend"""
    worst = collections.defaultdict(lambda: [0.0, 0.0])
    for line in output_of(program, "quantised").splitlines():
        match = re.match(r"\S+\s+(\S+)\s+cpu-scalar (\S+)\s+cpu (\S+)", line)
        if match:
            for i in (0, 1):
                worst[match[1]][i] = greatest([worst[match[1]][i], float(match[i + 2])])
    return table(["weights", "cpu-scalar", "cpu"], [[k, *(f"{x:.0e}" for x in v)] for k, v in worst.items()])


def perplexity_table(program):
    rows = []
    for name in MODELS:
        text = output_of(program, name, MLXR_SOAK="1")
        match = re.search(r"(\d+) of (\d+) windows, (\d+) predicted: perplexity (\S+), reference (\S+) \((\S+ %)\); "
                          r"greedy ids equal at (\d+) of (\d+) clear positions, (\d+) of all", text)
        if not match:
            raise SystemExit(f"{program} {name} printed no figures:\n{text}")
        _, _, predicted, found, expected, ratio, same, clear, all_same = match.groups()
        rows.append([name, predicted, expected, found, ratio, f"{same} of {clear}", f"{all_same} of {predicted}"])
    return table(["model", "predicted", "transformers", "MLXR", "difference", "same greedy id where the gap is clear",
                  "anywhere"], rows)


def check_output(script, log):
    """What a check script prints, or the log that holds it."""
    if log:
        with open(log, encoding="utf-8") as f:
            return f.read()
    return output_of(sys.executable, os.path.join(ROOT, "tools", "oracle", script))


VOCABULARIES = {
    "smollm2": "SmolLM2's, from its GGUF", "smollm2-special": "… special tokens recognised", "gemma3": "Gemma 3's, from its GGUF",
    "gemma3-model": "… as a tokenizer.model", "small tokenizer.json": "small ones, as tokenizer.json",
    "small tokenizer.model": "small ones, as tokenizer.model", "pre-tokenizers named in GGUF": "small ones, as GGUF", "all": "all",
}


def tokenizers_table(text):
    """One row for each real vocabulary, one for each kind of small ones"""
    found = {match[1]: (match[2] or "1", *match.groups()[2:]) for match in re.finditer(
        r"^(\S[^:\n]*): (?:(\d+) vocabularies, )?(\d+) strings, (\d+) differ; (\d+) decoded, (\d+) differ$", text, re.M)}
    rows = [[label, *(f"{int(n):,}" for n in found[name])] for name, label in VOCABULARIES.items()]
    return table(["vocabularies", "number", "strings", "different ids", "decoded again", "different texts"], rows)


def templates_table(text):
    rows = [["`" + match[1] + "`", *(f"{int(n):,}" for n in match.groups()[1:])] for match in re.finditer(
        r"^(\S+\.jinja): (\d+) renderings, (\d+) by apply_chat_template, (\d+) an error in both, (\d+) different$", text, re.M)]
    cases = re.search(r"^(\d+) cases, (\d+) different$", text, re.M)
    random = re.search(r"^(\d+) random templates \(seed 1\): \d+ identical \((\d+) of them.* (\d+) different$", text, re.M)
    rows += [["expressions", f"{int(cases[1]):,}", "", "", cases[2]],
             ["random templates", f"{int(random[1]):,}", "", f"{int(random[2]):,}", random[3]]]
    return table(["template", "renderings", "by apply_chat_template", "an error in both", "different"], rows)


def program_in(build, name):
    for folder in (os.path.join(build, "bin"), os.path.join(build, "tests", "oracle")):
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.abspath(os.path.join(folder, name))
    raise SystemExit(f"{build} has no {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--models")
    parser.add_argument("--log", help="output of `make oracle`")
    parser.add_argument("only", nargs="*", help="names of tables; all if none is given")
    options = parser.parse_args()
    if options.models:
        os.environ["MLXR_MODELS"] = os.path.abspath(options.models)
    makers = {
        "logits": lambda: logits_table(program_in(options.build, "oracle_test_logits")),
        "quantised": lambda: quantised_table(program_in(options.build, "oracle_test_logits")),
        "perplexity": lambda: perplexity_table(program_in(options.build, "oracle_test_perplexity")),
        "tokenizers": lambda: tokenizers_table(check_output("check_tokenizers.py", options.log)),
        "templates": lambda: templates_table(check_output("check_templates.py", options.log)),
        "mutations": lambda: output_of(sys.executable, os.path.join(ROOT, "tools", "oracle", "mutations.py")).rstrip(),
    }
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    for name in options.only or makers:
        pattern = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.S)
        if not pattern.search(text):
            raise SystemExit(f"{DOCUMENT} has no place for {name}")
        figures = makers[name]()
        text = pattern.sub(lambda match: match[1] + figures + "\n" + match[2], text)
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
