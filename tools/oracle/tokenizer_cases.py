"""Small tokenizers trained here, one for each way real ones are put together, as tokenizer.json and tokenizer.model."""
import io
from pathlib import Path

import tokenizer_strings as gen
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers as pre, processors,
                        trainers)

FOLDED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPERS, LOWERS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LEAD = r"[^\r\n\p{L}\p{N}]?"
PATTERNS = {
    "llama3": FOLDED + "|" + LEAD + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL,
    "qwen2": FOLDED + "|" + LEAD + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL,
    "qwen35": FOLDED + "|" + LEAD + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL,
    "o200k": LEAD + UPPERS + "*" + LOWERS + "+" + FOLDED + "?|" + LEAD + UPPERS + "+" + LOWERS + "*" + FOLDED +
             r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL,
    "tekken": LEAD + UPPERS + "*" + LOWERS + "+|" + LEAD + UPPERS + "+" + LOWERS +
              r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL,
    # Unknown to MLXR: these go to PCRE2.
    "bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "bailing": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "classes": r"\w+|\d{2}|[\p{P}\p{S}]+|\p{Han}|\p{Greek}+|\P{L}+?|^\s+|\s+$|\h",
    "exaone": FOLDED + "|" + LEAD + r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
}
DEEPSEEK3 = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
             r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + TAIL]
DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]
SPECIALS = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]


def split(pattern, behavior="isolated", invert=False):
    return pre.Split(Regex(pattern), behavior, invert)


def byte_level(use_regex=False, prefix=False):
    return pre.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def train(model, trainer, lines, normalizer=None, pre_tokenizer=None, decoder=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


SCALE = 1.0  # of all vocabularies; the frozen ones are smaller


def scaled(size):
    return int(size * SCALE)


def byte_bpe(lines, pre_tokenizer, normalizer=None, size=1500, **model):
    trainer = trainers.BpeTrainer(vocab_size=scaled(size), special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=pre.ByteLevel.alphabet())
    return train(models.BPE(**model), trainer, lines, normalizer, pre_tokenizer, decoders.ByteLevel())


def bytes_alphabet():
    return [f"<0x{byte:02X}>" for byte in range(256)]


def llama_bpe(lines, prefix):
    """Llama 2 (prefix "always"), Mistral (metaspace "first") and Gemma (no prefix) style."""
    if prefix == "normalizer":
        normalizer, pre_tokenizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None
    elif prefix == "metaspace":
        normalizer, pre_tokenizer = None, pre.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        normalizer, pre_tokenizer = normalizers.Replace(" ", "▁"), pre.Split(" ", "merged_with_previous")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix != "none":
        steps.append(decoders.Strip(" ", 1, 0))
    trainer = trainers.BpeTrainer(vocab_size=scaled(1800), special_tokens=SPECIALS + bytes_alphabet(), show_progress=False,
                                  limit_alphabet=300)
    # Train on words, run on whole texts, as SentencePiece does.
    tokenizer = train(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True), trainer, lines, normalizer,
                      pre.Metaspace("▁", prepend_scheme="never" if prefix == "none" else "always"),
                      decoders.Sequence(steps))
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def add_tokens(tokenizer):
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True), AddedToken("[gMASK]", rstrip=True),
                                  AddedToken("<|user|>", rstrip=True, lstrip=True)])
    tokenizer.add_tokens([AddedToken("snake", single_word=True), AddedToken("Hello", normalized=True),
                          AddedToken("ing", normalized=True, single_word=False), AddedToken("  ", normalized=False),
                          AddedToken("\n\n", normalized=False), AddedToken("<|", normalized=False)])
    return tokenizer


