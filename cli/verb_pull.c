/*
 * `mlxr pull`: getting a model. Ctrl-C stops it; the next pull goes on from there. `mlxr push`: giving one.
 * Owner: main. Lifetime: the call.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "output.h"
#include "store.h"
#include "verbs.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

typedef struct pulling {
    progress bar;
    const char *label;
    bool begun;
} pulling;

static bool on_progress(void *user, const registry_pull_progress *p)
{
    pulling *state = user;
    char note[360];
    uint64_t total = p->total ? p->total : p->file_total, done = p->total ? p->done + p->file_done : p->file_done;
    if (!state->begun) {
        state->bar = progress_begin(state->label);
        state->begun = true;
    }
    snprintf(note, sizeof note, "%.200s  %s of %s", p->what, human_bytes(done), total ? human_bytes(total) : "?");
    progress_show(&state->bar, (double)done, total ? (double)total : 1, note);
    return !interrupted;
}

/* What was pulled: the model, and "modelfile" among its members. */
static mlxr_status show(store *s, const char *name, json_t **model, mlxr_error *error)
{
    json_t *shown = NULL;
    mlxr_status status = s->ops->show(s, name, false, &shown, error);
    *model = status == MLXR_OK ? json_incref(json_object_get(shown, "model")) : NULL;
    if (status == MLXR_OK && json_is_string(json_object_get(shown, "modelfile"))) {
        json_object_set(*model, "modelfile", json_object_get(shown, "modelfile"));
    }
    json_decref(shown);
    return status;
}

int verb_pull(options *o)
{
    store s;
    pulling state = {.label = "pull"};
    mlxr_error error;
    char name[REGISTRY_NAME_MAX + 1], path[REGISTRY_PATH_MAX];
    const char *source = o->args[0];
    if (access(source, F_OK) == 0 && *source != '/' && *source != '.') { /* a file beside us */
        snprintf(path, sizeof path, "./%s", source);
        source = path;
    }
    registry_pull_options wanted = {
        .name = o->as, .allow_files = true, .digest = o->digest, .progress = on_progress, .user = &state};
    bool file = *source == '/' || *source == '.';
    int code = store_open(&s, o, STORE_CHANGE | (file ? STORE_FILES : 0));
    if (code != EXIT_OK) {
        return code;
    }
    struct sigaction old, action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, &old);
    mlxr_status status = s.ops->pull(&s, source, &wanted, name, &error);
    sigaction(SIGINT, &old, NULL);
    if (state.begun) {
        progress_end(&state.bar);
    }
    json_t *model = NULL;
    if (status == MLXR_OK) {
        status = show(&s, name, &model, &error);
    }
    store_close(&s);
    if (status != MLXR_OK) {
        print_error("%s", error.text);
        return interrupted ? EXIT_STOPPED : EXIT_FAILED;
    }
    const json_t *warnings = json_object_get(model, "warnings"), *why_not = json_object_get(model, "why_not");
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        const json_t *w = json_array_get(warnings, i);
        print_note("mlxr: %s: %s", json_string_value(json_object_get(w, "what")),
                   json_string_value(json_object_get(w, "why")));
    }
    if (json_is_string(why_not)) {
        print_note("mlxr: it cannot run here yet: %s", json_string_value(why_not));
    }
    if (o->json) {
        return print_json(model);
    }
    json_decref(model);
    printf("%s\n", name);
    return finish_output(EXIT_OK);
}

int verb_push(options *o)
{
    store s;
    pulling state = {.label = "push"};
    mlxr_error error;
    const char *name = o->args[0];
    registry_pull_options wanted = {.progress = on_progress, .user = &state};
    int code = store_open(&s, o, STORE_CHANGE);
    if (code != EXIT_OK) {
        return code;
    }
    struct sigaction old, action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, &old);
    mlxr_status status = s.ops->push(&s, name, &wanted, &error);
    sigaction(SIGINT, &old, NULL);
    if (state.begun) {
        progress_end(&state.bar);
    }
    store_close(&s);
    if (status != MLXR_OK) {
        print_error("%s", error.text);
        return interrupted ? EXIT_STOPPED : EXIT_FAILED;
    }
    if (o->json) {
        return print_json(json_pack("{s:s, s:o}", "status", "pushed", "name", json_text(name, strlen(name))));
    }
    printf("pushed %s\n", name);
    return finish_output(EXIT_OK);
}
