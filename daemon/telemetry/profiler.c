/*
 * Adding spans up, and writing them.
 * Owner: none. Lifetime: the call.
 */
#include "telemetry/profiler.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPT, DECODE, DRAFT, N_PHASES };
static const char *const phase_names[N_PHASES] = {"prompt", "decode", "draft"};

typedef struct sum {
    uint32_t what; /* an operation, or a layer + 1 */
    uint64_t n, ns, wait_ns;
} sum;

typedef struct phase_sums {
    uint64_t n_steps, n_rows, ns, prepare_ns, run_ns, sample_ns;
    sum *operations; /* [n_operations] */
    sum *layers;     /* [n_layers + 1]; the first: of no layer */
} phase_sums;

static unsigned phase_of(const mlxr_profile_step *s)
{
    return s->drafting ? DRAFT : s->n_logits >= s->n_rows ? DECODE : PROMPT;
}

const char *profiler_phase(const mlxr_profile_step *step)
{
    return phase_names[phase_of(step)];
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double us(uint64_t ns)
{
    return (double)ns / 1e3;
}

/* ---- sums ---- */

static uint32_t count_layers(const mlxr_profile *p)
{
    int32_t most = -1;
    for (uint64_t i = 0; i < p->n_spans; i++) {
        most = p->spans[i].layer > most ? p->spans[i].layer : most;
    }
    return (uint32_t)(most + 1);
}

static void add_span(sum *s, uint32_t what, const mlxr_profile_span *span)
{
    s->what = what;
    s->n++;
    s->ns += span->end_ns - span->begin_ns;
    s->wait_ns += span->wait_ns;
}

static void add_step(phase_sums *sums, const mlxr_profile *p, const mlxr_profile_step *s)
{
    sums->n_steps++;
    sums->n_rows += s->n_rows;
    sums->ns += s->end_ns - s->begin_ns;
    sums->prepare_ns += s->run_ns - s->begin_ns;
    sums->run_ns += s->ran_ns - s->run_ns;
    sums->sample_ns += s->end_ns - s->ran_ns;
    for (uint32_t i = 0; i < s->n_spans; i++) {
        const mlxr_profile_span *span = &p->spans[s->first_span + i];
        add_span(&sums->operations[span->operation], span->operation, span);
        add_span(&sums->layers[span->layer + 1], (uint32_t)(span->layer + 1), span);
    }
}

static int slowest_first(const void *a, const void *b)
{
    const sum *x = a, *y = b;
    return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : 0;
}

/* ---- JSON ---- */

static void print_operations(text_buffer *t, const mlxr_profile *p, phase_sums *sums)
{
    qsort(sums->operations, p->n_operations, sizeof *sums->operations, slowest_first);
    const char *before = "";
    for (uint32_t i = 0; i < p->n_operations && sums->operations[i].n > 0; i++) {
        const sum *s = &sums->operations[i];
        const char *name = p->operations[s->what];
        text_print(t, "%s{\"operation\":", before);
        text_add_json(t, name, strlen(name));
        text_print(t, ",\"count\":%llu,\"ms\":%.4f,\"wait_ms\":%.4f,\"share\":%.4f}", (unsigned long long)s->n,
                   ms(s->ns), ms(s->wait_ns), sums->run_ns ? (double)s->ns / (double)sums->run_ns : 0);
        before = ",";
    }
}

static void print_layers(text_buffer *t, uint32_t n_layers, const phase_sums *sums)
{
    const char *before = "";
    for (uint32_t i = 0; i <= n_layers; i++) {
        const sum *s = &sums->layers[i];
        if (s->n > 0) {
            text_print(t, "%s{\"layer\":", before);
            text_print(t, i ? "%u" : "null", i - 1);
            text_print(t, ",\"ms\":%.4f,\"wait_ms\":%.4f}", ms(s->ns), ms(s->wait_ns));
            before = ",";
        }
    }
}

static void print_phases(text_buffer *t, const mlxr_profile *p, uint32_t n_layers, phase_sums phases[N_PHASES])
{
    const char *before = "";
    text_add_string(t, "\"phases\":{");
    for (unsigned i = 0; i < N_PHASES; i++) {
        phase_sums *s = &phases[i];
        if (s->n_steps == 0) {
            continue;
        }
        text_print(t, "%s\"%s\":{\"steps\":%llu,\"rows\":%llu,\"ms\":%.4f,\"prepare_ms\":%.4f,\"run_ms\":%.4f,", before,
                   phase_names[i], (unsigned long long)s->n_steps, (unsigned long long)s->n_rows, ms(s->ns),
                   ms(s->prepare_ns), ms(s->run_ns));
        text_print(t, "\"sample_ms\":%.4f,\"operations\":[", ms(s->sample_ns));
        print_operations(t, p, s);
        text_add_string(t, "],\"layers\":[");
        print_layers(t, n_layers, s);
        text_add_string(t, "]}");
        before = ",";
    }
    text_add_string(t, "}");
}

static void print_steps(text_buffer *t, const mlxr_profile *p)
{
    text_add_string(t, ",\"steps\":[");
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const mlxr_profile_step *s = &p->steps[i];
        text_print(t, "%s{\"phase\":\"%s\",\"begin_ms\":%.4f,\"ms\":%.4f,\"prepare_ms\":%.4f,\"run_ms\":%.4f,",
                   i ? "," : "", profiler_phase(s), ms(s->begin_ns), ms(s->end_ns - s->begin_ns),
                   ms(s->run_ns - s->begin_ns), ms(s->ran_ns - s->run_ns));
        text_print(t, "\"sample_ms\":%.4f,\"rows\":%u,\"sequences\":%u,\"logits\":%u,\"spans\":[",
                   ms(s->end_ns - s->ran_ns), s->n_rows, s->n_slices, s->n_logits);
        for (uint32_t j = 0; j < s->n_spans; j++) {
            const mlxr_profile_span *span = &p->spans[s->first_span + j];
            text_print(t, "%s[%u,%d,%.2f,%.2f,%.2f]", j ? "," : "", span->operation, (int)span->layer,
                       us(span->begin_ns), us(span->end_ns - span->begin_ns), us(span->wait_ns));
        }
        text_add_string(t, "]}");
    }
    text_add_string(t, "]");
}

