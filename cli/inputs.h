/*
 * The files that a command reads, so that what it writes takes the place of none of them, nor of what else it writes.
 * They are told by device and inode: another name or a link of a file is that file.
 * Owner: the verb. Lifetime: {0} to inputs_close.
 */
#ifndef MLXR_CLI_INPUTS_H
#define MLXR_CLI_INPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "options.h"
#include "registry/registry.h"

typedef struct input_id {
    dev_t device;
    ino_t inode;
} input_id;

typedef struct inputs {
    input_id *items; /* [n] */
    size_t n, cap;
    bool failed; /* no memory */
} inputs;

/* "-" is stdin, NULL nothing. What is not there is left to whoever opens it. */
void inputs_add(inputs *in, const char *path);
/* A model or an adapter: all parts of a split one, all files that a folder of safetensors is read from. */
void inputs_add_model(inputs *in, const char *path);
/* A model with its own adapters, and with what the options have it load besides: --lora or --merge, and --draft with
 * its own. False after telling that there is no such draft. */
bool inputs_add_loaded(inputs *in, const registry_model *model, const options *o);
/* Is `out` one of them (or were not all of them noted)? Tells so then. */
bool inputs_lose(const inputs *in, const char *out);
/* Could a part that is written for `out` (OUT-00001-of-00003.gguf) take the place of one? Of how many there will be
 * nothing is known: any number counts. */
bool inputs_lose_parts(const inputs *in, const char *out);
void inputs_close(inputs *in);

/* Would what is written to one name take the place of what is written to the other, there or not? Tells so then. */
bool outputs_meet(const char *a, const char *b);

#endif
