/*
 * One file from a URL into the store.
 * Owner: the pull. Lifetime: the call.
 */
#include "registry/download.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "registry/digest.h"
#include "registry/disk.h"

#define PARALLEL_MAX 16u
#define PIECES_MAX ((uint64_t)1 << 20)
#define DISK_MARGIN ((uint64_t)16 << 20) /* left to others */

/* The beginning of a state file; a byte for each piece follows, 1 where it is there. */
typedef struct state_head {
    char magic[16];
    uint64_t n_bytes, piece_bytes;
    char etag[160];
    uint8_t check[32]; /* SHA-256 of what is above */
} state_head;

static const char state_magic[16] = "MLXR partial 1\n";

typedef struct download download;

typedef struct slot { /* one request under way */
    fetch fetch;
    download *owner;
    uint64_t piece, at, end; /* bytes [at, end) are still to come */
    bool used, waiting;      /* waiting: for its next attempt, at start_ms */
    uint64_t start_ms;
} slot;

struct download {
    registry *r;
    transfer *t;
    const download_request *request;
    char path[REGISTRY_PATH_MAX], state_path[REGISTRY_PATH_MAX], etag[160];
    int fd, state_fd;
    uint64_t n_bytes, piece_bytes, n_pieces; /* n_bytes UINT64_MAX: not known yet */
    uint8_t *have;                           /* [n_pieces] */
    uint64_t n_done;                         /* bytes that are there, of pieces under way too */
    bool ranges, whole, resumed;             /* ranges: the server has shown that it knows them */
    bool changed, again;                     /* the server's file is another; all should be fetched anew */
    unsigned n_failures;                     /* one after the other */
    slot slots[PARALLEL_MAX];
    digest_state *digest;
    uint64_t n_hashed;
    char *buffer;
};

enum { BUFFER_BYTES = 1 << 20 };

/* ---- the state file ---------------------------------------------------------------------------------------------- */

static uint64_t piece_end(const download *d, uint64_t piece)
{
    uint64_t end = (piece + 1) * d->piece_bytes;
    return end < d->n_bytes ? end : d->n_bytes;
}

