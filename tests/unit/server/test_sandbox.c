/*
 * The sandbox, tried by a child that behaves as a parser would that a model file has taken over.
 * Owner: the test program. Lifetime: the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/sandbox.h"
#include "support/test.h"

static char store[512], models[512];

static bool can_open(const char *folder, const char *name, int flags)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static bool can_rename(const char *folder, const char *from, const char *to)
{
    char a[1024], b[1024];
    snprintf(a, sizeof a, "%s/%s", folder, from);
    snprintf(b, sizeof b, "%s/%s", folder, to);
    return rename(a, b) == 0;
}

static bool can_execute(void)
{
    char *const arguments[] = {"true", NULL}, *const environment[] = {NULL};
    pid_t child = fork();
    if (child == 0) {
        execve("/bin/true", arguments, environment);
        _exit(errno == EPERM || errno == EACCES ? 77 : 1);
    }
    int status = 0;
    return child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 77;
}

/* The number of the first thing that is not as it should be; 0: all is. */
static int try_all(void)
{
    int n = 1;
    const bool wanted[] = {
        can_open(store, "old", O_RDWR),
        can_open(store, "new", O_RDWR | O_CREAT | O_EXCL),
        can_rename(store, "new", "newer"),
        can_open(models, "model", O_RDONLY),
        !can_open(models, "model", O_WRONLY),
        !can_open(models, "model", O_RDONLY | O_TRUNC),
        !can_open(models, "other", O_WRONLY | O_CREAT),
        !can_rename(models, "model", "gone"),
        !can_open("/etc", "passwd", O_RDONLY),
        !can_open("/", "mlxr-test", O_WRONLY | O_CREAT),
        !can_open("/proc", "1/environ", O_RDONLY),
        !can_open("/bin", "true", O_RDONLY),
        !can_execute(),
        socket(AF_INET, SOCK_STREAM, 0) >= 0, /* models are still pulled */
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++, n++) {
        if (!wanted[i]) {
            return n;
        }
    }
    return 0;
}

static void *try_in_thread(void *result)
{
    *(int *)result = try_all();
    return NULL;
}

static int confined(void)
{
    sandbox *s;
    mlxr_error error;
    const char *what;
    pthread_t thread;
    int in_thread = -1;
    if (sandbox_open(&s, &error) != MLXR_OK) {
        return 100;
    }
    sandbox_allow(s, store, true);
    sandbox_allow(s, models, false);
    sandbox_allow(s, "/nonexistent", true);
    mlxr_status status = sandbox_enter(s, &what, &error);
    sandbox_close(&s);
    if (status == MLXR_UNSUPPORTED || strcmp(what, "Landlock and seccomp") != 0) {
        return 99;
    }
    if (pthread_create(&thread, NULL, try_in_thread, &in_thread) != 0 || pthread_join(thread, NULL) != 0) {
        return 98;
    }
    char path[1024]; /* what the thread has made */
    snprintf(path, sizeof path, "%s/newer", store);
    return in_thread ? in_thread : unlink(path) != 0 ? 97 : try_all();
}

static void nothing_but_the_store_and_the_models_is_left(void **state)
{
    char path[1024];
    (void)state;
    snprintf(store, sizeof store, "%s/store", test_temp_dir());
    snprintf(models, sizeof models, "%s/models", test_temp_dir());
    assert_int_equal(mkdir(store, 0700) | mkdir(models, 0700), 0);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", i ? models : store, i ? "model" : "old");
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(confined());
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 99) {
        print_message("this kernel lacks Landlock or seccomp\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_but_the_store_and_the_models_is_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
