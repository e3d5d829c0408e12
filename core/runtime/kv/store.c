/*
 * KV store: the disk tier.
 * Owner: the engine. Lifetime: kv_store_open to kv_store_close.
 *
 *   put:  copy pages → queue ──writer thread──▶ temp file → fsync → rename → fsync(dir) → catalogue
 *   get:  catalogue → map file → check everything → pages;  any failure: unlink, forget, miss
 *
 * The catalogue is what the directory listing says at open plus what was written since; the lock guards it and the
 * queue. Files are only read by the caller's thread and only written by the writer.
 */
#include "runtime/kv/store.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapping.h"
#include "runtime/kv/store_file.h"
#include "runtime/kv/store_io.h"

#define QUEUE_BYTES_DEFAULT ((uint64_t)256 << 20)
#define PATH_BYTES 4096u
#define N_BUCKETS 4096u

typedef struct entry entry;
struct entry { /* one file that is, or will be, on disk */
    entry *bucket_next, *older, *newer;
    kv_hash fingerprint, hash;
    uint64_t n_bytes;
    uint32_t groups; /* a bit per page in it; 0: not looked at yet */
};

typedef struct job job;
struct job {
    job *next;
    store_block block; /* tokens and payload point into data */
    size_t n_data;
    uint8_t data[];
};

struct kv_store {
    char *dir;
    uint64_t bytes_budget, queue_bytes_max;
    kv_store_io io;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    pthread_t writer;
    bool stop, busy;
    job *first, *last;
    uint64_t queue_bytes;
    entry *buckets[N_BUCKETS];
    entry *oldest, *newest;
    kv_store_stats stats;
};

static void file_path(const kv_store *s, kv_hash fingerprint, kv_hash hash, const char *suffix, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 "%s", s->dir,
             fingerprint.high, fingerprint.low, hash.high, hash.low, suffix);
}

/* ---- catalogue (lock held) ------------------------------------------------------------------------------------- */

static entry **bucket_of(kv_store *s, kv_hash fingerprint, kv_hash hash)
{
    return &s->buckets[(hash.low ^ fingerprint.low) % N_BUCKETS];
}

static entry *catalogue_find(kv_store *s, kv_hash fingerprint, kv_hash hash)
{
    for (entry *e = *bucket_of(s, fingerprint, hash); e; e = e->bucket_next) {
        if (e->hash.low == hash.low && e->hash.high == hash.high && e->fingerprint.low == fingerprint.low &&
            e->fingerprint.high == fingerprint.high) {
            return e;
        }
    }
    return NULL;
}

static void order_remove(kv_store *s, entry *e)
{
    *(e->older ? &e->older->newer : &s->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &s->newest) = e->older;
}

static void order_append(kv_store *s, entry *e)
{
    e->older = s->newest;
    e->newer = NULL;
    *(s->newest ? &s->newest->newer : &s->oldest) = e;
    s->newest = e;
}

static void order_renew(kv_store *s, entry *e)
{
    order_remove(s, e);
    order_append(s, e);
}

/* A file was found or written; one of that name may have been replaced. */
static void catalogue_add(kv_store *s, kv_hash fingerprint, kv_hash hash, uint64_t n_bytes, uint32_t groups)
{
    entry *e = catalogue_find(s, fingerprint, hash);
    if (e) {
        s->stats.bytes += n_bytes - e->n_bytes;
        e->n_bytes = n_bytes;
        e->groups = groups;
        order_renew(s, e);
        return;
    }
    e = calloc(1, sizeof *e);
    if (!e) {
        return; /* the file is there but will not be found before the next start */
    }
    *e = (entry){.fingerprint = fingerprint, .hash = hash, .n_bytes = n_bytes, .groups = groups};
    entry **bucket = bucket_of(s, fingerprint, hash);
    e->bucket_next = *bucket;
    *bucket = e;
    order_append(s, e);
    s->stats.n_files++;
    s->stats.bytes += n_bytes;
}

