"""Strings that tokenizers disagree on, from a seed: every script, emoji sequences, control characters, code, white space,
combining marks, special-token look-alikes, random code points. What `strings` gives is frozen in tests/data/tokenizers."""
import random

# (first, last) of one or two blocks of each script.
SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x2B0, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F),
    (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7BF), (0x7C0, 0x7FF), (0x800, 0x85F),
    (0x8A0, 0x8FF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F), (0xA80, 0xAFF), (0xB00, 0xB7F), (0xB80, 0xBFF),
    (0xC00, 0xC7F), (0xC80, 0xCFF), (0xD00, 0xD7F), (0xD80, 0xDFF), (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x13FF), (0x1400, 0x167F),
    (0x1680, 0x169F), (0x16A0, 0x16FF), (0x1700, 0x177F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1900, 0x197F),
    (0x1A00, 0x1AAF), (0x1AB0, 0x1AFF), (0x1B00, 0x1BFF), (0x1C00, 0x1C8F), (0x1C90, 0x1CBF), (0x1CD0, 0x1CFF),
    (0x1D00, 0x1DBF), (0x1DC0, 0x1DFF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F),
    (0x20A0, 0x20CF), (0x20D0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x22FF), (0x2300, 0x23FF), (0x2400, 0x24FF),
    (0x2500, 0x259F), (0x25A0, 0x27BF), (0x2800, 0x28FF), (0x2C00, 0x2CFF), (0x2D00, 0x2DFF), (0x2E00, 0x2FFF),
    (0x3000, 0x303F), (0x3040, 0x30FF), (0x3100, 0x31FF), (0x3200, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF), (0xA4D0, 0xA6FF), (0xA700, 0xA7FF), (0xA800, 0xA8FF), (0xA900, 0xA9DF), (0xAA00, 0xABFF),
    (0xAC00, 0xD7FF), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFE70, 0xFEFF),
    (0xFF00, 0xFFFF), (0x10000, 0x100FF), (0x10100, 0x101FF), (0x10280, 0x103DF), (0x10400, 0x104FF),
    (0x10500, 0x105FF), (0x10780, 0x107BF), (0x10800, 0x10AFF), (0x10C00, 0x10FFF), (0x11000, 0x114FF),
    (0x11500, 0x11FFF), (0x12000, 0x1254F), (0x13000, 0x143FF), (0x16800, 0x16FFF), (0x17000, 0x18DFF),
    (0x1B000, 0x1B2FF), (0x1BC00, 0x1BCAF), (0x1CF00, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1D800, 0x1DAAF),
    (0x1E000, 0x1E2FF), (0x1E900, 0x1E95F), (0x1EC70, 0x1EEFF), (0x1F000, 0x1F1FF), (0x1F200, 0x1F5FF),
    (0x1F600, 0x1F9FF), (0x1FA00, 0x1FBFF), (0x20000, 0x2A6DF), (0x2A700, 0x2EE5F), (0x2F800, 0x2FA1F),
    (0x30000, 0x323AF), (0xE0000, 0xE01EF), (0xF0000, 0xF00FF), (0x10FF00, 0x10FFFF),
]
WORDS = """the of and to in is it was for on that with as his they be at one have this from or had by hot word but what some
we can out other were all there when up use your how said an each she which do their time if will way about many then
them write would like so these her long make thing see him two has look more day could go come did number sound no most
people my over know water than call first who may down side been now find Hello World JavaScript don't I'm you're we've
he'll she'd it's I'D YOU'RE isn't 's 't 're 've 'm 'll 'd 'S 'T 'RE 'VE 'M 'LL 'D tokenization internationalization
antidisestablishmentarianism HTTPServer iPhone camelCaseWord snake_case_word SCREAMING_SNAKE kebab-case-word McDonald's
naïve café résumé Zürich Straße Łódź İstanbul ĳssel ﬁne ﬂow Ǆungla ǅ ǆ Ωμέγα Привет мир Москва שלום עולם مرحبا بالعالم
नमस्ते दुनिया বাংলা தமிழ் ไทย ភាសាខ្មែរ မြန်မာ ქართული հայերեն 你好 世界 中文分词 漢字 かな交じり文 カタカナ ｶﾀｶﾅ 안녕하세요 세계 한국어
Việt Nam tiếng 0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 0xdeadbeef 1e-9 ² ³ ½ Ⅷ ① ٣٤٥ १२३ ๑๒๓ 〇 百万 ᛮ""".split()
CODE = ["int main(void) {", "    return 0;", "}", "\tif (x == y) {", "def f(self, *args, **kwargs):", "for i in range(10):",
        "        print(f'{x:>10}')", "#include <stdio.h>", "// TODO: ???", "/* comment */", "<div class=\"a\">", "</div>",
        "SELECT * FROM t WHERE a != 'b';", "a += b << 3 | c & ~d;", "x->y.z[i++] = &w;", "std::vector<int> v{1, 2, 3};",
        "fn main() -> Result<(), Box<dyn Error>> {", "$HOME/.config/*.json", "{\"key\": [1, null, true]}", "!!!???...",
        "-----", "=====", "***", "```python", "\\begin{equation}", "https://example.org/a?b=c&d=e#f", "user@example.org",
        "@@ -1,3 +1,4 @@", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./", "lambda x: x ** 2", "a&&b||!c", "(a+b)*c/d%e"]
SPACES = [" ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "\n\n\n", " \t ", "\u00a0", "\u3000",
          "\u2003", "\u200b", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\u180e", "\ufeff", "\u202f", " \n \n  ",
          "        ", " " * 17, "\n" * 7, "\t \t"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇺🇸🇯🇵", "❤️", "☕", "🧑🏿‍🚀", "1️⃣", "#️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🫠", "🤷‍♀️", "👨🏻‍🦰", "™️", "🀄", "🫨"]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u0345", "\u034f", "\u0483", "\u05b0", "\u064b", "\u0670", "\u093c", "\u094d",
         "\u0bcd", "\u0e34", "\u1dc4", "\u20d7", "\u20e3", "\ufe0f", "\ufe20", "\u3099", "\u302a", "\U0001d167", "\u200d", "\u200c"]
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "[INST]", "[/INST]",
           "<start_of_turn>user\n", "<end_of_turn>\n", "<0x0A>", "<0xE2>", "▁", "▁▁", "▁the", " ▁ ", "Ġthe", "##ing", "[CLS]",
           "[SEP]", "[MASK]", "[UNK]", "<unused42>", "<|", "|>", "<|im_", "<mask>", "[multimodal]", "<|eot_id|>", "<|user|>", "⁇"]


