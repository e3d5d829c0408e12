/*
 * One render: memory, fuel, output and errors; matching arguments to parameters.
 * Owner: chat_template_render. Lifetime: that call. One thread.
 */
#include "text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BYTES_PER_STEP 64

/* The first error stays: what fails because of it may say something else. */
static bool failed(jrun *r, mlxr_status status, const char *format, va_list args)
{
    char text[400];
    if (r->status != MLXR_OK) {
        return false;
    }
    vsnprintf(text, sizeof text, format, args);
    r->status = status;
    error_set(r->error, status, "chat template, line %u: %s", (unsigned)r->line, text);
    return false;
}

#define FAILED(status)                                                                                                 \
    va_list args;                                                                                                      \
    va_start(args, format);                                                                                            \
    failed(r, status, format, args);                                                                                   \
    va_end(args);                                                                                                      \
    return false

bool jrun_fail(jrun *r, const char *format, ...)
{
    FAILED(MLXR_FORMAT);
}

bool jrun_unsupported(jrun *r, const char *format, ...)
{
    FAILED(MLXR_UNSUPPORTED);
}

bool jrun_limit(jrun *r, const char *format, ...)
{
    FAILED(MLXR_LIMIT);
}

bool jrun_no_memory(jrun *r, size_t n_bytes)
{
    if (r->status == MLXR_OK) {
        r->status = error_nomem(r->error, "the chat template", n_bytes);
    }
    return false;
}

bool jrun_undefined(jrun *r, jvalue v)
{
    const jtext *name = v.as.text;
    int n = name->n < 200 ? (int)name->n : 200;
    switch ((jwhy)v.note) {
    case JWHY_ATTRIBUTE:
        return jrun_fail(r, "there is no attribute or item '%.*s' here", n, name->bytes);
    case JWHY_UNSAFE:
        return jrun_fail(r, "templates may not use the attribute '%.*s': it changes its object or is private", n,
                         name->bytes);
    case JWHY_MESSAGE:
        return jrun_fail(r, "%.*s", n, name->bytes);
    case JWHY_VARIABLE:
    default:
        return jrun_fail(r, "'%.*s' is undefined", n, name->bytes);
    }
}

void *jrun_alloc(jrun *r, size_t n_bytes)
{
    if (r->memory.bytes_used > r->memory_max || n_bytes > r->memory_max - r->memory.bytes_used) {
        jrun_limit(r, "the values need more than the limit of %zu bytes", r->memory_max);
        return NULL;
    }
    void *memory = region_alloc(&r->memory, n_bytes);
    if (!memory) {
        jrun_no_memory(r, n_bytes);
    }
    return memory;
}

void *jrun_array(jrun *r, size_t count, size_t size)
{
    size_t n_bytes;
    if (__builtin_mul_overflow(count, size, &n_bytes)) {
        jrun_limit(r, "%zu items are too many", count);
        return NULL;
    }
    void *memory = jrun_charge_bytes(r, n_bytes) ? jrun_alloc(r, n_bytes) : NULL;
    if (memory) {
        memset(memory, 0, n_bytes);
    }
    return memory;
}

bool jrun_charge(jrun *r, uint64_t steps)
{
    if (steps > r->steps_max - r->steps) {
        r->steps = r->steps_max;
        return jrun_limit(r, "more than the limit of %llu steps; is there an endless loop?",
                          (unsigned long long)r->steps_max);
    }
    r->steps += steps;
    return true;
}

bool jrun_charge_bytes(jrun *r, size_t n_bytes)
{
    return n_bytes < BYTES_PER_STEP || jrun_charge(r, n_bytes / BYTES_PER_STEP);
}

bool jrun_enter(jrun *r)
{
    if (r->depth >= JDEPTH_MAX) {
        return jrun_limit(r, "nested more than %d levels deep; does a macro call itself for ever?", JDEPTH_MAX);
    }
    r->depth++;
    return true;
}

bool jrun_write(jrun *r, const char *bytes, size_t n)
{
    if (n > r->text.limit - r->text.n) {
        return jrun_limit(r, "the text is longer than the limit of %zu bytes", r->text.limit);
    }
    if (!jrun_charge_bytes(r, n)) {
        return false;
    }
    if (!buffer_append(&r->text, bytes, n)) {
        return jrun_no_memory(r, n);
    }
    return true;
}

/* ---- matching arguments ------------------------------------------------------------------------------------------ */

