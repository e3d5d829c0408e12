/*
 * `mlxr completion`: scripts that complete verbs, options and the names of models, written from the tables.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "registry/catalogue.h"
#include "verbs.h"

static void print_verbs(const char *between)
{
    for (size_t i = 0, n = 0; i < n_verb_table; i++) {
        if (!verb_table[i].hidden) {
            printf("%s%s", n++ ? between : "", verb_table[i].name);
        }
    }
}

/* "--file | -f": the options whose value is of a kind. */
static void print_options_of(option_kind kind, const char *between)
{
    for (size_t i = 0, n = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        if (spec->kind == kind) {
            printf("%s--%s", n++ ? between : "", spec->name);
            if (spec->letter) {
                printf("%s-%c", between, spec->letter);
            }
        }
    }
}

static void print_options(const verb *v)
{
    for (size_t i = 0; i < n_option_table; i++) {
        if (option_table[i].groups & (v->groups | GROUP_ALWAYS)) {
            printf(" --%s", option_table[i].name);
        }
    }
}

/* A text inside of single quotes, in which the characters of `escaped` have a backslash before them; quotes in it are
 * left out. */
static void print_plain(const char *text, const char *escaped)
{
    for (; *text; text++) {
        if (*text != '\'') {
            printf("%s%c", strchr(escaped, *text) ? "\\" : "", *text);
        }
    }
}

/* What a verb's first argument may be, where that is one of some words or names: these, with blanks between. */
static void print_choices_of(const verb *v)
{
    if (strcmp(v->name, "help") == 0) {
        print_verbs(" ");
    } else if (strcmp(v->name, "pull") == 0) {
        for (size_t i = 0; catalogue_entry_at(i); i++) {
            printf("%s%s", i ? " " : "", catalogue_entry_at(i)->name);
        }
    } else {
        for (const char *c = v->arguments; *c && *c != ' '; c++) {
            putchar(*c == '|' ? ' ' : *c);
        }
    }
}

static bool has_choices(const verb *v)
{
    return strchr(v->arguments, '|') || strcmp(v->name, "help") == 0 || strcmp(v->name, "pull") == 0;
}

/* It takes files: models, and what is read and written. */
static bool takes_files(const verb *v)
{
    static const char *const others[] = {"key", "completion", "help", "create"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(v->name, others[i]) == 0) {
            return false;
        }
    }
    return v->max_args > 0;
}

/* Values of an option that has few, with blanks between; NULL: it has any. */
static const char *choices_of(const option_spec *spec)
{
    static const struct {
        const char *name, *choices;
    } known[] = {{"type", "F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4 "
                          "Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S"},
                 {"kv-type", "auto f32 f16 bf16 i16 q8_0 q4_0"},
                 {"activations", "16 8"},
                 {"rope-scaling", "yarn ntk linear none"},
                 {"backend", "cpu cpu-scalar mlx"},
                 {"level", "error warn info debug"},
                 {"log-level", "error warn info debug"},
                 {"log-format", "json pretty journal"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(spec->name, known[i].name) == 0) {
            return known[i].choices;
        }
    }
    return NULL;
}

/* A case of the shell for each option that has choices: `before` them, and `behind`. */
static void print_option_cases(const char *before, const char *behind)
{
    for (size_t i = 0; i < n_option_table; i++) {
        const option_spec *spec = &option_table[i];
        if (choices_of(spec)) {
            printf("    --%s%s%s%s\n", spec->name, before, choices_of(spec), behind);
        }
    }
}

