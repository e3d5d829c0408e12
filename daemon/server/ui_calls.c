/*
 * Calls of the store, from the request to the answer.
 * Owner: a call belongs to its exchange and the pool's work together. Lifetime: until ui_call_end.
 *
 *   handler ─▶ ui_call_start: copies, checks the path ─▶ pool: JSON, schema, store ─▶ loop: answer, change, ui_call_end
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/openai_parts.h"
#include "server/ui_parts.h"

/* ---- who --------------------------------------------------------------------------------------------------------- */

chats_who ui_who(const auth_identity *identity)
{
    bool nobody = identity->key_id == 0; /* no keys are in use: the machine is one person's */
    return (chats_who){
        .owner = identity->id, .all = nobody, .ownerless = nobody || (identity->scopes & AUTH_ADMIN) != 0};
}

bool ui_sees(const auth_identity *identity, const char *owner)
{
    chats_who who = ui_who(identity);
    return who.all || strcmp(who.owner, owner) == 0 || (who.ownerless && !*owner);
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

void ui_call_end(ui_call *call)
{
    if (call->x) {
        http_on_gone(call->x, NULL, NULL);
    }
    json_decref(call->fields);
    json_decref(call->query);
    json_decref(call->out);
    free(call->body);
    free(call);
}

void ui_call_fail(ui_call *call)
{
    static const struct {
        int http;
        const char *code;
    } answers[] = {
        [CHATS_NOT_FOUND] = {404, "not_found"},   [CHATS_CONFLICT] = {409, "conflict"},
        [CHATS_LIMIT] = {409, "limit_reached"},   [CHATS_INVALID] = {400, "invalid_value"},
        [CHATS_NO_MEMORY] = {503, "unavailable"}, [CHATS_FAILED] = {500, "store_failed"},
    };
    if (call->x) {
        error_respond(call->x, call->http_status ? call->http_status : answers[call->status].http,
                      *call->code ? call->code : answers[call->status].code, call->error.text,
                      *call->field ? call->field : NULL);
    }
}

void ui_call_answer(ui_call *call, json_t *body)
{
    const json_t *status = json_object_get(call->route, "status");
    if (call->x) {
        http_header_add(call->x, "Cache-Control", "no-store");
        http_respond_json(call->x, status ? (int)json_integer_value(status) : 200, body);
    } else {
        json_decref(body);
    }
}

chats_status ui_call_bad(ui_call *call, const char *field, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(call->error.text, sizeof call->error.text, format, values);
    va_end(values);
    text_trim_cut(call->error.text);
    call->error.status = MLXR_ARG;
    snprintf(call->field, sizeof call->field, "%s", field ? field : "");
    text_trim_cut(call->field);
    return CHATS_INVALID;
}

/* ---- on the pool ------------------------------------------------------------------------------------------------- */

static chats_status read_body(ui_call *call, const json_t *document)
{
    const char *body = json_string_value(json_object_get(call->route, "body"));
    if (!body) {
        return CHATS_OK;
    }
    call->fields = request_body_read(call->body, call->n_body, &call->error);
    free(call->body);
    call->body = NULL;
    if (!call->fields && call->error.status == MLXR_NOMEM) {
        return CHATS_NO_MEMORY;
    }
    if (!call->fields) {
        snprintf(call->code, sizeof call->code, "invalid_json");
        return CHATS_INVALID;
    }
    return ui_schema_check(document, ui_schema_named(document, body), call->fields, call->field, sizeof call->field,
                           &call->error)
               ? CHATS_OK
               : CHATS_INVALID;
}

static void work(void *user)
{
    ui_call *call = user;
    call->status = read_body(call, call->d->ui->document);
    if (call->status != CHATS_OK) {
        return;
    }
    call->store = ui_store(call->d->ui, &call->error);
    if (!call->store) {
        call->status = CHATS_FAILED;
        call->http_status = 503;
        snprintf(call->code, sizeof call->code, "chats_unavailable");
        return;
    }
    call->status = call->spec->work(call);
}

/* What was changed, for who follows. */
static void publish(const ui_call *call)
{
    const json_t *id = json_object_get(call->out, "id"), *revision = json_object_get(call->out, "revision");
    bool message = strcmp(call->spec->kind, "message") == 0;
    json_t *change = json_pack("{s:s, s:s}", "kind", call->spec->kind, "op", call->spec->op);
    json_int_t given = message ? call->message : call->id;
    if (id || given) {
        json_object_set_new(change, "id", json_integer(id ? json_integer_value(id) : given));
    }
    if (message) {
        json_object_set_new(change, "chat", json_integer(call->id));
    }
    if (revision) {
        json_object_set(change, "revision", (json_t *)revision);
    }
    ui_publish(call->d, call->identity.id, change);
}

static void done(void *user)
{
    ui_call *call = user;
    if (call->status == CHATS_OK && call->spec->kind) {
        publish(call);
    }
    if (call->spec->done) {
        call->spec->done(call);
        return;
    }
    if (call->status != CHATS_OK) {
        ui_call_fail(call);
    } else {
        ui_call_answer(call, call->out ? json_incref(call->out) : json_pack("{s:b}", "removed", 1));
    }
    ui_call_end(call);
}

/* ---- beginning, on the loop -------------------------------------------------------------------------------------- */

/* A number of the path; what is none names nothing. */
static bool read_id(http_exchange *x, const char *name, int64_t *out)
{
    const char *text = http_path_param(x, name);
    char *end;
    if (!text) {
        return true;
    }
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *text >= '1' && *text <= '9' && !*end && errno == 0;
}

/* A parameter of the query as the value that its schema wants. */
static json_t *query_value(const json_t *schema, const char *text)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    if (type && strcmp(type, "boolean") == 0 && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        return json_boolean(*text == 't');
    }
    if (type && strcmp(type, "integer") == 0) {
        char *end;
        errno = 0;
        long long number = strtoll(text, &end, 10);
        bool plain = *text >= '0' && *text <= '9' && !*end && errno == 0;
        return plain ? json_integer(number) : json_string(text);
    }
    return json_string(text);
}

