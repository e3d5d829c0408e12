/*
 * Splitters: one function for each family of patterns that real models share.
 * Owner: none; constants. Lifetime: the process.
 */
#include "text/pretokenize.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

/* Class of the character at text[at], at < n, and its length. */
static inline unsigned class_at(const char *text, size_t at, size_t n, size_t *length)
{
    unsigned char first = (unsigned char)text[at];
    if (first < 0x80) {
        *length = 1;
        return unicode_class_ascii[first];
    }
    uint32_t code;
    *length = unicode_read(text + at, n - at, &code);
    return unicode_class_of[unicode_entry(code)];
}

/* The end of the run of characters with (any of) the classes in `mask`. */
static inline size_t run_of(const char *text, size_t at, size_t n, unsigned mask)
{
    size_t length;
    while (at < n && (class_at(text, at, n, &length) & mask)) {
        at += length;
    }
    return at;
}

static inline size_t run_without(const char *text, size_t at, size_t n, unsigned mask)
{
    size_t length;
    while (at < n && !(class_at(text, at, n, &length) & mask)) {
        at += length;
    }
    return at;
}

/* 's|'t|'re|'ve|'m|'ll|'d at text[at]: the end, or 0. With `fold` as under (?i:), where U+017F is an s, too. */
static size_t contraction(const char *text, size_t at, size_t n, bool fold)
{
    if (n - at < 2 || text[at] != '\'') {
        return 0;
    }
    unsigned char a = (unsigned char)text[at + 1];
    unsigned char b = n - at > 2 ? (unsigned char)text[at + 2] : 0;
    if (fold) {
        if (a == 0xc5 && b == 0xbf) {
            return at + 3;
        }
        a = a >= 'A' && a <= 'Z' ? (unsigned char)(a | 0x20) : a;
        b = b >= 'A' && b <= 'Z' ? (unsigned char)(b | 0x20) : b;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return at + 2;
    }
    bool two = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
    return two ? at + 3 : 0;
}

/* \s+(?!\S)|\s+ at a space: all of the run at the end of the text, else all but its last character, but at least one.
 * With `newlines`, \s*[\r\n]+ comes first: up to the last line break in the run. */
