/*
 * The inside of the store, shared by its files.
 * Owner: store.c. Lifetime: chats_open to chats_close.
 */
#ifndef MLXR_CHATS_INSIDE_H
#define MLXR_CHATS_INSIDE_H

#include <pthread.h>

#include "chats/chats.h"
#include "registry/db.h"

struct chats {
    pthread_mutex_t lock;
    sqlite3 *db;
    int lock_fd;
    chats_options options;
    int64_t *active; /* [n_active] runs that this process makes */
    size_t n_active, cap_active;
    bool strays; /* there may be others that say they are running */
};

/* ---- store.c ---- */
chats_status chats_fail(mlxr_error *error, chats_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
chats_status chats_no_memory(mlxr_error *error);
mlxr_status chats_starved(mlxr_error *error); /* the same for who returns what registry/db.h does */
/* What a call of registry/db.h said. */
chats_status chats_of_db(mlxr_status status);
/* Takes the lock; the lock and a transaction. */
void chats_lock(chats *c);
void chats_unlock(chats *c);
chats_status chats_begin(chats *c, mlxr_error *error);
/* Commits if status is CHATS_OK, else rolls back; returns what became of it. */
chats_status chats_finish(chats *c, chats_status status, mlxr_error *error);
int64_t chats_now_us(const chats *c);
int64_t chats_undo_us(const chats *c);

/* The statement's row as an object, by its columns' names: "pinned?b" is a truth, "parameters?j" JSON ("" is null),
 * "folder?0" null where it is 0; NULL is null. NULL: no memory. */
json_t *chats_row(sqlite3_stmt *s);
/* All rows as a list; the statement is db_prepare's, of `status`. */
chats_status chats_rows(chats *c, mlxr_status status, sqlite3_stmt *s, json_t **out, mlxr_error *error);
/* The only row; CHATS_NOT_FOUND, "there is no WHAT ID", without one. */
chats_status chats_one(chats *c, mlxr_status status, sqlite3_stmt *s, const char *what, int64_t id, json_t **out,
                       mlxr_error *error);

typedef struct chats_column {
    const char *name; /* of the JSON's field, and of the column */
    char type;        /* t text, i number (null is NULL), b truth, j JSON */
} chats_column;
/* Writes the fields that are given into a row. */
chats_status chats_set(chats *c, const char *table, int64_t id, const json_t *fields, const chats_column *columns,
                       size_t n, mlxr_error *error);
/* Whether "revision" of the fields is this one; without one: true. */
chats_status chats_check_revision(const json_t *fields, const json_t *row, const char *what, mlxr_error *error);
/* Compact; never NULL where memory does not lack. */
char *chats_dump(const json_t *value);

/* Binding who: "tii" to the placeholders ?1, ?2, ?3. */
#define CHATS_SEES "(?3 OR owner = ?1 OR (?2 AND owner = ''))"
#define CHATS_WHO(who) (who)->owner, (int64_t)(who)->ownerless, (int64_t)(who)->all

/* ---- chat_rows.c ---- within a transaction or the lock */
chats_status chat_find(chats *c, const chats_who *who, int64_t id, bool removed, json_t **out, mlxr_error *error);
chats_status chat_insert(chats *c, const chats_who *who, const json_t *fields, int64_t *id, mlxr_error *error);
/* Something was added: its time, and the leaf unless 0. */
chats_status chat_touch(chats *c, int64_t id, int64_t leaf, mlxr_error *error);

/* ---- message_rows.c ---- */
chats_status message_find(chats *c, int64_t chat, int64_t id, bool contents, json_t **out, mlxr_error *error);
/* Without and with a look at its parent and at how many there are. */
chats_status message_write(chats *c, int64_t chat, const json_t *fields, int64_t *id, mlxr_error *error);
chats_status message_insert(chats *c, int64_t chat, const json_t *fields, int64_t *id, mlxr_error *error);
chats_status message_path(chats *c, int64_t chat, int64_t id, json_t **out, mlxr_error *error);
chats_status message_prompt(chats *c, int64_t chat, int64_t id, json_t **out, mlxr_error *error);
/* A chat without a title gets one. */
chats_status message_title(chats *c, int64_t chat, const char *content, mlxr_error *error);

/* ---- run_rows.c ---- */
chats_status runs_recover(chats *c, mlxr_error *error);
/* CHATS_CONFLICT while an answer of the chat (message 0), or this message, is being made. */
chats_status runs_check_idle(chats *c, int64_t chat, int64_t message, mlxr_error *error);

#endif
