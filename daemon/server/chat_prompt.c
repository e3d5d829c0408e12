/*
 * Rendering, tokenising, truncating, and remembering.
 * Owner: the generation. Lifetime: the call.
 */
#include "server/chat_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlxr_chat.h"
#include "server/chat_tools.h"
#include "server/volatile_text.h"

static bool no_memory(chat_request *r)
{
    return request_fields_no_memory(&r->f);
}

void chat_prompt_close(chat_prompt *p)
{
    mlxr_free(p->text);
    free(p->ids);
    free(p->grammar);
    *p = (chat_prompt){0};
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* The template's further variables. */
static json_t *variables_of(chat_request *r, const output_format *f)
{
    json_t *made = r->variables ? json_deep_copy(r->variables) : json_object();
    think_mode think = r->think;
    if (think == THINK_DEFAULT && r->effort && strcmp(r->effort, "none") == 0) {
        think = THINK_OFF;
    }
    if (think == THINK_ON && !f->thinks) {
        request_fields_warn(&r->f, "this model does not reason before it answers");
    }
    if (f->thinks && chat_request_is_bound(r) && think != THINK_OFF) {
        request_fields_warn(&r->f, "reasoning is left out: the answer is bound to a %s",
                            chat_request_is_forced(r) ? "tool call" : "grammar or schema");
        think = THINK_OFF;
    }
    if (think != THINK_DEFAULT) {
        json_object_set_new(made, "enable_thinking", json_boolean(think == THINK_ON)); /* Qwen and most others */
        json_object_set_new(made, "thinking", json_boolean(think == THINK_ON));        /* DeepSeek, Granite */
    }
    if (r->effort && strcmp(r->effort, "none") != 0) {
        json_object_set_new(made, "reasoning_effort", json_string(r->effort)); /* gpt-oss */
        if (!f->thinks) {
            request_fields_warn(&r->f, "reasoning_effort: this model does not reason before it answers");
        }
    }
    return made;
}

static bool append_bytes(chat_prompt *p, const char *text, size_t n)
{
    char *grown = realloc(p->text, p->n_text + n + 1); /* mlxr_free is free */
    if (!grown) {
        return false;
    }
    memcpy(grown + p->n_text, text, n);
    p->text = grown;
    p->n_text += n;
    p->text[p->n_text] = 0;
    return true;
}

/* What we write ourselves: control tokens are meant as such. */
static bool append(chat_prompt *p, const char *text)
{
    return append_bytes(p, text, strlen(text));
}

/* What somebody else has written: no control token comes of it. */
static bool append_foreign(chat_prompt *p, const chat_model *m, const char *text)
{
    char *marked = NULL;
    size_t n = 0;
    bool ok = mlxr_chat_mark(m->model, text, strlen(text), &marked, &n, NULL) == MLXR_OK && append_bytes(p, marked, n);
    mlxr_free(marked);
    return ok;
}

/* Renders; the text is p's. */
static bool render(chat_prompt *p, const chat_model *m, chat_request *r, const json_t *messages,
                   const json_t *variables, bool ask)
{
    mlxr_error error;
    char *list = json_dumps(messages, JSON_COMPACT), *extra = json_dumps(variables, JSON_COMPACT);
    bool tell = r->tools && m->format->template_has_tools;
    char *tools = tell ? json_dumps(r->tools, JSON_COMPACT) : NULL;
    bool ok = list && extra && (!tell || tools);
    mlxr_free(p->text);
    p->text = NULL;
    if (!ok) {
        no_memory(r);
    } else if (!m->template_text && !mlxr_model_info_get(m->model)->has_chat_template) {
        ok = request_fields_bad(&r->f, "messages",
                                "this model has no chat template: a base model, which goes on with texts "
                                "(/v1/completions, the page's playground) and does not chat; choose another one");
    } else if (mlxr_chat_render_with(m->model, m->template_text, list, tools, extra, ask, true, &p->text, &error) !=
               MLXR_OK) {
        ok = request_fields_fail(&r->f, error.status, "messages", "the model's chat template: %s", error.text);
    } else {
        p->n_text = strlen(p->text);
    }
    free(list);
    free(extra);
    free(tools);
    return ok;
}

/* The messages as the template can take them: a new list. */
static json_t *adapt(const chat_model *m, chat_request *r, bool first_time)
{
    json_t *list = json_deep_copy(r->messages);
    if (list && !r->keep_volatile) {
        volatile_text_remove(list, first_time ? r : NULL);
    }
    if (list && !m->format->template_has_tools && !chat_tools_describe(list, r->tools)) {
        json_decref(list);
        return NULL;
    }
    if (list && r->tools && !m->format->template_has_tools && first_time) {
        request_fields_warn(&r->f, "the model's chat template has no place for tools; they are described to it in a "
                                   "system message");
    }
    if (list && !m->format->template_has_system) {
        chat_system_merge(list);
    }
    return list;
}

/* What a thinking model's prompt opened, and a bound answer cannot go on with. */
static bool close_thinking(chat_prompt *p, const output_format *f)
{
    for (size_t i = 0; i < f->n_markers; i++) {
        if (f->markers[i].action == MARKER_THINK_CLOSE) {
            return append(p, "\n") && append(p, f->markers[i].text) && append(p, "\n\n");
        }
    }
    return true;
}

static bool chat_text(chat_prompt *p, const chat_model *m, chat_request *r, bool first_time)
{
    json_t *messages = adapt(m, r, first_time), *variables = variables_of(r, m->format);
    size_t n = json_array_size(messages);
    json_t *last = r->continues && n > 1 ? json_incref(json_array_get(messages, n - 1)) : NULL;
    if (last) {
        json_array_remove(messages, n - 1);
    }
    bool ok = messages && variables && render(p, m, r, messages, variables, true);
    ok = ok && (!last || append_foreign(p, m, json_string_value(json_object_get(last, "content"))));
    p->opened = ok && output_format_opened(m->format, p->text, p->n_text);
    if (ok && p->opened && chat_request_is_bound(r)) {
        ok = close_thinking(p, m->format);
        p->opened = false;
    }
    if (ok && chat_request_is_forced(r)) {
        p->forced = true;
        free(p->grammar);
        p->grammar = chat_tools_schema(r, m->format->tools);
        ok = p->grammar && append(p, chat_tools_prefix(m->format->tools));
    }
    json_decref(last);
    json_decref(messages);
    json_decref(variables);
    return ok || no_memory(r);
}

/* The tokens around a hole, by their usual names. */
static bool infill_text(chat_prompt *p, const chat_model *m, chat_request *r)
{
    static const char *const sets[][3] = {
        {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, /* Qwen Coder */
        {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},       /* StarCoder, SmolLM */
        {"<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"},
        {"<PRE>", "<SUF>", "<MID>"}, /* Code Llama */
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        bool known = true;
        for (size_t k = 0; k < 3 && known; k++) {
            int32_t id;
            size_t n = 0;
            known = mlxr_tokenize(m->model, sets[i][k], strlen(sets[i][k]), MLXR_TOKENIZE_PARSE_SPECIAL, &id, 1, &n,
                                  NULL) == MLXR_OK &&
                    n == 1;
        }
        if (known) {
            p->text = strdup("");
            p->n_text = 0;
            return (p->text && append(p, sets[i][0]) && append_foreign(p, m, r->prompt) && append(p, sets[i][1]) &&
                    append_foreign(p, m, r->suffix) && append(p, sets[i][2])) ||
                   no_memory(r);
        }
    }
    return request_fields_bad(&r->f, "suffix", "this model cannot fill in: its vocabulary has no marks for it");
}

static bool make_text(chat_prompt *p, const chat_model *m, chat_request *r, bool first_time)
{
    if (r->messages) {
        return chat_text(p, m, r, first_time);
    }
    if (r->suffix && *r->suffix) {
        return infill_text(p, m, r);
    }
    p->text = malloc(r->n_prompt + 1);
    if (!p->text) {
        return no_memory(r);
    }
    memcpy(p->text, r->prompt, r->n_prompt);
    p->text[r->n_prompt] = 0;
    p->n_text = r->n_prompt;
    return true;
}

bool chat_prompt_text(chat_prompt *out, const chat_model *m, chat_request *r)
{
    *out = (chat_prompt){0};
    if (!make_text(out, m, r, true)) {
        return false;
    }
    out->n_text = mlxr_chat_unmark(out->text, out->n_text);
    return true;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

/* Appends the tokens of a text. */
static bool tokenize(chat_prompt *p, const mlxr_model *model, const char *text, size_t n, unsigned flags,
                     chat_request *r)
{
    size_t cap = n + 8, n_new = 0; /* a token is at least a byte, but for the special ones around the text */
    mlxr_error error;
    for (;;) {
        int32_t *grown = realloc(p->ids, (p->n_ids + cap) * sizeof *grown);
        if (!grown) {
            return r ? no_memory(r) : false;
        }
        p->ids = grown;
        if (mlxr_tokenize(model, text, n, flags, p->ids + p->n_ids, cap, &n_new, &error) != MLXR_OK) {
            return r ? request_fields_fail(&r->f, error.status, r->messages ? "messages" : "prompt", "%s", error.text)
                     : false;
        }
        if (n_new <= cap) {
            p->n_ids += n_new;
            return true;
        }
        cap = n_new;
    }
}

#define MARKED (MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_MARKED)

/* A raw prompt may have control tokens; in a conversation, and around a hole, they are the template's and ours only. */
static unsigned flags_of(const chat_request *r)
{
    return r->messages               ? MARKED
           : r->suffix && *r->suffix ? MARKED | MLXR_TOKENIZE_ADD_SPECIAL
           : r->no_special           ? 0u
                                     : MLXR_TOKENIZE_PARSE_SPECIAL | MLXR_TOKENIZE_ADD_SPECIAL;
}

static bool make_tokens(chat_prompt *p, const chat_model *m, chat_request *r)
{
    free(p->ids);
    p->ids = NULL;
    p->n_ids = 0;
    size_t known = m->store ? token_store_find(m->store, m->key, p->text, p->n_text, &p->ids, &p->n_ids) : 0;
    unsigned flags = known ? flags_of(r) & ~(unsigned)MLXR_TOKENIZE_ADD_SPECIAL : flags_of(r);
    return tokenize(p, m->model, p->text + known, p->n_text - known, flags, r);
}

/* ---- the context ------------------------------------------------------------------------------------------------- */

static size_t room_of(const mlxr_model *model, const chat_request *r)
{
    size_t n = mlxr_model_info_get(model)->n_ctx;
    return r->n_ctx && r->n_ctx < n ? r->n_ctx : n;
}

static bool too_long(chat_request *r, const chat_prompt *p, size_t room)
{
    request_fields_bad(&r->f, r->messages ? "messages" : "prompt",
                       "the prompt has %zu tokens, but the context holds %zu and the answer needs one at least; "
                       "shorten it by %zu, or allow truncation",
                       p->n_ids, room, p->n_ids + 1 - room);
    r->f.error.status = MLXR_LIMIT;
    return false;
}

/* Takes out the oldest turn: a user's message and what answers it. False: the last message is all there is. */
static bool drop_turn(json_t *messages, size_t *n_dropped)
{
    size_t first = 0, n = json_array_size(messages);
    while (first < n) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, first), "role"));
        if (strcmp(role, "system") != 0) {
            break;
        }
        first++;
    }
    if (first + 1 >= n) {
        return false;
    }
    do {
        json_array_remove(messages, first);
        (*n_dropped)++;
        n--;
        const char *role = json_string_value(json_object_get(json_array_get(messages, first), "role"));
        if (strcmp(role, "user") == 0) {
            break;
        }
    } while (first + 1 < n);
    return true;
}

