/*
 * Matching and checking.
 * Owner: the daemon. Lifetime: router_open to router_close.
 */
#include "server/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/errors.h"
#include "server/http_routing.h"

#define IGNORED_BODY_MAX 65536u

struct router {
    router_options o;
    route_table *tables;
    uint32_t n_using; /* exchanges of ROUTE_USE rows that passed all checks */
};

typedef struct route_context {
    router *router;
    const route *row;
    route_dialect dialect;
    auth_identity identity;
    const http_exchange *x;
    route_usage usage;
    bool counted; /* in n_using */
} route_context;

static void context_end(void *user)
{
    route_context *context = user;
    router *r = context->router;
    r->n_using -= context->counted;
    if (r->o.ended) {
        r->o.ended(r->o.service, context->x, context->row, &context->identity, &context->usage);
    }
    free(context);
}

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

/* Length of the segment at `at` (behind a slash). */
static size_t segment(const char *at)
{
    return strcspn(at, "/");
}

static bool is_param(const char *pattern, size_t n)
{
    return n > 2 && pattern[0] == '{' && pattern[n - 1] == '}';
}

static bool is_rest(const char *pattern, size_t n)
{
    return n > 5 && memcmp(pattern + n - 4, "...}", 4) == 0;
}

/* Does this path fit? Sets the parameters of x unless it is NULL; *n_params is how many there are. */
static bool match(const char *pattern, const char *path, http_exchange *x, unsigned *n_params)
{
    *n_params = 0;
    while (*pattern && *path) { /* both at a slash */
        size_t n = segment(++pattern), n_path = segment(++path);
        if (!is_param(pattern, n)) {
            if (n != n_path || memcmp(pattern, path, n) != 0) {
                return false;
            }
        } else {
            bool rest = is_rest(pattern, n);
            n_path = rest ? strlen(path) : n_path;
            if (n_path == 0 || (x && !http_param_set(x, pattern + 1, n - (rest ? 5 : 2), path, n_path))) {
                return false;
            }
            ++*n_params;
        }
        pattern += n;
        path += n_path;
    }
    return !*pattern && !*path;
}

static bool method_fits(const route *row, const char *method)
{
    return strcmp(row->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(row->method, "GET") == 0);
}

/* The row with this path and method; else *any is a row with this path, and `allow` names its methods. The fewer
 * parameters a pattern has, the better it fits. */
static const route *find_row(const router *r, const char *path, const char *method, const route **any, char *allow,
                             size_t cap)
{
    const route *best = NULL;
    unsigned n, n_best = HTTP_PARAMS_MAX + 1;
    size_t used = 0;
    *any = NULL;
    allow[0] = '\0';
    for (size_t t = 0; t < r->o.n_tables; t++) {
        for (size_t i = 0; i < r->tables[t].n; i++) {
            const route *row = &r->tables[t].rows[i];
            if (!match(row->pattern, path, NULL, &n)) {
                continue;
            }
            *any = row;
            if (method_fits(row, method) && n < n_best) {
                best = row;
                n_best = n;
            }
            if (used < cap && !strstr(allow, row->method)) {
                used += (size_t)snprintf(allow + used, cap - used, "%s%s", used ? ", " : "", row->method);
            }
        }
    }
    return best;
}

static const char *bad_row(const route *row)
{
    if (row->policy < ROUTE_PUBLIC || row->policy >= ROUTE_N_POLICIES) {
        return "declares no policy";
    }
    if (!row->handler) {
        return "has no handler";
    }
    if (row->pattern[0] != '/' || strstr(row->pattern, "//")) {
        return "has a bad pattern";
    }
    if (strchr(row->pattern, '{') && strstr(row->pattern, "...}") &&
        strcmp(strstr(row->pattern, "...}"), "...}") != 0) {
        return "has something behind {…...}";
    }
    return NULL;
}

static bool has_twin(const router *r, const route *row)
{
    for (size_t t = 0; t < r->o.n_tables; t++) {
        for (size_t i = 0; i < r->tables[t].n; i++) {
            const route *other = &r->tables[t].rows[i];
            if (other != row && strcmp(other->method, row->method) == 0 && strcmp(other->pattern, row->pattern) == 0) {
                return true;
            }
        }
    }
    return false;
}

