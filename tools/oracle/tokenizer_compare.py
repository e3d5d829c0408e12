#!/usr/bin/env python3
"""Compares MLXR's token ids with those of the `tokenizers` and `sentencepiece` packages, string by string.

    python3 tools/oracle/tokenizer_compare.py --program build/…/tokenize_lines --models DIR [--count N] [CASE …]

References are made offline: from the vocabularies embedded in the GGUF files of DIR, and from small tokenizers trained
here. Exit 1 if any string differs. --write-frozen DIR writes the sample that `make test` replays without Python.
"""
import argparse
import itertools
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tokenizer_strings as gen  # noqa: E402


def run_program(program, model, texts, flags=()):
    data = bytearray()
    for text in texts:
        raw = text.encode("utf-8") if isinstance(text, str) else text
        data += struct.pack("<I", len(raw)) + raw
    out = subprocess.run([program, str(model), *flags], input=bytes(data), stdout=subprocess.PIPE, check=True).stdout
    lists, at = [], 0
    for _ in texts:
        (n,) = struct.unpack_from("<I", out, at)
        lists.append(list(struct.unpack_from(f"<{n}i", out, at + 4)))
        at += 4 + 4 * n
    assert at == len(out)
    return lists


def run_decode(program, model, id_lists, flags=()):
    data = b"".join(struct.pack(f"<I{len(ids)}i", len(ids), *ids) for ids in id_lists)
    out = subprocess.run([program, str(model), "decode", *flags], input=data, stdout=subprocess.PIPE, check=True).stdout
    texts, at = [], 0
    for _ in id_lists:
        (n,) = struct.unpack_from("<I", out, at)
        texts.append(out[at + 4:at + 4 + n].decode("utf-8"))
        at += 4 + n
    return texts


class Case:
    """One vocabulary: a file for MLXR, a reference, and what the strings are encoded with."""

    def __init__(self, name, path, encode, flags=(), decode=None, weight=1.0):
        self.name, self.path, self.encode, self.flags, self.decode, self.weight = name, path, encode, flags, decode, weight


def gguf_vocabulary(path):
    from gguf import GGUFReader
    fields = GGUFReader(str(path)).fields

    def array(key):
        field = fields[f"tokenizer.ggml.{key}"]
        return [field.parts[i] for i in field.data]

    vocabulary = {"tokens": [bytes(x) for x in array("tokens")], "types": [int(x[0]) for x in array("token_type")]}
    for key in ("merges",):
        if f"tokenizer.ggml.{key}" in fields:
            vocabulary[key] = [bytes(x).decode() for x in array(key)]
    if "tokenizer.ggml.scores" in fields:
        vocabulary["scores"] = [float(x[0]) for x in array("scores")]
    return vocabulary


def hf_encode(tokenizer, add=False):
    return lambda texts: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=add)]


def gguf_bpe(name, path, pre_tokenizer):
    from tokenizers import AddedToken, Tokenizer, decoders, models
    v = gguf_vocabulary(path)
    vocab = {t.decode(): i for i, t in enumerate(v["tokens"])}
    cases = []
    for special in (True, False):
        tokenizer = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in v["merges"]]))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(t.decode(), special=True, normalized=False)
                                      for t, kind in zip(v["tokens"], v["types"]) if kind == 3])
        tokenizer.encode_special_tokens = not special
        cases.append(Case(f"{name}{'-special' if special else ''}", path, hf_encode(tokenizer),
                          ("special",) if special else (),
                          lambda ids, t=tokenizer: t.decode_batch(ids, skip_special_tokens=True)))
    return cases


def gguf_spm(name, path, folder):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    v = gguf_vocabulary(path)
    proto = pb.ModelProto()
    kinds = {1: pb.ModelProto.SentencePiece.NORMAL, 2: pb.ModelProto.SentencePiece.UNKNOWN,
             3: pb.ModelProto.SentencePiece.CONTROL, 4: pb.ModelProto.SentencePiece.USER_DEFINED,
             5: pb.ModelProto.SentencePiece.UNUSED, 6: pb.ModelProto.SentencePiece.BYTE}
    for i, (text, score, kind) in enumerate(zip(v["tokens"], v["scores"], v["types"])):
        piece = text.decode()
        if kind == 4:
            piece = piece.replace(" ", "\u2581")  # GGUF stores these with plain spaces
        if piece == "<unk>":
            kind = 2
        proto.pieces.add(piece=piece, score=score, type=kinds[kind])
    proto.trainer_spec.model_type = pb.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id = [p.piece for p in proto.pieces].index("<unk>")
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    target = Path(folder) / f"{name}.model"
    target.write_bytes(proto.SerializeToString())
    sp = sentencepiece.SentencePieceProcessor(model_file=str(target))

    def encode(texts):
        return sp.encode(texts, num_threads=1)

    return [Case(name, path, encode, (), lambda ids: [sp.decode(x) for x in ids]),
            Case(f"{name}-model", target, encode, weight=0.25)]


