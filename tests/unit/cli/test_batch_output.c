/*
 * The file of a batch's results: whose it is while another program puts a new one in its place.
 * Owner: the test program. Lifetime: the process.
 */
#include "cli/batch_output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/output.h"
#include "support/test.h"

#define RESULT "{\"mlxr\":{\"request\":\"%s\",\"hash\":\"%016x\",\"line\":1},\"error\":%s}\n"

/* What flock does first: another program's rename, which came between opening a file and locking it. */
static const char *renamed_from, *renamed_to;
static const char *removed; /* by a program that does so each time */
static unsigned n_locks;

int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int __wrap_flock(int fd, int how)
{
    if (renamed_from) {
        assert_int_equal(rename(renamed_from, renamed_to), 0);
        renamed_from = NULL;
    }
    if (removed) {
        assert_int_equal(unlink(removed), 0);
    }
    n_locks++;
    return __real_flock(fd, how);
}

static mode_t mode_before; /* of a file that is about to get its own */

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    mode_before = info.st_mode & 0777;
    return __real_fchmod(fd, mode);
}

static bool no_streams;

FILE *__real_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode)
{
    if (no_streams) {
        errno = ENOMEM;
        return NULL;
    }
    return __real_fdopen(fd, mode);
}

/* A file of one result; an error, where `error` says so. */
static const char *write_result(const char *name, const char *key, bool error)
{
    char text[256];
    int n = snprintf(text, sizeof text, RESULT, key, 7u, error ? "{\"message\":\"no\"}" : "null");
    return test_write_file(name, text, (size_t)n);
}

static bool has_line_of(const char *path, const char *key)
{
    char text[1024], wanted[64];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    snprintf(wanted, sizeof wanted, "\"request\":\"%s\"", key);
    return strstr(text, wanted) != NULL;
}

static void a_file_that_was_replaced_before_it_was_locked_is_opened_anew(void **state)
{
    batch_output out;
    (void)state;
    for (int retry = 0; retry < 2; retry++) {
        renamed_to = write_result("out.jsonl", "old", false);
        renamed_from = write_result("new.jsonl", "new", false);
        const char *path = renamed_to;
        assert_int_equal(batch_output_open(&out, path, retry), 0);
        assert_int_equal(batch_output_find(&out, "new", 7), BATCH_DONE);
        assert_int_equal(batch_output_find(&out, "old", 7), BATCH_NEW);
        assert_true(batch_output_add(&out, json_pack("{s:o}", "mlxr", batch_output_mark("mine", 8, 2)), "mine", 8));
        batch_output_close(&out);
        assert_true(has_line_of(path, "new"));
        assert_true(has_line_of(path, "mine")); /* not in a file without a name */
    }
}

static void errors_are_taken_out_of_what_a_link_leads_to(void **state)
{
    batch_output out;
    struct stat info;
    char link[512];
    (void)state;
    const char *path = write_result("results.jsonl", "wrong", true);
    snprintf(link, sizeof link, "%s/link.jsonl", test_temp_dir());
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(batch_output_open(&out, link, true), 0);
    assert_int_equal(batch_output_find(&out, "wrong", 7), BATCH_NEW);
    batch_output_close(&out);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(info.st_mode & 0777, 0600); /* nobody else may read it then */
    assert_int_equal(mode_before, 0600);         /* nor while it was written */
}

static unsigned count_temporary(void)
{
    unsigned n = 0;
    DIR *folder = opendir(test_temp_dir());
    assert_non_null(folder);
    for (struct dirent *file; (file = readdir(folder));) {
        n += strstr(file->d_name, ".tmp") != NULL;
    }
    closedir(folder);
    return n;
}

static void what_cannot_be_written_anew_leaves_no_file(void **state)
{
    batch_output out;
    (void)state;
    const char *path = write_result("streamless.jsonl", "wrong", true);
    no_streams = true;
    assert_int_equal(batch_output_open(&out, path, true), EXIT_FAILED);
    no_streams = false;
    batch_output_close(&out);
    assert_int_equal(count_temporary(), 0);
    assert_true(has_line_of(path, "wrong"));
}

static void a_file_that_is_replaced_all_the_time_is_given_up(void **state)
{
    batch_output out;
    (void)state;
    removed = write_result("removed.jsonl", "old", false);
    n_locks = 0;
    assert_int_equal(batch_output_open(&out, removed, false), EXIT_FAILED);
    removed = NULL;
    assert_int_equal(n_locks, 100);
    batch_output_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_was_replaced_before_it_was_locked_is_opened_anew),
        cmocka_unit_test(errors_are_taken_out_of_what_a_link_leads_to),
        cmocka_unit_test(what_cannot_be_written_anew_leaves_no_file),
        cmocka_unit_test(a_file_that_is_replaced_all_the_time_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
