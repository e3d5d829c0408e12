/*
 * Messages, system, tools and choices of tools of the Anthropic dialect as those of chat completions.
 * Owner: the request. Lifetime: the call.
 *
 * Turns of the same role that follow each other become one. In a user's turn each tool_result becomes a tool's message,
 * texts before and behind it become the user's; in an assistant's turn texts, thinking and tool_use become one message.
 * Blocks of text of a user or a system are paragraphs; those of an assistant are put together as they are, so that an
 * answer that comes back is the text that was generated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/anthropic_parts.h"
#include "telemetry/text_buffer.h"

#define WHERE_MAX 96u

typedef struct input_reader {
    chat_request *r;
    json_t *list; /* messages so far, in OpenAI's form */
} input_reader;

static bool no_memory(chat_request *r)
{
    return request_fields_no_memory(&r->f);
}

static bool is_type(const json_t *block, const char *type)
{
    const char *own = json_string_value(json_object_get(block, "type"));
    return own && strcmp(own, type) == 0;
}

static const char *role_of(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role ? role : "";
}

static json_t *last_of(const json_t *list)
{
    return json_array_get(list, json_array_size(list) - 1);
}

bool anthropic_members_check(chat_request *r, const char *field, const char *where, const json_t *object,
                             const char *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        size_t n_key = strlen(key), n_word;
        bool found = json_is_null(value);
        for (const char *at = known; !found && *at; at += n_word + (at[n_word] == '|')) {
            n_word = strcspn(at, "|");
            found = n_word == n_key && memcmp(at, key, n_key) == 0;
        }
        if (!found) {
            return request_fields_bad(&r->f, field, "%s: \"%.60s\" cannot be read", where, key);
        }
    }
    return true;
}

/* Prompts are cached anyway, as long as there is room: a mark says nothing new. */
static bool check_cache(chat_request *r, const char *field, const char *where, const json_t *owner)
{
    const json_t *mark = json_object_get(owner, "cache_control");
    return !mark || json_is_null(mark) || is_type(mark, "ephemeral") ||
           request_fields_bad(&r->f, field, "%s.cache_control must be of type \"ephemeral\"", where);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static void add_paragraph(text_buffer *t, const json_t *text)
{
    if (t->n > 0 && json_string_length(text) > 0) {
        text_add_string(t, "\n\n");
    }
    text_add(t, json_string_value(text), json_string_length(text));
}

static bool cannot_read(chat_request *r, const char *field, const char *where, const json_t *block)
{
    const char *type = json_string_value(json_object_get(block, "type"));
    bool media = type && (strcmp(type, "image") == 0 || strcmp(type, "document") == 0);
    return request_fields_bad(&r->f, field, "%s is of type '%.60s'%s", where, type ? type : "?",
                              media ? "; only text can be read, no images or PDFs" : ", which cannot be read");
}

/* {"type": "text", "text"}; false: bad. */
static bool read_text(chat_request *r, const char *field, const char *where, const json_t *block, const json_t **text)
{
    const json_t *citations = json_object_get(block, "citations");
    *text = json_object_get(block, "text");
    if (!anthropic_members_check(r, field, where, block, "type|text|cache_control|citations") ||
        !check_cache(r, field, where, block)) {
        return false;
    }
    if (json_array_size(citations) > 0 &&
        !request_fields_warn(&r->f, "%s: citations are not shown to the model", where)) {
        return false;
    }
    return json_is_string(*text) || request_fields_bad(&r->f, field, "%s has no text", where);
}

static bool add_blocks(chat_request *r, const char *field, const char *where, const json_t *content, bool documents,
                       text_buffer *out);

/* A document that is text, or blocks of it: title, context and text, a paragraph each. */
static bool add_document(chat_request *r, const char *field, const char *where, const json_t *block, text_buffer *out)
{
    const json_t *source = json_object_get(block, "source"), *citations = json_object_get(block, "citations");
    const json_t *title = json_object_get(block, "title"), *context = json_object_get(block, "context");
    const json_t *data = json_object_get(source, "data");
    bool plain = is_type(source, "text") && json_is_string(data), blocks = is_type(source, "content");
    char inside[WHERE_MAX];
    if (!anthropic_members_check(r, field, where, block, "type|source|title|context|citations|cache_control") ||
        !check_cache(r, field, where, block)) {
        return false;
    }
    if (json_is_true(json_object_get(citations, "enabled"))) {
        return request_fields_bad(&r->f, field, "%s.citations: answers have none here", where);
    }
    if (!plain && !blocks) {
        return cannot_read(r, field, where, block);
    }
    add_paragraph(out, json_is_string(title) ? title : NULL);
    add_paragraph(out, json_is_string(context) ? context : NULL);
    if (plain) {
        add_paragraph(out, data);
        return true;
    }
    snprintf(inside, sizeof inside, "%.60s.source.content", where);
    return add_blocks(r, field, inside, json_object_get(source, "content"), false, out);
}

static bool add_block(chat_request *r, const char *field, const char *where, const json_t *block, bool documents,
                      text_buffer *out)
{
    const json_t *text;
    if (documents && is_type(block, "document")) {
        return add_document(r, field, where, block, out);
    }
    if (!is_type(block, "text")) {
        return cannot_read(r, field, where, block);
    }
    if (!read_text(r, field, where, block, &text)) {
        return false;
    }
    add_paragraph(out, text);
    return true;
}

/* A text, or a list of blocks that are text or, if allowed, documents. */
static bool add_blocks(chat_request *r, const char *field, const char *where, const json_t *content, bool documents,
                       text_buffer *out)
{
    char place[WHERE_MAX];
    if (json_is_string(content)) {
        add_paragraph(out, content);
        return true;
    }
    if (!json_is_array(content)) {
        return request_fields_bad(&r->f, field, "%s must be a text or a list of blocks", where);
    }
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        snprintf(place, sizeof place, "%.70s[%zu]", where, i);
        if (!add_block(r, field, place, block, documents, out)) {
            return false;
        }
    }
    return true;
}

