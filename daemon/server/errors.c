/*
 * Errors in four shapes.
 * Owner: whoever answers. Lifetime: the call.
 */
#include "server/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct error_words {
    int status;
    const char *code, *openai, *anthropic;
} error_words;

static const error_words words[] = {
    {400, "invalid_request", "invalid_request_error", "invalid_request_error"},
    {401, "invalid_api_key", "authentication_error", "authentication_error"},
    {403, "forbidden", "permission_error", "permission_error"},
    {404, "not_found", "invalid_request_error", "not_found_error"},
    {405, "method_not_allowed", "invalid_request_error", "invalid_request_error"},
    {408, "request_timeout", "invalid_request_error", "invalid_request_error"},
    {409, "conflict", "invalid_request_error", "invalid_request_error"},
    {413, "request_too_large", "invalid_request_error", "request_too_large"},
    {415, "unsupported_media_type", "invalid_request_error", "invalid_request_error"},
    {422, "unprocessable", "invalid_request_error", "invalid_request_error"},
    {429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error"},
    {431, "header_too_large", "invalid_request_error", "invalid_request_error"},
    {500, "internal_error", "server_error", "api_error"},
    {501, "not_implemented", "server_error", "api_error"},
    {503, "unavailable", "server_error", "overloaded_error"},
    {504, "timeout", "server_error", "timeout_error"},
};

static const error_words *words_of(int status)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (words[i].status == status) {
            return &words[i];
        }
    }
    return words_of(status >= 500 ? 500 : 400);
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

json_t *error_json(route_dialect dialect, int status, const char *code, const char *message, const char *param,
                   const char *request_id)
{
    const error_words *w = words_of(status);
    code = code ? code : w->code;
    switch (dialect) {
    case ROUTE_OPENAI:
        return json_pack("{s:{s:s, s:s, s:o, s:s}}", "error", "message", message, "type", w->openai, "param",
                         text_or_null(param), "code", code);
    case ROUTE_OLLAMA:
        return json_pack("{s:s}", "error", message);
    case ROUTE_ANTHROPIC:
        return json_pack("{s:s, s:{s:s, s:s}, s:o}", "type", "error", "error", "type", w->anthropic, "message", message,
                         "request_id", text_or_null(request_id));
    case ROUTE_PLAIN:
        break;
    }
    return json_pack("{s:{s:s, s:s, s:o}}", "error", "message", message, "code", code, "param", text_or_null(param));
}

static void answer(http_exchange *x, int status, const char *code, const char *message, const char *param)
{
    const char *id = http_request_of(x)->request_id;
    http_respond_json(x, status, error_json(route_dialect_of(x), status, code, message, param, id));
}

void error_respond_retry(http_exchange *x, int status, const char *code, const char *message, unsigned retry_s)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%u", retry_s < 1 ? 1 : retry_s < 3600 ? retry_s : 3600);
    http_header_add(x, "Retry-After", seconds);
    answer(x, status, code, message, NULL);
}

void error_respond(http_exchange *x, int status, const char *code, const char *message, const char *param)
{
    if (status == 429 || status == 503) {
        http_header_add(x, "Retry-After", "1");
    }
    answer(x, status, code, message, param);
}

void error_respondf(http_exchange *x, int status, const char *code, const char *param, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error_respond(x, status, code, message, param);
}

void error_respond_fields(http_exchange *x, const request_fields *f)
{
    int status = error_status_of(f->error.status);
    error_respond(x, status, status == 400 ? "invalid_value" : NULL, f->error.text, f->field);
}

void error_respond_body(http_exchange *x, const mlxr_error *error)
{
    int status = error_status_of(error->status);
    error_respond(x, status, status == 400 ? "invalid_json" : NULL, error->text, NULL);
}

int error_status_of(mlxr_status status)
{
    switch (status) {
    case MLXR_ARG:
    case MLXR_FORMAT:
    case MLXR_LIMIT:
    case MLXR_UNSUPPORTED:
        return 400;
    case MLXR_NOMEM:
    case MLXR_KV_FULL:
        return 503;
    case MLXR_OK:
    case MLXR_IO:
    case MLXR_DEVICE:
        break;
    }
    return 500;
}

void error_model_text(const auth_identity *who, const char *name, const char *why, char *out, size_t cap)
{
    const char *similar = who->models[0] ? NULL : strstr(why, "; did you mean");
    snprintf(out, cap, "model '%.100s' not found%s", name, similar ? similar : "");
}
