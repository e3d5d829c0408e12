/*
 * Output parser: what a model generates, separated into text, reasoning and tool calls while it comes.
 * Owner: one choice of a generation. Lifetime: output_parser_open to output_parser_close; format and tools longer.
 *
 *                    ┌───────────── MARKER_THINK_OPEN ────────────┐
 *                    │   ┌───────── MARKER_THINK_CLOSE ───────────┼─┐
 *                    ▼   │                                        │ ▼
 *                 REASONING                                       TEXT ◀── no call after all ── START (Llama 3: a
 *                    │                                            │ ▲                             call has no mark)
 *                    └── MARKER_CALL_OPEN ─▶ CALL ◀───────────────┘ │                             │
 *                                             └─ MARKER_CALL_CLOSE ─┘ ◀── its first key says so ──┘
 *     harmony:  HEADER ── MARKER_MESSAGE ─▶ TEXT | REASONING | CALL ── MARKER_END ─▶ HEADER
 *
 * The result does not depend on how the text is cut into calls: only what cannot become a marker any more is given, and
 * a call is given when it is whole. One that cannot be read comes as the text it was, with a warning.
 */
#ifndef MLXR_SERVER_OUTPUT_PARSER_H
#define MLXR_SERVER_OUTPUT_PARSER_H

#include <jansson.h>

#include "server/output_format.h"

typedef enum output_kind {
    OUTPUT_TEXT,
    OUTPUT_REASONING,
    OUTPUT_TOOL_BEGIN, /* bytes: the name */
    OUTPUT_TOOL_ARGS,  /* a JSON object, whole */
    OUTPUT_TOOL_END,
    OUTPUT_WARNING, /* bytes: what went wrong, for people */
} output_kind;

typedef void (*output_sink)(void *user, output_kind kind, const char *bytes, size_t n);

typedef struct output_parser output_parser;

typedef struct output_options {
    const output_format *format;
    const json_t *tools; /* what may be called; NULL: calls are not looked for */
    bool opened;         /* the prompt ends in the middle of reasoning */
    bool single_call;    /* further calls are not given */
    bool forced;         /* all of it is calls as JSON, brackets or tags between them: a grammar saw to that */
    bool raw;            /* all of it is text */
    output_sink sink;
    void *user;
} output_options;

mlxr_status output_parser_open(output_parser **out, const output_options *options, mlxr_error *error);
void output_parser_close(output_parser **p);
/* Text, in pieces of any size. */
void output_parser_text(output_parser *p, const char *bytes, size_t n);
/* A token that is the format's marker `index` (output_format_marker). */
void output_parser_marker(output_parser *p, int index);
/* Nothing more comes: gives what was held back. */
void output_parser_finish(output_parser *p);
/* Calls given so far. */
size_t output_parser_calls(const output_parser *p);
/* What comes next is reasoning, unless it is a marker. */
bool output_parser_reasons(const output_parser *p);
/* A forced call was made a second time, word for word: nobody wants that, and it was not given; what comes next would
 * be the same again. */
bool output_parser_repeats(const output_parser *p);
/* Memory ran out: what was given is not all there was. */
bool output_parser_failed(const output_parser *p);

#endif
