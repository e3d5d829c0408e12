/*
 * Read-only file mappings, reading of small files, and what systems do differently.
 * Owner: whoever opened it. Lifetime: until mapping_close.
 */
#include "base/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#if defined(__linux__)
#include <sys/uio.h>
#include <sys/vfs.h>
#endif
#include <unistd.h>

#include "base/error.h"

/* AddressSanitizer knows malloc's blocks; of others it has to be told what may not be touched. */
#if defined(__SANITIZE_ADDRESS__)
#define TOLD_BOUNDS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TOLD_BOUNDS
#endif
#endif
#if defined(TOLD_BOUNDS)
#include <sanitizer/asan_interface.h>
#endif

#define LARGE_PAGE ((uintptr_t)MLXR_FILE_LARGE_PAGE) /* the usual one; smaller blocks than that have none */

/* Opens a regular file for reading and tells its size; −1 with the error filled. O_NONBLOCK: opening a FIFO must fail
 * in fstat's check below, not hang. */
static int open_regular(const char *path, uint64_t *n_bytes, mlxr_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        error_set(error, MLXR_IO, "%s: cannot open: %s", path, strerror(errno));
        return -1;
    }
    struct stat info;
    if (fstat(fd, &info) != 0) {
        error_set(error, MLXR_IO, "%s: cannot stat: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        error_set(error, MLXR_IO, "%s: not a regular file%s", path, S_ISDIR(info.st_mode) ? " but a directory" : "");
    } else {
        *n_bytes = (uint64_t)info.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

mlxr_status mapping_open(mapping *out, const char *path, mlxr_error *error)
{
    uint64_t n_bytes = 0;
    int fd = open_regular(path, &n_bytes, error);
    if (fd < 0) {
        return MLXR_IO;
    }
    mapping m = {0};
    mlxr_status status = MLXR_OK;
    if (n_bytes > SIZE_MAX) {
        status = error_set(error, MLXR_LIMIT, "%s: %llu bytes do not fit the address space", path,
                           (unsigned long long)n_bytes);
    } else if (n_bytes > 0) {
        void *data = mmap(NULL, (size_t)n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = error_set(error, MLXR_IO, "%s: cannot map %llu bytes: %s", path, (unsigned long long)n_bytes,
                               strerror(errno));
        } else {
            m.data = data;
            m.n_bytes = (size_t)n_bytes;
        }
    }
    close(fd); /* the mapping keeps the file */
    if (status == MLXR_OK) {
        *out = m;
    }
    return status;
}

void mapping_close(mapping *m)
{
    if (m->data) {
        munmap((void *)(uintptr_t)m->data, m->n_bytes);
    }
    *m = (mapping){0};
}

void mapping_forget(const mapping *m, size_t n_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (n_bytes < m->n_bytes ? n_bytes : m->n_bytes) / page * page;
    if (n > 0) {
        madvise((void *)(uintptr_t)m->data, n, MADV_DONTNEED); /* nobody writes to it: nothing is lost */
    }
}

/* A wish about whole system pages inside a part; systems without it choose by themselves. */
static void wish(const void *part, size_t n_bytes, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE); /* 16 KiB with Apple's processors */
    uintptr_t begin = ((uintptr_t)part + page - 1) / page * page, end = ((uintptr_t)part + n_bytes) / page * page;
    if (begin < end) {
        madvise((void *)begin, end - begin, advice);
    }
}

void mapping_in_large_pages(const void *part, size_t n_bytes)
{
#if defined(MADV_HUGEPAGE)
    wish(part, n_bytes, MADV_HUGEPAGE);
#else
    (void)part;
    (void)n_bytes;
#endif
}

void mapping_in_small_pages(const void *part, size_t n_bytes)
{
#if defined(MADV_NOHUGEPAGE)
    wish(part, n_bytes, MADV_NOHUGEPAGE);
#else
    (void)part;
    (void)n_bytes;
#endif
}

void mapping_forget_part(const void *part, size_t n_bytes)
{
    wish(part, n_bytes, MADV_DONTNEED);
}

#define READ_AHEAD ((uintptr_t)128 << 10) /* Linux cuts one wish down to what it reads ahead by itself */
#define PAGES_ASKED 1024u                 /* at a time */

void mapping_read_ahead(const void *part, size_t n_bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (uintptr_t)part + n_bytes;
    for (uintptr_t at = (uintptr_t)part / page * page; at < end; at += READ_AHEAD) {
        madvise((void *)at, end - at < READ_AHEAD ? end - at : READ_AHEAD, MADV_WILLNEED);
    }
}

void mapping_give_back(const void *part, size_t n_bytes)
{
#if defined(MADV_COLD)
    wish(part, n_bytes, MADV_COLD); /* while they are still mapped: it looks at nothing else */
#endif
    mapping_forget_part(part, n_bytes);
}

size_t mapping_missing(const void *part, size_t n_bytes)
{
#if defined(__APPLE__)
    char in_memory[PAGES_ASKED];
#else
    unsigned char in_memory[PAGES_ASKED];
#endif
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = (uintptr_t)part + n_bytes;
    size_t n_missing = 0;
    for (uintptr_t at = (uintptr_t)part / page * page; at < end; at += PAGES_ASKED * page) {
        size_t n = (end - at + page - 1) / page;
        n = n < PAGES_ASKED ? n : PAGES_ASKED;
        if (mincore((void *)at, n * page, in_memory) != 0) {
            return 0;
        }
        for (size_t i = 0; i < n; i++) {
            n_missing += !(in_memory[i] & 1);
        }
    }
    return n_missing * page;
}

bool mapping_lock(const void *part, size_t n_bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)part + page - 1) / page * page, end = ((uintptr_t)part + n_bytes) / page * page;
    return begin >= end || mlock((void *)begin, end - begin) == 0;
}

