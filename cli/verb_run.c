/*
 * `mlxr run`: one answer, or a chat.
 * Owner: main. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat.h"
#include "models.h"
#include "output.h"
#include "own_daemon.h"
#include "verbs.h"
#include "wrap.h"

static json_t *ids_json(const generation *g)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < g->n_ids; i++) {
        json_array_append_new(ids, json_integer(g->ids[i]));
    }
    return ids;
}

static int print_answer_json(const options *o, const conversation *c, generation *g)
{
    const answerer *a = c->answerer;
    json_t *root = json_object();
    size_t n_new = g->n_prompt - g->n_cached;
    bool any = g->n_ids > 0;
    json_object_set_new(root, "text", json_text(g->text, g->n_text));
    json_object_set_new(root, "ids", ids_json(g));
    json_object_set_new(root, "load_ms", json_number(a->load_ms));
    json_object_set_new(root, "ttft_ms", any ? json_number(g->first_seconds * 1e3) : json_null());
    json_object_set_new(root, "prefill_tokens_per_s",
                        any ? json_number((double)n_new / g->first_seconds) : json_null());
    json_object_set_new(root, "decode_tokens_per_s",
                        g->n_ids > 1 ? json_number((double)(g->n_ids - 1) / g->decode_seconds) : json_null());
    json_object_set_new(root, "n_prompt", json_integer((json_int_t)g->n_prompt));
    json_object_set_new(root, "n_generated", json_integer((json_int_t)g->n_ids));
    json_object_set_new(root, "finish_reason", json_string(finish_name(g->finish)));
    json_object_set_new(root, "raw", json_boolean(c->raw));
    json_object_set_new(root, "n_cached", json_integer((json_int_t)g->n_cached));
    json_object_set_new(root, "batch_invariant", json_boolean(a->batch_invariant));
    if (a->activations > 0) {
        json_object_set_new(root, "activations", json_integer(a->activations));
    }
    json_t *draft = a->ops->drafts(a, o);
    if (draft) {
        json_object_set_new(root, "draft", draft);
    }
    if (g->logprobs) {
        json_object_set(root, "logprobs", g->logprobs);
    }
    return print_json(root);
}

/* One answer, streamed to stdout or told as JSON. */
static int answer_once(options *o, conversation *c, const char *prompt)
{
    generation g = chat_generation(o, c, false);
    g.show = o->json ? NULL : g.show;
    g.logprobs = o->sampling.logprobs ? json_array() : NULL;
    int code = conversation_ask(c, o, prompt, &g);
    wrap_end();
    if (!o->json && (code == EXIT_OK || g.n_text > 0) && (g.n_text == 0 || g.text[g.n_text - 1] != '\n')) {
        putchar('\n'); /* also behind what came before an error */
    }
    if (code == EXIT_OK && o->json) {
        code = print_answer_json(o, c, &g);
    } else if (code == EXIT_OK) {
        if (g.finish == FINISH_CONTEXT) {
            print_note("(the context of %zu tokens is full)", c->answerer->n_context);
        } else if (g.finish == FINISH_LENGTH && o->n_predict < 0) {
            print_note("(stopped after %zu tokens; -n N allows more)", g.n_ids);
        }
    }
    if (code == EXIT_OK && o->verbose) {
        chat_print_timings(c->answerer, o, &g);
    }
    json_decref(g.logprobs);
    generation_close(&g);
    return finish_output(code);
}

/* Whether texts go in as they are: asked for, or there is no template for anything else. */
static bool decide_raw(const options *o, const answerer *a)
{
    if (!o->raw && !a->has_template) {
        print_note("mlxr: this model has no chat template; it goes on with the text as it is (--raw says so)");
        return true;
    }
    return o->raw;
}