static void catalogue_remove(kv_store *s, entry *e)
{
    entry **link = bucket_of(s, e->fingerprint, e->hash);
    while (*link != e) {
        link = &(*link)->bucket_next;
    }
    *link = e->bucket_next;
    order_remove(s, e);
    s->stats.n_files--;
    s->stats.bytes -= e->n_bytes;
    free(e);
}

/* Removes the oldest files until `n_more` bytes fit the budget. */
static void make_room(kv_store *s, uint64_t n_more)
{
    while (s->oldest && s->stats.bytes + n_more > s->bytes_budget) {
        char path[PATH_BYTES];
        file_path(s, s->oldest->fingerprint, s->oldest->hash, ".kv", path);
        s->io.unlink(s->io.context, path);
        catalogue_remove(s, s->oldest);
    }
}

static uint32_t block_groups(const store_block *b)
{
    uint32_t groups = 0;
    for (uint32_t g = 0; g < b->n_groups; g++) {
        groups |= (uint32_t)b->present[g] << g;
    }
    return groups;
}

/* ---- writer ------------------------------------------------------------------------------------------------------ */

/* Returns 0 once the block is durable under its name; else an errno value, with nothing left behind. */
static int write_block(kv_store *s, const job *j)
{
    char temp[PATH_BYTES], path[PATH_BYTES];
    file_path(s, j->block.fingerprint, j->block.hash, ".tmp", temp);
    file_path(s, j->block.fingerprint, j->block.hash, ".kv", path);
    size_t n_header = store_header_bytes(&j->block);
    uint8_t *header = malloc(n_header);
    if (!header) {
        return ENOMEM;
    }
    store_header_encode(&j->block, header);
    int failed = s->io.write_file(s->io.context, temp, header, n_header, j->block.payload, j->block.n_payload);
    free(header);
    if (!failed) { /* a failed fsync may have lost data already: the file is discarded, never synced again */
        failed = s->io.sync_file(s->io.context, temp);
    }
    if (!failed) {
        failed = s->io.rename(s->io.context, temp, path);
    }
    if (failed) {
        s->io.unlink(s->io.context, temp);
        return failed;
    }
    return s->io.sync_dir(s->io.context, s->dir);
}

