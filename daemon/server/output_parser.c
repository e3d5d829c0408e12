/*
 * The machine of output_parser.h.
 * Owner: one choice of a generation. Lifetime: as the parser's.
 *
 * Invariants
 *   1. `held` is the beginning of at least one marker that may stand here, and no whole one.
 *   2. `space` is white space that was met last in TEXT or REASONING, where it matters what comes behind it.
 *   3. `body` is empty but in START, CALL and HEADER.
 */
#include "server/output_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "server/tool_call_text.h"

typedef enum parser_state { STATE_TEXT, STATE_REASONING, STATE_START, STATE_CALL, STATE_HEADER } parser_state;

typedef struct bytes {
    char *data; /* [n] */
    size_t n, cap;
} bytes;

struct output_parser {
    output_options o;
    parser_state state, before; /* before: where a call's text goes back to */
    bytes held, space, body;
    const char *opened_by; /* the marker that opened the call; "" where there was none */
    char name[256];        /* harmony: the call's, from its header */
    bool drop_space;       /* what comes next is white space that nobody meant */
    bool spoke;            /* some text that is not white space was given */
    bool failed;
    size_t n_calls;
    bool told_single; /* the warning about further calls was given */
    unsigned depth;   /* forced: of brackets in `body` */
    bool in_string, escaped;
    bytes made; /* forced: hashes of the calls that were given */
    bool repeats;
};

static bool add(output_parser *p, bytes *b, const char *data, size_t n)
{
    if (b->n + n + 1 > b->cap) {
        size_t cap = (b->n + n + 1) * 2;
        char *grown = realloc(b->data, cap);
        if (!grown) {
            p->failed = true;
            return false;
        }
        b->data = grown;
        b->cap = cap;
    }
    if (n) {
        memcpy(b->data + b->n, data, n);
    }
    b->n += n;
    b->data[b->n] = 0;
    return true;
}

