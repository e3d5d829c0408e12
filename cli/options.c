/*
 * The table of options, and reading values.
 * Owner: main. Lifetime: the process.
 */
#include "options.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "registry/words.h"

#define AT(field) offsetof(options, field)

const option_spec option_table[] = {
    {"json", 0, OPTION_FLAG, AT(json), GROUP_JSON, NULL, "print JSON"},
    {"tensors", 0, OPTION_FLAG, AT(tensors), GROUP_SHOW, NULL, "list every tensor"},
    {"type", 0, OPTION_TEXT, AT(type), GROUP_QUANTIZE, "TYPE",
     "what to write: Q4_K_M, Q8_0, F16 … (docs/quantize.md lists them)"},
    {"imatrix", 0, OPTION_FILE, AT(imatrix), GROUP_QUANTIZE, "FILE",
     "importance matrix: errors count by the inputs they meet"},
    {"split-max-size", 0, OPTION_BYTES, AT(split_max_bytes), GROUP_QUANTIZE, "SIZE",
     "parts of at most this size, OUT-00001-of-0000N.gguf; 0: one file"},
    {"metal", 0, OPTION_FLAG, AT(metal), GROUP_DOCTOR, NULL,
     "check the Metal kernels, put aside those that are wrong or slow"},
    {"prompt-tokens", 'p', OPTION_U32, AT(n_prompt), GROUP_BENCH, "N",
     "prompt tokens to compute; 0: skip [512; 128 each with -b]"},
    {"tokens", 'n', OPTION_U32, AT(n_generate), GROUP_BENCH, "N", "tokens to generate; 0: skip [64]"},
    {"batch", 'b', OPTION_COUNTS, AT(batches), GROUP_BENCH, "N,N", "decode so many sequences together, too: 1,8,32"},
    {"depth", 'd', OPTION_DEPTHS, AT(depths), GROUP_BENCH, "N,N", "measure behind so many tokens, too: 2048,8192"},
    {"logits", 0, OPTION_FLAG, AT(logits), GROUP_BENCH, NULL, "decode with all logits, not only the greatest"},
    {"csv", 0, OPTION_FLAG, AT(csv), GROUP_BENCH, NULL, "print CSV"},
    {"md", 0, OPTION_FLAG, AT(md), GROUP_BENCH, NULL, "print a Markdown table"},
    {"profile", 0, OPTION_FILE, AT(profile), GROUP_BENCH, "FILE",
     "run each test once more and write what its operations took, as JSON"},
    {"trace", 0, OPTION_FILE, AT(trace), GROUP_BENCH, "FILE", "the same for chrome://tracing or Perfetto"},
    {"repetitions", 'r', OPTION_U32, AT(n_repeat), GROUP_BENCH, "N", "how often each test is run [3]"},
    {"model", 'm', OPTION_MODEL, AT(model), GROUP_BATCH, "MODEL", "the model, if it is not the first argument"},
    {"output", 'o', OPTION_FILE, AT(output), GROUP_BATCH, "FILE",
     "append results to it; lines that are done are skipped [stdout]"},
    {"parallel", 0, OPTION_U32, AT(n_parallel), GROUP_BATCH, "N", "sequences that run at once [32]"},
    {"retry-errors", 0, OPTION_FLAG, AT(retry_errors), GROUP_BATCH, NULL, "try lines again whose result is an error"},
    {"tokens", 'n', OPTION_I32, AT(n_predict), GROUP_RUN | GROUP_BATCH, "N",
     "tokens at most [2048; without a template 256; in a chat no limit]"},
    {"raw", 0, OPTION_FLAG, AT(raw), GROUP_RUN | GROUP_BATCH, NULL,
     "give the prompt to the model as it is, without its chat template"},
    {"system", 0, OPTION_TEXT, AT(system), GROUP_RUN | GROUP_BATCH, "TEXT", "system message"},
    {"chat", 0, OPTION_FLAG, AT(chat), GROUP_RUN, NULL, "go on as a chat after the answer, if this is a terminal"},
    {"no-wrap", 0, OPTION_FLAG, AT(no_wrap), GROUP_RUN, NULL, "leave it to the terminal where rows of an answer end"},
    {"serve", 0, OPTION_FLAG, AT(serve), GROUP_RUN, NULL,
     "answer through a daemon, the one that is there or one of its own"},
    {"server", 0, OPTION_TEXT, AT(server), GROUP_CLIENT, "HOST",
     "the daemon to ask: HOST:PORT, URL, unix:/PATH, none [$MLXR_HOST]"},
    {"stop", 0, OPTION_LIST, AT(stops), GROUP_RUN | GROUP_BATCH, "TEXT",
     "end the answer where this text begins; may be repeated"},
    {"grammar", 0, OPTION_FILE, AT(grammar), GROUP_GRAMMAR, "FILE", "answers are sentences of this GBNF grammar"},
    {"schema", 0, OPTION_FILE, AT(schema), GROUP_GRAMMAR, "FILE", "answers are JSON that this JSON Schema describes"},
    {"draft", 0, OPTION_DRAFT, AT(draft), GROUP_DRAFT, "MODEL",
     "guess ahead: smaller model, ngram, or mtp (its head); same results"},
    {"draft", 0, OPTION_TEXT, AT(draft), GROUP_SERVE, "ngram|mtp|none",
     "guess ahead in answers whose request does not say [none]"},
    {"draft-max", 0, OPTION_U32, AT(n_draft_max), GROUP_DRAFT, "N", "the longest guess, 1 to 15; 0: the usual [8]"},
    {"verbose", 'v', OPTION_FLAG, AT(verbose),
     GROUP_RUN | GROUP_BENCH | GROUP_PERPLEXITY | GROUP_BATCH | GROUP_SERVE | GROUP_EMBED, NULL,
     "tell more on stderr: timings, what the engine does"},
    {"temp", 't', OPTION_FLOAT, AT(sampling.temperature), GROUP_SAMPLING, "T",
     "temperature; 0: always the likeliest token"},
    {"top-k", 0, OPTION_I32, AT(sampling.top_k), GROUP_SAMPLING, "K", "choose among the K likeliest; 0: off"},
    {"top-p", 0, OPTION_FLOAT, AT(sampling.top_p), GROUP_SAMPLING, "P",
     "choose among the likeliest that add up to P; 1: off"},
    {"min-p", 0, OPTION_FLOAT, AT(sampling.min_p), GROUP_SAMPLING, "P",
     "drop what is less likely than P times the likeliest"},
    {"typical", 0, OPTION_FLOAT, AT(sampling.typical_p), GROUP_SAMPLING, "P", "locally typical sampling; 1: off"},
    {"xtc-probability", 0, OPTION_FLOAT, AT(sampling.xtc_probability), GROUP_SAMPLING, "P",
     "how often to exclude the top choices; 0: off"},
    {"xtc-threshold", 0, OPTION_FLOAT, AT(sampling.xtc_threshold), GROUP_SAMPLING, "P", "what counts as a top choice"},
    {"dry-multiplier", 0, OPTION_FLOAT, AT(sampling.dry_multiplier), GROUP_SAMPLING, "X",
     "strength of the penalty on repeated phrases; 0: off"},
    {"dry-base", 0, OPTION_FLOAT, AT(sampling.dry_base), GROUP_SAMPLING, "X", "how it grows with their length"},
    {"dry-allowed-length", 0, OPTION_I32, AT(sampling.dry_allowed_length), GROUP_SAMPLING, "N",
     "phrases up to N are free"},
    {"dry-penalty-last-n", 0, OPTION_I32, AT(sampling.dry_penalty_last_n), GROUP_SAMPLING, "N",
     "how far back it looks; -1: the whole context"},
    {"dry-sequence-breaker", 0, OPTION_LIST, AT(breakers), GROUP_SAMPLING, "TEXT",
     "text that ends a phrase; may be repeated"},
    {"mirostat", 0, OPTION_I32, AT(sampling.mirostat), GROUP_SAMPLING, "N",
     "mirostat 1 or 2 instead of the filters; 0: off"},
    {"mirostat-tau", 0, OPTION_FLOAT, AT(sampling.mirostat_tau), GROUP_SAMPLING, "X",
     "the surprise it aims at, in bits"},
    {"mirostat-eta", 0, OPTION_FLOAT, AT(sampling.mirostat_eta), GROUP_SAMPLING, "X", "how fast it adapts"},
    {"repeat-penalty", 0, OPTION_FLOAT, AT(sampling.repeat_penalty), GROUP_SAMPLING, "X",
     "penalty on repeated tokens; 1: off"},
    {"presence-penalty", 0, OPTION_FLOAT, AT(sampling.presence_penalty), GROUP_SAMPLING, "X",
     "the same, subtracted once; 0: off"},
    {"frequency-penalty", 0, OPTION_FLOAT, AT(sampling.frequency_penalty), GROUP_SAMPLING, "X",
     "the same, subtracted per occurrence; 0: off"},
    {"repeat-last-n", 0, OPTION_I32, AT(sampling.penalty_last_n), GROUP_SAMPLING, "N",
     "how far back the three look; -1: the whole context"},
    {"logit-bias", 0, OPTION_BIAS, AT(bias), GROUP_SAMPLING, "ID=BIAS",
     "add BIAS to a token's logit; -inf forbids it; may be repeated"},
    {"seed", 's', OPTION_U64, AT(sampling.seed), GROUP_SAMPLING, "N", "same seed, same answer; 0: a new one each time"},
    {"logprobs", 0, OPTION_I32, AT(n_logprobs), GROUP_RUN, "N",
     "with --json: log-probabilities, with N alternatives each"},
    {"ctx", 'c', OPTION_U32, AT(n_ctx), GROUP_CONTEXT | GROUP_BENCH | GROUP_EMBED, "N",
     "tokens of context [what the model was trained for]"},
    {"file", 'f', OPTION_FILE, AT(file), GROUP_PERPLEXITY | GROUP_IMATRIX | GROUP_TOKENIZE | GROUP_EMBED, "FILE",
     "the text; - reads stdin"},
    {"lora", 0, OPTION_LIST, AT(adapters), GROUP_LORA, "FILE[=SCALE]",
     "apply a LoRA adapter, GGUF or PEFT's folder; may be repeated"},
    {"merge", 0, OPTION_LIST, AT(adapters), GROUP_QUANTIZE, "FILE[=SCALE]",
     "add a LoRA adapter to the weights; may be repeated"},
    {"top", 0, OPTION_U32, AT(n_top), GROUP_RERANK, "N", "only the N best"},
    {"instruction", 0, OPTION_TEXT, AT(instruction), GROUP_RERANK, "TEXT",
     "what a query is to be answered for; told to decoders"},
    {"as", 0, OPTION_TEXT, AT(as), GROUP_PULL, "NAME", "store it under this name"},
    {"digest", 0, OPTION_TEXT, AT(digest), GROUP_PULL, "sha256:HEX", "what the bytes of a URL or file must have"},
    {"catalogue", 0, OPTION_FLAG, AT(catalogue), GROUP_LIST, NULL, "models to pull that we recommend"},
    {"file", 'f', OPTION_FILE, AT(file), GROUP_BENCH, "FILE",
     "take tokens from this text, - from stdin, instead of random ones"},
    {"alias", 0, OPTION_FLAG, AT(alias), GROUP_COPY, NULL, "a name that follows the model, not a copy"},
    {"file", 'f', OPTION_FILE, AT(file), GROUP_CREATE, "FILE", "the Modelfile; - reads stdin [Modelfile]"},
    {"from", 0, OPTION_MODEL, AT(from), GROUP_CREATE, "MODEL", "a model or the path of one, without a Modelfile"},
    {"modelfile", 0, OPTION_FLAG, AT(modelfile), GROUP_SHOW, NULL, "print the Modelfile that would make it"},
    {"pull", 0, OPTION_FLAG, AT(pull), GROUP_DOCTOR, NULL, "try whether models can be downloaded; asks the servers"},
    {"ctx", 'c', OPTION_U32, AT(n_ctx), GROUP_PERPLEXITY | GROUP_IMATRIX, "N",
     "tokens of a window [512, or the model's context]"},
    {"rope-scaling", 0, OPTION_TEXT, AT(rope_scaling), GROUPS_ROPE, "HOW",
     "read further than a model was trained for: yarn, ntk, linear, none"},
    {"rope-scale", 0, OPTION_FLOAT, AT(rope_scale), GROUPS_ROPE, "F",
     "times as far, upon the file's factor [--ctx by the trained one]"},
    {"rope-base", 0, OPTION_FLOAT, AT(rope_base), GROUPS_ROPE, "THETA", "of RoPE's frequencies [the file's]"},
    {"rope-original", 0, OPTION_U32, AT(rope_original), GROUPS_ROPE, "N",
     "F counts from N tokens, and replaces the file's own scaling"},
    {"yarn-beta-fast", 0, OPTION_FLOAT, AT(yarn_beta_fast), GROUPS_ROPE, "N",
     "turns from which YaRN leaves a pair [the file's, 32]"},
    {"yarn-beta-slow", 0, OPTION_FLOAT, AT(yarn_beta_slow), GROUPS_ROPE, "N",
     "turns up to which YaRN divides a pair [the file's, 1]"},
    {"yarn-attn-factor", 0, OPTION_FLOAT, AT(yarn_attn_factor), GROUPS_ROPE, "X",
     "times YaRN's own factor of attention [1]"},
    {"windows", 0, OPTION_U32, AT(n_windows), GROUP_PERPLEXITY | GROUP_IMATRIX, "N", "take the first N windows [all]"},
    {"skip", 0, OPTION_U32, AT(n_skip), GROUP_PERPLEXITY, "N",
     "the first N positions of a window are context only [0]"},
    {"save-logits", 0, OPTION_FILE, AT(save_logits), GROUP_PERPLEXITY, "REF",
     "write what is predicted, as a reference"},
    {"kld", 0, OPTION_FILE, AT(kld), GROUP_PERPLEXITY, "REF", "compare with a reference: KL divergence, favourites"},
    {"add-special", 0, OPTION_FLAG, AT(add_special), GROUP_TOKENIZE, NULL,
     "add BOS and EOS as the model's tokenizer does"},
    {"parse-special", 0, OPTION_FLAG, AT(parse_special), GROUP_TOKENIZE, NULL,
     "text such as <|im_end|> becomes the control token"},
    {"ids", 0, OPTION_FLAG, AT(ids_only), GROUP_TOKENIZE, NULL, "print the ids only, in one line"},
    {"with-special", 0, OPTION_FLAG, AT(with_special), GROUP_DETOKENIZE, NULL, "print special tokens, too"},
    {"scopes", 0, OPTION_TEXT, AT(scopes), GROUP_KEY, "LIST",
     "what a new key allows: inference, read, admin [inference,read]"},
    {"models", 0, OPTION_TEXT, AT(key_models), GROUP_KEY, "LIST",
     "the models it may use, with commas between; a * at an end stands for anything [all]"},
    {"requests-per-minute", 0, OPTION_U32, AT(n_rpm), GROUP_KEY, "N", "[no bound]"},
    {"tokens-per-day", 0, OPTION_U64, AT(n_tpd), GROUP_KEY, "N", "of prompts and answers [no bound]"},
    {"days", 0, OPTION_U32, AT(n_days), GROUP_KEY, "N", "until it expires [never]"},
    {"host", 0, OPTION_TEXT, AT(host), GROUP_SERVE, "HOST",
     "where to listen, beyond this machine only with a key [$MLXR_HOST]"},
    {"port", 0, OPTION_U32, AT(port), GROUP_SERVE, "PORT", "0: any that is free [11435]"},
    {"ollama-port", 0, OPTION_U32, AT(ollama_port), GROUP_SERVE, "PORT",
     "listen there, too: Ollama's clients look at 11434"},
    {"socket", 0, OPTION_FILE, AT(socket), GROUP_SERVE, "FILE", "listen on a Unix socket, too"},
    {"no-tcp", 0, OPTION_FLAG, AT(no_tcp), GROUP_SERVE, NULL, "listen on the Unix socket only"},
    {"model", 'm', OPTION_LIST, AT(models), GROUP_SERVE, "MODEL", "load it at the start and keep it; may be repeated"},
    {"allow-host", 0, OPTION_LIST, AT(allow_hosts), GROUP_SERVE, "NAME",
     "answer for this name, too, as the header Host has it; may be repeated"},
    {"allow-origin", 0, OPTION_LIST, AT(allow_origins), GROUP_SERVE, "URL",
     "web pages that may ask, such as https://chat.example; may be repeated"},
    {"tls-cert", 0, OPTION_FILE, AT(tls_cert), GROUP_SERVE, "FILE", "speak TLS with this certificate (PEM)"},
    {"tls-key", 0, OPTION_FILE, AT(tls_key), GROUP_SERVE, "FILE", "and this key"},
    {"memory", 0, OPTION_BYTES, AT(memory_bytes), GROUP_SERVE, "SIZE",
     "for the weights of loaded models and the KV cache together [no bound]"},
    {"follow", 'f', OPTION_FLAG, AT(follow), GROUP_LOGS, NULL, "go on with what is written from now on"},
    {"lines", 'n', OPTION_U32, AT(n_lines), GROUP_LOGS, "N", "the newest N lines; at most 2000 [100]"},
    {"level", 0, OPTION_TEXT, AT(log_level), GROUP_LOGS, "LEVEL", "lines of this level and worse [debug]"},
    {"now", 0, OPTION_FLAG, AT(now), GROUP_STOP, NULL, "end answers that are running"},
    {"keep-alive", 0, OPTION_I32, AT(keep_alive_s), GROUP_SERVE, "SECONDS",
     "how long an idle model stays loaded; -1: for ever [300]"},
    {"keep-alive", 0, OPTION_I32, AT(keep_alive_s), GROUP_LOAD, "SECONDS",
     "how long it stays loaded while it is idle; -1: for ever [as the daemon has it]"},
    {"parallel", 0, OPTION_U32, AT(n_parallel), GROUP_SERVE, "N", "answers that are computed at once [256]"},
    {"queue", 0, OPTION_U32, AT(n_queue), GROUP_SERVE, "N", "requests that wait beyond them; then 429 [128]"},
    {"drain", 0, OPTION_U32, AT(drain_s), GROUP_SERVE, "SECONDS", "for running answers at the end [30]"},
    {"log-level", 0, OPTION_TEXT, AT(log_level), GROUP_SERVE, "LEVEL", "error, warn, info or debug [info]"},
    {"log-file", 0, OPTION_FILE, AT(log_file), GROUP_SERVE, "FILE",
     "write the log there as JSON lines, rotated by size [stderr]"},
    {"log-format", 0, OPTION_TEXT, AT(log_format), GROUP_SERVE, "FORMAT",
     "json, pretty or journal [what suits where it goes]"},
    {"no-sandbox", 0, OPTION_FLAG, AT(no_sandbox), GROUP_SERVE | GROUP_RUN, NULL,
     "do without the kernel's confinement (Landlock, seccomp)"},
    {"routes", 0, OPTION_FLAG, AT(routes), GROUP_SERVE, NULL, "print the table of routes as JSON and end"},
    {"threads", 0, OPTION_U32, AT(n_threads), GROUP_ENGINE | GROUP_QUANTIZE, "N",
     "threads [one per core this process may use]"},
    {"backend", 0, OPTION_TEXT, AT(backend), GROUP_ENGINE, "NAME",
     "cpu, cpu-scalar, or mlx where it was built in [the best present]"},
    {"cpu-features", 0, OPTION_TEXT, AT(cpu_features), GROUP_ENGINE | GROUP_QUANTIZE, "MASK",
     "leave out instruction sets: -avx512,-amx"},
    {"kv-type", 0, OPTION_TEXT, AT(kv_type), GROUP_ENGINE, "TYPE",
     "type of the KV cache: auto, f32, f16, bf16, i16, q8_0, q4_0 [auto]"},
    {"activations", 0, OPTION_TEXT, AT(activations), GROUP_ENGINE, "BITS",
     "of inputs of quantised weights: 16, or 8: faster, less exact [16]"},
    {"kv-bytes", 0, OPTION_BYTES, AT(kv_bytes), GROUP_ENGINE, "SIZE",
     "memory for the KV cache, such as 512M [half of what is free]"},
    {"expert-bytes", 0, OPTION_BYTES, AT(expert_bytes), GROUP_ENGINE, "SIZE",
     "memory for experts of a mixture; 0: the system's way [what is free]"},
    {"kv-dir", 0, OPTION_FILE, AT(kv_dir), GROUP_CACHE, "DIR",
     "keep what leaves the KV cache there, and find it again"},
    {"kv-disk-bytes", 0, OPTION_BYTES, AT(kv_disk_bytes), GROUP_CACHE, "SIZE", "room for it [8G]"},
    {"batch-invariant", 0, OPTION_FLAG, AT(batch_invariant), GROUP_COMPUTE, NULL,
     "insist that results do not depend on the batch, or fail"},
    {"help", 'h', OPTION_FLAG, AT(help), GROUP_ALWAYS, NULL, "this text"},
};
const size_t n_option_table = sizeof option_table / sizeof *option_table;
_Static_assert(sizeof option_table / sizeof *option_table <= 8 * sizeof((options *)0)->given, "a bit for each option");

