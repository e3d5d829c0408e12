/*
 * Modelfiles: FROM, ADAPTER, PARAMETER, TEMPLATE, SYSTEM, MESSAGE, LICENSE, a line or """ several lines """ each.
 * Owner: the caller closes the recipe. Lifetime: registry_modelfile_parse to registry_recipe_close.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "registry/inside.h"

#define MODELFILE_BYTES_MAX ((size_t)4 << 20)

void registry_recipe_close(registry_recipe *recipe)
{
    free(recipe->from);
    free(recipe->template_text);
    free(recipe->system);
    free(recipe->license);
    registry_pairs_close(&recipe->files);
    registry_pairs_close(&recipe->parameters);
    registry_pairs_close(&recipe->messages);
    registry_pairs_close(&recipe->adapters);
    *recipe = (registry_recipe){0};
}

typedef struct reader {
    const char *at, *end;
    unsigned line;
    bool no_memory; /* for the text that was read last */
} reader;

static void skip_blanks(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t')) {
        r->at++;
    }
}

static char *copy(reader *r, const char *text, size_t n)
{
    char *out = malloc(n + 1);
    r->no_memory = !out;
    if (out) {
        memcpy(out, text, n);
        out[n] = '\0';
    }
    return out;
}

/* A word; false at the end of the line. out: cap bytes. */
static bool read_word(reader *r, char *out, size_t cap)
{
    size_t n = 0;
    skip_blanks(r);
    while (r->at < r->end && !strchr(" \t\r\n", *r->at)) {
        if (n + 1 < cap) {
            out[n++] = *r->at;
        }
        r->at++;
    }
    out[n] = '\0';
    return n > 0;
}

/* What is between the quotes: up to """ or ", with lines in it only for the former. NULL: no end, or no memory. */
static char *read_quoted(reader *r)
{
    bool triple = r->end - r->at >= 3 && memcmp(r->at, "\"\"\"", 3) == 0;
    r->at += triple ? 3 : 1;
    const char *begin = r->at;
    for (; r->at < r->end; r->at++) {
        if (!triple && *r->at == '\n') {
            return NULL;
        }
        if (*r->at == '"' && (!triple || (r->end - r->at >= 3 && memcmp(r->at, "\"\"\"", 3) == 0))) {
            char *text = copy(r, begin, (size_t)(r->at - begin));
            r->at += triple ? 3 : 1;
            return text;
        }
        r->line += *r->at == '\n';
    }
    return NULL;
}

