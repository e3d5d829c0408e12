/*
 * What a generation is asked for, the same whichever dialect asked.
 * Owner: the generation, which opens it, lets the dialect fill it in, and closes it. Lifetime: the generation's.
 */
#ifndef MLXR_SERVER_CHAT_REQUEST_H
#define MLXR_SERVER_CHAT_REQUEST_H

#include "server/request_fields.h"

#define CHAT_CHOICES_MAX 16u

typedef enum tool_choice { TOOL_CHOICE_AUTO, TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, TOOL_CHOICE_NAMED } tool_choice;
typedef enum think_mode { THINK_DEFAULT, THINK_OFF, THINK_ON } think_mode;
typedef enum chat_truncate {
    TRUNCATE_NEVER,  /* a prompt that does not fit is an error with the numbers */
    TRUNCATE_OLDEST, /* messages (of a text: tokens) go from the front, system messages stay; it is reported */
} chat_truncate;

typedef struct chat_request {
    request_fields f;  /* sampling, stops, n, max_tokens, grammar, priority, client, warnings; what is wrong */
    json_t *body;      /* owned; what is borrowed below belongs to it */
    const char *model; /* as asked for */

    /* What is asked about: one of these three. */
    json_t *messages;   /* owned, OpenAI's form: role, content (a text), tool_calls, tool_call_id, reasoning_content */
    const char *prompt; /* [n_prompt] borrowed; beside messages: what is read where there is no template */
    size_t n_prompt;
    int32_t *tokens; /* [n_tokens] owned */
    size_t n_tokens;

    /* With messages: `tokens`, if any, are the prompt that these were made into before, and the answer goes on behind
     * these, exactly as if it had never been interrupted. Owned. */
    int32_t *answer; /* [n_answer] */
    size_t n_answer;
    char source[40];  /* names the model's file, its contents included; set before parse */
    bool tell_tokens; /* deltas tell the tokens they are made of, without log-probabilities */

    int32_t *before; /* [n_before] owned: read before all of it, as an earlier answer gave them */
    size_t n_before;
    char *template_text; /* owned: Jinja, in the place of the model's; NULL: the model's */
    bool plain_system;   /* a system message that the model was made with is not added */
    const char *suffix;  /* fill in between prompt and this; borrowed */
    bool no_special;     /* of a prompt: no BOS before it, and its markers are plain text */
    bool continues;      /* the last message is the beginning of the answer */
    bool plain_output;   /* reasoning and calls are not looked for: all is text */
    bool token_ids;      /* what ended the answer is among the log-probabilities, too; generation_ids will be asked */
    json_t *tools;       /* owned, OpenAI's form; NULL or a list that is not empty */
    tool_choice choice;
    const char *tool_name; /* of TOOL_CHOICE_NAMED; borrowed */
    bool single_call;      /* not more than one call */
    think_mode think;
    const char *effort; /* "low", "medium", "high" for templates that know it; borrowed; NULL: theirs */
    json_t *variables;  /* borrowed: further variables of the template; NULL: none */
    chat_truncate truncate;
    uint32_t n_ctx;        /* use no more of the context than this; 0: all */
    int64_t keep_alive_ms; /* MODEL_KEEP_DEFAULT unless given */
    const char *draft;     /* "ngram", "mtp" or "none"; borrowed; NULL: the daemon's */
    bool keep_volatile;    /* header lines that change with every request are left in the prompt */
    uint32_t deadline_ms;  /* 0: none */
    const json_t *lora;    /* borrowed: [{"id", "scale"}]; NULL: what the daemon does with all */
    bool any_length;       /* nothing is generated: a prompt may be longer than the context */
} chat_request;

/* Fields that every dialect takes beside its own; target: the chat_request. */
extern const request_field chat_request_extensions[];
extern const size_t n_chat_request_extensions;

/* Whether this body is an object; takes it over. `defaults` NULL: the library's. */
bool chat_request_open(chat_request *r, json_t *body, const mlxr_sampling *defaults);
void chat_request_close(chat_request *r);

/* Reads OpenAI's "messages" into r->messages: contents become texts, arguments of calls objects. What cannot be read
 * (an image, a role that is missing) is marked as bad, by its place. */
bool chat_messages_read(chat_request *r, const char *field, const json_t *messages);
/* One message {role, content: text}; false: out of memory. */
bool chat_message_add(chat_request *r, const char *role, const char *text);
/* The text of a content: a text, or a list of parts of type text (input_text, output_text); NULL after marking r. */
json_t *chat_content_text(chat_request *r, const char *field, const json_t *content, size_t index);
/* Checks and takes tools in OpenAI's form. */
bool chat_tools_read(chat_request *r, const char *field, const json_t *tools);
/* "none", "auto", "required", {"type": "function", "function": {"name"}} or {"type": "function", "name"}. */
bool chat_tool_choice_read(chat_request *r, const char *field, const json_t *choice);
/* What can only be judged when all fields are read: combinations, ranges. */
bool chat_request_check(chat_request *r);

/* The answer is one or more calls. */
bool chat_request_is_forced(const chat_request *r);
/* It is bound from its first token on, so there is no room for reasoning. */
bool chat_request_is_bound(const chat_request *r);

#endif