bool options_given(const options *o, const option_spec *spec)
{
    size_t index = (size_t)(spec - option_table);
    return o->given[index / 64] >> index % 64 & 1;
}

void options_mark(options *o, const option_spec *spec)
{
    size_t index = (size_t)(spec - option_table);
    o->given[index / 64] |= (uint64_t)1 << index % 64;
}

void options_init(options *o)
{
    *o = (options){.n_predict = -1,
                   .keep_alive_s = 300,
                   .n_logprobs = -1,
                   .n_prompt = UINT32_MAX,
                   .n_generate = 64,
                   .n_repeat = 3,
                   .port = 11435,
                   .expert_bytes = UINT64_MAX,
                   .n_lines = 100};
    o->sampling = mlxr_sampling_default();
}

void options_close(options *o)
{
    free(o->bias);
    free(o->stops.items);
    free(o->models.items);
    free(o->allow_hosts.items);
    free(o->allow_origins.items);
    free(o->breakers.items);
    free(o->args);
    *o = (options){0};
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static bool bad_value(const option_spec *spec, const char *value, const char *expected)
{
    print_error("--%s %s: %s", spec->name, value, expected);
    return false;
}

/* What a number may be, where that is less than what its kind holds; of sampling as mlxr_sampling_check has it. */
typedef struct range {
    const char *name;
    unsigned groups;
    double least, most;
    bool above; /* `least` itself is too little */
} range;

static const range ranges[] = {
    {"port", GROUP_SERVE, 0, 65535, false},
    {"ollama-port", GROUP_SERVE, 0, 65535, false},
    {"parallel", GROUP_SERVE, 0, 4096, false},
    {"queue", GROUP_SERVE, 0, 65536, false},
    {"drain", GROUP_SERVE, 0, 86400, false},
    {"keep-alive", GROUP_SERVE, -1, 2000000, false}, /* as options of a daemon are kept */
    {"keep-alive", GROUP_LOAD, -1, 1e9, false},      /* as its API has it */
    {"lines", GROUP_LOGS, 0, 2000, false},
    {"days", GROUP_KEY, 0, 36500, false},
    {"threads", GROUP_ENGINE | GROUP_QUANTIZE, 0, 1024, false},
    {"draft-max", GROUP_DRAFT, 0, DRAFT_MAX, false},
    {"logprobs", GROUP_RUN, 0, INT32_MAX, false},
    {"repetitions", GROUP_BENCH, 1, 10000, false},
    {"rope-scale", GROUPS_ROPE, 1, 1 << 30, false},
    {"rope-base", GROUPS_ROPE, 1, FLT_MAX, true},
    {"rope-original", GROUPS_ROPE, 1, 1 << 30, false},
    {"yarn-beta-fast", GROUPS_ROPE, 0, FLT_MAX, true},
    {"yarn-beta-slow", GROUPS_ROPE, 0, FLT_MAX, true},
    {"yarn-attn-factor", GROUPS_ROPE, 0, FLT_MAX, true},
    {"temp", GROUP_SAMPLING, 0, FLT_MAX, false},
    {"top-k", GROUP_SAMPLING, 0, INT32_MAX, false},
    {"top-p", GROUP_SAMPLING, 0, 1, false},
    {"min-p", GROUP_SAMPLING, 0, 1, false},
    {"typical", GROUP_SAMPLING, 0, 1, false},
    {"xtc-probability", GROUP_SAMPLING, 0, 1, false},
    {"xtc-threshold", GROUP_SAMPLING, 0, 1, false},
    {"dry-multiplier", GROUP_SAMPLING, 0, FLT_MAX, false},
    {"dry-base", GROUP_SAMPLING, 1, FLT_MAX, false},
    {"dry-allowed-length", GROUP_SAMPLING, 1, INT32_MAX, false},
    {"mirostat", GROUP_SAMPLING, 0, 2, false},
    {"mirostat-tau", GROUP_SAMPLING, 0, FLT_MAX, false},
    {"mirostat-eta", GROUP_SAMPLING, 0, FLT_MAX, false},
    {"repeat-penalty", GROUP_SAMPLING, 0, FLT_MAX, true},
    {"presence-penalty", GROUP_SAMPLING, -FLT_MAX, FLT_MAX, false},
    {"frequency-penalty", GROUP_SAMPLING, -FLT_MAX, FLT_MAX, false},
};

static range range_of(const option_spec *spec)
{
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if ((ranges[i].groups & spec->groups) && strcmp(ranges[i].name, spec->name) == 0) {
            return ranges[i];
        }
    }
    return spec->kind == OPTION_U32   ? (range){.least = 0, .most = UINT32_MAX}
           : spec->kind == OPTION_I32 ? (range){.least = -1, .most = INT32_MAX}
                                      : (range){.least = -INFINITY, .most = INFINITY};
}

