/*
 * Hostile templates: each ends with a clear error, within its limits and in milliseconds.
 * Owner: the test program. Lifetime: the process.
 */
#include <time.h>

#include "support/test.h"
#include "text/chat_template.h"

#define TEXT_MAX ((size_t)8 << 20)

/* Grows a text: head, then `count` times the middle, then the tail. */
static char *repeat(const char *head, const char *middle, size_t count, const char *tail)
{
    buffer b = buffer_make(TEXT_MAX);
    buffer_append_text(&b, head);
    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&b, middle);
    }
    buffer_append_text(&b, tail);
    char *text = buffer_take(&b);
    assert_non_null(text);
    return text;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* a busy machine is not the template's fault */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Wide enough for sanitizers; without them most take under a millisecond, and the longest about 100. */
#define MS_MAX 3000.0

/* Opens and renders; wants `status`, and a line of error text unless that is MLXR_OK. */
static void expect_n(const char *source, size_t n, mlxr_status wanted)
{
    mlxr_error error = {0};
    chat_template *t = NULL;
    buffer out = buffer_make(TEXT_MAX);
    double start = now_ms();
    mlxr_status status = chat_template_open(&t, source, n, &error);
    if (status == MLXR_OK) {
        json_t *v = json_pack("{s[{ssss}]}", "messages", "role", "user", "content", "x");
        chat_limits limits = {.output_bytes_max = 1 << 20, .memory_bytes_max = 64 << 20, .now = 1};
        status = chat_template_render(t, v, &limits, &out, &error);
        json_decref(v);
        chat_template_close(&t);
    }
    double ms = now_ms() - start;
    if (status != wanted || (wanted != MLXR_OK && (error.status != wanted || !error.text[0]))) {
        fail_msg("%.200s: status %d (%s), wanted %d", source, (int)status, error.text, (int)wanted);
    }
    if (getenv("VERBOSE")) {
        fprintf(stderr, "%7.1f ms  %.60s  ->  %s\n", ms, source, error.text);
    }
    assert_true(ms < MS_MAX);
    assert_true(wanted == MLXR_OK || out.n == 0);
    buffer_close(&out);
}

static void expect(const char *source, mlxr_status wanted)
{
    expect_n(source, strlen(source), wanted);
}

static void expect_repeated(const char *head, const char *middle, size_t count, const char *tail, mlxr_status wanted)
{
    char *text = repeat(head, middle, count, tail);
    expect(text, wanted);
    free(text);
}

static void deep_nesting_is_an_error_not_a_crash(void **state)
{
    (void)state;
    expect_repeated("{{ ", "(", 100000, "", MLXR_FORMAT);
    expect_repeated("{{ ", "[", 100000, "", MLXR_FORMAT);
    expect_repeated("{{ ", "{1:", 100000, "", MLXR_FORMAT);
    expect_repeated("{{ ", "-", 100000, "1 }}", MLXR_FORMAT);
    expect_repeated("{{ ", "not ", 100000, "1 }}", MLXR_FORMAT);
    expect_repeated("{{ a", "[a", 100000, "", MLXR_FORMAT);
    expect_repeated("{{ a", "(a", 100000, "", MLXR_FORMAT);
    expect_repeated("{{ 1", " if 1 else 1", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ 1", "|default(1", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% if 1 %}", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% for x in [1] %}", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% macro f() %}", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% set x %}", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% with %}", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% filter upper %}", 100000, "", MLXR_FORMAT);
    expect_repeated("", "{% generation %}", 100000, "", MLXR_FORMAT);
    expect_repeated("{% set ", "(", 100000, "", MLXR_FORMAT);
    expect_repeated("{% for ", "(", 100000, "", MLXR_FORMAT);
}