/* False: it has been answered. */
static bool read_query(ui_call *call, const json_t *document)
{
    char text[4100];
    const char *name;
    json_t *schema;
    call->query = json_object();
    json_object_foreach(json_object_get(call->route, "query"), name, schema)
    {
        bool given;
        if (!route_query_text(call->x, name, text, sizeof text, &given)) {
            return false;
        }
        if (!given) {
            if (json_is_true(json_object_get(schema, "x-required"))) {
                error_respondf(call->x, 400, "missing_field", name, "%s is missing", name);
                return false;
            }
            continue;
        }
        json_t *value = query_value(schema, text);
        json_object_set_new(call->query, name, value);
        char field[80];
        if (!value || !ui_schema_check(document, schema, value, field, sizeof field, &call->error)) {
            const char *what = value ? strstr(call->error.text, "must") : NULL;
            error_respondf(call->x, 400, "invalid_value", name, "%s %s", name, what ? what : "makes no sense");
            return false;
        }
    }
    return true;
}

void ui_call_start(void *service, http_exchange *x, const ui_spec *spec)
{
    struct daemon *d = service;
    const route *row = route_of(x);
    ui_call *call = calloc(1, sizeof *call);
    size_t n_body;
    char *body = http_body_copy(x, &n_body);
    if (!call || !body) {
        free(call);
        free(body);
        error_respond(x, 503, NULL, "out of memory", NULL);
        return;
    }
    *call = (ui_call){.d = d, .x = x, .spec = spec, .body = body, .n_body = n_body, .identity = *route_identity(x)};
    call->route = ui_schema_route(d->ui->document, row->method, row->pattern);
    call->who = ui_who(&call->identity);
    http_on_gone_forget(&call->x);
    if (!read_id(x, "id", &call->id) || !read_id(x, "message", &call->message)) {
        error_respond(x, 404, NULL, "there is no such thing: ids are numbers", NULL);
        ui_call_end(call);
    } else if (!read_query(call, d->ui->document)) {
        ui_call_end(call);
    } else if (http_work_in(d->http, HTTP_LANE_CHATS, work, done, call) != 0) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        ui_call_end(call);
    }
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

bool ui_parameters_check(const json_t *parameters, char *field, size_t cap, mlxr_error *error)
{
    openai_options o = {0};
    chat_request r;
    for (size_t i = 0; i < N_NOT_PARAMETERS; i++) {
        if (json_object_get(parameters, ui_not_parameters[i])) {
            snprintf(field, cap, "parameters.%s", ui_not_parameters[i]);
            snprintf(error->text, sizeof error->text, "parameters: \"%s\" is not one of them", ui_not_parameters[i]);
            return false;
        }
    }
    json_t *body = json_is_object(parameters) ? json_copy((json_t *)parameters) : json_object();
    json_object_set_new(body, "messages", json_pack("[{s:s, s:s}]", "role", "user", "content", "?"));
    bool ok = chat_request_open(&r, body, NULL) && openai_chat_parse(&r, &o) && chat_request_check(&r);
    if (!ok) {
        snprintf(field, cap, "parameters%s%s", r.f.field ? "." : "", r.f.field ? r.f.field : "");
        snprintf(error->text, sizeof error->text, "parameters: %.480s", r.f.error.text);
        text_trim_cut(error->text);
    }
    chat_request_close(&r);
    return ok;
}