/* A whole decimal number within the range. */
static bool read_whole(const option_spec *spec, const char *text, range r, int64_t *out)
{
    char *end, expected[96];
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || (double)number < r.least || (double)number > r.most) {
        snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f is needed", r.least, r.most);
        return bad_value(spec, text, expected);
    }
    *out = number;
    return true;
}

static bool read_unsigned(const option_spec *spec, const char *text, uint64_t *out, char **rest, const char *expected)
{
    errno = 0;
    unsigned long long number = strtoull(text, rest, 10);
    if (*rest == text || errno || strchr(text, '-')) {
        return bad_value(spec, text, expected);
    }
    *out = number;
    return true;
}

static bool read_u64(const option_spec *spec, const char *text, uint64_t *out)
{
    static const char expected[] = "a whole number from 0 to 18446744073709551615 is needed";
    char *rest;
    uint64_t number;
    if (!read_unsigned(spec, text, &number, &rest, expected)) {
        return false;
    }
    if (*rest) {
        return bad_value(spec, text, expected);
    }
    *out = number;
    return true;
}

/* 512M, 4G, 1.5G is not needed. */
static bool read_bytes(const option_spec *spec, const char *text, uint64_t *out)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    static const char expected[] = "a size such as 512M or 4G is needed, a whole number up to 16777215T";
    char *rest;
    uint64_t number;
    if (!read_unsigned(spec, text, &number, &rest, expected)) {
        return false;
    }
    for (unsigned i = 0; i < 5; i++) {
        if (strcmp(rest, units[i]) == 0 && number <= UINT64_MAX >> (10 * i)) {
            *out = number << (10 * i);
            return true;
        }
    }
    return bad_value(spec, text, expected);
}