void mapping_unlock(const void *part, size_t n_bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)part + page - 1) / page * page, end = ((uintptr_t)part + n_bytes) / page * page;
    if (begin < end) {
        munlock((void *)begin, end - begin);
    }
}

path_kind path_find(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return PATH_NONE;
    }
    return S_ISREG(info.st_mode) ? PATH_FILE : S_ISDIR(info.st_mode) ? PATH_FOLDER : PATH_OTHER;
}

int64_t file_modified_ns(const struct stat *info)
{
#if defined(__APPLE__)
    const struct timespec *at = &info->st_mtimespec;
#else
    const struct timespec *at = &info->st_mtim;
#endif
    return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
}

int file_sync(int fd)
{
#if defined(__APPLE__) /* its fsync leaves data in the drive's cache; not every file system has the other */
    if (fcntl(fd, F_FULLFSYNC) == 0) {
        return 0;
    }
#endif
    return fsync(fd) != 0 ? errno : 0;
}

#if defined(__linux__)
/* File systems that may keep a file in large pages. To others, of which some are at the end of a wire, the zeros would
 * be written for nothing. */
static bool keeps_large_pages(int fd)
{
    enum { EXT4 = 0xEF53, XFS = 0x58465342, TMPFS = 0x01021994 };
    const uint32_t btrfs = 0x9123683E;
    struct statfs of;
    uint32_t type = fstatfs(fd, &of) == 0 ? (uint32_t)of.f_type : 0;
    return type == EXT4 || type == XFS || type == TMPFS || type == btrfs;
}
#endif

void mlxr_file_begin_large_page(int fd, uint64_t at)
{
#if defined(__linux__)
    if (!keeps_large_pages(fd)) {
        return;
    }
    enum { PART = 4096, N_PARTS = MLXR_FILE_LARGE_PAGE / PART };
    static const uint8_t zeros[PART];
    struct iovec parts[N_PARTS];
    for (size_t i = 0; i < N_PARTS; i++) {
        parts[i] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = PART};
    }
    ssize_t unused = pwritev(fd, parts, N_PARTS, (off_t)at);
    (void)unused;
#else
    (void)fd;
    (void)at;
#endif
}

