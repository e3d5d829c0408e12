/*
 * /v1/models in Anthropic's form, for clients that send anthropic-version.
 * Owner: the caller. Lifetime: the call.
 */
#include <string.h>
#include <time.h>

#include "server/anthropic_parts.h"
#include "server/errors.h"

#define PAGE_USUAL 20u
#define PAGE_MAX 1000u

json_t *anthropic_model(const registry_model *m, uint32_t n_ctx)
{
    char when[32] = "1970-01-01T00:00:00Z";
    time_t seconds = (time_t)(m->modified_us / 1000000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts)) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    json_t *tokens = n_ctx ? json_integer(n_ctx) : json_null();
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:o, s:n}", "type", "model", "id", m->name, "display_name",
                     m->name, "created_at", when, "lifecycle", "active", "max_input_tokens", tokens, "max_tokens",
                     tokens, "capabilities");
}

/* The index of a model in a list; n where it is not there. */
static size_t find(const json_t *all, const char *id)
{
    size_t i = 0;
    while (i < json_array_size(all)) {
        const char *own = json_string_value(json_object_get(json_array_get(all, i), "id"));
        if (own && strcmp(own, id) == 0) {
            break;
        }
        i++;
    }
    return i;
}

void anthropic_models_answer(http_exchange *x, const json_t *all)
{
    char after[256], before[256];
    bool has_after, has_before;
    uint64_t limit = PAGE_USUAL;
    size_t n = json_array_size(all), from = 0, to = n;
    if (!route_query_number(x, "limit", 1, PAGE_MAX, &limit) ||
        !route_query_text(x, "after_id", after, sizeof after, &has_after) ||
        !route_query_text(x, "before_id", before, sizeof before, &has_before)) {
        return;
    }
    if (has_after && has_before) {
        error_respond(x, 400, NULL, "after_id and before_id do not go together", "after_id");
        return;
    }
    if (has_after || has_before) {
        size_t at = find(all, has_after ? after : before);
        if (at == n) {
            error_respondf(x, 400, NULL, has_after ? "after_id" : "before_id", "%s: there is no model '%.100s'",
                           has_after ? "after_id" : "before_id", has_after ? after : before);
            return;
        }
        from = has_after ? at + 1 : at > limit ? at - limit : 0;
        to = has_after ? n : at;
    }
    to = to - from > limit ? from + limit : to;
    json_t *page = json_array();
    for (size_t i = from; i < to; i++) {
        json_array_append(page, json_array_get(all, i));
    }
    json_t *first = json_object_get(json_array_get(page, 0), "id");
    json_t *last = json_object_get(json_array_get(page, to > from ? to - from - 1 : 0), "id");
    bool more = has_before ? from > 0 : to < n;
    http_respond_json(
        x, 200,
        json_pack("{s:o, s:b, s:O?, s:O?}", "data", page, "has_more", more, "first_id", first, "last_id", last));
}