static bool bad_number(const option_spec *spec, const char *text, range r)
{
    char expected[96];
    double far = (double)FLT_MAX;
    if (r.most < far) {
        snprintf(expected, sizeof expected, "a number from %.10g to %.10g is needed", r.least, r.most);
    } else if (r.least > -far) {
        snprintf(expected, sizeof expected,
                 r.above ? "a number above %.10g is needed" : "a number of %.10g or more is needed", r.least);
    } else {
        snprintf(expected, sizeof expected, "a number is needed");
    }
    return bad_value(spec, text, expected);
}

static bool read_float(const option_spec *spec, const char *text, float *out)
{
    const range r = range_of(spec);
    char *end;
    errno = 0;
    float number = strtof(text, &end);
    if (end == text || *end || isnan(number)) {
        return bad_number(spec, text, r);
    }
    if (errno == ERANGE && (number == 0 || isinf(number))) {
        return bad_value(spec, text, number == 0 ? "the number is too small" : "the number is too large");
    }
    if ((double)number < r.least || (double)number > r.most || (r.above && (double)number == r.least)) {
        return bad_number(spec, text, r);
    }
    *out = number;
    return true;
}

static bool read_counts(const option_spec *spec, const char *text, unsigned least, count_list *out)
{
    count_list list = {.n = 0};
    for (const char *at = text;; at++) {
        char *end, expected[96];
        errno = 0;
        unsigned long long number = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || errno || number < least || number > UINT32_MAX || (*end && *end != ',')) {
            snprintf(expected, sizeof expected, "whole numbers are needed, from %u to %u, such as %s", least,
                     UINT32_MAX, least ? "1,8,32" : "2048,8192");
            return bad_value(spec, text, expected);
        }
        if (list.n == COUNTS_MAX) {
            return bad_value(spec, text, "at most 32 numbers are taken");
        }
        list.items[list.n++] = (uint32_t)number;
        at = end;
        if (!*at) {
            *out = list;
            return true;
        }
    }
}

