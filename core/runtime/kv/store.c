/*
 * KV store: the disk tier.
 * Owner: the engine. Lifetime: kv_store_open to kv_store_close.
 *
 *   put:  copy pages → queue ──writer thread──▶ temp file → fsync → rename → fsync(dir) → catalogue
 *   get:  catalogue → read file → check everything → pages;  a failed check: unlink, forget, miss
 *
 * The catalogue is what the directory listing says when the directory is claimed (or, without its lock, at open) plus
 * what was written since; the lock guards it and the queue. Files are only read by the caller's thread and only written
 * by the writer.
 */
#include "runtime/kv/store.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/kv/store_catalogue.h"
#include "runtime/kv/store_file.h"
#include "runtime/kv/store_io.h"

#define QUEUE_BYTES_DEFAULT ((uint64_t)256 << 20)
#define PATH_BYTES 4096u

typedef struct job job;
struct job {
    job *next;
    store_entry *entry; /* joins the catalogue when the file is there */
    store_block block;  /* tokens and payload point into data */
    size_t n_data;
    uint8_t data[];
};

typedef enum trouble { /* kinds of warnings waiting to be told */
                       TROUBLE_REMOVED = 1,
                       TROUBLE_CLAIM = 2,
                       TROUBLE_WRITE = 4,
                       TROUBLE_REJECTED = 8,
                       TROUBLE_DROPPED = 16,
} trouble;

struct kv_store {
    char *dir;
    uint64_t bytes_budget, queue_bytes_max;
    kv_store_io io;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    pthread_t writer;
    bool stop;
    bool writes;          /* `claim` is held; only the writer gives it up, only the caller's thread takes it */
    int claim;            /* the io's */
    job *first, *last;    /* waiting */
    const job *under_way; /* the writer's */
    uint64_t queue_bytes;
    store_catalogue files;
    kv_store_stats stats;
    unsigned troubles;
    int claim_errno, write_errno; /* told already, and not over */
};

static void file_path(const kv_store *s, kv_hash fingerprint, kv_hash hash, const char *suffix, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 "%s", s->dir,
             fingerprint.high, fingerprint.low, hash.high, hash.low, suffix);
}

/* ---- trouble (lock held) ----------------------------------------------------------------------------------------- */

/* Counts an event that is told when its number doubles. */
static void count_trouble(kv_store *s, uint64_t *counter, trouble kind)
{
    *counter += 1;
    if ((*counter & (*counter - 1)) == 0) {
        s->troubles |= kind;
    }
}

static void write_failed(kv_store *s, int failed)
{
    s->stats.n_write_errors++;
    s->stats.last_errno = failed;
    if (s->write_errno != failed) {
        s->write_errno = failed;
        s->troubles |= TROUBLE_WRITE;
    }
}

static void tell(const kv_store *s, trouble kind, char *out, size_t n)
{
    const kv_store_stats *stats = &s->stats;
    switch (kind) {
    case TROUBLE_CLAIM:
        if (s->claim_errno == EWOULDBLOCK) {
            snprintf(out, n, "KV directory %s: another process writes to it; its blocks are used, none are added",
                     s->dir);
        } else {
            snprintf(out, n, "KV directory %s: cannot be written to (%s); its blocks are used, none are added", s->dir,
                     strerror(s->claim_errno));
        }
        break;
    case TROUBLE_REMOVED:
        snprintf(out, n, "KV directory %s: was removed or replaced; what it held is computed again", s->dir);
        break;
    case TROUBLE_WRITE:
        snprintf(out, n,
                 "KV directory %s: cannot write a block (%s), %llu times so far; it is computed again if needed",
                 s->dir, strerror(stats->last_errno), (unsigned long long)stats->n_write_errors);
        break;
    case TROUBLE_REJECTED:
        snprintf(out, n, "KV directory %s: %llu damaged files so far; their blocks are computed again", s->dir,
                 (unsigned long long)stats->n_rejected);
        break;
    case TROUBLE_DROPPED:
        snprintf(out, n, "KV directory %s: slower than eviction; %llu blocks were not written so far", s->dir,
                 (unsigned long long)stats->n_dropped);
        break;
    }
}

bool kv_store_warning(kv_store *s, char *out, size_t n)
{
    pthread_mutex_lock(&s->lock);
    unsigned waiting = s->troubles, newest = waiting & ~(waiting - 1);
    if (newest) {
        s->troubles = waiting & ~newest;
        tell(s, (trouble)newest, out, n);
    }
    pthread_mutex_unlock(&s->lock);
    return newest != 0;
}

/* ---- the directory (lock held) ----------------------------------------------------------------------------------- */

