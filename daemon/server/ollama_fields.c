/*
 * The fields of the Ollama dialect's bodies, and what they make of a request.
 * Owner: the request. Lifetime: the call.
 *
 * Unknown fields are refused by name, as everywhere in this server. What Ollama's clients send and local hardware
 * settings that make no difference here are accepted, with a warning in the answer.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "registry/go_template.h"
#include "server/ollama_parts.h"

#define O(member) offsetof(ollama_options, member)
#define R(member) offsetof(chat_request, member)
#define N(list) (sizeof(list) / sizeof *(list))

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Units of Go's durations, in milliseconds. */
static double unit_ms(const char *text, size_t *n)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"\xc2\xb5s", 1e-3}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    for (size_t i = 0; i < N(units); i++) {
        *n = strlen(units[i].name);
        if (strncmp(text, units[i].name, *n) == 0) {
            return units[i].ms;
        }
    }
    *n = 0;
    return 0;
}

/* "5m", "1h30m", "-1", "300": a number alone is seconds. False: it is none. */
static bool duration_ms(const char *text, double *out)
{
    bool negative = *text == '-';
    double sum = 0;
    text += *text == '-' || *text == '+';
    if (!*text) {
        return false;
    }
    while (*text) {
        char *end;
        size_t n = strspn(text, "0123456789."), n_unit = 0;
        double number = strtod(text, &end);
        if (n == 0 || end != text + n) {
            return false;
        }
        double unit = unit_ms(end, &n_unit);
        if (n_unit == 0) {
            unit = *end ? 0 : 1000;
        }
        if (unit == 0) {
            return false;
        }
        sum += number * unit;
        text = end + n_unit;
    }
    *out = negative ? -sum : sum;
    return true;
}

static bool read_keep_alive(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    ollama_options *o = target;
    double ms = json_number_value(value) * 1000;
    bool ok = json_is_number(value) || (json_is_string(value) && duration_ms(json_string_value(value), &ms));
    if (!ok || ms != ms) {
        return request_fields_want(r, f,
                                   "a duration: seconds as a number, or a text such as \"5m\" or \"1h30m\"; 0 "
                                   "unloads, negative keeps for ever");
    }
    o->has_keep_alive = true;
    o->keep_alive_ms = ms < 0 ? MODEL_KEEP_FOR_EVER : ms > 9e15 ? MODEL_KEEP_FOR_EVER : (int64_t)ceil(ms);
    return true;
}

static bool read_truncate(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    ollama_options *o = target;
    o->has_truncate = true;
    return field_bool(r, f, &o->truncate, value);
}

static bool read_shift(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    bool shift = false;
    (void)target;
    return field_bool(r, f, &shift, value) &&
           (!shift || request_fields_warn(r, "shift: the context is not shifted; the answer ends where it is full"));
}

/* "", "json", or a schema. */
static bool read_format(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    const char *word = json_string_value(value);
    (void)target;
    if (word && !*word) {
        return true;
    }
    if (word && strcmp(word, "json") == 0) {
        return request_fields_grammar(r, f->name, strdup("{\"type\":\"object\"}"), true);
    }
    return json_is_object(value) ? field_schema(r, f, NULL, value)
                                 : request_fields_want(r, f, "\"json\" or a JSON Schema");
}

static bool refuse_images(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    (void)target;
    return json_array_size(value) == 0 && json_is_array(value)
               ? true
               : request_fields_bad(r, f->name, "%s: images cannot be read yet, only text", f->name);
}

static bool refuse(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    bool empty = json_is_false(value) || (json_is_object(value) && json_object_size(value) == 0) ||
                 (json_is_array(value) && json_array_size(value) == 0) ||
                 (json_is_string(value) && json_string_length(value) == 0);
    (void)target;
    return empty || request_fields_bad(r, f->name, "%s: %s", f->name, f->note);
}

