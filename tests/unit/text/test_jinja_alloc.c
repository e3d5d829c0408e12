/*
 * Every allocation of compiling and rendering a template fails once: the call says so, changes nothing visible and
 * loses no memory (under LeakSanitizer). Owner: the test program. Lifetime: the process.
 */
#include "base/region.h"
#include "jinja_contexts.h"
#include "support/fail_alloc.h"
#include "support/region_malloc.inc"
#include "support/test.h"
#include "text/chat_template.h"
#include "text/json_text.h"

#define FOLDER "tests/unit/text/templates/"

static mlxr_status render(const json_t *source, const json_t *variables, buffer *out, mlxr_error *error)
{
    chat_template *t = NULL;
    chat_limits limits = {.now = 1753700000};
    mlxr_status status = chat_template_open(&t, json_string_value(source), json_string_length(source), error);
    if (status == MLXR_OK) {
        status = chat_template_render(t, variables, &limits, out, error);
        chat_template_close(&t);
    }
    assert_null(t);
    return status;
}

/* Fails allocations 1, 2, 3, … until there is none left to fail. */
static void fail_each(const json_t *source, const json_t *variables)
{
    for (long n = 1;; n++) {
        mlxr_error error = {0};
        buffer out = buffer_make(1 << 20);
        fail_alloc_at(n);
        mlxr_status status = render(source, variables, &out, &error);
        bool failed = fail_alloc_stop();
        if (failed && (status != MLXR_NOMEM || error.status != status || out.n || !strstr(error.text, "memory"))) {
            fail_msg("%.100s: allocation %ld: status %d: %s", json_string_value(source), n, (int)status, error.text);
        }
        buffer_close(&out);
        if (!failed) {
            return;
        }
    }
}

/* The same for rendering alone. */
static void fail_each_rendering(const char *source, const json_t *variables)
{
    chat_template *t = NULL;
    mlxr_error error = {0};
    assert_ok(chat_template_open(&t, source, strlen(source), &error), &error);
    for (long n = 1;; n++) {
        buffer out = buffer_make(1 << 20);
        fail_alloc_at(n);
        mlxr_status status = chat_template_render(t, variables, NULL, &out, &error);
        bool failed = fail_alloc_stop();
        assert_true(!failed || (status == MLXR_NOMEM && error.status == status && out.n == 0));
        buffer_close(&out);
        if (!failed) {
            break;
        }
    }
    chat_template_close(&t);
}

static json_t *load(const char *path)
{
    json_error_t problem;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &problem);
    assert_non_null(json);
    return json;
}

static void expressions_report_each_failing_allocation(void **state)
{
    (void)state;
    json_t *all = load(FOLDER "cases.json"), *row;
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, row)
    {
        /* As it is, or with its names in the inner scope of a loop or of a macro. */
        static const char *const around[][2] = {
            {"", ""}, {"{% for i_ in [1] %}", "{% endfor %}"}, {"{% macro m_() %}", "{% endmacro %}{{ m_() }}"}};
        const json_t *source = json_object_get(row, "template");
        json_t *whole = json_sprintf("%s%s%s", around[i % 3][0], json_string_value(source), around[i % 3][1]);
        fail_each(whole, json_object_get(all, "variables"));
        json_decref(whole);
    }
    json_decref(all);
}

static void every_place_of_an_expression_reports_each_failing_allocation(void **state)
{
    (void)state;
    json_t *variables = json_object();
    for (size_t i = 0; i < JINJA_CONTEXTS; i++) {
        /* New names, so that each of them is declared, bound and looked up in the inner scope. */
        char *inner = jinja_fill(jinja_contexts[i], "new_[a_:b_:c_](d_, *e_)");
        json_t *source = json_sprintf("{%% for i_ in [1] %%}%s{%% endfor %%}", inner);
        fail_each(source, variables);
        json_decref(source);
        free(inner);
        inner = jinja_fill(jinja_contexts[i], "[[1], [2]]");
        source = json_string(inner);
        fail_each(source, variables);
        json_decref(source);
        free(inner);
    }
    json_decref(variables);
}

