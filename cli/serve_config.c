/*
 * From the file of options to those of the command line.
 * Owner: the verb `serve`. Lifetime: the call.
 */
#include "serve_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "server/ui_schema.h"

static const option_spec *spec_of(const config_option *o)
{
    return options_find(o->option, strlen(o->option),
                        GROUP_SERVE | GROUP_ENGINE | GROUP_CONTEXT | GROUP_CACHE | GROUP_COMPUTE);
}

/* A link to where somebody keeps such files: it is read, written and let through the sandbox there. */
static void follow(char path[CONFIG_PATH_MAX])
{
    char *real = *path ? realpath(path, NULL) : NULL;
    if (real && strlen(real) < CONFIG_PATH_MAX) {
        memcpy(path, real, strlen(real) + 1);
    }
    free(real);
}

int serve_config_open(serve_config *c, const options *o)
{
    mlxr_error error;
    *c = (serve_config){.document = ui_schema_open()};
    if (!config_path(c->path, sizeof c->path)) {
        *c->path = '\0';
    }
    follow(c->path);
    for (size_t i = 0; i < N_CONFIG_OPTIONS; i++) {
        const option_spec *spec = spec_of(&config_options[i]);
        if (spec && options_given(o, spec)) {
            c->fixed[c->n_fixed++] = config_options[i].name;
        }
    }
    error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
    c->values = c->document ? *c->path ? config_read(c->path, c->document, &error) : json_object() : NULL;
    if (!c->values) {
        print_error("%s", error.text);
        serve_config_close(c);
        return error.status == MLXR_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    return EXIT_OK;
}

void serve_config_close(serve_config *c)
{
    json_decref(c->values);
    json_decref(c->before);
    json_decref(c->document);
    *c = (serve_config){.n_fixed = 0};
}

static void apply(options *o, const option_spec *spec, const json_t *value, char number_text[12])
{
    void *field = (char *)o + spec->offset;
    json_int_t number = json_integer_value(value);
    switch (spec->kind) {
    case OPTION_FLAG:
        *(bool *)field = json_is_true(value);
        break;
    case OPTION_U32:
        *(uint32_t *)field = (uint32_t)number;
        break;
    case OPTION_I32:
        *(int32_t *)field = (int32_t)number;
        break;
    case OPTION_FLOAT:
        *(float *)field = (float)json_number_value(value);
        break;
    case OPTION_U64:
    case OPTION_BYTES:
        *(uint64_t *)field = (uint64_t)number;
        break;
    default: /* texts; an empty one is none */
        snprintf(number_text, 12, "%d", (int)number);
        *(const char **)field = json_is_integer(value)      ? number_text
                                : *json_string_value(value) ? json_string_value(value)
                                                            : NULL;
        break;
    }
}

/* A scaling of the command line is another one than the file's, whose numbers are not its. */
static bool is_of_another_scaling(const options *o, const option_spec *spec)
{
    bool goes_with = strcmp(spec->name, "rope-scale") == 0 || strcmp(spec->name, "rope-original") == 0 ||
                     strncmp(spec->name, "yarn-", 5) == 0;
    return goes_with && options_given(o, options_find("rope-scaling", strlen("rope-scaling"), GROUPS_ROPE));
}

void serve_config_apply(serve_config *c, options *o)
{
    c->n_applied = 0;
    for (size_t i = 0; i < N_CONFIG_OPTIONS; i++) {
        const option_spec *spec = spec_of(&config_options[i]);
        const json_t *value = json_object_get(c->values, config_options[i].name);
        if (spec && value && !options_given(o, spec) && !is_of_another_scaling(o, spec)) {
            apply(o, spec, value, c->numbers[i]);
            c->applied[c->n_applied++] = config_options[i].name;
        }
    }
}

void serve_config_blame(const serve_config *c, mlxr_error *error)
{
    const char *before = " (";
    for (size_t i = 0; i < c->n_applied; i++) {
        const char *name = c->applied[i];
        size_t n = strlen(error->text), room = sizeof error->text - n;
        bool rope = strcmp(name, "ctx") == 0 || strncmp(name, "rope_", 5) == 0 || strncmp(name, "yarn_", 5) == 0;
        if (rope && (size_t)snprintf(error->text + n, room, "%s%s", before, name) < room) {
            before = ", ";
        }
    }
    size_t n = strlen(error->text);
    if (*before == ',') {
        snprintf(error->text + n, sizeof error->text - n, ": as %.200s has it)", c->path);
    }
}

void serve_config_renew(serve_config *c)
{
    mlxr_error error = {.text = ""};
    json_t *values = *c->path ? config_read(c->path, c->document, &error) : json_object();
    c->note.text[0] = '\0';
    if (!values) {
        c->note = error;
        return;
    }
    json_decref(c->before);
    c->before = c->values;
    c->values = values;
}

bool serve_config_back(serve_config *c, const mlxr_error *why)
{
    if (!c->before || !*why->text) {
        return false;
    }
    json_decref(c->values);
    c->values = c->before;
    c->before = NULL;
    c->note = *why;
    return true;
}
