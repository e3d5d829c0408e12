/*
 * The file of results: whole lines only, appended one by one, and what is in it from before.
 * Owner: the verb `batch`. Lifetime: batch_output_open to batch_output_close.
 *
 * A line counts when its line feed is written. Whatever ends the program (a signal, no room on the disk, no power),
 * what is left is whole lines and at most a torn end, which the next run cuts off. Every line of ours names its request
 * ("request": key and hash), so that the next run knows what is done.
 */
#ifndef MLXR_CLI_BATCH_OUTPUT_H
#define MLXR_CLI_BATCH_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct batch_done { /* a request with a result */
    char *key;
    uint64_t hash;
} batch_done;

typedef struct batch_output {
    const char *path; /* NULL: stdout */
    int fd;
    off_t size;       /* whole lines */
    double synced;    /* when, by now_seconds */
    batch_done *done; /* [cap], open addressing, cap a power of two */
    size_t n_done, cap;
} batch_output;

typedef enum batch_state { BATCH_NEW, BATCH_DONE, BATCH_TAKEN } batch_state;

/* Opens or makes the file (NULL: stdout), for this process alone, and reads what is done. `retry_errors`: results that
 * are errors are taken out. Returns an exit code after telling what is wrong; a file that holds anything else than
 * results is left as it is. */
int batch_output_open(batch_output *out, const char *path, bool retry_errors);
void batch_output_close(batch_output *out);
/* Is there a result under this key? BATCH_TAKEN: of another request. */
batch_state batch_output_find(const batch_output *out, const char *key, uint64_t hash);
/* Appends a result (and frees it): a line in the file when this returns. False after telling why not; then nothing of
 * it is there. */
bool batch_output_add(batch_output *out, json_t *result, const char *key, uint64_t hash);
/* Makes what was written survive a loss of power; by itself at most once a second. */
void batch_output_sync(batch_output *out, bool now);

/* What batch_output_open looks for in a line. */
json_t *batch_output_mark(const char *key, uint64_t hash, uint64_t line);

#endif