def one_character(rng):
    kind = rng.random()
    if kind < 0.25:
        return chr(rng.randrange(0x20, 0x7F))
    if kind < 0.85:
        first, last = rng.choice(SCRIPTS)
        return chr(rng.randint(first, last))
    if kind < 0.9:
        return chr(rng.randrange(0, 0x20))
    code = rng.randrange(0x110000)
    return chr(code) if not 0xD800 <= code < 0xE000 else "\ud7a3"


def script_run(rng):
    first, last = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 12)))


def piece(rng):
    kind = rng.randrange(16)
    if kind < 4:
        word = rng.choice(WORDS)
        if rng.random() < 0.15:
            word = rng.choice((word.upper(), word.capitalize(), word.swapcase(), word * 2))
        return (" " if rng.random() < 0.7 else "") + word
    if kind < 6:
        return rng.choice(SPACES)
    if kind == 6:
        return rng.choice(CODE)
    if kind == 7:
        return rng.choice(EMOJI)
    if kind == 8:
        return "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 3)))
    if kind == 9:
        return rng.choice(SPECIAL)
    if kind == 10:
        return script_run(rng)
    if kind == 11:
        return str(rng.randrange(10 ** rng.randint(1, 12)))
    if kind == 12:
        return rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»“”‘’…–—。，、！？·") * rng.randint(1, 4)
    if kind == 13:
        return rng.choice(WORDS + SPACES) * rng.randint(1, 5)
    if kind == 14:
        return one_character(rng) * rng.randint(1, 40)
    return "".join(one_character(rng) for _ in range(rng.randint(1, 6)))


def strings(seed, count):
    """`count` strings without surrogates, most of them short."""
    rng = random.Random(seed)
    result = []
    for _ in range(count):
        length = rng.choice((1, 1, 2, 2, 3, 4, 5, 8, 12, 30))
        text = "".join(piece(rng) for _ in range(length))
        result.append(text.encode("utf-8", "replace").decode("utf-8"))
    return result


def long_strings(seed, count):
    """Texts of some kilobytes, in which words come again."""
    rng = random.Random(seed)
    return ["".join(strings(rng.randrange(1 << 30), 40)) + rng.choice((" ", "\n", "a", "▁")) * rng.randrange(3000)
            for _ in range(count)]


def every_code_point():
    """Each code point of the planes in use, and some of the private ones: among its neighbours, and among letters and digits."""
    codes = [c for c in (*range(0x33500), *range(0xE0000, 0xE0200), *range(0xF0000, 0xF0020), *range(0x10FFF0, 0x110000))
             if not 0xD800 <= c < 0xE000]
    for at in range(0, len(codes), 16):
        yield "".join(map(chr, codes[at:at + 16]))
    for at in range(0, len(codes), 8):
        yield "".join(f"x{chr(c)} {chr(c)}1" for c in codes[at:at + 8])


def prose(seed, n_bytes):
    """Text to train small vocabularies on: words of many languages, code, numbers."""
    rng = random.Random(seed)
    lines, total = [], 0
    while total < n_bytes:
        line = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 14)))
        if rng.random() < 0.15:
            line = rng.choice(CODE)
        if rng.random() < 0.1:
            line += " " + rng.choice(EMOJI) + script_run(rng)
        lines.append(line + rng.choice((".", "!", "", " ", "?")))
        total += len(line) + 2
    return lines