static bool add_bias(options *o, const option_spec *spec, const char *text)
{
    char *equals, *end;
    errno = 0;
    long long id = strtoll(text, &equals, 10);
    float bias = *equals == '=' ? strtof(equals + 1, &end) : 0;
    if (equals == text || *equals != '=' || end == equals + 1 || *end || isnan(bias)) {
        return bad_value(spec, text, "ID=BIAS is needed, such as 42=-inf");
    }
    if (id < 0 || id > INT32_MAX) {
        return bad_value(spec, text, "the token is a whole number from 0 to 2147483647");
    }
    if (bias == INFINITY || (errno == ERANGE && (bias == 0 || isinf(bias)))) {
        return bad_value(spec, text, "the bias is a number of usual size, or -inf");
    }
    if (o->sampling.n_logit_bias == o->cap_bias) {
        size_t cap = o->cap_bias ? o->cap_bias * 2 : 8;
        mlxr_logit_bias *grown = realloc(o->bias, cap * sizeof *grown);
        if (!grown) {
            print_error("out of memory");
            return false;
        }
        o->bias = grown;
        o->cap_bias = cap;
    }
    o->bias[o->sampling.n_logit_bias++] = (mlxr_logit_bias){(int32_t)id, bias};
    o->sampling.logit_bias = o->bias;
    return true;
}

