/*
 * The output parser: what models of each family write, cut in every way.
 * Owner: each test. Lifetime: the test.
 */
#include "server/output_parser.h"

#include "server/tool_call_text.h"
#include "support/test.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\",\"properties\":"
    "{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\",\"parameters\":{\"type\":\"object\"}}}]";

/* What came, as one text: T<…> R<…> C<name|arguments> W, neighbours of a kind joined. */
typedef struct record {
    char text[4096];
    size_t n;
    output_kind last;
    bool open;
} record;

static void put(record *r, const char *text, size_t n)
{
    assert_true(r->n + n + 2 < sizeof r->text);
    memcpy(r->text + r->n, text, n);
    r->n += n;
    r->text[r->n] = 0;
}

static void end_run(record *r)
{
    if (r->open) {
        put(r, ">", 1);
        r->open = false;
    }
}

static void on_output(void *user, output_kind kind, const char *bytes, size_t n)
{
    record *r = user;
    if (kind == OUTPUT_TEXT || kind == OUTPUT_REASONING) {
        if (!r->open || r->last != kind) {
            end_run(r);
            put(r, kind == OUTPUT_TEXT ? "T<" : "R<", 2);
            r->open = true;
        }
        put(r, bytes, n);
    } else {
        end_run(r);
        switch (kind) {
        case OUTPUT_TOOL_BEGIN:
            put(r, "C<", 2);
            put(r, bytes, n);
            break;
        case OUTPUT_TOOL_ARGS:
            put(r, "|", 1);
            put(r, bytes, n);
            break;
        case OUTPUT_TOOL_END:
            put(r, ">", 1);
            break;
        default:
            put(r, "W", 1);
        }
    }
    r->last = kind;
}

typedef struct sample {
    const char *label;
    tool_style style;
    bool tools, thinks, opened, single, forced;
    const char *written, *expected;
} sample;

