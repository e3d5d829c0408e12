/*
 * Chats: folders, conversations as trees of messages, answers under way, presets and settings in one SQLite database.
 * Owner: the caller. Lifetime: chats_open to chats_close, one process at a time. Any thread: calls take turns.
 *
 * What goes in and comes out is JSON, in the shapes of docs/ui-api.md; the caller has checked types and lengths of what
 * goes in. A call that returns CHATS_OK has written to the disk; one that does not has changed nothing. What comes out
 * is the caller's. Where the disk fails at the very end of a commit, what failed may have been done: saving and ending
 * may be tried again.
 *
 *   run_begin ─▶ running ─ run_save every 250 ms ─▶ run_end ─▶ complete, stopped, failed
 *                   └───────── the process dies; chats_open finds it ─▶ interrupted ─▶ run_begin goes on with it
 */
#ifndef MLXR_CHATS_H
#define MLXR_CHATS_H

#include <jansson.h>

#include "mlxr.h"

typedef struct chats chats;

typedef enum chats_status {
    CHATS_OK,
    CHATS_NOT_FOUND, /* or somebody else's */
    CHATS_CONFLICT,  /* changed by somebody else since; or its state does not allow it */
    CHATS_LIMIT,     /* there are too many */
    CHATS_INVALID,
    CHATS_NO_MEMORY,
    CHATS_FAILED, /* the disk, the database */
} chats_status;

typedef struct chats_who { /* whose chats are seen and made */
    const char *owner;     /* a key's id; "" without keys */
    bool all;              /* sees everybody's */
    bool ownerless;        /* sees those made while no keys were in use, too */
} chats_who;

#define CHATS_PER_OWNER 100000u
#define CHATS_MESSAGES 10000u /* of a chat */
#define CHATS_FOLDERS 1000u   /* of an owner; presets, too */
#define CHATS_DEPTH 4096u     /* of a branch */

typedef struct chats_options {
    uint32_t undo_s;         /* how long what was removed can be restored; 0: a week */
    int64_t (*now_us)(void); /* for tests; NULL: the clock */
} chats_options;

/* Makes the database in `directory` if need be; ends what a process that died left running. MLXR_LIMIT: another process
 * has it open. */
mlxr_status chats_open(chats **out, const char *directory, const chats_options *options, mlxr_error *error);
void chats_close(chats **c);
/* Removes for good what was removed long ago, and events of answers that ended a while ago. *purged: chats. */
chats_status chats_tidy(chats *c, uint32_t *purged, mlxr_error *error);

/* ---- folders: {id, name, position, n_chats, revision, created_ms, modified_ms} ------------------------------------
 */
chats_status chats_folders(chats *c, const chats_who *who, json_t **out, mlxr_error *error); /* a list */
chats_status chats_folder_add(chats *c, const chats_who *who, const json_t *fields, json_t **out, mlxr_error *error);
/* fields: with "revision", which must be the current one. */
chats_status chats_folder_change(chats *c, const chats_who *who, int64_t id, const json_t *fields, json_t **out,
                                 mlxr_error *error);
chats_status chats_folder_remove(chats *c, const chats_who *who, int64_t id, mlxr_error *error); /* its chats stay */

/* ---- chats --------------------------------------------------------------------------------------------------------
 */
typedef struct chats_query { /* {0}: the newest 50 of all folders */
    bool in_folder, removed;
    int64_t folder;    /* 0 with in_folder: those in none */
    int64_t since_ms;  /* modified then or later */
    int64_t until_ms;  /* modified before; 0: any time */
    const char *after; /* "next" of the page before; NULL: the first */
    uint32_t limit;    /* 0: 50 */
} chats_query;
/* {"chats": [...], "next": text or null}; pinned first, then the newest. */
chats_status chats_list(chats *c, const chats_who *who, const chats_query *q, json_t **out, mlxr_error *error);
chats_status chats_add(chats *c, const chats_who *who, const json_t *fields, json_t **out, mlxr_error *error);
chats_status chats_get(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error);
chats_status chats_change(chats *c, const chats_who *who, int64_t id, const json_t *fields, json_t **out,
                          mlxr_error *error);
/* Hides it, to be restored within undo_s; `now`: for good. Running answers of it must have ended: CHATS_CONFLICT. */
chats_status chats_remove(chats *c, const chats_who *who, int64_t id, bool now, mlxr_error *error);
chats_status chats_restore(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error);

/* ---- messages -----------------------------------------------------------------------------------------------------
 */
/* {"messages": [...], "next": id or null}, by id: parents before children. Contents of attachments are left out. */
chats_status chats_messages(chats *c, const chats_who *who, int64_t chat, int64_t after, uint32_t limit, json_t **out,
                            mlxr_error *error);
/* With the contents of its attachments. */
chats_status chats_message_get(chats *c, const chats_who *who, int64_t chat, int64_t id, json_t **out,
                               mlxr_error *error);
/* fields: parent (null: the chat's beginning), role, content, attachments, …; it becomes the leaf unless "activate" is
 * false. An untitled chat gets its beginning as its title. */
chats_status chats_message_add(chats *c, const chats_who *who, int64_t chat, const json_t *fields, json_t **out,
                               mlxr_error *error);
/* fields: revision, content, … */
chats_status chats_message_change(chats *c, const chats_who *who, int64_t chat, int64_t id, const json_t *fields,
                                  json_t **out, mlxr_error *error);
/* And what comes behind it. The leaf moves to its parent if it was among them. */
chats_status chats_message_remove(chats *c, const chats_who *who, int64_t chat, int64_t id, mlxr_error *error);
/* From the beginning to this message, as messages of /v1/chat/completions, attachments written out. */
chats_status chats_prompt(chats *c, const chats_who *who, int64_t chat, int64_t id, json_t **out, mlxr_error *error);

