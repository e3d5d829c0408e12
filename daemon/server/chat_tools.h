/*
 * Tools in prompts: described where a template has no place for them, and forced by a schema.
 * Owner: results belong to the caller. Lifetime: the call.
 */
#ifndef MLXR_SERVER_CHAT_TOOLS_H
#define MLXR_SERVER_CHAT_TOOLS_H

#include "server/chat_request.h"
#include "server/output_format.h"

/* Rewrites messages for a template that knows of no tools: they are told in the system message (tools NULL: none are),
 * calls become text in <tool_call> tags, and results come from the user in <tool_response> tags. False: no memory. */
bool chat_tools_describe(json_t *messages, const json_t *tools);
/* For templates that refuse system messages: the first user's message begins with them. */
void chat_system_merge(json_t *messages);

/* What forced calls begin with behind the generation prompt; "" where that is nothing. */
const char *chat_tools_prefix(tool_style style);
/* A JSON Schema of the calls that the request's tool_choice leaves, several where the style has a way to write them,
 * malloc'ed. */
char *chat_tools_schema(const chat_request *r, tool_style style);

#endif
