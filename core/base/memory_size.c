/*
 * How much memory this process may still use.
 * Owner: none. Lifetime: the call.
 */
#include "base/memory_size.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEAST_AVAILABLE ((uint64_t)256 << 20)
#define GROUP_PATH_MAX 1024

static uint64_t physical_bytes(void)
{
    long n = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return n > 0 && size > 0 ? (uint64_t)n * (uint64_t)size : LEAST_AVAILABLE;
}

#if defined(__linux__)

/* The first number in a file such as memory.max; `absent` where there is none ("max"). */
static uint64_t number_in_file(const char *path, uint64_t absent)
{
    char text[64] = {0};
    FILE *file = fopen(path, "r");
    if (!file) {
        return absent;
    }
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    return end == text ? absent : value;
}

static FILE *open_below(const char *root, const char *path)
{
    char all[GROUP_PATH_MAX + 32];
    return snprintf(all, sizeof all, "%s%s", root, path) < (int)sizeof all ? fopen(all, "r") : NULL;
}

static uint64_t meminfo_available(const char *root, uint64_t absent)
{
    char line[128];
    FILE *file = open_below(root, "/proc/meminfo");
    uint64_t result = absent;
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "MemAvailable:", 13) == 0) {
            result = strtoull(line + 13, NULL, 10) * 1024;
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return result;
}

/* The files of a control group, in the two versions that there are. */
typedef struct group_version {
    const char *tag, *folder, *limit, *used, *stat[2]; /* tag: before its path in /proc/self/cgroup */
} group_version;

static const group_version group_versions[] = {
    {"0::/", "/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file ", "active_file "}},
    {":memory:/",
     "/sys/fs/cgroup/memory",
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
};

static uint64_t number_in_group(const char *folder, const char *file, uint64_t absent)
{
    char path[GROUP_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return number_in_file(path, absent);
}

/* Pages of files that the system takes back when it needs them: they count as used, and are not in the way. */
static uint64_t files_in_group(const char *folder, const group_version *v)
{
    char path[GROUP_PATH_MAX + 32], line[128];
    uint64_t sum = 0;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        for (size_t i = 0; i < 2; i++) {
            size_t n = strlen(v->stat[i]);
            sum += strncmp(line, v->stat[i], n) == 0 ? strtoull(line + n, NULL, 10) : 0;
        }
    }
    if (file) {
        fclose(file);
    }
    return sum;
}

/* The lowest limit of a group and those around it, and the least that any of them leaves. */
static void bound_by_groups(const char *root, const group_version *v, const char *own, memory_sizes *sizes)
{
    char folder[GROUP_PATH_MAX];
    size_t n_root = strlen(root) + strlen(v->folder);
    if (snprintf(folder, sizeof folder, "%s%s%s", root, v->folder, own) >= (int)sizeof folder) {
        return;
    }
    for (char *end = folder + strlen(folder); end && end >= folder + n_root; end = strrchr(folder, '/')) {
        *end = 0;
        uint64_t most = number_in_group(folder, v->limit, UINT64_MAX);
        if (most < sizes->physical) {
            uint64_t used = number_in_group(folder, v->used, 0), files = files_in_group(folder, v);
            used -= files < used ? files : used;
            uint64_t rest = most > used ? most - used : 0;
            sizes->total = most < sizes->total ? most : sizes->total;
            sizes->available = rest < sizes->available ? rest : sizes->available;
        }
    }
}

memory_sizes memory_sizes_below(const char *root, uint64_t physical)
{
    memory_sizes sizes = {.physical = physical, .total = physical};
    char line[GROUP_PATH_MAX];
    FILE *file = open_below(root, "/proc/self/cgroup");
    bool any = false;
    sizes.available = meminfo_available(root, physical / 2);
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        for (size_t i = 0; i < sizeof group_versions / sizeof *group_versions; i++) {
            const group_version *v = &group_versions[i];
            const char *tag = strstr(line, v->tag);
            if (tag && (i > 0 || tag == line)) {
                bound_by_groups(root, v, tag + strlen(v->tag) - 1, &sizes);
                any = true;
            }
        }
    }
    if (file) {
        fclose(file);
    }
    if (!any) {
        bound_by_groups(root, &group_versions[0], "", &sizes);
    }
    return sizes;
}

uint64_t memory_total(void)
{
    return memory_sizes_below("", physical_bytes()).total;
}

uint64_t memory_spare(void)
{
    return memory_sizes_below("", physical_bytes()).available;
}

uint64_t memory_available(void)
{
    uint64_t available = memory_spare();
    return available > LEAST_AVAILABLE ? available : LEAST_AVAILABLE;
}

uint64_t memory_for_weights(void)
{
    return memory_available();
}

#else

uint64_t memory_total(void)
{
    return physical_bytes();
}

uint64_t memory_spare(void)
{
    return physical_bytes() / 2;
}

uint64_t memory_available(void)
{
    uint64_t half = memory_spare();
    return half > LEAST_AVAILABLE ? half : LEAST_AVAILABLE;
}

uint64_t memory_for_weights(void)
{
    return physical_bytes() / 4 * 3;
}

#endif
