/*
 * Inside of answers under way: ui_runs.c makes and ends them, ui_save.c writes them to the store.
 * Owner: struct ui_runs. Lifetime: a run's from its request until it is ended, written, released and left.
 */
#ifndef MLXR_SERVER_UI_RUNS_H
#define MLXR_SERVER_UI_RUNS_H

#include "server/generation.h"
#include "server/ui_log.h"
#include "server/ui_parts.h"
#include "telemetry/text_buffer.h"

typedef struct ui_waiter { /* somebody who waits for the end of a run: who asked to stop it */
    struct ui_waiter *next;
    struct ui_run *run;
    http_exchange *x; /* NULL: gone */
} ui_waiter;

typedef struct ui_answer {
    text_buffer content, reasoning;
    json_t *calls; /* NULL: none */
} ui_answer;

typedef struct ui_run {
    struct ui_run *previous, *next;
    struct ui_runs *runs;
    int64_t id, chat, message;
    chats_run begun;
    generation *g; /* NULL: not started, ended, or stopped */
    bool released; /* no generation uses this any more */
    ui_log *log;
    uint64_t n_events;
    bool started; /* the start event is there */
    /* The answer. */
    ui_answer answer;
    ui_answer again; /* of one that goes on: what of the answer so far came once more; `answer` keeps the whole of it */
    bool comes_again;
    bool comes_cut; /* a stop string was met in it */
    char *call_name;
    size_t n_calls;
    char model[256], source[40];
    size_t n_prompt, n_ctx, n_dropped;
    const int32_t *prompt; /* [n_prompt] the generation's; NULL once it was copied */
    int32_t *kept_prompt;  /* [n_prompt] for the next write */
    size_t n_tokens;       /* of the answer, those before it went on included */
    json_t *warnings;
    const char *reason; /* why it ended; static */
    char *stop;         /* the stop string */
    uint64_t began_ms, first_ms;
    bool failed; /* out of memory: it ends */
    /* What the store does not have yet. */
    json_t *events;
    int32_t *tokens; /* [n_new] */
    size_t n_new, cap_new;
    bool exact;   /* the tokens of the whole answer are known */
    bool by_text; /* new text is behind one whose tokens are not known */
    /* The end. */
    const char *state; /* NULL: it goes on; static */
    json_t *stats;
    bool written;
    ui_waiter *waiters;
} ui_run;

struct ui_runs {
    struct ui *ui;
    ui_run *all;            /* linked */
    struct ui_write *write; /* under way, or to be tried again */
    bool writing;           /* it is on the pool */
    uint64_t timer, n_failed;
};

/* ui_save.c: keeps a copy of the prompt's tokens for the next write. */
void ui_save_prompt(ui_run *run);
/* There is something to be written, now or within 250 ms. */
void ui_save_soon(struct ui_runs *runs, bool now);
/* Nothing could be written for minutes. */
bool ui_save_is_stuck(const struct ui_runs *runs);
/* The loop has ended: writes what is left. */
void ui_save_rest(struct ui_runs *runs);
/* ui_runs.c: the end of a run is on the disk. */
void ui_run_written(ui_run *run);
void ui_run_free_if_over(ui_run *run);
/* Answers who waits for an end that cannot be written now, and why. */
void ui_runs_tell_unsaved(struct ui_runs *runs, const mlxr_error *why);

#endif
