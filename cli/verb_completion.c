/*
 * `mlxr completion`: scripts that complete verbs, options and the names of models, written from the tables.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <string.h>

#include "output.h"
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

/* A text inside of single quotes, for the shells; quotes in it are left out. */
static void print_plain(const char *text)
{
    for (; *text; text++) {
        if (*text != '\'' && *text != '[' && *text != ']' && *text != ':') {
            putchar(*text);
        }
    }
}

static void print_bash(void)
{
    puts("# mlxr completion for bash: eval \"$(mlxr completion bash)\"\n"
         "_mlxr()\n{\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} options= "
         "models=\n"
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
    puts(") models=' ' ;;\n    esac\n"
         "    if [ -n \"$models\" ]; then\n        local IFS=$'\\n '\n"
         "        COMPREPLY=($(compgen -W \"$models$(\"${COMP_WORDS[0]}\" models 2>/dev/null)\" -- \"$word\")"
         " $(compgen -f -- \"$word\"))\n        return\n    fi\n    case $verb in");
    for (size_t i = 0; i < n_verb_table; i++) {
        const verb *v = &verb_table[i];
        if (!v->hidden) {
            printf("    %s) options='", v->name);
            print_options(v);
            printf("'%s ;;\n", v->names_model ? " models=1" : "");
        }
    }
    printf("    esac\n    case $verb in\n    help) options='");
    print_verbs(" ");
    puts("' ;;\n    completion) options='bash zsh fish' ;;\n    esac\n"
         "    if [ -n \"$models\" ] && [ \"$COMP_CWORD\" -eq 2 ] && [ \"${word#-}\" = \"$word\" ]; then\n"
         "        local IFS=$'\\n'\n"
         "        COMPREPLY=($(compgen -W \"$(\"${COMP_WORDS[0]}\" models 2>/dev/null)\" -- \"$word\")"
         " $(compgen -f -- \"$word\"))\n"
         "    elif [ \"$verb\" = batch ] && [ \"${word#-}\" = \"$word\" ]; then\n"
         "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
         "    else\n        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n    fi\n}\n"
         "complete -o filenames -F _mlxr mlxr");
}

static void print_zsh(void)
{
    puts("#compdef mlxr\n# mlxr completion for zsh: eval \"$(mlxr completion zsh)\"\n_mlxr()\n{\n"
         "    local -a verbs options models\n    verbs=(");
    for (size_t i = 0; i < n_verb_table; i++) {
        if (!verb_table[i].hidden) {
            printf("        '%s:", verb_table[i].name);
            print_plain(verb_table[i].summary);
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
         "            compadd -a models\n            _files\n            return\n        fi ;;\n"
         "    help) _describe 'verb' verbs; return ;;\n    completion) compadd bash zsh fish; return ;;\n    esac\n"
         "    case $words[CURRENT-1] in");
    printf("    ");
    print_options_of(OPTION_FILE, " | ");
    printf(") _files; return ;;\n    ");
    print_options_of(OPTION_DRAFT, " | ");
    puts(") models=(ngram mtp ${(f)\"$($words[1] models 2>/dev/null)\"}); compadd -a models; _files; return ;;");
    printf("    ");
    print_options_of(OPTION_MODEL, " | ");
    puts(") models=(${(f)\"$($words[1] models 2>/dev/null)\"}); compadd -a models; _files; return ;;\n    esac\n"
         "    [[ $words[2] == batch && $PREFIX != -* ]] && _files\n"
         "    compadd -a options\n}\n"
         "compdef _mlxr mlxr");
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
        print_plain(v->summary);
        puts("'");
        if (v->names_model) {
            printf("complete -c mlxr -n '__fish_seen_subcommand_from %s' -a '(mlxr models 2>/dev/null)'\n", v->name);
            printf("complete -c mlxr -n '__fish_seen_subcommand_from %s' -F\n", v->name);
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
            printf("%s -d '", !spec->argument              ? ""
                              : spec->kind == OPTION_FILE  ? " -r -F"
                              : spec->kind == OPTION_MODEL ? " -x -a '(mlxr models 2>/dev/null)'"
                              : spec->kind == OPTION_DRAFT ? " -x -a 'ngram mtp (mlxr models 2>/dev/null)'"
                                                           : " -x");
            print_plain(spec->help);
            puts("'");
        }
    }
    printf("complete -c mlxr -n '__fish_seen_subcommand_from help' -a '");
    print_verbs(" ");
    puts("'\ncomplete -c mlxr -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'");
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