static const sample samples[] = {
    {"plain text", TOOLS_HERMES, true, true, false, false, false, "Hello, <b>you</b>.\n", "T<Hello, <b>you</b>.\n>"},
    {"nothing at all", TOOLS_HERMES, true, true, false, false, false, "", ""},
    {"only blanks", TOOLS_HERMES, true, false, false, false, false, " \n", "T< \n>"},
    {"reasoning, then text", TOOLS_HERMES, true, true, false, false, false,
     "<think>\nIt is\n\nclear.\n</think>\n\nYes, it is.", "R<It is\n\nclear.>T<Yes, it is.>"},
    {"blanks before reasoning", TOOLS_HERMES, false, true, false, false, false, "\n<think>a</think>b", "R<a>T<b>"},
    {"reasoning that the prompt opened", TOOLS_HERMES, false, true, true, false, false, "\nHm.\n</think>\n\nSo.",
     "R<Hm.>T<So.>"},
    {"reasoning that never ends", TOOLS_HERMES, false, true, true, false, false, "Hm, ", "R<Hm,>"},
    {"empty reasoning", TOOLS_HERMES, false, true, false, false, false, "<think>\n\n</think>\n\nSo.", "T<So.>"},
    {"the end of reasoning without a beginning is text", TOOLS_HERMES, false, true, false, false, false, "a</think>b",
     "T<a</think>b>"},
    {"almost a marker", TOOLS_HERMES, true, true, false, false, false, "a <tool_cal <thin <tool_call <",
     "T<a <tool_cal <thin <tool_call <>"},
    {"a call", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>",
     "C<weather|{\"city\": \"Bonn\"}>"},
    {"text, then two calls", TOOLS_HERMES, true, false, false, false, false,
     "I look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>\n"
     "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>",
     "T<I look.>C<weather|{\"city\": \"Bonn\"}>C<now|{}>"},
    {"text behind a call", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>\nThere.", "C<now|{}>T<There.>"},
    {"only the first call is wanted", TOOLS_HERMES, true, false, false, true, false,
     "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"weather\",\"arguments\":{}}"
     "</tool_call>",
     "C<now|{}>W"},
    {"a call that is not closed", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}", "C<now|{}>"},
    {"a call that is cut", TOOLS_HERMES, true, false, false, false, false,
     "Hm <tool_call>\n{\"name\": \"now\", \"argum", "T<Hm <tool_call>\n{\"name\": \"now\", \"argum>W"},
    {"a call that is no JSON", TOOLS_HERMES, true, false, false, false, false, "<tool_call>{now}</tool_call> ok",
     "T<<tool_call>{now}</tool_call>>WT< ok>"},
    {"an empty call", TOOLS_HERMES, true, false, false, false, false, "<tool_call></tool_call>",
     "T<<tool_call></tool_call>>W"},
    {"a call of something else", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>{\"name\":\"fly\",\"arguments\":{}}</tool_call>", "WC<fly|{}>"},
    {"braces and quotes in arguments", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>{\"arguments\": {\"city\": \"}\\\"{<\", \"x\": [1, {\"y\": 2.50}]}, \"name\": "
     "\"weather\"}</tool_call>",
     "C<weather|{\"city\": \"}\\\"{<\", \"x\": [1, {\"y\": 2.50}]}>"},
    {"arguments as a text", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>{\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Bonn\\\"}\"}</tool_call>",
     "C<weather|{\"city\":\"Bonn\"}>"},
    {"without tools a call is text", TOOLS_HERMES, false, false, false, false, false,
     "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>",
     "T<<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>>"},
    {"reasoning, then a call", TOOLS_HERMES, true, true, false, false, false,
     "<think>\nI must look.\n</think>\n\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
     "R<I must look.>C<now|{}>"},
    {"Qwen Coder's tags", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>\n<function=weather>\n<parameter=city>\n42\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
     "</function>\n</tool_call>",
     "C<weather|{\"city\":\"42\",\"days\":3}>"},
    {"GLM's tags", TOOLS_HERMES, true, false, false, false, false,
     "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n"
     "<arg_value>3</arg_value>\n</tool_call>",
     "C<weather|{\"city\":\"Bonn\",\"days\":3}>"},
    {"Llama 3's bare object", TOOLS_LLAMA3, true, false, false, false, false,
     "{\"name\": \"weather\", \"parameters\": {\"city\": \"Bonn\"}}", "C<weather|{\"city\": \"Bonn\"}>"},
    {"Llama 3's bare objects", TOOLS_LLAMA3, true, false, false, false, false,
     "\n{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}; {\"name\": \"weather\", \"parameters\": {}}",
     "C<now|{}>C<weather|{}>"},
    {"behind the tag", TOOLS_LLAMA3, true, false, false, false, false,
     "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}", "C<now|{}>"},
    {"other JSON is an answer", TOOLS_LLAMA3, true, false, false, false, false, "{\"a\": {\"name\": 1}}",
     "T<{\"a\": {\"name\": 1}}>"},
    {"an answer that begins like a call", TOOLS_LLAMA3, true, false, false, false, false, "{\"name\": \"Bob\"",
     "T<{\"name\": \"Bob\">W"},
    {"Python behind the tag", TOOLS_LLAMA3, true, false, false, false, false, "<|python_tag|>print(1)",
     "T<<|python_tag|>print(1)>W"},
    {"Llama 3's text", TOOLS_LLAMA3, true, false, false, false, false, " Hi {\"name\": 1}", "T< Hi {\"name\": 1}>"},
    {"Mistral's list", TOOLS_MISTRAL, true, false, false, false, false,
     "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Bonn\"}}, {\"name\": \"now\", \"arguments\": "
     "{}}]",
     "C<weather|{\"city\": \"Bonn\"}>C<now|{}>"},
    {"Mistral's newer form", TOOLS_MISTRAL, true, false, false, false, false,
     "Ok.[TOOL_CALLS]weather[ARGS]{\"city\": \"Bonn\"}[TOOL_CALLS]now[CALL_ID]abc[ARGS]{}",
     "T<Ok.>C<weather|{\"city\": \"Bonn\"}>C<now|{}>"},
    {"Mistral's reasoning", TOOLS_MISTRAL, true, true, false, false, false, "[THINK]Hm.[/THINK]Yes.", "R<Hm.>T<Yes.>"},
    {"Mistral without a call", TOOLS_MISTRAL, true, false, false, false, false, "[TOOL_CALLS]nothing",
     "T<[TOOL_CALLS]nothing>W"},
    {"Gemma's call", TOOLS_GEMMA, true, false, false, false, false,
     "<start_function_call>call:weather{city:<escape>Bonn, <b><escape>,days:3,deep:{a:[1,true]}}<end_function_call>",
     "C<weather|{\"city\":\"Bonn, <b>\",\"days\":3,\"deep\":{\"a\":[1,true]}}>"},
    {"Gemma's Python", TOOLS_GEMMA, true, false, false, false, false,
     "Well.\n```tool_code\nprint(weather(city=\"Bonn\", days=3))\nnow()\n```",
     "T<Well.>C<weather|{\"city\":\"Bonn\",\"days\":3}>C<now|{}>"},
    {"other code of Gemma", TOOLS_GEMMA, true, false, false, false, false, "```python\nnow()\n```\n",
     "T<```python\nnow()\n```\n>"},
    {"code of Gemma that is no call", TOOLS_GEMMA, true, false, false, false, false, "```tool_code\nx = 1\n```",
     "T<```tool_code\nx = 1\n```>W"},
    {"DeepSeek's call", TOOLS_DEEPSEEK, true, true, true, false, false,
     "Hm.</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": "
     "\"Bonn\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
     "｜tool▁calls▁end｜>",
     "R<Hm.>C<weather|{\"city\": \"Bonn\"}>C<now|{}>"},
    {"gpt-oss: all channels", TOOLS_HARMONY, true, true, false, false, false,
     "<|channel|>analysis<|message|>I must look.<|end|><|start|>assistant<|channel|>commentary<|message|>I look. "
     "<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\":"
     "\"Bonn\"}<|call|>",
     "R<I must look.>T<I look. >C<weather|{\"city\":\"Bonn\"}>"},
    {"gpt-oss: an answer", TOOLS_HARMONY, true, true, false, false, false, "<|channel|>final<|message|>Yes\n<|return|>",
     "T<Yes\n>"},
    {"gpt-oss: the recipient first", TOOLS_HARMONY, true, true, false, false, false,
     " to=functions.now<|channel|>commentary json<|message|>{}", "C<now|{}>"},
    {"gpt-oss: no channels at all", TOOLS_HARMONY, true, true, false, false, false, "Just text", "T<Just text>"},
    {"gpt-oss: a call that is cut", TOOLS_HARMONY, true, true, false, false, false,
     "<|channel|>commentary to=functions.now<|message|>{\"a\":", "T<{\"a\":>W"},
    {"forced: one", TOOLS_HERMES, true, true, false, false, true, "{\"name\":\"now\",\"arguments\":{}}", "C<now|{}>"},
    {"forced: a list", TOOLS_MISTRAL, true, true, false, false, true,
     "[{\"name\":\"now\",\"arguments\":{}},{\"name\":\"weather\",\"arguments\":{\"city\":\"<think>\"}}]",
     "C<now|{}>C<weather|{\"city\":\"<think>\"}>"},
    {"forced: several in tags", TOOLS_HERMES, true, true, false, false, true,
     "{\"name\":\"now\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n{\"name\":\"weather\",\"arguments\":{\"city\":"
     "\"</tool_call>\"}}\n</tool_call>",
     "C<now|{}>C<weather|{\"city\":\"</tool_call>\"}>"},
    {"forced: the same again", TOOLS_HERMES, true, true, false, false, true,
     "{\"name\":\"now\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</"
     "tool_call>",
     "C<now|{}>W"},
    {"forced: the second is cut", TOOLS_HERMES, true, true, false, false, true,
     "{\"name\":\"now\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n{\"na", "C<now|{}>T<{\"na>W"},
    {"forced and cut", TOOLS_HERMES, true, true, false, false, true, "{\"name\":\"now\",\"argu",
     "T<{\"name\":\"now\",\"argu>W"},
};
#define N_SAMPLES (sizeof samples / sizeof *samples)

typedef struct run {
    output_format format;
    json_t *tools;
    record seen;
    output_parser *p;
} run;

static void open_run(run *r, const sample *s)
{
    mlxr_error error;
    r->format = output_format_make(s->style, s->thinks);
    r->tools = s->tools ? json_loads(tools_text, 0, NULL) : NULL;
    r->seen = (record){0};
    output_options options = {.format = &r->format,
                              .tools = r->tools,
                              .opened = s->opened,
                              .single_call = s->single,
                              .forced = s->forced,
                              .sink = on_output,
                              .user = &r->seen};
    assert_ok(output_parser_open(&r->p, &options, &error), &error);
}

static void end_run_with(run *r, const sample *s, size_t a, size_t b)
{
    output_parser_finish(r->p);
    end_run(&r->seen);
    if (strcmp(r->seen.text, s->expected) != 0) {
        fail_msg("%s, cut at %zu and %zu:\n  %s\nexpected\n  %s", s->label, a, b, r->seen.text, s->expected);
    }
    output_parser_close(&r->p);
    json_decref(r->tools);
}

static void each_cut_in_three_gives_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        size_t n = strlen(samples[i].written);
        for (size_t a = 0; a <= n; a++) {
            for (size_t b = a; b <= n; b++) {
                run r;
                open_run(&r, &samples[i]);
                output_parser_text(r.p, samples[i].written, a);
                output_parser_text(r.p, samples[i].written + a, b - a);
                output_parser_text(r.p, samples[i].written + b, n - b);
                end_run_with(&r, &samples[i], a, b);
            }
        }
    }
}

static void byte_by_byte_gives_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        run r;
        open_run(&r, &samples[i]);
        for (const char *at = samples[i].written; *at; at++) {
            output_parser_text(r.p, at, 1);
        }
        end_run_with(&r, &samples[i], 0, 0);
    }
}

