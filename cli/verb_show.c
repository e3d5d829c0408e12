/*
 * `mlxr show`: what is in a model, and the memory it needs. `mlxr models`: their names.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models.h"
#include "output.h"
#include "store.h"
#include "verbs.h"

static uint64_t number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* The same for people: models come from strangers. */
static const char *line_of(const json_t *object, const char *key)
{
    return plain_line(text(object, key));
}

/* A value of the metadata in one line of at most about 60 characters. */
static void print_value(const json_t *value)
{
    const json_t *first = json_object_get(value, "first");
    if (json_is_string(value)) {
        const char *s = json_string_value(value);
        size_t n = strlen(s), shown = 0;
        while (shown < n && shown < 60 && s[shown] != '\n') {
            shown++;
        }
        while (shown < n && shown > 0 && ((unsigned char)s[shown] & 0xc0) == 0x80) {
            shown--; /* not in the middle of a character */
        }
        write_text(s, shown);
        if (shown < n) {
            printf("… (%zu bytes)", n);
        }
    } else if (json_is_object(value)) {
        char *list = json_dumps(first, JSON_COMPACT | JSON_REAL_PRECISION(6));
        size_t n = list ? strlen(list) : 0;
        printf("%llu values: ", (unsigned long long)number(value, "count"));
        while (n > 50 && list && ((unsigned char)list[50] & 0xc0) == 0x80) {
            list[50] = '\0';
            break;
        }
        write_text(list ? list : "", n < 50 ? n : 50);
        printf("%s", n > 50 ? "…" : "");
        free(list);
    } else {
        char *plain = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        printf("%s", plain ? plain : "?");
        free(plain);
    }
}

typedef struct type_sum {
    const char *type;
    uint64_t n_tensors, n_bytes;
} type_sum;

static void print_types(const json_t *tensors)
{
    type_sum sums[64] = {0};
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i);
        size_t at = 0;
        while (at < n && strcmp(sums[at].type, text(tensor, "type")) != 0) {
            at++;
        }
        if (at == n && n < sizeof sums / sizeof *sums) {
            sums[n++].type = text(tensor, "type");
        }
        if (at < n) {
            sums[at].n_tensors++;
            sums[at].n_bytes += number(tensor, "bytes");
        }
    }
    for (size_t i = 0; i < n; i++) {
        printf("%s%s %s (%llu)", i ? ", " : "", sums[i].type, human_bytes(sums[i].n_bytes),
               (unsigned long long)sums[i].n_tensors);
    }
    putchar('\n');
}

static void print_tensors(const json_t *tensors)
{
    puts("\nTensors");
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *tensor = json_array_get(tensors, i), *shape = json_object_get(tensor, "shape");
        char sizes[96] = "";
        size_t used = 0;
        for (size_t d = 0; d < json_array_size(shape) && used < sizeof sizes; d++) {
            used += (size_t)snprintf(sizes + used, sizeof sizes - used, "%s%lld", d ? " x " : "",
                                     (long long)json_integer_value(json_array_get(shape, d)));
        }
        printf("  %-34s %-6s %16s %12s\n", line_of(tensor, "name"), text(tensor, "type"), sizes,
               human_bytes(number(tensor, "bytes")));
    }
}

/* The head that predicts further tokens, and what drafting with it takes more. */
static void print_head(const json_t *head)
{
    if (!json_is_object(head)) {
        return;
    }
    printf("  mtp head     %llu layer%s, %s", (unsigned long long)number(head, "layers"),
           number(head, "layers") == 1 ? "" : "s", human_bytes(number(head, "bytes")));
    if (json_is_true(json_object_get(head, "usable"))) {
        printf("; --draft mtp reads %s a drafted token and keeps",
               human_bytes(number(head, "bytes_per_drafted_token")));
        printf(" %s a token (f16)\n", human_bytes(number(head, "kv_bytes_per_token_f16")));
    } else {
        printf("; %s\n", json_string_value(json_object_get(head, "why_not")));
    }
}

