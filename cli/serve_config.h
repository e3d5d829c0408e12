/*
 * What `mlxr serve` takes from its file of options; what the command line says goes before it.
 * Owner: the verb. Lifetime: serve_config_open to serve_config_close; texts that were applied live as long.
 */
#ifndef MLXR_CLI_SERVE_CONFIG_H
#define MLXR_CLI_SERVE_CONFIG_H

#include "options.h"
#include "server/config_file.h"

typedef struct serve_config {
    char path[CONFIG_PATH_MAX];            /* "": there is no place for one */
    const char *fixed[N_CONFIG_OPTIONS];   /* what the command line sets */
    const char *applied[N_CONFIG_OPTIONS]; /* what the file has set */
    size_t n_fixed, n_applied;
    char numbers[N_CONFIG_OPTIONS][12]; /* integers of the file that are texts on the command line */
    json_t *document, *values, *before; /* before: what it said when it last served, if that is something else */
    mlxr_error note;                    /* why the file's values are not those in use; text "" */
} serve_config;

/* Returns an exit code, after telling what is wrong with the file. */
int serve_config_open(serve_config *c, const options *o);
void serve_config_close(serve_config *c);
/* Puts the file's values where the command line says nothing; a --rope-scaling there goes without the file's scale. */
void serve_config_apply(serve_config *c, options *o);
/* Adds to an error about context and RoPE which of these are the file's. */
void serve_config_blame(const serve_config *c, mlxr_error *error);
/* Reads the file again; one that makes no sense now changes nothing and is noted. */
void serve_config_renew(serve_config *c);
/* Goes back to the values of before the last renewal, and notes why. False: there are none, or nothing was wrong. */
bool serve_config_back(serve_config *c, const mlxr_error *why);

#endif
