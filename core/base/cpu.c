/*
 * CPU features as the processor reports them and the operating system grants them.
 * Owner: none; plain values. Lifetime: the process does not change CPU.
 */
#include "base/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

static const char *const names[CPU_FEATURE_COUNT] = {
#define CPU_FEATURE_NAME(name, text) text,
    CPU_FEATURE_LIST(CPU_FEATURE_NAME)
#undef CPU_FEATURE_NAME
};

const char *cpu_feature_name(unsigned index)
{
    return index < CPU_FEATURE_COUNT ? names[index] : NULL;
}

#if defined(__x86_64__)

static bool bit(uint32_t word, unsigned index)
{
    return word >> index & 1;
}

/* AMD's cores have four units that add integers, two of which multiply: measured on Zen 4 (vpaddw of 512 bits two a
 * cycle, vpdpwssd one) and taken to hold for Zen 5, which was not. Intel's with two units for 512 bits do both in
 * either. Intel's with one that multiplies, most of those not made for servers, would gain as well; they are left out,
 * as CPUID does not tell them apart and none was measured. */
static bool adds_fast(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

/* Intel SDM vol. 2A, CPUID leaves 1 and 7. */
cpu_features cpu_advertised(void)
{
    uint32_t a, b, c, d, b7 = 0, c7 = 0, d7 = 0, a71 = 0;
    cpu_features found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) {
        return 0;
    }
    uint32_t c1 = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        uint32_t n_subleaves = a;
        b7 = b;
        c7 = c;
        d7 = d;
        if (n_subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
            a71 = a;
        }
    }
    if (bit(b7, 5) && bit(b7, 8) && bit(c1, 12) && bit(c1, 29) && bit(c1, 28)) {
        found |= CPU_AVX2 | CPU_HALVES | CPU_LAID;
        found |= bit(a71, 4) ? CPU_AVX_VNNI : 0;
    }
    bool avx512 = bit(b7, 16) && bit(b7, 17) && bit(b7, 28) && bit(b7, 30) && bit(b7, 31);
    if ((found & CPU_AVX2) && avx512) {
        found |= CPU_AVX512;
        found |= bit(c7, 11) ? CPU_AVX512_VNNI : 0;
        found |= bit(a71, 5) ? CPU_AVX512_BF16 : 0;
        found |= (found & CPU_AVX512_VNNI) && adds_fast() ? CPU_AVX512_ADDS : 0;
        if (bit(d7, 24)) {
            found |= bit(d7, 25) ? CPU_AMX_INT8 : 0;
            found |= bit(d7, 22) ? CPU_AMX_BF16 : 0;
        }
    }
    return found;
}

/* The register state the OS saves: without it an instruction set faults or, worse, loses registers. */
static uint64_t xcr0(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) {
        return 0;
    }
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool amx_permitted(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM_CALL = 0x1023, XFEATURE_XTILEDATA_INDEX = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_CALL, XFEATURE_XTILEDATA_INDEX) == 0;
#else
    return false;
#endif
}

cpu_features cpu_detect(void)
{
    const cpu_features amx = CPU_AMX_INT8 | CPU_AMX_BF16;
    const cpu_features avx512 = CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_ADDS;
    cpu_features found = cpu_advertised();
    uint64_t saved = xcr0();
    if ((saved & 0x6) != 0x6) { /* XMM, YMM */
        return 0;
    }
    if ((saved & 0xe6) != 0xe6) { /* opmask, ZMM */
        found &= ~(avx512 | amx);
    }
    if ((found & amx) && ((saved & 0x60000) != 0x60000 || !amx_permitted())) { /* XTILECFG, XTILEDATA */
        found &= ~amx;
    }
    return found;
}

const char *cpu_model_name(char *out, size_t cap)
{
    uint32_t words[12] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t *w = words + 4 * i;
        if (!__get_cpuid(0x80000002u + i, w, w + 1, w + 2, w + 3)) {
            snprintf(out, cap, "unknown x86-64");
            return out;
        }
    }
    char text[49] = {0};
    memcpy(text, words, 48);
    const char *begin = text + strspn(text, " ");
    snprintf(out, cap, "%s", begin);
    return out;
}

#elif defined(__aarch64__)

