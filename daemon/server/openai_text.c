/*
 * /tokenize, /detokenize, /apply-template.
 * Owner: a job belongs to its exchange and its call of a model together. Lifetime: until both have ended.
 */
#include <stdlib.h>
#include <string.h>

#include "registry/registry.h"
#include "server/chat_prompt.h"
#include "server/errors.h"
#include "server/model_call.h"
#include "server/openai_parts.h"

typedef struct text_job {
    struct daemon *d;
    http_exchange *x; /* NULL: gone */
    bool done;
    const char *pattern;
    char *text; /* [n_text] the body */
    size_t n_text;
    chat_request r; /* its fields and body */
    openai_text_options o;
    json_t *answer; /* NULL: r.f says what is wrong */
} text_job;

static void free_job(text_job *j)
{
    if (!j->x && j->done) {
        chat_request_close(&j->r);
        json_decref(j->answer);
        free(j->text);
        free(j);
    }
}

static void on_gone(void *user)
{
    text_job *j = user;
    j->x = NULL;
    free_job(j);
}

static const char *prepare(void *user)
{
    text_job *j = user;
    mlxr_error error;
    json_t *body = request_body_read(j->text, j->n_text, &error);
    if (!body) {
        request_fields_open(&j->r.f, NULL);
        request_fields_fail(&j->r.f, error.status, NULL, "%s", error.text);
        return NULL;
    }
    if (!chat_request_open(&j->r, body, NULL) || !openai_text_parse(&j->r.f, j->pattern, body, &j->o)) {
        return NULL;
    }
    return j->o.model ? j->o.model : "";
}

/* ---- what each does ---------------------------------------------------------------------------------------------- */

static json_t *pieces_of(const mlxr_model *model, const int32_t *ids, size_t n, bool with_pieces)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!with_pieces) {
            json_array_append_new(list, json_integer(ids[i]));
            continue;
        }
        size_t n_piece = 0;
        const char *piece = mlxr_token_text(model, ids[i], &n_piece);
        json_t *text = json_stringn(piece ? piece : "", n_piece);
        if (!text) { /* half a character: its bytes */
            text = json_array();
            for (size_t k = 0; k < n_piece; k++) {
                json_array_append_new(text, json_integer((unsigned char)piece[k]));
            }
        }
        json_array_append_new(list, json_pack("{s:i, s:o}", "id", (int)ids[i], "piece", text));
    }
    return list;
}

static void tokenize(text_job *j, const mlxr_model *model)
{
    mlxr_error error;
    const char *text = j->o.content;
    if (!text) {
        request_fields_bad(&j->r.f, "content", "content is missing: the text");
        return;
    }
    size_t cap = strlen(text) + 8, n = 0;
    unsigned flags = (j->o.parse_special ? MLXR_TOKENIZE_PARSE_SPECIAL : 0u) |
                     (j->o.add_special ? MLXR_TOKENIZE_ADD_SPECIAL : 0u);
    int32_t *ids = malloc(cap * sizeof *ids);
    mlxr_status status = ids ? mlxr_tokenize(model, text, cap - 8, flags, ids, cap, &n, &error) : MLXR_NOMEM;
    if (status == MLXR_OK && n <= cap) {
        j->answer = json_pack("{s:o, s:I}", "tokens", pieces_of(model, ids, n, j->o.with_pieces), "count",
                              (json_int_t)n);
    } else {
        request_fields_fail(&j->r.f, status == MLXR_OK ? MLXR_NOMEM : status, "content", "%s",
                            ids && status != MLXR_OK ? error.text : "out of memory");
    }
    free(ids);
}

static void detokenize(text_job *j, const mlxr_model *model)
{
    mlxr_error error;
    size_t n = json_array_size(j->o.tokens), n_bytes = 0;
    char *text = NULL;
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < n; i++) {
        json_int_t id;
        if (!request_field_whole(json_array_get(j->o.tokens, i), 0, mlxr_model_info_get(model)->n_vocab - 1.0, &id)) {
            request_fields_bad(&j->r.f, "tokens", "tokens[%zu] is no token of this model", i);
            free(ids);
            return;
        }
        ids[i] = (int32_t)id;
    }
    if (!j->o.tokens) {
        request_fields_bad(&j->r.f, "tokens", "tokens are missing");
    } else if (!ids) {
        request_fields_no_memory(&j->r.f);
    } else if (mlxr_detokenize(model, ids, n, j->o.with_special, &text, &n_bytes, &error) != MLXR_OK) {
        request_fields_fail(&j->r.f, error.status, "tokens", "%s", error.text);
    } else {
        j->answer = json_pack("{s:s%}", "content", text, n_bytes);
        if (!j->answer) {
            request_fields_bad(&j->r.f, "tokens", "their bytes are not UTF-8");
        }
    }
    mlxr_free(text);
    free(ids);
}

static void apply_template(text_job *j, const mlxr_model *model, const registry_model *entry)
{
    chat_prompt p = {0};
    const char *template_text = entry->template_text;
    output_format format = output_format_choose(model, template_text);
    chat_model source = {.model = model, .template_text = template_text, .format = &format};
    chat_request *r = &j->r;
    r->variables = j->o.variables;
    if (chat_messages_read(r, "messages", j->o.messages) && (!j->o.tools || chat_tools_read(r, "tools", j->o.tools)) &&
        chat_prompt_text(&p, &source, r)) {
        j->answer = json_pack("{s:s%}", "prompt", p.text, p.n_text);
        if (j->answer && r->f.warnings) {
            json_object_set(j->answer, "warnings", r->f.warnings);
        }
    }
    chat_prompt_close(&p);
}

static bool work(void *user, mlxr_model *model, const registry_model *entry)
{
    text_job *j = user;
    if (strcmp(j->pattern, "/tokenize") == 0) {
        tokenize(j, model);
    } else if (strcmp(j->pattern, "/detokenize") == 0) {
        detokenize(j, model);
    } else {
        apply_template(j, model, entry);
    }
    return false;
}

static void done(void *user, int status, const char *code, const char *message)
{
    text_job *j = user;
    j->done = true;
    if (!j->x) {
        free_job(j);
    } else if (!model_call_answer(j->x, status, code, message, j->answer)) {
        error_respond_fields(j->x, &j->r.f);
    }
}

static void start(struct daemon *d, http_exchange *x, const char *pattern)
{
    text_job *j = calloc(1, sizeof *j);
    size_t n_text;
    char *text = http_body_copy(x, &n_text);
    if (j && text) {
        *j = (text_job){.d = d, .x = x, .pattern = pattern, .text = text, .n_text = n_text};
        model_call call = {.prepare = prepare, .work = work, .done = done, .user = j, .identity = *route_identity(x)};
        if (model_call_start(d, &call)) {
            http_on_gone(x, on_gone, j);
            return;
        }
    }
    free(text);
    free(j);
    error_respond(x, 503, NULL, "out of memory", NULL);
}

void openai_tokenize(void *service, http_exchange *x)
{
    start(service, x, "/tokenize");
}

void openai_detokenize(void *service, http_exchange *x)
{
    start(service, x, "/detokenize");
}

void openai_apply_template(void *service, http_exchange *x)
{
    start(service, x, "/apply-template");
}
