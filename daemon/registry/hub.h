/*
 * What Hugging Face's API says of a repository's files. Untrusted: names, sizes and digests are checked.
 * Owner: the caller closes the list. Lifetime: hub_parse to hub_close.
 */
#ifndef MLXR_REGISTRY_HUB_H
#define MLXR_REGISTRY_HUB_H

#include "registry/registry.h"

#define HUB_FILES_MAX 20000u
#define HUB_BYTES_MAX ((size_t)8 << 20) /* of one page */

typedef struct hub_file {
    char *path; /* in the repository: letters, digits and -_.+ between slashes; no "..", no "//" */
    uint64_t n_bytes;
    char digest[REGISTRY_DIGEST_MAX]; /* of large files; "" otherwise */
    char git[41];                     /* Git's SHA-1 of small ones; "" otherwise */
} hub_file;

typedef struct hub_list {
    hub_file *items;
    size_t n, cap;
} hub_list;

/* Adds the files of one page of /api/models/OWNER/REPO/tree/REVISION?recursive=true. Files whose names could do harm
 * are left out. */
mlxr_status hub_parse(hub_list *list, const char *text, size_t n, mlxr_error *error);
void hub_close(hub_list *list);

/* Chooses the files of the model that `quant` (NULL: the best usual one) means: one GGUF, all parts of a split one, or
 * a folder with safetensors. picked: [list->n], set to true; *label: what was chosen, such as "Q4_K_M" ("" for
 * safetensors), 64 bytes; *first: the file its loader begins with. MLXR_ARG names what there is. */
mlxr_status hub_pick(const hub_list *list, const char *quant, bool *picked, char *label, size_t *first,
                     mlxr_error *error);

#endif