mlxr_status router_open(router **out, const router_options *options, mlxr_error *error)
{
    router *r = calloc(1, sizeof *r);
    route_table *tables = calloc(options->n_tables ? options->n_tables : 1, sizeof *tables);
    if (!r || !tables) {
        free(r);
        free(tables);
        if (error) {
            *error = (mlxr_error){.status = MLXR_NOMEM, .text = "no memory for routes"};
        }
        return MLXR_NOMEM;
    }
    r->o = *options;
    r->tables = tables;
    memcpy(tables, options->tables, options->n_tables * sizeof *tables);
    for (size_t t = 0; t < options->n_tables; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const route *row = &tables[t].rows[i];
            const char *wrong = bad_row(row);
            wrong = wrong ? wrong : has_twin(r, row) ? "is there twice" : NULL;
            if (wrong) {
                if (error) {
                    error->status = MLXR_ARG;
                    snprintf(error->text, sizeof error->text, "route %s %s %s", row->method, row->pattern, wrong);
                }
                router_close(&r);
                return MLXR_ARG;
            }
        }
    }
    *out = r;
    return MLXR_OK;
}

void router_close(router **r)
{
    if (*r) {
        free((*r)->tables);
        free(*r);
        *r = NULL;
    }
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static route_dialect dialect_of_path(const char *path)
{
    return strncmp(path, "/v1/messages", 12) == 0 ? ROUTE_ANTHROPIC
           : strncmp(path, "/v1/", 4) == 0        ? ROUTE_OPENAI
           : strncmp(path, "/api/", 5) == 0       ? ROUTE_OLLAMA
                                                  : ROUTE_PLAIN;
}

/* Clients of Anthropic's say so in a header, on the paths that they share with OpenAI's, too. */
static route_dialect dialect_of(const http_exchange *x, route_dialect dialect)
{
    return dialect == ROUTE_OPENAI && http_header_get(x, "anthropic-version") ? ROUTE_ANTHROPIC : dialect;
}

static access_request read_access(const http_exchange *x)
{
    const http_request *q = http_request_of(x);
    return (access_request){
        .host = http_header_get(x, "host"),
        .origin = http_header_get(x, "origin"),
        .fetch_site = http_header_get(x, "sec-fetch-site"),
        .fetch_mode = http_header_get(x, "sec-fetch-mode"),
        .content_type = http_header_get(x, "content-type"),
        .n_hosts = http_header_count(x, "host"),
        .n_origins = http_header_count(x, "origin"),
        .n_content_types = http_header_count(x, "content-type"),
        .local = http_local_address(x),
        .tls = q->tls,
        .has_body = http_has_body(x),
        .is_get = strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0,
    };
}

/* True: passed. Else it has been answered. */
static bool passed(http_exchange *x, access_verdict verdict)
{
    if (verdict.status) {
        error_respond(x, verdict.status, NULL, verdict.message, NULL);
    }
    return !verdict.status;
}

static void allow_origin(http_exchange *x, const char *origin)
{
    http_header_add(x, "Access-Control-Allow-Origin", origin);
    http_header_add(x, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
}

static void answer_options(http_exchange *x, const char *allow, bool cross)
{
    http_header_add(x, "Allow", allow);
    if (cross) {
        http_header_add(x, "Access-Control-Allow-Methods", allow);
        http_header_add(x, "Access-Control-Allow-Headers",
                        "Authorization, Content-Type, X-Api-Key, X-Request-Id, Anthropic-Version, Anthropic-Beta, "
                        "OpenAI-Beta, OpenAI-Organization, OpenAI-Project, X-Stainless-Lang, X-Stainless-OS, "
                        "X-Stainless-Arch, X-Stainless-Runtime, X-Stainless-Runtime-Version, "
                        "X-Stainless-Package-Version, X-Stainless-Retry-Count, X-Stainless-Timeout, "
                        "X-Stainless-Helper-Method");
        http_header_add(x, "Access-Control-Max-Age", "600");
    }
    http_respond(x, 204, NULL, "", 0);
}

static uint64_t hash_text(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) {
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    }
    return hash;
}

static bool check_key(http_exchange *x, route_context *context)
{
    static const unsigned needed[ROUTE_N_POLICIES] = {
        [ROUTE_USE] = AUTH_INFERENCE, [ROUTE_READ] = AUTH_READ, [ROUTE_ADMIN] = AUTH_ADMIN};
    router *r = context->router;
    route_policy policy = context->row->policy;
    auth_identity *who = &context->identity;
    if (policy == ROUTE_PUBLIC) {
        return true;
    }
    bool known = http_header_count(x, "authorization") <= 1 && http_header_count(x, "x-api-key") <= 1 &&
                 auth_identify(r->o.auth, http_header_get(x, "authorization"), http_header_get(x, "x-api-key"), who);
    if (!known) {
        http_header_add(x, "WWW-Authenticate", "Bearer realm=\"mlxr\"");
        error_respond(x, 401, NULL, "a valid API key is needed, as Authorization: Bearer KEY or X-Api-Key: KEY", NULL);
        return false;
    }
    who->client = who->key_id ? who->key_id : hash_text(http_request_of(x)->peer);
    if (!(who->scopes & needed[policy])) {
        error_respond(x, 403, NULL, "this API key lacks the scope that this takes", NULL);
        return false;
    }
    return true;
}

static bool check_open(http_exchange *x, const route_context *context)
{
    router *r = context->router;
    unsigned retry_s = 1;
    const char *why = context->row->flags & ROUTE_WHEN_CLOSING || !r->o.closed ? NULL
                                                                               : r->o.closed(r->o.service, &retry_s);
    if (why) {
        error_respond_retry(x, 503, NULL, why, retry_s);
        return false;
    }
    if (context->row->policy == ROUTE_USE) {
        retry_s = auth_admit(r->o.auth, &context->identity, http_now_ms(http_server_of(x)));
        if (retry_s) {
            error_respond_retry(x, 429, NULL, "this API key has used up its quota for now", retry_s);
            return false;
        }
    }
    return true;
}

static http_body_plan plan_of(const route *row)
{
    bool stream = row->flags & ROUTE_BODY_STREAM;
    uint64_t most = row->bytes_max                                       ? row->bytes_max
                    : stream                                             ? UINT64_MAX
                    : row->flags & (ROUTE_BODY_JSON | ROUTE_BODY_STREAM) ? HTTP_BODY_MAX
                                                                         : IGNORED_BODY_MAX;
    return (http_body_plan){.stream = stream, .bytes_max = most};
}

/* Says of which path, where it can be shown as it is. */
static void answer_nothing_there(http_exchange *x, const char *method, const char *path)
{
    char text[256];
    bool shown = strlen(path) <= 120;
    for (const char *c = path; *c && shown; c++) {
        shown = *c > ' ' && *c < 0x7f;
    }
    snprintf(text, sizeof text, "there is nothing at %s%s%s; /openapi.json lists what there is",
             shown ? method : "this", shown ? " " : "", shown ? path : " path");
    error_respond(x, 404, NULL, text, NULL);
}

/* True: `context->row` is to answer. Else it has been answered. */
static bool check(http_exchange *x, route_context *context)
{
    const router *r = context->router;
    const http_request *q = http_request_of(x);
    access_request headers = read_access(x);
    const route *any;
    char allow[64];
    bool cross = false;
    unsigned n;
    if (!passed(x, access_check_host(&r->o.access, &headers))) {
        return false;
    }
    const route *row = find_row(r, http_marked_path(x), q->method, &any, allow, sizeof allow);
    context->dialect = any ? dialect_of(x, (row ? row : any)->dialect) : context->dialect;
    if (context->dialect == ROUTE_ANTHROPIC) { /* where its clients look for it */
        http_header_add(x, "Request-Id", q->request_id);
    }
    headers.is_public = row && row->policy == ROUTE_PUBLIC;
    http_header_add(x, "Vary", "Origin");
    if (!passed(x, access_check_origin(&r->o.access, &headers, &cross))) {
        return false;
    }
    if (cross) {
        allow_origin(x, headers.origin);
    }
    if (!any) {
        answer_nothing_there(x, q->method, q->path);
        return false;
    }
    if (strcmp(q->method, "OPTIONS") == 0) {
        answer_options(x, allow, cross);
        return false;
    }
    if (!row) {
        http_header_add(x, "Allow", allow);
        error_respond(x, 405, NULL, "this path does not take this method", NULL);
        return false;
    }
    context->row = row;
    if (!match(row->pattern, http_marked_path(x), x, &n)) {
        error_respond(x, 503, NULL, "out of memory", NULL);
        return false;
    }
    return check_key(x, context) && check_open(x, context) &&
           (!(row->flags & ROUTE_BODY_JSON) || passed(x, access_check_json(&headers)));
}

static http_body_plan on_head(void *user, http_exchange *x)
{
    route_context *context = calloc(1, sizeof *context);
    if (!context) {
        http_abort(x);
        http_respond(x, 503, NULL, "", 0);
        return (http_body_plan){0};
    }
    *context = (route_context){.router = user, .x = x};
    context->dialect = dialect_of(x, dialect_of_path(http_request_of(x)->path));
    http_set_context(x, context, context_end);
    if (!check(x, context)) {
        return (http_body_plan){0};
    }
    context->counted = context->row->policy == ROUTE_USE;
    ((router *)user)->n_using += context->counted;
    return plan_of(context->row);
}

static void on_request(void *user, http_exchange *x)
{
    router *r = user;
    const route *row = route_of(x);
    row->handler(r->o.service, x);
}

static void on_error(void *user, http_exchange *x, int status, const char *message)
{
    (void)user;
    if (status == 405) { /* of a method that no path takes */
        http_header_add(x, "Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    error_respond(x, status, NULL, message, NULL);
}

uint32_t router_using(const router *r)
{
    return r->n_using;
}

http_app router_app(router *r)
{
    return (http_app){.user = r, .on_head = on_head, .on_request = on_request, .on_error = on_error};
}

void route_usage_set(http_exchange *x, const route_usage *usage)
{
    route_context *context = http_context(x);
    if (context) {
        context->usage = *usage;
    }
}

const route *route_of(const http_exchange *x)
{
    const route_context *context = http_context(x);
    return context ? context->row : NULL;
}

route_dialect route_dialect_of(const http_exchange *x)
{
    const route_context *context = http_context(x);
    return context ? context->dialect : dialect_of_path(http_request_of(x)->path);
}

const auth_identity *route_identity(const http_exchange *x)
{
    static const auth_identity nobody = {0};
    const route_context *context = http_context(x);
    return context ? &context->identity : &nobody;
}

bool route_from_here(http_exchange *x, const char *message)
{
    if (route_identity(x)->key_id == 0 && !http_request_of(x)->loopback) {
        error_respond(x, 403, NULL, message, NULL);
        return false;
    }
    return true;
}

bool route_query_flag(http_exchange *x, const char *name, bool *out)
{
    char text[8];
    http_query_state state = http_query_read(x, name, text, sizeof text);
    if (state == HTTP_QUERY_NONE) {
        return true;
    }
    *out = state == HTTP_QUERY_GIVEN && strcmp(text, "true") == 0;
    if (!*out && (state == HTTP_QUERY_BAD || strcmp(text, "false") != 0)) {
        error_respondf(x, 400, "invalid_value", name, "%s must be true or false", name);
        return false;
    }
    return true;
}

static bool read_number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    bool whole = *text >= '0' && *text <= '9' && !*end && !errno && end - text <= 20; /* digits of UINT64_MAX */
    if (!whole || number < least || number > most) {
        return false;
    }
    *out = number;
    return true;
}

bool route_query_number(http_exchange *x, const char *name, uint64_t least, uint64_t most, uint64_t *out)
{
    char text[32];
    http_query_state state = http_query_read(x, name, text, sizeof text);
    if (state == HTTP_QUERY_NONE || (state == HTTP_QUERY_GIVEN && read_number(text, least, most, out))) {
        return true;
    }
    error_respondf(x, 400, "invalid_value", name, "%s: a whole number from %llu to %llu is needed", name,
                   (unsigned long long)least, (unsigned long long)most);
    return false;
}

bool route_query_after(http_exchange *x, uint64_t *out)
{
    const char *last = http_header_get(x, "last-event-id");
    if (!last) {
        return route_query_number(x, "after", 0, UINT64_MAX, out);
    }
    if (!read_number(last, 0, UINT64_MAX, out)) {
        error_respond(x, 400, "invalid_value", "Last-Event-ID: the number of an event is needed", "after");
        return false;
    }
    return true;
}

bool route_query_text(http_exchange *x, const char *name, char *out, size_t cap, bool *given)
{
    http_query_state state = http_query_read(x, name, out, cap);
    *given = state == HTTP_QUERY_GIVEN;
    if (state == HTTP_QUERY_BAD) {
        error_respondf(x, 400, "invalid_value", name,
                       "%s must have fewer than %zu bytes, and proper escapes where it has any", name, cap);
        return false;
    }
    return true;
}