bool profiler_json(const mlxr_profile *p, bool with_steps, text_buffer *out)
{
    phase_sums phases[N_PHASES] = {{0}};
    uint32_t n_layers = count_layers(p);
    size_t n_sums = (size_t)p->n_operations + n_layers + 1;
    sum *sums = calloc(N_PHASES * n_sums, sizeof *sums);
    if (!sums) {
        return false;
    }
    for (unsigned i = 0; i < N_PHASES; i++) {
        phases[i].operations = sums + i * n_sums;
        phases[i].layers = phases[i].operations + p->n_operations;
    }
    for (uint32_t i = 0; i < p->n_steps; i++) {
        add_step(&phases[phase_of(&p->steps[i])], p, &p->steps[i]);
    }
    text_add_string(out, "{\"backend\":");
    text_add_json(out, p->backend, strlen(p->backend));
    text_print(out, ",\"threads\":%u,\"duration_ms\":%.4f,\"lost\":%llu,\"operations\":[", p->n_threads,
               ms(p->duration_ns), (unsigned long long)p->n_lost);
    for (uint32_t i = 0; i < p->n_operations; i++) {
        text_add_string(out, i ? "," : "");
        text_add_json(out, p->operations[i], strlen(p->operations[i]));
    }
    text_add_string(out, "],");
    print_phases(out, p, n_layers, phases);
    if (with_steps) {
        print_steps(out, p);
    }
    text_add_string(out, "}");
    free(sums);
    return !out->failed;
}

/* ---- Chrome's traces ---- */

typedef struct place { /* where an event is shown */
    unsigned process, lane;
} place;

static void print_event(text_buffer *t, const char *name, place at, uint64_t begin_ns, uint64_t end_ns)
{
    text_add_string(t, ",\n{\"ph\":\"X\",\"name\":");
    text_add_json(t, name, strlen(name));
    text_print(t, ",\"pid\":%u,\"tid\":%u,\"ts\":%.3f,\"dur\":%.3f", at.process, at.lane, us(begin_ns),
               us(end_ns - begin_ns));
}

static void print_step_events(text_buffer *t, const mlxr_profile_step *s, place at)
{
    const uint64_t times[] = {s->begin_ns, s->run_ns, s->ran_ns, s->end_ns};
    static const char *const parts[] = {"prepare", "run", "sample"};
    print_event(t, profiler_phase(s), at, s->begin_ns, s->end_ns);
    text_print(t, ",\"args\":{\"rows\":%u,\"sequences\":%u,\"logits\":%u}}", s->n_rows, s->n_slices, s->n_logits);
    for (unsigned i = 0; i < 3; i++) {
        print_event(t, parts[i], at, times[i], times[i + 1]);
        text_add_string(t, "}");
    }
}

static void print_span_events(text_buffer *t, const mlxr_profile *p, const mlxr_profile_step *s, place at)
{
    for (uint32_t i = 0; i < s->n_spans; i++) {
        const mlxr_profile_span *span = &p->spans[s->first_span + i];
        print_event(t, p->operations[span->operation], at, span->begin_ns, span->end_ns);
        text_print(t, ",\"args\":{\"layer\":%d}}", (int)span->layer);
        if (span->wait_ns > 0) {
            print_event(t, "wait", at, span->end_ns - span->wait_ns, span->end_ns);
            text_add_string(t, "}");
        }
    }
}

void profiler_trace_begin(text_buffer *out)
{
    text_add_string(out, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"program\":\"mlxr\"},\"traceEvents\":[\n"
                         "{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":1,\"args\":{\"labels\":\"\"}}");
}

void profiler_trace_add(const mlxr_profile *p, const char *name, unsigned number, text_buffer *out)
{
    static const char *const lanes[] = {"steps", "operations"};
    text_print(out, ",\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%u,\"args\":{\"name\":", number);
    text_add_json(out, name, strlen(name));
    text_add_string(out, "}}");
    for (unsigned i = 0; i < 2; i++) {
        text_print(out, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"%s\"}}",
                   number, i + 1, lanes[i]);
    }
    for (uint32_t i = 0; i < p->n_steps; i++) {
        print_step_events(out, &p->steps[i], (place){number, 1});
        print_span_events(out, p, &p->steps[i], (place){number, 2});
    }
}

void profiler_trace_end(text_buffer *out)
{
    text_add_string(out, "\n]}\n");
}