static void *writer_main(void *argument)
{
    kv_store *s = argument;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->first && !s->stop) {
            pthread_cond_wait(&s->work, &s->lock);
        }
        job *j = s->first;
        if (!j) {
            break; /* stopped and drained */
        }
        s->first = j->next;
        if (!s->first) {
            s->last = NULL;
        }
        uint64_t n_file = store_header_bytes(&j->block) + j->block.n_payload;
        bool fits = n_file <= s->bytes_budget;
        if (fits) {
            make_room(s, n_file);
        }
        s->busy = true;
        pthread_mutex_unlock(&s->lock);
        int failed = fits ? write_block(s, j) : EFBIG;
        pthread_mutex_lock(&s->lock);
        s->busy = false;
        s->queue_bytes -= j->n_data;
        if (failed) {
            s->stats.n_write_errors++;
            s->stats.last_errno = failed;
        } else {
            s->stats.n_written++;
            catalogue_add(s, j->block.fingerprint, j->block.hash, n_file, block_groups(&j->block));
        }
        free(j);
        if (!s->first) {
            pthread_cond_broadcast(&s->idle);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- opening ------------------------------------------------------------------------------------------------------
 */

static bool parse_hash(const char *text, kv_hash *out)
{
    char digits[17] = {0}, *end;
    memcpy(digits, text, 16);
    out->high = strtoull(digits, &end, 16);
    if (end != digits + 16) {
        return false;
    }
    memcpy(digits, text + 16, 16);
    out->low = strtoull(digits, &end, 16);
    return end == digits + 16;
}

typedef struct found {
    kv_hash fingerprint, hash;
    uint64_t n_bytes;
    int64_t modified_ns;
} found;

static int by_age(const void *a, const void *b)
{
    const found *x = a, *y = b;
    return (x->modified_ns > y->modified_ns) - (x->modified_ns < y->modified_ns);
}

/* Lists the directory into the catalogue, oldest first, and removes temporary files a crash left behind. */
static mlxr_status read_directory(kv_store *s, mlxr_error *error)
{
    DIR *dir = opendir(s->dir);
    if (!dir) {
        return error_set(error, MLXR_IO, "KV directory %s: %s", s->dir, strerror(errno));
    }
    found *list = NULL;
    size_t n = 0, cap = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        char path[PATH_BYTES];
        size_t length = strlen(d->d_name);
        found f = {0};
        struct stat info;
        bool named = length >= 65 && d->d_name[32] == '-' && parse_hash(d->d_name, &f.fingerprint) &&
                     parse_hash(d->d_name + 33, &f.hash);
        if (!named || (size_t)snprintf(path, sizeof path, "%s/%s", s->dir, d->d_name) >= sizeof path) {
            continue;
        }
        if (strcmp(d->d_name + 65, ".tmp") == 0) {
            s->io.unlink(s->io.context, path);
            continue;
        }
        if (strcmp(d->d_name + 65, ".kv") != 0 || stat(path, &info) != 0 || !S_ISREG(info.st_mode)) {
            continue;
        }
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            found *grown = realloc(list, cap * sizeof *list);
            if (!grown) {
                break; /* what is not listed is not found; it is only a cache */
            }
            list = grown;
        }
        f.n_bytes = (uint64_t)info.st_size;
        f.modified_ns = (int64_t)info.st_mtime;
        list[n++] = f;
    }
    closedir(dir);
    if (n) {
        qsort(list, n, sizeof *list, by_age);
    }
    for (size_t i = 0; i < n; i++) {
        catalogue_add(s, list[i].fingerprint, list[i].hash, list[i].n_bytes, 0);
    }
    free(list);
    make_room(s, 0);
    return MLXR_OK;
}

mlxr_status kv_store_open(kv_store **out, const kv_store_options *o, mlxr_error *error)
{
    if (strlen(o->dir) > PATH_BYTES - 128) {
        return error_set(error, MLXR_ARG, "KV directory: the path of %zu bytes is too long", strlen(o->dir));
    }
    if (mkdir(o->dir, 0700) != 0 && errno != EEXIST) {
        return error_set(error, MLXR_IO, "KV directory %s: cannot make it: %s", o->dir, strerror(errno));
    }
    kv_store *s = calloc(1, sizeof *s);
    char *dir = strdup(o->dir);
    if (!s || !dir) {
        free(s);
        free(dir);
        return error_nomem(error, "KV store", sizeof *s);
    }
    s->dir = dir;
    s->bytes_budget = o->bytes_budget;
    s->queue_bytes_max = o->queue_bytes_max ? o->queue_bytes_max : QUEUE_BYTES_DEFAULT;
    s->io = o->io ? *o->io : store_io_system;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    mlxr_status status = read_directory(s, error);
    int failed = status == MLXR_OK ? pthread_create(&s->writer, NULL, writer_main, s) : 0;
    if (failed) {
        status = error_set(error, MLXR_NOMEM, "KV store: cannot start its writer: %s", strerror(failed));
    }
    if (status != MLXR_OK) {
        while (s->oldest) {
            catalogue_remove(s, s->oldest);
        }
        free(s->dir);
        free(s);
        return status;
    }
    *out = s;
    return MLXR_OK;
}

void kv_store_close(kv_store **pointer)
{
    kv_store *s = *pointer;
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->writer, NULL);
    while (s->oldest) {
        catalogue_remove(s, s->oldest);
    }
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
    *pointer = NULL;
}

/* ---- put and get ----------------------------------------------------------------------------------------------------
 */

/* The pages of a block that wait to be written, of the newest job: it will replace what went before. */
static uint32_t groups_queued(const kv_store *s, kv_hash fingerprint, kv_hash hash)
{
    uint32_t groups = 0;
    for (const job *j = s->first; j; j = j->next) {
        if (j->block.hash.low == hash.low && j->block.hash.high == hash.high &&
            j->block.fingerprint.low == fingerprint.low && j->block.fingerprint.high == fingerprint.high) {
            groups = block_groups(&j->block);
        }
    }
    return groups;
}

