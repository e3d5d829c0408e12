/*
 * A disk in memory for the KV store.
 * Owner: the test. Lifetime: kv_disk_open to kv_disk_close.
 */
#include "support/kv_disk.h"

#include <errno.h>
#include <pthread.h>

#include "support/test.h"

enum { NAME_BYTES = 96 };

typedef struct inode {
    unsigned refs; /* names, and changes of names that are not synced */
    uint8_t *data, *synced;
    size_t n, n_synced;
    bool dirty;
    int64_t modified;
} inode;

typedef struct link {
    char name[NAME_BYTES];
    uint64_t key; /* of the name */
    bool temporary;
    inode *file;
} link;

typedef struct directory {
    link *links;
    size_t n, cap;
} directory;

typedef struct change { /* of names, since the directory was synced */
    char from[NAME_BYTES], to[NAME_BYTES];
    inode *file; /* NULL: `from` was removed; `from` empty: `to` was made */
} change;

struct kv_disk {
    pthread_mutex_t lock;
    directory now, synced;
    change *changes;
    size_t n_changes, cap_changes;
    uint64_t count, fail_at, power_off_at;
    int fail_code, fail_all;
    bool exists, locked, off, never_again, lies;
    uint64_t n_dirs; /* made so far: the newest one's identity */
    uint64_t bytes_max;
};

static void *checked(void *memory)
{
    if (!memory) {
        abort();
    }
    return memory;
}

static void file_unref(inode *f)
{
    if (--f->refs == 0) {
        free(f->data);
        free(f->synced);
        free(f);
    }
}

static uint64_t key_of(const char *name)
{
    uint64_t key = 0xcbf29ce484222325u;
    for (; *name; name++) {
        key = (key ^ (uint8_t)*name) * 0x100000001b3u;
    }
    return key;
}

static link *dir_find(directory *d, const char *name)
{
    uint64_t key = key_of(name);
    for (size_t i = 0; i < d->n; i++) {
        if (d->links[i].key == key && strcmp(d->links[i].name, name) == 0) {
            return &d->links[i];
        }
    }
    return NULL;
}

static void dir_remove(directory *d, const char *name)
{
    link *l = dir_find(d, name);
    if (l) {
        file_unref(l->file);
        *l = d->links[--d->n];
    }
}

static void dir_append(directory *d, const char *name, uint64_t key, inode *file)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 64;
        d->links = checked(realloc(d->links, d->cap * sizeof *d->links));
    }
    link *l = &d->links[d->n++];
    memcpy(l->name, name, strlen(name) + 1);
    l->key = key;
    l->temporary = strstr(name, ".tmp") != NULL;
    l->file = file;
    file->refs++;
}

static void dir_set(directory *d, const char *name, inode *file)
{
    file->refs++; /* it may be the one that is replaced */
    dir_remove(d, name);
    dir_append(d, name, key_of(name), file);
    file->refs--;
}

static void dir_clear(directory *d)
{
    while (d->n) {
        file_unref(d->links[--d->n].file);
    }
}

static void dir_copy(directory *to, const directory *from)
{
    directory old = *to;
    *to = (directory){0};
    for (size_t i = 0; i < from->n; i++) {
        dir_append(to, from->links[i].name, from->links[i].key, from->links[i].file);
    }
    dir_clear(&old);
    free(old.links);
}

static void remember(kv_disk *d, const char *from, const char *to, inode *file)
{
    if (d->n_changes == d->cap_changes) {
        d->cap_changes = d->cap_changes ? d->cap_changes * 2 : 64;
        d->changes = checked(realloc(d->changes, d->cap_changes * sizeof *d->changes));
    }
    change *c = &d->changes[d->n_changes++];
    snprintf(c->from, sizeof c->from, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
    c->file = file;
    if (file) {
        file->refs++;
    }
}

/* A change of names reaches the directory; a torn rename leaves both names. */
static void apply(directory *to, const change *c, bool torn)
{
    if (c->file && c->to[0]) {
        dir_set(to, c->to, c->file);
    }
    if (c->from[0] && !torn) {
        dir_remove(to, c->from);
    }
}

static void forget_changes(kv_disk *d)
{
    for (size_t i = 0; i < d->n_changes; i++) {
        if (d->changes[i].file) {
            file_unref(d->changes[i].file);
        }
    }
    d->n_changes = 0;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint64_t bytes_now(const kv_disk *d)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < d->now.n; i++) {
        bytes += d->now.links[i].file->n;
    }
    return bytes;
}