static void give(output_parser *p, output_kind kind, const char *data, size_t n)
{
    if (n || kind == OUTPUT_TOOL_END) {
        p->o.sink(p->o.user, kind, data, n);
    }
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool finds_calls(const output_parser *p)
{
    return p->o.tools != NULL;
}

static output_kind kind_of(const output_parser *p)
{
    return p->state == STATE_REASONING ? OUTPUT_REASONING : OUTPUT_TEXT;
}

/* White space at the end of reasoning, before a call, or before all reasoning belongs to neither. */
static bool holds_space(const output_parser *p)
{
    return p->state == STATE_REASONING || finds_calls(p) || (p->o.format->thinks && !p->spoke);
}

static void flush_space(output_parser *p)
{
    give(p, kind_of(p), p->space.data, p->space.n);
    p->space.n = 0;
}

/* TEXT and REASONING: gives all but white space at the end. */
static void pass(output_parser *p, const char *data, size_t n)
{
    while (p->drop_space && n > 0 && is_space(*data)) {
        data++;
        n--;
    }
    if (n == 0) {
        return;
    }
    p->drop_space = false;
    size_t n_solid = n;
    while (holds_space(p) && n_solid > 0 && is_space(data[n_solid - 1])) {
        n_solid--;
    }
    if (n_solid > 0) {
        flush_space(p);
        give(p, kind_of(p), data, n_solid);
        p->spoke = p->spoke || p->state == STATE_TEXT;
    }
    add(p, &p->space, data + n_solid, n - n_solid);
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static void warn(output_parser *p, const char *format, const char *name)
{
    char text[256];
    snprintf(text, sizeof text, format, name);
    give(p, OUTPUT_WARNING, text, strlen(text));
}

/* Forced only: was it made before? Keeps what it was. */
static bool is_repeated(output_parser *p, const tool_call *call)
{
    uint64_t hash = XXH3_64bits_withSeed(call->arguments, strlen(call->arguments),
                                         XXH3_64bits(call->name, strlen(call->name)));
    for (size_t at = 0; at < p->made.n; at += sizeof hash) {
        if (memcmp(p->made.data + at, &hash, sizeof hash) == 0) {
            return true;
        }
    }
    add(p, &p->made, (const char *)&hash, sizeof hash);
    return false;
}

static void give_call(output_parser *p, const tool_call *call)
{
    if (p->o.forced && is_repeated(p, call)) {
        if (!p->repeats) {
            warn(p, "the model called %.100s a second time with the same arguments; the answer ends there", call->name);
        }
        p->repeats = true;
        return;
    }
    if (p->o.single_call && p->n_calls > 0) {
        if (!p->told_single) {
            warn(p, "the model called %.100s, too; only one call was asked for", call->name);
            p->told_single = true;
        }
        return;
    }
    if (!tool_find(p->o.tools, call->name)) {
        warn(p, "the model called %.100s, which is none of the tools", call->name);
    }
    p->n_calls++;
    give(p, OUTPUT_TOOL_BEGIN, call->name, strlen(call->name));
    give(p, OUTPUT_TOOL_ARGS, call->arguments, strlen(call->arguments));
    give(p, OUTPUT_TOOL_END, "", 0);
}

/* harmony has the name in the header: put before the JSON it is one text. */
static bool join_name(output_parser *p, bytes *joined)
{
    return add(p, joined, p->name, strlen(p->name)) && add(p, joined, p->body.data, p->body.n);
}

/* Reads the call in `body`, or gives it as text. `closed_by`: the marker behind it, or "". */
static void end_call(output_parser *p, const char *closed_by)
{
    tool_calls calls = {0};
    bytes joined = {0};
    bool named = p->o.format->tools == TOOLS_HARMONY && !p->o.forced;
    tool_style style = p->o.forced ? TOOLS_LLAMA3 : p->o.format->tools;
    bool ok = !named || join_name(p, &joined);
    const bytes *text = named ? &joined : &p->body;
    ok = ok && tool_calls_read(&calls, style, text->data ? text->data : "", text->n, p->o.tools);
    p->state = p->before;
    if (ok) {
        p->space.n = 0;
        for (size_t i = 0; i < calls.n; i++) {
            give_call(p, &calls.items[i]);
        }
        p->drop_space = true;
    } else if (text->n > 0 || *p->opened_by) {
        flush_space(p);
        give(p, kind_of(p), p->opened_by, strlen(p->opened_by));
        give(p, kind_of(p), p->body.data, p->body.n);
        give(p, kind_of(p), closed_by, strlen(closed_by));
        warn(p, "a tool call could not be read and is given as %s", kind_of(p) == OUTPUT_TEXT ? "text" : "reasoning");
    }
    p->body.n = 0;
    tool_calls_close(&calls);
    free(joined.data);
}

/* Forced calls are given as they become whole: objects, whose own braces say where they end. What stands between them
 * says nothing. */
static void forced_text(output_parser *p, const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = data[i];
        if ((p->depth == 0 && c != '{') || !add(p, &p->body, &c, 1)) {
            continue;
        }
        if (p->in_string) {
            p->in_string = p->escaped || c != '"';
            p->escaped = !p->escaped && c == '\\';
        } else if (c == '"') {
            p->in_string = true;
        } else if (c == '{' || c == '[') {
            p->depth++;
        } else if ((c == '}' || c == ']') && --p->depth == 0) {
            end_call(p, "");
            p->state = STATE_CALL;
        }
    }
}

static void begin_call(output_parser *p, const char *opened_by)
{
    p->before = p->state == STATE_REASONING ? STATE_REASONING : STATE_TEXT;
    p->state = STATE_CALL;
    p->opened_by = opened_by;
    p->body.n = 0;
}

/* START: white space, then something that decides whether this is a call that has no mark. */
static void decide_start(output_parser *p)
{
    static const char *const keys[] = {"\"name\"",       "\"type\"",      "\"function\"",
                                       "\"parameters\"", "\"arguments\"", "\"id\""};
    const char *at = p->body.data, *end = at + p->body.n;
    while (at < end && is_space(*at)) {
        at++;
    }
    if (at == end) {
        return;
    }
    bool possible = *at == '{', sure = false;
    const char *key = at + 1;
    while (possible && key < end && is_space(*key)) {
        key++;
    }
    if (possible && key < end) {
        bool any = false;
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            size_t n = strlen(keys[i]), have = (size_t)(end - key) < n ? (size_t)(end - key) : n;
            any = any || memcmp(key, keys[i], have) == 0;
            sure = sure || (have == n && memcmp(key, keys[i], n) == 0);
        }
        possible = any;
    }
    if (!possible) {
        p->state = STATE_TEXT;
        size_t n = p->body.n;
        p->body.n = 0;
        pass(p, p->body.data, n);
    } else if (sure) {
        p->state = STATE_CALL;
        p->before = STATE_TEXT;
        p->opened_by = "";
    }
}

