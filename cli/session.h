/*
 * An engine with one model, as the options say, and generating with it.
 * Owner: the verb. Lifetime: session_open to session_close.
 */
#ifndef MLXR_CLI_SESSION_H
#define MLXR_CLI_SESSION_H

#include <jansson.h>
#include <signal.h>

#include "mlxr.h"
#include "options.h"
#include "registry/registry.h"

typedef struct session {
    mlxr_engine *engine;
    mlxr_model *model;
    mlxr_model *draft_model; /* NULL: none, or drafts are n-grams or the model's own */
    mlxr_grammar *grammar;   /* NULL: none */
    mlxr_sequence *sequence; /* opened by session_sequence */
    registry_model entry;    /* what the registry has besides the file; all empty for a path */
    double load_ms;
} session;

/* Resolves the model's name, opens an engine and loads it. Returns EXIT_OK, or an exit code after telling why not; then
 * nothing is open. `measuring`: no prefix is kept, so that every run does the same work. */
int session_open(session *s, const options *o, const char *model, bool measuring);
/* The model becomes one with its entry's adapters and, `with_named`, those of --lora behind them. Returns an exit code,
 * after telling what went wrong; the model is as it was then. */
int session_adapt(mlxr_model **model, const registry_model *entry, const options *o, bool with_named);
/* Takes over the system message and the parameters that the registry has for the model, where the command line says
 * nothing else. Returns an exit code. */
int session_apply_entry(session *s, options *o);
/* The same for one parameter of a Modelfile. False after telling that its value makes no sense. */
bool session_apply_parameter(options *o, const char *name, const char *value);
/* Opens the sequence with the options' sampling, grammar and drafts. */
int session_sequence(session *s, const options *o);
/* Another sequence like that; the caller closes it. */
int session_open_sequence(session *s, const options *o, mlxr_sequence **out);
/* Makes the grammar that the options name, instead of the one there is; says what is wrong with it, and where. */
int session_load_grammar(session *s, const options *o);
/* Do the options say that drafts come from the model's own head? */
bool session_drafts_ahead(const options *o);
/* Loads what drafts come from; with a sequence open, that one drafts from now on. */
int session_load_draft(session *s, const options *o);
/* The sequence goes on with other sampling, another grammar, other drafts, as the options now say. False after telling
 * why not; then it is as it was. */
bool session_change_sampler(session *s, const options *o);
bool session_change_grammar(session *s, const options *o);
bool session_change_draft(session *s, const options *o);
void session_close(session *s);

/* What drafts came to: {"drafted", "accepted", …}, or NULL if nothing drafts. */
json_t *session_draft_json(const options *o, mlxr_draft_stats stats);
/* The same as a note. */
void session_draft_note(const options *o, mlxr_draft_stats stats);
/* Where a model's experts do not all stay in memory: how it went. */
void session_expert_note(const mlxr_engine *engine);
/* How greedy steps found the greatest logit, if not by computing all of them. */
void session_logits_note(const mlxr_model *model);

/* A sampled token with its log-probability and those of its alternatives, and one of them. */
json_t *session_sampled_json(const mlxr_model *model, const mlxr_sampled *sampled);
json_t *session_logprob_json(const mlxr_model *model, int32_t id, float logprob);

/* Ids of a text. NULL after telling what is wrong; else freed by the caller, even if *n is 0. */
int32_t *session_tokenize(const session *s, const char *text, size_t n_bytes, unsigned flags, size_t *n);

/* The model's BOS if its tokenizer adds one, else −1. */
int32_t session_bos(const session *s);

/* Rows of a step that asks for the logits of all of them: as many as take 64 MiB. */
uint32_t session_rows_max(const session *s);

typedef enum finish {
    FINISH_END,         /* the model ended its answer */
    FINISH_STOP,        /* a stop string */
    FINISH_LENGTH,      /* as many tokens as asked for */
    FINISH_CONTEXT,     /* the context is full */
    FINISH_INTERRUPTED, /* Ctrl-C */
    FINISH_OUTPUT,      /* nobody reads any more */
} finish;

/* "stop", "length" or "interrupted", as APIs call it. */
const char *finish_name(finish f);

typedef struct generation {
    /* in */
    int32_t n_predict; /* −1: no limit */
    const text_list *stops;
    json_t *logprobs;                         /* an array that gets an object for each token, or NULL */
    bool (*show)(const char *text, size_t n); /* NULL: text is only collected; false: stop */
    const volatile sig_atomic_t *interrupted; /* or NULL */
    double started;                           /* now_seconds() before the prompt was tokenised */
    /* out */
    finish finish;
    char *text; /* NUL-terminated */
    size_t n_text, cap_text;
    int32_t *ids; /* as sampled, with the one that ended the answer */
    size_t n_ids, cap_ids;
    size_t n_prompt, n_cached;
    double first_seconds, decode_seconds; /* start to first token; from there to the last */
} generation;

/* Computes the sequence's pending tokens and goes on until the answer ends. Returns an exit code. */
int generate(session *s, generation *g);
void generation_close(generation *g);
/* What answers take in; false: no memory. */
bool generation_add_id(generation *g, int32_t id);
bool generation_add_text(generation *g, const char *text, size_t n);

#endif