static mlxr_status allocate_pieces(download *d, mlxr_error *error)
{
    while (d->n_bytes / d->piece_bytes >= PIECES_MAX) {
        d->piece_bytes *= 2;
    }
    d->n_pieces = (d->n_bytes + d->piece_bytes - 1) / d->piece_bytes;
    free(d->have);
    d->have = calloc(d->n_pieces ? d->n_pieces : 1, 1);
    return d->have ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status write_state(download *d, mlxr_error *error)
{
    state_head head = {.n_bytes = d->n_bytes, .piece_bytes = d->piece_bytes};
    memcpy(head.magic, state_magic, sizeof head.magic);
    snprintf(head.etag, sizeof head.etag, "%s", d->etag);
    if (!digest_raw(&head, offsetof(state_head, check), head.check)) {
        return registry_fail_nomem(error);
    }
    mlxr_status status = disk_set_size(d->state_fd, 0, d->state_path, error);
    status = status == MLXR_OK ? disk_write(d->state_fd, &head, sizeof head, 0, d->state_path, error) : status;
    return status == MLXR_OK && d->n_pieces
               ? disk_write(d->state_fd, d->have, d->n_pieces, sizeof head, d->state_path, error)
               : status;
}

/* A piece is there. */
static mlxr_status note_piece(download *d, uint64_t piece, mlxr_error *error)
{
    mlxr_status status = d->request->digest ? MLXR_OK : disk_sync(d->fd, d->path, error);
    d->have[piece] = 1;
    return status == MLXR_OK && d->ranges
               ? disk_write(d->state_fd, &d->have[piece], 1, sizeof(state_head) + piece, d->state_path, error)
               : status;
}

/* What an earlier download left behind, if it is of this file; else nothing. */
static mlxr_status read_state(download *d, mlxr_error *error)
{
    state_head head;
    uint8_t check[32];
    struct stat info, file;
    if (fstat(d->state_fd, &info) != 0 || fstat(d->fd, &file) != 0 || info.st_size < (off_t)sizeof head ||
        disk_read(d->state_fd, &head, sizeof head, 0, d->state_path, NULL) != MLXR_OK ||
        memcmp(head.magic, state_magic, sizeof head.magic) != 0 ||
        !digest_raw(&head, offsetof(state_head, check), check) || memcmp(check, head.check, sizeof check) != 0 ||
        (d->n_bytes != UINT64_MAX && head.n_bytes != d->n_bytes) || head.n_bytes > d->request->bytes_max ||
        head.piece_bytes == 0 || (uint64_t)file.st_size != head.n_bytes) {
        return MLXR_OK;
    }
    head.etag[sizeof head.etag - 1] = '\0';
    if (!d->request->digest && !head.etag[0]) {
        return MLXR_OK; /* nothing tells that the server's file is still the same */
    }
    uint64_t n_bytes = d->n_bytes, piece_bytes = d->piece_bytes;
    d->n_bytes = head.n_bytes;
    d->piece_bytes = head.piece_bytes;
    mlxr_status status = allocate_pieces(d, error);
    if (status != MLXR_OK || (uint64_t)info.st_size != sizeof head + d->n_pieces ||
        disk_read(d->state_fd, d->have, d->n_pieces, sizeof head, d->state_path, NULL) != MLXR_OK) {
        d->n_bytes = n_bytes;
        d->piece_bytes = piece_bytes;
        d->n_pieces = 0;
        return status;
    }
    memcpy(d->etag, head.etag, sizeof d->etag);
    for (uint64_t i = 0; i < d->n_pieces; i++) {
        d->have[i] = d->have[i] == 1;
        d->n_done += d->have[i] ? piece_end(d, i) - i * d->piece_bytes : 0;
    }
    d->resumed = d->n_done > 0;
    return MLXR_OK;
}

/* Forgets all that is there, and begins again. */
static mlxr_status begin_anew(download *d, mlxr_error *error)
{
    d->n_done = d->n_hashed = 0;
    d->resumed = false;
    digest_end(&d->digest, NULL);
    d->digest = digest_begin();
    if (!d->digest) {
        return registry_fail_nomem(error);
    }
    mlxr_status status = disk_set_size(d->fd, 0, d->path, error);
    if (status == MLXR_OK && d->n_bytes != UINT64_MAX) {
        status = disk_set_size(d->fd, d->n_bytes, d->path, error);
        status = status == MLXR_OK ? allocate_pieces(d, error) : status;
        status = status == MLXR_OK ? write_state(d, error) : status;
    }
    return status;
}

/* ---- bytes that come --------------------------------------------------------------------------------------------- */

static bool stop_slot(slot *s, fetch_result result, mlxr_status status, const char *what)
{
    s->fetch.status = daemon_error(&s->fetch.error, status, "%s: %s", s->fetch.host, what);
    s->fetch.result = result;
    return false;
}

/* The size has just been learned. */
static bool learn_size(slot *s, uint64_t n_bytes)
{
    download *d = s->owner;
    if (n_bytes > d->request->bytes_max) {
        return stop_slot(s, FETCH_FAILED, MLXR_LIMIT, "the file is larger than it may be");
    }
    d->n_bytes = n_bytes;
    uint64_t available = disk_free_bytes(d->r->store);
    if (available < DISK_MARGIN || available - DISK_MARGIN < n_bytes) {
        return stop_slot(s, FETCH_FAILED, MLXR_IO, "the file does not fit on the disk");
    }
    snprintf(d->etag, sizeof d->etag, "%s", strncmp(s->fetch.etag, "W/", 2) == 0 ? "" : s->fetch.etag);
    mlxr_status status = allocate_pieces(d, &s->fetch.error);
    status = status == MLXR_OK ? disk_set_size(d->fd, n_bytes, d->path, &s->fetch.error) : status;
    if (status != MLXR_OK) {
        s->fetch.status = status;
        s->fetch.result = FETCH_FAILED;
        return false;
    }
    return true;
}

/* The first bytes of an answer to a request for a range. */
static bool accept_range(slot *s)
{
    download *d = s->owner;
    fetch *f = &s->fetch;
    if (!f->has_range || f->range_first != s->at || f->range_total == UINT64_MAX ||
        (d->n_bytes != UINT64_MAX && f->range_total != d->n_bytes)) {
        return stop_slot(s, FETCH_FAILED, MLXR_FORMAT, "the server sends another range than it was asked for");
    }
    if (d->n_bytes == UINT64_MAX && !learn_size(s, f->range_total)) {
        return false;
    }
    s->end = s->end < d->n_bytes ? s->end : d->n_bytes;
    if (!d->ranges) {
        d->ranges = true;
        if (!d->resumed && write_state(d, &f->error) != MLXR_OK) {
            f->status = f->error.status;
            f->result = FETCH_FAILED;
            return false;
        }
    }
    return true;
}

/* The first bytes of an answer with the whole file. */
static bool accept_whole(slot *s)
{
    download *d = s->owner;
    fetch *f = &s->fetch;
    if (d->ranges || d->resumed || s->piece != 0 || s->at != 0) { /* it knew ranges before: the file is another one */
        d->changed = true;
        return stop_slot(s, FETCH_RETRY, MLXR_IO, "the file has changed on the server, or it knows no ranges any more");
    }
    d->whole = true;
    if (f->has_length && d->n_bytes == UINT64_MAX && !learn_size(s, f->length)) {
        return false;
    }
    if (f->has_length && f->length != d->n_bytes) {
        return stop_slot(s, FETCH_FAILED, MLXR_FORMAT, "the file has another size than the manifest says");
    }
    s->end = d->n_bytes != UINT64_MAX ? d->n_bytes : d->request->bytes_max;
    return true;
}

static bool check_magic(slot *s, const char *data, size_t n)
{
    const char *magic = s->owner->request->magic;
    size_t n_magic = magic ? strlen(magic) : 0;
    if (s->at == 0 && n_magic && n >= n_magic && memcmp(data, magic, n_magic) != 0) {
        return stop_slot(s, FETCH_FAILED, MLXR_FORMAT, "what comes is no model file");
    }
    return true;
}

/* Large pages that begin within the next n bytes and end within what the slot fetches, of which nothing is there yet:
 * what comes in small pieces lies in them. */
static void begin_pages(const slot *s, size_t n)
{
    uint64_t page = (s->at + MLXR_FILE_LARGE_PAGE - 1) / MLXR_FILE_LARGE_PAGE * MLXR_FILE_LARGE_PAGE;
    while (s->owner->n_bytes != UINT64_MAX && page - s->at < n && page + MLXR_FILE_LARGE_PAGE <= s->end) {
        mlxr_file_begin_large_page(s->owner->fd, page);
        page += MLXR_FILE_LARGE_PAGE;
    }
}

static bool on_bytes(fetch *f, const char *data, size_t n)
{
    slot *s = f->user;
    download *d = s->owner;
    if (f->n_body == n && !(f->code == 206 ? accept_range(s) : accept_whole(s))) {
        return false;
    }
    if (n > s->end - s->at) {
        return stop_slot(s, FETCH_FAILED, MLXR_LIMIT, "the server sends more bytes than there should be");
    }
    if (!check_magic(s, data, n)) {
        return false;
    }
    begin_pages(s, n);
    if (disk_write(d->fd, data, n, s->at, d->path, &f->error) != MLXR_OK) {
        f->status = f->error.status;
        f->result = FETCH_FAILED;
        return false;
    }
    s->at += n;
    d->n_done += n;
    d->n_failures = 0;
    return true;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static void start_slot(slot *s, download *d, uint64_t piece, uint64_t at, uint64_t end)
{
    s->used = true;
    s->waiting = false;
    s->owner = d;
    s->piece = piece;
    s->at = at;
    s->end = end;
    s->fetch = (fetch){.owner = d->t,
                       .begin_url = d->request->url,
                       .bearer = d->request->bearer,
                       .from = at,
                       .to = end,
                       .if_range = d->etag[0] && !d->request->digest ? d->etag : NULL,
                       .sink = on_bytes,
                       .user = s};
    fetch_start(&s->fetch);
}

static bool under_way(const download *d, uint64_t piece)
{
    for (size_t i = 0; i < PARALLEL_MAX; i++) {
        if (d->slots[i].used && d->slots[i].piece == piece) {
            return true;
        }
    }
    return false;
}

/* The next piece nobody fetches; n_pieces: none. */
static uint64_t next_piece(const download *d)
{
    uint64_t piece = 0;
    while (piece < d->n_pieces && (d->have[piece] || under_way(d, piece))) {
        piece++;
    }
    return piece;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Gives idle slots something to do. Until the server has answered once, there is one request. */
static void fill_slots(download *d)
{
    uint32_t n = d->request->n_parallel ? d->request->n_parallel : 4;
    n = n < PARALLEL_MAX ? n : PARALLEL_MAX;
    for (size_t i = 0; i < PARALLEL_MAX; i++) {
        slot *s = &d->slots[i];
        if (s->used && s->waiting && now_ms() >= s->start_ms) {
            start_slot(s, d, s->piece, s->at, s->end);
        }
    }
    if (d->n_pieces == 0) {
        if (!d->slots[0].used) {
            start_slot(&d->slots[0], d, 0, 0, d->n_bytes == UINT64_MAX ? d->piece_bytes : d->n_bytes);
        }
        return;
    }
    for (size_t i = 0; i < (d->ranges ? n : 1) && !d->whole; i++) {
        uint64_t piece = d->slots[i].used ? d->n_pieces : next_piece(d);
        if (piece < d->n_pieces) {
            start_slot(&d->slots[i], d, piece, piece * d->piece_bytes, piece_end(d, piece));
        }
    }
}

/* Hashes what is there from the beginning, while the rest is coming. */
static mlxr_status hash_on(download *d, uint64_t upto, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    while (d->n_hashed < upto && status == MLXR_OK) {
        uint64_t left = upto - d->n_hashed;
        size_t n = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
        status = disk_read(d->fd, d->buffer, n, d->n_hashed, d->path, error);
        if (status == MLXR_OK && !digest_add(d->digest, d->buffer, n)) {
            status = registry_fail_nomem(error);
        }
        d->n_hashed += status == MLXR_OK ? n : 0;
    }
    return status;
}

static mlxr_status hash_pieces(download *d, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    while (status == MLXR_OK && d->n_hashed < d->n_bytes && d->have[d->n_hashed / d->piece_bytes]) {
        status = hash_on(d, piece_end(d, d->n_hashed / d->piece_bytes), error);
    }
    return status;
}

/* A request ended before all of its bytes had come: when it is made again, and for which bytes. */
static mlxr_status plan_retry(download *d, slot *s, mlxr_error *error)
{
    if (d->n_failures++ == d->t->options.n_retries) {
        return daemon_error(error, MLXR_IO, "%s (after %u attempts)", s->fetch.error.text, d->n_failures);
    }
    s->waiting = true;
    s->start_ms = now_ms() + transfer_backoff_ms(d->t, &s->fetch, d->n_failures);
    if (d->changed &&
        !d->ranges) { /* what an earlier download left is of another file, or the server knows no ranges */
        d->changed = false;
        d->n_bytes = d->request->n_bytes;
        d->n_pieces = 0;
        d->etag[0] = '\0';
        s->piece = s->at = 0;
        s->end = d->n_bytes == UINT64_MAX ? d->piece_bytes : d->n_bytes;
        return begin_anew(d, error);
    }
    if (!d->ranges && !d->resumed) { /* without ranges, what came is worth nothing */
        d->whole = false;
        d->n_done = 0;
        s->end = d->n_bytes == UINT64_MAX ? d->piece_bytes : d->n_bytes;
        s->at = 0;
    }
    return MLXR_OK;
}

/* What came of a request. *done: the file is whole. */
static mlxr_status settle(download *d, slot *s, bool *done, mlxr_error *error)
{
    fetch *f = &s->fetch;
    bool complete = f->result == FETCH_DONE && (d->n_bytes == UINT64_MAX || s->at == d->n_bytes);
    if (f->result == FETCH_FAILED) {
        return daemon_error(error, f->status, "%s", f->error.text);
    }
    if (f->result == FETCH_DONE && f->n_body == 0 && f->code == 200) {
        return daemon_error(error, MLXR_FORMAT, "%s: the file is empty", f->host);
    }
    if (d->whole && complete) {
        d->n_bytes = s->at;
        s->used = false;
        *done = true;
        return MLXR_OK;
    }
    if (!d->whole && d->ranges && s->at == s->end) {
        s->used = false;
        return note_piece(d, s->piece, error);
    }
    if (f->result == FETCH_DONE) {
        daemon_error(&f->error, MLXR_IO, "%s: the answer ends too early, after %llu of %llu bytes", f->host,
                     (unsigned long long)s->at, (unsigned long long)s->end);
    }
    return plan_retry(d, s, error);
}

static bool all_there(const download *d)
{
    if (d->n_bytes == UINT64_MAX || (d->n_pieces == 0 && d->n_bytes != 0)) {
        return false;
    }
    for (uint64_t i = 0; i < d->n_pieces; i++) {
        if (!d->have[i]) {
            return false;
        }
    }
    return true;
}

static void tell(const download *d)
{
    if (d->request->progress) {
        d->request->progress(d->request->user, d->n_done, d->n_bytes);
    }
}

static mlxr_status fetch_all(download *d, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    bool done = all_there(d);
    tell(d);
    while (!done && status == MLXR_OK) {
        fill_slots(d);
        status = transfer_turn(d->t, 100, error);
        for (size_t i = 0; i < PARALLEL_MAX && status == MLXR_OK && !done; i++) {
            if (d->slots[i].used && !d->slots[i].waiting && d->slots[i].fetch.result != FETCH_RUNNING) {
                status = settle(d, &d->slots[i], &done, error);
            }
        }
        if (status == MLXR_OK && d->ranges && !d->whole) {
            status = hash_pieces(d, error);
        }
        done = done || (!d->whole && all_there(d));
        tell(d);
    }
    for (size_t i = 0; i < PARALLEL_MAX; i++) {
        if (d->slots[i].used) {
            fetch_stop(&d->slots[i].fetch);
            d->slots[i].used = false;
        }
    }
    return status;
}

/* ---- the whole of it --------------------------------------------------------------------------------------------- */

static void throw_away(download *d)
{
    disk_remove(d->state_path, NULL);
    disk_remove(d->path, NULL);
}

/* The file is whole: is it the right one? Then it becomes a blob. */
static mlxr_status verify_and_keep(download *d, char *digest, mlxr_error *error)
{
    mlxr_status status = hash_on(d, d->n_bytes, error);
    if (status != MLXR_OK) {
        return status;
    }
    if (!digest_end(&d->digest, digest)) {
        return registry_fail_nomem(error);
    }
    if (d->request->digest && strcmp(digest, d->request->digest) != 0) {
        throw_away(d);
        return daemon_error(error, MLXR_FORMAT, "what was downloaded has the digest %s, not %s: it was thrown away",
                            digest, d->request->digest);
    }
    status = blob_adopt(d->r, d->fd, d->path, digest, d->n_bytes, NULL, error);
    if (status == MLXR_OK) {
        disk_remove(d->state_path, NULL);
    }
    return status;
}

static mlxr_status open_partial(download *d, mlxr_error *error)
{
    char name[REGISTRY_DIGEST_MAX];
    uint8_t hash[32];
    if (d->request->digest) {
        snprintf(name, sizeof name, "sha256-%s", d->request->digest + 7);
    } else if (digest_raw(d->request->url, strlen(d->request->url), hash)) {
        memcpy(name, "url-", 4);
        digest_hex(hash, 32, name + 4);
    } else {
        return registry_fail_nomem(error);
    }
    snprintf(d->path, sizeof d->path, "%.3900s/partial/%s", d->r->store, name);
    snprintf(d->state_path, sizeof d->state_path, "%.4080s.state", d->path);
    mlxr_status status = disk_open(&d->fd, d->path, true, error);
    status = status == MLXR_OK ? disk_open(&d->state_fd, d->state_path, true, error) : status;
    if (status == MLXR_OK && flock(d->fd, LOCK_EX | LOCK_NB) != 0) {
        status = daemon_error(error, MLXR_IO, "%s is being downloaded already", d->request->url);
    }
    return status == MLXR_OK ? read_state(d, error) : status;
}

static mlxr_status check_room(const download *d, mlxr_error *error)
{
    uint64_t need = d->n_bytes == UINT64_MAX ? 0 : d->n_bytes - d->n_done, available = disk_free_bytes(d->r->store);
    if (available < DISK_MARGIN || available - DISK_MARGIN < need) {
        return daemon_error(error, MLXR_IO, "%llu bytes are needed in %s, %llu are free", (unsigned long long)need,
                            d->r->store, (unsigned long long)available);
    }
    return MLXR_OK;
}

static mlxr_status run(download *d, char *digest, mlxr_error *error)
{
    mlxr_status status = open_partial(d, error);
    status = status == MLXR_OK ? check_room(d, error) : status;
    if (status == MLXR_OK && !d->resumed) {
        status = begin_anew(d, error);
    }
    bool resumed = d->resumed;
    if (status != MLXR_OK) {
        return status;
    }
    status = fetch_all(d, error);
    if (status != MLXR_OK && (!d->ranges && !d->resumed)) {
        throw_away(d); /* nothing in it can be gone on with */
    }
    if (status == MLXR_OK) {
        status = verify_and_keep(d, digest, error);
        d->again = status == MLXR_FORMAT && resumed; /* perhaps only the old pieces were bad */
    }
    return status;
}

static mlxr_status attempt(registry *r, transfer *t, const download_request *request, char *digest, uint64_t *n_bytes,
                           bool *again, mlxr_error *error)
{
    download *d = calloc(1, sizeof *d);
    if (!d) {
        return registry_fail_nomem(error);
    }
    d->r = r;
    d->t = t;
    d->request = request;
    d->fd = d->state_fd = -1;
    d->n_bytes = request->n_bytes;
    d->piece_bytes = request->piece_bytes ? request->piece_bytes : (uint64_t)32 << 20;
    d->digest = digest_begin();
    d->buffer = malloc(BUFFER_BYTES);
    mlxr_status status = d->digest && d->buffer ? run(d, digest, error) : registry_fail_nomem(error);
    *again = d->again;
    *n_bytes = d->n_bytes;
    digest_end(&d->digest, NULL);
    if (d->fd >= 0) {
        close(d->fd);
    }
    if (d->state_fd >= 0) {
        close(d->state_fd);
    }
    free(d->buffer);
    free(d->have);
    free(d);
    return status;
}

mlxr_status download_blob(registry *r, transfer *t, const download_request *request, char *digest, uint64_t *n_bytes,
                          mlxr_error *error)
{
    bool again = false;
    if (request->n_bytes != UINT64_MAX && request->n_bytes > request->bytes_max) {
        return daemon_error(error, MLXR_LIMIT, "the file has %llu bytes; %llu are allowed",
                            (unsigned long long)request->n_bytes, (unsigned long long)request->bytes_max);
    }
    bool there = false;
    mlxr_status status = request->digest ? registry_blob_renew(r, request->digest, &there, n_bytes, error) : MLXR_OK;
    if (status != MLXR_OK) {
        return status;
    }
    if (there || (request->digest && blob_recover(r, request->digest, n_bytes))) {
        memcpy(digest, request->digest, strlen(request->digest) + 1);
        return MLXR_OK;
    }
    status = attempt(r, t, request, digest, n_bytes, &again, error);
    return again ? attempt(r, t, request, digest, n_bytes, &again, error) : status;
}