static void long_chains_are_an_error_not_a_crash(void **state)
{
    (void)state;
    expect_repeated("{{ 1", " + 1", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", ".b", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", "[1]", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", "()", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", "|upper", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", " is defined", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", " and a", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{{ a", " ** 1", 100000, " }}", MLXR_FORMAT);
    expect_repeated("{% filter upper", "|upper", 100000, "%}{% endfilter %}", MLXR_FORMAT);
    expect_repeated("{{ 1", " < 2", 100000, " }}", MLXR_OK); /* wide, not deep */
    expect_repeated("{{ 1", " ~ 2", 100000, " }}", MLXR_OK);
    expect_repeated("{% if 0 %}", "{% elif 0 %}", 50000, "{% endif %}", MLXR_OK);
    expect_repeated("{{ 'a'", " 'b'", 20000, " }}", MLXR_OK);
    expect_repeated("{{ [", "1,", 100000, "] | length }}", MLXR_OK);
}

static void endless_work_runs_out_of_steps(void **state)
{
    (void)state;
    expect("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", MLXR_LIMIT);
    expect("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", MLXR_LIMIT);
    expect("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", MLXR_LIMIT);
    expect("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", MLXR_LIMIT);
    expect("{% macro f() %}{% call f() %}{{ caller }}{% endcall %}{{ caller }}{% endmacro %}{{ f() }}", MLXR_LIMIT);
    expect("{{ range(100000)|map('string')|list|join|length }}{% for i in range(1000) %}"
           "{{ range(100000)|sum }}{% endfor %}",
           MLXR_LIMIT);
    expect("{% for i in range(1000) %}{{ 5 in range(100000)|list|reverse }}{% endfor %}", MLXR_LIMIT);
    expect("{% set l = range(90000)|list %}{% for i in l %}{{ l == l[:]|list }}{% endfor %}", MLXR_LIMIT);
    expect("{% for i in range(10000) %}{{ 'aaaaaaaaab'*10000 == 'aaaaaaaaab'*10000 }}{% endfor %}", MLXR_LIMIT);
    expect("{% set s = 'a'*500000 %}{{ s.rfind('b' ~ 'a'*250000) }}{{ s.rfind('a'*250000 ~ 'b') }}", MLXR_LIMIT);
    expect("{% set s = 'a'*300000 %}{% for i in range(100000) %}{{ s.count('b') }}{% endfor %}", MLXR_LIMIT);
    expect("{% set s = 'é'*300000 %}{% for i in range(100000) %}{{ s[i] }}{% endfor %}", MLXR_LIMIT);
    expect("{% set s = 'x y '*100000 %}{% for i in range(1000) %}{{ s.split()|length }}{% endfor %}", MLXR_LIMIT);
}

static void growth_without_end_runs_out_of_memory_or_steps(void **state)
{
    (void)state;
    expect("{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
           MLXR_LIMIT);
    expect("{% set ns = namespace(s=[1]) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
           MLXR_LIMIT);
    expect("{% set ns = namespace(s='<') %}{% for i in range(64) %}{% set ns.s = (ns.s|e)|string|forceescape %}"
           "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
           MLXR_LIMIT);
    expect(
        "{% set ns = namespace(s='aa') %}{% for i in range(64) %}{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}",
        MLXR_LIMIT);
    expect("{% set ns = namespace(s='a') %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s]|tojson %}{% endfor %}",
           MLXR_LIMIT);
    expect("{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, **{i|string: i}) %}"
           "{% endfor %}",
           MLXR_LIMIT);
    expect("{{ 'x' * 99999999999 }}", MLXR_LIMIT);
    expect("{{ 'x' * 9223372036854775807 }}", MLXR_LIMIT);
    expect("{{ ('xy' * 9223372036854775807) }}", MLXR_LIMIT);
    expect("{{ [1] * 99999999999 }}", MLXR_LIMIT);
    expect("{{ [1, 2] * 9223372036854775807 }}", MLXR_LIMIT);
    expect("{{ 'a'|indent(9223372036854775807, true) }}", MLXR_LIMIT);
    expect("{{ 'a\nb\nc'|indent('x' * 10000000) }}", MLXR_LIMIT);
    expect("{{ 'a'|center(9223372036854775807) }}", MLXR_LIMIT);
    expect("{{ 'a'.ljust(99999999999, 'é') }}", MLXR_LIMIT);
    expect("{{ 'a'.zfill(99999999999) }}", MLXR_LIMIT);
    expect("{{ '\\t'.expandtabs(99999999999) }}", MLXR_LIMIT);
    expect("{{ ('\\t' * 1000).expandtabs(1000000) }}", MLXR_LIMIT);
    expect("{{ '%999999999d' % 1 }}", MLXR_LIMIT);
    expect("{{ '%99999999999d' % 1 }}", MLXR_LIMIT);
    expect("{{ '%.999999999f' % 1.5 }}", MLXR_LIMIT);
    expect("{{ '%.999999999d' % 1 }}", MLXR_LIMIT);
    expect("{{ '%*d' % (9223372036854775807, 1) }}", MLXR_LIMIT);
    expect("{{ '%-*d' % (-9223372036854775807 - 1, 1) }}", MLXR_LIMIT);
    expect("{{ '{:999999999}'.format(1) }}", MLXR_LIMIT);
    expect("{{ '{:99999999999}'.format(1) }}", MLXR_LIMIT);
    expect("{{ '{:.999999999f}'.format(1.5) }}", MLXR_LIMIT);
    expect("{{ '{:0999999999,}'.format(1) }}", MLXR_LIMIT);
    expect("{{ [[1]]|tojson(indent=999999999) }}", MLXR_LIMIT);
    expect("{{ [[1]]|tojson(indent='x' * 10000000) }}", MLXR_LIMIT);
    expect("{{ [1]|batch(9223372036854775807, 'x')|list }}", MLXR_LIMIT);
    expect("{{ [1]|slice(9223372036854775807)|list }}", MLXR_LIMIT);
    expect("{{ range(100001) }}", MLXR_LIMIT);
    expect("{{ range(-9223372036854775807, 9223372036854775807) }}", MLXR_LIMIT);
    expect("{{ range(0, -9223372036854775807 - 1, -9223372036854775807 - 1)|list }}", MLXR_OK);
    expect("{% for i in range(100000) %}{{ 'some text of a length' }}{% endfor %}", MLXR_LIMIT);
    expect("{% set x %}{% for i in range(100000) %}{{ 'some text of a length' }}{% endfor %}{% endset %}", MLXR_LIMIT);
}

static void deep_values_are_an_error_not_a_crash(void **state)
{
    (void)state;
    const char *grow = "{% set ns = namespace(x=[], y=[]) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}"
                       "{% set ns.y = [ns.y] %}{% endfor %}";
    static const char *const uses[] = {
        "{{ ns.x }}",           "{{ ns.x|string }}",
        "{{ ns.x|tojson }}",    "{{ ns.x == ns.y }}",
        "{{ ns.x < ns.y }}",    "{{ [ns.x, ns.y]|sort }}",
        "{{ ns.x in [ns.y] }}", "{{ '%r' % ns.x }}",
        "{{ ns.x|join }}",      "{{ [ns.x, ns.y]|groupby(none) }}",
    };
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        char *text = repeat(grow, uses[i], 1, "");
        expect(text, MLXR_LIMIT);
        free(text);
    }
    expect(
        "{% set ns = namespace(x=()) %}{% for i in range(5000) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}",
        MLXR_LIMIT);
    expect("{% set ns = namespace(x=[1]) %}{% for i in range(5000) %}{% set ns.x = ns.x|map('string') %}{% endfor %}"
           "{{ ns.x|list }}",
           MLXR_LIMIT);
    expect("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a }}{{ a == b }}", MLXR_OK);
    expect("{% set a = namespace() %}{% set a.x = [a] %}{{ a }}{{ a.x == [a] }}", MLXR_OK);
    expect("{% set a = namespace() %}{% set a.x = [a] %}{{ a|tojson }}", MLXR_FORMAT);
}