/* Room for an answer is left: what max_tokens asks for, or a quarter of the context. */
static size_t wanted_room(size_t room, const chat_request *r)
{
    size_t answer = r->f.max_tokens ? r->f.max_tokens : room / 4;
    answer = answer < room / 2 ? answer : room / 2;
    return room - (answer ? answer : 1);
}

static bool truncate(chat_prompt *p, const chat_model *m, chat_request *r, size_t room)
{
    size_t wanted = wanted_room(room, r);
    if (!r->messages || r->n_before) {
        p->n_dropped = p->n_ids - wanted;
        memmove(p->ids, p->ids + p->n_dropped, wanted * sizeof *p->ids);
        p->n_ids = wanted;
        mlxr_free(p->text); /* it is no longer what the tokens say */
        p->text = NULL;
        return request_fields_warn(&r->f, "the first %zu tokens of the prompt were left out: the context holds %zu",
                                   p->n_dropped, room);
    }
    while (p->n_ids > wanted && drop_turn(r->messages, &p->n_dropped)) {
        if (!make_text(p, m, r, false) || !make_tokens(p, m, r)) {
            return false;
        }
    }
    return p->n_ids < room
               ? request_fields_warn(&r->f, "the first %zu messages were left out: the context holds %zu tokens",
                                     p->n_dropped, room)
               : too_long(r, p, room);
}

