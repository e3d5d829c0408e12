/*
 * The contract between the engine and a device: load a plan once, run steps of it.
 * Owner: the engine. Lifetime: open to close. One thread at a time (the engine's).
 */
#ifndef MLXR_KERNELS_BACKEND_H
#define MLXR_KERNELS_BACKEND_H

#include "base/cpu.h"
#include "kernels/kernel_report.h"
#include "kernels/kv_layout.h"
#include "kernels/plan.h"
#include "kernels/step_observer.h"
#include "kernels/step_profile.h"

typedef struct backend backend; /* one open device; each backend defines its own struct */
typedef struct program program; /* a plan made ready for a device: fused, kernels chosen, weights in place */

typedef struct backend_options {
    uint32_t n_threads;       /* ≥ 1 */
    cpu_features features;    /* what the CPU backend may use */
    bool scalar;              /* the oracle: scalar kernels, double accumulators, no fusion */
    uint32_t activation_bits; /* of inputs that meet quantised weights: 8, or what the backend has best */
    bool batch_invariant;     /* use no kernel whose result for a row depends on the step's other rows; set only where
                                 backend_ops says that there are such kernels for everything */
    const char *kernel_file;  /* what is known of this device's kernels (check_kernels), or NULL; read by open */
    void (*warn)(void *user, const char *line); /* what open has to tell, or NULL */
    void *warn_user;
} backend_options;

/* Do results for a row depend on the step's other rows? */
typedef enum batch_dependence {
    BATCH_MATTERS,      /* yes */
    BATCH_MAY_MATTER,   /* not if backend_options.batch_invariant is set */
    BATCH_NEVER_MATTERS /* no, whether asked or not */
} batch_dependence;

/* An adapter that a slice's sequence has. */
typedef struct step_adapter {
    const adapter_product *products; /* by op.product; all numbers finite */
    uint64_t name[2];                /* of what is in them: a backend may keep it under this */
    float scale;
} step_adapter;

/* The rows of one sequence in a step: consecutive positions start … start + n_rows − 1. */
typedef struct step_slice {
    uint32_t first_row, n_rows;
    uint32_t start;
    uint32_t second; /* the position from which tokens are of the second kind, for OP_KIND; 0: none is */
    /* Attention: page id of positions [i × page_tokens, …); KV_PAGE_NONE where a window has passed. Covers start +
     * n_rows positions. Recurrent: [n_rows + 1], the page of the state before the first row (KV_PAGE_NONE: nothing was
     * before it, zeros), and for each row the page that takes the state behind it, KV_PAGE_NONE where nobody wants it.
     */
    const uint32_t *pages[KV_GROUPS_MAX];
    const step_adapter *adapters; /* [n_adapters], for the plan's OP_ADAPT; in the order in which they are added */
    uint32_t n_adapters;
} step_slice;

/* Memory of the KV arena as a backend addresses it: page p of group g begins at base[g] + p × layout[g].page_bytes. */
typedef struct kv_memory {
    void *base[KV_GROUPS_MAX];
    kv_layout layout[KV_GROUPS_MAX];
} kv_memory;

/* Who wants to know which experts an operation is about to multiply with: each once, ascending, before any is read.
 * Told by one thread while the others wait. */
typedef struct step_experts {
    void (*use)(void *user, const op *o, const uint32_t *experts, uint32_t n);
    void *user;
} step_experts;

/* What of a row of logits anybody reads: the n greatest, by lower id of equal ones, and those that are at most `near`
 * below the greatest. n = 0: all of them. */
typedef struct step_reads {
    uint32_t n;
    float near;
} step_reads;

/* One batch laid out for a backend. */
typedef struct step {
    uint32_t n_rows;
    const int32_t *tokens;    /* [n_rows], each < n_vocab */
    const int32_t *positions; /* [n_rows] */
    const step_slice *slices; /* [n_slices], covering the rows in order */
    uint32_t n_slices;
    const uint32_t *wanted; /* [n_wanted] ascending row numbers whose logits are wanted */
    uint32_t n_wanted;
    kv_memory kv;
    float *carried; /* [n_rows][plan.carried], which the plan loads and stores; every row is wanted then */
    float *logits;  /* [n_wanted][slot_width of SLOT_LOGITS], written by run */
    /* [n_wanted], all −1, or NULL. Not NULL: of each row of logits nobody will read more than which one is the
     * greatest. A backend that finds it (the first of equal ones) puts its number here, and may leave anything in the
     * row; where it leaves −1 the row is whole. */
    int32_t *greatest;
    step_reads reads;              /* of each row of logits; a backend may put −infinity in place of all others */
    step_profile *profile;         /* NULL: off; a backend that can notes its spans there */
    const step_observer *observer; /* NULL: nobody; the CPU's backends only */
    const step_experts *experts;   /* NULL: nobody; backends that tell (backend_ops.tells_experts) */
} step;