static json_t *text_of(chat_request *r, text_buffer *t)
{
    json_t *made = t->failed ? NULL : json_stringn(t->data ? t->data : "", t->n);
    text_buffer_close(t);
    if (!made) {
        no_memory(r);
    }
    return made;
}

/* ---- a user's turn ----------------------------------------------------------------------------------------------- */

/* Takes the text; it joins a user's message that is the last. */
static bool end_user_text(input_reader *in, text_buffer *t)
{
    json_t *last = last_of(in->list);
    if (strcmp(role_of(last), "user") == 0) {
        text_buffer joined = {0};
        json_t *before = json_object_get(last, "content");
        text_add(&joined, json_string_value(before), json_string_length(before));
        text_add_string(&joined, joined.n && t->n ? "\n\n" : "");
        text_add(&joined, t->data ? t->data : "", t->n);
        joined.failed = joined.failed || t->failed;
        text_buffer_close(t);
        json_t *text = text_of(in->r, &joined);
        return text && json_object_set_new(last, "content", text) == 0;
    }
    json_t *text = text_of(in->r, t);
    json_t *one = text ? json_pack("{s:s, s:o}", "role", "user", "content", text) : NULL;
    return one && (json_array_append_new(in->list, one) == 0 || no_memory(in->r));
}

/* Whose result it is: the name that the assistant's last calls have for this id. */
static const json_t *called_name(const json_t *list, const json_t *id)
{
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *message = json_array_get(list, i), *calls = json_object_get(message, "tool_calls");
        for (size_t k = 0; k < json_array_size(calls); k++) {
            const json_t *call = json_array_get(calls, k);
            if (json_equal(json_object_get(call, "id"), id)) {
                return json_object_get(json_object_get(call, "function"), "name");
            }
        }
        if (strcmp(role_of(message), "assistant") == 0) {
            break;
        }
    }
    return NULL;
}

