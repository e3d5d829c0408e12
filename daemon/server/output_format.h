/*
 * How a model writes its reasoning and its tool calls, found out from its chat template and vocabulary.
 * Owner: the caller, a plain struct. Lifetime: its texts are static; ids belong to the model it was chosen for.
 */
#ifndef MLXR_SERVER_OUTPUT_FORMAT_H
#define MLXR_SERVER_OUTPUT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlxr.h"

typedef enum tool_style {
    TOOLS_HERMES,   /* <tool_call>{"name", "arguments"}</tool_call>: Qwen, Hermes, and ours where a template has none;
                       Qwen Coder's <function=…> and GLM's <arg_key> inside the same tags */
    TOOLS_LLAMA3,   /* {"name", "parameters"} as the whole answer, behind <|python_tag|> or not */
    TOOLS_MISTRAL,  /* [TOOL_CALLS][{"name", "arguments"}, …], or [TOOL_CALLS]name[ARGS]{…} */
    TOOLS_GEMMA,    /* <start_function_call>call:name{key:<escape>text<escape>}<end_function_call>, ```tool_code
                       name(key=…)``` */
    TOOLS_DEEPSEEK, /* <｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜> */
    TOOLS_HARMONY,  /* <|channel|>commentary to=functions.name<|message|>{…}<|call|>: gpt-oss */
    TOOLS_N_STYLES
} tool_style;

typedef enum marker_action {
    MARKER_THINK_OPEN,
    MARKER_THINK_CLOSE,
    MARKER_CALL_OPEN,
    MARKER_CALL_CLOSE,
    MARKER_KEEP, /* part of a call's text or of a header */
    MARKER_DROP,
    MARKER_HEADER,  /* a header begins: role, channel, recipient */
    MARKER_MESSAGE, /* ends the header */
    MARKER_END,     /* ends a message */
} marker_action;

typedef struct output_marker {
    const char *text;
    marker_action action;
    int32_t id; /* the token that is the marker, and then only it; −1: it is spelled in text */
} output_marker;

#define OUTPUT_MARKERS_MAX 12u

typedef struct output_format {
    tool_style tools;
    bool template_has_tools; /* else they are described in the system message */
    bool template_has_system;
    bool thinks;            /* it has markers of reasoning */
    bool thinks_optionally; /* the template takes enable_thinking */
    output_marker markers[OUTPUT_MARKERS_MAX];
    size_t n_markers;
} output_format;

const char *tool_style_name(tool_style style);
/* The markers of a style, none of them a token; `thinks`: those of reasoning, too. */
output_format output_format_make(tool_style style, bool thinks);
/* Renders conversations that tell what the model's template does, or the one in its place (Jinja; NULL: the model's).
 * Any thread; some milliseconds. Without a template it is TOOLS_HERMES and no reasoning. */
output_format output_format_choose(const mlxr_model *model, const char *template_text);
/* The marker that this token is, or −1. */
int output_format_marker(const output_format *f, int32_t id);
/* Does a prompt end in the middle of reasoning: did the template open it? */
bool output_format_opened(const output_format *f, const char *prompt, size_t n);

#endif