/* ---- the store's calls ------------------------------------------------------------------------------------------- */

/* Whether this change happens (0), fails (an errno), or is the one in the middle of which the power goes (EIO). */
static int begin_change(kv_disk *d)
{
    if (d->off) {
        return EIO;
    }
    d->count++;
    if (d->count == d->power_off_at) {
        d->off = true;
        return EIO;
    }
    if (!d->exists) {
        return ENOENT;
    }
    return d->count == d->fail_at ? d->fail_code : d->fail_all;
}

static int disk_claim(void *context, const char *dir, int *claim)
{
    (void)dir;
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    int failed = d->off ? EIO : d->never_again && !d->exists ? EACCES : d->locked ? EWOULDBLOCK : 0;
    if (!failed) {
        d->n_dirs += !d->exists;
        d->exists = d->locked = true;
        *claim = (int)d->n_dirs;
    }
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static int disk_check_claim(void *context, const char *dir, int claim)
{
    (void)dir;
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    int failed = d->off ? 0 : d->exists && claim == (int)d->n_dirs ? 0 : ENOENT;
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static void disk_disclaim(void *context, int claim)
{
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    if (claim == (int)d->n_dirs) {
        d->locked = false;
    }
    pthread_mutex_unlock(&d->lock);
}

static int disk_list(void *context, const char *dir, kv_store_seen *seen, void *seen_context)
{
    (void)dir;
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    int failed = d->off ? EIO : d->exists ? 0 : ENOENT;
    directory copy = {0}; /* the store removes files while it looks at them */
    dir_copy(&copy, &d->now);
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < copy.n && !failed; i++) {
        seen(seen_context, copy.links[i].name, copy.links[i].file->n, copy.links[i].file->modified);
    }
    pthread_mutex_lock(&d->lock);
    dir_clear(&copy);
    pthread_mutex_unlock(&d->lock);
    free(copy.links);
    return failed;
}

static int disk_read_file(void *context, const char *path, void *out, size_t cap, size_t *n)
{
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    const link *l = dir_find(&d->now, name_of(path));
    int failed = d->off ? EIO : l ? 0 : ENOENT;
    if (!failed) {
        *n = l->file->n < cap ? l->file->n : cap;
        memcpy(out, l->file->data, *n);
    }
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static int disk_write_file(void *context, const char *path, const void *head, size_t n_head, const void *body,
                           size_t n_body)
{
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    bool was_off = d->off;
    int failed = begin_change(d);
    if ((!failed || d->exists) && !was_off) {
        const char *name = name_of(path);
        link *l = dir_find(&d->now, name);
        inode *f = l ? l->file : checked(calloc(1, sizeof *f));
        if (!l) {
            dir_set(&d->now, name, f);
            remember(d, "", name, f);
        }
        size_t n = n_head + n_body;
        free(f->data);
        f->data = checked(malloc(n));
        memcpy(f->data, head, n_head);
        memcpy(f->data + n_head, body, n_body);
        f->n = failed ? (size_t)(d->count * 0x9e3779b97f4a7c15u >> 20) % (n + 1) : n;
        f->dirty = true;
        f->modified = (int64_t)d->count;
    }
    uint64_t bytes = bytes_now(d);
    d->bytes_max = bytes > d->bytes_max ? bytes : d->bytes_max;
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static int disk_sync_file(void *context, const char *path)
{
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    int failed = begin_change(d);
    link *l = dir_find(&d->now, name_of(path));
    failed = failed ? failed : l ? 0 : ENOENT;
    if (!failed && !d->lies) {
        inode *f = l->file;
        free(f->synced);
        f->synced = checked(malloc(f->n + 1));
        memcpy(f->synced, f->data, f->n);
        f->n_synced = f->n;
        f->dirty = false;
    }
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static int disk_rename(void *context, const char *from, const char *to)
{
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    bool was_off = d->off;
    int failed = begin_change(d);
    link *l = dir_find(&d->now, name_of(from));
    failed = failed ? failed : l ? 0 : ENOENT;
    if (l && (!failed || (d->off && !was_off))) { /* with the power, it may or may not have happened */
        inode *f = l->file;
        remember(d, name_of(from), name_of(to), f);
        if (!failed) {
            dir_set(&d->now, name_of(to), f);
            dir_remove(&d->now, name_of(from));
        }
    }
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static int disk_sync_dir(void *context, const char *dir)
{
    (void)dir;
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    int failed = begin_change(d);
    if (!failed && !d->lies) {
        for (size_t i = 0; i < d->n_changes; i++) {
            apply(&d->synced, &d->changes[i], false);
        }
        forget_changes(d);
    }
    pthread_mutex_unlock(&d->lock);
    return failed;
}

static int disk_unlink(void *context, const char *path)
{
    kv_disk *d = context;
    pthread_mutex_lock(&d->lock);
    int failed = begin_change(d);
    link *l = dir_find(&d->now, name_of(path));
    failed = failed ? failed : l ? 0 : ENOENT;
    if (!failed) {
        remember(d, name_of(path), "", NULL);
        dir_remove(&d->now, name_of(path));
    }
    pthread_mutex_unlock(&d->lock);
    return failed;
}

/* ---- the test's calls -------------------------------------------------------------------------------------------- */

kv_disk *kv_disk_open(void)
{
    kv_disk *d = checked(calloc(1, sizeof *d));
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

void kv_disk_close(kv_disk **pointer)
{
    kv_disk *d = *pointer;
    forget_changes(d);
    dir_clear(&d->now);
    dir_clear(&d->synced);
    free(d->now.links);
    free(d->synced.links);
    free(d->changes);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *pointer = NULL;
}

kv_store_io kv_disk_io(kv_disk *d)
{
    return (kv_store_io){.context = d,
                         .claim = disk_claim,
                         .check_claim = disk_check_claim,
                         .disclaim = disk_disclaim,
                         .list = disk_list,
                         .read_file = disk_read_file,
                         .write_file = disk_write_file,
                         .sync_file = disk_sync_file,
                         .rename = disk_rename,
                         .sync_dir = disk_sync_dir,
                         .unlink = disk_unlink};
}

void kv_disk_fail_at(kv_disk *d, uint64_t n, int code)
{
    pthread_mutex_lock(&d->lock);
    d->fail_at = d->count + n;
    d->fail_code = code;
    pthread_mutex_unlock(&d->lock);
}

void kv_disk_fail_all(kv_disk *d, int code)
{
    pthread_mutex_lock(&d->lock);
    d->fail_all = code;
    pthread_mutex_unlock(&d->lock);
}

void kv_disk_cut_power(kv_disk *d, uint64_t n)
{
    pthread_mutex_lock(&d->lock);
    d->power_off_at = d->count + n;
    pthread_mutex_unlock(&d->lock);
}

void kv_disk_lie(kv_disk *d)
{
    pthread_mutex_lock(&d->lock);
    d->lies = true;
    pthread_mutex_unlock(&d->lock);
}

/* What comes back of a file whose newest bytes were not synced. */
static void tear(inode *f, uint64_t *seed)
{
    size_t cut = f->n ? test_random(seed) % (f->n + 1) : 0;
    switch (test_random(seed) % 6) {
    case 0: /* all of it made it */
        break;
    case 1:
        f->n = 0;
        break;
    case 2:
        f->n = cut;
        break;
    case 3: /* the size made it, not the bytes */
        memset(f->data + cut, 0, f->n - cut);
        break;
    case 4: /* a sector in the middle did not */
        for (size_t i = cut; i < f->n && i < cut + 512; i++) {
            f->data[i] = (uint8_t)test_random(seed);
        }
        break;
    default: /* what was synced before */
        f->n = f->n_synced < f->n ? f->n_synced : f->n;
        if (f->n) {
            memcpy(f->data, f->synced, f->n);
        }
    }
}

void kv_disk_restart(kv_disk *d, uint64_t seed)
{
    pthread_mutex_lock(&d->lock);
    directory up = {0};
    dir_copy(&up, &d->synced);
    for (size_t i = 0; i < d->n_changes; i++) {
        if (test_random(&seed) % 2) { /* the others were lost */
            apply(&up, &d->changes[i], d->changes[i].file && test_random(&seed) % 8 == 0);
        }
    }
    for (size_t i = 0; i < up.n; i++) {
        if (up.links[i].file->dirty) {
            tear(up.links[i].file, &seed);
            up.links[i].file->dirty = false;
        }
    }
    dir_copy(&d->now, &up);
    dir_copy(&d->synced, &up);
    dir_clear(&up);
    free(up.links);
    forget_changes(d);
    d->off = d->locked = d->lies = false;
    d->power_off_at = d->fail_at = 0;
    d->fail_all = 0;
    d->n_dirs++;
    pthread_mutex_unlock(&d->lock);
}

void kv_disk_remove_dir(kv_disk *d, bool for_good)
{
    pthread_mutex_lock(&d->lock);
    dir_clear(&d->now);
    dir_clear(&d->synced);
    forget_changes(d);
    d->exists = d->locked = false;
    d->never_again = for_good;
    pthread_mutex_unlock(&d->lock);
}

bool kv_disk_damage(kv_disk *d, uint64_t seed)
{
    pthread_mutex_lock(&d->lock);
    inode *f = d->now.n ? d->now.links[test_random(&seed) % d->now.n].file : NULL;
    if (f && f->n) {
        switch (test_random(&seed) % 3) {
        case 0:
            f->n = test_random(&seed) % f->n;
            break;
        case 1: { /* a stretch of it reads as zeros, and one byte as something else */
            size_t at = test_random(&seed) % f->n;
            memset(f->data + at, 0, f->n - at);
            f->data[at] = 0xa5;
            break;
        }
        default:
            f->data[test_random(&seed) % f->n] ^= (uint8_t)(1u << test_random(&seed) % 8);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return f != NULL;
}

kv_disk_stats kv_disk_stats_get(kv_disk *d)
{
    pthread_mutex_lock(&d->lock);
    kv_disk_stats stats = {
        .n_changes = d->count, .bytes = bytes_now(d), .bytes_max = d->bytes_max, .n_files = d->now.n};
    for (size_t i = 0; i < d->now.n; i++) {
        stats.n_temporary += d->now.links[i].temporary;
    }
    pthread_mutex_unlock(&d->lock);
    return stats;
}

void kv_disk_watch(kv_disk *d)
{
    pthread_mutex_lock(&d->lock);
    d->bytes_max = bytes_now(d);
    pthread_mutex_unlock(&d->lock);
}

const uint8_t *kv_disk_file(kv_disk *d, const char *name, size_t *n)
{
    pthread_mutex_lock(&d->lock);
    const link *l = dir_find(&d->now, name);
    const uint8_t *data = l ? l->file->data : NULL;
    *n = l ? l->file->n : 0;
    pthread_mutex_unlock(&d->lock);
    return data;
}

void kv_disk_export(kv_disk *d, const char *dir)
{
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->now.n; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, d->now.links[i].name);
        FILE *file = checked(fopen(path, "wb"));
        const inode *f = d->now.links[i].file;
        if (fwrite(f->data, 1, f->n, file) != f->n || fclose(file) != 0) {
            abort();
        }
    }
    pthread_mutex_unlock(&d->lock);
}
