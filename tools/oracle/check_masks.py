#!/usr/bin/env python3
"""Masks of tests/oracle/masks.json's schemas over a real vocabulary, compared with those of the package llguidance.

    check_masks.py [--write]      --write: makes tests/oracle/reference/masks.txt anew

For each instance, cut into the longest tokens and into single bytes, both are asked which tokens may follow after each
token. llguidance is told to write JSON without white space. What only MLXR allows must then be white space between JSON's
tokens: without it, the text must be the beginning of a sentence for llguidance, too. What only llguidance allows must be
nothing. Schemas that "differ" do so in one stated way (DIFFERENCES).

masks.txt holds a line for each sentence of the others: {"schema", "ids", "masks": before the first token and after each
[number, hash (FNV-1a), may it end] of what llguidance allows, tokens with white space left out}.
tests/oracle/test_grammars.c compares MLXR's masks with it, where nothing of Python is needed.
"""
import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from gguf import GGUFReader
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

ROOT = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct.Q4_1"
CASES = ROOT / "tests/oracle/masks.json"
FROZEN = ROOT / "tests/oracle/reference/masks.txt"
CONTROL = 3
# JSON has these, and one of the two does not generate them: −0 as a whole number (MLXR); in strings a bare DEL, an
# escaped slash and escapes by number (llguidance, but for control characters).
DIFFERENCES = {"minus zero": (None, re.compile(rb"-0$")), "escapes": (re.compile(rb"\x7f|\\[/u]"), None)}


def model_path():
    folder = os.environ.get("MLXR_MODELS") or os.path.join(
        os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "mlxr/models")
    return os.path.join(folder, f"{MODEL}.gguf")


def byte_letters():
    """GPT-2's letter for each byte, as byte-level vocabularies spell it."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {chr(b): b for b in plain}
    letters.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in plain)})
    return letters


class Vocabulary:
    """Its tokens as bytes, from the file; the longest tokens that make up a text."""

    def __init__(self, path):
        fields = GGUFReader(path).fields
        letters, types = byte_letters(), fields["tokenizer.ggml.token_type"].contents()
        self.eos_token_id = int(fields["tokenizer.ggml.eos_token_id"].contents())
        self.bos_token_id = None
        texts = fields["tokenizer.ggml.tokens"].contents()
        self.special_token_ids = [i for i, kind in enumerate(types) if kind == CONTROL]
        special = set(self.special_token_ids)
        self.tokens = [b"" if i in special else bytes(letters[c] for c in text) for i, text in enumerate(texts)]
        self.by_first_byte = {}
        for i, text in enumerate(self.tokens):
            self.by_first_byte.setdefault(text[:1], []).append(i)
        self.ids = {text: i for i, text in reversed(list(enumerate(self.tokens))) if text}
        self.longest = max(map(len, self.tokens))
        for i in special:
            self.tokens[i] = texts[i].encode()

    def cut(self, text, longest=None):
        ids, at = [], 0
        while at < len(text):
            n = min(longest or self.longest, len(text) - at)
            while text[at:at + n] not in self.ids:
                n -= 1
            ids.append(self.ids[text[at:at + n]])
            at += n
        return ids

    def __call__(self, text):
        return self.cut(text if isinstance(text, bytes) else text.encode())


def without_space(text):
    """JSON, or the beginning of it, without the white space between its tokens."""
    out, in_string, escaped = bytearray(), False, False
    for byte in text:
        if in_string or byte not in b" \t\r\n":
            out.append(byte)
        if in_string:
            in_string, escaped = escaped or byte != 0x22, byte == 0x5c and not escaped
        else:
            in_string = byte == 0x22
    return bytes(out)


class Other:
    """llguidance's view of one schema."""

    def __init__(self, vocabulary, tokenizer, schema):
        compact = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        self.vocabulary = vocabulary
        self.matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema, defaults=compact))
        if self.matcher.is_error():
            raise SystemExit(self.matcher.get_error())
        self.known = {}

    def masks(self, ids):
        """(allowed tokens, may it end) before the first token and after each."""
        self.matcher.reset()
        special = set(self.vocabulary.special_token_ids)
        for i in range(len(ids) + 1):
            forced = self.matcher.compute_ff_bytes()
            if forced:  # its mask then holds but one of the ways to write what must follow
                allowed = {token for token in self.vocabulary.by_first_byte[forced[:1]]
                           if self.matcher.validate_tokens([token]) == 1}
            else:
                bits = self.matcher.compute_bitmask()
                allowed = {8 * at + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1}
            yield allowed - special, self.matcher.is_accepting()
            if i < len(ids) and not self.matcher.consume_token(ids[i]):
                raise SystemExit(f"llguidance refuses token {i} of {ids}")

    def begins(self, text):
        """Is this the beginning of a sentence?"""
        if text not in self.known:
            self.matcher.reset()
            ids = self.vocabulary.cut(text, 1)
            self.known[text] = self.matcher.validate_tokens(ids) == len(ids)
        return self.known[text]