static void print_bash(void)
{
    puts("# mlxr completion for bash: eval \"$(mlxr completion bash)\"\n"
         "_mlxr()\n{\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} options= "
         "models= files= choices=\n"
         "    COMPREPLY=()\n"
         "    if [ \"$COMP_CWORD\" -eq 1 ]; then");
    printf("        COMPREPLY=($(compgen -W '");
    print_verbs(" ");
    printf("' -- \"$word\"))\n        return\n    fi\n    case $before in\n    ");
    print_options_of(OPTION_FILE, " | ");
    printf(") COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n    ");
    print_options_of(OPTION_DRAFT, " | ");
    printf(") models='ngram mtp ' ;;\n    ");
    print_options_of(OPTION_MODEL, " | ");
    puts(") models=' ' ;;");
    print_option_cases(") COMPREPLY=($(compgen -W '", "' -- \"$word\")); return ;;");
    puts("    esac\n"
         "    if [ -n \"$models\" ]; then\n        local IFS=$'\\n '\n"
         "        COMPREPLY=($(compgen -W \"$models$(\"${COMP_WORDS[0]}\" models 2>/dev/null)\" -- \"$word\")"
         " $(compgen -f -- \"$word\"))\n        return\n    fi\n    case $verb in");
    for (size_t i = 0; i < n_verb_table; i++) {
        const verb *v = &verb_table[i];
        if (!v->hidden) {
            printf("    %s) options='", v->name);
            print_options(v);
            printf("'%s%s ;;\n", v->names_model ? v->max_args > 2 ? " models=many" : " models=1" : "",
                   takes_files(v) ? " files=1" : "");
        }
    }
    puts("    esac\n    if [ \"$COMP_CWORD\" -eq 2 ]; then\n        case $verb in");
    for (size_t i = 0; i < n_verb_table; i++) {
        if (!verb_table[i].hidden && has_choices(&verb_table[i])) {
            printf("        %s) choices='", verb_table[i].name);
            print_choices_of(&verb_table[i]);
            puts("' ;;");
        }
    }
    puts("        esac\n    fi\n"
         "    if [ \"${word#-}\" != \"$word\" ] || [ -z \"$files$choices\" ]; then\n"
         "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n        return\n    fi\n"
         "    COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n    [ -n \"$files\" ] || return\n"
         "    local IFS=$'\\n'\n"
         "    [ \"$COMP_CWORD\" -eq 2 ] || [ \"$models\" = many ] || models=\n"
         "    [ -z \"$models\" ] || models=$(\"${COMP_WORDS[0]}\" models 2>/dev/null)\n"
         "    COMPREPLY+=($(compgen -W \"$models\" -- \"$word\") $(compgen -f -- \"$word\"))\n}\n"
         "complete -o filenames -F _mlxr mlxr");
}

static void print_zsh(void)
{
    puts("#compdef mlxr\n# mlxr completion for zsh: eval \"$(mlxr completion zsh)\"\n_mlxr()\n{\n"
         "    local -a verbs options models\n    verbs=(");
    for (size_t i = 0; i < n_verb_table; i++) {
        if (!verb_table[i].hidden) {
            printf("        '%s:", verb_table[i].name);
            print_plain(verb_table[i].summary, ":");
            puts("'");
        }
    }
    puts("    )\n    if (( CURRENT == 2 )); then\n        _describe 'verb' verbs\n        return\n    fi\n"
         "    case $words[2] in");
    for (size_t i = 0; i < n_verb_table; i++) {
        const verb *v = &verb_table[i];
        if (!v->hidden) {
            printf("    %s) options=(", v->name);
            print_options(v);
            puts(" ) ;;");
        }
    }
    puts("    esac\n    case $words[2] in");
    printf("    ");
    for (size_t i = 0, n = 0; i < n_verb_table; i++) {
        if (verb_table[i].names_model && !verb_table[i].hidden) {
            printf("%s%s", n++ ? " | " : "", verb_table[i].name);
        }
    }
    puts(")\n        if (( CURRENT == 3 )) && [[ $PREFIX != -* ]]; then\n"
         "            models=(${(f)\"$($words[1] models 2>/dev/null)\"})\n"
         "            compadd -a models\n            _files\n            return\n        fi ;;");
    for (size_t i = 0; i < n_verb_table; i++) {
        if (!verb_table[i].hidden && has_choices(&verb_table[i])) {
            printf("    %s) (( CURRENT == 3 )) && [[ $PREFIX != -* ]] && compadd -- ", verb_table[i].name);
            print_choices_of(&verb_table[i]);
            puts(" ;;");
        }
    }
    puts("    esac\n    case $words[CURRENT-1] in");
    print_option_cases(") compadd -- ", "; return ;;");
    printf("    ");
    print_options_of(OPTION_FILE, " | ");
    printf(") _files; return ;;\n    ");
    print_options_of(OPTION_DRAFT, " | ");
    puts(") models=(ngram mtp ${(f)\"$($words[1] models 2>/dev/null)\"}); compadd -a models; _files; return ;;");
    printf("    ");
    print_options_of(OPTION_MODEL, " | ");
    puts(") models=(${(f)\"$($words[1] models 2>/dev/null)\"}); compadd -a models; _files; return ;;\n    esac\n"
         "    if [[ $PREFIX == -* ]]; then\n        compadd -a options\n        return\n    fi\n    case $words[2] in");
    printf("    ");
    for (size_t i = 0, n = 0; i < n_verb_table; i++) {
        if (takes_files(&verb_table[i]) && !verb_table[i].hidden) {
            printf("%s%s", n++ ? " | " : "", verb_table[i].name);
        }
    }
    /* the file of a folder of functions is run at the first Tab, and has to complete then, too */
    puts(") _files ;;\n    esac\n}\n"
         "if [[ $funcstack[1] == _mlxr ]]; then\n    _mlxr \"$@\"\nelse\n    compdef _mlxr mlxr\nfi");
}