/* ---- harmony ----------------------------------------------------------------------------------------------------- */

/* "assistant<|channel|>commentary to=functions.name <|constrain|>json": which channel, and whose call. */
static void begin_message(output_parser *p)
{
    const char *text = p->body.data ? p->body.data : "";
    const char *to = strstr(text, "to=functions.");
    bool analysis = strstr(text, "<|channel|>analysis") != NULL;
    p->name[0] = 0;
    if (to && finds_calls(p)) {
        const char *name = to + strlen("to=functions.");
        size_t n = strcspn(name, " \t\r\n<");
        snprintf(p->name, sizeof p->name, "%.*s", (int)(n < sizeof p->name ? n : sizeof p->name - 1), name);
        p->state = STATE_TEXT;
        begin_call(p, "");
    } else {
        p->state = analysis ? STATE_REASONING : STATE_TEXT;
    }
    p->body.n = 0;
    p->drop_space = false;
}

static void end_message(output_parser *p)
{
    if (p->state == STATE_CALL) {
        end_call(p, "");
    }
    if (p->state != STATE_HEADER) {
        if (p->state == STATE_TEXT) {
            flush_space(p);
        }
        p->space.n = 0;
        p->state = STATE_HEADER;
    }
    p->body.n = 0;
}

/* ---- markers ----------------------------------------------------------------------------------------------------- */

static bool may_stand(const output_parser *p, marker_action action)
{
    switch (action) {
    case MARKER_THINK_OPEN:
        return p->state == STATE_TEXT || p->state == STATE_START;
    case MARKER_THINK_CLOSE:
        return p->state == STATE_REASONING;
    case MARKER_CALL_OPEN:
        return finds_calls(p) && (p->state != STATE_CALL || p->o.format->tools == TOOLS_MISTRAL);
    case MARKER_CALL_CLOSE:
        return p->state == STATE_CALL;
    case MARKER_KEEP:
        return p->state == STATE_CALL || p->state == STATE_HEADER;
    case MARKER_DROP:
        return finds_calls(p);
    case MARKER_HEADER:
    case MARKER_MESSAGE:
    case MARKER_END:
        return true;
    }
    return false;
}

static void consume(output_parser *p, const char *data, size_t n)
{
    if (n == 0) {
        return;
    }
    if (p->state == STATE_TEXT || p->state == STATE_REASONING) {
        pass(p, data, n);
    } else if (add(p, &p->body, data, n) && p->state == STATE_START) {
        decide_start(p);
    }
}

static void act(output_parser *p, const output_marker *m)
{
    switch (m->action) {
    case MARKER_THINK_OPEN:
        if (p->spoke) {
            flush_space(p);
        }
        p->space.n = 0;
        p->state = STATE_REASONING;
        p->body.n = 0;
        p->drop_space = true;
        break;
    case MARKER_THINK_CLOSE:
        p->space.n = 0;
        p->state = finds_calls(p) && p->o.format->tools == TOOLS_LLAMA3 ? STATE_START : STATE_TEXT;
        p->drop_space = true;
        break;
    case MARKER_CALL_OPEN:
        if (p->state == STATE_CALL) {
            end_call(p, "");
        }
        begin_call(p, m->text);
        break;
    case MARKER_CALL_CLOSE:
        end_call(p, m->text);
        break;
    case MARKER_KEEP:
        add(p, &p->body, m->text, strlen(m->text));
        break;
    case MARKER_DROP:
        p->drop_space = p->state == STATE_TEXT || p->drop_space;
        break;
    case MARKER_HEADER:
    case MARKER_END:
        end_message(p);
        break;
    case MARKER_MESSAGE:
        if (p->state == STATE_HEADER) {
            begin_message(p);
        }
        break;
    }
}

/* Spelled markers that may stand here: is `held` one, or the beginning of one? */
static const output_marker *match(const output_parser *p, bool *begins)
{
    const output_format *f = p->o.format;
    *begins = false;
    for (size_t i = 0; i < f->n_markers; i++) {
        const output_marker *m = &f->markers[i];
        size_t n = strlen(m->text);
        if (m->id >= 0 || !may_stand(p, m->action) || p->held.n > n || memcmp(p->held.data, m->text, p->held.n) != 0) {
            continue;
        }
        if (p->held.n == n) {
            return m;
        }
        *begins = true;
    }
    return NULL;
}

