/*
 * Which observations a request makes, and when.
 * Owner: who serves the request. Lifetime: the request's.
 */
#include "telemetry/request_meter.h"

#include "telemetry/metric_table.h"

static metric_series *of_model(const request_meter *r, metric_id id)
{
    return metrics_series(r->m, id, &r->model_name);
}

/* Clocks read by different threads may be a little apart. */
static double seconds(uint64_t from_us, uint64_t to_us)
{
    return to_us > from_us ? (double)(to_us - from_us) / 1e6 : 0;
}

void request_meter_begin(request_meter *r, metrics *m, const char *model_name, uint64_t now_us)
{
    *r = (request_meter){.m = m, .model_name = model_name, .arrived_us = now_us};
    if (m) {
        r->between = of_model(r, METRIC_INTER_TOKEN_LATENCY);
        r->generated = of_model(r, METRIC_GENERATION_TOKENS);
    }
}

void request_meter_prompt(request_meter *r, size_t n_prompt, size_t n_cached, uint64_t admitted_us)
{
    r->admitted_us = admitted_us;
    if (r->m) {
        metric_observe(of_model(r, METRIC_QUEUE_TIME), seconds(r->arrived_us, admitted_us));
        metric_observe(of_model(r, METRIC_REQUEST_PROMPT_TOKENS), (double)n_prompt);
        metric_add(of_model(r, METRIC_PROMPT_TOKENS), (double)n_prompt);
        metric_add(of_model(r, METRIC_PROMPT_TOKENS_CACHED), (double)n_cached);
    }
}

void request_meter_tokens(request_meter *r, choice_meter *c, uint32_t n, uint64_t now_us)
{
    if (n == 0) {
        return;
    }
    bool first_of_all = r->first_us == 0, first = c->n_tokens == 0;
    double passed = seconds(c->last_us, now_us);
    r->first_us = first_of_all ? now_us : r->first_us;
    c->first_us = first ? now_us : c->first_us;
    c->last_us = now_us;
    c->n_tokens += n;
    r->n_generated += n;
    if (!r->m) {
        return;
    }
    metric_add(r->generated, n);
    if (first_of_all) {
        metric_observe(of_model(r, METRIC_TIME_TO_FIRST_TOKEN), seconds(r->arrived_us, now_us));
        if (r->admitted_us) {
            metric_observe(of_model(r, METRIC_PREFILL_TIME), seconds(r->admitted_us, now_us));
        }
    }
    if (!first) {
        metric_observe_many(r->between, passed / n, n);
    } else if (n > 1) { /* drafted behind the first one, and there at once */
        metric_observe_many(r->between, 0, n - 1);
    }
}

void request_meter_choice_end(request_meter *r, const choice_meter *c, const char *reason)
{
    if (!r->m) {
        return;
    }
    metric_add(metrics_series(r->m, METRIC_REQUEST_SUCCESS, (const char *const[]){r->model_name, reason}), 1);
    if (c->n_tokens > 1) {
        metric_observe(of_model(r, METRIC_TIME_PER_OUTPUT_TOKEN),
                       seconds(c->first_us, c->last_us) / (double)(c->n_tokens - 1));
    }
}

void request_meter_end(request_meter *r, uint64_t now_us)
{
    if (!r->m) {
        return;
    }
    metric_observe(of_model(r, METRIC_E2E_LATENCY), seconds(r->arrived_us, now_us));
    if (r->admitted_us) {
        metric_observe(of_model(r, METRIC_INFERENCE_TIME), seconds(r->admitted_us, now_us));
        metric_observe(of_model(r, METRIC_REQUEST_GENERATION_TOKENS), (double)r->n_generated);
    }
    if (r->first_us) {
        metric_observe(of_model(r, METRIC_DECODE_TIME), seconds(r->first_us, now_us));
    }
}