static void random_cuts_give_the_same(void **state)
{
    (void)state;
    uint64_t random = 20;
    for (size_t round = 0; round < 20000; round++) {
        const sample *s = &samples[round % N_SAMPLES];
        size_t n = strlen(s->written);
        run r;
        open_run(&r, s);
        for (size_t at = 0; at < n;) {
            size_t more = 1 + (size_t)(test_random(&random) % 9);
            more = more < n - at ? more : n - at;
            output_parser_text(r.p, s->written + at, more);
            at += more;
        }
        end_run_with(&r, s, round, 0);
    }
}

/* The marker that begins here. */
static int marker_at(const output_format *f, const char *text)
{
    int found = -1;
    for (size_t i = 0; i < f->n_markers; i++) {
        if (strncmp(text, f->markers[i].text, strlen(f->markers[i].text)) == 0 &&
            (found < 0 || strlen(f->markers[i].text) > strlen(f->markers[found].text))) {
            found = (int)i;
        }
    }
    return found;
}

/* Markers that are tokens of their own, and text between them byte by byte. A forced answer has no markers, and inside
 * a text a marker's letters mean nothing. */
static void markers_that_are_tokens_give_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        if (samples[i].forced || (!samples[i].tools && strstr(samples[i].written, "<tool")) ||
            strstr(samples[i].label, "without a beginning") || strstr(samples[i].label, "other code")) {
            continue;
        }
        run r;
        open_run(&r, &samples[i]);
        for (size_t m = 0; m < r.format.n_markers; m++) {
            r.format.markers[m].id = (int32_t)(1000 + m);
        }
        for (const char *at = samples[i].written; *at;) {
            int marker = marker_at(&r.format, at);
            if (marker >= 0) {
                output_parser_marker(r.p, output_format_marker(&r.format, 1000 + marker));
                at += strlen(r.format.markers[marker].text);
            } else {
                output_parser_text(r.p, at++, 1);
            }
        }
        end_run_with(&r, &samples[i], 0, 0);
    }
}