static void many_names_and_scopes_compile_in_reasonable_time(void **state)
{
    (void)state;
    buffer b = buffer_make(TEXT_MAX);
    for (int i = 0; i < 20000; i++) { /* 20,000 names, each in an if and read in a loop */
        buffer_printf(&b, "{%% if a%d %%}{%% set b%d = 1 %%}{%% endif %%}{%% for x in c %%}{{ b%d }}{%% endfor %%}", i,
                      i, i);
    }
    char *text = buffer_take(&b);
    expect(text, MLXR_OK);
    free(text);
    b = buffer_make(TEXT_MAX);
    buffer_append_text(&b, "{{ f(");
    for (int i = 0; i < 30000; i++) {
        buffer_printf(&b, "k%d=1,", i);
    }
    buffer_append_text(&b, ") }}");
    text = buffer_take(&b);
    expect(text, MLXR_LIMIT); /* comparing every pair of keywords is work, and counted */
    free(text);
    b = buffer_make(TEXT_MAX);
    buffer_append_text(&b, "{% macro f(");
    for (int i = 0; i < 30000; i++) {
        buffer_printf(&b, "%sk%d", i ? "," : "", i);
    }
    buffer_append_text(&b, ") %}{% endmacro %}");
    text = buffer_take(&b);
    expect(text, MLXR_LIMIT);
    free(text);
}