static bool warn_if_true(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    bool is = false;
    (void)target;
    return field_bool(r, f, &is, value) && (!is || request_fields_warn(r, "%s: %s", f->name, f->note));
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

/* −1: until the model ends it; −2: until the context is full; both end there here, too. */
static bool read_num_predict(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    int32_t n = 0;
    if (!field_i32(r, f, &n, value)) {
        return false;
    }
    ((chat_request *)target)->f.max_tokens = n > 0 ? (uint32_t)n : 0;
    return true;
}

static bool read_num_ctx(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    int32_t n = 0;
    if (!field_i32(r, f, &n, value)) {
        return false;
    }
    ((chat_request *)target)->n_ctx = n > 0 ? (uint32_t)n : 0;
    return true;
}

static bool read_seed(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    int64_t n = 0;
    bool ok = field_i64(r, f, &n, value);
    (void)target;
    if (ok && n >= 0) { /* negative: another one each time */
        r->sampling.seed = (uint64_t)n;
    }
    return ok;
}

static bool read_penalize_newline(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    bool yes = true;
    (void)target;
    return field_bool(r, f, &yes, value) &&
           (yes || request_fields_warn(r, "penalize_newline: newlines are penalised as other tokens are"));
}

static bool read_tfs(request_fields *r, const request_field *f, void *target, const json_t *value)
{
    float z = 1;
    (void)target;
    return field_float(r, f, &z, value) &&
           (z == 1.0f || request_fields_warn(r, "tfs_z: tail-free sampling is not there; see min_p and typical_p"));
}

static const char memory_note[] = "memory is planned by the daemon (mlxr serve)";
static const char threads_note[] = "the daemon's threads serve all requests (mlxr serve --threads)";

static const request_field option_fields[] = {
    {"num_predict", read_num_predict, 0, -2, INT32_MAX, NULL},
    {"num_ctx", read_num_ctx, 0, 0, INT32_MAX, NULL},
    {"seed", read_seed, 0, 0, 0, NULL},
    {"num_keep", field_warn, 0, 0, 0, "whole turns are left out where a request allows it; system messages stay"},
    {"penalize_newline", read_penalize_newline, 0, 0, 0, NULL},
    {"tfs_z", read_tfs, 0, 0, 0, NULL},
    {"num_batch", field_warn, 0, 0, 0, "steps are sized by the scheduler"},
    {"num_thread", field_warn, 0, 0, 0, threads_note},
    {"num_gpu", field_warn, 0, 0, 0, memory_note},
    {"main_gpu", field_warn, 0, 0, 0, memory_note},
    {"numa", warn_if_true, 0, 0, 0, memory_note},
    {"low_vram", warn_if_true, 0, 0, 0, memory_note},
    {"use_mmap", field_warn, 0, 0, 0, "files always are mapped"},
    {"use_mlock", warn_if_true, 0, 0, 0, "memory is not locked"},
    {"f16_kv", field_warn, 0, 0, 0, "the KV cache's type is the daemon's (mlxr serve --kv-type)"},
    {"logits_all", warn_if_true, 0, 0, 0, "see logprobs"},
    {"vocab_only", warn_if_true, 0, 0, 0, "models are loaded as a whole"},
    {"embedding_only", warn_if_true, 0, 0, 0, "see /api/embed"},
    {"draft_num_predict", field_warn, 0, 0, 0, "see draft"},
};

static bool read_options(chat_request *r, const ollama_options *o)
{
    const field_table tables[] = {{option_fields, N(option_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f}};
    return !o->options || request_fields_read(&r->f, o->options, tables, N(tables));
}

/* ---- generate and chat ------------------------------------------------------------------------------------------- */

#define RUN_FIELDS                                                                                                     \
    {"model", field_text, O(model), 0, 0, NULL}, {"stream", field_bool, O(stream), 0, 0, NULL},                        \
        {"options", field_object, O(options), 0, 0, NULL}, {"format", read_format, 0, 0, 0, NULL},                     \
        {"think", field_json, O(think), 0, 0, NULL}, {"truncate", read_truncate, 0, 0, 0, NULL},                       \
        {"shift", read_shift, 0, 0, 0, NULL}, {"keep_alive", read_keep_alive, 0, 0, 0, NULL},                          \
        {"_debug_render_only", refuse, 0, 0, 0, "see /apply-template"}

static const request_field generate_fields[] = {
    RUN_FIELDS,
    {"prompt", field_text, O(prompt), 0, 0, NULL},
    {"suffix", field_text, O(suffix), 0, 0, NULL},
    {"system", field_text, O(system), 0, 0, NULL},
    {"template", field_text, O(template_text), 0, 0, NULL},
    {"context", field_list, O(context), 0, 0, NULL},
    {"raw", field_bool, O(raw), 0, 0, NULL},
    {"images", refuse_images, 0, 0, 0, NULL},
    {"width", refuse, 0, 0, 0, "images cannot be made"},
    {"height", refuse, 0, 0, 0, "images cannot be made"},
    {"steps", refuse, 0, 0, 0, "images cannot be made"},
};

static const request_field chat_fields[] = {
    RUN_FIELDS,
    {"messages", field_list, O(messages), 0, 0, NULL},
    {"tools", field_list, O(tools), 0, 0, NULL},
    {"tool_choice", field_json, O(tool_choice), 0, 0, NULL}, /* ours: as OpenAI has it */
};

static const request_field run_request_fields[] = {
    {"top_logprobs", field_count, R(f.sampling.n_logprobs), 0, 20, NULL},
    {"draft", field_one_of, R(draft), 0, 0, "ngram|mtp|none"},
};

/* true, false, or how much. */
static bool read_think(chat_request *r, const json_t *think)
{
    static const char *const levels[][2] = {{"low", "low"}, {"medium", "medium"}, {"high", "high"}, {"max", "high"}};
    const char *word = json_string_value(think);
    if (!think || json_is_null(think) || (word && !*word)) {
        return true;
    }
    if (json_is_boolean(think)) {
        r->think = json_is_true(think) ? THINK_ON : THINK_OFF;
        return true;
    }
    for (size_t i = 0; word && i < N(levels); i++) {
        if (strcmp(word, levels[i][0]) == 0) {
            r->think = THINK_ON;
            r->effort = levels[i][1];
            return true;
        }
    }
    return request_fields_bad(&r->f, "think", "think must be true, false, \"low\", \"medium\", \"high\" or \"max\"");
}

static bool take_run(chat_request *r, ollama_options *o)
{
    r->keep_alive_ms = o->has_keep_alive ? o->keep_alive_ms : MODEL_KEEP_DEFAULT;
    r->truncate = o->has_truncate && o->truncate ? TRUNCATE_OLDEST : TRUNCATE_NEVER;
    if (!read_options(r, o) || !read_think(r, o->think)) {
        return false;
    }
    return r->f.n_choices == 1 || request_fields_bad(&r->f, "n", "n: this API gives one answer; see /v1/completions");
}

static bool read_run(chat_request *r, ollama_options *o, const request_field *fields, size_t n)
{
    *o = (ollama_options){.stream = true, .keep_alive_ms = MODEL_KEEP_DEFAULT};
    const field_table tables[] = {{fields, n, o},
                                  {run_request_fields, N(run_request_fields), r},
                                  {request_fields_common, n_request_fields_common, &r->f}};
    return request_fields_read(&r->f, r->body, tables, N(tables)) && take_run(r, o);
}

/* Reasoning under the name that templates know; images by our own words. */
static json_t *adapt_messages(chat_request *r, const json_t *messages)
{
    json_t *list = json_deep_copy(messages);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i), *thinking = json_object_get(one, "thinking");
        if (json_array_size(json_object_get(one, "images")) > 0) {
            request_fields_bad(&r->f, "messages", "messages[%zu]: images cannot be read yet, only text", i);
            json_decref(list);
            return NULL;
        }
        if (thinking) {
            json_object_set(one, "reasoning_content", thinking);
            json_object_del(one, "thinking");
        }
    }
    if (!list) {
        request_fields_no_memory(&r->f);
    }
    return list;
}

