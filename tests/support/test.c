/*
 * Temporary files and random numbers for native tests.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/test.h"

#include <unistd.h>

const char *test_temp_dir(void)
{
    static char path[256];
    if (!path[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(path, sizeof path, "%s/mlxr-test-XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(path)) {
            fprintf(stderr, "cannot make %s\n", path);
            abort();
        }
    }
    return path;
}

const char *test_write_file(const char *name, const void *data, size_t n)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_temp_dir(), name);
    FILE *file = fopen(path, "wb");
    if (!file || (n && fwrite(data, 1, n, file) != n) || fclose(file) != 0) {
        fprintf(stderr, "cannot write %s\n", path);
        abort();
    }
    return path;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