static bool add_result(input_reader *in, const char *where, const json_t *block)
{
    chat_request *r = in->r;
    const json_t *id = json_object_get(block, "tool_use_id"), *content = json_object_get(block, "content");
    const json_t *failed = json_object_get(block, "is_error");
    text_buffer text = {0};
    char inside[WHERE_MAX];
    if (!anthropic_members_check(r, "messages", where, block, "type|tool_use_id|content|is_error|cache_control") ||
        !check_cache(r, "messages", where, block)) {
        return false;
    }
    if (!json_is_string(id) || (failed && !json_is_boolean(failed) && !json_is_null(failed))) {
        return request_fields_bad(&r->f, "messages", "%s.%s", where,
                                  json_is_string(id) ? "is_error must be true or false" : "tool_use_id is missing");
    }
    snprintf(inside, sizeof inside, "%.60s.content", where);
    if (content && !json_is_null(content) && !add_blocks(r, "messages", inside, content, true, &text)) {
        text_buffer_close(&text);
        return false;
    }
    text_buffer told = {0};
    text_add_string(&told, json_is_true(failed) ? "Error: " : ""); /* templates have no other place for it */
    text_add(&told, text.data ? text.data : "", text.n);
    told.failed = told.failed || text.failed;
    text_buffer_close(&text);
    json_t *made = text_of(r, &told);
    const json_t *name = called_name(in->list, id);
    json_t *one = made ? json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", made) : NULL;
    if (one && name) {
        json_object_set(one, "name", (json_t *)name);
    }
    return one && (json_array_append_new(in->list, one) == 0 || no_memory(r));
}

static bool read_user(input_reader *in, size_t index, const json_t *content)
{
    text_buffer text = {0};
    char where[WHERE_MAX];
    bool ok = true, any = json_is_string(content);
    if (any) {
        add_paragraph(&text, content);
    }
    for (size_t i = 0; ok && i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        snprintf(where, sizeof where, "messages[%zu].content[%zu]", index, i);
        if (is_type(block, "tool_result")) {
            ok = (!any || end_user_text(in, &text)) && add_result(in, where, block);
            any = false;
        } else {
            ok = add_block(in->r, "messages", where, block, true, &text);
            any = true;
        }
    }
    if (ok && any) {
        return end_user_text(in, &text);
    }
    text_buffer_close(&text);
    return ok;
}

/* ---- an assistant's turn ----------------------------------------------------------------------------------------- */

static bool read_call(chat_request *r, const char *where, const json_t *block, json_t *calls)
{
    const json_t *id = json_object_get(block, "id"), *name = json_object_get(block, "name");
    const json_t *input = json_object_get(block, "input");
    if (!anthropic_members_check(r, "messages", where, block, "type|id|name|input|cache_control|caller") ||
        !check_cache(r, "messages", where, block)) {
        return false;
    }
    if (!json_is_string(id) || !json_is_string(name) || !json_is_object(input)) {
        return request_fields_bad(&r->f, "messages", "%s: a tool_use has an id, a name and an input, an object", where);
    }
    json_t *call = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", input);
    return (call && json_array_append_new(calls, call) == 0) || no_memory(r);
}

static bool read_answer_block(chat_request *r, const char *where, const json_t *block, text_buffer *text,
                              text_buffer *thought, json_t *calls)
{
    const json_t *own = NULL;
    if (is_type(block, "tool_use")) {
        return read_call(r, where, block, calls);
    }
    if (is_type(block, "thinking")) {
        own = json_object_get(block, "thinking");
        text_add(thought, json_is_string(own) ? json_string_value(own) : "", json_string_length(own));
        return anthropic_members_check(r, "messages", where, block, "type|thinking|signature|cache_control") &&
               (json_is_string(own) || request_fields_bad(&r->f, "messages", "%s has no thinking", where));
    }
    if (is_type(block, "redacted_thinking")) {
        return request_fields_warn(&r->f, "%s: thinking that is redacted cannot be read and is left out", where);
    }
    if (!is_type(block, "text")) {
        return cannot_read(r, "messages", where, block);
    }
    if (!read_text(r, "messages", where, block, &own)) {
        return false;
    }
    text_add(text, json_string_value(own), json_string_length(own));
    return true;
}

/* What was said goes behind what the member has. False: no memory. */
static bool append_text(json_t *message, const char *key, const text_buffer *more)
{
    json_t *before = json_object_get(message, key);
    text_buffer joined = {0};
    if (more->failed || (more->n == 0 && (before || strcmp(key, "content") != 0))) {
        return !more->failed;
    }
    text_add(&joined, before ? json_string_value(before) : "", json_string_length(before));
    text_add(&joined, more->data ? more->data : "", more->n);
    json_t *text = joined.failed ? NULL : json_stringn(joined.data ? joined.data : "", joined.n);
    text_buffer_close(&joined);
    return text && json_object_set_new(message, key, text) == 0;
}