bool ollama_chat_parse(chat_request *r, ollama_options *o)
{
    if (!read_run(r, o, chat_fields, N(chat_fields))) {
        return false;
    }
    json_t *messages = adapt_messages(r, o->messages);
    bool ok = messages && chat_messages_read(r, "messages", messages) &&
              (!o->tools || chat_tools_read(r, "tools", o->tools)) &&
              (!o->tool_choice || json_is_null(o->tool_choice) ||
               chat_tool_choice_read(r, "tool_choice", o->tool_choice));
    json_decref(messages);
    return ok;
}

static bool read_context(chat_request *r, const json_t *context)
{
    size_t n = json_array_size(context);
    if (n == 0) {
        return true;
    }
    r->before = malloc(n * sizeof *r->before);
    for (size_t i = 0; r->before && i < n; i++) {
        json_int_t id;
        if (!request_field_whole(json_array_get(context, i), 0, INT32_MAX, &id)) {
            return request_fields_bad(&r->f, "context", "context[%zu] is no token", i);
        }
        r->before[i] = (int32_t)id;
    }
    r->n_before = r->before ? n : 0;
    return r->before || request_fields_no_memory(&r->f);
}

char *ollama_template(request_fields *f, const char *text)
{
    mlxr_error error;
    char *jinja = NULL;
    if (!go_template_is(text)) {
        jinja = strdup(text);
    } else if (go_template_to_jinja(text, &jinja, &error) != MLXR_OK) {
        request_fields_fail(f, error.status, "template", "template: %s", error.text);
        return NULL;
    }
    if (!jinja) {
        request_fields_no_memory(f);
    }
    return jinja;
}

