/*
 * Routes of the OpenAI dialect, and of ours that go with it.
 * Owner: openai_routes.c. Lifetime: the process.
 */
#ifndef MLXR_SERVER_OPENAI_ROUTES_H
#define MLXR_SERVER_OPENAI_ROUTES_H

#include "server/routes.h"

#define N_OPENAI_ROUTES 17
extern const route openai_routes[N_OPENAI_ROUTES];
struct daemon;
/* Loop. Responses in the background that are not done, or not kept yet: nobody's request tells of them. */
unsigned openai_background_answering(const struct daemon *d);

#endif