bool options_set(options *o, const option_spec *spec, const char *value)
{
    void *field = (char *)o + spec->offset;
    int64_t number = 0;
    bool ok = true;
    switch (spec->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        break;
    case OPTION_U32:
        ok = read_whole(spec, value, range_of(spec), &number);
        *(uint32_t *)field = ok ? (uint32_t)number : *(uint32_t *)field;
        break;
    case OPTION_I32:
        ok = read_whole(spec, value, range_of(spec), &number);
        *(int32_t *)field = ok ? (int32_t)number : *(int32_t *)field;
        break;
    case OPTION_U64:
        ok = read_u64(spec, value, field);
        break;
    case OPTION_BYTES:
        ok = read_bytes(spec, value, field);
        break;
    case OPTION_FLOAT:
        ok = read_float(spec, value, field);
        break;
    case OPTION_COUNTS:
    case OPTION_DEPTHS:
        ok = read_counts(spec, value, spec->kind == OPTION_DEPTHS ? 0 : 1, field);
        break;
    case OPTION_TEXT:
    case OPTION_FILE:
    case OPTION_MODEL:
    case OPTION_DRAFT:
        *(const char **)field = value;
        break;
    case OPTION_LIST:
        ok = text_list_add(field, value);
        if (!ok) {
            print_error("out of memory");
        }
        o->sampling.dry_breakers = o->breakers.n ? o->breakers.items : NULL;
        o->sampling.n_dry_breakers = o->breakers.n;
        break;
    case OPTION_BIAS:
        ok = add_bias(o, spec, value);
        break;
    }
    return ok;
}