/* A job with copies of the prefix's tokens and of the node's pages. */
static job *job_new(kv_hash fingerprint, const prefix_index *index, const kv_node *node)
{
    uint32_t n_tokens = (node->depth + 1) * index->page_tokens;
    size_t n_payload = 0;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        n_payload += node->pages[g] != KV_PAGE_NONE ? index->pools[g]->layout.page_bytes : 0;
    }
    size_t n_data = n_tokens * sizeof(int32_t) + n_payload;
    job *j = calloc(1, sizeof *j + n_data);
    if (!j) {
        return NULL;
    }
    j->n_data = n_data;
    j->block = (store_block){.fingerprint = fingerprint,
                             .hash = node->hash,
                             .n_groups = index->n_groups,
                             .page_tokens = index->page_tokens,
                             .n_tokens = n_tokens,
                             .n_payload = n_payload};
    for (const kv_node *n = node; n; n = n->parent) {
        memcpy(j->data + (size_t)n->depth * index->page_tokens * sizeof(int32_t), n->tokens,
               index->page_tokens * sizeof(int32_t));
    }
    uint8_t *payload = j->data + n_tokens * sizeof(int32_t);
    j->block.tokens = (const int32_t *)(const void *)j->data;
    j->block.payload = payload;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        const kv_pool *pool = index->pools[g];
        j->block.layouts[g] = pool->layout;
        j->block.present[g] = node->pages[g] != KV_PAGE_NONE;
        if (j->block.present[g]) {
            memcpy(payload, (const uint8_t *)pool->memory + node->pages[g] * pool->layout.page_bytes,
                   pool->layout.page_bytes);
            payload += pool->layout.page_bytes;
        }
    }
    return j;
}

