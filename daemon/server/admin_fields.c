/*
 * The fields of the bodies that look after models and keys.
 * Owner: the call. Lifetime: admin_fields_read to admin_fields_close.
 */
#include <string.h>

#include "server/admin_parts.h"
#include "server/errors.h"

#define A(member) offsetof(admin_fields, member)
#define N(list) (sizeof(list) / sizeof *(list))

static const request_field model_fields[] = {
    {"model", field_text, A(model), 0, 0, NULL},
};
static const request_field load_fields[] = {
    {"model", field_text, A(model), 0, 0, NULL},
    {"keep_alive_s", field_i64, A(keep_alive_s), -1, 1e9, NULL},
};
static const request_field copy_fields[] = {
    {"from", field_text, A(from), 0, 0, NULL},
    {"to", field_text, A(to), 0, 0, NULL},
    {"alias", field_bool, A(alias), 0, 0, NULL},
};
static const request_field create_fields[] = {
    {"name", field_text, A(name), 0, 0, NULL},
    {"from", field_text, A(from), 0, 0, NULL},
    {"modelfile", field_text, A(modelfile), 0, 0, NULL},
    {"template", field_text, A(template_text), 0, 0, NULL},
    {"system", field_text, A(system), 0, 0, NULL},
    {"license", field_text, A(license), 0, 0, NULL},
    {"parameters", field_list, A(parameters), 0, 0, NULL},
    {"messages", field_list, A(messages), 0, 0, NULL},
    {"keep_going", field_bool, A(keep_going), 0, 0, NULL},
};
static const request_field pull_fields[] = {
    {"source", field_text, A(source), 0, 0, NULL},
    {"name", field_text, A(name), 0, 0, NULL},
    {"digest", field_text, A(digest), 0, 0, NULL},
    {"keep_going", field_bool, A(keep_going), 0, 0, NULL},
};
static const request_field register_fields[] = {
    {"path", field_text, A(path), 0, 0, NULL},
    {"name", field_text, A(name), 0, 0, NULL},
};
static const request_field key_fields[] = {
    {"label", field_text, A(label), 0, 0, NULL},
    {"scopes", field_text, A(scopes), 0, 0, NULL},
    {"models", field_text, A(models), 0, 0, NULL},
    {"requests_per_minute", field_i64, A(requests_per_minute), 0, UINT32_MAX, NULL},
    {"tokens_per_day", field_i64, A(tokens_per_day), 0, 1e15, NULL},
    {"expires_at", field_i64, A(expires_at), 0, 1e11, NULL},
};
static const request_field drain_fields[] = {
    {"now", field_bool, A(now), 0, 0, NULL},
};

static const struct {
    const char *pattern;
    const request_field *rows;
    size_t n;
    const char *required; /* JSON */
} tables[] = {
    {"/ui-api/models/load", load_fields, N(load_fields), "[\"model\"]"},
    {"/ui-api/models/unload", model_fields, N(model_fields), "[\"model\"]"},
    {"/ui-api/models/restore", model_fields, N(model_fields), "[\"model\"]"},
    {"/ui-api/models/copy", copy_fields, N(copy_fields), "[\"from\",\"to\"]"},
    {"/ui-api/models/create", create_fields, N(create_fields), "[\"name\"]"},
    {"/ui-api/models/pull", pull_fields, N(pull_fields), "[\"source\"]"},
    {"/ui-api/models/register", register_fields, N(register_fields), "[\"path\",\"name\"]"},
    {"/ui-api/keys", key_fields, N(key_fields), "[]"},
    {"/ui-api/drain", drain_fields, N(drain_fields), "[\"now\"]"},
};

static size_t table_of(const char *pattern)
{
    size_t i = 0;
    while (i < N(tables) && strcmp(tables[i].pattern, pattern) != 0) {
        i++;
    }
    return i;
}

bool admin_fields_read(admin_fields *f, http_exchange *x)
{
    const http_request *q = http_request_of(x);
    size_t at = table_of(route_of(x)->pattern);
    mlxr_error error;
    request_fields r;
    *f = (admin_fields){.keep_alive_s = INT64_MIN};
    f->body = q->n_body ? request_body_read(q->body, q->n_body, &error) : json_object();
    if (!f->body) {
        error_respond_body(x, &error);
        return false;
    }
    const field_table table = {tables[at].rows, tables[at].n, f};
    request_fields_open(&r, NULL);
    bool ok = request_fields_read(&r, f->body, &table, 1);
    if (!ok) {
        error_respond_fields(x, &r);
        admin_fields_close(f);
    }
    request_fields_close(&r);
    return ok;
}

void admin_fields_close(admin_fields *f)
{
    json_decref(f->body);
    f->body = NULL;
}

bool admin_fields_need(http_exchange *x, const char *name, const char *text)
{
    if (text && *text) {
        return true;
    }
    error_respondf(x, 400, "missing_field", name, "%s is missing", name);
    return false;
}

json_t *admin_body_schema(const char *pattern)
{
    size_t at = table_of(pattern);
    if (at == N(tables)) {
        return NULL;
    }
    json_t *properties = json_object();
    for (size_t i = 0; i < tables[at].n; i++) { /* null counts as not given */
        json_object_set_new(
            properties, tables[at].rows[i].name,
            json_pack("{s:[o, {s:s}]}", "anyOf", request_field_schema(&tables[at].rows[i]), "type", "null"));
    }
    return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "properties", properties, "required",
                     json_loads(tables[at].required, 0, NULL), "additionalProperties", 0);
}
