/*
 * The table of metrics, and those of the process.
 * Owner: none. Lifetime: the process.
 */
#include "telemetry/metric_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

/* Seconds. Between tokens a small model on a fast machine takes a millisecond; a long prompt takes minutes. */
static const double to_tokens[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
                                   0.4,   0.5,    0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80};
static const double to_answers[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1,   2.5,
                                    5,     7.5,    10,    20,   40,    80,   160, 320,  640, 1280, 2560};
static const double tokens[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};

#define BOUNDS(list) .bounds = list, .n_bounds = sizeof list / sizeof list[0]

const metric metric_table[METRIC_COUNT] = {
    [METRIC_REQUEST_SUCCESS] =
        {.name = "request_success_total",
         .kind = METRIC_COUNTER,
         .help = "Choices that ended, by why: stop, length, context, cancelled, deadline, failed.",
         .labels = {"model_name", "finished_reason"},
         .series_max = 512},
    [METRIC_REQUEST_REFUSED] = {.name = "request_refused_total",
                                .kind = METRIC_COUNTER,
                                .help = "Requests the scheduler did not take, by why.",
                                .labels = {"reason"}},
    [METRIC_TIME_TO_FIRST_TOKEN] = {.name = "time_to_first_token_seconds",
                                    .kind = METRIC_HISTOGRAM,
                                    .help = "From the arrival of a request to its first token.",
                                    .labels = {"model_name"},
                                    BOUNDS(to_answers)},
    [METRIC_INTER_TOKEN_LATENCY] =
        {.name = "inter_token_latency_seconds",
         .kind = METRIC_HISTOGRAM,
         .help = "From one token of a choice to its next; tokens that come together share the time.",
         .labels = {"model_name"},
         BOUNDS(to_tokens)},
    [METRIC_TIME_PER_OUTPUT_TOKEN] = {.name = "request_time_per_output_token_seconds",
                                      .kind = METRIC_HISTOGRAM,
                                      .help = "A choice's mean time between tokens, the first one left out.",
                                      .labels = {"model_name"},
                                      BOUNDS(to_tokens)},
    [METRIC_E2E_LATENCY] = {.name = "e2e_request_latency_seconds",
                            .kind = METRIC_HISTOGRAM,
                            .help = "From the arrival of a request to the end of its last choice.",
                            .labels = {"model_name"},
                            BOUNDS(to_answers)},
    [METRIC_QUEUE_TIME] = {.name = "request_queue_time_seconds",
                           .kind = METRIC_HISTOGRAM,
                           .help = "From the arrival of a request to the first step that computes it.",
                           .labels = {"model_name"},
                           BOUNDS(to_answers)},
    [METRIC_INFERENCE_TIME] = {.name = "request_inference_time_seconds",
                               .kind = METRIC_HISTOGRAM,
                               .help = "From then to the end of its last choice.",
                               .labels = {"model_name"},
                               BOUNDS(to_answers)},
    [METRIC_PREFILL_TIME] = {.name = "request_prefill_time_seconds",
                             .kind = METRIC_HISTOGRAM,
                             .help = "From then to its first token.",
                             .labels = {"model_name"},
                             BOUNDS(to_answers)},
    [METRIC_DECODE_TIME] = {.name = "request_decode_time_seconds",
                            .kind = METRIC_HISTOGRAM,
                            .help = "From its first token to the end of its last choice.",
                            .labels = {"model_name"},
                            BOUNDS(to_answers)},
    [METRIC_REQUEST_PROMPT_TOKENS] = {.name = "request_prompt_tokens",
                                      .kind = METRIC_HISTOGRAM,
                                      .help = "Tokens of a request's prompt.",
                                      .labels = {"model_name"},
                                      BOUNDS(tokens)},
    [METRIC_REQUEST_GENERATION_TOKENS] = {.name = "request_generation_tokens",
                                          .kind = METRIC_HISTOGRAM,
                                          .help = "Tokens generated for a request, all its choices together.",
                                          .labels = {"model_name"},
                                          BOUNDS(tokens)},
    [METRIC_PROMPT_TOKENS] = {.name = "prompt_tokens_total",
                              .kind = METRIC_COUNTER,
                              .help = "Tokens of prompts, cached ones among them.",
                              .labels = {"model_name"}},
    [METRIC_PROMPT_TOKENS_CACHED] = {.name = "prompt_tokens_cached_total",
                                     .kind = METRIC_COUNTER,
                                     .help = "Tokens of prompts that came from the KV cache.",
                                     .labels = {"model_name"}},
    [METRIC_GENERATION_TOKENS] = {.name = "generation_tokens_total",
                                  .kind = METRIC_COUNTER,
                                  .help = "Tokens generated.",
                                  .labels = {"model_name"}},
    [METRIC_REQUESTS_RUNNING] = {.name = "num_requests_running",
                                 .kind = METRIC_GAUGE,
                                 .help = "Choices that are being computed."},
    [METRIC_REQUESTS_WAITING] = {.name = "num_requests_waiting",
                                 .kind = METRIC_GAUGE,
                                 .help = "Requests in the queue."},
    [METRIC_REQUESTS_PAUSED] = {.name = "num_requests_paused",
                                .kind = METRIC_GAUGE,
                                .help = "Choices pre-empted that wait for memory."},
    [METRIC_PREEMPTIONS] = {.name = "num_preemptions_total",
                            .kind = METRIC_COUNTER,
                            .help = "Choices put aside because memory was needed for others."},
    [METRIC_STEPS] = {.name = "engine_steps_total", .kind = METRIC_COUNTER, .help = "Steps computed."},
    [METRIC_STEPS_FAILED] = {.name = "engine_steps_failed_total", .kind = METRIC_COUNTER, .help = "Steps that failed."},
    [METRIC_STEP_ROWS] = {.name = "engine_step_rows_total",
                          .kind = METRIC_COUNTER,
                          .help = "Tokens computed in steps, drafted ones not."},
    [METRIC_STEP_SECONDS] = {.name = "engine_step_seconds_total",
                             .kind = METRIC_COUNTER,
                             .help = "Time inside of steps."},
    [METRIC_STEP_SECONDS_MAX] = {.name = "engine_step_seconds_max",
                                 .kind = METRIC_GAUGE,
                                 .help = "The longest step so far."},
    [METRIC_SCHEDULER_SECONDS] = {.name = "scheduler_seconds_total",
                                  .kind = METRIC_COUNTER,
                                  .help = "Time of the scheduler itself, outside of steps and callbacks."},
    [METRIC_STEP_ERROR_SECONDS] = {.name = "scheduler_prediction_error_seconds_total",
                                   .kind = METRIC_COUNTER,
                                   .help = "How far steps took longer or shorter than predicted, added up."},
    [METRIC_ADMISSION_HELD] = {.name = "scheduler_admission_held_total",
                               .kind = METRIC_COUNTER,
                               .help = "Steps in which the first of the queue had to wait, by what for.",
                               .labels = {"reason"}},
    [METRIC_KV_USAGE] =
        {.name = "kv_cache_usage_perc",
         .kind = METRIC_GAUGE,
         .help = "Share of the KV budget that running sequences hold, 0 to 1; what is only cached is free."},
    [METRIC_KV_BYTES] = {.name = "kv_cache_bytes",
                         .kind = METRIC_GAUGE,
                         .help = "The KV budget by state: running, cached (can be evicted), free.",
                         .labels = {"state"}},
    [METRIC_KV_EVICTED_BYTES] = {.name = "kv_cache_evicted_bytes_total",
                                 .kind = METRIC_COUNTER,
                                 .help = "Cached pages evicted from memory."},
    [METRIC_KV_DISK_FILES] = {.name = "kv_disk_files", .kind = METRIC_GAUGE, .help = "Files of the KV cache on disk."},
    [METRIC_KV_DISK_BYTES] = {.name = "kv_disk_bytes", .kind = METRIC_GAUGE, .help = "What they hold."},
    [METRIC_KV_DISK_BLOCKS] = {.name = "kv_disk_blocks_total",
                               .kind = METRIC_COUNTER,
                               .help = "Blocks by what became of them: hit (read), rejected (damaged or of another "
                                       "model), write_error, dropped (the disk was too slow or full).",
                               .labels = {"outcome"}},
    [METRIC_PREFIX_QUERIES] = {.name = "prefix_cache_queries_total",
                               .kind = METRIC_COUNTER,
                               .help = "Tokens of prompts that were looked for in the KV cache."},
    [METRIC_PREFIX_HITS] = {.name = "prefix_cache_hits_total",
                            .kind = METRIC_COUNTER,
                            .help = "Tokens of prompts that were found there."},
    [METRIC_PREFIX_MISSES] = {.name = "prefix_cache_misses_total",
                              .kind = METRIC_COUNTER,
                              .help = "Requests by why the cache had no more of their prompt: none (it had all), new, "
                                      "evicted, rejected, no-room, off.",
                              .labels = {"reason"}},
    [METRIC_SPEC_DRAFTS] = {.name = "spec_decode_num_drafts_total",
                            .kind = METRIC_COUNTER,
                            .help = "Steps with a draft, of ended choices."},
    [METRIC_SPEC_DRAFT_TOKENS] = {.name = "spec_decode_num_draft_tokens_total",
                                  .kind = METRIC_COUNTER,
                                  .help = "Tokens drafted."},
    [METRIC_SPEC_ACCEPTED_TOKENS] = {.name = "spec_decode_num_accepted_tokens_total",
                                     .kind = METRIC_COUNTER,
                                     .help = "Drafted tokens that were accepted."},
    [METRIC_SPEC_DRAFT_TOKENS_PER_POS] = {.name = "spec_decode_num_draft_tokens_per_pos_total",
                                          .kind = METRIC_COUNTER,
                                          .help = "Tokens drafted, by their position in the draft.",
                                          .labels = {"position"}},
    [METRIC_SPEC_ACCEPTED_TOKENS_PER_POS] =
        {.name = "spec_decode_num_accepted_tokens_per_pos_total",
         .kind = METRIC_COUNTER,
         .help = "Drafted tokens that were accepted, by their position in the draft.",
         .labels = {"position"}},
    [METRIC_MODELS_LOADED] = {.name = "models_loaded", .kind = METRIC_GAUGE, .help = "Models in memory."},
    [METRIC_MODELS_WAITING] = {.name = "models_waiting",
                               .kind = METRIC_GAUGE,
                               .help = "Requests that wait for a model to be loaded."},
    [METRIC_MODEL_LOADS] = {.name = "model_loads_total",
                            .kind = METRIC_COUNTER,
                            .help = "Models loaded, by whether it was the first time.",
                            .labels = {"again"}},
    [METRIC_MODEL_UNLOADS] = {.name = "model_unloads_total",
                              .kind = METRIC_COUNTER,
                              .help = "Models unloaded, by why: keep_alive, asked, room.",
                              .labels = {"reason"}},
    [METRIC_MODEL_LOAD_FAILURES] = {.name = "model_load_failures_total",
                                    .kind = METRIC_COUNTER,
                                    .help = "Requests that got no model, by why: never_fits, late, failed.",
                                    .labels = {"reason"}},
    [METRIC_MODEL_LOAD_SECONDS] = {.name = "model_load_seconds_total",
                                   .kind = METRIC_COUNTER,
                                   .help = "Time of reading model files."},
    [METRIC_MODEL_WEIGHT_BYTES] = {.name = "model_weight_bytes",
                                   .kind = METRIC_GAUGE,
                                   .help = "Weights of a loaded model.",
                                   .labels = {"model_name"},
                                   .series_max = 256},
    [METRIC_MODEL_KV_BYTES_PER_TOKEN] = {.name = "model_kv_bytes_per_token",
                                         .kind = METRIC_GAUGE,
                                         .help = "KV cache a token of a loaded model needs.",
                                         .labels = {"model_name"},
                                         .series_max = 256},
    [METRIC_MODEL_USES] = {.name = "model_uses",
                           .kind = METRIC_GAUGE,
                           .help = "Leases of a loaded model: requests that use it.",
                           .labels = {"model_name"},
                           .series_max = 256},
    [METRIC_MODEL_PINNED] = {.name = "model_pinned",
                             .kind = METRIC_GAUGE,
                             .help = "1: the model stays in memory until it is told to go.",
                             .labels = {"model_name"},
                             .series_max = 256},
    [METRIC_HTTP_REQUESTS] = {.name = "http_requests_total",
                              .kind = METRIC_COUNTER,
                              .help = "Answers, by method, route and status.",
                              .labels = {"method", "route", "status"},
                              .series_max = 1024},
    [METRIC_HTTP_SECONDS] = {.name = "http_request_duration_seconds",
                             .kind = METRIC_HISTOGRAM,
                             .help = "From the head of a request to the last byte of its answer.",
                             .labels = {"route"},
                             .series_max = 256,
                             BOUNDS(to_answers)},
    [METRIC_HTTP_CONNECTIONS] = {.name = "http_connections",
                                 .kind = METRIC_GAUGE,
                                 .help = "Connections that are open."},
    [METRIC_HTTP_STREAMS] = {.name = "http_streams", .kind = METRIC_GAUGE, .help = "Answers that are being streamed."},
    [METRIC_LOG_LINES] = {.name = "log_lines_total",
                          .kind = METRIC_COUNTER,
                          .help = "Lines logged, by level.",
                          .labels = {"level"}},
    [METRIC_LOG_DROPPED] = {.name = "log_lines_dropped_total",
                            .kind = METRIC_COUNTER,
                            .help = "Lines that could not be written: the disk was too slow or full."},
    [METRIC_PROCESS_CPU_SECONDS] = {.name = "process_cpu_seconds_total",
                                    .kind = METRIC_COUNTER,
                                    .help = "CPU time, user and system."},
    [METRIC_PROCESS_RESIDENT_BYTES] = {.name = "process_resident_memory_bytes",
                                       .kind = METRIC_GAUGE,
                                       .help = "Resident memory, mapped weights among it; 0: not known here."},
    [METRIC_PROCESS_START_TIME] = {.name = "process_start_time_seconds",
                                   .kind = METRIC_GAUGE,
                                   .help = "When the daemon was started, since 1970."},
    [METRIC_BUILD_INFO] = {.name = "build_info",
                           .kind = METRIC_GAUGE,
                           .help = "1, with what this is.",
                           .labels = {"version", "backend", "cpu_features"}},
};

/* Linux tells it in pages; elsewhere the file is missing. */
static uint64_t resident_bytes(void)
{
    uint64_t n_pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        if (fscanf(file, "%*u %" SCNu64, &n_pages) != 1) {
            n_pages = 0;
        }
        fclose(file);
    }
    return n_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

void metrics_collect_process(void *user, metrics *m)
{
    (void)user;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        metric_set(metrics_series(m, METRIC_PROCESS_CPU_SECONDS, NULL),
                   seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
    }
    metric_set(metrics_series(m, METRIC_PROCESS_RESIDENT_BYTES, NULL), (double)resident_bytes());
}
