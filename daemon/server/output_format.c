/*
 * Formats: the markers of each style, and which of them a model's template writes.
 * Owner: the caller. Lifetime: texts are static.
 */
#include "server/output_format.h"

#include <string.h>

#include "mlxr_chat.h"

static const output_marker think_markers[] = {{"<think>", MARKER_THINK_OPEN, -1}, {"</think>", MARKER_THINK_CLOSE, -1}};
static const output_marker mistral_think[] = {{"[THINK]", MARKER_THINK_OPEN, -1}, {"[/THINK]", MARKER_THINK_CLOSE, -1}};

static const output_marker hermes[] = {{"<tool_call>", MARKER_CALL_OPEN, -1}, {"</tool_call>", MARKER_CALL_CLOSE, -1}};
static const output_marker llama3[] = {{"<|python_tag|>", MARKER_CALL_OPEN, -1}};
static const output_marker mistral[] = {
    {"[TOOL_CALLS]", MARKER_CALL_OPEN, -1}, {"[ARGS]", MARKER_KEEP, -1}, {"[CALL_ID]", MARKER_KEEP, -1}};
static const output_marker gemma[] = {{"<start_function_call>", MARKER_CALL_OPEN, -1},
                                      {"<end_function_call>", MARKER_CALL_CLOSE, -1},
                                      {"```tool_code", MARKER_CALL_OPEN, -1},
                                      {"```", MARKER_CALL_CLOSE, -1},
                                      {"<escape>", MARKER_KEEP, -1}};
static const output_marker deepseek[] = {{"<｜tool▁calls▁begin｜>", MARKER_DROP, -1},
                                         {"<｜tool▁call▁begin｜>", MARKER_CALL_OPEN, -1},
                                         {"<｜tool▁sep｜>", MARKER_KEEP, -1},
                                         {"<｜tool▁call▁end｜>", MARKER_CALL_CLOSE, -1},
                                         {"<｜tool▁calls▁end｜>", MARKER_DROP, -1}};
static const output_marker harmony[] = {{"<|start|>", MARKER_HEADER, -1},   {"<|channel|>", MARKER_KEEP, -1},
                                        {"<|constrain|>", MARKER_KEEP, -1}, {"<|message|>", MARKER_MESSAGE, -1},
                                        {"<|end|>", MARKER_END, -1},        {"<|call|>", MARKER_END, -1},
                                        {"<|return|>", MARKER_END, -1}};

#define STYLE(style, list) [style] = {list, sizeof(list) / sizeof *(list)}
static const struct {
    const output_marker *markers;
    size_t n;
} styles[TOOLS_N_STYLES] = {
    STYLE(TOOLS_HERMES, hermes), STYLE(TOOLS_LLAMA3, llama3),     STYLE(TOOLS_MISTRAL, mistral),
    STYLE(TOOLS_GEMMA, gemma),   STYLE(TOOLS_DEEPSEEK, deepseek), STYLE(TOOLS_HARMONY, harmony),
};

const char *tool_style_name(tool_style style)
{
    static const char *const names[TOOLS_N_STYLES] = {
        [TOOLS_HERMES] = "hermes", [TOOLS_LLAMA3] = "llama3",     [TOOLS_MISTRAL] = "mistral",
        [TOOLS_GEMMA] = "gemma",   [TOOLS_DEEPSEEK] = "deepseek", [TOOLS_HARMONY] = "harmony",
    };
    return style < TOOLS_N_STYLES ? names[style] : "?";
}

static void add_markers(output_format *f, const output_marker *markers, size_t n)
{
    for (size_t i = 0; i < n && f->n_markers < OUTPUT_MARKERS_MAX; i++) {
        f->markers[f->n_markers++] = markers[i];
    }
}

output_format output_format_make(tool_style style, bool thinks)
{
    output_format f = {.tools = style, .thinks = thinks || style == TOOLS_HARMONY, .template_has_system = true};
    add_markers(&f, styles[style].markers, styles[style].n);
    if (thinks && style != TOOLS_HARMONY) { /* there reasoning is a channel */
        add_markers(&f, style == TOOLS_MISTRAL ? mistral_think : think_markers, 2);
    }
    return f;
}

int output_format_marker(const output_format *f, int32_t id)
{
    for (size_t i = 0; i < f->n_markers; i++) {
        if (f->markers[i].id == id && id >= 0) {
            return (int)i;
        }
    }
    return -1;
}

