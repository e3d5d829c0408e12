/*
 * Engine, model and the loop that generates.
 * Owner: the verb. Lifetime: session_open to session_close.
 */
#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters.h"
#include "context.h"
#include "kernels.h"
#include "models.h"
#include "output.h"
#include "prompt.h"

/* Tokens of a prompt computed at once while somebody may press Ctrl-C: about half a second on a slow machine. */
#define INTERACTIVE_CHUNK 128u

static void log_line(void *user, mlxr_log_level level, const char *line)
{
    const bool *verbose = user;
    if (level <= MLXR_LOG_WARN) {
        print_error("%s%s", level == MLXR_LOG_WARN ? "warning: " : "", line);
    } else if (*verbose) {
        print_note("%s", line);
    }
}

/* The model's own adapters, as the registry has them, then those that are named. */
static mlxr_status list_adapters(const registry_model *entry, const options *named_by, adapter_list *out,
                                 mlxr_error *error)
{
    adapter_list named = {.n = 0};
    mlxr_status status = named_by ? adapter_list_take(&named, named_by, "--lora", error) : MLXR_OK;
    *out = (adapter_list){.n = 0};
    for (size_t i = 0; i < entry->adapters.n && status == MLXR_OK; i++) {
        status = adapter_list_add(out, entry->adapters.items[i].name, 1, "--lora", error);
    }
    for (size_t i = 0; i < named.n && status == MLXR_OK; i++) {
        status = adapter_list_add(out, named.items[i].path, named.items[i].scale, "--lora", error);
    }
    adapter_list_free(&named);
    return status;
}