static bool add_answer(input_reader *in, const text_buffer *text, const text_buffer *thought, const json_t *calls)
{
    json_t *last = last_of(in->list);
    if (strcmp(role_of(last), "assistant") != 0) {
        last = json_pack("{s:s}", "role", "assistant");
        if (!last || json_array_append_new(in->list, last) != 0) {
            return no_memory(in->r);
        }
    }
    bool ok = append_text(last, "content", text) && append_text(last, "reasoning_content", thought);
    if (ok && json_array_size(calls) > 0) {
        json_t *own = json_object_get(last, "tool_calls");
        ok = own ? json_array_extend(own, (json_t *)calls) == 0
                 : json_object_set(last, "tool_calls", (json_t *)calls) == 0;
    }
    return ok || no_memory(in->r);
}

static bool read_assistant(input_reader *in, size_t index, const json_t *content)
{
    text_buffer text = {0}, thought = {0};
    json_t *calls = json_array();
    char where[WHERE_MAX];
    bool ok = calls != NULL || no_memory(in->r);
    if (json_is_string(content)) {
        text_add(&text, json_string_value(content), json_string_length(content));
    }
    for (size_t i = 0; ok && i < json_array_size(content); i++) {
        snprintf(where, sizeof where, "messages[%zu].content[%zu]", index, i);
        ok = read_answer_block(in->r, where, json_array_get(content, i), &text, &thought, calls);
    }
    ok = ok && add_answer(in, &text, &thought, calls);
    text_buffer_close(&text);
    text_buffer_close(&thought);
    json_decref(calls);
    return ok;
}

/* ---- all turns --------------------------------------------------------------------------------------------------- */

static bool read_system(input_reader *in, const char *field, const char *where, const json_t *content)
{
    text_buffer text = {0};
    if (!add_blocks(in->r, field, where, content, false, &text)) {
        text_buffer_close(&text);
        return false;
    }
    bool empty = text.n == 0 && !text.failed;
    json_t *made = text_of(in->r, &text);
    if (empty || !made) {
        json_decref(made);
        return empty;
    }
    json_t *one = json_pack("{s:s, s:o}", "role", "system", "content", made);
    return (one && json_array_append_new(in->list, one) == 0) || no_memory(in->r);
}

static bool read_turn(input_reader *in, size_t i, const json_t *message)
{
    chat_request *r = in->r;
    const char *role = role_of(message);
    const json_t *content = json_object_get(message, "content");
    char where[WHERE_MAX];
    snprintf(where, sizeof where, "messages[%zu]", i);
    if (!anthropic_members_check(r, "messages", where, message, "role|content")) {
        return false;
    }
    if (!json_is_string(content) && json_array_size(content) == 0) {
        return request_fields_bad(&r->f, "messages", "%s.content must be a text, or a list of one block or more",
                                  where);
    }
    if (strcmp(role, "user") == 0) {
        return read_user(in, i, content);
    }
    if (strcmp(role, "assistant") == 0) {
        return read_assistant(in, i, content);
    }
    if (strcmp(role, "system") == 0) {
        snprintf(where, sizeof where, "messages[%zu].content", i);
        return read_system(in, "messages", where, content);
    }
    return request_fields_bad(&r->f, "messages", "%s: role '%.40s' is none of user, assistant, system", where, role);
}

bool anthropic_input_read(chat_request *r, const anthropic_options *o)
{
    input_reader in = {.r = r, .list = json_array()};
    const json_t *owner = r->body;
    bool ok = (in.list || no_memory(r)) && check_cache(r, "cache_control", "body", owner) &&
              (!o->system || read_system(&in, "system", "system", o->system));
    for (size_t i = 0; ok && i < json_array_size(o->messages); i++) {
        ok = read_turn(&in, i, json_array_get(o->messages, i));
    }
    if (ok && json_array_size(o->messages) == 0) {
        ok = request_fields_bad(&r->f, "messages", "messages must be a list of one message or more");
    }
    const json_t *last = last_of(in.list);
    r->continues = ok && strcmp(role_of(last), "assistant") == 0 && !json_object_get(last, "tool_calls");
    ok = ok && chat_messages_read(r, "messages", in.list);
    json_decref(in.list);
    return ok;
}