/* ``` opens ```tool_code and closes it: the longer one is tried as long as it can be. */
static void push(output_parser *p, char c)
{
    bool begins;
    if (!add(p, &p->held, &c, 1)) {
        return;
    }
    while (p->held.n > 0) {
        const output_marker *m = match(p, &begins);
        if (m) {
            p->held.n = 0;
            act(p, m);
            return;
        }
        if (begins) {
            return;
        }
        char first = p->held.data[0];
        memmove(p->held.data, p->held.data + 1, --p->held.n);
        consume(p, &first, 1);
    }
}

/* How many bytes cannot be the beginning of a marker, whatever the state. */
static size_t plain_bytes(const output_parser *p, const char *data, size_t n)
{
    size_t plain = n;
    for (size_t i = 0; i < p->o.format->n_markers; i++) {
        const output_marker *m = &p->o.format->markers[i];
        const char *at = m->id < 0 ? memchr(data, m->text[0], plain) : NULL;
        plain = at ? (size_t)(at - data) : plain;
    }
    return plain;
}

void output_parser_text(output_parser *p, const char *data, size_t n)
{
    if (p->o.raw) {
        give(p, OUTPUT_TEXT, data, n);
        return;
    }
    if (p->o.forced) {
        forced_text(p, data, n);
        return;
    }
    while (n > 0 && !p->failed) {
        size_t plain = p->held.n ? 0 : plain_bytes(p, data, n);
        if (plain > 0) {
            consume(p, data, plain);
        } else {
            push(p, *data);
            plain = 1;
        }
        data += plain;
        n -= plain;
    }
}

/* What was held back is no marker: nothing can follow that makes it one. */
static void release_held(output_parser *p)
{
    if (p->held.n > 0) {
        size_t n = p->held.n;
        p->held.n = 0;
        consume(p, p->held.data, n);
    }
}

void output_parser_marker(output_parser *p, int index)
{
    const output_marker *m = &p->o.format->markers[index];
    if (p->o.raw) {
        return;
    }
    if (p->o.forced) { /* in an argument it is text like any other */
        forced_text(p, m->text, strlen(m->text));
        return;
    }
    release_held(p);
    if (may_stand(p, m->action)) {
        act(p, m);
    }
}

void output_parser_finish(output_parser *p)
{
    if (p->o.raw) {
        return;
    }
    release_held(p);
    if (p->state == STATE_CALL) {
        end_call(p, "");
    } else if (p->state == STATE_START || p->state == STATE_HEADER) {
        p->state = STATE_TEXT;
        size_t n = p->body.n;
        p->body.n = 0;
        pass(p, p->body.data, n);
    }
    if (p->state == STATE_TEXT && p->n_calls == 0) {
        flush_space(p);
    }
    p->space.n = 0;
}

size_t output_parser_calls(const output_parser *p)
{
    return p->n_calls;
}

bool output_parser_reasons(const output_parser *p)
{
    return p->state == STATE_REASONING;
}

bool output_parser_repeats(const output_parser *p)
{
    return p->repeats;
}

bool output_parser_failed(const output_parser *p)
{
    return p->failed;
}

mlxr_status output_parser_open(output_parser **out, const output_options *options, mlxr_error *error)
{
    output_parser *p = calloc(1, sizeof *p);
    if (!p) {
        if (error) {
            *error = (mlxr_error){.status = MLXR_NOMEM, .text = "out of memory"};
        }
        return MLXR_NOMEM;
    }
    p->o = *options;
    tool_style style = options->format->tools;
    p->state = options->forced                           ? STATE_CALL
               : options->opened                         ? STATE_REASONING
               : style == TOOLS_HARMONY                  ? STATE_HEADER
               : style == TOOLS_LLAMA3 && options->tools ? STATE_START
                                                         : STATE_TEXT;
    p->opened_by = "";
    p->drop_space = options->opened;
    *out = p;
    return MLXR_OK;
}

void output_parser_close(output_parser **pointer)
{
    output_parser *p = *pointer;
    if (p) {
        free(p->held.data);
        free(p->space.data);
        free(p->body.data);
        free(p->made.data);
        free(p);
    }
    *pointer = NULL;
}
