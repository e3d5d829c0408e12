/*
 * Chat templates against what Jinja2 made of them (tests/unit/text/templates, frozen by
 * tools/oracle/template_compare.py), and the promises of chat_template.h. Owner: the test program. Lifetime: the
 * process.
 */
#include <pthread.h>

#include "support/test.h"
#include "text/chat_template.h"

#define FOLDER "tests/unit/text/templates/"

static json_t *load(const char *name)
{
    char path[256];
    json_error_t problem;
    snprintf(path, sizeof path, FOLDER "%s", name);
    json_t *json = json_load_file(path, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, &problem);
    if (!json) {
        fail_msg("%s:%d: %s", path, problem.line, problem.text);
    }
    return json;
}

static char *read_text(const char *name, size_t *n)
{
    char path[256];
    snprintf(path, sizeof path, FOLDER "%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = malloc(1 << 20);
    assert_non_null(text);
    *n = fread(text, 1, 1 << 20, file);
    fclose(file);
    return text;
}

/* Renders at once; the buffer is empty after a failure. */
static mlxr_status render(const char *source, size_t n, const json_t *variables, const chat_limits *limits, buffer *out,
                          mlxr_error *error)
{
    chat_template *t = NULL;
    mlxr_status status = chat_template_open(&t, source, n, error);
    if (status == MLXR_OK) {
        status = chat_template_render(t, variables, limits, out, error);
        chat_template_close(&t);
    }
    assert_null(t);
    return status;
}

static void expect(const char *source, const json_t *variables, const char *wanted)
{
    mlxr_error error = {0};
    buffer out = buffer_make(1 << 20);
    assert_ok(render(source, strlen(source), variables, NULL, &out, &error), &error);
    assert_string_equal(out.data ? out.data : "", wanted);
    buffer_close(&out);
}

static void expect_error(const char *source, mlxr_status status, const char *part)
{
    mlxr_error error = {0};
    buffer out = buffer_make(1 << 20);
    assert_true(buffer_append_text(&out, "before"));
    mlxr_status got = render(source, strlen(source), NULL, NULL, &out, &error);
    if (got != status || error.status != status || !strstr(error.text, part)) {
        fail_msg("%s: status %d, \"%s\"; wanted %d, \"…%s…\"", source, (int)got, error.text, (int)status, part);
    }
    assert_string_equal(out.data, "before");
    assert_false(out.failed);
    buffer_close(&out);
}

/* ---- against Jinja2 ---------------------------------------------------------------------------------------------- */

static void compare(const char *what, mlxr_status status, const buffer *out, const mlxr_error *error,
                    const json_t *text)
{
    if (!text) {
        if (status == MLXR_OK) {
            fail_msg("%s: Jinja2 fails, we print: %s", what, out->data);
        }
        return;
    }
    if (status != MLXR_OK) {
        fail_msg("%s: %s", what, error->text);
    }
    if (out->n != json_string_length(text) || memcmp(out->data, json_string_value(text), out->n) != 0) {
        fail_msg("%s\n--- Jinja2:\n%s\n--- we:\n%s", what, json_string_value(text), out->data);
    }
}

static void expressions_mean_what_they_mean_to_jinja2(void **state)
{
    (void)state;
    json_t *all = load("cases.json"), *row;
    const json_t *cases = json_object_get(all, "cases"), *variables = json_object_get(all, "variables");
    size_t i;
    assert_true(json_array_size(cases) > 400);
    json_array_foreach((json_t *)cases, i, row)
    {
        const json_t *source = json_object_get(row, "template");
        mlxr_error error = {0};
        buffer out = buffer_make(1 << 20);
        assert_true(buffer_append(&out, "", 0));
        mlxr_status status = render(json_string_value(source), json_string_length(source), variables, NULL, &out,
                                    &error);
        compare(json_string_value(source), status, &out, &error, json_object_get(row, "text"));
        buffer_close(&out);
    }
    json_decref(all);
}

/* The variables of a setting such as "user/gen=0/tools=tools/think=None", as a caller of mlxr_chat_render has them. */
static json_t *variables_of(const json_t *conversations, const char *name)
{
    const char *slash = strchr(name, '/');
    assert_non_null(slash);
    json_t *v = json_pack("{ss ss ss ss}", "bos_token", "<s>", "eos_token", "</s>", "pad_token", "<pad>", "unk_token",
                          "<unk>");
    assert_non_null(v);
    const json_t *messages = json_object_getn(json_object_get(conversations, "conversations"), name,
                                              (size_t)(slash - name));
    assert_non_null(messages);
    json_object_set(v, "messages", (json_t *)messages);
    json_object_set_new(v, "add_generation_prompt", json_boolean(strstr(name, "gen=1") != NULL));
    if (strstr(name, "tools=tools")) {
        json_object_set(v, "tools", json_object_get(conversations, "tools"));
    }
    if (!strstr(name, "think=None")) {
        json_object_set_new(v, "enable_thinking", json_boolean(strstr(name, "think=True") != NULL));
    }
    return v;
}

static void check_family(const char *family)
{
    char name[64], what[128];
    size_t n;
    snprintf(name, sizeof name, "%s.jinja", family);
    char *source = read_text(name, &n);
    snprintf(name, sizeof name, "%s.json", family);
    json_t *frozen = load(name), *conversations = load("conversations.json"), *row;
    const char *setting;
    chat_limits limits = {.now = json_integer_value(json_object_get(conversations, "now"))};
    mlxr_error error = {0};
    chat_template *t = NULL;
    assert_ok(chat_template_open(&t, source, n, &error), &error);
    json_object_foreach(json_object_get(frozen, "renderings"), setting, row)
    {
        json_t *variables = variables_of(conversations, setting);
        buffer out = buffer_make(1 << 20);
        assert_true(buffer_append(&out, "", 0));
        assert_ok(chat_variables_complete(variables, &error), &error);
        mlxr_status status = chat_template_render(t, variables, &limits, &out, &error);
        json_int_t which = json_integer_value(row);
        snprintf(what, sizeof what, "%s, %s", family, setting);
        compare(what, status, &out, &error,
                which < 0 ? NULL : json_array_get(json_object_get(frozen, "texts"), (size_t)which));
        buffer_close(&out);
        json_decref(variables);
    }
    chat_template_close(&t);
    json_decref(frozen);
    json_decref(conversations);
    free(source);
}

static void families_render_as_apply_chat_template_renders_them(void **state)
{
    (void)state;
    static const char *const families[] = {"chatml", "llama3", "mistral", "qwen2_5", "qwen3", "gemma3", "everything"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        check_family(families[i]);
    }
}

static void completed_variables_are_those_of_apply_chat_template(void **state)
{
    (void)state;
    static const struct {
        const char *given, *wanted; /* wanted as Python prints it */
    } rows[] = {
        {"{}", "[] None None"},
        {"{\"tools\": [1], \"documents\": [2]}", "[] [1] [2]"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": null, \"parts\": [null]}]}",
         "[{'role': 'user', 'parts': [None]}] None None"},
        {"{\"messages\": [{\"reasoning\": \"r\", \"content\": \"c\"}]}",
         "[{'thinking': 'r', 'reasoning': 'r', 'content': 'c', 'reasoning_content': 'r'}] None None"},
        {"{\"messages\": [{\"content\": \"c\", \"reasoning_content\": \"\", \"thinking\": \"t\", \"z\": 1}]}",
         "[{'thinking': 't', 'content': 'c', 'reasoning_content': '', 'z': 1}] None None"},
        {"{\"messages\": [{\"thinking\": \"t\", \"reasoning_content\": null}]}",
         "[{'thinking': 't', 'reasoning_content': 't'}] None None"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mlxr_error error = {0};
        json_t *variables = json_loads(rows[i].given, 0, NULL);
        json_t *before = json_deep_copy(json_object_get(variables, "messages"));
        json_t *messages = json_incref(json_object_get(variables, "messages"));
        assert_ok(chat_variables_complete(variables, &error), &error);
        expect("{{ messages }} {{ tools }} {{ documents }}", variables, rows[i].wanted);
        assert_true(!messages || json_equal(messages, before)); /* what the caller shares stays as it was */
        json_decref(messages);
        json_decref(before);
        json_decref(variables);
    }
}

static void a_message_that_is_no_object_is_refused(void **state)
{
    (void)state;
    mlxr_error error = {0};
    json_t *variables = json_pack("{s[{ss}s]}", "messages", "role", "user", "hello");
    assert_int_equal(chat_variables_complete(variables, &error), MLXR_ARG);
    assert_string_equal(error.text, "message 2 of 2 must be a JSON object with role and content");
    json_decref(variables);
}

/* ---- promises ---------------------------------------------------------------------------------------------------- */

static void syntax_errors_say_line_and_column(void **state)
{
    (void)state;
    expect_error("a\nb {% if %}x{% endif %}", MLXR_FORMAT, "line 2, column 9: expected an expression");
    expect_error("é\n\né {{ 1 + }}", MLXR_FORMAT, "line 3, column 10:");
    expect_error("{% for x in y %}", MLXR_FORMAT, "the template ends inside 'for' of line 1");
    expect_error("{% if a %}\n{% for x in y %}{% endif %}", MLXR_FORMAT,
                 "line 2, column 20: unknown tag 'endif' inside 'for' of line 2");
    expect_error("{% nonsense %}", MLXR_FORMAT, "unknown tag 'nonsense'");
    expect_error("{{ 'abc }}", MLXR_FORMAT, "a string is not closed");
    expect_error("{{ [1) }}", MLXR_FORMAT, "')' where ']' should close");
    expect_error("{{ 1) }}", MLXR_FORMAT, "')' closes nothing");
    expect_error("{{ \x01 }}", MLXR_FORMAT, "the byte 0x01 means nothing here");
    expect_error("{{ a ? b }}", MLXR_FORMAT, "the character '?' means nothing here");
    expect_error("\n{# open", MLXR_FORMAT, "line 2, column 3: a comment is not closed");
    expect_error("{{ 1|nothing }}", MLXR_FORMAT, "there is no filter 'nothing'");
    expect_error("{{ 1 is nothing }}", MLXR_FORMAT, "there is no test 'nothing'");
    expect_error("ab\n\xff", MLXR_FORMAT, "line 2: byte 3 of the template (0xff) is not UTF-8");
    expect_error("{{ 99999999999999999999 }}", MLXR_FORMAT, "does not fit into 64 bits");
    expect_error("{{ '\\ud800' }}", MLXR_FORMAT, "no Unicode character");
    expect_error("{{ '\\U00110000' }}", MLXR_FORMAT, "no Unicode character");
    expect_error("{{ '\\N{DASH}' }}", MLXR_FORMAT, "by name");
}

static void errors_while_rendering_say_the_line(void **state)
{
    (void)state;
    expect_error("a\n{{ x.y }}", MLXR_FORMAT, "line 2: 'x' is undefined");
    expect_error("{{\n1\n+\n'a' }}", MLXR_FORMAT, "line 2: '+' does not work on 'int' and 'str'");
    expect_error("\n\n{{ raise_exception('roles must alternate') }}", MLXR_FORMAT,
                 "line 3: the template refuses: roles must alternate");
    expect_error("{% macro f() %}\n{{ 1 / 0 }}{% endmacro %}\n{{ f() }}", MLXR_FORMAT, "line 2: division by zero");
    expect_error("{{ [].append(1) }}", MLXR_FORMAT, "may not use the attribute 'append'");
    expect_error("{{ {}.x.y }}", MLXR_FORMAT, "there is no attribute or item 'x' here");
    expect_error("{{ ('a' if false).b }}", MLXR_FORMAT, "without 'else' did not hold");
    expect_error("{{ [] | first + 1 }}", MLXR_FORMAT, "the sequence is empty");
    expect_error("{{ raise_exception('bell \\x07 escape \\x1b[2J') }}", MLXR_FORMAT, "bell ? escape ?[2J");
}

static void what_is_not_supported_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const tags[] = {"block", "extends", "include", "import", "from", "autoescape"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        char source[64];
        snprintf(source, sizeof source, "{%% %s x %%}", tags[i]);
        expect_error(source, MLXR_UNSUPPORTED, tags[i]);
    }
    expect_error("{{ 1|pprint }}", MLXR_UNSUPPORTED, "the filter 'pprint' is not supported");
    expect_error("{{ lipsum() }}", MLXR_UNSUPPORTED, "lipsum");
    expect_error("{{ 'a'.encode() }}", MLXR_UNSUPPORTED, "encode");
    expect_error("{% for x in [1] %}{{ loop|list }}{% endfor %}", MLXR_UNSUPPORTED, "loop");
}

static void limits_hold(void **state)
{
    (void)state;
    json_t *variables = json_pack("{s[ss]}", "messages", "a", "b");
    static const struct {
        const char *source;
        chat_limits limits;
        const char *part;
    } rows[] = {
        {"{% for x in range(1000) %}{{ x }}{% endfor %}", {.steps_max = 500}, "500 steps"},
        {"{{ 'x' * 1000 }}", {.output_bytes_max = 999}, "999 bytes"},
        {"{{ ('x' * 100000)|length }}", {.memory_bytes_max = 50000}, "50000 bytes"},
        {"{{ messages }}", {.memory_bytes_max = 100}, "100 bytes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mlxr_error error = {0};
        buffer out = buffer_make(1 << 20);
        mlxr_status status = render(rows[i].source, strlen(rows[i].source), variables, &rows[i].limits, &out, &error);
        if (status != MLXR_LIMIT || !strstr(error.text, rows[i].part)) {
            fail_msg("%s: %d, %s", rows[i].source, (int)status, error.text);
        }
        assert_int_equal(out.n, 0);
        buffer_close(&out);
    }
    json_decref(variables);
}

/* Renders with every limit from 1 up that is too small; the right text comes once it is large enough. */
static void tighten(const chat_template *t, const json_t *variables, bool steps, const json_t *text)
{
    for (uint64_t n = 1;; n++) {
        mlxr_error error = {0};
        buffer out = buffer_make(1 << 20);
        chat_limits limits = {.steps_max = steps ? n : 0, .output_bytes_max = steps ? 0 : n, .now = 1753700000};
        mlxr_status status = chat_template_render(t, variables, &limits, &out, &error);
        if (status != MLXR_LIMIT) {
            assert_true(text ? status == MLXR_OK && out.n == json_string_length(text) : status != MLXR_OK);
            buffer_close(&out);
            return;
        }
        assert_int_equal(out.n, 0);
        assert_true(error.text[0]);
        buffer_close(&out);
        if (n > 3000) { /* a case that ends at another limit */
            return;
        }
    }
}

static void every_expression_stops_cleanly_at_every_limit(void **state)
{
    (void)state;
    json_t *all = load("cases.json"), *row;
    const json_t *variables = json_object_get(all, "variables");
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, row)
    {
        const json_t *source = json_object_get(row, "template");
        chat_template *t = NULL;
        mlxr_error error = {0};
        if (chat_template_open(&t, json_string_value(source), json_string_length(source), &error) == MLXR_OK) {
            tighten(t, variables, true, json_object_get(row, "text"));
            tighten(t, variables, false, json_object_get(row, "text"));
            chat_template_close(&t);
        }
    }
    json_decref(all);
}

static void output_that_does_not_fit_the_buffer_changes_nothing(void **state)
{
    (void)state;
    mlxr_error error = {0};
    buffer out = buffer_make(10);
    assert_true(buffer_append_text(&out, "12345"));
    assert_int_equal(render("abcdef", 6, NULL, NULL, &out, &error), MLXR_LIMIT);
    assert_non_null(strstr(error.text, "6 bytes"));
    assert_string_equal(out.data, "12345");
    assert_ok(render("abcde", 5, NULL, NULL, &out, &error), &error);
    assert_string_equal(out.data, "12345abcde");
    assert_false(buffer_append_text(&out, "x")); /* one that failed before takes nothing more */
    assert_int_equal(render("", 0, NULL, NULL, &out, &error), MLXR_LIMIT);
    assert_true(out.failed);
    assert_string_equal(out.data, "12345abcde");
    buffer_close(&out);
}

static void variables_must_be_an_object(void **state)
{
    (void)state;
    mlxr_error error = {0};
    buffer out = buffer_make(100);
    json_t *list = json_array();
    assert_int_equal(render("x", 1, list, NULL, &out, &error), MLXR_ARG);
    assert_int_equal(render("x", 1, list, NULL, &out, NULL), MLXR_ARG);
    json_decref(list);
    buffer_close(&out);
}

static void variables_hide_functions_and_keep_their_types(void **state)
{
    (void)state;
    json_t *v = json_pack("{si sf sb sn ss s[i] s{ss}}", "range", 5, "f", 2.0, "t", 1, "n", "s", "é", "l", 1, "d", "k",
                          "v");
    expect("{{ range }} {{ f }} {{ t }} {{ n }} {{ s }} {{ l }} {{ d }} {{ missing }}{{ namespace is callable }}", v,
           "5 2.0 True None é [1] {'k': 'v'} True");
    json_object_set_new(v, "s", json_stringn("a\0b", 3));
    mlxr_error error = {0};
    buffer out = buffer_make(100);
    assert_ok(render("{{ s }}{{ s|length }}{{ [s] }}", 30, v, NULL, &out, &error), &error);
    assert_int_equal(out.n, 14);
    assert_memory_equal(out.data, "a\0b3['a\\x00b']", 14);
    buffer_close(&out);
    json_decref(v);
}

static void variables_nested_too_deep_are_refused(void **state)
{
    (void)state;
    json_t *v = json_object(), *inner = json_array();
    for (int i = 0; i < 300; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, inner);
        inner = outer;
    }
    json_object_set_new(v, "x", inner);
    mlxr_error error = {0};
    buffer out = buffer_make(100);
    assert_int_equal(render("{{ x }}", 7, v, NULL, &out, &error), MLXR_LIMIT);
    assert_ok(render("{{ y }}", 7, v, NULL, &out, &error), &error); /* what a template does not name costs nothing */
    buffer_close(&out);
    json_decref(v);
}