void kv_store_put(kv_store *s, kv_hash fingerprint, const prefix_index *index, const kv_node *node)
{
    uint32_t wanted = 0, stored = kv_store_groups(s, fingerprint, node->hash, index->n_groups);
    for (uint32_t g = 0; g < index->n_groups; g++) {
        wanted |= (uint32_t)(node->pages[g] != KV_PAGE_NONE) << g;
    }
    pthread_mutex_lock(&s->lock);
    entry *e = catalogue_find(s, fingerprint, node->hash);
    if (e) { /* used again: it ages anew */
        order_renew(s, e);
    }
    uint32_t queued = groups_queued(s, fingerprint, node->hash);
    pthread_mutex_unlock(&s->lock);
    bool known = !(wanted & ~(queued ? queued : stored));
    job *j = known ? NULL : job_new(fingerprint, index, node);
    if (!j) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    if (s->queue_bytes + j->n_data > s->queue_bytes_max) {
        s->stats.n_dropped++;
        free(j);
    } else {
        s->queue_bytes += j->n_data;
        *(s->last ? &s->last->next : &s->first) = j;
        s->last = j;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
}

bool kv_store_has(kv_store *s, kv_hash fingerprint, kv_hash block)
{
    pthread_mutex_lock(&s->lock);
    bool has = catalogue_find(s, fingerprint, block) != NULL;
    pthread_mutex_unlock(&s->lock);
    return has;
}

uint32_t kv_store_groups(kv_store *s, kv_hash fingerprint, kv_hash block, uint32_t n_groups)
{
    pthread_mutex_lock(&s->lock);
    entry *e = catalogue_find(s, fingerprint, block);
    uint32_t groups = e ? e->groups : 0;
    pthread_mutex_unlock(&s->lock);
    if (!e || groups) {
        return groups;
    }
    char path[PATH_BYTES];
    uint8_t head[4096];
    size_t n_head = store_file_groups_bytes(n_groups);
    file_path(s, fingerprint, block, ".kv", path);
    if (n_head <= sizeof head && store_io_read_head(path, head, n_head)) {
        groups = store_file_groups(head, n_groups);
    }
    groups = groups ? groups : (1u << n_groups) - 1; /* damaged: whoever asks for it will find out, and remove it */
    pthread_mutex_lock(&s->lock);
    e = catalogue_find(s, fingerprint, block);
    if (e && !e->groups) {
        e->groups = groups;
    }
    pthread_mutex_unlock(&s->lock);
    return groups;
}

/* Copies the payload of a checked file into fresh pages; false if the budget has no room for all of them. */
static bool fill_pages(const store_block *b, const prefix_index *index, uint32_t groups, uint32_t *pages)
{
    const uint8_t *payload = b->payload;
    for (uint32_t g = 0; g < index->n_groups; g++) {
        pages[g] = KV_PAGE_NONE;
    }
    for (uint32_t g = 0; g < index->n_groups; g++) {
        kv_pool *pool = index->pools[g];
        if (!b->present[g]) {
            continue;
        }
        if (!(groups >> g & 1)) {
            payload += pool->layout.page_bytes;
            continue;
        }
        pages[g] = kv_pool_take(pool);
        if (pages[g] == KV_PAGE_NONE) {
            for (uint32_t undo = 0; undo < g; undo++) {
                if (pages[undo] != KV_PAGE_NONE) {
                    kv_pool_unref(index->pools[undo], pages[undo]);
                    pages[undo] = KV_PAGE_NONE;
                }
            }
            return false;
        }
        memcpy((uint8_t *)pool->memory + pages[g] * pool->layout.page_bytes, payload, pool->layout.page_bytes);
        payload += pool->layout.page_bytes;
    }
    return true;
}

/* Forgets a file that is gone or failed a check. */
static void reject(kv_store *s, kv_hash fingerprint, kv_hash block, const char *path)
{
    pthread_mutex_lock(&s->lock);
    entry *e = catalogue_find(s, fingerprint, block);
    if (e) {
        catalogue_remove(s, e);
        s->io.unlink(s->io.context, path);
    }
    s->stats.n_rejected++;
    s->stats.n_misses++;
    pthread_mutex_unlock(&s->lock);
}

bool kv_store_get(kv_store *s, kv_hash fingerprint, kv_hash block, const prefix_index *index, const int32_t *tokens,
                  uint32_t n_tokens, uint32_t groups, uint32_t *pages)
{
    if (!kv_store_has(s, fingerprint, block)) {
        return false;
    }
    char path[PATH_BYTES];
    file_path(s, fingerprint, block, ".kv", path);
    store_block expected = {.fingerprint = fingerprint,
                            .hash = block,
                            .n_groups = index->n_groups,
                            .page_tokens = index->page_tokens,
                            .tokens = tokens,
                            .n_tokens = n_tokens};
    for (uint32_t g = 0; g < index->n_groups; g++) {
        expected.layouts[g] = index->pools[g]->layout;
    }
    /* Read, not mapped: a file that another process truncates must not fault. */
    char *file = NULL;
    size_t n_file = 0;
    if (file_read(path, SIZE_MAX / 2, &file, &n_file, NULL) != MLXR_OK ||
        !store_file_check((const uint8_t *)file, n_file, &expected)) {
        free(file);
        reject(s, fingerprint, block, path);
        return false;
    }
    bool filled = fill_pages(&expected, index, groups, pages);
    free(file);
    pthread_mutex_lock(&s->lock);
    entry *e = catalogue_find(s, fingerprint, block);
    if (e) {
        order_renew(s, e);
    }
    *(filled ? &s->stats.n_hits : &s->stats.n_misses) += 1;
    pthread_mutex_unlock(&s->lock);
    return filled;
}

void kv_store_flush(kv_store *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->first || s->busy) {
        pthread_cond_wait(&s->idle, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

kv_store_stats kv_store_stats_get(kv_store *s)
{
    pthread_mutex_lock(&s->lock);
    kv_store_stats stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}