/* Puts the tokens of earlier turns before the prompt's; what begins a text is not repeated in the middle. */
static bool put_before(chat_prompt *p, const chat_model *m, chat_request *r)
{
    uint32_t n_vocab = mlxr_model_info_get(m->model)->n_vocab;
    for (size_t i = 0; i < r->n_before; i++) {
        if (r->before[i] < 0 || (uint32_t)r->before[i] >= n_vocab) {
            return request_fields_bad(&r->f, "context", "context[%zu] is %d; the vocabulary has 0 to %u", i,
                                      r->before[i], n_vocab - 1);
        }
    }
    bool again = p->n_ids && p->ids[0] == r->before[0] && mlxr_token_is_special(m->model, p->ids[0]);
    size_t n = p->n_ids - again;
    int32_t *all = malloc((r->n_before + n + 1) * sizeof *all);
    if (!all) {
        return no_memory(r);
    }
    memcpy(all, r->before, r->n_before * sizeof *all);
    memcpy(all + r->n_before, p->ids + again, n * sizeof *all);
    free(p->ids);
    p->ids = all;
    p->n_ids = r->n_before + n;
    mlxr_free(p->text); /* it is no longer all that the tokens say */
    p->text = NULL;
    return true;
}

static bool check_tokens(const chat_model *m, chat_request *r, const char *field, const int32_t *ids, size_t n)
{
    uint32_t n_vocab = mlxr_model_info_get(m->model)->n_vocab;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab) {
            return request_fields_bad(&r->f, field, "token %d; the vocabulary has 0 to %u", ids[i], n_vocab - 1);
        }
    }
    return true;
}