static size_t spaces(const char *text, size_t at, size_t n, bool newlines)
{
    size_t end = at, last = at, after_newline = 0, length;
    while (end < n) {
        unsigned class = class_at(text, end, n, &length);
        if (!(class & CLASS_SPACE)) {
            break;
        }
        last = end;
        end += length;
        if (class & CLASS_NEWLINE) {
            after_newline = end;
        }
    }
    if (newlines && after_newline) {
        return after_newline;
    }
    return end == n || last == at ? end : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t match_gpt2(const char *text, size_t at, size_t n)
{
    size_t end = contraction(text, at, n, false);
    if (end) {
        return end;
    }
    size_t begin = at + (text[at] == ' ' && at + 1 < n), length;
    unsigned class = class_at(text, begin, n, &length);
    if (class & CLASS_LETTER) {
        return run_of(text, begin + length, n, CLASS_LETTER);
    }
    if (class & CLASS_NUMBER) {
        return run_of(text, begin + length, n, CLASS_NUMBER);
    }
    if (class & CLASS_SPACE) {
        return spaces(text, at, n, false);
    }
    return run_without(text, begin + length, n, CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER);
}

/* The patterns that followed GPT-4's, by what differs between them. */
typedef struct modern {
    unsigned letters;    /* what words are made of */
    unsigned stop;       /* what ends a run of other characters */
    uint32_t digits_max; /* \p{N}{1,digits_max} */
    bool contractions;   /* (?i:'s|'t|'re|'ve|'m|'ll|'d) first, or after a word where `cased` */
    bool cased;          /* words break before an upper-case letter that follows a lower-case one */
    bool slash;          /* a run of other characters takes slashes along, too, after line breaks */
} modern;

/* [Lu Lt Lm Lo M]*[Ll Lm Lo M]+ or else [Lu Lt Lm Lo M]+[Ll Lm Lo M]*: the end, or 0. `lower` asks for the first. */
static size_t cased_word(const char *text, size_t at, size_t n, bool lower)
{
    size_t end = at, length, after_caseless = 0;
    unsigned class = 0;
    for (; end < n; end += length) {
        class = class_at(text, end, n, &length);
        if (!(class & (CLASS_UPPER | CLASS_CASELESS))) {
            break;
        }
        if (class & CLASS_CASELESS) {
            after_caseless = end + length;
        }
    }
    if (!lower) {
        return end == at ? 0 : run_of(text, end, n, CLASS_LOWER | CLASS_CASELESS);
    }
    if (end < n && (class & CLASS_LOWER)) {
        return run_of(text, end, n, CLASS_LOWER | CLASS_CASELESS);
    }
    return after_caseless; /* the first part gives back what the second needs */
}

/* The word alternatives with their optional leading character: the end, or 0. `class` and `length`: of text[at]. */
static size_t modern_word(const modern *kind, const char *text, size_t at, size_t n, unsigned class, size_t length)
{
    bool prefix = !(class & (CLASS_LETTER | CLASS_NUMBER | CLASS_NEWLINE));
    if (!kind->cased) {
        if (class & kind->letters) {
            return run_of(text, at + length, n, kind->letters);
        }
        size_t end = prefix ? run_of(text, at + length, n, kind->letters) : at;
        return end > at + length ? end : 0;
    }
    if (!(class & (CLASS_LETTER | CLASS_MARK)) && !prefix) {
        return 0;
    }
    size_t begin = prefix ? at + length : at, end = 0;
    for (int lower = 1; lower >= 0 && !end; lower--) {
        end = cased_word(text, begin, n, lower);
        if (!end && begin != at) {
            end = cased_word(text, at, n, lower);
        }
    }
    if (end && kind->contractions && end < n) {
        size_t longer = contraction(text, end, n, true);
        end = longer ? longer : end;
    }
    return end;
}

static inline size_t match_modern(const modern *kind, const char *text, size_t at, size_t n)
{
    size_t length, end;
    unsigned class = class_at(text, at, n, &length);
    if (kind->contractions && !kind->cased && text[at] == '\'' && (end = contraction(text, at, n, true)) != 0) {
        return end;
    }
    if ((end = modern_word(kind, text, at, n, class, length)) != 0) {
        return end;
    }
    if (class & CLASS_NUMBER) {
        end = at + length;
        for (uint32_t i = 1; i < kind->digits_max && end < n; i++) {
            if (!(class_at(text, end, n, &length) & CLASS_NUMBER)) {
                break;
            }
            end += length;
        }
        return end;
    }
    size_t begin = at + (text[at] == ' ' && at + 1 < n);
    class = class_at(text, begin, n, &length);
    if (!(class & kind->stop)) {
        end = run_without(text, begin + length, n, kind->stop);
        while (end < n && (text[end] == '\r' || text[end] == '\n' || (kind->slash && text[end] == '/'))) {
            end++;
        }
        return end;
    }
    return spaces(text, at, n, true);
}

#define STOP (CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER)

static size_t match_llama3(const char *text, size_t at, size_t n)
{
    static const modern kind = {CLASS_LETTER, STOP, 3, true, false, false};
    return match_modern(&kind, text, at, n);
}

static size_t match_qwen2(const char *text, size_t at, size_t n)
{
    static const modern kind = {CLASS_LETTER, STOP, 1, true, false, false};
    return match_modern(&kind, text, at, n);
}

static size_t match_qwen35(const char *text, size_t at, size_t n)
{
    static const modern kind = {CLASS_LETTER | CLASS_MARK, STOP | CLASS_MARK, 1, true, false, false};
    return match_modern(&kind, text, at, n);
}

static size_t match_o200k(const char *text, size_t at, size_t n)
{
    static const modern kind = {0, STOP, 3, true, true, true};
    return match_modern(&kind, text, at, n);
}

static size_t match_tekken(const char *text, size_t at, size_t n)
{
    static const modern kind = {0, STOP, 1, false, true, true};
    return match_modern(&kind, text, at, n);
}

static bool ascii_letter(unsigned char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26;
}

/* [!-/:-@[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t match_deepseek3(const char *text, size_t at, size_t n)
{
    const unsigned word = CLASS_LETTER | CLASS_MARK, other = CLASS_PUNCTUATION | CLASS_SYMBOL;
    size_t length;
    unsigned class = class_at(text, at, n, &length);
    if ((class & other) && length == 1 && at + 1 < n && ascii_letter((unsigned char)text[at + 1]) &&
        (unsigned char)text[at] < 0x80) {
        size_t end = at + 2;
        while (end < n && ascii_letter((unsigned char)text[end])) {
            end++;
        }
        return end;
    }
    if (class & word) {
        return run_of(text, at + length, n, word);
    }
    if (!(class & (other | CLASS_NEWLINE))) {
        size_t end = run_of(text, at + length, n, word);
        if (end > at + length) {
            return end;
        }
    }
    size_t begin = at + (text[at] == ' ' && at + 1 < n);
    size_t end = run_of(text, begin, n, other);
    if (end > begin) {
        while (end < n && (text[end] == '\r' || text[end] == '\n')) {
            end++;
        }
        return end;
    }
    return class & CLASS_SPACE ? spaces(text, at, n, true) : 0;
}

/* \p{N}{1,3} */
static size_t match_numbers3(const char *text, size_t at, size_t n)
{
    size_t end = at, length;
    for (int i = 0; i < 3 && end < n && (class_at(text, end, n, &length) & CLASS_NUMBER); i++) {
        end += length;
    }
    return end == at ? 0 : end;
}

/* \p{N} */
static size_t match_number(const char *text, size_t at, size_t n)
{
    size_t length;
    return class_at(text, at, n, &length) & CLASS_NUMBER ? at + length : 0;
}

/* \p{N}+ */
static size_t match_numbers(const char *text, size_t at, size_t n)
{
    size_t end = run_of(text, at, n, CLASS_NUMBER);
    return end == at ? 0 : end;
}

/* The Digits pre-tokenizer asks Rust's char::is_numeric, whose Unicode is newer than that of the expressions: these
 * are numbers since 17.0. */
static bool is_digit(const char *text, size_t at, size_t n, size_t *length)
{
    if (class_at(text, at, n, length) & CLASS_NUMBER) {
        return true;
    }
    uint32_t code;
    return *length == 4 && utf8_decode(text + at, n - at, &code) && unicode_is_number_17(code);
}

static size_t match_digit(const char *text, size_t at, size_t n)
{
    size_t length;
    return is_digit(text, at, n, &length) ? at + length : 0;
}

static size_t match_digits(const char *text, size_t at, size_t n)
{
    size_t end = at, length;
    while (end < n && is_digit(text, end, n, &length)) {
        end += length;
    }
    return end == at ? 0 : end;
}

/* [一-龥぀-ゟ゠-ヿ]+ */
static size_t match_cjk(const char *text, size_t at, size_t n)
{
    size_t end = at;
    uint32_t code;
    while (end < n) {
        size_t length = unicode_read(text + end, n - end, &code);
        if (!((code >= 0x4e00 && code <= 0x9fa5) || (code >= 0x3040 && code <= 0x30ff))) {
            break;
        }
        end += length;
    }
    return end == at ? 0 : end;
}

/* One White_Space character. */
static size_t match_space(const char *text, size_t at, size_t n)
{
    size_t length;
    return class_at(text, at, n, &length) & CLASS_SPACE ? at + length : 0;
}

/* One character that Bert's pre-tokenizer takes for punctuation. */
static size_t match_punctuation(const char *text, size_t at, size_t n)
{
    uint32_t code;
    size_t length = unicode_read(text + at, n - at, &code);
    bool found = code < 0x80 ? (unicode_class_ascii[code] & (CLASS_PUNCTUATION | CLASS_SYMBOL)) != 0
                             : unicode_in_ranges(&unicode_bert_punctuation, code);
    return found ? at + length : 0;
}

/* A run of it. */
static size_t match_punctuations(const char *text, size_t at, size_t n)
{
    size_t end = 0;
    for (size_t next; at < n && (next = match_punctuation(text, at, n)) != 0; at = next) {
        end = next;
    }
    return end;
}

/* \w+|[^\w\s]+ */
static size_t match_words(const char *text, size_t at, size_t n)
{
    uint32_t code;
    unicode_read(text + at, n - at, &code);
    bool word = unicode_is_word(code);
    size_t end = at;
    while (end < n) {
        size_t length = unicode_read(text + end, n - end, &code);
        if (unicode_is_space(code) || unicode_is_word(code) != word) {
            break;
        }
        end += length;
    }
    return end == at ? 0 : end;
}

#define FOLDED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"

static const splitter splitters[] = {
    {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", match_gpt2},
    {"llama3", FOLDED "|" LEAD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL, match_llama3},
    {"qwen2", FOLDED "|" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL, match_qwen2},
    {"qwen35", FOLDED "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL, match_qwen35},
    {"o200k",
     LEAD UPPERS "*" LOWERS "+" FOLDED "?|" LEAD UPPERS "+" LOWERS "*" FOLDED
                 "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL,
     match_o200k},
    {"tekken", LEAD UPPERS "*" LOWERS "+|" LEAD UPPERS "+" LOWERS "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL,
     match_tekken},
    {"deepseek3",
     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
     "| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL,
     match_deepseek3},
    {"numbers3", "\\p{N}{1,3}", match_numbers3},
    {"number", "\\p{N}", match_number},
    {"numbers", "\\p{N}+", match_numbers},
    {"digit", NULL, match_digit},
    {"digits", NULL, match_digits},
    {"space", NULL, match_space},
    {"punctuation", NULL, match_punctuation},
    {"punctuations", NULL, match_punctuations},
    {"words", NULL, match_words},
    {"cjk", "[一-龥぀-ゟ゠-ヿ]+", match_cjk},
};

const splitter *splitter_named(const char *name)
{
    for (size_t i = 0; i < sizeof splitters / sizeof *splitters; i++) {
        if (strcmp(splitters[i].name, name) == 0) {
            return &splitters[i];
        }
    }
    return NULL;
}

const splitter *splitter_for_pattern(const char *pattern, size_t n)
{
    for (size_t i = 0; i < sizeof splitters / sizeof *splitters; i++) {
        const char *known = splitters[i].pattern;
        if (known && strlen(known) == n && memcmp(known, pattern, n) == 0) {
            return &splitters[i];
        }
    }
    return NULL;
}

#define CONTRACTIONS "'(?i:[sdmt]|ll|ve|re)"
#define BLOOM "re: ?[^(\\s|[.,!?…。，、।۔،])]+"
/* Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and other cased letters, as the DeepSeek LLM tokenizer lists
 * them. */
#define DEEPSEEK_LETTERS                                                                                               \
    "A-Za-z\\x{00b5}\\x{00c0}-\\x{00d6}\\x{00d8}-\\x{00f6}\\x{00f8}-\\x{01ba}\\x{01bc}-\\x{01bf}"                      \
    "\\x{01c4}-\\x{0293}\\x{0295}-\\x{02af}\\x{0370}-\\x{0373}\\x{0376}\\x{0377}\\x{037b}-\\x{037d}\\x{037f}"          \
    "\\x{0386}\\x{0388}-\\x{038a}\\x{038c}\\x{038e}-\\x{03a1}\\x{03a3}-\\x{03f5}\\x{03f7}-\\x{0481}"                   \
    "\\x{048a}-\\x{052f}\\x{0531}-\\x{0556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}"                  \
    "\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"                  \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"         \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"          \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}"                  \
    "\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}"           \
    "\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}"          \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}"                    \
    "\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}"                  \
    "\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}"                  \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"        \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

