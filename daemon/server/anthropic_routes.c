/*
 * The routes of the Anthropic dialect; /v1/models, which it shares with OpenAI's, stands there.
 * Owner: none; constant. Lifetime: the process.
 */
#include "server/anthropic_routes.h"

#include "server/anthropic_parts.h"

const route anthropic_routes[N_ANTHROPIC_ROUTES] = {
    {"POST", "/v1/messages", ROUTE_USE, ROUTE_ANTHROPIC, ROUTE_BODY_JSON, 0, anthropic_messages},
    {"POST", "/v1/messages/count_tokens", ROUTE_USE, ROUTE_ANTHROPIC, ROUTE_BODY_JSON, 0, anthropic_count_tokens},
};
