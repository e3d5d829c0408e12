/*
 * checkkernels: checks every kernel of every instruction set this machine grants against plain loops, raising the
 * features one set at a time; with --bench, measures those that a set brings.
 * Owner: main. Lifetime: the process.
 */
#include "checkkernels.h"
#include "kernels/cpu/ops.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* What the software model of this program's instructions adds (model/isa_model.h); it needs AVX-512. */
#ifdef CHECK_MODEL
static const cpu_features modelled = CPU_AVX_VNNI | CPU_AVX512_BF16 | CPU_AMX_INT8 | CPU_AMX_BF16;
static const cpu_features model_needs = CPU_AVX512 | CPU_AVX512_VNNI;
#else
static const cpu_features modelled = 0, model_needs = 0;
#endif

static const check_suite *const suites[] = {
#define CHECK_POINTER(name) &check_##name,
    CHECK_SUITES(CHECK_POINTER)
#undef CHECK_POINTER
};

/* Each set with all that it builds on. */
static const struct {
    const char *name;
    cpu_features features;
} sets[] = {
    {"scalar", 0},
    {"avx2", CPU_AVX2},
    {"avx-vnni", CPU_AVX2 | CPU_AVX_VNNI},
    {"avx512", CPU_AVX2 | CPU_AVX512},
    {"avx512-vnni", CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI},
    {"avx512-adds", CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_ADDS},
    {"avx512-bf16", CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16},
    {"amx", CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AMX_INT8},
    {"amx-bf16", CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AMX_INT8 | CPU_AMX_BF16},
    {"neon", CPU_NEON},
    {"dotprod", CPU_NEON | CPU_DOTPROD},
    {"i8mm", CPU_NEON | CPU_DOTPROD | CPU_I8MM},
    {"bf16", CPU_NEON | CPU_DOTPROD | CPU_I8MM | CPU_ARM_BF16},
};

check_memory check_alloc(size_t n_bytes, bool at_end)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t inner = (n_bytes + page - 1) / page * page;
    check_memory m = {.n_bytes = n_bytes, .map_bytes = inner + 2 * page};
    m.map = mmap(NULL, m.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m.map == MAP_FAILED || (inner && mprotect((uint8_t *)m.map + page, inner, PROT_READ | PROT_WRITE) != 0)) {
        fprintf(stderr, "checkkernels: no memory for %zu bytes\n", n_bytes);
        exit(1);
    }
    m.bytes = (uint8_t *)m.map + page + (at_end ? inner - n_bytes : 0);
    return m;
}

void check_free(check_memory *m)
{
    munmap(m->map, m->map_bytes);
    *m = (check_memory){0};
}

static const uint32_t canary_bits = 0x7fc0ca9au;

float check_canary(void)
{
    float f;
    memcpy(&f, &canary_bits, sizeof f);
    return f;
}

bool check_is_canary(float f)
{
    return memcmp(&f, &canary_bits, sizeof f) == 0;
}

void check_result(check *c, bool ok, const char *format, ...)
{
    c->n_cases++;
    if (ok || c->n_failed++ >= 20) {
        return;
    }
    va_list args;
    va_start(args, format);
    printf("FAILED  %s: ", c->set);
    vprintf(format, args);
    printf("  (--seed %llu)\n", (unsigned long long)c->seed);
    va_end(args);
}

double check_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--quick] [--bench] [--hot] [--laid] [--rounded] [--seed N] [--isa NAME] [--only SUITE]\n"
            "          [--type TYPE] [--shape TEXT] [--threads N]\n",
            program);
    return 2;
}

static bool rows_differ(cpu_features a, cpu_features b)
{
    ops_table x = ops_table_make(a), y = ops_table_make(b);
    return memcmp(&x, &y, sizeof x) != 0;
}

int main(int argc, char **argv)
{
    check c = {.seed = (uint64_t)time(NULL), .n_threads = 1};
    const char *isa = NULL, *only = NULL;
    bool bench = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--quick") == 0) {
            c.quick = true;
            continue;
        }
        if (strcmp(argv[i], "--bench") == 0) {
            bench = true;
            continue;
        }
        if (strcmp(argv[i], "--rounded") == 0) {
            c.rounded = true;
            continue;
        }
        if (strcmp(argv[i], "--laid") == 0) {
            c.laid = true;
            continue;
        }
        if (strcmp(argv[i], "--hot") == 0) {
            c.hot = true;
            continue;
        }
        if (!value) {
            return usage(argv[0]);
        }
        if (strcmp(argv[i], "--seed") == 0) {
            c.seed = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--isa") == 0) {
            isa = value;
        } else if (strcmp(argv[i], "--only") == 0) {
            only = value;
        } else if (strcmp(argv[i], "--type") == 0) {
            c.type = value;
        } else if (strcmp(argv[i], "--shape") == 0) {
            c.shape = value;
        } else if (strcmp(argv[i], "--threads") == 0 && atoi(value) > 0) {
            c.n_threads = (uint32_t)atoi(value);
        } else {
            return usage(argv[0]);
        }
        i++;
    }
    cpu_features granted = cpu_detect(), below = 0;
    granted |= (model_needs & ~granted) == 0 ? modelled : 0;
    granted |= granted & CPU_AVX512_VNNI ? CPU_AVX512_ADDS : 0; /* its kernels are right on any processor with VNNI */
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        bool wanted = isa ? strcmp(isa, sets[s].name) == 0 : !modelled || (sets[s].features & modelled);
        if (sets[s].features & ~granted) {
            continue;
        }
        bool new_rows = rows_differ(sets[s].features, below); /* from those of a set measured before */
        below = sets[s].features;
        if (!wanted) {
            continue;
        }
        c.features = sets[s].features;
        c.set = sets[s].name;
        for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
            if (only && strcmp(only, suites[i]->name) != 0) {
                continue;
            }
            c.random = c.seed;
            if (!bench) {
                uint64_t cases = c.n_cases, failed = c.n_failed;
                double begin = check_seconds();
                suites[i]->run(&c);
                printf("%-12s %-12s %6llu cases, %llu failed, %.2f s\n", c.set, suites[i]->name,
                       (unsigned long long)(c.n_cases - cases), (unsigned long long)(c.n_failed - failed),
                       check_seconds() - begin);
            } else if (suites[i]->bench && (suites[i]->of_products || new_rows || isa)) {
                suites[i]->bench(&c);
            }
        }
    }
    if (!bench) {
        printf("%llu cases, %llu failed, seed %llu\n", (unsigned long long)c.n_cases, (unsigned long long)c.n_failed,
               (unsigned long long)c.seed);
    }
    return c.n_failed ? 1 : 0;
}