cpu_features cpu_detect(void)
{
    cpu_features found = CPU_NEON;
#if defined(__linux__)
    /* arch/arm64/include/uapi/asm/hwcap.h */
    unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    found |= caps >> 20 & 1 ? CPU_DOTPROD : 0;
    found |= caps2 >> 13 & 1 ? CPU_I8MM : 0;
    found |= caps2 >> 14 & 1 ? CPU_ARM_BF16 : 0;
#elif defined(__APPLE__)
    static const struct {
        const char *name;
        cpu_features bit;
    } keys[] = {{"hw.optional.arm.FEAT_DotProd", CPU_DOTPROD},
                {"hw.optional.arm.FEAT_I8MM", CPU_I8MM},
                {"hw.optional.arm.FEAT_BF16", CPU_ARM_BF16}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int value = 0;
        size_t size = sizeof value;
        if (sysctlbyname(keys[i].name, &value, &size, NULL, 0) == 0 && value) {
            found |= keys[i].bit;
        }
    }
#endif
    return found;
}

cpu_features cpu_advertised(void)
{
    return cpu_detect();
}

const char *cpu_model_name(char *out, size_t cap)
{
#if defined(__APPLE__)
    size_t size = cap;
    if (sysctlbyname("machdep.cpu.brand_string", out, &size, NULL, 0) == 0) {
        return out;
    }
#endif
    snprintf(out, cap, "ARM64");
    return out;
}

#else

cpu_features cpu_detect(void)
{
    return 0;
}

cpu_features cpu_advertised(void)
{
    return 0;
}

const char *cpu_model_name(char *out, size_t cap)
{
    snprintf(out, cap, "unknown");
    return out;
}

#endif

/* What a masked name clears; levels that build on it go along. */
static cpu_features mask_bits(const char *name, size_t n)
{
    static const struct {
        const char *name;
        cpu_features bits;
    } levels[] = {
        {"scalar", ~(cpu_features)0},
        {"avx2", CPU_AVX2 | CPU_AVX_VNNI | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_ADDS |
                     CPU_AMX_INT8 | CPU_AMX_BF16 | CPU_HALVES | CPU_LAID},
        {"avx512", CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_ADDS | CPU_AMX_INT8 | CPU_AMX_BF16},
        {"avx512-vnni", CPU_AVX512_VNNI | CPU_AVX512_ADDS},
        {"amx", CPU_AMX_INT8 | CPU_AMX_BF16},
        {"neon", CPU_NEON | CPU_DOTPROD | CPU_I8MM | CPU_ARM_BF16},
    };
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strlen(levels[i].name) == n && memcmp(levels[i].name, name, n) == 0) {
            return levels[i].bits;
        }
    }
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

mlxr_status cpu_mask(cpu_features *features, const char *mask, mlxr_error *error)
{
    cpu_features result = *features;
    for (const char *p = mask; *p;) {
        size_t n = strcspn(p, ",");
        const char *name = p;
        size_t n_name = n;
        bool plain = n == 6 && memcmp(p, "scalar", 6) == 0;
        if (n > 0 && *p == '-') {
            name++;
            n_name--;
            plain = true;
        }
        cpu_features bits = n_name ? mask_bits(name, n_name) : 0;
        if (!plain || !bits) {
            return error_set(error, MLXR_ARG,
                             "CPU feature mask: '%.*s' is unknown; use -avx2, -avx-vnni, -avx512, -avx512-vnni, "
                             "-avx512-bf16, -avx512-adds, -amx, -amx-int8, -amx-bf16, -halves, -laid, -neon, -dotprod, "
                             "-i8mm, -bf16 or scalar, separated by commas",
                             (int)(n < 60 ? n : 60), p);
        }
        result &= ~bits;
        p += n;
        p += *p == ',';
    }
    *features = result;
    return MLXR_OK;
}

#if defined(__linux__)
/* cgroup v2: "max 100000" or "<quota> <period>". */
static uint32_t cgroup_cores(void)
{
    char text[64] = {0};
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!file) {
        return 0;
    }
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *end;
    unsigned long long quota = strtoull(text, &end, 10);
    if (end == text) { /* "max" */
        return 0;
    }
    unsigned long long period = strtoull(end, NULL, 10);
    return period ? (uint32_t)((quota + period - 1) / period) : 0;
}
#endif

uint32_t cpu_cores_usable(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        n = CPU_COUNT(&set);
    }
    uint32_t quota = cgroup_cores();
    if (quota && (long)quota < n) {
        n = quota;
    }
#endif
    return n > 0 ? (uint32_t)n : 1;
}