static void invalid_utf8_in_variables_passes_through(void **state)
{
    (void)state;
    json_t *v = json_object();
    json_object_set_new(v, "s", json_stringn_nocheck("a\xff\xe9\xe6\xbc", 5));
    mlxr_error error = {0};
    buffer out = buffer_make(100);
    const char *source = "{{ s|length }}{{ s[1] }}{{ s[::-1] }}{{ s.upper() }}{{ s|list|length }}{{ s.strip() }}";
    assert_ok(render(source, strlen(source), v, NULL, &out, &error), &error);
    assert_memory_equal(out.data,
                        "5\xff\xbc\xe6\xe9\xff"
                        "aA\xff\xe9\xe6\xbc"
                        "5a\xff\xe9\xe6\xbc",
                        out.n);
    assert_int_equal(out.n, 18);
    buffer_close(&out);
    json_decref(v);
}

static void strftime_now_sees_the_time_of_the_call(void **state)
{
    (void)state;
    mlxr_error error = {0};
    buffer out = buffer_make(1000);
    setenv("TZ", "UTC", 1);
    tzset();
    chat_limits limits = {.now = 1753700000};
    const char *source = "{{ strftime_now('%d %b %Y %H:%M:%S %f%z%Z %-d %-m %% %A %j') }}";
    assert_ok(render(source, strlen(source), NULL, &limits, &out, &error), &error);
    assert_string_equal(out.data, "28 Jul 2025 10:53:20 000000 28 7 % Monday 209");
    buffer_clear(&out);
    limits.now = INT64_MAX;
    assert_int_equal(render(source, strlen(source), NULL, &limits, &out, &error), MLXR_FORMAT);
    expect_error("{{ strftime_now('%Q') }}", MLXR_FORMAT, "%Q");
    expect_error("{{ strftime_now('%-') }}", MLXR_FORMAT, "%-");
    expect_error("{{ strftime_now(5) }}", MLXR_FORMAT, "must be a string");
    expect("{{ strftime_now('a%') }}", NULL, "a%");
    buffer_close(&out);
}

