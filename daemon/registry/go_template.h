/*
 * Ollama's templates (Go's text/template) as Jinja.
 * Owner: the caller frees what it is given. Lifetime: the call.
 */
#ifndef MLXR_REGISTRY_GO_TEMPLATE_H
#define MLXR_REGISTRY_GO_TEMPLATE_H

#include "mlxr.h"

/* Whether a text is a Go template rather than Jinja: it speaks of .Prompt, .Messages and their kin. */
bool go_template_is(const char *text);
/* The classic form, which describes one turn (.System, .Prompt, .Response, and conditions on these), has an exact
 * equivalent: *jinja, malloc'ed. Any other action is MLXR_UNSUPPORTED, named in the error. */
mlxr_status go_template_to_jinja(const char *text, char **jinja, mlxr_error *error);

#endif