def real_cases(args, folder):
    from tokenizers import pre_tokenizers as pre
    smollm = Path(args.models) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    gemma = Path(args.models) / "gemma-3-270m-Q4_K_M.gguf"
    cases = []
    if smollm.exists():
        cases += gguf_bpe("smollm2", smollm, pre.Sequence([pre.Digits(individual_digits=True),
                                                           pre.ByteLevel(add_prefix_space=False, use_regex=True)]))
    if gemma.exists():
        cases += gguf_spm("gemma3", gemma, folder)
    return cases


# Where decoding cannot be the reference's: it looks at the last token, or at all of the first one.
NO_DECODE = ("clip", "unigram", "unigram-added")


def trained_cases(args, folder, rules=None):
    import sentencepiece
    import tokenizer_cases as small
    lines = small.training_text()
    cases = []
    for name, tokenizer in small.tokenizer_json_cases(lines).items():
        if args.cases and not any(name.startswith(c) for c in args.cases):
            continue
        path = Path(folder) / f"{name}.json"
        tokenizer.save(str(path), pretty=False)
        loaded = type(tokenizer).from_file(str(path))
        decode = None if name in NO_DECODE else lambda ids, t=loaded: t.decode_batch(ids, skip_special_tokens=True)
        cases.append(Case(name, path, hf_encode(loaded, add=True), ("special", "add"), decode, weight=0.2))
    for name, path in small.sentencepiece_cases(lines, folder, rules).items():
        with_unused = name.startswith("spm-bpe") or name == "spm-unigram"
        for each in [path] + ([small.unused_variant(path, folder)] if with_unused else []):
            sp = sentencepiece.SentencePieceProcessor(model_file=str(each))
            cases.append(Case(each.stem, each, lambda texts, sp=sp: sp.encode(texts, num_threads=1), weight=0.3))
    return cases


