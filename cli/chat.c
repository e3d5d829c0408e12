/*
 * The chat: read, answer, obey commands.
 * Owner: the verb `run`. Lifetime: the call.
 *
 * Ctrl-C while the model answers ends the answer; while a line is typed it gives the line up; it never ends the
 * program.
 */
#include "chat.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat_settings.h"
#include "inputs.h"
#include "line_input.h"
#include "output.h"
#include "registry/words.h"
#include "wrap.h"

/* Tokens of an answer at most, unless -n says otherwise: where no template tells the model when to end, and where
 * nobody may be there to stop a model that goes round in circles. In a chat there is Ctrl-C. */
#define RAW_TOKENS 256
#define ANSWER_TOKENS 2048

/* Set by the handler of SIGINT. */
static volatile sig_atomic_t interrupt_seen;

static void note_interrupt(int signal_number)
{
    (void)signal_number;
    interrupt_seen = 1;
    line_input_wake();
}

typedef struct chat {
    options *options;
    conversation *conversation;
    line_input *input;
    text_list kept; /* values of /set that options point to */
    bool done;
} chat;

bool chat_possible(void)
{
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

generation chat_generation(const options *o, const conversation *c, bool chatting)
{
    int32_t usual = c->raw ? RAW_TOKENS : chatting ? -1 : ANSWER_TOKENS;
    bool as_it_is = o->no_wrap || o->grammar || o->schema || c->raw; /* data, or a text that began elsewhere */
    return (generation){.n_predict = o->n_predict >= 0 ? o->n_predict : usual,
                        .stops = &o->stops,
                        .show = as_it_is ? write_text : wrap_text};
}

void chat_print_timings(const answerer *a, const options *o, const generation *g)
{
    size_t n_new = g->n_prompt - g->n_cached;
    print_note(
        "%zu prompt tokens (%zu reused), first after %.0f ms (%.0f tokens/s); %zu tokens, %.1f tokens/s; context %zu",
        g->n_prompt, g->n_cached, g->first_seconds * 1e3, (double)n_new / g->first_seconds, g->n_ids,
        g->n_ids > 1 ? (double)(g->n_ids - 1) / g->decode_seconds : 0.0, a->n_context);
    a->ops->note_drafts(a, o);
}

/* Asks (text) or asks again (NULL). */
static void answer(chat *c, const char *text)
{
    generation g = chat_generation(c->options, c->conversation, true);
    g.interrupted = &interrupt_seen; /* as it is: Ctrl-C right behind Enter means this answer */
    int code = text ? conversation_ask(c->conversation, c->options, text, &g)
                    : conversation_regenerate(c->conversation, c->options, &g);
    wrap_end();
    if (g.n_text > 0 && g.text[g.n_text - 1] != '\n') {
        putchar('\n');
    }
    fflush(stdout);
    if (!text && g.n_text > 0 && (code != EXIT_OK || g.finish == FINISH_INTERRUPTED)) {
        print_note("(interrupted: the answer before it stays; /other takes this one)");
    } else if (code == EXIT_OK && g.finish == FINISH_INTERRUPTED) {
        print_note("(interrupted)");
    }
    if (code == EXIT_OK) {
        if (g.finish == FINISH_CONTEXT) {
            print_note("(the context of %zu tokens is full: /clear starts anew)", c->conversation->answerer->n_context);
        } else if (g.finish == FINISH_LENGTH && c->options->n_predict >= 0) {
            print_note("(stopped after %zu tokens)", g.n_ids);
        }
        if (c->options->verbose) {
            chat_print_timings(c->conversation->answerer, c->options, &g);
        }
    }
    interrupt_seen = 0;
    generation_close(&g);
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

typedef struct command {
    const char *name, *argument, *help;
    void (*run)(chat *c, const char *argument);
} command;

static void do_help(chat *c, const char *argument);

static void do_clear(chat *c, const char *argument)
{
    (void)argument;
    conversation_clear(c->conversation);
    print_note("forgotten");
}

static void do_system(chat *c, const char *argument)
{
    if (c->conversation->raw) {
        print_error("this model has no chat template, and so no place for a system message");
    } else if (conversation_set_system(c->conversation, argument)) {
        print_note(*argument ? "system message set" : "system message removed");
    }
}

/* Is it a file that the chat reads? Tells so then. */
static bool is_read(const chat *c, const char *path)
{
    inputs in = {0};
    /* At a daemon it is a name: then there is no such file. */
    const registry_model model = {.path = (char *)c->conversation->answerer->model};
    bool lost = !inputs_add_loaded(&in, &model, c->options);
    inputs_add(&in, c->options->grammar);
    inputs_add(&in, c->options->schema);
    lost = lost || inputs_lose(&in, path);
    inputs_close(&in);
    return lost;
}

static void do_save(chat *c, const char *argument)
{
    if (!*argument) {
        print_error("/save needs the name of a file");
    } else if (!is_read(c, argument) && conversation_save(c->conversation, argument)) {
        print_note("saved in %s", argument);
    }
}

static void do_load(chat *c, const char *argument)
{
    if (!*argument) {
        print_error("/load needs the name of a file");
    } else if (conversation_load(c->conversation, argument)) {
        print_note("%zu messages loaded", json_array_size(c->conversation->messages));
    }
}

static void do_set(chat *c, const char *argument)
{
    settings_change(c->conversation->answerer, c->options, &c->kept, argument);
}

static void do_show(chat *c, const char *argument)
{
    (void)argument;
    c->conversation->answerer->ops->show(c->conversation->answerer);
    printf("  messages  %zu\n", json_array_size(c->conversation->messages));
    const json_t *first = json_array_get(c->conversation->messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    if (role && strcmp(role, "system") == 0) {
        printf("  system    ");
        const char *text = json_string_value(json_object_get(first, "content"));
        write_text(text, strlen(text));
        putchar('\n');
    }
}

static void do_regen(chat *c, const char *argument)
{
    (void)argument;
    if (conversation_can_regenerate(c->conversation)) {
        answer(c, NULL);
    } else {
        print_error("there is no answer to make again");
    }
}

static void do_other(chat *c, const char *argument)
{
    (void)argument;
    const char *text = conversation_exchange(c->conversation);
    if (!text) {
        print_error("there is no other answer: /regen makes one");
        return;
    }
    size_t n = strlen(text);
    chat_generation(c->options, c->conversation, true).show(text, n);
    wrap_end();
    if (n == 0 || text[n - 1] != '\n') {
        putchar('\n');
    }
}

static void do_exit(chat *c, const char *argument)
{
    (void)argument;
    c->done = true;
}

static const command commands[] = {
    {"/help", "", "this list", do_help},
    {"/clear", "", "forget the conversation, keep the system message", do_clear},
    {"/system", "[TEXT]", "set the system message; without text remove it", do_system},
    {"/regen", "", "make the last answer again", do_regen},
    {"/other", "", "go on with another answer than the last one: the one before /regen, or what came of it", do_other},
    {"/set", "[NAME VALUE]", "change a setting such as temp or schema; without arguments list them", do_set},
    {"/show", "", "model, context and memory", do_show},
    {"/save", "FILE", "save the conversation", do_save},
    {"/load", "FILE", "load a conversation", do_load},
    {"/exit", "", "leave; Ctrl-D does the same", do_exit},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

#define HELP_INDENT 25

static void do_help(chat *c, const char *argument)
{
    (void)c;
    (void)argument;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char left[32];
        snprintf(left, sizeof left, "  %-8s %s", commands[i].name, commands[i].argument);
        print_entry(left, HELP_INDENT, commands[i].help);
    }
    fputs("  ", stdout);
    print_wrapped("\"\"\" begins and ends a text of several lines; so does a backslash at the end of a line. What is "
                  "pasted is one text, whatever its lines.",
                  2, 2);
    fputs("  Ctrl-C stops the answer.\n", stdout);
}

static void obey(chat *c, char *line)
{
    size_t n = strcspn(line, " \t\n");
    char *argument = line + n + strspn(line + n, " \t\n"), *end = argument + strlen(argument);
    while (end > argument && isspace((unsigned char)end[-1])) {
        *--end = '\0';
    }
    line[n] = '\0';
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        size_t distance = words_distance(line, commands[i].name);
        if (distance == 0 || (i + 1 == N_COMMANDS && (strcmp(line, "/bye") == 0 || strcmp(line, "/quit") == 0))) {
            commands[i].run(c, argument);
            return;
        }
        best = distance < best_distance ? commands[i].name : best;
        best_distance = distance < best_distance ? distance : best_distance;
    }
    if (best) {
        print_error("no command %s; did you mean %s?", line, best);
    } else {
        print_error("no command %s; /help lists them", line);
    }
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void read_and_answer(chat *c)
{
    char *text = NULL;
    switch (line_input_read(c->input, &text)) {
    case LINE_END:
        c->done = true;
        break;
    case LINE_CANCELLED:
        break;
    case LINE_TEXT:
        if (text[0] == '/' && text[1] && !strchr(text, '\n')) {
            obey(c, text);
        } else if (text[strspn(text, " \t\n")]) {
            answer(c, text);
        }
        break;
    }
    free(text);
}

int chat_run(options *o, conversation *c, const char *first)
{
    chat state = {.options = o, .conversation = c};
    const char *words[N_COMMANDS + 1] = {0};
    /* A write that it comes in goes on: stdout that failed once has failed for good, and that ends the chat. */
    struct sigaction action = {.sa_handler = note_interrupt, .sa_flags = SA_RESTART}, before;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        words[i] = commands[i].name;
    }
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action,
              &before); /* as long as the terminal is held: else it ends a chat that has not given it back */
    state.input = line_input_open(&interrupt_seen, words);
    if (!state.input) {
        sigaction(SIGINT, &before, NULL);
        print_error("the terminal cannot be used for line editing");
        return EXIT_FAILED;
    }
    if (first) {
        answer(&state, first);
    } else {
        print_note("%s; /help for help, Ctrl-D to leave",
                   c->raw ? "type a text for the model to go on with" : "type a message");
    }
    while (!state.done && !ferror(stdout)) {
        read_and_answer(&state);
    }
    line_input_close(&state.input);
    sigaction(SIGINT, &before, NULL);
    for (size_t i = 0; i < state.kept.n; i++) {
        free((void *)state.kept.items[i]);
    }
    free(state.kept.items);
    return finish_output(EXIT_OK);
}