/* The request came as tokens. */
static bool take_tokens(chat_prompt *p, const chat_model *m, chat_request *r)
{
    p->ids = r->tokens;
    p->n_ids = r->n_tokens;
    r->tokens = NULL;
    return check_tokens(m, r, r->messages ? "messages" : "prompt", p->ids, p->n_ids);
}

/* The answer so far, which goes on. What the text says is no longer all of it, nor need it be what the tokens were made
 * of (a template may tell the date), so it is not kept. */
static bool add_answer(chat_prompt *p, const chat_model *m, chat_request *r, size_t room)
{
    if (p->n_ids + r->n_answer >= room) {
        request_fields_bad(&r->f, "messages",
                           "the answer cannot go on: prompt and answer have %zu tokens, the context holds %zu",
                           p->n_ids + r->n_answer, room);
        r->f.error.status = MLXR_LIMIT;
        return false;
    }
    int32_t *grown = realloc(p->ids, (p->n_ids + r->n_answer) * sizeof *grown);
    if (!grown) {
        return no_memory(r);
    }
    memcpy(grown + p->n_ids, r->answer, r->n_answer * sizeof *grown);
    p->ids = grown;
    p->n_ids += r->n_answer;
    mlxr_free(p->text);
    p->text = NULL;
    p->n_text = 0;
    return check_tokens(m, r, "messages", r->answer, r->n_answer);
}

bool chat_prompt_make(chat_prompt *p, const chat_model *m, chat_request *r)
{
    size_t room = room_of(m->model, r);
    *p = (chat_prompt){0};
    if ((r->messages || !r->tokens) && !make_text(p, m, r, true)) {
        return false;
    }
    if (r->tokens ? !take_tokens(p, m, r) : !make_tokens(p, m, r)) {
        return false;
    }
    if (r->n_before && !put_before(p, m, r)) {
        return false;
    }
    if (p->n_ids == 0) {
        return request_fields_bad(&r->f, r->messages ? "messages" : "prompt", "the prompt is empty");
    }
    if (p->n_ids >= room && !r->any_length) {
        return r->truncate == TRUNCATE_OLDEST && !r->n_answer ? truncate(p, m, r, room) : too_long(r, p, room);
    }
    return r->n_answer == 0 || add_answer(p, m, r, room);
}

/* ---- remembering ------------------------------------------------------------------------------------------------- */

/* As many control tokens in a text as were sampled? Else it spells one, and the text alone would not tell them apart.
 */
static bool spells_its_tokens(const chat_model *m, const char *text, size_t n, const int32_t *ids, size_t n_ids)
{
    char *marked = NULL;
    size_t n_marked = 0, n_special = 0, n_spelled = 0, n_behind = 0;
    if (mlxr_chat_mark(m->model, text, n, &marked, &n_marked, NULL) != MLXR_OK) {
        return false;
    }
    for (size_t i = 0; i < n_ids; i++) {
        mlxr_token_text(m->model, ids[i], &n_behind);
        n_special += mlxr_token_is_special(m->model, ids[i]) && n_behind > 0;
    }
    for (size_t i = 0; i < n_marked; i++) { /* two for each, or one at the end where that is all */
        n_spelled += (unsigned char)marked[i] == 0xff;
    }
    mlxr_free(marked);
    return n_spelled <= 2 * n_special;
}