static void keys_that_collide_cost_steps(void **state)
{
    (void)state;
    /* Integers a fixed distance apart, floats, tuples: no shape of key makes a dict hang. */
    expect("{% set ns = namespace(l=[]) %}{% for i in range(30000) %}{% set ns.l = ns.l + [(i * 4294967296, i)] %}"
           "{% endfor %}{{ dict(ns.l)|length }}",
           MLXR_OK);
    expect("{% set ns = namespace(l=[]) %}{% for i in range(30000) %}{% set ns.l = ns.l + [((i, -i), i / 7)] %}"
           "{% endfor %}{{ dict(ns.l)|length }}",
           MLXR_OK);
}

static void broken_text_is_an_error(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{{",
        "{%",
        "{{ '",
        "{{ \"a\\",
        "{% raw %} {% endra",
        "{# {# #",
        "{{ a",
        "{% if",
        "{{ a|",
        "{{ a is",
        "{{ a.",
        "{{ a[",
        "{{ a(",
        "{{ {1:",
        "{{ 1 if",
        "{% for",
        "{% set",
        "{% macro",
        "{% call",
        "{% filter",
        "{% with",
        "{% for x",
        "{% for x in",
        "{% if x %}{% else",
        "{% set x %}",
        "{{ 'a' if }}",
        "{{ \\ }}",
        "{{ \xc3\xa9\xcc }}",
        "\xc0\x80",
        "{{ '\xed\xa0\x80' }}",
        "{% \xff %}",
        "{{ 0x }}",
        "{{ 1e }}",
        "{{ 1__0 }}",
        "{{ 0777 }}",
        "{{ a!b }}",
        "{{ a & b }}",
        "{{ `x` }}",
        "{{ a @ b }}",
        "{{ '\\x' }}",
        "{{ '\\u12' }}",
        "{{ '\\U0000' }}",
        "{{ {{ }} }}",
        "{% {% %}",
        "{% %}",
        "{% 1 %}",
        "{% if a %}{% endif b %}",
        "{% endraw %}",
        "{{ 9223372036854775808 }}",
        "{% set a %}{% endset",
        "{{ a.1b }}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect(rows[i], MLXR_FORMAT);
    }
    expect_n("{{ a\0b }}", 9, MLXR_FORMAT);
    expect_n("a\0b", 3, MLXR_OK);
    expect_n("", 0, MLXR_OK);
    expect_repeated("", "x", ((size_t)4 << 20) + 1, "", MLXR_LIMIT);
    expect_repeated("{{ 1", "0", 1000000, " }}", MLXR_FORMAT);
    expect_repeated("{{ 1.", "0", 1000000, " }}", MLXR_FORMAT);
    expect_repeated("{{ ", "a", 1000000, " }}", MLXR_OK); /* a very long name */
    expect_repeated("{{ '", "\\n", 500000, "'|length }}", MLXR_OK);
    expect_repeated("", "{{", 500000, "", MLXR_FORMAT);
    expect_repeated("", "{#", 500000, "", MLXR_FORMAT);
    expect_repeated("", "{#-", 500000, "", MLXR_FORMAT);
    expect_repeated("", "{% raw", 500000, "", MLXR_FORMAT);
    expect_repeated("{% raw %}", "{% endraw", 300000, "", MLXR_FORMAT);
    expect_repeated("{% raw %}", "{%  ", 500000, "", MLXR_FORMAT);
    expect_repeated("", "{", 1000000, "", MLXR_FORMAT);
    expect_repeated("", " \n", 1000000, "{%- if 1 %}x{% endif %}", MLXR_OK);
    expect_repeated("", "{% ", 1, "\n\n\n\n", MLXR_FORMAT);
}

static void numbers_at_the_edges_are_errors_not_wraps(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{{ 9223372036854775807 + 1 }}",
        "{{ -9223372036854775807 - 2 }}",
        "{{ 9223372036854775807 * 2 }}",
        "{{ -(-9223372036854775807 - 1) }}",
        "{{ (-9223372036854775807 - 1) // -1 }}",
        "{{ (-9223372036854775807 - 1)|abs }}",
        "{{ 2 ** 63 }}",
        "{{ 10 ** 19 }}",
        "{{ 3 ** 9223372036854775807 }}",
        "{{ 1e300|int }}",
        "{{ 'inf'|float|int }}",
        "{{ '99999999999999999999'|int }}",
        "{{ 9223372036854775807|round(-1) }}",
        "{{ [9223372036854775807, 1]|sum }}",
        "{{ '%d' % 1e300 }}",
        "{{ 1e300|round(0, 'ceil') }}",
        "{{ 5|round(300, 'ceil') }}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect(rows[i], MLXR_FORMAT);
    }
    expect("{{ (-9223372036854775807 - 1) % -1 }}", MLXR_OK);
    expect("{{ 'abc'[-9223372036854775807 - 1:9223372036854775807:9223372036854775807] }}", MLXR_OK);
    expect("{{ 'abc'[::-9223372036854775807 - 1] }}", MLXR_OK);
    expect("{{ [1, 2][9223372036854775807] }}{{ [1, 2][-9223372036854775807 - 1] }}", MLXR_OK);
    expect("{{ range(9223372036854775800, 9223372036854775807)[::2]|list }}", MLXR_OK);
    expect("{{ 'abc'.find('c', -9223372036854775807 - 1, 9223372036854775807) }}", MLXR_OK);
    expect("{{ 'abc'|truncate(9223372036854775807, leeway=9223372036854775807) }}", MLXR_OK);
    expect("{{ 1.5|round(9223372036854775807) }}{{ 1.5|round(-9223372036854775807) }}", MLXR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deep_nesting_is_an_error_not_a_crash),
        cmocka_unit_test(long_chains_are_an_error_not_a_crash),
        cmocka_unit_test(endless_work_runs_out_of_steps),
        cmocka_unit_test(growth_without_end_runs_out_of_memory_or_steps),
        cmocka_unit_test(deep_values_are_an_error_not_a_crash),
        cmocka_unit_test(many_names_and_scopes_compile_in_reasonable_time),
        cmocka_unit_test(keys_that_collide_cost_steps),
        cmocka_unit_test(broken_text_is_an_error),
        cmocka_unit_test(numbers_at_the_edges_are_errors_not_wraps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
