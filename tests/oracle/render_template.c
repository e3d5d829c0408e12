/*
 * Renders templates for comparison with Jinja2. One JSON object per line of stdin,
 *   {"template": "…", "variables": {…}, "now": seconds, "steps": n, "apply": whether to complete the variables}
 * one per line of stdout: {"text": "…"} or {"error": "…", "status": "…"}.
 * Owner: the test program. Lifetime: the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat_template.h"

static json_t *render(const json_t *request)
{
    const json_t *source = json_object_get(request, "template");
    mlxr_error error = {0};
    chat_template *t = NULL;
    buffer out = buffer_make((size_t)64 << 20);
    chat_limits limits = {.now = json_integer_value(json_object_get(request, "now")),
                          .steps_max = (uint64_t)json_integer_value(json_object_get(request, "steps"))};
    mlxr_status status = chat_template_open(&t, json_string_value(source), json_string_length(source), &error);
    const char *where = "open";
    json_t *variables = json_object_get(request, "variables");
    if (status == MLXR_OK && json_is_true(json_object_get(request, "apply"))) {
        where = "complete";
        status = chat_variables_complete(variables, &error);
    }
    if (status == MLXR_OK) {
        where = "render";
        status = chat_template_render(t, variables, &limits, &out, &error);
    }
    chat_template_close(&t);
    json_t *answer = json_object();
    if (status == MLXR_OK) {
        json_object_set_new(answer, "text", json_stringn_nocheck(out.data ? out.data : "", out.n));
    } else {
        json_object_set_new(answer, "error", json_string(error.text));
        json_object_set_new(answer, "status", json_string(mlxr_status_text(status)));
        json_object_set_new(answer, "where", json_string(where));
    }
    buffer_close(&out);
    return answer;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        json_error_t problem;
        json_t *request = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &problem);
        json_t *answer = NULL;
        if (!request || !json_is_string(json_object_get(request, "template"))) {
            answer = json_pack("{ss ss ss}", "error", request ? "no template" : problem.text, "status", "bad request",
                               "where", "request");
        } else {
            answer = render(request);
        }
        char *text = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII);
        printf("%s\n", text ? text : "{\"error\":\"not UTF-8\"}");
        fflush(stdout);
        free(text);
        json_decref(answer);
        json_decref(request);
    }
    free(line);
    return 0;
}