static void a_marker_that_is_a_token_is_text_when_it_is_spelled(void **state)
{
    (void)state;
    static const sample spelled = {"spelled",
                                   TOOLS_HERMES,
                                   true,
                                   true,
                                   false,
                                   false,
                                   false,
                                   "The mark <tool_call> opens, <think> thinks.",
                                   "T<The mark <tool_call> opens, <think> thinks.>"};
    run r;
    open_run(&r, &spelled);
    for (size_t m = 0; m < r.format.n_markers; m++) {
        r.format.markers[m].id = (int32_t)(1000 + m);
    }
    output_parser_text(r.p, spelled.written, strlen(spelled.written));
    end_run_with(&r, &spelled, 0, 0);
}

static void any_bytes_are_survived(void **state)
{
    (void)state;
    static const char *const pieces[] = {"<tool_call>",
                                         "</tool_call>",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         "\"name\":",
                                         "\"now\"",
                                         "\"arguments\":",
                                         "<think>",
                                         "</think>",
                                         "[TOOL_CALLS]",
                                         "[ARGS]",
                                         "<function=",
                                         "<parameter=a>",
                                         "</parameter>",
                                         "<arg_key>",
                                         "</arg_key>",
                                         "<arg_value>",
                                         "call:",
                                         "now",
                                         "(",
                                         ")",
                                         "```tool_code",
                                         "```",
                                         "<escape>",
                                         "<|channel|>",
                                         "<|message|>",
                                         "to=functions.",
                                         "<|end|>",
                                         "\xff",
                                         "\\",
                                         "\n",
                                         " ",
                                         ",",
                                         ":",
                                         "1e999",
                                         "-",
                                         "'"};
    uint64_t random = 21;
    for (size_t round = 0; round < 30000; round++) {
        sample s = {.style = (tool_style)(round % TOOLS_N_STYLES),
                    .tools = true,
                    .thinks = round & 8,
                    .forced = round % 31 == 0};
        run r;
        open_run(&r, &s);
        for (size_t n = (size_t)(test_random(&random) % 24); n > 0; n--) {
            const char *piece = pieces[test_random(&random) % (sizeof pieces / sizeof *pieces)];
            output_parser_text(r.p, piece, strlen(piece));
        }
        output_parser_finish(r.p);
        output_parser_close(&r.p);
        json_decref(r.tools);
    }
}

static void a_prompt_that_opens_reasoning_is_seen(void **state)
{
    (void)state;
    output_format f = output_format_make(TOOLS_HERMES, true);
    static const char open[] = "<|im_start|>assistant\n<think>\n", closed[] = "assistant\n<think>\n\n</think>\n\n";
    assert_true(output_format_opened(&f, open, strlen(open)));
    assert_false(output_format_opened(&f, closed, strlen(closed)));
    assert_false(output_format_opened(&f, "", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_by_byte_gives_the_same),
        cmocka_unit_test(each_cut_in_three_gives_the_same),
        cmocka_unit_test(random_cuts_give_the_same),
        cmocka_unit_test(markers_that_are_tokens_give_the_same),
        cmocka_unit_test(a_marker_that_is_a_token_is_text_when_it_is_spelled),
        cmocka_unit_test(any_bytes_are_survived),
        cmocka_unit_test(a_prompt_that_opens_reasoning_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