static void print_fish(void)
{
    puts("# mlxr completion for fish: mlxr completion fish | source\ncomplete -c mlxr -f");
    for (size_t i = 0; i < n_verb_table; i++) {
        const verb *v = &verb_table[i];
        if (v->hidden) {
            continue;
        }
        printf("complete -c mlxr -n __fish_use_subcommand -a %s -d '", v->name);
        print_plain(v->summary, "");
        puts("'");
        if (v->names_model) {
            printf("complete -c mlxr -n '__fish_seen_subcommand_from %s' -a '(mlxr models 2>/dev/null)'\n", v->name);
        }
        if (takes_files(v)) {
            printf("complete -c mlxr -n '__fish_seen_subcommand_from %s' -F\n", v->name);
        }
        if (has_choices(v)) {
            printf("complete -c mlxr -n '__fish_seen_subcommand_from %s' -a '", v->name);
            print_choices_of(v);
            puts("'");
        }
        for (size_t j = 0; j < n_option_table; j++) {
            const option_spec *spec = &option_table[j];
            if (!(spec->groups & (v->groups | GROUP_ALWAYS))) {
                continue;
            }
            printf("complete -c mlxr -n '__fish_seen_subcommand_from %s' -l %s", v->name, spec->name);
            if (spec->letter) {
                printf(" -s %c", spec->letter);
            }
            if (choices_of(spec)) {
                printf(" -a '%s'", choices_of(spec));
            }
            printf("%s -d '", !spec->argument              ? ""
                              : spec->kind == OPTION_FILE  ? " -r -F"
                              : spec->kind == OPTION_MODEL ? " -x -a '(mlxr models 2>/dev/null)'"
                              : spec->kind == OPTION_DRAFT ? " -x -a 'ngram mtp (mlxr models 2>/dev/null)'"
                                                           : " -x");
            print_plain(spec->help, "");
            puts("'");
        }
    }
}

int verb_completion(options *o)
{
    const char *shell = o->args[0];
    if (strcmp(shell, "bash") == 0) {
        print_bash();
    } else if (strcmp(shell, "zsh") == 0) {
        print_zsh();
    } else if (strcmp(shell, "fish") == 0) {
        print_fish();
    } else {
        print_error("no completion for '%s'; there is bash, zsh and fish", shell);
        return EXIT_USAGE;
    }
    return finish_output(EXIT_OK);
}