static void a_template_renders_the_same_again_and_again(void **state)
{
    (void)state;
    const char
        *source = "{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns }}";
    mlxr_error error = {0};
    chat_template *t = NULL;
    buffer out = buffer_make(1000);
    assert_ok(chat_template_open(&t, source, strlen(source), &error), &error);
    for (int i = 0; i < 3; i++) {
        buffer_clear(&out);
        assert_ok(chat_template_render(t, NULL, NULL, &out, &error), &error);
        assert_string_equal(out.data, "<Namespace {'n': 3}>");
    }
    chat_template_close(&t);
    assert_null(t);
    chat_template_close(&t);
    buffer_close(&out);
}

static void *render_many(void *argument)
{
    const chat_template *t = argument;
    json_t *v = json_pack("{s[{ssss}]}", "messages", "role", "user", "content", "häßlich");
    intptr_t bad = 0;
    for (int i = 0; i < 50; i++) {
        mlxr_error error = {0};
        buffer out = buffer_make(1000);
        bad += chat_template_render(t, v, NULL, &out, &error) != MLXR_OK || strcmp(out.data, "USER: HÄSSLICH 7 Ä") != 0;
        buffer_close(&out);
    }
    json_decref(v);
    return (void *)bad;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    const char *source = "{% for m in messages %}{{ m.role|upper }}: {{ m.content.upper() }} "
                         "{{ m['content']|length }} {{ 'Ä' if 'ß' in m.content }}{% endfor %}";
    mlxr_error error = {0};
    chat_template *t = NULL;
    pthread_t threads[4];
    assert_ok(chat_template_open(&t, source, strlen(source), &error), &error);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, render_many, t), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        assert_int_equal((intptr_t)bad, 0);
    }
    chat_template_close(&t);
}