/* How far the model reads by itself, and what of RoPE --rope-scaling would change. */
static void print_context(const json_t *context)
{
    const char *scaling = text(context, "rope_scaling");
    if (!json_is_object(context)) {
        return;
    }
    printf("  context      %llu tokens", (unsigned long long)number(context, "trained"));
    if (*scaling && strcmp(scaling, "none") != 0) {
        double factor = json_number_value(json_object_get(context, "rope_factor"));
        printf("; RoPE scaling %s", scaling);
        if (factor != 1) { /* factors of each pair have no one number */
            printf(" by %g, from %llu", factor, (unsigned long long)number(context, "original"));
        }
    }
    if (*scaling) {
        printf("; RoPE base %g", json_number_value(json_object_get(context, "rope_base")));
    }
    putchar('\n');
}

/* Of the types that the cache can have, one; NULL: an older daemon tells none, and of f16 only what it needs. */
static const json_t *kv_type_of(const json_t *types, const char *name)
{
    for (size_t i = 0; i < json_array_size(types); i++) {
        if (strcmp(text(json_array_get(types, i), "type"), name) == 0) {
            return json_array_get(types, i);
        }
    }
    return NULL;
}

/* First what the cache takes unless --kv-type says otherwise, then the other types. */
static void print_memory(const json_t *memory)
{
    const json_t *types = json_object_get(memory, "kv_types");
    const json_t *taken = kv_type_of(types, text(memory, "kv_type_auto"));
    const char *usual = taken ? text(taken, "type") : "f16";
    taken = taken ? taken : kv_type_of(types, usual);
    uint64_t weights = number(memory, "weight_bytes");
    uint64_t per_token = number(taken ? taken : memory, taken ? "kv_bytes_per_token" : "kv_bytes_per_token_f16");
    uint64_t full = number(taken ? taken : memory, taken ? "kv_bytes_full_context" : "kv_bytes_full_context_f16");
    if (json_is_object(memory)) {
        printf("  weights      %s, mapped from the file; %s are read for each token\n", human_bytes(weights),
               human_bytes(number(memory, "bytes_per_token")));
        printf("  KV cache     %s per token, %s for a full context (%s)\n", human_bytes(per_token), human_bytes(full),
               plain_line(usual));
        for (size_t i = 0; i < json_array_size(types); i++) {
            const json_t *type = json_array_get(types, i);
            const char *name = text(type, "type");
            if (type != taken && *text(type, "why_not")) {
                printf("    %-10s no: %s\n", name, text(type, "why_not"));
            } else if (type != taken) {
                printf("    %-10s %s per token, %s for a full context\n", name,
                       human_bytes(number(type, "kv_bytes_per_token")),
                       human_bytes(number(type, "kv_bytes_full_context")));
            }
        }
        printf("  memory       about %s with a full context\n", human_bytes(weights + full));
    }
}

static void print_given(const char *label, const char *value)
{
    if (*value) {
        printf("  %-12s %s\n", label, plain_line(value));
    }
}

/* What the registry has besides the file, indented like the rest. */
static void print_registered(const json_t *m)
{
    size_t i;
    json_t *one;
    printf("  name         %s (%s)\n", line_of(m, "name"), text(m, "source"));
    print_given("digest", text(m, "digest"));
    print_given("from", text(m, "origin"));
    if (json_is_string(json_object_get(m, "template"))) {
        puts("  template     its own, in the place of the file's");
    }
    if (json_is_string(json_object_get(m, "system"))) {
        printf("  system       %.200s\n", line_of(m, "system"));
    }
    json_array_foreach(json_object_get(m, "adapters"), i, one)
    {
        const char *digest = line_of(one, "digest");
        printf("  adapter      %s\n", *digest ? digest : line_of(one, "path"));
    }
    json_array_foreach(json_object_get(m, "parameters"), i, one)
    {
        printf("  parameter    %s %s\n", line_of(one, "name"), line_of(one, "value"));
    }
    json_array_foreach(json_object_get(m, "warnings"), i, one)
    {
        printf("  warning      %s: %s\n", line_of(one, "what"), line_of(one, "why"));
    }
}