void options_format(const options *o, const option_spec *spec, char *out, size_t cap)
{
    const void *field = (const char *)o + spec->offset;
    *out = '\0';
    switch (spec->kind) {
    case OPTION_FLAG:
        snprintf(out, cap, "%s", *(const bool *)field ? "on" : "off");
        break;
    case OPTION_U32:
        snprintf(out, cap, "%" PRIu32, *(const uint32_t *)field);
        break;
    case OPTION_I32:
        snprintf(out, cap, "%" PRId32, *(const int32_t *)field);
        break;
    case OPTION_U64:
    case OPTION_BYTES:
        snprintf(out, cap, "%" PRIu64, *(const uint64_t *)field);
        break;
    case OPTION_FLOAT:
        snprintf(out, cap, "%g", (double)*(const float *)field);
        break;
    case OPTION_COUNTS:
    case OPTION_DEPTHS:
        snprintf(out, cap, "%" PRIu32 " given", ((const count_list *)field)->n);
        break;
    case OPTION_TEXT:
    case OPTION_FILE:
    case OPTION_MODEL:
    case OPTION_DRAFT:
        snprintf(out, cap, "%s", *(const char *const *)field ? *(const char *const *)field : "");
        break;
    case OPTION_LIST:
        snprintf(out, cap, "%zu given", ((const text_list *)field)->n);
        break;
    case OPTION_BIAS:
        snprintf(out, cap, "%zu given", o->sampling.n_logit_bias);
        break;
    }
}

/* ---- a command line ---------------------------------------------------------------------------------------------- */

const option_spec *options_find(const char *name, size_t n, unsigned groups)
{
    for (size_t i = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        if ((spec->groups & groups) && strlen(spec->name) == n && memcmp(spec->name, name, n) == 0) {
            return spec;
        }
    }
    return NULL;
}

static const option_spec *find_letter(char letter, unsigned groups)
{
    for (size_t i = 0; i < n_option_table; i++) {
        if ((option_table[i].groups & groups) && option_table[i].letter == letter) {
            return &option_table[i];
        }
    }
    return NULL;
}

