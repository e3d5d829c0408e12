/*
 * Pieces of the Ollama dialect's JSON.
 * Owner: the caller. Lifetime: the call.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/ollama_parts.h"

void ollama_time(int64_t unix_us, char *out)
{
    time_t seconds = (time_t)(unix_us / 1000000);
    struct tm utc;
    size_t n = gmtime_r(&seconds, &utc) ? strftime(out, OLLAMA_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &utc) : 0;
    snprintf(out + n, OLLAMA_TIME_MAX - n, ".%06uZ", (unsigned)(unix_us % 1000000));
}

int64_t ollama_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now); /* time() may be milliseconds behind, and so a second */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

json_t *ollama_now(void)
{
    char text[OLLAMA_TIME_MAX];
    ollama_time(ollama_clock_us(), text);
    return json_string(text);
}

void ollama_name(const char *name, char *out)
{
    const char *slash = strrchr(name, '/');
    bool tagged = strchr(slash ? slash : name, ':') != NULL;
    snprintf(out, REGISTRY_NAME_MAX + 8, "%s%s", name, tagged ? "" : ":latest");
}

/* "134.5M", "8.0B" */
static void count_text(uint64_t n, char *out, size_t cap)
{
    static const struct {
        double unit;
        const char *letter;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if ((double)n >= units[i].unit) {
            snprintf(out, cap, "%.*f%s", i < 2 ? 1 : 2, (double)n / units[i].unit, units[i].letter);
            return;
        }
    }
    snprintf(out, cap, "%llu", (unsigned long long)n);
}

json_t *ollama_details(const char *family, const char *quant, uint64_t n_params)
{
    char size[32];
    count_text(n_params, size, sizeof size);
    json_t *families = json_array();
    if (*family) {
        json_array_append_new(families, json_string(family));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:s}", "parent_model", "", "format", "gguf", "family", family,
                     "families", families, "parameter_size", size, "quantization_level", quant);
}

static json_t *one_logprob(const mlxr_model *model, int32_t id, float logprob)
{
    size_t n = 0;
    const char *bytes = mlxr_token_text(model, id, &n);
    json_t *list = json_array(), *text = json_stringn(bytes ? bytes : "", bytes ? n : 0);
    for (size_t i = 0; bytes && i < n; i++) {
        json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    }
    return json_pack("{s:o, s:f, s:o}", "token", text ? text : json_string("\xef\xbf\xbd"), "logprob", (double)logprob,
                     "bytes", list);
}

json_t *ollama_logprobs(const mlxr_model *model, const generation_token *tokens, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        json_t *one = one_logprob(model, tokens[i].id, tokens[i].logprob);
        if (tokens[i].n_top) {
            json_t *top = json_array();
            for (uint32_t k = 0; k < tokens[i].n_top; k++) {
                json_array_append_new(top, one_logprob(model, tokens[i].top[k].id, tokens[i].top[k].logprob));
            }
            json_object_set_new(one, "top_logprobs", top);
        }
        json_array_append_new(list, one);
    }
    return list;
}

void ollama_stream_begin(http_exchange *x)
{
    http_header_add(x, "Cache-Control", "no-cache");
    http_header_add(x, "X-Accel-Buffering", "no");
    http_stream_begin(x, 200, "application/x-ndjson");
}

void ollama_line(http_exchange *x, json_t *line)
{
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (!text) {
        http_abort(x); /* a line that cannot be written is no reason to go on as if it had been */
        return;
    }
    size_t n = strlen(text);
    text[n] = '\n'; /* in the place of its NUL: one piece */
    http_stream_write(x, text, n + 1);
    free(text);
}

char *ollama_parameters_text(const registry_pairs *parameters)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    for (size_t i = 0; out && i < parameters->n; i++) {
        const registry_pair *p = &parameters->items[i];
        bool quoted = strcmp(p->name, "stop") == 0;
        fprintf(out, "%s%-30s %s%s%s", i ? "\n" : "", p->name, quoted ? "\"" : "", p->value, quoted ? "\"" : "");
    }
    if (!out || fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