def own_masks(program, schema, sentences):
    """The same of MLXR, for each sentence: a list of sets."""
    path = ROOT / "build/masks-schema.json"
    path.write_text(json.dumps(schema, ensure_ascii=False))
    run = subprocess.run([program, MODEL, str(path), "masks"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
                         input="".join(json.dumps(ids) + "\n" for ids in sentences))
    path.unlink()
    lines = (line for line in run.stdout.splitlines() if line and set(line) <= set("0123456789abcdef"))
    for ids in sentences:
        found = []
        for _ in range(len(ids) + 1):
            line = next(lines)
            words = [int(line[i:i + 8], 16) for i in range(0, len(line), 8)]
            found.append({32 * at + bit for at, word in enumerate(words) if word for bit in range(32) if word >> bit & 1})
        yield found


def fnv(ids):
    value = 0xcbf29ce484222325
    for i in sorted(ids):
        for byte in i.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return value


class Count:
    places = tokens = same = space = stated = 0


def is_stated(difference, side, text):
    """Is this the way in which the languages differ? `side`: 0 where only MLXR allows it."""
    pattern = DIFFERENCES[difference][side] if difference else None
    return bool(pattern and pattern.search(text.replace(b"\\\\", b"")))


def compare(case, vocabulary, other, ids, own, count):
    """What llguidance allows at each place, for masks.txt, and the differences that nothing explains."""
    ends, text, bad, masks = set(vocabulary.special_token_ids), b"", [], []
    for i, (allowed, may_end) in enumerate(list(other.masks(ids))):
        mine = own[i] - ends
        count.places += 1
        count.tokens += len(allowed)
        count.same += len(mine & allowed)
        for token in mine ^ allowed:
            side, grown = int(token in allowed), text + vocabulary.tokens[token]
            if side == 0 and without_space(grown) != grown and other.begins(without_space(grown)):
                count.space += 1
            elif is_stated(case.get("differs"), side, grown[max(0, len(text) - 1):]):
                count.stated += 1
            else:
                bad.append(f"behind {text!r} only {('MLXR', 'llguidance')[side]} allows {vocabulary.tokens[token]!r}")
        if bool(own[i] & ends) != may_end:
            bad.append(f"behind {text!r} only {'llguidance' if may_end else 'MLXR'} may end")
        dense = [token for token in allowed if not set(vocabulary.tokens[token]) & set(b" \t\r\n")]
        masks.append([len(dense), f"{fnv(dense):016x}", may_end])
        text += vocabulary.tokens[ids[i]] if i < len(ids) else b""
    return {"schema": case["name"], "ids": ids, "masks": masks}, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    found = sorted(ROOT.glob("build/**/oracle_test_grammars"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit("build/**/oracle_test_grammars is missing; run `make oracle`, which builds it")
    vocabulary = Vocabulary(model_path())
    tokenizer = LLTokenizer(TokenizerWrapper(vocabulary), n_vocab=len(vocabulary.tokens))
    frozen, n_bad = [], 0
    for case in json.loads(CASES.read_text()):
        count, bad = Count(), []
        other = Other(vocabulary, tokenizer, case["schema"])
        texts = [json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() for one in case["instances"]]
        sentences = [vocabulary.cut(text, longest) for text in texts for longest in (None, 1)]
        for ids, own in zip(sentences, own_masks(found[-1], case["schema"], sentences)):
            line, more = compare(case, vocabulary, other, ids, own, count)
            frozen += [] if "differs" in case else [json.dumps(line, separators=(",", ":"))]
            bad += more
        print(f"{case['name']}: {count.places} places, {count.tokens} tokens allowed by llguidance, {count.same} of them by MLXR; "
              f"{count.space} more with white space, {count.stated} differ as stated, {len(bad)} without an explanation")
        for line in bad[:20]:
            print(f"  {line}")
        n_bad += len(bad)
    text = "".join(line + "\n" for line in frozen)
    if arguments.write:
        FROZEN.write_text(text)
    elif FROZEN.read_text() != text:
        print(f"{FROZEN.relative_to(ROOT)} is not what llguidance gives; --write makes it anew")
        n_bad += 1
    print(f"masks: {n_bad} differences")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