/* ---- tools ------------------------------------------------------------------------------------------------------- */

static bool read_tool(chat_request *r, size_t i, const json_t *tool, json_t *out, bool *strict)
{
    static const char known[] = "type|name|description|input_schema|cache_control|strict|input_examples|defer_loading|"
                                "eager_input_streaming|allowed_callers";
    const json_t *schema = json_object_get(tool, "input_schema"), *name = json_object_get(tool, "name");
    const json_t *text = json_object_get(tool, "description"), *type = json_object_get(tool, "type");
    char where[WHERE_MAX];
    snprintf(where, sizeof where, "tools[%zu]", i);
    if (type && !json_is_null(type) && !is_type(tool, "custom")) {
        return request_fields_bad(&r->f, "tools",
                                  "%s is of type '%.60s', which its maker's service runs; give tools "
                                  "with a name and an input_schema",
                                  where, json_is_string(type) ? json_string_value(type) : "?");
    }
    if (!anthropic_members_check(r, "tools", where, tool, known) || !check_cache(r, "tools", where, tool)) {
        return false;
    }
    if (!json_is_object(schema) || !json_is_string(name) || (text && !json_is_null(text) && !json_is_string(text))) {
        return request_fields_bad(&r->f, "tools", "%s must be {\"name\", \"description\", \"input_schema\": {…}}",
                                  where);
    }
    if (json_array_size(json_object_get(tool, "input_examples")) > 0 &&
        !request_fields_warn(&r->f, "%s.input_examples are not shown to the model", where)) {
        return false;
    }
    if (json_is_true(json_object_get(tool, "defer_loading")) &&
        !request_fields_warn(&r->f, "%s.defer_loading: the model is told of all tools at once", where)) {
        return false;
    }
    *strict = *strict || json_is_true(json_object_get(tool, "strict"));
    json_t *function = json_pack("{s:O, s:O, s:O*}", "name", name, "parameters", schema, "description",
                                 json_is_string(text) ? text : NULL);
    json_t *made = function ? json_pack("{s:s, s:o}", "type", "function", "function", function) : NULL;
    return (made && json_array_append_new(out, made) == 0) || no_memory(r);
}

/* {"type": "auto" | "any" | "tool" | "none", "name", "disable_parallel_tool_use"} */
static bool read_choice(chat_request *r, const json_t *choice)
{
    const json_t *name = json_object_get(choice, "name"),
                 *single = json_object_get(choice, "disable_parallel_tool_use");
    if (!choice) {
        return true;
    }
    if (!anthropic_members_check(r, "tool_choice", "tool_choice", choice, "type|name|disable_parallel_tool_use")) {
        return false;
    }
    if (single && !json_is_null(single) && !json_is_boolean(single)) {
        return request_fields_bad(&r->f, "tool_choice", "tool_choice.disable_parallel_tool_use must be true or false");
    }
    r->single_call = json_is_true(single);
    r->tool_name = json_string_value(name);
    if (is_type(choice, "auto")) {
        r->choice = TOOL_CHOICE_AUTO;
    } else if (is_type(choice, "any")) {
        r->choice = TOOL_CHOICE_REQUIRED;
    } else if (is_type(choice, "none")) {
        r->choice = TOOL_CHOICE_NONE;
    } else if (is_type(choice, "tool") && r->tool_name) {
        r->choice = TOOL_CHOICE_NAMED;
    } else {
        return request_fields_bad(&r->f, "tool_choice",
                                  "tool_choice must be of type \"auto\", \"any\", \"none\", or \"tool\" with a name");
    }
    return true;
}

bool anthropic_tools_read(chat_request *r, const anthropic_options *o)
{
    bool strict = false, ok = true;
    json_t *list = json_array();
    for (size_t i = 0; ok && i < json_array_size(o->tools); i++) {
        ok = read_tool(r, i, json_array_get(o->tools, i), list, &strict);
    }
    ok = ok && (!o->tools || chat_tools_read(r, "tools", list)) && read_choice(r, o->tool_choice);
    json_decref(list);
    return ok && (!strict || r->choice != TOOL_CHOICE_AUTO ||
                  request_fields_warn(&r->f, "tools: strict is kept where tool_choice forces a call, not with auto"));
}