static void long_texts_grow_without_copying_themselves_over_and_over(void **state)
{
    (void)state;
    /* 20,000 appends to one string and one list: quadratic copying would need 100 MB and more. */
    const char *source = "{% set ns = namespace(s='', l=[]) %}{% for i in range(20000) %}"
                         "{% set ns.s = ns.s + 'ten chars.' %}{% set ns.l = ns.l + [i] %}{% endfor %}"
                         "{{ ns.s|length }} {{ ns.l|length }} {{ ns.s[-10:] }} {{ ns.l[-1] }}";
    mlxr_error error = {0};
    buffer out = buffer_make(1000);
    chat_limits limits = {.memory_bytes_max = 32 << 20};
    assert_ok(render(source, strlen(source), NULL, &limits, &out, &error), &error);
    assert_string_equal(out.data, "200000 20000 ten chars. 19999");
    buffer_close(&out);
    /* Two continuations of one text must not write over each other. */
    expect("{% set a = 'x' + 'y' %}{% set b = a + '1' %}{% set c = a + '2' %}{{ a }}{{ b }}{{ c }}", NULL, "xyxy1xy2");
    expect("{% set a = [1] + [2] %}{% set b = a + [3] %}{% set c = a + [4] %}{{ a }}{{ b }}{{ c }}", NULL,
           "[1, 2][1, 2, 3][1, 2, 4]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_mean_what_they_mean_to_jinja2),
        cmocka_unit_test(families_render_as_apply_chat_template_renders_them),
        cmocka_unit_test(completed_variables_are_those_of_apply_chat_template),
        cmocka_unit_test(a_message_that_is_no_object_is_refused),
        cmocka_unit_test(syntax_errors_say_line_and_column),
        cmocka_unit_test(errors_while_rendering_say_the_line),
        cmocka_unit_test(what_is_not_supported_is_refused_by_name),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(every_expression_stops_cleanly_at_every_limit),
        cmocka_unit_test(output_that_does_not_fit_the_buffer_changes_nothing),
        cmocka_unit_test(variables_must_be_an_object),
        cmocka_unit_test(variables_hide_functions_and_keep_their_types),
        cmocka_unit_test(variables_nested_too_deep_are_refused),
        cmocka_unit_test(invalid_utf8_in_variables_passes_through),
        cmocka_unit_test(strftime_now_sees_the_time_of_the_call),
        cmocka_unit_test(a_template_renders_the_same_again_and_again),
        cmocka_unit_test(threads_share_a_template),
        cmocka_unit_test(long_texts_grow_without_copying_themselves_over_and_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
