/*
 * Who answers a conversation: a model in this process, or one of a daemon.
 * Owner: the verb `run`. Lifetime: answer_here_open or answer_daemon_open to answerer_close.
 */
#ifndef MLXR_CLI_ANSWERER_H
#define MLXR_CLI_ANSWERER_H

#include "client.h"
#include "session.h"

typedef struct answerer answerer;

typedef struct answerer_ops {
    /* Generates the answer to these messages ([{"role", "content"}]; raw: their texts as they are, without a template).
     * Returns an exit code after telling what is wrong. */
    int (*answer)(answerer *a, const options *o, const json_t *messages, bool raw, generation *g);
    /* What was said before does not count any more. */
    void (*forget)(answerer *a);
    /* The options of this group (GROUP_SAMPLING, _GRAMMAR, _DRAFT) have changed. False after telling why they cannot be
     * had; then the caller takes them back. */
    bool (*change)(answerer *a, const options *o, unsigned group);
    /* Its part of /show. */
    void (*show)(const answerer *a);
    /* What drafts came to so far, {"drafted", …}; NULL: nothing drafts. */
    json_t *(*drafts)(const answerer *a, const options *o);
    void (*note_drafts)(const answerer *a, const options *o);
    void (*close)(answerer *a);
} answerer_ops;

struct answerer {
    const answerer_ops *ops;
    const char *model; /* its path, or its name at the daemon: what a saved conversation says */
    double load_ms;    /* 0: it was loaded already */
    size_t n_context;  /* tokens of the conversation, after the last answer */
    bool has_template, batch_invariant;
    uint32_t activations; /* bits; 0: a daemon that does not say */
};

/* Both return an exit code after telling why not, and take over into *o what the model was made with (its system
 * message and parameters), where the command line says nothing else. */
int answer_here_open(answerer **out, options *o, const char *model);
/* The client stays the caller's. */
int answer_daemon_open(answerer **out, options *o, client *c, const char *model);
void answerer_close(answerer **a);

/* The option on this command line that only a model in this process can do; NULL: a daemon's would do. */
const char *answer_daemon_cannot(const options *o);

#endif