/* prompt + sampled, as text and tokens. */
static void remember_plain(const chat_prompt *p, const chat_model *m, const int32_t *all, size_t n_sampled)
{
    char *answer = NULL;
    size_t n_answer = 0;
    if (mlxr_detokenize(m->model, all + p->n_ids, n_sampled, true, &answer, &n_answer, NULL) != MLXR_OK) {
        return;
    }
    bool plain = spells_its_tokens(m, answer, n_answer, all + p->n_ids, n_sampled);
    char *text = plain ? malloc(p->n_text + n_answer + 1) : NULL;
    if (text) {
        memcpy(text, p->text, p->n_text);
        memcpy(text + p->n_text, answer, n_answer);
        token_store_add(m->store, m->key, text, p->n_text + n_answer, all, p->n_ids + n_sampled);
    }
    free(text);
    mlxr_free(answer);
}

/* Where the last `mark` that the template wrote ends in text; NULL: there is none. One that somebody spelled has a byte
 * inside that is none of it. */
static const char *behind_last(const char *text, const char *mark, size_t n_mark)
{
    const char *found = NULL;
    for (const char *at = text; n_mark && (at = strstr(at, mark)); at += n_mark) {
        found = at + n_mark;
    }
    return found;
}

/* The conversation with the answer in it, as the template writes it, made of the tokens that were sampled, the token
 * that ended them, and what the template puts behind that. */
static void remember_rendered(const chat_prompt *p, const chat_model *m, const chat_request *r, const int32_t *all,
                              size_t n_sampled, json_t *answer)
{
    chat_request copy = {.messages = json_copy(r->messages), /* shallow: chat_text copies it deeply */
                         .tools = r->tools,
                         .think = r->think,
                         .effort = r->effort,
                         .variables = r->variables,
                         .keep_volatile = r->keep_volatile};
    chat_prompt with = {0};
    int32_t end = n_sampled ? all[p->n_ids + n_sampled - 1] : -1;
    json_t *messages = NULL, *variables = variables_of(&copy, m->format);
    if (copy.messages && json_array_append(copy.messages, answer) == 0) {
        messages = adapt(m, &copy, false);
    }
    if (messages && variables && mlxr_token_is_end(m->model, end) &&
        render(&with, m, &copy, messages, variables, false) && with.n_text > p->n_text &&
        memcmp(with.text, p->text, p->n_text) == 0) {
        size_t n_mark = 0;
        const char *piece = mlxr_token_text(m->model, end, &n_mark);
        char *mark = piece ? strndup(piece, n_mark) : NULL;
        const char *tail = mark ? behind_last(with.text + p->n_text, mark, n_mark) : NULL;
        chat_prompt made = {.ids = malloc((p->n_ids + n_sampled) * sizeof *all)};
        if (tail && made.ids) {
            memcpy(made.ids, all, (p->n_ids + n_sampled - 1) * sizeof *all);
            made.n_ids = p->n_ids + n_sampled - 1;
            bool ok = tokenize(&made, m->model, mark, n_mark, MARKED, NULL) &&
                      tokenize(&made, m->model, tail, strlen(tail), MARKED, NULL);
            if (ok) {
                token_store_add(m->store, m->key, with.text, with.n_text, made.ids, made.n_ids);
            }
        }
        free(mark);
        free(made.ids);
    }
    chat_prompt_close(&with);
    json_decref(messages);
    json_decref(variables);
    json_decref(copy.messages);
    copy.messages = NULL;
    json_decref(copy.f.warnings);
}

void chat_prompt_remember(const chat_prompt *p, const chat_model *m, const chat_request *r, const int32_t *sampled,
                          size_t n_sampled, json_t *answer)
{
    int32_t *all = p->text && m->store ? malloc((p->n_ids + n_sampled + 1) * sizeof *all) : NULL;
    if (!all) {
        return;
    }
    memcpy(all, p->ids, p->n_ids * sizeof *all);
    memcpy(all + p->n_ids, sampled, n_sampled * sizeof *all);
    if (!p->forced) {
        remember_plain(p, m, all, n_sampled);
    }
    if (r->messages && answer && !r->continues) {
        remember_rendered(p, m, r, all, n_sampled, answer);
    }
    free(all);
}
