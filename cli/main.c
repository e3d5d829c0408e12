/*
 * mlxr: the table of verbs, and what finds one and runs it.
 * Owner: the process. Lifetime: the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "registry/words.h"
#include "verbs.h"

#define MODEL_GROUPS (GROUP_ENGINE | GROUP_CONTEXT)
#define MAX_ARGS SIZE_MAX

const verb verb_table[] = {
    {"run", "MODEL [PROMPT]", "answer a prompt (- reads it from stdin), or chat on a terminal",
     GROUP_RUN | GROUP_SAMPLING | GROUP_GRAMMAR | GROUP_DRAFT | GROUP_CACHE | MODEL_GROUPS | GROUP_COMPUTE |
         GROUP_JSON | GROUP_CLIENT | GROUP_LORA,
     1, 2, verb_run, true, false},
    {"show", "MODEL", "what is in a model, and the memory it needs", GROUP_SHOW | GROUP_JSON | GROUP_CLIENT, 1, 1,
     verb_show, true, false},
    {"tokenize", "MODEL [TEXT]", "the tokens of a text (- or nothing reads stdin)",
     GROUP_TOKENIZE | GROUP_ENGINE | GROUP_JSON, 1, 2, verb_tokenize, true, false},
    {"detokenize", "MODEL [ID...]", "the text of token ids (nothing reads them from stdin)",
     GROUP_DETOKENIZE | GROUP_ENGINE | GROUP_JSON, 1, MAX_ARGS, verb_detokenize, true, false},
    {"embed", "MODEL [TEXT]", "a text as a vector (nothing reads lines of stdin, or of --file)",
     GROUP_EMBED | GROUP_LORA | GROUP_ENGINE | GROUP_JSON, 1, 2, verb_embed, true, false},
    {"rerank", "MODEL QUERY", "how well each line of stdin, or of --file, answers a query; the best first",
     GROUP_EMBED | GROUP_RERANK | GROUP_LORA | GROUP_ENGINE | GROUP_JSON, 2, 2, verb_rerank, true, false},
    {"perplexity", "MODEL --file FILE", "how well a model predicts a text",
     GROUP_PERPLEXITY | GROUP_LORA | GROUP_ENGINE | GROUP_COMPUTE | GROUP_JSON, 1, 1, verb_perplexity, true, false},
    {"bench", "MODEL", "measure the speed of prompts and generation",
     GROUP_BENCH | GROUP_DRAFT | GROUP_LORA | GROUP_ENGINE | GROUP_COMPUTE | GROUP_JSON, 1, 1, verb_bench, true, false},
    {"quantize", "IN OUT --type TYPE", "write a model in another type, as a GGUF file", GROUP_QUANTIZE | GROUP_JSON, 2,
     2, verb_quantize, true, false},
    {"convert", "FOLDER OUT", "write a folder of safetensors as one GGUF file", GROUP_QUANTIZE | GROUP_JSON, 2, 2,
     verb_convert, true, false},
    {"imatrix", "MODEL OUT --file FILE", "measure which inputs of its matrices matter on a text, for quantize",
     GROUP_IMATRIX | GROUP_ENGINE | GROUP_JSON, 2, 2, verb_imatrix, true, false},
    {"batch", "[MODEL] FILE", "answer every line of a JSONL file, many at a time; goes on where it was stopped",
     GROUP_BATCH | GROUP_SAMPLING | GROUP_GRAMMAR | GROUP_DRAFT | GROUP_CACHE | MODEL_GROUPS | GROUP_COMPUTE |
         GROUP_JSON,
     1, 2, verb_batch, true, false},
    {"serve", "", "serve models over HTTP until Ctrl-C",
     GROUP_SERVE | GROUP_LORA | GROUP_CACHE | MODEL_GROUPS | GROUP_COMPUTE, 0, 0, verb_serve, false, false},
    {"key", "create|list|revoke", "API keys of the daemon: create [LABEL], list, revoke ID",
     GROUP_KEY | GROUP_JSON | GROUP_CLIENT, 1, 2, verb_key, false, false},
    {"pull", "MODEL", "get a model: a name, hf:owner/repo[:type], a URL or a file",
     GROUP_PULL | GROUP_JSON | GROUP_CLIENT, 1, 1, verb_pull, false, false},
    {"push", "MODEL", "send a model to the registry of Ollama's kind that its name says", GROUP_JSON | GROUP_CLIENT, 1,
     1, verb_push, true, false},
    {"list", "", "the models there are", GROUP_LIST | GROUP_JSON | GROUP_CLIENT, 0, 0, verb_list, false, false},
    {"ls", "", "the models there are", GROUP_LIST | GROUP_JSON | GROUP_CLIENT, 0, 0, verb_list, false, true},
    {"cp", "MODEL NAME", "another name for a model, with the same files", GROUP_COPY | GROUP_JSON | GROUP_CLIENT, 2, 2,
     verb_cp, true, false},
    {"rm", "MODEL...", "remove models from the store", GROUP_JSON | GROUP_CLIENT, 1, MAX_ARGS, verb_rm, true, false},
    {"create", "NAME", "a model of another one, or of a file, as a Modelfile says",
     GROUP_CREATE | GROUP_JSON | GROUP_CLIENT, 1, 1, verb_create, false, false},
    {"ps", "", "the models that a daemon has loaded", GROUP_JSON | GROUP_CLIENT, 0, 0, verb_ps, false, false},
    {"load", "MODEL", "have a daemon load a model", GROUP_LOAD | GROUP_JSON | GROUP_CLIENT, 1, 1, verb_load, true,
     false},
    {"unload", "MODEL...", "have a daemon unload models", GROUP_JSON | GROUP_CLIENT, 1, MAX_ARGS, verb_unload, true,
     false},
    {"stop", "[MODEL]", "end a daemon; with a model, unload that", GROUP_STOP | GROUP_JSON | GROUP_CLIENT, 0, 1,
     verb_stop, true, false},
    {"status", "", "how a daemon is: state, models, memory, answers", GROUP_JSON | GROUP_CLIENT, 0, 0, verb_status,
     false, false},
    {"logs", "", "the log of a daemon", GROUP_LOGS | GROUP_JSON | GROUP_CLIENT, 0, 0, verb_logs, false, false},
    {"doctor", "", "what this machine offers, what is missing and how to mend it", GROUP_DOCTOR | GROUP_JSON, 0, 0,
     verb_doctor, false, false},
    {"version", "", "the version", GROUP_JSON, 0, 0, verb_version, false, false},
    {"completion", "bash|zsh|fish", "a completion script for the shell", 0, 1, 1, verb_completion, false, false},
    {"help", "[VERB]", "this text, or that of a verb", 0, 0, 1, verb_help, false, false},
    {"manual", "[VERB]", "the manual page of a verb, as scdoc reads it", 0, 0, 1, verb_manual, false, true},
    {"models", "", "the names in the model directory", GROUP_JSON, 0, 0, verb_models, false, true},
};
const size_t n_verb_table = sizeof verb_table / sizeof *verb_table;

static const verb *find_verb(const char *name)
{
    for (size_t i = 0; i < n_verb_table; i++) {
        if (strcmp(verb_table[i].name, name) == 0) {
            return &verb_table[i];
        }
    }
    return NULL;
}

/* What other programs call it. */
static const char *known_as(const char *name)
{
    static const struct {
        const char *theirs, *ours;
    } words[] = {{"chat", "run"},      {"generate", "run"}, {"models", "list"}, {"info", "show"},
                 {"download", "pull"}, {"get", "pull"},     {"remove", "rm"},   {"delete", "rm"},
                 {"copy", "cp"},       {"server", "serve"}, {"start", "serve"}, {"quantise", "quantize"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(name, words[i].theirs) == 0) {
            return words[i].ours;
        }
    }
    return NULL;
}