/* The rest of a command: quoted, or to the end of the line. NULL: no end, or no memory. */
static char *read_rest(reader *r)
{
    skip_blanks(r);
    if (r->at < r->end && *r->at == '"') {
        return read_quoted(r);
    }
    const char *begin = r->at;
    while (r->at < r->end && *r->at != '\n') {
        r->at++;
    }
    size_t n = (size_t)(r->at - begin);
    while (n > 0 && strchr(" \t\r", begin[n - 1])) {
        n--;
    }
    return copy(r, begin, n);
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

typedef enum parameter_kind { PARAMETER_NUMBER, PARAMETER_WHOLE, PARAMETER_TEXT, PARAMETER_BOOL } parameter_kind;

/* Ollama's names, which are what Modelfiles use. */
static const struct {
    const char *name;
    parameter_kind kind;
} known_parameters[] = {
    {"temperature", PARAMETER_NUMBER},
    {"top_k", PARAMETER_WHOLE},
    {"top_p", PARAMETER_NUMBER},
    {"min_p", PARAMETER_NUMBER},
    {"typical_p", PARAMETER_NUMBER},
    {"seed", PARAMETER_WHOLE},
    {"num_ctx", PARAMETER_WHOLE},
    {"num_predict", PARAMETER_WHOLE},
    {"num_keep", PARAMETER_WHOLE},
    {"stop", PARAMETER_TEXT},
    {"repeat_penalty", PARAMETER_NUMBER},
    {"repeat_last_n", PARAMETER_WHOLE},
    {"presence_penalty", PARAMETER_NUMBER},
    {"frequency_penalty", PARAMETER_NUMBER},
    {"mirostat", PARAMETER_WHOLE},
    {"mirostat_tau", PARAMETER_NUMBER},
    {"mirostat_eta", PARAMETER_NUMBER},
    {"xtc_probability", PARAMETER_NUMBER},
    {"xtc_threshold", PARAMETER_NUMBER},
    {"dry_multiplier", PARAMETER_NUMBER},
    {"dry_base", PARAMETER_NUMBER},
    {"dry_allowed_length", PARAMETER_WHOLE},
    {"dry_penalty_last_n", PARAMETER_WHOLE},
    {"num_batch", PARAMETER_WHOLE},
    {"num_gpu", PARAMETER_WHOLE},
    {"num_thread", PARAMETER_WHOLE},
    {"use_mmap", PARAMETER_BOOL},
    {"penalize_newline", PARAMETER_BOOL},
    {"tfs_z", PARAMETER_NUMBER},
    {"draft_num_predict", PARAMETER_WHOLE},
};

mlxr_status registry_parameter_check(const char *name, const char *value, mlxr_error *error)
{
    for (size_t i = 0; i < sizeof known_parameters / sizeof *known_parameters; i++) {
        if (strcmp(known_parameters[i].name, name) != 0) {
            continue;
        }
        char *end = NULL;
        parameter_kind kind = known_parameters[i].kind;
        bool ok = true;
        if (kind == PARAMETER_NUMBER) {
            double number = strtod(value, &end);
            ok = number == number && number < 1e300 && number > -1e300;
        } else if (kind == PARAMETER_WHOLE) {
            strtoll(value, &end, 10);
        } else if (kind == PARAMETER_BOOL) {
            ok = strcmp(value, "true") == 0 || strcmp(value, "false") == 0;
        }
        ok = ok && (!end || (end != value && *end == '\0'));
        return ok ? MLXR_OK
                  : daemon_error(error, MLXR_ARG, "the parameter %s cannot be '%.60s': %s is needed", name, value,
                                 kind == PARAMETER_BOOL    ? "true or false"
                                 : kind == PARAMETER_WHOLE ? "a whole number"
                                                           : "a number");
    }
    return daemon_error(error, MLXR_UNSUPPORTED, "the parameter '%.60s' is not known", name);
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

static mlxr_status put_once(char **to, char *text, const char *command, mlxr_error *error)
{
    if (*to) {
        free(text);
        return daemon_error(error, MLXR_ARG, "%s is given twice", command);
    }
    *to = text;
    return MLXR_OK;
}

static mlxr_status put_pair(registry_pairs *to, const char *name, char *value, mlxr_error *error)
{
    bool ok = registry_pairs_add(to, name, value);
    free(value);
    return ok ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status add_license(registry_recipe *recipe, char *text, mlxr_error *error)
{
    size_t n = recipe->license ? strlen(recipe->license) : 0, more = strlen(text) + 3;
    char *grown = realloc(recipe->license, n + more);
    if (grown) {
        snprintf(grown + n, more, "%s%s", n ? "\n\n" : "", text);
        recipe->license = grown;
    }
    free(text);
    return grown ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status read_command(reader *r, registry_recipe *recipe, mlxr_error *error)
{
    static const char *const others[] = {"RENDERER", "PARSER", "DRAFT", "REQUIRES"};
    char command[24], name[64];
    read_word(r, command, sizeof command);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcasecmp(command, others[i]) == 0) {
            return daemon_error(error, MLXR_UNSUPPORTED, "%s is not supported", others[i]);
        }
    }
    bool parameter = strcasecmp(command, "PARAMETER") == 0, message = strcasecmp(command, "MESSAGE") == 0;
    if ((parameter || message) && !read_word(r, name, sizeof name)) {
        return daemon_error(error, MLXR_FORMAT, "%s needs a name and a value", command);
    }
    char *text = read_rest(r);
    if (!text && r->no_memory) {
        return registry_fail_nomem(error);
    }
    if (!text) {
        return daemon_error(error, MLXR_FORMAT, "%s has a quote that does not end", command);
    }
    if (parameter) {
        mlxr_status status = registry_parameter_check(name, text, error);
        if (status != MLXR_OK) {
            free(text);
            return status;
        }
        return put_pair(&recipe->parameters, name, text, error);
    }
    if (message) {
        bool known = strcmp(name, "system") == 0 || strcmp(name, "user") == 0 || strcmp(name, "assistant") == 0;
        if (!known) {
            free(text);
            return daemon_error(error, MLXR_ARG, "MESSAGE takes system, user or assistant, not '%.40s'", name);
        }
        return put_pair(&recipe->messages, name, text, error);
    }
    if (strcasecmp(command, "LICENSE") == 0) {
        return add_license(recipe, text, error);
    }
    if (strcasecmp(command, "ADAPTER") == 0) {
        return put_pair(&recipe->adapters, "", text, error);
    }
    char **to = strcasecmp(command, "FROM") == 0       ? &recipe->from
                : strcasecmp(command, "TEMPLATE") == 0 ? &recipe->template_text
                : strcasecmp(command, "SYSTEM") == 0   ? &recipe->system
                                                       : NULL;
    if (!to) {
        free(text);
        return daemon_error(error, MLXR_FORMAT, "'%.20s' is no command of a Modelfile", command);
    }
    return put_once(to, text, command, error);
}

mlxr_status registry_modelfile_parse(registry_recipe *out, const char *text, size_t n, mlxr_error *error)
{
    reader r = {.at = text, .end = text + n, .line = 1};
    mlxr_status status = MLXR_OK;
    *out = (registry_recipe){0};
    if (n > MODELFILE_BYTES_MAX || memchr(text, '\0', n)) {
        return daemon_error(error, MLXR_LIMIT, "a Modelfile has at most %zu bytes, and no NUL", MODELFILE_BYTES_MAX);
    }
    while (status == MLXR_OK) {
        while (r.at < r.end && strchr(" \t\r\n", *r.at)) {
            r.line += *r.at++ == '\n';
        }
        if (r.at == r.end) {
            break;
        }
        unsigned line = r.line;
        if (*r.at == '#') {
            while (r.at < r.end && *r.at != '\n') {
                r.at++;
            }
            continue;
        }
        status = read_command(&r, out, error);
        skip_blanks(&r);
        if (status == MLXR_OK && r.at < r.end && *r.at != '\n' && *r.at != '\r') {
            status = daemon_error(error, MLXR_FORMAT, "there is text behind the closing quote");
        }
        if (status != MLXR_OK && error) {
            char why[sizeof error->text];
            memcpy(why, error->text, sizeof why);
            daemon_error(error, status, "Modelfile, line %u: %s", line, why);
        }
    }
    if (status == MLXR_OK && !out->from) {
        status = daemon_error(error, MLXR_ARG, "the Modelfile has no FROM");
    }
    if (status != MLXR_OK) {
        registry_recipe_close(out);
    }
    return status;
}

/* ---- writing one ------------------------------------------------------------------------------------------------- */

static void put_text(FILE *out, const char *command, const char *name, const char *value)
{
    bool lines = strpbrk(value, "\n\"") != NULL || *value == ' ';
    fprintf(out, "%s%s%s %s%s%s\n", command, *name ? " " : "", name, lines ? "\"\"\"" : "", value,
            lines ? "\"\"\"" : "");
}

char *registry_modelfile_text(const registry_model *m)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out) {
        return NULL;
    }
    put_text(out, "FROM", "", m->path);
    for (size_t i = 0; i < m->adapters.n; i++) {
        put_text(out, "ADAPTER", "", m->adapters.items[i].name);
    }
    if (m->template_text) {
        put_text(out, "TEMPLATE", "", m->template_text);
    }
    if (m->system) {
        put_text(out, "SYSTEM", "", m->system);
    }
    for (size_t i = 0; i < m->parameters.n; i++) {
        put_text(out, "PARAMETER", m->parameters.items[i].name, m->parameters.items[i].value);
    }
    for (size_t i = 0; i < m->messages.n; i++) {
        put_text(out, "MESSAGE", m->messages.items[i].name, m->messages.items[i].value);
    }
    if (m->license) {
        put_text(out, "LICENSE", "", m->license);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