/* What a program keeps of the matrix of logits in its own way; `lays` is of the other weights. */
typedef struct program_halves {
    uint64_t bytes_most;  /* that it may come to take beside the weights */
    uint64_t bytes_kept;  /* that it takes now; of a matrix in a file's mapping, pages were given back */
    uint64_t bytes_saved; /* of the weights, that steps so far had no need to read */
    uint64_t n_steps;     /* that found the logits that are read so */
    bool prepares;        /* steps that decode so are not yet as fast as they will be */
    bool lays;            /* decoding steps still bring layers' weights into the order of the kernels */
} program_halves;

typedef struct backend_ops {
    const char *name;
    batch_dependence batch;
    bool rounds_activations; /* heeds backend_options.activation_bits; else the engine refuses it */
    bool tells_experts;      /* computes from the weights where they lie, and heeds step.experts */
    mlxr_status (*open)(backend **out, const backend_options *options, mlxr_error *error);
    void (*close)(backend **b);
    /* Makes a plan ready. What the device cannot run is MLXR_UNSUPPORTED, said in words at load time. The plan and its
     * tensors must outlive the program. */
    mlxr_status (*prepare)(backend *b, const plan *p, program **out, mlxr_error *error);
    void (*release)(backend *b, program **prog);
    program_halves (*halves)(const program *prog); /* NULL: it keeps nothing */
    /* It keeps nothing from its next step on, and reads weights where the file has them, as other programs do, too. Any
     * thread. NULL with `halves`. */
    void (*refuse_halves)(program *prog);
    /* KV memory: page-aligned, zeroed lazily; the host may read and write it between steps. */
    mlxr_status (*kv_alloc)(backend *b, size_t n_bytes, void **out, mlxr_error *error);
    void (*kv_free)(backend *b, void **memory, size_t n_bytes);
    /* Gives the system back what lies in a part of KV memory; its content is lost. NULL: it cannot. */
    void (*kv_discard)(backend *b, void *part, size_t n_bytes);
    /* Bytes [begin, end) of an allocation are in use and will be read again and again: moves a few megabytes of them to
     * where that is fastest. What of them was not written to yet may become resident. Up to where nothing is left to be
     * done of them; `begin` where too few are. Not during a step. NULL: they lie well. */
    size_t (*kv_gather)(backend *b, void *memory, size_t begin, size_t end);
    /* Computes one step. All or nothing as far as the caller can see: KV rows beyond what succeeded are garbage. */
    mlxr_status (*run)(backend *b, program *prog, const step *s, mlxr_error *error);
    /* Runs fn on the backend's thread team, for work around a step (sampling); NULL where there is none. */
    void (*parallel)(backend *b, void (*fn)(void *context, uint32_t index, uint32_t n), void *context);
    /* What else but this build names the arithmetic: a library's version, a device. Pages on disk are only taken where
     * it is the same. NULL: nothing else. */
    const char *(*numerics)(const backend *b);
    /* What the device reaches at best, for benchmarks to print beside their figures: operations a second on "int8",
     * "bf16" or "f32" (0: it has none), or for "read" bytes a second over n_bytes of memory. NULL: not known. */
    mlxr_status (*limit)(backend *b, const char *what, size_t n_bytes, double *per_s, mlxr_error *error);
    /* Checks the backend's own kernels on this device, and with a `file` (or NULL) keeps there what later opens shall
     * do without. NULL: it has none that might not fit a device. */
    mlxr_status (*check_kernels)(backend *b, const char *file, kernel_report *out, mlxr_error *error);
    bool keeps_words; /* knows KV type i16; else the engine refuses it */
    bool words_pay;   /* … and is faster with it than with f16: measured, not expected */
} backend_ops;

/* NULL-terminated list of the backends in this build, best first. */
const backend_ops *const *backend_list(void);
const backend_ops *backend_find(const char *name);

extern const backend_ops backend_cpu;
extern const backend_ops backend_cpu_scalar; /* the same with options.scalar forced: "cpu-scalar", the oracle */
extern const backend_ops backend_mlx;        /* in builds with MLX only */
extern const backend_ops backend_mlx_metal;  /* the same with MLXR's own Metal kernels */

#endif