static int unknown_verb(const char *name)
{
    const char *best = known_as(name);
    size_t best_distance = *name == '-' ? 0 : 3; /* an option is no verb misspelt */
    for (size_t i = 0; i < n_verb_table && !known_as(name); i++) {
        size_t distance = words_distance(name, verb_table[i].name);
        if (!verb_table[i].hidden && distance < best_distance) {
            best = verb_table[i].name;
            best_distance = distance;
        }
    }
    if (best) {
        print_error("unknown command '%s'; did you mean %s?", name, best);
    } else {
        print_error("unknown command '%s'; mlxr help lists them", name);
    }
    return EXIT_USAGE;
}

static int print_overview(void)
{
    print_wrapped("mlxr runs large language models on this machine.", 0, 0);
    puts("\nUsage: mlxr VERB [ARGUMENTS] [OPTIONS]\n");
    for (size_t i = 0; i < n_verb_table; i++) {
        const verb *v = &verb_table[i];
        char left[64];
        snprintf(left, sizeof left, "  %s %s", v->name, strcmp(v->name, "perplexity") == 0 ? "MODEL" : v->arguments);
        if (!v->hidden) {
            print_entry(left, 29, v->summary);
        }
    }
    putchar('\n');
    print_wrapped(
        "MODEL is the path of a GGUF file, of a folder with safetensors and config.json, or a name in the model "
        "directory: $MLXR_MODELS, else $XDG_DATA_HOME/mlxr/models, else ~/.local/share/mlxr/models.",
        0, 0);
    print_wrapped("mlxr help VERB tells the options of a verb.", 0, 0);
    return finish_output(EXIT_OK);
}