/* ---- answers under way --------------------------------------------------------------------------------------------
 */
typedef struct chats_run { /* what run_begin found or made */
    int64_t id, chat, message;
    char *model;        /* to be used */
    json_t *parameters; /* to be used */
    json_t *messages;   /* up to the question, with the system prompt; OpenAI's form */
    char *owner;        /* the chat's */
    char *source;       /* of a continued one: whose tokens these are; else NULL */
    int32_t *prompt;    /* [n_prompt], of the first time; NULL: not kept */
    int32_t *tokens;    /* [n_tokens] of the answer so far; NULL: none */
    size_t n_prompt, n_tokens;
    char *content, *reasoning; /* of a continued one, so far; else NULL */
    json_t *tool_calls;
    bool continues;
    bool unfinished;  /* it was ended by a stop or the end of a process, not by the model or a limit */
    json_t *question; /* the message that was added; NULL: none */
    json_t *answer;   /* the message that is being made */
    json_t *chat_row;
} chats_run;
void chats_run_close(chats_run *run);

/* fields: one of "message" {content, attachments, parent}, "parent" (the id of what is answered) or "continue" (the id
 * of an answer), and model, parameters, activate. Makes the message that is answered, the answer, and the generation.
 */
typedef chats_status chats_run_check(void *user, chats_run *run, mlxr_error *error);
/* check (may be NULL): once model and parameters are chosen, before anything is written; may change the model. */
chats_status chats_run_begin(chats *c, const chats_who *who, int64_t chat, const json_t *fields, chats_run_check *check,
                             void *user, chats_run *out, mlxr_error *error);
/* It is not made any more, and its end could not be written: it will be found as one that was interrupted. */
void chats_run_forget(chats *c, int64_t run);

/* Events are {"n": number, "type": …}: "start" {content, reasoning, tool_calls} (what there is already), "text" and
 * "reasoning" {text}, "tool_call" {tool_call}; others are kept and not looked at. */
typedef struct chats_save { /* what came since the last one */
    int64_t run;
    uint64_t last;         /* number of its last event */
    const json_t *events;  /* list */
    const char *source;    /* with the first: of the prompt; else NULL */
    const int32_t *prompt; /* [n_prompt] */
    size_t n_prompt;
    const int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;
    bool by_text; /* it goes on with the answer's text: the tokens that are kept make less than the answer, and go */
} chats_save;
/* All of them in one write; of those whose rows have gone nothing. */
chats_status chats_run_save(chats *c, const chats_save *saves, size_t n, mlxr_error *error);

typedef struct chats_end {
    int64_t run;
    const char *state; /* complete, stopped, interrupted, failed */
    const char *content, *reasoning;
    size_t n_content, n_reasoning;
    const json_t *tool_calls; /* NULL: none */
    const char *model;        /* as it was found */
    const json_t *stats;
    chats_save save; /* the last events */
} chats_end;
/* CHATS_NOT_FOUND: its row or its message has gone, and it is made no more. */
chats_status chats_run_end(chats *c, const chats_end *end, json_t **message, mlxr_error *error);

/* {id, chat, message, state, last, created_ms, ended_ms} */
chats_status chats_run_get(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error);
/* {"generation": …, "message": …, "events": [...]}: of one that has ended. Events are kept for a while; then there are
 * none. */
chats_status chats_run_events(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error);
/* Those of a chat (0: of all) that have not ended. */
chats_status chats_runs(chats *c, const chats_who *who, int64_t chat, json_t **out, mlxr_error *error);

/* ---- search -------------------------------------------------------------------------------------------------------
 */
/* {"results": [{chat, title, folder, message, role, created_ms, snippet: [{text, hit}]}], "next": offset or null}:
 * titles first, then messages, the best first. Every word must be there; the last one may be the beginning of a word.
 * Any text is a query. */
chats_status chats_search(chats *c, const chats_who *who, const char *text, uint32_t offset, uint32_t limit,
                          json_t **out, mlxr_error *error);

/* ---- presets, settings --------------------------------------------------------------------------------------------
 */
chats_status chats_presets(chats *c, const chats_who *who, json_t **out, mlxr_error *error);
chats_status chats_preset_add(chats *c, const chats_who *who, const json_t *fields, json_t **out, mlxr_error *error);
chats_status chats_preset_change(chats *c, const chats_who *who, int64_t id, const json_t *fields, json_t **out,
                                 mlxr_error *error);
chats_status chats_preset_remove(chats *c, const chats_who *who, int64_t id, mlxr_error *error);
/* {"revision": n, "values": {…}}: what differs from the defaults. */
chats_status chats_settings(chats *c, const chats_who *who, json_t **out, mlxr_error *error);
/* revision: the one that was changed; `values` replace all there were. */
chats_status chats_settings_put(chats *c, const chats_who *who, int64_t revision, const json_t *values, json_t **out,
                                mlxr_error *error);

/* ---- files --------------------------------------------------------------------------------------------------------
 */
/* {"format": "mlxr-chat", "version": 1, "chat": {…}, "messages": [...]}: all branches; ids are the file's own. */
chats_status chats_export(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error);
/* The shown branch, for people, and for chats_import_markdown; malloc'ed. */
chats_status chats_export_markdown(chats *c, const chats_who *who, int64_t id, char **out, mlxr_error *error);
/* Makes a chat of an export; *out: the chat. CHATS_INVALID says what is wrong with the file. */
chats_status chats_import(chats *c, const chats_who *who, const json_t *file, int64_t folder, json_t **out,
                          mlxr_error *error);
chats_status chats_import_markdown(chats *c, const chats_who *who, const char *text, int64_t folder, json_t **out,
                                   mlxr_error *error);

#endif
