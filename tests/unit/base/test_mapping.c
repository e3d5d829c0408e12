/*
 * Tests of core/base/mapping.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

#if defined(TEST_SANITIZED)
#include <sanitizer/asan_interface.h>
#endif

static void a_file_is_seen_byte_for_byte(void **state)
{
    (void)state;
    char bytes[10000];
    uint64_t seed = 6;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)test_random(&seed);
    }
    static const size_t sizes[] = {1, 2, 4095, 4096, 4097, 10000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *path = test_write_file("file", bytes, sizes[i]);
        mlxr_error error;
        mapping m = {0};
        assert_ok(mapping_open(&m, path, &error), &error);
        assert_int_equal(m.n_bytes, sizes[i]);
        assert_memory_equal(m.data, bytes, sizes[i]);
        mapping_close(&m);
        assert_null(m.data);
        assert_int_equal(m.n_bytes, 0);
        mapping_close(&m);

        char *data = NULL;
        size_t n = 0;
        assert_ok(file_read(path, sizes[i], &data, &n, &error), &error);
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(data, bytes, n);
        assert_int_equal(data[n], 0);
        free(data);
    }
}

static void what_was_forgotten_comes_back_from_the_file(void **state)
{
    (void)state;
    enum { PAGES = 16 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = PAGES * page + 100;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    uint64_t seed = 7;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)test_random(&seed);
    }
    mlxr_error error;
    mapping m = {0};
    assert_ok(mapping_open(&m, test_write_file("file", bytes, n), &error), &error);
    size_t sizes[] = {0, 1, page, 3 * page + 1, n, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        mapping_forget(&m, sizes[i]);
        assert_memory_equal(m.data, bytes, n);
    }
    mapping_close(&m);
    mapping_forget(&m, n); /* nothing is mapped: nothing happens */
    free(bytes);
}

static void an_empty_file_is_no_error(void **state)
{
    (void)state;
    const char *path = test_write_file("empty", "", 0);
    mlxr_error error;
    mapping m = {(const uint8_t *)"x", 7};
    assert_ok(mapping_open(&m, path, &error), &error);
    assert_null(m.data);
    assert_int_equal(m.n_bytes, 0);
    mapping_close(&m);
    char *data = NULL;
    size_t n = 7;
    assert_ok(file_read(path, 0, &data, &n, &error), &error);
    assert_int_equal(n, 0);
    assert_string_equal(data, "");
    free(data);
}

static void a_mapping_outlives_the_file_name(void **state)
{
    (void)state;
    const char *path = test_write_file("gone", "content", 7);
    mlxr_error error;
    mapping m = {0};
    assert_ok(mapping_open(&m, path, &error), &error);
    assert_int_equal(unlink(path), 0);
    assert_memory_equal(m.data, "content", 7);
    mapping_close(&m);
}

/* Both functions refuse `path` with MLXR_IO, naming it, and change nothing. */
static void refused(const char *path)
{
    mlxr_error error = {0};
    mapping m = {(const uint8_t *)"x", 7};
    assert_int_equal(mapping_open(&m, path, &error), MLXR_IO);
    assert_int_equal(error.status, MLXR_IO);
    assert_non_null(strstr(error.text, path));
    assert_string_equal((const char *)m.data, "x");
    assert_int_equal(m.n_bytes, 7);
    char *data = (char *)&m;
    size_t n = 7;
    memset(&error, 0, sizeof error);
    assert_int_equal(file_read(path, 100, &data, &n, &error), MLXR_IO);
    assert_non_null(strstr(error.text, path));
    assert_ptr_equal(data, &m);
    assert_int_equal(n, 7);
}

static void what_is_not_a_readable_file_is_refused_by_name(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/absent", test_temp_dir());
    refused(path);
    refused(test_temp_dir());
    refused("/dev/null");
    snprintf(path, sizeof path, "%s/fifo", test_temp_dir());
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(path); /* and does not hang */
    unlink(path);
    refused("");
    if (geteuid() != 0) {
        const char *locked = test_write_file("locked", "x", 1);
        chmod(locked, 0);
        refused(locked);
    }
}

static void a_file_above_the_limit_is_refused_with_both_sizes(void **state)
{
    (void)state;
    const char *path = test_write_file("large", "0123456789", 10);
    char *data = NULL;
    size_t n = 7;
    mlxr_error error = {0};
    assert_int_equal(file_read(path, 9, &data, &n, &error), MLXR_LIMIT);
    assert_null(data);
    assert_int_equal(n, 7);
    assert_non_null(strstr(error.text, "10"));
    assert_non_null(strstr(error.text, "9"));
}

static void handles_are_not_leaked(void **state)
{
    (void)state;
    const char *path = test_write_file("many", "0123456789", 10);
    for (int i = 0; i < 5000; i++) { /* far above the usual limit of open files */
        mapping m = {0};
        char *data = NULL;
        size_t n;
        mlxr_error error;
        assert_ok(mapping_open(&m, path, &error), &error);
        mapping_close(&m);
        assert_ok(file_read(path, 10, &data, &n, &error), &error);
        free(data);
        assert_int_equal(file_read(path, 1, &data, &n, &error), MLXR_LIMIT);
        assert_int_equal(mapping_open(&m, test_temp_dir(), &error), MLXR_IO);
    }
}