bool output_format_opened(const output_format *f, const char *prompt, size_t n)
{
    while (n > 0 && strchr(" \t\r\n", prompt[n - 1])) {
        n--;
    }
    for (size_t i = 0; i < f->n_markers; i++) {
        size_t n_marker = strlen(f->markers[i].text);
        if (f->markers[i].action == MARKER_THINK_OPEN && n >= n_marker &&
            memcmp(prompt + n - n_marker, f->markers[i].text, n_marker) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- looking at a template --------------------------------------------------------------------------------------- */

typedef struct looked_at {
    const mlxr_model *model;
    const char *template_text; /* NULL: the model's own */
} looked_at;

/* What the template makes of a conversation, malloc'ed by the library; NULL where it refuses. */
static char *render(const looked_at *t, const char *messages, const char *tools, const char *extra, bool ask)
{
    char *text = NULL;
    mlxr_error error;
    bool ok = mlxr_chat_render_with(t->model, t->template_text, messages, tools, extra, ask, false, &text, &error) ==
              MLXR_OK;
    return ok ? text : NULL;
}

#define PROBE_TOOLS                                                                                                    \
    "[{\"type\":\"function\",\"function\":{\"name\":\"probe_tool\",\"description\":\"probes\",\"parameters\":"         \
    "{\"type\":\"object\",\"properties\":{\"probe_key\":{\"type\":\"string\"}}}}}]"
#define PROBE_ASK "{\"role\":\"user\",\"content\":\"probe_question\"}"
#define PROBE_CALL                                                                                                     \
    "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"abcdefghi\",\"type\":\"function\","            \
    "\"function\":"                                                                                                    \
    "{\"name\":\"probe_tool\",\"arguments\":{\"probe_key\":\"probe_value\"}}}]}"
#define PROBE_RESULT                                                                                                   \
    "{\"role\":\"tool\",\"name\":\"probe_tool\",\"tool_call_id\":\"abcdefghi\",\"content\":\"probe_result\"}"

static bool has(const char *text, const char *part)
{
    return text && strstr(text, part) != NULL;
}

/* How an answer with a call is written, by what a rendered one looks like. */
static bool style_of(const char *text, tool_style *style)
{
    static const struct {
        const char *mark;
        tool_style style;
    } marks[] = {
        {"<|channel|>commentary", TOOLS_HARMONY},
        {"[TOOL_CALLS]", TOOLS_MISTRAL},
        {"<｜tool▁call▁begin｜>", TOOLS_DEEPSEEK},
        {"<start_function_call>", TOOLS_GEMMA},
        {"<tool_call>", TOOLS_HERMES},
        {"<|python_tag|>", TOOLS_LLAMA3},
    };
    for (size_t i = 0; text && i < sizeof marks / sizeof *marks; i++) {
        if (strstr(text, marks[i].mark)) {
            *style = marks[i].style;
            return true;
        }
    }
    /* Llama 3 writes the bare object. */
    if (has(text, "{\"name\": \"probe_tool\", \"parameters\"") ||
        has(text, "{\"name\":\"probe_tool\",\"parameters\"")) {
        *style = TOOLS_LLAMA3;
        return true;
    }
    return false;
}

static void choose_tools(const looked_at *t, output_format *f, tool_style *style)
{
    char *call = render(t, "[" PROBE_ASK "," PROBE_CALL "," PROBE_RESULT "]", PROBE_TOOLS, NULL, true);
    char *told = render(t, "[" PROBE_ASK "]", PROBE_TOOLS, NULL, true);
    bool known = style_of(call, style) || style_of(told, style);
    f->template_has_tools = known && has(told, "probe_tool");
    if (!f->template_has_tools) {
        *style = TOOLS_HERMES; /* what our own description of tools asks for */
    }
    mlxr_free(call);
    mlxr_free(told);
}

/* Brackets make it sure that a single token is one of those added for this purpose, and no usual piece of text. */
static bool is_token(const mlxr_model *model, const char *text, int32_t *id)
{
    int32_t ids[4];
    size_t n = 0;
    bool one = (*text == '<' || *text == '[') &&
               mlxr_tokenize(model, text, strlen(text), MLXR_TOKENIZE_PARSE_SPECIAL, ids, 4, &n, NULL) == MLXR_OK &&
               n == 1;
    *id = one ? ids[0] : -1;
    return one;
}

/* Reasoning that it was told in an answer, or that a prompt opens, or two tokens that nothing else is for. */
static bool choose_thinking(const looked_at *t, tool_style style, bool *optional)
{
    const output_marker *markers = style == TOOLS_MISTRAL ? mistral_think : think_markers;
    int32_t open, close;
    char *told = render(t,
                        "[" PROBE_ASK ",{\"role\":\"assistant\",\"content\":\"probe_answer\",\"reasoning_content\":"
                        "\"probe_thought\"}]",
                        NULL, NULL, false);
    char *on = render(t, "[" PROBE_ASK "]", NULL, "{\"enable_thinking\":true,\"thinking\":true}", true);
    char *off = render(t, "[" PROBE_ASK "]", NULL, "{\"enable_thinking\":false,\"thinking\":false}", true);
    bool thinks = (has(told, "probe_thought") && has(told, markers[1].text)) || has(on, markers[0].text) ||
                  has(off, markers[1].text) ||
                  (is_token(t->model, markers[0].text, &open) && is_token(t->model, markers[1].text, &close));
    *optional = thinks && on && off && strcmp(on, off) != 0;
    mlxr_free(told);
    mlxr_free(on);
    mlxr_free(off);
    return thinks;
}

output_format output_format_choose(const mlxr_model *model, const char *template_text)
{
    const looked_at source = {model, template_text}, *t = &source;
    output_format seen = {0};
    tool_style style = TOOLS_HERMES;
    bool optional = false;
    if (!template_text && !mlxr_model_info_get(model)->has_chat_template) {
        return output_format_make(TOOLS_HERMES, false);
    }
    choose_tools(t, &seen, &style);
    output_format f = output_format_make(style, choose_thinking(t, style, &optional));
    f.template_has_tools = seen.template_has_tools;
    f.thinks_optionally = optional;
    char *system = render(t, "[{\"role\":\"system\",\"content\":\"probe_system\"}," PROBE_ASK "]", NULL, NULL, true);
    f.template_has_system = has(system, "probe_system");
    mlxr_free(system);
    for (size_t i = 0; i < f.n_markers; i++) {
        is_token(model, f.markers[i].text, &f.markers[i].id);
    }
    return f;
}