def tokenizer_json_cases(lines):
    """name → Tokenizer"""
    cases = {"gpt2": byte_bpe(lines, byte_level(True)), "gpt2-prefix": byte_bpe(lines, byte_level(True, True)),
             "roberta": add_tokens(byte_bpe(lines, byte_level(True, True)))}
    for name, pattern in PATTERNS.items():
        normalizer = normalizers.NFC() if name.startswith("qwen") else None
        cases[name] = byte_bpe(lines, pre.Sequence([split(pattern), byte_level()]), normalizer,
                               ignore_merges=name in ("llama3", "tekken"))
    cases["deepseek3"] = byte_bpe(lines, pre.Sequence([split(p) for p in DEEPSEEK3] + [byte_level()]))
    cases["deepseek-coder"] = byte_bpe(lines, pre.Sequence([split(p) for p in DEEPSEEK_CODER] +
                                                           [pre.Digits(individual_digits=True), byte_level()]))
    cases["starcoder"] = byte_bpe(lines, pre.Sequence([pre.Digits(individual_digits=True), byte_level(True)]))
    cases["falcon"] = byte_bpe(lines, pre.Sequence([pre.Punctuation("contiguous"), byte_level(True),
                                                    pre.Digits(individual_digits=False),
                                                    split("[0-9][0-9][0-9]")]))
    cases["llama2"] = llama_bpe(lines, "normalizer")
    cases["mistral"] = llama_bpe(lines, "metaspace")
    cases["gemma"] = add_tokens(llama_bpe(lines, "none"))
    byte_normalizer = Tokenizer(models.BPE())
    byte_normalizer = byte_bpe(lines, split(r"\s?\S+"), normalizers.ByteLevel())
    cases["byte-normalizer"] = byte_normalizer
    bpe = trainers.BpeTrainer(vocab_size=scaled(900), special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False,
                              limit_alphabet=200)
    cases["clip"] = train(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), bpe, lines,
                          normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "),
                                                normalizers.Lowercase()]), pre.Whitespace(), decoders.BPEDecoder("</w>"))
    bpe = trainers.BpeTrainer(vocab_size=scaled(900), special_tokens=["<unk>"], continuing_subword_prefix="##",
                              show_progress=False, limit_alphabet=200)
    cases["bpe-prefix"] = train(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=True), bpe, lines,
                                normalizers.NFKC(), pre.WhitespaceSplit())
    for name, normalizer in {"bert-uncased": normalizers.BertNormalizer(lowercase=True),
                             "bert-cased": normalizers.BertNormalizer(lowercase=False, strip_accents=False),
                             "strip-accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(),
                                                                    normalizers.Lowercase(), normalizers.Strip()])}.items():
        trainer = trainers.WordPieceTrainer(vocab_size=scaled(1200), special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                                            show_progress=False, limit_alphabet=400)
        tokenizer = train(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20), trainer, lines, normalizer,
                          pre.BertPreTokenizer(), decoders.WordPiece(cleanup=False))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        cases[name] = tokenizer
    unigram = trainers.UnigramTrainer(vocab_size=scaled(900), special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>",
                                      show_progress=False)
    cases["unigram"] = train(models.Unigram(), unigram, common_only(lines), normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), pre.Metaspace(),
        decoders.Metaspace())
    unigram = trainers.UnigramTrainer(vocab_size=scaled(1100), special_tokens=["<unk>", "<s>"] + bytes_alphabet(),
                                      unk_token="<unk>", show_progress=False)
    tokenizer = train(models.Unigram(), unigram, common_only(lines), normalizers.NFKD(), pre.Sequence(
        [pre.Punctuation("merged_with_next"), pre.Metaspace(prepend_scheme="never")]), decoders.Metaspace())
    cases["unigram-added"] = add_tokens(tokenizer)
    for behavior in ("removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            trainer = trainers.BpeTrainer(vocab_size=scaled(500), show_progress=False, limit_alphabet=150)
            name = f"split-{behavior}{'-invert' if invert else ''}"
            cases[name] = train(models.BPE(), trainer, lines, None, split(r"[aeiou]|\d|(?=x)", behavior, invert))
    return cases


def recipes():
    """tokenizer.ggml.pre → (the pre-tokenizer of the models that name it, ignore_merges)"""
    def regex(*patterns, ignore=False):
        return pre.Sequence([split(p) for p in patterns] + [byte_level()]), ignore

    digit = pre.Digits(individual_digits=True)
    word = LEAD + UPPERS + "*" + LOWERS + "+" + FOLDED + "?|" + LEAD + UPPERS + "+" + LOWERS + "*" + FOLDED
    o200k = word + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL
    triples = r"\d{1,3}(?=(?:\d{3})*\b)"
    return {
        "default": (byte_level(True), False), "smollm": (pre.Sequence([digit, byte_level(True)]), False),
        "llama-bpe": regex(PATTERNS["llama3"], ignore=True), "qwen2": regex(PATTERNS["qwen2"]),
        "qwen35": regex(PATTERNS["qwen35"]), "gpt-4o": regex(o200k), "tekken": regex(PATTERNS["tekken"], ignore=True),
        "deepseek-v3": regex(*DEEPSEEK3),
        "deepseek-coder": (pre.Sequence([split(p) for p in DEEPSEEK_CODER] + [digit, byte_level()]), False),
        "falcon": (pre.Sequence([pre.Punctuation("contiguous"), byte_level(True), pre.Digits(individual_digits=False),
                                 split("[0-9][0-9][0-9]")]), False),
        "bloom": regex(PATTERNS["bloom"]), "viking": (pre.Sequence([split(PATTERNS["bloom"]), digit, byte_level()]), False),
        "bailingmoe": regex(PATTERNS["bailing"]), "exaone-moe": regex(PATTERNS["exaone"]),
        "seed-coder": regex(FOLDED + "|" + LEAD + r"\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + TAIL),
        "superbpe": regex(r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
        "minicpm5": regex(r"\p{N}{1,3}", FOLDED + "|" + LEAD + r"\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL, ignore=True),
        "tiny_aya": regex(triples, o200k), "ufakzeka": regex(LEAD + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL),
    }


def sentencepiece_cases(lines, folder, rules=None):
    """name → path of a tokenizer.model"""
    import sentencepiece
    options = {
        "spm-bpe": dict(model_type="bpe", vocab_size=1500, byte_fallback=True, normalization_rule_name="identity",
                        remove_extra_whitespaces=False, character_coverage=0.995),
        "spm-bpe-nmt": dict(model_type="bpe", vocab_size=1200, normalization_rule_name="nmt_nfkc_cf",
                            character_coverage=0.995, user_defined_symbols=["snake", "<|", "▁the", "①", "  "]),
        "spm-unigram": dict(model_type="unigram", vocab_size=900, normalization_rule_name="nmt_nfkc",
                            character_coverage=0.995),
        "spm-unigram-bytes": dict(model_type="unigram", vocab_size=1200, byte_fallback=True, add_dummy_prefix=False,
                                  normalization_rule_name="nfkc", character_coverage=0.995, split_digits=True,
                                  user_defined_symbols=["Hello", "\n", "é", "▁▁"]),
        "spm-suffix": dict(model_type="unigram", vocab_size=700, treat_whitespace_as_suffix=True,
                           character_coverage=0.995),
    }
    lines, paths = common_only(lines), {}
    for name, keywords in options.items():
        if rules and keywords.get("normalization_rule_name") != "identity":
            keywords = {k: v for k, v in keywords.items() if k != "normalization_rule_name"}
            keywords["normalization_rule_tsv"] = str(rules)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, minloglevel=2,
                                                 num_threads=1, hard_vocab_limit=False, **keywords)
        paths[name] = Path(folder) / f"{name}.model"
        paths[name].write_bytes(model.getvalue())
    return paths


def unused_variant(path, folder):
    """A copy of a BPE model in which every seventh piece is unused: a step of merging, but no result."""
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    proto.ParseFromString(Path(path).read_bytes())
    for i, piece in enumerate(proto.pieces):
        if piece.type == pb.ModelProto.SentencePiece.NORMAL and i % 7 == 0 and len(piece.piece) > 1:
            piece.type = pb.ModelProto.SentencePiece.UNUSED
    target = Path(folder) / f"{Path(path).stem}-unused.model"
    target.write_bytes(proto.SerializeToString())
    return target


def common_only(lines):
    """Without characters that are too rare to learn."""
    from collections import Counter
    counts = Counter("".join(lines))
    return ["".join(c for c in line if counts[c] >= 40) for line in lines]


def frozen_rules(path):
    """A normalisation map of a few kilobytes instead of the quarter megabyte of nmt_nfkc."""
    rules = {"\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ", "\r": "", "\u200b": " ", "ﬁ": "fi", "ﬂ": "fl", "①": "1",
             "½": "1⁄2", "²": "2", "³": "3", "e\u0301": "é", "u\u0308": "ü", "Ⅷ": "VIII", "…": "...", "ｶ": "カ", "A": "a", "B": "b",
             "H": "h", "T": "t", "ﷺ": "صلى الله عليه وسلم", "ĳ": "ij", "\u0301": ""}
    with open(path, "w", encoding="utf-8") as file:
        for source, target in sorted(rules.items()):
            file.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
    return path


def training_text(n_bytes=600_000):
    return gen.prose(7, n_bytes)