/* Removes the oldest files until `n_more` bytes fit the budget. Returns 0, or why a file could not be removed. */
static int make_room(kv_store *s, uint64_t n_more)
{
    while (s->files.oldest && s->files.bytes + n_more > s->bytes_budget) {
        char path[PATH_BYTES];
        file_path(s, s->files.oldest->fingerprint, s->files.oldest->hash, ".kv", path);
        int failed = s->io.unlink(s->io.context, path);
        if (failed && failed != ENOENT) {
            return failed; /* it still takes its bytes */
        }
        catalogue_remove(&s->files, s->files.oldest);
    }
    return 0;
}

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
    store_entry *entry;
    int64_t modified_ns;
} found;

typedef struct listing {
    kv_store *store;
    found *list;
    size_t n, cap;
    bool out_of_memory;
} listing;

static int by_age(const void *a, const void *b)
{
    const found *x = a, *y = b;
    return (x->modified_ns > y->modified_ns) - (x->modified_ns < y->modified_ns);
}

static void see_file(void *context, const char *name, uint64_t n_bytes, int64_t modified_ns)
{
    listing *l = context;
    kv_hash fingerprint, hash;
    if (strlen(name) < 65 || name[32] != '-' || !parse_hash(name, &fingerprint) || !parse_hash(name + 33, &hash)) {
        return;
    }
    if (strcmp(name + 65, ".tmp") == 0 && l->store->writes) { /* a crash left it behind */
        char path[PATH_BYTES];
        file_path(l->store, fingerprint, hash, ".tmp", path);
        l->store->io.unlink(l->store->io.context, path);
    }
    if (strcmp(name + 65, ".kv") != 0 || l->out_of_memory) {
        return;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        found *grown = realloc(l->list, cap * sizeof *grown);
        if (!grown) {
            l->out_of_memory = true;
            return;
        }
        l->list = grown;
        l->cap = cap;
    }
    store_entry *e = calloc(1, sizeof *e);
    if (!e) {
        l->out_of_memory = true;
        return;
    }
    *e = (store_entry){.fingerprint = fingerprint, .hash = hash, .n_bytes = n_bytes};
    l->list[l->n++] = (found){e, modified_ns};
}

/* Lists the directory into the catalogue, oldest first; its writer also clears away what a crash left behind and what
 * is beyond the budget. All of it or nothing: an unlisted file would be outside the budget. */
static int read_directory(kv_store *s)
{
    listing l = {.store = s};
    int failed = s->io.list(s->io.context, s->dir, see_file, &l);
    failed = failed ? failed : l.out_of_memory ? ENOMEM : 0;
    if (!failed) {
        catalogue_clear(&s->files);
    }
    if (l.n) {
        qsort(l.list, l.n, sizeof *l.list, by_age);
    }
    for (size_t i = 0; i < l.n; i++) {
        if (failed) {
            free(l.list[i].entry);
        } else {
            catalogue_add(&s->files, l.list[i].entry);
        }
    }
    free(l.list);
    int stuck = !failed && s->writes ? make_room(s, 0) : 0;
    if (stuck) {
        write_failed(s, stuck);
    }
    return failed;
}

/* Becomes the writer of the directory, if it can be written and nobody else does. Returns 0 or the reason. */
static int claim_directory(kv_store *s)
{
    int failed = s->io.claim(s->io.context, s->dir, &s->claim);
    if (!failed) {
        s->writes = true;
        failed = read_directory(s);
        if (failed) {
            s->writes = false;
            s->io.disclaim(s->io.context, s->claim);
        }
    }
    if (failed && failed != s->claim_errno) {
        s->troubles |= TROUBLE_CLAIM;
    }
    s->claim_errno = failed;
    return failed;
}

/* The directory that was claimed is gone, and with it all files. */
static void lose_claim(kv_store *s)
{
    s->io.disclaim(s->io.context, s->claim);
    s->writes = false;
    catalogue_clear(&s->files);
    s->troubles |= TROUBLE_REMOVED;
    while (s->first) {
        job *j = s->first;
        s->first = j->next;
        s->queue_bytes -= j->n_data;
        s->stats.n_dropped++;
        free(j->entry);
        free(j);
    }
    s->last = NULL;
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

/* Returns 0 once the block is durable under its name; else an errno value, with nothing left behind: *gone tells
 * whether an older file of that name went too. */
static int write_block(kv_store *s, const job *j, bool *gone)
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
    failed = s->io.sync_dir(s->io.context, s->dir);
    if (failed) {
        *gone = s->io.unlink(s->io.context, path) == 0;
    }
    return failed;
}

