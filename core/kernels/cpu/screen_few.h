/*
 * Logits from a matrix that is kept in two parts: of few rows of which only the greatest are read, from half of its
 * bits (screen_few.c); all others from both parts (screen_few_parts.c).
 * Owner: the program. Lifetime: the program's.
 */
#ifndef MLXR_KERNELS_CPU_SCREEN_FEW_H
#define MLXR_KERNELS_CPU_SCREEN_FEW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/team.h"
#include "kernels/cpu/linear.h"

typedef struct program program;
typedef struct exec exec;
typedef struct screen_few screen_few;

/* What a pass does about it. */
typedef struct few_pass {
    bool reads;      /* the matrix's first rows are in two parts, and read from there */
    bool screens;    /* its logits are screened */
    bool learns;     /* its inputs tell which of them are large */
    uint32_t n_make; /* weight rows that it makes of two parts */
} few_pass;

/* Sets prog->few where it may pay. False: out of memory. */
bool few_make(program *prog);
void few_close(program *prog);
/* No parts from its next pass on: others read the matrix, too, and both would be in memory. Any thread. */
void few_refuse(program *prog);
/* May passes of few rows have parts, and are not paused? A refusal counts from the next few_choose on. */
bool few_is_wanted(const program *prog);
/* Does memory hold parts now, or some of them? Then there is no copy for many rows (screen_copy.h), and vice versa. */
bool few_holds(const program *prog);
/* Bytes of parts that memory holds now. */
uint64_t few_made_bytes(const program *prog);
/* Lets them go, for the copy. Passes of few rows ask until it is let go; where it is for another reason, the next of
 * them makes parts again. */
void few_let_go(const program *prog);
/* Is this pass of few rows, and were enough before it, that a copy is to be let go? */
bool few_asks(const exec *e);
/* What a pass does; called once for each, by one thread, behind copy_choose. */
few_pass few_choose(exec *e);
uint64_t few_bytes(const exec *e);
/* The program's last node, if e->few.screens. */
void few_run(const exec *e, uint32_t index, const team_member *member);
/* linear_rows for the matrix of logits, of which the parts are read where there are any: results have the same bits.
 * `private` is the member's, with few_strip_bytes at e->private_strip and the kernels' scratch at its beginning. */
void few_rows(const exec *e, const linear_kernels *k, const linear_weight *weight, const linear_input *input,
              const linear_output *output, uint32_t begin, uint32_t end, void *private);
size_t few_strip_bytes(const program *prog);
/* Behind the nodes, by all members. */
void few_learn(const exec *e, const team_member *member);
/* Behind the pass, by one thread. */
void few_done(const exec *e);

/* What the two parts take at most beside the weights as they are counted anyway; 0 where there never are any. */
uint64_t few_kept_bytes(const program *prog);
/* May so many bytes of memory be taken where so many are available? As many again must be left: pages of the file,
 * which these replace, could be dropped where memory is short, and these cannot. */
bool few_fits(uint64_t n_bytes, uint64_t available);

/* Passes so far: screened, those of them whose logits were computed whole after all, and others that were not even
 * tried because too many had been. Of the screened ones, rows of weights that were computed from all bits. */
typedef struct few_counts {
    uint64_t n_screened, n_whole, n_paused;
    uint64_t n_computed;
    uint32_t n_made;        /* weight rows in two parts, now */
    bool prepares;          /* decoding passes still make some, or learn */
    uint64_t n_bytes_kept;  /* memory of them, now */
    uint64_t n_bytes_saved; /* of the matrix's, which screened passes did not read */
} few_counts;

few_counts few_count(const program *prog);

#endif