bool ollama_generate_parse(chat_request *r, ollama_options *o)
{
    if (!read_run(r, o, generate_fields, N(generate_fields))) {
        return false;
    }
    bool fills = o->suffix && *o->suffix;
    if (o->raw &&
        ((o->template_text && *o->template_text) || (o->system && *o->system) || json_array_size(o->context) > 0)) {
        return request_fields_bad(&r->f, "raw", "raw takes the prompt as it is: no template, system or context");
    }
    r->prompt = o->prompt ? o->prompt : "";
    r->n_prompt = strlen(r->prompt);
    r->suffix = fills ? o->suffix : NULL;
    r->plain_output = o->raw || fills;
    if (!read_context(r, o->context)) {
        return false;
    }
    if (o->template_text && *o->template_text && !(r->template_text = ollama_template(&r->f, o->template_text))) {
        return false;
    }
    if (o->raw || fills) {
        return true;
    }
    r->plain_system = o->system != NULL || r->n_before > 0; /* an earlier turn has it already */
    return (!o->system || !*o->system || chat_message_add(r, "system", o->system)) &&
           chat_message_add(r, "user", r->prompt);
}

bool ollama_only_loads(const json_t *body, bool chat)
{
    if (chat) {
        return json_array_size(json_object_get(body, "messages")) == 0;
    }
    const json_t *prompt = json_object_get(body, "prompt"), *suffix = json_object_get(body, "suffix");
    return (!prompt || json_is_null(prompt) || (json_is_string(prompt) && json_string_length(prompt) == 0)) &&
           json_string_length(suffix) == 0;
}

/* ---- the other routes -------------------------------------------------------------------------------------------- */

static const char old_login_note[] = "registries are logged in to by their own tokens";

#define NAME_FIELDS                                                                                                    \
    {"model", field_text, O(model), 0, 0, NULL},                                                                       \
    {                                                                                                                  \
        "name", field_text, O(name), 0, 0, NULL                                                                        \
    }