/* The prompt: an argument, or what stdin holds if nobody types there. *out stays NULL for a chat without one. */
static bool find_prompt(const options *o, char **out)
{
    size_t n = 0;
    bool from_stdin = o->n_args == 2 ? strcmp(o->args[1], "-") == 0 : !chat_possible();
    *out = NULL;
    if (o->n_args < 2 && chat_possible() && !o->json) {
        return true;
    }
    if (o->n_args < 2 && isatty(STDIN_FILENO)) {
        print_error("no prompt; a chat needs a terminal for its output, too");
        return false;
    }
    *out = from_stdin ? read_all("-", &n) : strdup(o->args[1]);
    if (!*out) {
        return false;
    }
    if (from_stdin && !o->raw && n > 1 &&
        (*out)[n - 1] == '\n') { /* the end of the line is not part of what was said */
        (*out)[--n] = '\0';
    }
    if (from_stdin && strlen(*out) != n) {
        print_error("stdin holds a NUL byte: this is no text");
    } else if (from_stdin && n == 0) {
        print_error("no prompt: stdin is empty");
    } else {
        return true;
    }
    free(*out);
    *out = NULL;
    return false;
}

static bool check_options(const options *o)
{
    if (o->sampling.logprobs && !o->json) {
        print_error("--logprobs needs --json");
    } else if (o->json && o->chat) {
        print_error("--json tells one answer; it cannot go on as a --chat");
    } else if (o->raw && o->system) {
        print_error("--system is part of the chat template, which --raw leaves out");
    } else {
        return true;
    }
    return false;
}

/* Whether a daemon shall answer; then *c is one, or *own is started. Returns an exit code. */
static int choose(options *o, client **c, own_daemon **own)
{
    const char *model = o->args[0], *cannot = answer_daemon_cannot(o);
    if (models_is_path(model)) {
        if (o->serve || o->server) {
            print_error("--%s: a model given by path is always answered for in this process; a daemon knows names",
                        o->serve ? "serve" : "server");
            return EXIT_USAGE;
        }
        return EXIT_OK;
    }
    if (o->serve) {
        return own_daemon_start(own, c, o);
    }
    if (cannot && o->server && strcmp(o->server, "none") != 0) {
        print_error("--%s is for an engine in this process; the daemon of --server has its own", cannot);
        return EXIT_USAGE;
    }
    int code = client_find(c, o, CLIENT_IF_THERE);
    if (*c && cannot) {
        print_note("mlxr: not answered by the daemon at %s, because of --%s", client_where(*c), cannot);
        client_close(c);
    }
    return code;
}

/* Who answers, where that is another process than this one and the command line does not say so. */
static void tell_who(const options *o, const client *c)
{
    if (c && !o->serve) {
        print_note("mlxr: answered by the daemon at %s", client_where(c));
    }
}

/* Opens who answers, and asks. */
static int run(options *o, client *c, const char *prompt)
{
    answerer *a = NULL;
    conversation talk = {0};
    int code = c ? answer_daemon_open(&a, o, c, o->args[0]) : answer_here_open(&a, o, o->args[0]);
    if (code == EXIT_OK) {
        bool raw = decide_raw(o, a);
        code = conversation_open(&talk, a, raw, raw ? NULL : o->system) ? EXIT_OK : EXIT_FAILED;
    }
    if (code == EXIT_OK && (!prompt || (o->chat && chat_possible()))) {
        tell_who(o, c);
        code = chat_run(o, &talk, prompt);
    } else if (code == EXIT_OK) {
        code = answer_once(o, &talk, prompt);
        if (code == EXIT_OK) {
            tell_who(o, c);
        }
    }
    conversation_close(&talk);
    answerer_close(&a);
    return code;
}

int verb_run(options *o)
{
    char *prompt = NULL;
    client *c = NULL;
    own_daemon *own = NULL;
    o->sampling.logprobs = o->n_logprobs >= 0;
    o->sampling.n_logprobs = o->n_logprobs > 0 ? (uint32_t)o->n_logprobs : 0;
    if (!check_options(o) || !find_prompt(o, &prompt)) {
        return EXIT_USAGE;
    }
    int code = choose(o, &c, &own);
    if (code == EXIT_OK) {
        code = run(o, c, prompt);
    }
    client_close(&c);
    own_daemon_stop(&own);
    free(prompt);
    return code;
}
