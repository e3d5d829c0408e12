/*
 * Files that appear whole or never, and what is left where the process is killed at any call of the system: several
 * that are one are all there, or the first is not, and nothing has a hidden name. Owner: the test program. Lifetime:
 * the process; files lie in its temporary folder.
 */
#include "base/new_file.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mapping.h"
#include "support/test.h"

#ifdef __linux__
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#endif

enum { N_PARTS = 3, N_BYTES = 1000 };

static char folder[600], paths[N_PARTS][700];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%.500s/set", test_temp_dir());
    mkdir(folder, 0777);
    for (int i = 0; i < N_PARTS; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/m-0000%d-of-00003.gguf", folder, i + 1);
    }
    return 0;
}

static void empty_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' || e->d_name[1] > '.') {
            unlink(path);
        }
    }
    closedir(d);
}

/* Writes n files full of this letter. Calls nothing of the test's, since another process may be running it. */
static mlxr_status write_files(size_t n, char letter, mlxr_error *error)
{
    new_file files[N_PARTS];
    char bytes[N_BYTES];
    memset(bytes, letter, sizeof bytes);
    for (size_t i = 0; i < n; i++) {
        mlxr_status status = new_file_open(&files[i], paths[i], N_BYTES, error);
        if (status != MLXR_OK || (status = new_file_write(&files[i], 0, bytes, N_BYTES, error)) != MLXR_OK) {
            return status;
        }
    }
    return new_files_commit(files, n, error);
}

/* The letter that the file is full of; 0: there is none. */
static char letter_of(const char *path)
{
    char *bytes = NULL, letter;
    size_t n = 0;
    if (file_read(path, 1 << 20, &bytes, &n, NULL) != MLXR_OK) {
        return 0;
    }
    assert_int_equal(n, N_BYTES);
    letter = bytes[0];
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(bytes[i], letter);
    }
    free(bytes);
    return letter;
}

static size_t n_hidden(void)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        n += e->d_name[0] == '.' && e->d_name[1] > '.';
    }
    closedir(d);
    return n;
}

static void files_take_the_place_of_what_had_their_names(void **state)
{
    mlxr_error error = {0};
    (void)state;
    empty_folder();
    for (size_t n = 1; n <= N_PARTS; n++) {
        for (char letter = 'a'; letter < 'd'; letter++) {
            assert_ok(write_files(n, letter, &error), &error);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(letter_of(paths[i]), letter);
            }
            assert_int_equal(n_hidden(), 0);
        }
    }
}

static void what_cannot_be_replaced_leaves_none(void **state)
{
    (void)state;
    for (int i = 0; i < N_PARTS; i++) {
        new_file files[N_PARTS];
        mlxr_error error = {0};
        empty_folder();
        for (int k = 0; k < N_PARTS; k++) {
            assert_ok(new_file_open(&files[k], paths[k], N_BYTES, &error), &error);
        }
        assert_int_equal(mkdir(paths[i], 0777), 0); /* after that was looked at */
        assert_int_equal(new_files_commit(files, N_PARTS, &error), MLXR_IO);
        assert_non_null(strstr(error.text, paths[i]));
        assert_int_equal(rmdir(paths[i]), 0);
        for (int k = 0; k < N_PARTS; k++) {
            assert_int_equal(letter_of(paths[k]), 0);
        }
        assert_int_equal(n_hidden(), 0);
    }
}

static void a_folder_in_the_place_of_a_part_leaves_the_old_set_s_others(void **state)
{
    new_file files[N_PARTS];
    mlxr_error error = {0};
    (void)state;
    empty_folder();
    assert_ok(write_files(N_PARTS, 'o', &error), &error);
    for (int k = 0; k < N_PARTS; k++) {
        assert_ok(new_file_open(&files[k], paths[k], N_BYTES, &error), &error);
    }
    assert_int_equal(unlink(paths[2]), 0);
    assert_int_equal(mkdir(paths[2], 0777), 0);
    assert_int_equal(new_files_commit(files, N_PARTS, &error), MLXR_IO);
    assert_non_null(strstr(error.text, paths[2]));
    assert_int_equal(rmdir(paths[2]), 0);
    assert_int_equal(letter_of(paths[0]), 'o');
    assert_int_equal(letter_of(paths[1]), 'o');
}

enum { N_LARGE = 4 };

/* How many bytes of a file lie in large pages. */
static size_t in_large_pages(const char *path)
{
    mapping m;
    mlxr_error error;
    char line[512];
    size_t found = 0;
    bool inside = false;
    assert_ok(mapping_open(&m, path, &error), &error);
    mapping_in_large_pages(m.data, m.n_bytes);
    for (size_t i = 0; i < m.n_bytes; i += 4096) {
        (void)*(const volatile uint8_t *)(m.data + i);
    }
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        unsigned long begin, end, kb;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
            inside = (uintptr_t)m.data >= begin && (uintptr_t)m.data < end;
        } else if (inside && sscanf(line, "FilePmdMapped: %lu", &kb) == 1) {
            found = kb * 1024;
        }
    }
    if (f) {
        fclose(f);
    }
    mapping_close(&m);
    return found;
}

