/*
 * Messages to tokens, reusing what is computed.
 * Owner: the verb `run`. Lifetime: as the conversation's.
 */
#include "conversation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "prompt.h"

bool conversation_open(conversation *c, session *s, bool raw, const char *system)
{
    *c = (conversation){.session = s, .messages = json_array(), .raw = raw};
    if (!c->messages) {
        print_error("out of memory");
        return false;
    }
    return !system || conversation_set_system(c, system);
}

void conversation_close(conversation *c)
{
    json_decref(c->messages);
    free(c->held);
    *c = (conversation){0};
}

static void forget_held(conversation *c)
{
    free(c->held);
    c->held = NULL;
}

static const char *role_at(const conversation *c, size_t i)
{
    const char *role = json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
    return role ? role : "";
}

static bool has_system(const conversation *c)
{
    return strcmp(role_at(c, 0), "system") == 0;
}

static json_t *message(const char *role, const char *content)
{
    return json_pack("{s:s, s:o}", "role", role, "content", json_text(content, strlen(content)));
}

bool conversation_set_system(conversation *c, const char *text)
{
    if (has_system(c)) {
        json_array_remove(c->messages, 0);
    }
    if (text && *text && json_array_insert_new(c->messages, 0, message("system", text)) != 0) {
        print_error("out of memory");
        return false;
    }
    return true;
}

void conversation_clear(conversation *c)
{
    while (json_array_size(c->messages) > (has_system(c) ? 1u : 0u)) {
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    }
    if (c->raw) { /* there is no template to compare with */
        mlxr_sequence_truncate(c->session->sequence, 0, NULL);
        forget_held(c);
    }
}

bool conversation_can_regenerate(const conversation *c)
{
    size_t n = json_array_size(c->messages);
    return n >= 2 && strcmp(role_at(c, n - 1), "assistant") == 0;
}

/* ---- feeding the sequence ---------------------------------------------------------------------------------------- */