/* A text that grows finds no room at whichever piece of it crosses the end of its buffer: § stands for more and more
 * characters, so that each piece is the one. */
static void growing_texts_report_each_failing_allocation(void **state)
{
    (void)state;
    static const char *const growing[] = {
        "{{ ['§', {'a': (1,), 'b\"\\'': namespace(x=[1.5, none, true])}, range(1, 9, 2), ('<' | safe), {}.items(),"
        " '\\t\\n\\r\\x01\\u2028\\U000e0001\\'\"\\\\', {'k': 1, 'l': 2}.items(), {'k': 2}.values(), missing] }}",
        "{{ ['§', {'k': 1, 'l': 2}.items()] }}",
        "{% macro m() %}{% endmacro %}{{ ['§', m, 'x'.upper, range, cycler(1), [1]|map('abs'), caller] }}",
        "{% macro m() %}{{ ['§', caller] }}{% endmacro %}{% call m() %}{% endcall %}",
        "{{ {'§': [1, 'é\"\\n\\r\\t\\b\\f\\\\', {}, [], {'b': 1.5, 'a': none, 1: true, none: 2, 2.5: 3, true: 4}]}"
        "|tojson(indent=1) }}",
        "{{ {'§': [1, 'é😀\\x7f', {}, [], 'nan'|float, 'inf'|float, '-inf'|float]}|tojson(ensure_ascii=true) }}",
        "{{ '§%s %r %5d %-5s|%05.1f %x %c %% %.5d %#x%a' % (1, 'a', 2, 'b', 1.5, 255, 67, 3, 4, 'é') }}",
        "{{ ('§%s %r %5d %-5s|' | safe) % ('<', '<', 2, 'b') }}",
        "{{ '§{} {!r:>5} {:05d} {:,} {:.2f}{{}} {:%} {!a} {:c}'.format(1, 'a', 2, 1234, 1.5, 1, 'é', 65) }}",
        "{{ ('§{}{}' | safe).format('<', ('b' | safe)) }}",
        "{{ '§ a b'|title }}{{ '§<&>'|e }}{{ '<§'|e }}{{ '§ b&'|urlencode }}{{ {'a': '§', 'b': 1}|urlencode }}",
        "{{ {'a': '§', 'b': 1}|xmlattr }}{{ '§\\n b'|indent(3, true) }}{{ ['§', 1, 'x']|join(', ') }}",
        "{{ '§'.center(50, 'é') }}{{ '§'.zfill(60) }}{{ '-§'.zfill(70) }}{{ '§ab'.replace('', '-') }}",
        "{{ '§\\tab\\t'.expandtabs() }}{{ '§ß'.upper() }}{{ '§SS'.swapcase() }}{{ ('§' ~ 'b')[::-2] }}",
        "{{ '§é'|capitalize }}{{ '§éΣ'.title() }}{{ '§ΑΣ'.lower() }}{{ ', '.join(['§', 'b', 'c']) }}",
        "{{ 'a§' 'b' '\\x41' '\\\\' '\\q' }}{{ [1]|map('§')|list }}",
        "{{ '{:010,}'.format(12345) ~ '§' ~ 1 ~ none ~ [2] }}{{ strftime_now('§ %d %-d x') }}",
    };
    json_t *variables = json_object();
    for (size_t i = 0; i < sizeof growing / sizeof *growing; i++) {
        char more[72] = "";
        for (int n = 0; n < 70; n++) {
            more[n] = 0;
            char *once = jinja_fill(growing[i], more), *text = once;
            while (strstr(text, "§")) {
                char *next = jinja_fill(text, more);
                free(text);
                text = next;
            }
            fail_each_rendering(text, variables);
            free(text);
            more[n] = 'x';
        }
    }
    json_decref(variables);
}