int session_adapt(mlxr_model **model, const registry_model *entry, const options *o, bool with_named)
{
    mlxr_adapter_use uses[MLXR_ADAPTERS_MAX] = {0};
    mlxr_error error;
    mlxr_model *adapted = NULL;
    adapter_list list;
    if (list_adapters(entry, with_named ? o : NULL, &list, &error) != MLXR_OK) {
        adapter_list_free(&list);
        print_error("%s", error.text);
        return error.status == MLXR_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    if (list.n == 0) {
        return EXIT_OK;
    }
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < list.n && status == MLXR_OK; i++) {
        uses[i].scale = list.items[i].scale;
        status = mlxr_adapter_load(&uses[i].adapter, *model, list.items[i].path, &error);
    }
    if (status == MLXR_OK) {
        status = mlxr_model_adapt(&adapted, *model, uses, list.n, &error);
    }
    for (size_t i = 0; i < list.n; i++) {
        if (status == MLXR_OK && o->verbose) {
            const mlxr_adapter_info *info = mlxr_adapter_info_get(uses[i].adapter);
            print_note("%s: adapter of rank %u for %u matrices, %.1f MB, scale %g", info->path, info->rank,
                       info->n_targets, (double)info->n_bytes / 1e6, (double)(info->scale * uses[i].scale));
        }
        mlxr_adapter_unref(&uses[i].adapter);
    }
    adapter_list_free(&list);
    if (status != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    mlxr_model_unref(model);
    *model = adapted;
    return EXIT_OK;
}

int session_open(session *s, const options *o, const char *model, bool measuring)
{
    char kernels[KERNELS_PATH_MAX];
    mlxr_error error;
    *s = (session){0};
    if (!models_resolve(model, &s->entry)) {
        return EXIT_FAILED;
    }
    const char *path = s->entry.path;
    mlxr_engine_options engine = kernels_engine(o, kernels);
    engine.no_prefix_cache = measuring;
    engine.log = log_line;
    engine.log_user = (void *)&o->verbose;
    if (o->kv_disk_bytes && !o->kv_dir) {
        print_error("--kv-disk-bytes needs --kv-dir");
        session_close(s);
        return EXIT_USAGE;
    }
    mlxr_model_options limits = {.mtp = session_drafts_ahead(o) ? MLXR_MTP_NEEDED : MLXR_MTP_OFF};
    if (!context_take(&limits, o, &s->entry, measuring ? CONTEXT_MEASURED : CONTEXT_OF_MODEL, &error)) {
        print_error("%s", error.text);
        session_close(s);
        return EXIT_USAGE;
    }
    double started = now_seconds();
    if (mlxr_engine_open(&s->engine, &engine, &error) != MLXR_OK) {
        session_close(s);
        return print_failure(&error);
    }
    if (mlxr_model_load(&s->model, s->engine, path, &limits, &error) != MLXR_OK) {
        session_close(s);
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    context_warn(o, mlxr_model_info_get(s->model));
    int code = session_adapt(&s->model, &s->entry, o, true);
    s->load_ms = (now_seconds() - started) * 1e3;
    code = code == EXIT_OK ? session_load_grammar(s, o) : code;
    code = code == EXIT_OK ? session_load_draft(s, o) : code;
    if (code != EXIT_OK) {
        session_close(s);
    }
    return code;
}

void session_close(session *s)
{
    mlxr_sequence_close(&s->sequence);
    mlxr_grammar_close(&s->grammar);
    mlxr_model_unref(&s->draft_model);
    mlxr_model_unref(&s->model);
    mlxr_engine_close(&s->engine);
    registry_model_close(&s->entry);
}

int32_t *session_tokenize(const session *s, const char *text, size_t n_bytes, unsigned flags, size_t *n)
{
    mlxr_error error;
    int32_t *ids = NULL;
    if (prompt_tokenize(s->model, text, n_bytes, flags, &ids, n, &error) != MLXR_OK) {
        print_failure(&error);
    }
    return ids;
}

/* ---- generating -------------------------------------------------------------------------------------------------- */

const char *finish_name(finish f)
{
    return f == FINISH_END || f == FINISH_STOP         ? "stop"
           : f == FINISH_LENGTH || f == FINISH_CONTEXT ? "length"
                                                       : "interrupted";
}

bool generation_add_id(generation *g, int32_t id)
{
    if (g->n_ids == g->cap_ids) {
        size_t cap = g->cap_ids ? g->cap_ids * 2 : 256;
        int32_t *grown = realloc(g->ids, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        g->ids = grown;
        g->cap_ids = cap;
    }
    g->ids[g->n_ids++] = id;
    return true;
}

bool generation_add_text(generation *g, const char *text, size_t n)
{
    if (g->n_text + n + 1 > g->cap_text) {
        size_t cap = (g->n_text + n + 1) * 2;
        char *grown = realloc(g->text, cap);
        if (!grown) {
            return false;
        }
        g->text = grown;
        g->cap_text = cap;
    }
    if (n) {
        memcpy(g->text + g->n_text, text, n);
    }
    g->n_text += n;
    g->text[g->n_text] = '\0';
    return true;
}

json_t *session_logprob_json(const mlxr_model *model, int32_t id, float logprob)
{
    size_t n = 0;
    const char *text = mlxr_token_text(model, id, &n);
    return json_pack("{s:i, s:o, s:o}", "id", (int)id, "text", json_text(text ? text : "", n), "logprob",
                     json_number((double)logprob));
}

json_t *session_sampled_json(const mlxr_model *model, const mlxr_sampled *sampled)
{
    json_t *entry = session_logprob_json(model, sampled->id, sampled->logprob), *top = json_array();
    for (uint32_t i = 0; i < sampled->n_top; i++) {
        json_array_append_new(top, session_logprob_json(model, sampled->top[i].id, sampled->top[i].logprob));
    }
    json_object_set_new(entry, "top", top);
    return entry;
}

static bool interrupted(const generation *g)
{
    return g->interrupted && *g->interrupted;
}

/* Computes all pending tokens but for the last chunk of them. */
static int read_prompt(session *s, generation *g)
{
    mlxr_error error;
    uint32_t max = mlxr_step_tokens_max(s->engine);
    max = isatty(STDERR_FILENO) && max > INTERACTIVE_CHUNK ? INTERACTIVE_CHUNK : max;
    size_t pending = mlxr_sequence_pending(s->sequence), total = pending;
    progress bar = progress_begin("reading the prompt");
    int code = EXIT_OK;
    while (code == EXIT_OK && pending > max && !interrupted(g)) {
        mlxr_slice slice = {.sequence = s->sequence, .n_compute = max, .flags = MLXR_SLICE_NO_SAMPLE};
        if (mlxr_step(s->engine, &slice, 1, &error) != MLXR_OK) {
            progress_end(&bar);
            code = print_failure(&error);
        }
        pending = mlxr_sequence_pending(s->sequence);
        progress_show(&bar, (double)(total - pending), (double)total, NULL);
    }
    progress_end(&bar);
    return code;
}

/* Takes a sampled token in; `placed`: the sequence had room for it. True if the generation goes on. */
static bool take_token(session *s, generation *g, mlxr_stream *stream, const mlxr_sampled *sampled, bool placed,
                       int *code)
{
    mlxr_error error;
    const char *text = NULL;
    size_t n = 0;
    bool stopped = false;
    bool kept = generation_add_id(g, sampled->id);
    if (g->logprobs) {
        json_array_append_new(g->logprobs, session_sampled_json(s->model, sampled));
    }
    if (mlxr_token_is_end(s->model, sampled->id)) {
        g->finish = FINISH_END;
        return false;
    }
    if (mlxr_stream_push(stream, sampled->id, &text, &n, &stopped, &error) != MLXR_OK) {
        *code = print_failure(&error);
        return false;
    }
    if (!kept || !generation_add_text(g, text, n)) {
        print_error("out of memory");
        *code = EXIT_FAILED;
        return false;
    }
    if (n && g->show && !g->show(text, n)) {
        g->finish = FINISH_OUTPUT;
        return false;
    }
    g->finish = stopped ? FINISH_STOP : !placed ? FINISH_CONTEXT : FINISH_LENGTH;
    return !stopped && placed && (g->n_predict < 0 || g->n_ids < (size_t)g->n_predict);
}

/* Takes in what a step sampled: one token, or several where a draft was right. What comes behind the end of the answer
 * is forgotten. */
static bool take_tokens(session *s, generation *g, mlxr_stream *stream, const mlxr_slice *slice, int *code)
{
    mlxr_error error;
    bool full = mlxr_sequence_pending(s->sequence) == 0, more = true; /* full: the last one had no place */
    uint32_t n = 0;
    while (more && n < slice->n_sampled) {
        bool placed = !full || n + 1 < slice->n_sampled;
        more = take_token(s, g, stream, &slice->sampled[n++], placed, code);
    }
    uint32_t n_left = slice->n_sampled - n - (full && n < slice->n_sampled);
    if (n_left && *code == EXIT_OK) {
        size_t length = mlxr_sequence_length(s->sequence) - n_left;
        *code = mlxr_sequence_truncate(s->sequence, length, &error) == MLXR_OK ? EXIT_OK : print_failure(&error);
    }
    return more;
}

static int sample_tokens(session *s, generation *g, mlxr_stream *stream)
{
    mlxr_error error;
    int code = EXIT_OK;
    double first = 0;
    for (bool more = true; more;) {
        if (interrupted(g)) {
            g->finish = FINISH_INTERRUPTED;
            break;
        }
        mlxr_slice slice = {.sequence = s->sequence,
                            .n_compute = (uint32_t)mlxr_sequence_pending(s->sequence),
                            .flags = MLXR_SLICE_NO_LOGITS};
        if (mlxr_step(s->engine, &slice, 1, &error) != MLXR_OK) {
            return print_failure(&error);
        }
        double now = now_seconds();
        if (g->n_ids == 0) {
            first = now;
            g->first_seconds = now - g->started;
        }
        g->decode_seconds = now - first;
        more = take_tokens(s, g, stream, &slice, &code);
    }
    return code;
}

int generate(session *s, generation *g)
{
    mlxr_error error;
    mlxr_stream *stream = NULL;
    const char *text;
    size_t n = 0;
    g->n_prompt = mlxr_sequence_length(s->sequence);
    g->n_cached = g->n_prompt - mlxr_sequence_pending(s->sequence);
    if (!generation_add_text(g, "", 0)) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    if (mlxr_stream_open(&stream, s->model, g->stops ? g->stops->items : NULL, g->stops ? g->stops->n : 0, &error) !=
        MLXR_OK) {
        return print_failure(&error);
    }
    int code = read_prompt(s, g);
    if (code == EXIT_OK && g->n_predict != 0) {
        code = sample_tokens(s, g, stream);
    }
    if (code == EXIT_OK && mlxr_stream_finish(stream, &text, &n, &error) != MLXR_OK) {
        code = print_failure(&error);
    }
    if (code == EXIT_OK && n > 0) {
        generation_add_text(g, text, n);
        if (g->show && g->finish != FINISH_OUTPUT) {
            g->show(text, n);
        }
    }
    mlxr_stream_close(&stream);
    return code;
}

void generation_close(generation *g)
{
    free(g->text);
    free(g->ids);
    g->text = NULL;
    g->ids = NULL;
    g->n_text = g->cap_text = g->n_ids = g->cap_ids = 0;
}