/* Writes one job's file; called with the lock held, which is let go meanwhile. */
static void run_job(kv_store *s, job *j)
{
    uint64_t n_file = j->entry->n_bytes;
    s->under_way = j;
    pthread_mutex_unlock(&s->lock);
    bool gone = false, lost = s->io.check_claim(s->io.context, s->dir, s->claim) != 0;
    pthread_mutex_lock(&s->lock);
    int failed = lost ? ENOENT : n_file > s->bytes_budget ? EFBIG : make_room(s, n_file);
    if (!failed) {
        pthread_mutex_unlock(&s->lock);
        failed = write_block(s, j, &gone);
        pthread_mutex_lock(&s->lock);
    }
    s->under_way = NULL;
    s->queue_bytes -= j->n_data;
    store_entry *old = gone ? catalogue_find(&s->files, j->block.fingerprint, j->block.hash) : NULL;
    if (old) {
        catalogue_remove(&s->files, old);
    }
    if (!failed) {
        s->stats.n_written++;
        s->write_errno = 0;
        catalogue_add(&s->files, j->entry);
    } else if (lost) {
        s->stats.n_dropped++;
    } else {
        write_failed(s, failed);
    }
    free(failed ? j->entry : NULL);
    free(j);
    if (lost) {
        lose_claim(s);
    }
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
        run_job(s, j);
        if (!s->first) {
            pthread_cond_broadcast(&s->idle);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void store_free(kv_store *s)
{
    if (s->writes) {
        s->io.disclaim(s->io.context, s->claim);
    }
    catalogue_clear(&s->files);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
}

mlxr_status kv_store_open(kv_store **out, const kv_store_options *o, mlxr_error *error)
{
    if (strlen(o->dir) > PATH_BYTES - 128) {
        return error_set(error, MLXR_ARG, "KV directory: the path of %zu bytes is too long", strlen(o->dir));
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
    mlxr_status status = MLXR_OK;
    int unclaimed = claim_directory(s);
    if (unclaimed && read_directory(s) != 0) {
        status = unclaimed == ENOMEM ? error_nomem(error, "list of KV files", sizeof(found))
                                     : error_set(error, MLXR_IO, "KV directory %s: cannot be made or read: %s", s->dir,
                                                 strerror(unclaimed));
    }
    int failed = status == MLXR_OK ? pthread_create(&s->writer, NULL, writer_main, s) : 0;
    if (failed) {
        status = error_set(error, MLXR_NOMEM, "KV store: cannot start its writer: %s", strerror(failed));
    }
    if (status != MLXR_OK) {
        store_free(s);
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
    store_free(s);
    *pointer = NULL;
}

/* ---- put and get ------------------------------------------------------------------------------------------------- */

static bool is_of(const job *j, kv_hash fingerprint, kv_hash hash)
{
    const store_block *b = &j->block;
    return b->hash.low == hash.low && b->hash.high == hash.high && b->fingerprint.low == fingerprint.low &&
           b->fingerprint.high == fingerprint.high;
}

/* The pages of a block on their way to the disk, of the newest job: it will replace what went before. */
static uint32_t groups_queued(const kv_store *s, kv_hash fingerprint, kv_hash hash)
{
    uint32_t groups = s->under_way && is_of(s->under_way, fingerprint, hash) ? block_groups(&s->under_way->block) : 0;
    for (const job *j = s->first; j; j = j->next) {
        groups = is_of(j, fingerprint, hash) ? block_groups(&j->block) : groups;
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
    store_entry *e = calloc(1, sizeof *e);
    if (!j || !e) {
        free(j);
        free(e);
        return NULL;
    }
    j->n_data = n_data;
    j->entry = e;
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
    *e = (store_entry){.fingerprint = fingerprint,
                       .hash = node->hash,
                       .n_bytes = store_header_bytes(&j->block) + n_payload,
                       .groups = block_groups(&j->block)};
    return j;
}

void kv_store_put(kv_store *s, kv_hash fingerprint, const prefix_index *index, const kv_node *node)
{
    pthread_mutex_lock(&s->lock);
    bool writes = s->writes || claim_directory(s) == 0;
    pthread_mutex_unlock(&s->lock);
    if (!writes) {
        return;
    }
    uint32_t wanted = 0, stored = kv_store_groups(s, fingerprint, node->hash, index->n_groups);
    for (uint32_t g = 0; g < index->n_groups; g++) {
        wanted |= (uint32_t)(node->pages[g] != KV_PAGE_NONE) << g;
    }
    pthread_mutex_lock(&s->lock);
    store_entry *e = catalogue_find(&s->files, fingerprint, node->hash);
    if (e) { /* used again: it ages anew */
        catalogue_renew(&s->files, e);
    }
    uint32_t queued = groups_queued(s, fingerprint, node->hash);
    pthread_mutex_unlock(&s->lock);
    bool known = !(wanted & ~(queued ? queued : stored)); /* nothing wanted: a block without pages */
    job *j = known ? NULL : job_new(fingerprint, index, node);
    if (!j) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    if (s->queue_bytes + j->n_data > s->queue_bytes_max || !s->writes) {
        count_trouble(s, &s->stats.n_dropped, TROUBLE_DROPPED);
        free(j->entry);
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
    const store_entry *e = catalogue_find(&s->files, fingerprint, block);
    bool has = e && !e->damaged;
    pthread_mutex_unlock(&s->lock);
    return has;
}

uint32_t kv_store_groups(kv_store *s, kv_hash fingerprint, kv_hash block, uint32_t n_groups)
{
    pthread_mutex_lock(&s->lock);
    store_entry *e = catalogue_find(&s->files, fingerprint, block);
    e = e && e->damaged ? NULL : e;
    uint32_t groups = e ? e->groups : 0;
    pthread_mutex_unlock(&s->lock);
    if (!e || groups) {
        return groups;
    }
    char path[PATH_BYTES];
    uint8_t head[4096];
    size_t n_head = store_file_groups_bytes(n_groups), n = 0;
    file_path(s, fingerprint, block, ".kv", path);
    if (n_head <= sizeof head && s->io.read_file(s->io.context, path, head, n_head, &n) == 0 && n == n_head) {
        groups = store_file_groups(head, n_groups);
    }
    groups = groups ? groups : (1u << n_groups) - 1; /* damaged: whoever asks for it will find out, and remove it */
    pthread_mutex_lock(&s->lock);
    e = catalogue_find(&s->files, fingerprint, block);
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

/* A file could not be read, or failed a check: what is damaged goes, what is gone is forgotten. Neither is looked for
 * again. A lack of memory or descriptors is no fault of the file's. */
static void miss(kv_store *s, kv_hash fingerprint, kv_hash block, const char *path, bool gone, bool damaged)
{
    pthread_mutex_lock(&s->lock);
    s->stats.n_misses++;
    if (damaged) {
        count_trouble(s, &s->stats.n_rejected, TROUBLE_REJECTED);
    }
    store_entry *e = gone || damaged ? catalogue_find(&s->files, fingerprint, block) : NULL;
    if (e && damaged && s->writes && s->io.unlink(s->io.context, path) != 0) {
        e->damaged = true; /* it still takes its bytes */
    } else if (e) {
        catalogue_remove(&s->files, e);
    }
    pthread_mutex_unlock(&s->lock);
}

/* The whole file of a block, checked against what is expected; NULL: a miss. The caller frees it. */
static uint8_t *read_block(kv_store *s, store_block *expected)
{
    char path[PATH_BYTES];
    file_path(s, expected->fingerprint, expected->hash, ".kv", path);
    size_t cap = 1, n_file = 0; /* one byte more than it may have */
    for (uint32_t g = 0; g < expected->n_groups; g++) {
        expected->present[g] = true;
        cap += expected->layouts[g].page_bytes;
    }
    cap += store_header_bytes(expected);
    uint8_t *file = malloc(cap);
    int failed = file ? s->io.read_file(s->io.context, path, file, cap, &n_file) : ENOMEM;
    if (!failed && store_file_check(file, n_file, expected)) {
        return file;
    }
    free(file);
    miss(s, expected->fingerprint, expected->hash, path, failed == ENOENT, !failed || failed == EIO);
    return NULL;
}

bool kv_store_get(kv_store *s, kv_hash fingerprint, kv_hash block, const prefix_index *index, const int32_t *tokens,
                  uint32_t n_tokens, uint32_t groups, uint32_t *pages)
{
    if (!kv_store_has(s, fingerprint, block)) {
        return false;
    }
    store_block expected = {.fingerprint = fingerprint,
                            .hash = block,
                            .n_groups = index->n_groups,
                            .page_tokens = index->page_tokens,
                            .tokens = tokens,
                            .n_tokens = n_tokens};
    for (uint32_t g = 0; g < index->n_groups; g++) {
        expected.layouts[g] = index->pools[g]->layout;
    }
    uint8_t *file = read_block(s, &expected);
    if (!file) {
        return false;
    }
    bool filled = fill_pages(&expected, index, groups, pages);
    free(file);
    pthread_mutex_lock(&s->lock);
    store_entry *e = catalogue_find(&s->files, fingerprint, block);
    if (e) {
        e->groups = block_groups(&expected);
        catalogue_renew(&s->files, e);
    }
    *(filled ? &s->stats.n_hits : &s->stats.n_misses) += 1;
    pthread_mutex_unlock(&s->lock);
    return filled;
}

void kv_store_flush(kv_store *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->first || s->under_way) {
        pthread_cond_wait(&s->idle, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

kv_store_stats kv_store_stats_get(kv_store *s)
{
    pthread_mutex_lock(&s->lock);
    kv_store_stats stats = s->stats;
    stats.n_files = s->files.n_files;
    stats.bytes = s->files.bytes;
    stats.writes = s->writes;
    pthread_mutex_unlock(&s->lock);
    return stats;
}
