/*
 * Runs a fuzz target over files instead of random bytes: the corpus replay of `make test`, and one crashing input.
 * Owner: the test program. Lifetime: the process.
 *
 *   fuzz_replay_NAME FILE-OR-FOLDER…     exit 1 if a folder holds no file
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* An exact malloc'd copy, so that AddressSanitizer sees the first byte read past its end. */
static int replay_file(const char *path, size_t n)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(n ? n : 1);
    if (!file || !data || fread(data, 1, n, file) != n) {
        fprintf(stderr, "%s: cannot read: %s\n", path, strerror(errno));
        if (file) {
            fclose(file);
        }
        free(data);
        return 1;
    }
    fclose(file);
    fprintf(stderr, "%s\n", path); /* the last one named is the one that crashed */
    LLVMFuzzerTestOneInput(data, n);
    /* Cut short, in a buffer of that length: parsers break at ends of data. */
    for (unsigned part = 1; part < 4; part++) {
        size_t cut = n * part / 4;
        uint8_t *shorter = malloc(cut ? cut : 1);
        if (shorter) {
            memcpy(shorter, data, cut);
            LLVMFuzzerTestOneInput(shorter, cut);
            free(shorter);
        }
    }
    free(data);
    return 0;
}

static int replay(const char *path, unsigned *n_files, unsigned depth)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    if (!S_ISDIR(info.st_mode)) {
        *n_files += 1;
        return replay_file(path, (size_t)info.st_size);
    }
    struct dirent **entries = NULL;
    int n_entries = depth < 4 ? scandir(path, &entries, NULL, alphasort) : -1;
    if (n_entries < 0) {
        fprintf(stderr, "%s: cannot list\n", path);
        return 1;
    }
    int failed = 0;
    for (int i = 0; i < n_entries; i++) {
        char inner[4096];
        if (entries[i]->d_name[0] != '.') {
            snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
            failed |= replay(inner, n_files, depth + 1);
        }
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    unsigned n_files = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        unsigned before = n_files;
        failed |= replay(argv[i], &n_files, 0);
        if (n_files == before) {
            fprintf(stderr, "%s: no inputs\n", argv[i]);
            failed = 1;
        }
    }
    fprintf(stderr, "%u inputs\n", n_files);
    return failed;
}
