/*
 * What a backend found out about its own kernels on this device.
 * Owner: the caller's struct. Lifetime: the call.
 */
#ifndef MLXR_KERNELS_KERNEL_REPORT_H
#define MLXR_KERNELS_KERNEL_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define KERNEL_FINDINGS_MAX 32u
#define KERNEL_SIZES_MAX 8u

typedef enum kernel_verdict {
    KERNEL_OK,
    KERNEL_SLOWER, /* than what is done without it */
    KERNEL_FAILED, /* does not compile, does not run, or is wrong */
} kernel_verdict;

/* A threadgroup of so many threads. */
typedef struct kernel_size {
    uint32_t threads;
    bool right;
    double s; /* of the timed cases, together; 0: not timed */
} kernel_size;

typedef struct kernel_finding {
    char name[40];
    uint64_t digest; /* of its source */
    kernel_verdict verdict;
    char why[200];
    uint32_t n_cases;
    double error_vectors;  /* (found − recorded)² / mean recorded², at worst; < 0: none was compared */
    double error_fallback; /* likewise, against what is done without the kernel */
    double first_s;        /* of the first run, which compiles it */
    double kernel_s, fallback_s;
    double ratio;     /* kernel / fallback, the geometric mean of the timed cases; 0: not timed */
    uint32_t threads; /* the best size, where it is clearly better than the kernel's own choice; else 0 */
    kernel_size sizes[KERNEL_SIZES_MAX];
    uint32_t n_sizes;
} kernel_finding;

typedef struct kernel_report {
    char device[96], library[48]; /* "Apple M4", "0.32.4" */
    bool emulated;                /* on the CPU: right or wrong, but times say nothing */
    kernel_finding findings[KERNEL_FINDINGS_MAX];
    uint32_t n_findings;
} kernel_report;

#endif
