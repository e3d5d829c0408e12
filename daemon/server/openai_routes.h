/*
 * Routes of the OpenAI dialect, and of ours that go with it.
 * Owner: openai_routes.c. Lifetime: the process.
 */
#ifndef MLXR_SERVER_OPENAI_ROUTES_H
#define MLXR_SERVER_OPENAI_ROUTES_H

#include "server/routes.h"

#define N_OPENAI_ROUTES 17
extern const route openai_routes[N_OPENAI_ROUTES];

#endif