static int print_verb_help(const verb *v)
{
    char usage[160], summary[160];
    snprintf(usage, sizeof usage, "Usage: mlxr %s%s%s [OPTIONS]", v->name, *v->arguments ? " " : "", v->arguments);
    print_wrapped(usage, 4, 0);
    putchar('\n');
    snprintf(summary, sizeof summary, "%c%s.", v->summary[0] >= 'a' ? v->summary[0] - 'a' + 'A' : v->summary[0],
             v->summary + 1);
    print_wrapped(summary, 0, 0);
    putchar('\n');
    options_print_help(v->groups);
    return finish_output(EXIT_OK);
}

int verb_help(options *o)
{
    if (o->n_args == 0) {
        return print_overview();
    }
    const verb *v = find_verb(o->args[0]);
    return v ? print_verb_help(v) : unknown_verb(o->args[0]);
}

int verb_version(options *o)
{
    if (o->json) {
        return print_json(json_pack("{s:s}", "version", mlxr_version()));
    }
    printf("mlxr %s\n", mlxr_version());
    return finish_output(EXIT_OK);
}

static int run_verb(const verb *v, int n, char **argv)
{
    options o;
    int code = EXIT_USAGE;
    options_init(&o);
    if (!options_parse(&o, v->name, v->groups, n, argv)) {
        code = EXIT_USAGE;
    } else if (o.help) {
        code = print_verb_help(v);
    } else if (o.n_args < v->min_args) {
        print_error("usage: mlxr %s %s", v->name, v->arguments);
    } else if (o.n_args > v->max_args) {
        print_error("too many arguments: '%s'%s", o.args[v->max_args],
                    v->names_model && v->max_args == 2 ? "; put a text of several words in quotes" : "");
    } else {
        code = v->run(&o);
    }
    options_close(&o);
    return code;
}

/* A standard file that is closed stays useless: what is opened first would have its number, and get what is printed. */
static void keep_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY); /* the lowest number is given, which is fd */
        }
    }
}

int main(int argc, char **argv)
{
    keep_standard_files();
    if (argc < 2) {
        print_overview();
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        name = "version";
    }
    const verb *v = find_verb(name);
    return v ? run_verb(v, argc - 2, argv + 2) : unknown_verb(name);
}

/* ---- what verbs share -------------------------------------------------------------------------------------------- */

const char *next_line(const char **text, size_t *n_bytes, size_t *n_line)
{
    while (*n_bytes) {
        const char *line = *text, *end = memchr(line, '\n', *n_bytes);
        size_t n = end ? (size_t)(end - line) : *n_bytes;
        *n_line = n && line[n - 1] == '\r' ? n - 1 : n;
        n += end != NULL;
        *text += n;
        *n_bytes -= n;
        if (*n_line) {
            return line;
        }
    }
    return NULL;
}

char *read_all(const char *path, size_t *n)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = NULL;
    size_t used = 0, cap = 0;
    if (!file) {
        print_error("%s: %s", path, strerror(errno));
        return NULL;
    }
    for (;;) {
        if (used + 1 >= cap) {
            size_t more = cap ? cap * 2 : 65536;
            char *grown = more > cap ? realloc(text, more) : NULL;
            if (!grown) {
                print_error("%s: out of memory after %zu bytes", path, used);
                break;
            }
            text = grown;
            cap = more;
        }
        size_t got = fread(text + used, 1, cap - 1 - used, file);
        used += got;
        if (got == 0) {
            if (ferror(file)) {
                print_error("%s: %s", path, strerror(errno));
                break;
            }
            text[used] = '\0';
            *n = used;
            if (file != stdin) {
                fclose(file);
            }
            return text;
        }
    }
    free(text);
    if (file != stdin) {
        fclose(file);
    }
    return NULL;
}