typedef struct params {
    const char *names[JPARAMS_MAX];
    size_t lengths[JPARAMS_MAX];
    size_t n, n_required;
    bool positional_only;
} params;

static params params_parse(const char *text)
{
    params p = {0};
    bool optional = false;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (*text == '/') {
            p.positional_only = true;
        } else {
            if (*text == '?') {
                optional = true;
                text++;
                n--;
            }
            p.names[p.n] = text;
            p.lengths[p.n++] = n;
            p.n_required += !optional;
        }
        text += n;
        text += *text == ' ';
    }
    return p;
}

static bool place_keyword(jrun *r, const jfunction *f, const params *p, const jkeyword *keyword, jvalue *slots)
{
    int n_name = jtext_shown(keyword->name);
    for (size_t i = 0; i < p->n && !p->positional_only; i++) {
        if (p->lengths[i] == keyword->name->n && memcmp(p->names[i], keyword->name->bytes, keyword->name->n) == 0) {
            if (slots[i].kind != JMISSING) {
                return jrun_fail(r, "%s() got two values for '%.*s'", f->name, n_name, keyword->name->bytes);
            }
            slots[i] = keyword->value;
            return true;
        }
    }
    return jrun_fail(r, "%s() takes no argument named '%.*s'", f->name, n_name, keyword->name->bytes);
}

bool jfunction_call(jrun *r, const jfunction *f, jvalue self, const jcall *call, jvalue *out)
{
    if (!f->native) {
        return jrun_unsupported(r, "%s is not supported in chat templates", f->name);
    }
    if (!f->params) {
        return f->native(r, f, self, call, out);
    }
    params p = params_parse(f->params);
    if (call->n_args > p.n) {
        return jrun_fail(r, "%s() takes at most %zu arguments, not %zu", f->name, p.n, call->n_args);
    }
    jvalue slots[JPARAMS_MAX] = {{0}};
    for (size_t i = 0; i < call->n_args; i++) {
        slots[i] = call->args[i];
    }
    for (size_t i = 0; i < call->n_keywords; i++) {
        if (!place_keyword(r, f, &p, &call->keywords[i], slots)) {
            return false;
        }
    }
    for (size_t i = 0; i < p.n_required; i++) {
        if (slots[i].kind == JMISSING) {
            return jrun_fail(r, "%s() needs the argument '%.*s'", f->name, (int)p.lengths[i], p.names[i]);
        }
    }
    return f->native(r, f, self, &(jcall){.args = slots, .n_args = p.n}, out);
}

bool jvalue_call(jrun *r, jvalue callee, const jcall *call, jvalue *out)
{
    switch (callee.kind) {
    case JFUNCTION:
        return jfunction_call(r, callee.as.function, JVALUE_MISSING, call, out);
    case JMETHOD:
        return jfunction_call(r, callee.as.bound->function, callee.as.bound->self, call, out);
    case JMACRO:
        return jmacro_call(r, callee.as.macro, call, out);
    case JLOOP:
        return jloop_call(r, callee.as.loop, call, out);
    case JJOINER:
        if (call->n_args + call->n_keywords > 0) {
            return jrun_fail(r, "a joiner takes no arguments");
        }
        if (!callee.as.joiner->used) {
            callee.as.joiner->used = true;
            const jtext *empty = jtext_view(r, "", 0);
            *out = jvalue_text(empty);
            return empty != NULL;
        }
        *out = jvalue_text(callee.as.joiner->separator);
        return true;
    case JUNDEFINED:
        return jrun_undefined(r, callee);
    default:
        return jrun_fail(r, "a value of type '%s' cannot be called", jvalue_type(callee));
    }
}

bool jarg_int(jrun *r, const char *what, jvalue v, int64_t *out)
{
    if (v.kind == JMISSING) {
        return true;
    }
    if (v.kind == JUNDEFINED) {
        return jrun_undefined(r, v);
    }
    if (!jvalue_is_integer(v)) {
        return jrun_fail(r, "%s must be an integer, not '%s'", what, jvalue_type(v));
    }
    *out = jvalue_integer(v);
    return true;
}

bool jarg_text(jrun *r, const char *what, jvalue v, const jtext **out)
{
    if (v.kind == JMISSING) {
        return true;
    }
    if (v.kind == JUNDEFINED) {
        return jrun_undefined(r, v);
    }
    if (v.kind != JTEXT) {
        return jrun_fail(r, "%s must be a string, not '%s'", what, jvalue_type(v));
    }
    *out = v.as.text;
    return true;
}
