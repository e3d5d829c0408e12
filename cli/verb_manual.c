/*
 * `mlxr manual`: manual pages in scdoc's format, written from the tables that the program itself goes by.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "verbs.h"

/* Text in which nothing is markup. */
static void print_plain(const char *text)
{
    for (; *text; text++) {
        if (strchr("_*\\#<>~[]`", *text)) {
            putchar('\\');
        }
        putchar(*text);
    }
}

static void print_head(const char *name, const char *summary)
{
    printf("%s(1) \"mlxr %s\" \"MLXR\"\n\n# NAME\n\n%s - ", name, mlxr_version(), name);
    print_plain(summary);
    puts("\n");
}

static void print_option(const option_spec *spec)
{
    char value[32];
    if (spec->letter) {
        printf("*-%c*, ", spec->letter);
    }
    printf("*--%s*", spec->name);
    if (spec->argument) {
        printf(" _");
        print_plain(spec->argument);
        putchar('_');
    }
    printf("\n\t");
    print_plain(spec->help);
    options_default(spec, value, sizeof value);
    if (*value) {
        printf(" \\[");
        print_plain(value);
        printf("\\]");
    }
    puts("\n");
}

static void print_verb(const verb *v)
{
    char name[64];
    snprintf(name, sizeof name, "mlxr-%s", v->name);
    print_head(name, v->summary);
    printf("# SYNOPSIS\n\n*mlxr %s* ", v->name);
    print_plain(v->arguments);
    puts(" \\[OPTIONS\\]\n\n# OPTIONS\n");
    for (size_t i = 0; i < n_option_table; i++) {
        if (option_table[i].groups & (v->groups | GROUP_ALWAYS)) {
            print_option(&option_table[i]);
        }
    }
    puts("# SEE ALSO\n\n*mlxr*(1)");
}

static void print_overview(void)
{
    print_head("mlxr", "runs large language models on this machine");
    puts(
        "# SYNOPSIS\n\n*mlxr* _VERB_ \\[ARGUMENTS\\] \\[OPTIONS\\]\n\n# DESCRIPTION\n\n"
        "MODEL is the path of a GGUF file, of a folder with safetensors and config.json, or the name of a model in the "
        "store or in the model directory.\n\n# VERBS\n");
    for (size_t i = 0; i < n_verb_table; i++) {
        const verb *v = &verb_table[i];
        if (!v->hidden) {
            printf("*%s* ", v->name);
            print_plain(v->arguments);
            printf("\n\t");
            print_plain(v->summary);
            puts("\n");
        }
    }
    puts(
        "Each has a page of its own, such as *mlxr-run*(1).\n\n# EXIT STATUS\n\n"
        "0 if all went well, 2 if the command line makes no sense, 130 where Ctrl-C ended it, 1 if something else went "
        "wrong.\n\n"
        "# ENVIRONMENT\n\n*MLXR\\_MODELS*\n\tThe model directory. Without it "
        "_$XDG\\_DATA\\_HOME/mlxr/models_, else _~/.local/share/mlxr/models_.\n\n"
        "*MLXR\\_HOST*\n\tThe daemon to ask, and where *mlxr serve* listens: HOST, HOST:PORT, http://HOST:PORT, "
        "unix:/PATH; _none_ does without. Without it 127.0.0.1:11435.\n\n"
        "*MLXR\\_CONFIG*\n\tThe file of *mlxr serve*'s options [$XDG\\_CONFIG\\_HOME/mlxr/serve.json].\n\n"
        "*MLXR\\_API\\_KEY*\n\tThe key that a daemon asks for.\n\n"
        "*HF\\_TOKEN*\n\tFor models of Hugging Face that ask who wants them.");
}

int verb_manual(options *o)
{
    const verb *found = NULL;
    for (size_t i = 0; i < n_verb_table && o->n_args > 0; i++) {
        found = strcmp(verb_table[i].name, o->args[0]) == 0 ? &verb_table[i] : found;
    }
    if (o->n_args > 0 && !found) {
        print_error("unknown command '%s'; mlxr help lists them", o->args[0]);
        return EXIT_USAGE;
    }
    if (found) {
        print_verb(found);
    } else {
        print_overview();
    }
    return finish_output(EXIT_OK);
}