static void what_cannot_be_synced_says_so(void **state)
{
    (void)state;
    int fd = open(test_write_file("synced", "x", 1), O_RDONLY);
    assert_int_equal(file_sync(fd), 0);
    close(fd);
    assert_int_equal(file_sync(-1), EBADF);
}

static void discarding_touches_whole_pages_inside_a_part_only(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 4 * page;
    uint8_t *memory = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    memset(memory, 7, n);
    memory_discard(memory + 1, page - 1); /* no whole page in these */
    memory_discard(memory + page - 1, page);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(memory[i], 7);
    }
    memory_discard(memory + page - 1, 2 * page + 2); /* pages 1 and 2, and bytes of their neighbours */
    for (size_t i = 0; i < page; i++) {
        assert_int_equal(memory[i], 7);
        assert_int_equal(memory[3 * page + i], 7);
    }
    munmap(memory, n);
}

/* Does the system note `flag` ("hg": large pages are wished for, "nh": they are not) for the mapping of `at`? Also true
 * where it does not tell. */
static bool is_noted(const void *at, const char *flag)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    bool inside = false, noted = !f;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long begin, end;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
            inside = (uintptr_t)at >= begin && (uintptr_t)at < end;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            noted = strstr(line, flag) != NULL;
        }
    }
    if (f) {
        fclose(f);
    }
    return noted;
}

static void a_file_in_large_or_small_pages_has_the_same_bytes(void **state)
{
    (void)state;
    size_t n = ((size_t)6 << 20) + 5, page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    const char *path = test_write_file("large pages", bytes, n);
    mlxr_error error;
    mapping m = {0};
    assert_ok(mapping_open(&m, path, &error), &error);
    mapping_in_large_pages(m.data, m.n_bytes);
    assert_memory_equal(m.data, bytes, n);
#if defined(__linux__)
    bool known = access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0;
    assert_true(!known || is_noted(m.data, " hg"));
#endif
    const uint8_t *part = m.data + 3 * page;
    mapping_in_small_pages(part + 1, 5 * page); /* of which four are whole */
    mapping_forget_part(part, 6 * page);
    assert_memory_equal(m.data, bytes, n);
#if defined(__linux__)
    assert_true(!known || (is_noted(part + page, " nh") && is_noted(part, " hg") && is_noted(part + 5 * page, " hg")));
#endif
    mapping_in_large_pages(NULL, 0);
    mapping_in_small_pages(m.data, 1); /* no whole page */
    mapping_close(&m);
    free(bytes);
}

static void large_pages_are_a_hint_that_changes_no_byte(void **state)
{
    (void)state;
    size_t n = (size_t)6 << 20;
    uint8_t *memory = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    memory[n - 1] = 5; /* touched before */
    memory_in_large_pages(memory + 1, n - 1);
    memory_in_large_pages(memory, 1); /* too small for one */
    memory_in_large_pages(NULL, 0);
    assert_int_equal(memory[n - 1], 5);
    for (size_t i = 0; i < n - 1; i += 4096) {
        assert_int_equal(memory[i], 0);
        memory[i] = 9;
    }
    memory_discard(memory + 4096, 8192); /* a part of a large page goes, its neighbours stay */
    assert_int_equal(memory[0], 9);
    assert_int_equal(memory[3 * 4096], 9);
    munmap(memory, n);
}

/* AddressSanitizer is told of all bytes behind a block, up to its last page's end and in one more, and of those before
 * it; unmapped, they may be anybody's again. */
static void a_sanitizer_sees_where_a_block_ends(void **state)
{
    (void)state;
#if defined(TEST_SANITIZED)
    static const size_t sizes[] = {1, 7, 4096, 10007, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t n = sizes[i];
        uint8_t *memory = memory_map(n);
        assert_non_null(memory);
        assert_null(__asan_region_is_poisoned(memory, n));
        assert_true(__asan_address_is_poisoned(memory - 1));
        for (size_t at = n; at < n + 4096; at++) {
            assert_true(__asan_address_is_poisoned(memory + at));
        }
        memset(memory, 1, n);
        memory_unmap(memory, n);
        assert_false(__asan_address_is_poisoned(memory + n));
    }
    assert_null(memory_map(0));
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_seen_byte_for_byte),
        cmocka_unit_test(what_was_forgotten_comes_back_from_the_file),
        cmocka_unit_test(an_empty_file_is_no_error),
        cmocka_unit_test(a_mapping_outlives_the_file_name),
        cmocka_unit_test(what_is_not_a_readable_file_is_refused_by_name),
        cmocka_unit_test(a_file_above_the_limit_is_refused_with_both_sizes),
        cmocka_unit_test(handles_are_not_leaked),
        cmocka_unit_test(what_cannot_be_synced_says_so),
        cmocka_unit_test(discarding_touches_whole_pages_inside_a_part_only),
        cmocka_unit_test(a_file_in_large_or_small_pages_has_the_same_bytes),
        cmocka_unit_test(large_pages_are_a_hint_that_changes_no_byte),
        cmocka_unit_test(a_sanitizer_sees_where_a_block_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