static const request_field name_fields[] = {NAME_FIELDS};
static const request_field show_fields[] = {
    NAME_FIELDS,
    {"verbose", field_bool, O(verbose), 0, 0, NULL},
    {"system", field_text, O(system), 0, 0, NULL},
    {"template", field_text, O(template_text), 0, 0, NULL},
    {"options", field_warn, 0, 0, 0, "nothing of what is shown depends on it"},
};
static const request_field copy_fields[] = {
    {"source", field_text, O(source), 0, 0, NULL},
    {"destination", field_text, O(destination), 0, 0, NULL},
};
static const request_field pull_fields[] = {
    NAME_FIELDS,
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"insecure", warn_if_true, 0, 0, 0, "connections stay as safe as they are; MLXR_ALLOW_PRIVATE names private hosts"},
    {"username", refuse, 0, 0, 0, old_login_note},
    {"password", refuse, 0, 0, 0, old_login_note},
};
static const request_field create_fields[] = {
    NAME_FIELDS,
    {"stream", field_bool, O(stream), 0, 0, NULL},
    {"from", field_text, O(from), 0, 0, NULL},
    {"files", field_object, O(files), 0, 0, NULL},
    {"template", field_text, O(template_text), 0, 0, NULL},
    {"system", field_text, O(system), 0, 0, NULL},
    {"license", field_json, O(license), 0, 0, NULL},
    {"parameters", field_object, O(parameters), 0, 0, NULL},
    {"messages", field_list, O(messages), 0, 0, NULL},
    {"modelfile", field_text, O(modelfile), 0, 0, NULL},
    {"path", refuse, 0, 0, 0, "files are not read where they lie; upload them with /api/blobs"},
    {"adapters", field_object, O(adapters), 0, 0, NULL},
    {"quantize", refuse, 0, 0, 0, "models are not quantised here; pull one that is"},
    {"quantization", refuse, 0, 0, 0, "models are not quantised here; pull one that is"},
    {"draft_quantize", refuse, 0, 0, 0, "models are not quantised here; pull one that is"},
    {"draft_files", refuse, 0, 0, 0, "a draft model is a model of its own here"},
    {"remote_host", refuse, 0, 0, 0, "models run on this machine only"},
    {"renderer", refuse, 0, 0, 0, "chats are written by templates"},
    {"parser", refuse, 0, 0, 0, "answers are read by what the template shows"},
    {"requires", field_warn, 0, 0, 0, "versions of Ollama are none of ours"},
    {"info", field_warn, 0, 0, 0, "it is read from the model's file"},
};
static const request_field embed_fields[] = {
    {"model", field_text, O(model), 0, 0, NULL},    {"input", field_json, O(input), 0, 0, NULL},
    {"truncate", read_truncate, 0, 0, 0, NULL},     {"dimensions", field_count, O(dimensions), 0, 0, NULL},
    {"keep_alive", read_keep_alive, 0, 0, 0, NULL}, {"options", field_object, O(options), 0, 0, NULL},
};
static const request_field embeddings_fields[] = {
    {"model", field_text, O(model), 0, 0, NULL},
    {"prompt", field_text, O(prompt), 0, 0, NULL},
    {"keep_alive", read_keep_alive, 0, 0, 0, NULL},
    {"options", field_object, O(options), 0, 0, NULL},
};

static const struct {
    const char *pattern;
    const request_field *rows;
    size_t n;
    bool runs; /* options and samplers, too */
    const char *required;
} bodies[] = {
    {"/api/generate", generate_fields, N(generate_fields), true, "[\"model\"]"},
    {"/api/chat", chat_fields, N(chat_fields), true, "[\"model\"]"},
    {"/api/show", show_fields, N(show_fields), false, "[]"},
    {"/api/delete", name_fields, N(name_fields), false, "[]"},
    {"/api/copy", copy_fields, N(copy_fields), false, "[\"source\",\"destination\"]"},
    {"/api/pull", pull_fields, N(pull_fields), false, "[]"},
    {"/api/push", pull_fields, N(pull_fields), false, "[]"},
    {"/api/create", create_fields, N(create_fields), false, "[]"},
    {"/api/embed", embed_fields, N(embed_fields), false, "[\"model\",\"input\"]"},
    {"/api/embeddings", embeddings_fields, N(embeddings_fields), false, "[\"model\",\"prompt\"]"},
};