/* The same where the compiler is what grows a text. */
static void growing_constants_report_each_failing_allocation(void **state)
{
    (void)state;
    static const char *const growing[] = {
        "{{ '§' 'b' 'cd' }}",
        "{{ 'b' '§' }}",
        "{{ 1 is a.§ }}",
        "{{ '§\\x41\\u00e9b' }}",
        "{{ '§\\q\\é\\漢' }}",
        "{{ 1 is §.b.cd }}",
        "{% if 0 %}{{ 1|§.b.cd }}{% endif %}",
        "{{ '§' '' '\\\n' }}",
    };
    json_t *variables = json_object();
    for (size_t i = 0; i < sizeof growing / sizeof *growing; i++) {
        char more[72] = "a";
        for (size_t n = 1; n < 70; n++) {
            char *text = jinja_fill(growing[i], more);
            json_t *source = json_string(text);
            fail_each(source, variables);
            json_decref(source);
            free(text);
            more[n] = 'x';
        }
    }
    json_decref(variables);
}

static void a_template_of_everything_reports_each_failing_allocation(void **state)
{
    (void)state;
    static char source[1 << 16];
    FILE *file = fopen(FOLDER "everything.jinja", "rb");
    assert_non_null(file);
    size_t n = fread(source, 1, sizeof source, file);
    fclose(file);
    json_t *parts = load(FOLDER "conversations.json"), *text = json_stringn(source, n);
    const json_t *messages = json_object_get(json_object_get(parts, "conversations"), "two_calls");
    assert_non_null(messages);
    json_t *variables = json_object();
    json_object_set(variables, "messages", (json_t *)messages);
    json_object_set(variables, "tools", json_object_get(parts, "tools"));
    fail_each(text, variables);
    json_decref(variables);
    json_decref(parts);
    json_decref(text);
}

static void completing_variables_reports_each_failing_allocation(void **state)
{
    (void)state;
    json_set_alloc_funcs(malloc, free); /* this program's malloc, so that it can be made to fail */
    static const char *const sources[] = {
        "{\"messages\": [{\"role\": \"assistant\", \"reasoning\": \"why\", \"content\": null}, {\"role\": \"user\"}]}",
        "{\"tools\": []}",
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        bool failed = true;
        for (long n = 1; failed; n++) {
            mlxr_error error = {0};
            json_t *variables = json_loads(sources[i], 0, NULL);
            size_t n_messages = json_array_size(json_object_get(variables, "messages"));
            fail_alloc_at(n);
            mlxr_status status = chat_variables_complete(variables, &error);
            failed = fail_alloc_stop();
            assert_int_equal(json_array_size(json_object_get(variables, "messages")), n_messages);
            assert_int_equal(status, failed ? MLXR_NOMEM : MLXR_OK);
            json_decref(variables);
            assert_true(failed || n > 3);
        }
    }
}

static void json_survives_each_failing_allocation(void **state)
{
    (void)state;
    const char *text = "{\"a\": [1, 2.5, \"text\", {\"b\": null}], \"c\": \"\\u00e9\"}";
    json_set_alloc_funcs(malloc, free); /* this program's malloc, so that it can be made to fail */
    long n_told = 0;
    for (long n = 1;; n++) {
        json_t *json = NULL;
        mlxr_error error = {0};
        fail_alloc_at(n);
        mlxr_status status = json_text_parse(&json, text, strlen(text), 0, &error);
        bool failed = fail_alloc_stop();
        /* jansson 2.14 calls lack of memory a syntax error here and there, and does not say so to us. */
        assert_true((status == MLXR_OK) == (json != NULL));
        assert_true(status == MLXR_OK || status == MLXR_FORMAT || status == MLXR_NOMEM);
        assert_true(status == MLXR_OK || (error.status == status && error.text[0]));
        n_told += status == MLXR_NOMEM;
        json_decref(json);
        if (!failed) {
            assert_int_equal(status, MLXR_OK);
            assert_true(n_told > 5);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_report_each_failing_allocation),
        cmocka_unit_test(every_place_of_an_expression_reports_each_failing_allocation),
        cmocka_unit_test(growing_texts_report_each_failing_allocation),
        cmocka_unit_test(growing_constants_report_each_failing_allocation),
        cmocka_unit_test(a_template_of_everything_reports_each_failing_allocation),
        cmocka_unit_test(completing_variables_reports_each_failing_allocation),
        cmocka_unit_test(json_survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
