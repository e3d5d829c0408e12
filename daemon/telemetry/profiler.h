/*
 * Profiles as text: what took how long, by operation and layer, for people, programs and trace viewers.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TELEMETRY_PROFILER_H
#define MLXR_TELEMETRY_PROFILER_H

#include "mlxr_profile.h"
#include "telemetry/text_buffer.h"

/* What a step did: computed a draft model, decoded (every row gives logits), or computed a prompt. */
const char *profiler_phase(const mlxr_profile_step *step);

/* {"backend", "threads", "duration_ms", "lost", "operations": [names], "phases": {"decode": {"steps", "rows", "ms",
 * "prepare_ms", "run_ms", "sample_ms", "operations": [{"operation", "count", "ms", "wait_ms", "share"}] slowest first,
 * "layers": [{"layer" (null: none), "ms", "wait_ms"}]}, …}, "steps": [{"phase", "begin_ms", "ms", "prepare_ms",
 * "run_ms", "sample_ms", "rows", "sequences", "logits", "spans": [[operation, layer or -1, begin_us, us, wait_us], …]},
 * …]}. `wait` is within the time before it: the noting thread waited for others. False: no memory. */
bool profiler_json(const mlxr_profile *p, bool with_steps, text_buffer *out);
/* Chrome's trace event format, for chrome://tracing, Perfetto, speedscope: any number of profiles between begin and
 * end, each shown as a process with this name and number (1, 2, …). */
void profiler_trace_begin(text_buffer *out);
void profiler_trace_add(const mlxr_profile *p, const char *name, unsigned number, text_buffer *out);
void profiler_trace_end(text_buffer *out);

#endif