bool ollama_parse(request_fields *f, const char *pattern, const json_t *body, ollama_options *o)
{
    *o = (ollama_options){.stream = true, .keep_alive_ms = MODEL_KEEP_DEFAULT};
    for (size_t i = 0; i < N(bodies); i++) {
        if (strcmp(bodies[i].pattern, pattern) == 0) {
            const field_table table = {bodies[i].rows, bodies[i].n, o};
            if (!request_fields_read(f, body, &table, 1)) {
                return false;
            }
            o->model = o->model && *o->model ? o->model : o->name ? o->name : "";
            return true;
        }
    }
    return request_fields_bad(f, NULL, "no such route");
}

/* What a field's reader alone does not tell. */
static const struct {
    const char *name, *schema;
} details[] = {
    {"keep_alive", "{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"string\"}]}"},
    {"format", "{\"anyOf\":[{\"enum\":[\"\",\"json\"]},{\"type\":\"object\"}]}"},
    {"think", "{\"anyOf\":[{\"type\":\"boolean\"},{\"enum\":[\"low\",\"medium\",\"high\",\"max\"]}]}"},
    {"messages", "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"role\":{\"enum\":[\"system\","
                 "\"user\",\"assistant\",\"tool\"]},\"content\":{\"type\":\"string\"}},\"required\":[\"role\"]}}"},
    {"tools", "{\"type\":\"array\",\"maxItems\":128,\"items\":{\"type\":\"object\"}}"},
    {"input", "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]}"},
    {"images", "{\"type\":\"array\",\"maxItems\":0}"},
    {"tool_choice", "{\"anyOf\":[{\"enum\":[\"none\",\"auto\",\"required\"]},{\"type\":\"object\"}]}"},
    {"truncate", "{\"type\":\"boolean\"}"},
    {"shift", "{\"type\":\"boolean\"}"},
    {"insecure", "{\"type\":\"boolean\"}"},
    {"license", "{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]}"},
};

static json_t *schema_of(const request_field *f)
{
    for (size_t i = 0; i < N(details); i++) {
        if (strcmp(details[i].name, f->name) == 0) {
            return json_loads(details[i].schema, 0, NULL);
        }
    }
    return request_field_schema(f);
}

static void add_schemas(json_t *properties, const request_field *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!json_object_get(properties, rows[i].name)) { /* null counts as not given */
            json_object_set_new(properties, rows[i].name,
                                json_pack("{s:[o, {s:s}]}", "anyOf", schema_of(&rows[i]), "type", "null"));
        }
    }
}

json_t *ollama_body_schema(const char *pattern)
{
    for (size_t b = 0; b < N(bodies); b++) {
        if (strcmp(bodies[b].pattern, pattern) != 0) {
            continue;
        }
        json_t *properties = json_object();
        add_schemas(properties, bodies[b].rows, bodies[b].n);
        if (bodies[b].runs) {
            json_t *options = json_object();
            add_schemas(options, option_fields, N(option_fields));
            add_schemas(options, request_fields_common, n_request_fields_common);
            json_object_set_new(properties, "options",
                                json_pack("{s:[{s:s, s:o, s:b}, {s:s}]}", "anyOf", "type", "object", "properties",
                                          options, "additionalProperties", 0, "type", "null"));
            add_schemas(properties, run_request_fields, N(run_request_fields));
            add_schemas(properties, request_fields_common, n_request_fields_common);
        }
        return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required",
                         json_loads(bodies[b].required, 0, NULL), "additionalProperties", 0);
    }
    return NULL;
}
