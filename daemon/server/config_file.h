/*
 * The file of the daemon's options: what `mlxr serve` takes where its command line says nothing, and what the page's
 * settings change. One JSON object; its members are those of UiOptionValues in ui_api.json.
 * Owner: the caller owns what is read. Lifetime: the call. Any thread.
 */
#ifndef MLXR_SERVER_CONFIG_FILE_H
#define MLXR_SERVER_CONFIG_FILE_H

#include <jansson.h>

#include "mlxr.h"

#define CONFIG_PATH_MAX 4096u
#define CONFIG_FIELD_MAX 80u

typedef struct config_option {
    const char *name;   /* in the file */
    const char *option; /* the same on the command line, without the dashes */
    const char *group;  /* of the page's panels: "performance", "limits", "paths" */
    bool now;           /* a change takes effect at once; else with the next start */
} config_option;

#define N_CONFIG_OPTIONS 23u
extern const config_option config_options[N_CONFIG_OPTIONS];

/* $MLXR_CONFIG, else $XDG_CONFIG_HOME/mlxr/serve.json, else ~/.config/mlxr/serve.json. False if that is too long, or
 * there is no home. */
bool config_path(char *out, size_t cap);
/* What the file says; an empty object where it is not there. NULL: the error names the file, the place and what is
 * allowed. `document`: ui_schema_open's. */
json_t *config_read(const char *path, const json_t *document, mlxr_error *error);
/* Whether these are values that options may have. *field (CONFIG_FIELD_MAX) names the one that is wrong. */
bool config_check(const json_t *values, const json_t *document, char *field, mlxr_error *error);
/* The same for what only the machine can tell: that folders can be there. May block. */
bool config_check_paths(const json_t *values, char *field, mlxr_error *error);
/* The whole file, at once or not at all; makes its folder. */
mlxr_status config_write(const char *path, const json_t *values, mlxr_error *error);
/* What an option is where nobody sets it; borrowed from the document. */
const json_t *config_default(const json_t *document, const char *name);

#endif
