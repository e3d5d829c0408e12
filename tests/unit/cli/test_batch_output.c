/*
 * The file of a batch's results: whose it is while another program puts a new one in its place.
 * Owner: the test program. Lifetime: the process.
 */
#include "../../../cli/batch_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

#define RESULT "{\"mlxr\":{\"request\":\"%s\",\"hash\":\"%016x\",\"line\":1},\"error\":%s}\n"

/* What flock does first: another program's rename, which came between opening a file and locking it. */
static const char *renamed_from, *renamed_to;

int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int __wrap_flock(int fd, int how)
{
    if (renamed_from) {
        assert_int_equal(rename(renamed_from, renamed_to), 0);
        renamed_from = NULL;
    }
    return __real_flock(fd, how);
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_was_replaced_before_it_was_locked_is_opened_anew),
        cmocka_unit_test(errors_are_taken_out_of_what_a_link_leads_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