static void pieces_of_any_size_and_order_are_the_file_and_lie_in_large_pages(void **state)
{
    const size_t n = N_LARGE * (size_t)MLXR_FILE_LARGE_PAGE + 1000, piece = 100003;
    uint8_t *bytes = malloc(n);
    char *back = NULL;
    size_t n_back = 0;
    (void)state;
    empty_folder();
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    /* Systems and file systems have them or not; where a file at once had some, memory may be in small pieces for a
     * moment. */
    size_t in_large[2] = {0};
    for (int run = 0; run < 6 && (run < 2 || (in_large[0] > 0 && in_large[1] == 0)); run++) {
        const int in_pieces = run > 0;
        mlxr_error error = {0};
        new_file file;
        assert_ok(new_file_open(&file, paths[0], n, &error), &error);
        assert_ok(in_pieces ? MLXR_OK : new_file_write(&file, 0, bytes, n, &error), &error);
        size_t n_pieces = (n + piece - 1) / piece;
        for (size_t i = 0; i < n_pieces && in_pieces; i++) {
            size_t at = i * 31 % n_pieces * piece; /* 84 pieces: each once */
            assert_ok(new_file_write(&file, at, bytes + at, n - at < piece ? n - at : piece, &error), &error);
        }
        assert_ok(new_file_commit(&file, &error), &error);
        assert_ok(file_read(paths[0], n, &back, &n_back, &error), &error);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, bytes, n);
        free(back);
        in_large[in_pieces] = in_large_pages(paths[0]);
    }
    assert_true(in_large[0] < N_LARGE * (size_t)MLXR_FILE_LARGE_PAGE || in_large[1] > 0);
    free(bytes);
}

#ifdef __linux__
/* From here on the system refuses this process to give files names. */
static bool refuse_linkat(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_linkat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void a_set_stays_whole_where_files_cannot_be_given_names(void **state)
{
    enum { REPLACED, KEPT, NO_FILTER };
    mlxr_error error = {0};
    (void)state;
    empty_folder();
    assert_ok(write_files(N_PARTS, 'o', &error), &error);
    pid_t child = fork();
    if (child == 0) {
        _exit(!refuse_linkat() ? NO_FILTER : write_files(N_PARTS, 'n', NULL) == MLXR_OK ? REPLACED : KEPT);
    }
    int status;
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_FILTER) {
        skip();
    }
    /* A file system without nameless files needs no names given. */
    for (int i = 0; i < N_PARTS; i++) {
        assert_int_equal(letter_of(paths[i]), WEXITSTATUS(status) == KEPT ? 'o' : 'n');
    }
    assert_int_equal(n_hidden(), 0);
}

/* Runs write_files in a process that is killed before its n-th call of the system. False: it ended before. */
static bool killed_at(unsigned n, size_t n_files, char letter)
{
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(write_files(n_files, letter, NULL) == MLXR_OK ? 0 : 1);
    }
    int status;
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    for (unsigned at = 0; at < 2 * n; at++) { /* before and behind each call */
        assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return true;
}

static void a_set_that_is_killed_at_any_call_is_whole_or_has_no_first(void **state)
{
    (void)state;
    for (int replaces = 0; replaces < 2; replaces++) {
        unsigned n = 1, n_old = 0, n_none = 0;
        bool killed = true;
        for (; killed; n++) {
            mlxr_error error = {0};
            empty_folder();
            assert_ok(replaces ? write_files(N_PARTS, 'o', &error) : MLXR_OK, &error);
            killed = killed_at(n, N_PARTS, 'n');
            char first = letter_of(paths[0]);
            for (int i = 1; i < N_PARTS && first; i++) {
                assert_int_equal(letter_of(paths[i]), first);
            }
            assert_true(first == 0 || first == 'n' || replaces);
            assert_int_equal(n_hidden(), 0);
            n_old += first == 'o';
            n_none += first == 0;
            assert_ok(write_files(N_PARTS, 'x', &error), &error); /* the next try finds its way */
            assert_int_equal(letter_of(paths[0]), 'x');
        }
        assert_true(n > 20 && (replaces ? n_old : n_none) > 10);
    }
}

static void a_single_file_that_is_killed_at_any_call_is_the_old_or_the_new(void **state)
{
    bool killed = true;
    (void)state;
    for (unsigned n = 1; killed; n++) {
        mlxr_error error = {0};
        empty_folder();
        assert_ok(write_files(1, 'o', &error), &error);
        killed = killed_at(n, 1, 'n');
        assert_true(letter_of(paths[0]) == 'o' || letter_of(paths[0]) == 'n');
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_take_the_place_of_what_had_their_names),
        cmocka_unit_test(what_cannot_be_replaced_leaves_none),
        cmocka_unit_test(pieces_of_any_size_and_order_are_the_file_and_lie_in_large_pages),
        cmocka_unit_test(a_folder_in_the_place_of_a_part_leaves_the_old_set_s_others),
#ifdef __linux__
        cmocka_unit_test(a_set_stays_whole_where_files_cannot_be_given_names),
        cmocka_unit_test(a_set_that_is_killed_at_any_call_is_whole_or_has_no_first),
        cmocka_unit_test(a_single_file_that_is_killed_at_any_call_is_the_old_or_the_new),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