/* What other programs call it; with "-" for "_". */
static const struct {
    const char *theirs, *ours;
} other_names[] = {
    {"temperature", "temp"},
    {"ctx-size", "ctx"},
    {"num-ctx", "ctx"},
    {"context-length", "ctx"},
    {"n-predict", "tokens"},
    {"num-predict", "tokens"},
    {"max-tokens", "tokens"},
    {"predict", "tokens"},
    {"model-draft", "draft"},
    {"cache-type-k", "kv-type"},
    {"cache-type-v", "kv-type"},
    {"num-thread", "threads"},
    {"system-prompt", "system"},
    {"json-schema", "schema"},
    {"json-schema-file", "schema"},
    {"grammar-file", "grammar"},
    {"spec-draft-n-max", "draft-max"},
    {"draft-n", "draft-max"},
};

/* Ours for a name that is one of theirs but for `most` letters; NULL: none that the verb has. */
static const char *find_other_name(const char *name, unsigned groups, size_t most)
{
    char dashed[64];
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof dashed; n++) {
        dashed[n] = name[n] == '_' ? '-' : name[n];
    }
    dashed[n] = '\0';
    for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++) {
        if (words_distance(dashed, other_names[i].theirs) <= most) {
            const option_spec *ours = options_find(other_names[i].ours, strlen(other_names[i].ours), groups);
            return ours ? ours->name : NULL;
        }
    }
    return NULL;
}

static bool unknown_option(const char *verb, const char *given, size_t n, unsigned groups)
{
    const char *best = NULL;
    size_t best_distance = n > 5 ? 3 + n / 4 : 3; /* of a short one half is another word */
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(n < 60 ? n : 60), given);
    for (size_t i = 0; i < n_option_table; i++) {
        size_t distance = words_distance(name, option_table[i].name);
        if ((option_table[i].groups & groups) && distance < best_distance) {
            best = option_table[i].name;
            best_distance = distance;
        }
    }
    const char *other = find_other_name(name, groups, 0);
    best = other ? other : best ? best : find_other_name(name, groups, 2);
    if (best) {
        print_error("unknown option --%s; did you mean --%s?", name, best);
    } else {
        print_error("unknown option --%s; mlxr help %s lists those there are", name, verb);
    }
    return false;
}

/* Reads the option in argv[*i], and its value from there or from the next argument. */
static bool parse_one(options *o, const char *verb, unsigned groups, int n, char **argv, int *i)
{
    const char *given = argv[*i], *value = NULL;
    const option_spec *spec;
    if (given[1] == '-') {
        size_t length = strcspn(given + 2, "=");
        spec = options_find(given + 2, length, groups);
        if (!spec) {
            return unknown_option(verb, given + 2, length, groups);
        }
        value = given[2 + length] == '=' ? given + 3 + length : NULL;
    } else {
        spec = find_letter(given[1], groups);
        if (!spec) {
            print_error("unknown option %s; mlxr help %s lists those there are", given, verb);
            return false;
        }
        value = given[2] ? given + 2 + (given[2] == '=') : NULL;
    }
    if (spec->kind == OPTION_FLAG) {
        if (value) {
            print_error("--%s takes no value", spec->name);
            return false;
        }
    } else if (!value) {
        if (*i + 1 >= n) {
            print_error("--%s needs a value: %s", spec->name, spec->argument);
            return false;
        }
        value = argv[++*i];
    }
    options_mark(o, spec);
    return options_set(o, spec, value);
}

bool options_parse(options *o, const char *verb, unsigned groups, int n, char **argv)
{
    bool only_args = false;
    groups |= GROUP_ALWAYS;
    o->args = calloc((size_t)n + 1, sizeof *o->args);
    if (!o->args) {
        print_error("out of memory");
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else if (only_args || argv[i][0] != '-' || argv[i][1] == '\0') {
            o->args[o->n_args++] = argv[i];
        } else if (!parse_one(o, verb, groups, n, argv, &i)) {
            return false;
        }
    }
    return true;
}

void options_default(const option_spec *spec, char *out, size_t cap)
{
    options defaults;
    options_init(&defaults);
    *out = '\0';
    if (spec->groups == GROUP_SAMPLING && spec->kind != OPTION_LIST && spec->kind != OPTION_BIAS) {
        options_format(&defaults, spec, out, cap);
    }
}

void options_print_help(unsigned groups)
{
    groups |= GROUP_ALWAYS;
    for (size_t i = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        char left[64], value[32], text[160];
        if (!(spec->groups & groups)) {
            continue;
        }
        int n = spec->letter ? snprintf(left, sizeof left, "  -%c, --%s", spec->letter, spec->name)
                             : snprintf(left, sizeof left, "      --%s", spec->name);
        if (spec->argument) {
            snprintf(left + n, sizeof left - (size_t)n, " %s", spec->argument);
        }
        options_default(spec, value, sizeof value);
        snprintf(text, sizeof text, "%s%s%s%s", spec->help, *value ? " [" : "", value, *value ? "]" : "");
        print_entry(left, 33, text);
    }
}