/* What the model shall read, malloc'ed; NULL after telling why not. */
static char *render(conversation *c)
{
    mlxr_error error;
    char *text = NULL;
    if (prompt_render(c->session->model, c->messages, c->raw, &text, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return NULL;
    }
    return text;
}

static int append(conversation *c, const int32_t *ids, size_t n)
{
    mlxr_error error;
    if (mlxr_sequence_append(c->session->sequence, ids, n, &error) != MLXR_OK) {
        print_error("%s", error.text);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* Makes the sequence hold these tokens, keeping what it has of them. The last one is pending at least. */
static int replace_tokens(conversation *c, const int32_t *ids, size_t n)
{
    mlxr_error error;
    mlxr_sequence *sequence = c->session->sequence;
    const int32_t *old = mlxr_sequence_tokens(sequence);
    size_t common = 0, n_old = mlxr_sequence_length(sequence);
    while (common < n && common < n_old && old[common] == ids[common]) {
        common++;
    }
    size_t computed = mlxr_sequence_computed(sequence);
    if (common == n && computed >= n) {
        common = n - 1;
    }
    if (common < n_old && mlxr_sequence_truncate(sequence, common, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    return append(c, ids + common, n - common);
}

/* Goes back to the end of the last prompt, whose last token has to be computed once more. */
static int rewind_to_prompt(conversation *c)
{
    mlxr_error error;
    mlxr_sequence *sequence = c->session->sequence;
    int32_t last = mlxr_sequence_tokens(sequence)[c->n_prompt_tokens - 1];
    if (mlxr_sequence_truncate(sequence, c->n_prompt_tokens - 1, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    return append(c, &last, 1);
}

static int feed_tokens(conversation *c, const char *text, unsigned flags, bool continues)
{
    size_t n = 0;
    int code;
    int32_t *ids = session_tokenize(c->session, text, strlen(text), flags, &n);
    if (!ids) {
        return EXIT_FAILED;
    }
    if (n == 0) {
        print_error("the prompt is empty");
        code = EXIT_USAGE;
    } else if (continues) {
        code = append(c, ids, n);
    } else {
        forget_held(c);
        code = replace_tokens(c, ids, n);
    }
    free(ids);
    return code;
}

static int feed(conversation *c, const char *text)
{
    size_t n_text = strlen(text), n_held = c->held ? strlen(c->held) : 0;
    if (n_held > 0 && n_text == c->n_prompt_bytes && memcmp(text, c->held, n_text) == 0) {
        return rewind_to_prompt(c);
    }
    if (n_held > 0 && n_text > n_held && memcmp(text, c->held, n_held) == 0) {
        return feed_tokens(c, text + n_held, prompt_flags(c->raw) & ~(unsigned)MLXR_TOKENIZE_ADD_SPECIAL, true);
    }
    return feed_tokens(c, text, prompt_flags(c->raw), false);
}

/* The sequence now holds `text` and what was generated after it. */
static void remember_held(conversation *c, char *text, const generation *g)
{
    mlxr_error error;
    char *answer = NULL, *joined;
    size_t n_answer = 0, n_text = strlen(text);
    forget_held(c);
    size_t n_kept = g->finish == FINISH_CONTEXT && g->n_ids ? g->n_ids - 1 : g->n_ids; /* the last had no place */
    if (mlxr_detokenize(c->session->model, g->ids, n_kept, true, &answer, &n_answer, &error) == MLXR_OK &&
        (joined = realloc(text, n_text + n_answer + 1))) {
        memcpy(joined + n_text, answer, n_answer + 1);
        c->held = joined;
        c->n_prompt_bytes = n_text;
        c->n_prompt_tokens = mlxr_sequence_length(c->session->sequence) - n_kept;
    } else {
        free(text);
    }
    mlxr_free(answer);
}

/* Generates the answer to the messages there are, and adds it. */
static int answer(conversation *c, generation *g)
{
    g->started = now_seconds();
    char *text = render(c);
    if (!text) {
        return EXIT_FAILED;
    }
    int code = feed(c, text);
    if (code != EXIT_OK) {
        free(text);
        return code;
    }
    code = generate(c->session, g);
    if (code != EXIT_OK) {
        free(text);
        forget_held(c);
        return code;
    }
    remember_held(c, text, g);
    if (g->n_ids > 0 && json_array_append_new(c->messages, message("assistant", g->text)) != 0) {
        print_error("out of memory");
        code = EXIT_FAILED;
    }
    return code;
}

int conversation_ask(conversation *c, const char *text, generation *g)
{
    size_t n = json_array_size(c->messages);
    if (json_array_append_new(c->messages, message("user", text)) != 0) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    int code = answer(c, g);
    if (json_array_size(c->messages) == n + 1 && g->n_predict != 0) {
        json_array_remove(c->messages, n);
    }
    return code;
}

int conversation_regenerate(conversation *c, generation *g)
{
    size_t last = json_array_size(c->messages) - 1;
    json_t *old = json_incref(json_array_get(c->messages, last));
    json_array_remove(c->messages, last);
    int code = answer(c, g);
    if (json_array_size(c->messages) == last) {
        json_array_append(c->messages, old);
    }
    json_decref(old);
    return code;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

bool conversation_save(const conversation *c, const char *path)
{
    char temporary[4096];
    int n = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof temporary) {
        print_error("%s: the path is too long", path);
        return false;
    }
    const mlxr_model_info *info = mlxr_model_info_get(c->session->model);
    json_t *root = json_pack("{s:o, s:O}", "model", json_text(info->path, strlen(info->path)), "messages", c->messages);
    bool ok = root && json_dump_file(root, temporary, JSON_INDENT(2)) == 0 && rename(temporary, path) == 0;
    if (!ok) {
        print_error("%s: %s", path, errno ? strerror(errno) : "cannot be written");
        remove(temporary);
    }
    json_decref(root);
    return ok;
}

static bool is_conversation(const json_t *messages)
{
    if (!json_is_array(messages)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *one = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(one, "role"));
        bool known = role && (strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0 ||
                              (i == 0 && strcmp(role, "system") == 0));
        if (!known || !json_is_string(json_object_get(one, "content"))) {
            return false;
        }
    }
    return true;
}

bool conversation_load(conversation *c, const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        print_error("%s: %s", path, error.text);
        return false;
    }
    json_t *messages = json_is_array(root) ? root : json_object_get(root, "messages");
    bool ok = is_conversation(messages);
    if (ok) {
        json_incref(messages);
        json_decref(c->messages);
        c->messages = messages;
        forget_held(c);
    } else {
        print_error("%s: no conversation: \"messages\" must be a list of {\"role\", \"content\"}", path);
    }
    json_decref(root);
    return ok;
}
