/*
 * The file of verdicts: read whole, written whole.
 * Owner, lifetime: as verdicts.h says.
 */
#include "kernels/mlx/verdicts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapping.h"

#define FILE_LIMIT ((size_t)1 << 20)
#define FIRST_LINE "mlxr kernels 1\n"
#define LAST_LINE "sum\t"
#define FIELDS 7u
#define THREADS_MAX 1024u

static const char *const verdict_names[] = {[KERNEL_OK] = "ok", [KERNEL_SLOWER] = "slower", [KERNEL_FAILED] = "failed"};

/* Cuts a line in place. False: it has another number of fields. */
static bool cut(char *line, char *fields[FIELDS])
{
    for (uint32_t i = 0; i < FIELDS; i++) {
        fields[i] = line;
        char *tab = line ? strchr(line, '\t') : NULL;
        if (!line || !tab != (i == FIELDS - 1)) {
            return false;
        }
        if (tab) {
            *tab = '\0';
            line = tab + 1;
        }
    }
    return true;
}

/* The text behind the first line, ended where the sum begins; NULL: not as it was written. */
static char *check_text(char *text, size_t n_bytes)
{
    const char *last = NULL;
    for (char *at = text; (at = strstr(at, "\n" LAST_LINE)); at++) {
        last = at + 1;
    }
    if (strlen(text) != n_bytes || strncmp(text, FIRST_LINE, strlen(FIRST_LINE)) != 0 || !last) {
        return NULL;
    }
    char sum[40];
    size_t n = (size_t)(last - text);
    snprintf(sum, sizeof sum, LAST_LINE "%016" PRIx64 "\n", unit_digest_add(UNIT_DIGEST_BEGIN, text, n));
    if (strcmp(last, sum) != 0) {
        return NULL;
    }
    text[n] = '\0';
    return text + strlen(FIRST_LINE);
}

/* What is in the file, or NULL with the reason; *whole is what must be freed. */
static char *load(const char *path, char **whole, char *warning, size_t warning_bytes)
{
    mlxr_error error;
    size_t n = 0;
    *whole = NULL;
    *warning = '\0';
    if (path_find(path) == PATH_NONE) {
        return NULL;
    }
    if (file_read(path, FILE_LIMIT, whole, &n, &error) != MLXR_OK) {
        snprintf(warning, warning_bytes, "what is known of this device's kernels cannot be read: %.200s", error.text);
        return NULL;
    }
    char *lines = check_text(*whole, n);
    if (!lines) {
        snprintf(warning, warning_bytes, "%.160s is damaged and ignored; `mlxr doctor --metal` writes it anew", path);
    }
    return lines;
}

static bool is_key(char *const fields[FIELDS], const verdicts_key *key)
{
    return strcmp(fields[0], key->device) == 0 && strcmp(fields[1], key->mlx) == 0;
}

void verdicts_read(const char *path, const verdicts_key *key, unit_choices *out, char *warning, size_t warning_bytes)
{
    char *whole, *fields[FIELDS];
    memset(out, 0, sizeof *out);
    char *line = load(path, &whole, warning, warning_bytes);
    while (line && *line) {
        char *next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        if (cut(line, fields) && is_key(fields, key)) {
            kernel_unit unit = unit_find(fields[2]);
            if (unit < UNIT_COUNT && strtoull(fields[3], NULL, 16) == unit_digest(unit)) {
                unsigned long threads = strtoul(fields[5], NULL, 10);
                out->off[unit] = strcmp(fields[4], verdict_names[KERNEL_OK]) != 0;
                out->threads[unit] = threads <= THREADS_MAX ? (uint32_t)threads : 0;
            }
        }
        line = next;
    }
    free(whole);
}

/* Lines of other devices and versions, as they are. */
static void keep_others(FILE *to, char *line, const verdicts_key *key)
{
    char *fields[FIELDS], copy[1024];
    while (line && *line) {
        char *next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        snprintf(copy, sizeof copy, "%s", line);
        if (cut(copy, fields) && !is_key(fields, key)) {
            fprintf(to, "%s\n", line);
        }
        line = next;
    }
}

static void write_findings(FILE *to, const verdicts_key *key, const kernel_report *report)
{
    for (uint32_t i = 0; i < report->n_findings; i++) {
        const kernel_finding *f = &report->findings[i];
        char why[sizeof f->why];
        snprintf(why, sizeof why, "%s", f->why);
        for (char *c = why; *c; c++) {
            *c = *c == '\t' || *c == '\n' ? ' ' : *c;
        }
        fprintf(to, "%s\t%s\t%s\t%016" PRIx64 "\t%s\t%u\t%s\n", key->device, key->mlx, f->name, f->digest,
                verdict_names[f->verdict], f->threads, why);
    }
}

/* Folders that the path needs, as far as they are missing. */
static void make_folders(const char *path)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *c = folder + 1; *c; c++) {
        if (*c == '/') {
            *c = '\0';
            mkdir(folder, 0777); /* opening the file says what is wrong */
            *c = '/';
        }
    }
}

/* The whole content beside the file and into its place. */
static int replace(const char *path, const char *text, size_t n_bytes)
{
    char beside[4096];
    if ((size_t)snprintf(beside, sizeof beside, "%s.%ld", path, (long)getpid()) >= sizeof beside) {
        return ENAMETOOLONG;
    }
    make_folders(path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), wrong = 0;
    if (fd < 0) {
        return errno;
    }
    for (size_t done = 0; done < n_bytes && !wrong;) {
        ssize_t n = write(fd, text + done, n_bytes - done);
        wrong = n < 0 && errno != EINTR ? errno : 0;
        done += n > 0 ? (size_t)n : 0;
    }
    wrong = wrong ? wrong : file_sync(fd);
    if (close(fd) != 0 && !wrong) {
        wrong = errno;
    }
    if (!wrong && rename(beside, path) != 0) {
        wrong = errno;
    }
    if (wrong) {
        unlink(beside);
    }
    return wrong;
}

mlxr_status verdicts_write(const char *path, const verdicts_key *key, const kernel_report *report, mlxr_error *error)
{
    char *whole, *text = NULL, warning[400];
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (!to) {
        return error_nomem(error, "verdicts on kernels", FILE_LIMIT);
    }
    char *lines = load(path, &whole, warning, sizeof warning);
    fputs(FIRST_LINE, to);
    keep_others(to, lines, key);
    free(whole);
    write_findings(to, key, report);
    bool ok = fflush(to) == 0;
    if (ok) {
        fprintf(to, LAST_LINE "%016" PRIx64 "\n", unit_digest_add(UNIT_DIGEST_BEGIN, text, n));
    }
    ok = fclose(to) == 0 && ok;
    int wrong = ok ? replace(path, text, n) : ENOMEM;
    free(text);
    return wrong ? error_set(error, MLXR_IO, "verdicts on kernels cannot be kept in %s: %s", path, strerror(wrong))
                 : MLXR_OK;
}