/* `registered`: what the registry has of it; NULL: it was given by path. */
static void print_model(const options *o, const json_t *root, const json_t *registered)
{
    const json_t *meta = json_object_get(root, "metadata"), *tensors = json_object_get(root, "tensors");
    const char *name = text(meta, "general.name"), *key;
    json_t *value;
    uint64_t n_files = number(root, "n_files");
    puts(*name ? plain_line(name) : line_of(root, "path"));
    if (registered) {
        print_registered(registered);
    }
    printf("  path         %s\n", line_of(root, "path"));
    printf("  format       %s", text(root, "format"));
    if (number(root, "version")) { /* safetensors has none */
        printf(" version %llu", (unsigned long long)number(root, "version"));
    }
    printf(", %s", human_bytes(number(root, "file_bytes")));
    printf(n_files > 1 ? " in %llu files\n" : "\n", (unsigned long long)n_files);
    printf("  family       %s\n", line_of(meta, "general.architecture"));
    printf("  parameters   %s in %zu tensors\n", human_count(number(root, "n_params")), json_array_size(tensors));
    printf("  types        ");
    print_types(tensors);
    print_context(json_object_get(root, "context"));
    print_memory(json_object_get(root, "memory"));
    print_head(json_object_get(root, "mtp"));
    const char *template = text(meta, "tokenizer.chat_template");
    printf("  chat         %s\n", *template ? "has a chat template" : "no chat template: a base model");
    if (json_is_true(json_object_get(root, "supported"))) {
        puts("  runs here    yes");
    } else {
        printf("  runs here    no: %s\n", line_of(root, "why_not"));
    }
    puts("\nMetadata");
    json_object_foreach((json_t *)meta, key, value)
    {
        printf("  %-42s ", plain_line(key));
        print_value(value);
        putchar('\n');
    }
    if (o->tensors) {
        print_tensors(tensors);
    }
}

/* Takes what the model's file says of itself, and the registry of the model (NULL: it was given by path). */
static int print_shown(const options *o, json_t *description, json_t *model)
{
    if (o->json) {
        if (model) {
            json_object_set(description, "registry", model);
        }
        return print_json(json_incref(description));
    }
    print_model(o, description, model);
    return finish_output(EXIT_OK);
}

static int show_path(const options *o, const char *path)
{
    char *dumped = NULL;
    mlxr_error error;
    json_error_t where;
    registry_model m = {.path = (char *)path, .name = (char *)path};
    if (o->modelfile) {
        char *file = registry_modelfile_text(&m);
        printf("%s", file ? file : "");
        free(file);
        return finish_output(file ? EXIT_OK : EXIT_FAILED);
    }
    if (mlxr_model_describe(path, &dumped, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    json_t *description = json_loads(dumped, 0, &where);
    mlxr_free(dumped);
    if (!description) {
        print_error("the description of %s is no JSON: %s", path, where.text);
        return EXIT_FAILED;
    }
    int code = print_shown(o, description, NULL);
    json_decref(description);
    return code;
}

static int show_name(const options *o, const char *name)
{
    store s;
    mlxr_error error;
    json_t *shown = NULL;
    int code = store_open(&s, o, 0);
    if (code != EXIT_OK) {
        return code;
    }
    if (s.ops->show(&s, name, !o->modelfile, &shown, &error) != MLXR_OK) {
        print_error("%s", error.text);
        code = EXIT_FAILED;
    } else if (o->modelfile) {
        fputs(text(shown, "modelfile"), stdout);
        code = finish_output(EXIT_OK);
    } else {
        code = print_shown(o, json_object_get(shown, "description"), json_object_get(shown, "model"));
    }
    if (code == EXIT_OK && s.client) {
        print_note("mlxr: as the daemon at %s has it", client_where(s.client));
    } else if (code == EXIT_OK) {
        print_note("mlxr: as the store of this machine has it");
    }
    json_decref(shown);
    store_close(&s);
    return code;
}

int verb_show(options *o)
{
    const char *model = o->args[0];
    if (!models_is_path(model)) {
        return show_name(o, model);
    }
    if (strlen(model) >= MODEL_PATH_MAX) {
        print_error("the path is longer than %u bytes", MODEL_PATH_MAX - 1);
        return EXIT_FAILED;
    }
    return show_path(o, model);
}

int verb_models(options *o)
{
    model_list list;
    if (!models_list(&list)) {
        return EXIT_FAILED;
    }
    json_t *names = o->json ? json_array() : NULL;
    for (size_t i = 0; i < list.n; i++) {
        if (o->json) {
            json_array_append_new(names, json_text(list.items[i].name, strlen(list.items[i].name)));
        } else {
            puts(list.items[i].name);
        }
    }
    models_list_close(&list);
    return o->json ? print_json(names) : finish_output(EXIT_OK);
}