def write_vocabulary(path, tokenizer, pre):
    """A GGUF with nothing but the vocabulary of a byte-level BPE tokenizer."""
    from gguf import GGUFWriter
    data = json.loads(tokenizer.to_str())
    vocab = sorted(data["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["content"] for token in data["added_tokens"] if token["special"]}
    writer = GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([text for text, _ in vocab])
    writer.add_token_types([3 if text in special else 1 for text, _ in vocab])
    writer.add_token_merges([" ".join(merge) for merge in data["model"]["merges"]])
    writer.add_add_bos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def recipe_cases(args, folder):
    """Every kind of tokenizer.ggml.pre, against the pre-tokenizer it stands for."""
    import tokenizer_cases as small
    cases = []
    for name, (pre_tokenizer, ignore) in small.recipes().items():
        label = f"pre-{name}"
        if args.cases and not any(label.startswith(c) for c in args.cases):
            continue
        tokenizer = small.byte_bpe(small.training_text(200_000), pre_tokenizer, ignore_merges=ignore)
        path = Path(folder) / f"{label}.gguf"
        write_vocabulary(path, tokenizer, name)
        cases.append(Case(label, path, hf_encode(tokenizer), ("special",), weight=0.1))
    return cases


def compare_decoding(args, case, texts, id_lists):
    """Text of whole lists, without special tokens. Counts differences."""
    bad = 0
    for text, ids, ours, theirs in zip(texts, id_lists, run_decode(args.program, case.path, id_lists), case.decode(id_lists)):
        if ours != theirs:
            bad += 1
            if bad <= args.show:
                print(f"{case.name}: decoding {ids} of {text!r}\n  ours   {ours!r}\n  theirs {theirs!r}")
    return bad


def batches(case, seed, count):
    """Every code point, then long texts, then `count` random strings, others for each vocabulary."""
    sweep = gen.every_code_point()
    while texts := list(itertools.islice(sweep, 20000)):
        yield texts
    yield gen.long_strings(seed, 100)
    seed += zlib.crc32(case.name.encode()) << 24
    for done in range(0, count, 20000):
        yield gen.strings(seed + done, min(20000, count - done))


def compare(args, case, seed):
    bad = bad_decoded = decoded = done = 0
    for texts in batches(case, seed, max(1, int(args.count * case.weight))):
        ours = run_program(args.program, case.path, texts, case.flags)
        theirs = case.encode(texts)
        for text, a, b in zip(texts, ours, theirs):
            if a != list(b):
                bad += 1
                if bad <= args.show:
                    print(f"{case.name}: {text!r}\n  ours   {a}\n  theirs {list(b)}")
        if case.decode:
            bad_decoded += compare_decoding(args, case, texts[:5000], theirs[:5000])
            decoded += min(len(texts), 5000)
        done += len(texts)
    print(f"{case.name}: {done} strings, {bad} differ; {decoded} decoded, {bad_decoded} differ", flush=True)
    return done, bad, decoded, bad_decoded


def kind_of(case):
    if case.name.startswith("pre-"):
        return "pre-tokenizers named in GGUF"
    if case.name.startswith(("smollm2", "gemma3")):
        return "real vocabularies"
    return "small tokenizer.json" if str(case.path).endswith(".json") else "small tokenizer.model"


def id_hash(ids):
    """FNV-1a over the ids' little-endian bytes, 32 bits."""
    value = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


FROZEN = ("gpt2", "roberta", "llama3", "qwen2", "qwen35", "o200k", "tekken", "bloom", "deepseek3", "falcon", "llama2", "gemma",
          "mistral", "clip", "bert-uncased", "unigram", "unigram-added", "spm-bpe", "spm-bpe-unused", "spm-bpe-nmt",
          "spm-unigram", "spm-unigram-bytes", "spm-suffix")


def frozen_is_current(args, target, folder):
    """Whether the committed hashes are those of the ids that these packages give for the committed vocabularies."""
    import sentencepiece
    from tokenizers import Tokenizer
    data, texts, stale = (target / "strings.bin").read_bytes(), [], 0
    while data:
        (n,) = struct.unpack_from("<I", data)
        texts.append(data[4:4 + n].decode())
        data = data[4 + n:]
    encoders = {case.name: case.encode for case in real_cases(args, folder)}
    for path in sorted(target.glob("*.json")):
        encoders[path.stem] = hf_encode(Tokenizer.from_file(str(path)), add=True)
    for path in sorted(target.glob("*.model")):
        encoders[path.stem] = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode
    files = sorted(target.glob("*.ids"))
    for path in files:
        hashes = [id_hash(ids) for ids in encoders[path.stem](texts)]
        if path.read_bytes() != struct.pack(f"<{len(hashes)}I", *hashes):
            print(f"{path.name} is not what the reference gives")
            stale += 1
    print(f"{len(files)} frozen vocabularies × {len(texts)} strings, {stale} not as the references encode them", flush=True)
    return stale == 0 and len(files) > 0


def write_frozen(args):
    """Small vocabularies, one list of strings, and for each vocabulary the hashes of the reference's ids."""
    import tokenizer_cases as small
    small.SCALE = 0.4
    target = Path(args.write_frozen)
    target.mkdir(parents=True, exist_ok=True)
    texts = gen.strings(99, 1500)
    raw = [text.encode() for text in texts]
    (target / "strings.bin").write_bytes(b"".join(struct.pack("<I", len(x)) + x for x in raw))
    with tempfile.TemporaryDirectory() as folder:
        rules = small.frozen_rules(Path(folder) / "rules.tsv")
        args.cases = []
        for case in real_cases(args, folder) + trained_cases(args, folder, rules):
            real = str(case.path).endswith(".gguf")
            if not real and case.name not in FROZEN:
                continue
            if not real:
                (target / Path(case.path).name).write_bytes(Path(case.path).read_bytes())
            hashes = [id_hash(ids) for ids in case.encode(texts)]
            (target / f"{case.name}.ids").write_bytes(struct.pack(f"<{len(hashes)}I", *hashes))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program")
    parser.add_argument("--models", default=".")
    parser.add_argument("--count", type=int, default=200000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    parser.add_argument("--write-frozen", metavar="DIR")
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    if args.write_frozen:
        write_frozen(args)
        return 0
    totals = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in real_cases(args, folder) + trained_cases(args, folder) + recipe_cases(args, folder):
            if not args.cases or any(case.name.startswith(c) for c in args.cases):
                total = totals.setdefault(kind_of(case), [0, 0, 0, 0, 0])
                for i, n in enumerate((1, *compare(args, case, args.seed * 1000003))):
                    total[i] += n
    totals["all"] = [sum(column) for column in zip(*totals.values())]
    for kind, (cases, strings, bad, decoded, bad_decoded) in totals.items():
        print(f"{kind}: {cases} vocabularies, {strings} strings, {bad} differ; {decoded} decoded, {bad_decoded} differ")
    return 1 if bad + bad_decoded else 0


if __name__ == "__main__":
    sys.exit(main())
