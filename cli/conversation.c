/*
 * The messages, and files of them.
 * Owner: the verb `run`. Lifetime: as the conversation's.
 */
#include "conversation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "output.h"
#include "replacement.h"

bool conversation_open(conversation *c, answerer *a, bool raw, const char *system)
{
    *c = (conversation){.answerer = a, .messages = json_array(), .others = json_array(), .raw = raw};
    if (!c->messages || !c->others) {
        print_error("out of memory");
        return false;
    }
    return !system || conversation_set_system(c, system);
}

void conversation_close(conversation *c)
{
    json_decref(c->messages);
    json_decref(c->others);
    *c = (conversation){0};
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

static json_t *message(const char *role, const char *content, size_t n_content)
{
    return json_pack("{s:s, s:o}", "role", role, "content", json_text(content, n_content));
}

bool conversation_set_system(conversation *c, const char *text)
{
    if (has_system(c)) {
        json_array_remove(c->messages, 0);
    }
    if (text && *text && json_array_insert_new(c->messages, 0, message("system", text, strlen(text))) != 0) {
        print_error("out of memory");
        return false;
    }
    return true;
}

void conversation_clear(conversation *c)
{
    json_array_clear(c->others);
    while (json_array_size(c->messages) > (has_system(c) ? 1u : 0u)) {
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    }
    if (c->raw) { /* there is no template to compare with */
        c->answerer->ops->forget(c->answerer);
    }
}

bool conversation_can_regenerate(const conversation *c)
{
    size_t n = json_array_size(c->messages);
    return n >= 2 && strcmp(role_at(c, n - 1), "assistant") == 0;
}

/* Asks for the answer to the messages there are, and adds it. */
static int answer(conversation *c, const options *o, generation *g)
{
    int code = c->answerer->ops->answer(c->answerer, o, c->messages, c->raw, g);
    if (code == EXIT_OK && (g->n_ids > 0 || g->n_text > 0) &&
        json_array_append_new(c->messages, message("assistant", g->text, strlen(g->text))) != 0) {
        print_error("out of memory");
        code = EXIT_FAILED;
    }
    return code;
}

/* What came before an error, which is told on a line of its own: the line feed before that is not the model's. NULL:
 * nothing came. */
static json_t *message_before_error(const generation *g)
{
    return g->n_text > 0 ? message("assistant", g->text, g->n_text - (g->text[g->n_text - 1] == '\n')) : NULL;
}

int conversation_ask(conversation *c, const options *o, const char *text, generation *g)
{
    size_t n = json_array_size(c->messages);
    if (json_array_append_new(c->messages, message("user", text, strlen(text))) != 0) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    int code = answer(c, o, g);
    if (code != EXIT_OK && g->n_text > 0) {
        json_array_append_new(c->messages, message_before_error(g));
    }
    if (json_array_size(c->messages) == n + 1 && g->n_predict != 0) {
        json_array_remove(c->messages, n);
    }
    if (json_array_size(c->messages) > n) { /* another question is the last one now */
        json_array_clear(c->others);
    }
    return code;
}

int conversation_regenerate(conversation *c, const options *o, generation *g)
{
    size_t last = json_array_size(c->messages) - 1;
    json_t *old = json_incref(json_array_get(c->messages, last));
    json_array_remove(c->messages, last);
    int code = answer(c, o, g);
    bool whole = code == EXIT_OK && g->finish != FINISH_INTERRUPTED && g->finish != FINISH_OUTPUT;
    json_t *made = json_incref(json_array_get(c->messages, last)); /* NULL: nothing, or an error came behind it */
    made = made ? made : message_before_error(g);
    if (made && whole) {
        json_array_insert(c->others, 0, old);
    } else {
        json_array_remove(c->messages, last);
        json_array_append(c->messages, old);
        json_array_insert(c->others, 0, made);
    }
    json_decref(made);
    json_decref(old);
    return code;
}

const char *conversation_exchange(conversation *c)
{
    size_t n = json_array_size(c->messages);
    json_t *next = json_array_get(c->others, 0);
    if (!next || n == 0 || json_array_append(c->others, json_array_get(c->messages, n - 1)) != 0) {
        return NULL;
    }
    json_array_set(c->messages, n - 1, next);
    json_array_remove(c->others, 0);
    return json_string_value(json_object_get(json_array_get(c->messages, n - 1), "content"));
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

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

/* Is there a file with something else in it than a conversation, or that may not be looked into? Tells so then: a name
 * typed wrong takes no text. */
static bool holds_other(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
        return false; /* if it cannot be written, writing tells why */
    }
    FILE *file = fopen(path, "rb");
    if (!file) {
        print_error("%s: what is in it cannot be read, and would be lost (%s); give another name", path,
                    strerror(errno));
        return true;
    }
    json_t *root = json_loadf(file, JSON_ALLOW_NUL, NULL); /* a NUL in a text keeps /load from it, but it is one */
    fclose(file);
    bool other = !is_conversation(json_is_array(root) ? root : json_object_get(root, "messages"));
    json_decref(root);
    if (other) {
        print_error("%s: this is no conversation, and would be lost; give another name", path);
    }
    return other;
}

bool conversation_save(const conversation *c, const char *path)
{
    mlxr_error error;
    replacement r;
    if (holds_other(path)) {
        return false;
    }
    const char *model = c->answerer->model;
    json_t *root = json_pack("{s:o, s:O}", "model", json_text(model, strlen(model)), "messages", c->messages);
    if (!root) {
        print_error("out of memory");
        return false;
    }
    mlxr_status status = replacement_open(&r, path, 0666, &error);
    if (status == MLXR_OK) {
        status = replacement_close(&r, json_dumpf(root, r.to, JSON_INDENT(2)) == 0, &error);
    }
    json_decref(root);
    if (status != MLXR_OK) {
        print_error("%s", error.text);
    }
    return status == MLXR_OK;
}

bool conversation_load(conversation *c, const char *path)
{
    json_error_t error;
    FILE *file = fopen(path, "rb");
    if (!file) {
        print_error("%s: %s", path, strerror(errno));
        return false;
    }
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    fclose(file);
    if (!root) {
        print_error("%s: line %d: %s", path, error.line, error.text);
        return false;
    }
    json_t *messages = json_is_array(root) ? root : json_object_get(root, "messages");
    bool ok = is_conversation(messages);
    if (ok) {
        json_incref(messages);
        json_decref(c->messages);
        c->messages = messages;
        json_array_clear(c->others);
    } else {
        print_error("%s: no conversation: \"messages\" must be a list of {\"role\", \"content\"}", path);
    }
    json_decref(root);
    return ok;
}
