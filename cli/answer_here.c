/*
 * Answers of a model in this process: messages to tokens, reusing what is computed.
 * Owner: the verb `run`. Lifetime: answer_here_open to answerer_close.
 *
 *   messages ─ chat template ─ text ─┬─ begins with what the sequence holds: append the rest
 *                                    ├─ is the last prompt again: go back to its end
 *                                    └─ else: keep the common tokens, truncate there, append the others
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answerer.h"
#include "context.h"
#include "output.h"
#include "prompt.h"

typedef struct here {
    answerer base;
    session session;
    char *held; /* the text whose tokens the sequence holds; NULL: not known, compare tokens */
    size_t n_prompt_bytes, n_prompt_tokens; /* of it, before the last answer */
} here;

static void forget_held(here *h)
{
    free(h->held);
    h->held = NULL;
}

/* ---- feeding the sequence ---------------------------------------------------------------------------------------- */

/* What the model shall read, malloc'ed; NULL after telling why not. */
static char *render(here *h, const json_t *messages, bool raw)
{
    mlxr_error error;
    char *text = NULL;
    if (prompt_render(h->session.model, &h->session.entry, messages, raw, &text, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return NULL;
    }
    return text;
}

static int append(here *h, const int32_t *ids, size_t n)
{
    mlxr_error error;
    if (mlxr_sequence_append(h->session.sequence, ids, n, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* Makes the sequence hold these tokens, keeping what it has of them. The last one is pending at least. */
static int replace_tokens(here *h, const int32_t *ids, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = h->session.sequence;
    const int32_t *old = mlxr_sequence_tokens(sequence);
    size_t common = 0, n_old = mlxr_sequence_length(sequence);
    while (common < n && common < n_old && old[common] == ids[common]) {
        common++;
    }
    size_t computed = mlxr_sequence_computed(sequence);
    if (common == n && computed >= n) {
        common = n - 1;
    }
    if (common < n_old && mlxr_sequence_truncate(sequence, common, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    return append(h, ids + common, n - common);
}

/* Goes back to the end of the last prompt, whose last token has to be computed once more. */
static int rewind_to_prompt(here *h)
{
    mlxr_error error;
    mlxr_sequence *sequence = h->session.sequence;
    int32_t last = mlxr_sequence_tokens(sequence)[h->n_prompt_tokens - 1];
    if (mlxr_sequence_truncate(sequence, h->n_prompt_tokens - 1, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    return append(h, &last, 1);
}

static int feed_tokens(here *h, const char *text, unsigned flags, bool continues)
{
    size_t n = 0;
    int code;
    int32_t *ids = session_tokenize(&h->session, text, strlen(text), flags, &n);
    if (!ids) {
        return EXIT_FAILED;
    }
    if (n == 0) {
        print_error("the prompt is empty");
        code = EXIT_USAGE;
    } else if (continues) {
        code = append(h, ids, n);
    } else {
        forget_held(h);
        code = replace_tokens(h, ids, n);
    }
    free(ids);
    return code;
}

static int feed(here *h, const char *text, bool raw)
{
    size_t n_text = strlen(text), n_held = h->held ? strlen(h->held) : 0;
    if (n_held > 0 && n_text == h->n_prompt_bytes && memcmp(text, h->held, n_text) == 0) {
        return rewind_to_prompt(h);
    }
    if (n_held > 0 && n_text > n_held && memcmp(text, h->held, n_held) == 0) {
        return feed_tokens(h, text + n_held, prompt_flags(raw) & ~(unsigned)MLXR_TOKENIZE_ADD_SPECIAL, true);
    }
    return feed_tokens(h, text, prompt_flags(raw), false);
}

/* The sequence now holds `text` and what was generated after it. */
static void remember_held(here *h, char *text, const generation *g)
{
    mlxr_error error;
    char *answer = NULL, *joined;
    size_t n_answer = 0, n_text = strlen(text);
    forget_held(h);
    size_t n_kept = g->finish == FINISH_CONTEXT && g->n_ids ? g->n_ids - 1 : g->n_ids; /* the last had no place */
    if (mlxr_detokenize(h->session.model, g->ids, n_kept, true, &answer, &n_answer, &error) == MLXR_OK &&
        (joined = realloc(text, n_text + n_answer + 1))) {
        memcpy(joined + n_text, answer, n_answer + 1);
        h->held = joined;
        h->n_prompt_bytes = n_text;
        h->n_prompt_tokens = mlxr_sequence_length(h->session.sequence) - n_kept;
    } else {
        free(text);
    }
    mlxr_free(answer);
}

/* ---- what it does ------------------------------------------------------------------------------------------------ */

static int answer(answerer *a, const options *o, const json_t *messages, bool raw, generation *g)
{
    here *h = (here *)a;
    (void)o;
    g->started = now_seconds();
    char *text = render(h, messages, raw);
    if (!text) {
        return EXIT_FAILED;
    }
    int code = feed(h, text, raw);
    if (code == EXIT_OK) {
        code = generate(&h->session, g);
    }
    if (code == EXIT_OK) {
        remember_held(h, text, g);
    } else {
        free(text);
        forget_held(h);
    }
    a->n_context = mlxr_sequence_length(h->session.sequence);
    return code;
}

static void forget(answerer *a)
{
    here *h = (here *)a;
    mlxr_sequence_truncate(h->session.sequence, 0, NULL);
    forget_held(h);
    a->n_context = 0;
}

static bool change(answerer *a, const options *o, unsigned group)
{
    session *s = &((here *)a)->session;
    return group == GROUP_GRAMMAR ? session_change_grammar(s, o)
           : group == GROUP_DRAFT ? session_change_draft(s, o)
                                  : session_change_sampler(s, o);
}

static void show(const answerer *a)
{
    const session *s = &((const here *)a)->session;
    const mlxr_model_info *info = mlxr_model_info_get(s->model);
    mlxr_kv_stats kv = mlxr_kv_stats_get(s->engine);
    printf("  model     %s\n", info->path);
    printf("  family    %s, %s parameters, %s\n", info->family, human_count(info->n_params), info->weight_types);
    printf("  context   %zu tokens used of %u; trained for %u", a->n_context, info->n_ctx, info->n_ctx_train);
    context_print_rope(info);
    printf("  KV cache  %s of %s\n", human_bytes(kv.bytes_used), human_bytes(kv.bytes_budget));
}

static json_t *drafts(const answerer *a, const options *o)
{
    return session_draft_json(o, mlxr_draft_stats_get(((const here *)a)->session.sequence));
}

static void note_drafts(const answerer *a, const options *o)
{
    session_draft_note(o, mlxr_draft_stats_get(((const here *)a)->session.sequence));
    session_expert_note(((const here *)a)->session.engine);
    session_logits_note(((const here *)a)->session.model);
}

static void close_here(answerer *a)
{
    here *h = (here *)a;
    forget_held(h);
    session_close(&h->session);
    free(h);
}

int answer_here_open(answerer **out, options *o, const char *model)
{
    static const answerer_ops ops = {answer, forget, change, show, drafts, note_drafts, close_here};
    here *h = calloc(1, sizeof *h);
    if (!h) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    h->base.ops = &ops;
    session *s = &h->session;
    int code = session_open(s, o, model, false);
    code = code == EXIT_OK ? session_apply_entry(s, o) : code;
    code = code == EXIT_OK ? session_sequence(s, o) : code;
    if (code != EXIT_OK) {
        close_here(&h->base);
        return code;
    }
    const mlxr_model_info *info = mlxr_model_info_get(s->model);
    h->base.model = info->path;
    h->base.load_ms = s->load_ms;
    h->base.has_template = info->has_chat_template || h->session.entry.template_text;
    h->base.batch_invariant = mlxr_engine_info_get(s->engine)->batch_invariant;
    h->base.activations = mlxr_engine_info_get(s->engine)->activation_bits;
    *out = &h->base;
    return EXIT_OK;
}

void answerer_close(answerer **a)
{
    if (*a) {
        (*a)->ops->close(*a);
        *a = NULL;
    }
}