static const pre_recipe recipes[] = {
    {"default", {"gpt2"}, false, false},
    {"gpt-2", {"gpt2"}, false, false},
    {"mpt", {"gpt2"}, false, false},
    {"olmo", {"gpt2"}, false, false},
    {"jais", {"gpt2"}, false, false},
    {"phi-2", {"gpt2"}, false, false},
    {"gigachat", {"gpt2"}, false, false},
    {"modern-bert", {"gpt2"}, false, false},
    {"mellum", {"gpt2"}, false, false},
    {"exaone4", {"gpt2"}, false, false},
    {"trillion", {"gpt2"}, false, false},
    {"granite-docling", {"gpt2"}, false, false},
    {"roberta-bpe", {"gpt2"}, false, false},
    {"smollm", {"digit", "gpt2"}, false, false},
    {"starcoder", {"digit", "gpt2"}, false, false},
    {"refact", {"digit", "gpt2"}, false, false},
    {"command-r", {"digit", "gpt2"}, false, false},
    {"codeshell", {"digit", "gpt2"}, false, false},
    {"exaone", {"digit", "gpt2"}, false, false},
    {"minerva-7b", {"digit", "gpt2"}, false, false},
    {"mellum2", {"digit", "gpt2"}, false, false},
    {"llama-bpe", {"llama3"}, true, true},
    {"llama3", {"llama3"}, true, true},
    {"llama-v3", {"llama3"}, true, true},
    {"falcon3", {"llama3"}, true, true},
    {"falcon-h1", {"llama3"}, true, true},
    {"pixtral", {"llama3"}, true, true},
    {"midm-2.0", {"llama3"}, true, true},
    {"lfm2", {"llama3"}, true, true},
    {"dbrx", {"llama3"}, false, false},
    {"smaug-bpe", {"llama3"}, false, false},
    {"glm4", {"llama3"}, false, false},
    {"chatglm-bpe", {"llama3"}, false, false},
    {"qwen2", {"qwen2"}, false, false},
    {"deepseek-r1-qwen", {"qwen2"}, false, false},
    {"stablelm2", {"qwen2"}, false, false},
    {"hunyuan", {"qwen2"}, false, false},
    {"solar-open", {"qwen2"}, false, false},
    {"megrez", {"qwen2"}, false, false},
    {"grok-2", {"qwen2"}, false, false},
    {"qwen35", {"qwen35"}, false, false},
    {"gpt-4o", {"o200k"}, false, false},
    {"llama4", {"o200k"}, false, false},
    {"kanana2", {"o200k"}, false, false},
    {"minimax-m2", {"o200k"}, false, false},
    {"tekken", {"tekken"}, true, true},
    {"deepseek-v3", {"numbers3", "cjk", "deepseek3"}, false, false},
    {"hunyuan-dense", {"numbers3", "cjk", "deepseek3"}, false, false},
    {"joyai-llm", {"numbers3", "cjk", "deepseek3"}, false, false},
    {"hy_v4", {"numbers3", "cjk", "deepseek3"}, false, false},
    {"deepseek-coder",
     {"re:[\\r\\n]", "re:\\s?\\p{L}+", "re:\\s?\\p{P}+", "re:[一-龥ࠀ-一가-퟿]+", "digit"},
     false,
     false},
    {"deepseek-llm",
     {"re:[\\r\\n]", "re:\\s?[" DEEPSEEK_LETTERS "]+", "re:\\s?[!-/:-~！-／：-～‘-‟　-。]+", "re:\\s+$",
      "re:[一-龥ࠀ-一가-퟿]+", "numbers"},
     false,
     false},
    {"falcon", {"punctuations", "gpt2", "alphabet", "digits", "re:[0-9][0-9][0-9]"}, false, false},
    {"bloom", {BLOOM}, false, false},
    {"poro-chat", {BLOOM}, false, false},
    {"gpt3-finnish", {BLOOM}, false, false},
    {"viking", {BLOOM, "digit"}, false, false},
    {"bailingmoe",
     {"re:" CONTRACTIONS
      "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     false,
     false},
    {"bailingmoe2",
     {"re:" CONTRACTIONS
      "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     false,
     false},
    {"seed-coder", {"re:" FOLDED "|" LEAD "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" TAIL}, false, false},
    {"exaone-moe",
     {"re:" FOLDED "|" LEAD
      "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     false,
     false},
    {"superbpe", {"numbers", "re:(?=(\\d{3})+(?!\\d))"}, false, false},
    {"minicpm5",
     {"numbers3", "re:" FOLDED "|" LEAD "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL},
     true,
     false},
    {"tiny_aya", {"re:\\d{1,3}(?=(?:\\d{3})*\\b)", "o200k"}, false, false},
    {"cohere2moe", {"re:\\d{1,3}(?=(?:\\d{3})*\\b)", "o200k"}, false, false},
    {"ufakzeka", {"re:" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL}, false, false},
    {"talkie", {"o200k"}, false, false},
    {"gemma4", {NULL}, false, true},
};

const pre_recipe *pre_recipe_named(const char *name)
{
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        if (strcmp(recipes[i].name, name) == 0) {
            return &recipes[i];
        }
    }
    return NULL;
}

void pre_recipe_names(char *out, size_t cap)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        int n = snprintf(out + used, cap - used, "%s%s", i ? ", " : "", recipes[i].name);
        if (n < 0 || (size_t)n >= cap - used) {
            out[used] = 0; /* whole names only */
            return;
        }
        used += (size_t)n;
    }
}