static void *map_zeros(size_t n_bytes)
{
    void *memory = n_bytes ? mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                           : MAP_FAILED;
    return memory == MAP_FAILED ? NULL : memory;
}

#if defined(TOLD_BOUNDS)
/* Of a block's system pages and one on either side: all bytes. */
static size_t fenced_bytes(size_t n_bytes, size_t page)
{
    return (n_bytes + page - 1) / page * page + 2 * page;
}

/* The pages on either side cannot be touched, for kernels that are compiled without the sanitizer are bound, too. */
void *memory_map(size_t n_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (n_bytes == 0 || n_bytes > SIZE_MAX - 3 * page) {
        return NULL;
    }
    const size_t n_all = fenced_bytes(n_bytes, page), n_end = n_all - page - n_bytes;
    uint8_t *all = map_zeros(n_all);
    if (!all) {
        return NULL;
    }
    mprotect(all, page, PROT_NONE);
    mprotect(all + n_all - page, page, PROT_NONE);
    ASAN_POISON_MEMORY_REGION(all, page);
    ASAN_POISON_MEMORY_REGION(all + page + n_bytes, n_end);
    return all + page;
}

void memory_unmap(void *memory, size_t n_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (memory) {
        uint8_t *all = (uint8_t *)memory - page;
        ASAN_UNPOISON_MEMORY_REGION(all, fenced_bytes(n_bytes, page));
        munmap(all, fenced_bytes(n_bytes, page));
    }
}
#else
void *memory_map(size_t n_bytes)
{
    return map_zeros(n_bytes);
}

void memory_unmap(void *memory, size_t n_bytes)
{
    if (memory) {
        munmap(memory, n_bytes);
    }
}
#endif

void memory_discard(void *part, size_t n_bytes)
{
#if defined(__APPLE__)
    wish(part, n_bytes, MADV_FREE); /* its MADV_DONTNEED keeps the pages */
#else
    wish(part, n_bytes, MADV_DONTNEED);
#endif
}

void memory_in_large_pages(void *part, size_t n_bytes)
{
    if (n_bytes > LARGE_PAGE) {
        mapping_in_large_pages(part, n_bytes);
    }
}

size_t memory_gather(void *part, size_t n_bytes)
{
#if defined(__linux__)
    enum { COLLAPSE = 25 }; /* MADV_COLLAPSE, which libraries older than Linux 6.1 do not name */
    uintptr_t begin = ((uintptr_t)part + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    uintptr_t end = ((uintptr_t)part + n_bytes) / LARGE_PAGE * LARGE_PAGE;
    if (end > begin) {
        madvise((void *)begin, end - begin, COLLAPSE);
        return (size_t)(end - (uintptr_t)part);
    }
#else
    (void)part;
    (void)n_bytes;
#endif
    return 0;
}

mlxr_status file_read(const char *path, size_t limit, char **data, size_t *n_bytes, mlxr_error *error)
{
    uint64_t size = 0;
    int fd = open_regular(path, &size, error);
    if (fd < 0) {
        return MLXR_IO;
    }
    mlxr_status status = MLXR_OK;
    char *bytes = NULL;
    size_t n = 0;
    if (size > limit) {
        status = error_set(error, MLXR_LIMIT, "%s: %llu bytes; at most %zu are read", path, (unsigned long long)size,
                           limit);
        goto done;
    }
    bytes = malloc((size_t)size + 1);
    if (!bytes) {
        status = error_nomem(error, path, (size_t)size + 1);
        goto done;
    }
    while (n < (size_t)size) {
        ssize_t got = read(fd, bytes + n, (size_t)size - n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            status = error_set(error, MLXR_IO, "%s: read failed at byte %zu: %s", path, n, strerror(errno));
            goto done;
        }
        if (got == 0) { /* the file shrank after fstat */
            break;
        }
        n += (size_t)got;
    }
    bytes[n] = 0;
    *data = bytes;
    *n_bytes = n;
    bytes = NULL;
done:
    free(bytes);
    close(fd);
    return status;
}
