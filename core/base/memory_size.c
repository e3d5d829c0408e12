/*
 * How much memory this process may still use.
 * Owner: none. Lifetime: the call.
 */
#include "base/memory_size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEAST_AVAILABLE ((uint64_t)256 << 20)

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

static uint64_t meminfo_available(uint64_t absent)
{
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
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

uint64_t memory_total(void)
{
    uint64_t total = physical_bytes();
    uint64_t limit = number_in_file("/sys/fs/cgroup/memory.max", total);
    return limit < total ? limit : total;
}

uint64_t memory_available(void)
{
    uint64_t available = meminfo_available(physical_bytes() / 2);
    uint64_t limit = number_in_file("/sys/fs/cgroup/memory.max", UINT64_MAX);
    if (limit != UINT64_MAX) {
        uint64_t used = number_in_file("/sys/fs/cgroup/memory.current", 0);
        uint64_t left = limit > used ? limit - used : 0;
        available = left < available ? left : available;
    }
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

uint64_t memory_available(void)
{
    uint64_t half = physical_bytes() / 2;
    return half > LEAST_AVAILABLE ? half : LEAST_AVAILABLE;
}

uint64_t memory_for_weights(void)
{
    return physical_bytes() / 4 * 3;
}

#endif
