/*
 * What no comparison with Jinja2 shows: the words of each error, limits that end exactly where they end, variables that
 * are not UTF-8, callers that want no error text. Owner: the test program. Lifetime: the process.
 */
#include <locale.h>
#include <time.h>

#include "support/test.h"
#include "text/chat_template.h"
#include "text/jinja_value.h"

/* Opens and renders; out may be NULL. */
static mlxr_status render(const char *source, const json_t *variables, const chat_limits *limits, buffer *out,
                          mlxr_error *error)
{
    buffer own = buffer_make(1 << 20);
    chat_template *t = NULL;
    mlxr_status status = chat_template_open(&t, source, strlen(source), error);
    if (status == MLXR_OK) {
        status = chat_template_render(t, variables, limits, out ? out : &own, error);
        chat_template_close(&t);
    }
    assert_true(status == MLXR_OK || (out ? out->n : own.n) == 0);
    buffer_close(&own);
    return status;
}

static void expect_text(const char *source, const json_t *variables, const chat_limits *limits, const char *text,
                        size_t n)
{
    mlxr_error error = {0};
    buffer out = buffer_make(1 << 20);
    assert_true(buffer_append(&out, "", 0));
    mlxr_status status = render(source, variables, limits, &out, &error);
    if (status != MLXR_OK || out.n != n || memcmp(out.data, text, n) != 0) {
        fail_msg("%s: status %d (%s), text \"%s\"; wanted \"%s\"", source, (int)status, error.text, out.data, text);
    }
    buffer_close(&out);
}

static void expect_error(const char *source, const chat_limits *limits, mlxr_status wanted, const char *part)
{
    mlxr_error error = {0};
    mlxr_status status = render(source, NULL, limits, NULL, &error);
    if (status != wanted || error.status != wanted || !strstr(error.text, part)) {
        fail_msg("%.300s: status %d, \"%s\"; wanted %d, \"…%s…\"", source, (int)status, error.text, (int)wanted, part);
    }
    assert_int_equal(render(source, NULL, limits, NULL, NULL), wanted); /* nobody has to want the words */
}

/* Head, `count` times the middle, tail; malloc'd. */
static char *repeat(const char *head, const char *middle, size_t count, const char *tail)
{
    char *text = malloc(strlen(head) + count * strlen(middle) + strlen(tail) + 1);
    assert_non_null(text);
    strcpy(text, head);
    for (char *at = text + strlen(head); count > 0; count--) {
        strcpy(at, middle);
        at += strlen(middle);
    }
    return strcat(text, tail);
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *source, *part;
} wrong[] = {
    /* syntax */
    {"{{ 1|upper. }}", "expected a name behind '.', not }}"},
    {"{{ 1|upper.a@ }}", "the character '@' means nothing here"},
    {"{{ 1|5 }}", "expected the name of a filter or test, not an integer"},
    {"{{ 1 is }}", "expected the name of a filter or test, not }}"},
    {"{{ range(1, a=@) }}", "the character '@' means nothing here"},
    {"{{ dict(a=1, a=2) }}", "the argument 'a' is given twice"},
    {"{{ range(*[1], 2) }}", "arguments in an order that no call allows"},
    {"{{ dict(**{}, a=1) }}", "arguments in an order that no call allows"},
    {"{{ range(1 2) }}", "expected ',' or ')' in a call, not an integer"},
    {"{{ [1 2] }}", "expected ',' or ']' in a list, not an integer"},
    {"{{ x[1 2] }}", "expected ',' or ']' in a subscript, not an integer"},
    {"{{ x[1:2, 3] }}", "expected ']' behind a slice, not ,"},
    {"{{ x[1, 2:3] }}", "expected ']' behind a slice"},
    {"{% if a:@ %}{% endif %}", "the character '@' means nothing here"},
    {"{% with %}{% endwith @ %}", "the character '@' means nothing here"},
    {"{% for x in y %}{% endfor @ %}", "the character '@' means nothing here"},
    {"{% for x in y %}{% else @ %}", "the character '@' means nothing here"},
    {"{% if a %}{% endif @ %}", "the character '@' means nothing here"},
    {"{% for x of y %}{% endfor %}", "expected 'in', not 'of'"},
    {"{% set x.5 = 1 %}", "expected the name of an attribute, not an integer"},
    {"{% set 5 = 1 %}", "this cannot be assigned to"},
    {"{% set x", "expected '%}', not the end of the template"},
    {"{% with a 5 %}{% endwith %}", "expected '=', not an integer"},
    {"{% endfor %}", "unknown tag 'endfor'"},
    {"{% if a %}{% endfor %}", "unknown tag 'endfor' inside 'if' of line 1"},
    {"{% raw %}{%", "a raw block is not closed by endraw"},
    {"{% raw %}a{% endraw", "a raw block is not closed by endraw"},
    {"a\nb {# c", "line 2, column 5: a comment is not closed by '#}'"},
    {"{{ 'a", "a string is not closed by '"},
    {"{{ \"a'", "a string is not closed by \""},
    {"{{ '\\x4' }}", "'\\x' in a string needs 2 hexadecimal digits"},
    {"{{ '\\u12g4' }}", "'\\u' in a string needs 4 hexadecimal digits"},
    {"{{ '\\U0001f60' }}", "'\\U' in a string needs 8 hexadecimal digits"},
    {"{{ '\\udfff' }}", "an escape in a string is no Unicode character"},
    {"{{ a\xe2\x82\xac }}", "the byte 0xe2 means nothing here"},
    {"{{ a\xc2\xb2 }}", "a name holds a character that names may not hold"},
    {"{{ 9223372036854775808 }}", "an integer does not fit into 64 bits"},
    {"{{ 0x8000000000000000 }}", "an integer does not fit into 64 bits"},
    {"{% break %}", "'break' outside of a loop"},
    {"{% continue %}", "'continue' outside of a loop"},
    {"{% for x in [] %}{% set (loop, y) = 1, 2 %}{% endfor %}", "nothing can be assigned to 'loop'"},
    {"{% for loop in [] if 1 %}{% endfor %}", "nothing can be assigned to 'loop'"},
    {"{% macro m(caller) %}{{ caller() }}{% endmacro %}", "the parameter needs a default: 'caller'"},
    {"{% if 0 %}{% filter nothing %}{% endfilter %}{% endif %}", "there is no filter 'nothing'"},
    {"{% if 0 %}{% set x|nothing %}{% endset %}{% endif %}", "there is no filter 'nothing'"},
    {"{% if 1 %}{{ 1 is nothing }}{% endif %}", "there is no test 'nothing'"},
    /* operators */
    {"{{ (-8.0) ** 0.5 }}", "a negative number to a broken power is not a real number"},
    {"{{ 2.0 ** 1024 }}", "the power is too large for a float"},
    {"{{ 0.0 ** -1 }}", "division by zero"},
    {"{{ 0 ** -1 }}", "division by zero"},
    {"{{ 3 ** 40 * 3 }}", "the result does not fit into a 64-bit integer"},
    {"{{ (-9223372036854775807 - 1) // -1 }}", "the result does not fit into a 64-bit integer"},
    {"{{ 1 < 'a' }}", "'<' cannot order 'int' and 'str'"},
    {"{{ [] >= () }}", "'>=' cannot order 'list' and 'tuple'"},
    {"{{ 1 in 'a' }}", "'in' looks for a string in a string, not for 'int'"},
    {"{{ 1 not in 5 }}", "a value of type 'int' is not iterable"},
    {"{{ -none }}", "'-' does not work on 'None'"},
    {"{{ +[] }}", "'+' does not work on 'list'"},
    {"{{ {}[[]].x }}", "there is no attribute or item 'list' here"},
    {"{{ [][none].x }}", "there is no attribute or item 'None' here"},
    {"{{ [][1.5].x }}", "there is no attribute or item '1.5' here"},
    {"{{ {}[true].x }}", "there is no attribute or item 'True' here"},
    {"{{ 5[1:2] }}", "a value of type 'int' cannot be sliced"},
    {"{{ [][::0] }}", "the step of a slice is zero"},
    {"{{ []['a':] }}", "the bound of a slice must be an integer, not 'str'"},
    {"{{ {[]: 1} }}", "a value of type 'list' cannot be a key of a dict"},
    {"{{ {(1, {}): 1} }}", "a value of type 'dict' cannot be a key of a dict"},
    {"{{ 5() }}", "a value of type 'int' cannot be called"},
    {"{{ dict(**5) }}", "'**' needs a dict, not 'int'"},
    {"{{ dict(**{5: 1}) }}", "keywords must be strings"},
    {"{{ dict(a=1, **{'a': 2}) }}", "an argument is given twice: 'a'"},
    {"{{ joiner()(1) }}", "a joiner takes no arguments"},
    {"{% set a, b = [1] %}", "2 values are wanted here, but there are only 1"},
    {"{% set a, b = [1, 2, 3] %}", "only 2 values are wanted here, but there are more"},
    {"{% set x = 1 %}{% set x.y = 1 %}", "only a namespace can be assigned attributes, not 'int'"},
    {"{% set n = namespace() %}{% set n._x = 1 %}", "a namespace keeps no attribute that begins with '_'"},
    /* functions and filters */
    {"{{ joiner(1) }}", "the separator of joiner() must be a string, not 'int'"},
    {"{{ cycler(1, x=2) }}", "cycler() needs values to go through"},
    {"{{ range() }}", "range() takes one to three numbers"},
    {"{{ range(1, x=2) }}", "range() takes one to three numbers"},
    {"{{ range(1, 2, 0) }}", "the step of range() is zero"},
    {"{{ dict([(1, 2, 3)]) }}", "a dict is made of pairs, not of 3 values"},
    {"{{ dict(1, 2) }}", "dict() takes at most one value besides keywords"},
    {"{{ namespace({'_a': 1}) }}", "a namespace keeps no attribute that begins with '_'"},
    {"{{ strftime_now(5) }}", "the format of strftime_now() must be a string, not 'int'"},
    {"{{ 'a'|replace('a', old='b', new='c') }}", "replace() got two values for 'old'"},
    {"{{ 'a'|replace('a') }}", "replace() needs the argument 'new'"},
    {"{{ 'a'|upper(1) }}", "upper() takes at most 0 arguments, not 1"},
    {"{{ 'a'|default(x=1) }}", "default() takes no argument named 'x'"},
    {"{{ 'a'.find(sub='a') }}", "find() takes no argument named 'sub'"},
    {"{{ [1, 2]|batch('a')|list }}", "the size of a batch must be an integer, not 'str'"},
    {"{{ [(1,)]|urlencode }}", "urlencode needs pairs of a name and a value"},
    {"{{ [1]|urlencode }}", "a value of type 'int' is not iterable"},
    {"{{ 9223372036854775807|round(1, 'ceil') }}", "the result does not fit into a 64-bit integer"},
    {"{{ range(3).index(7) }}", "index() did not find its value"},
    {"{% for x in [1] %}{{ loop.changed(y=1) }}{% endfor %}", "loop.changed() takes no keywords"},
    {"{% for x in [1] %}{{ loop.cycle() }}{% endfor %}", "loop.cycle() needs values to choose from"},
    {"{% for x in [1] %}{{ loop([1]) }}{% endfor %}", "loop(…) needs a loop that is marked 'recursive'"},
    {"{% for x in [1] recursive %}{{ loop() }}{% endfor %}", "loop(…) takes one argument"},
    {"{% macro m() %}{% endmacro %}{{ m(1) }}", "the macro 'm' takes at most 0 arguments, not 1"},
    {"{% macro m() %}{{ caller(1) }}{% endmacro %}{% call m() %}{% endcall %}",
     "the macro 'caller' takes at most 0 arguments, not 1"},
    /* format strings */
    {"{{ '%*d' % () }}", "not enough values for the format string"},
    {"{{ '%*d' % ('a', 1) }}", "'*' in a format string needs an integer"},
    {"{{ '%d' % 1e19 }}", "a float too large for %d"},
    {"{{ '%x' % 1.5 }}", "%x needs a number, not 'float'"},
    {"{{ '%f' % 'a' }}", "%f needs a number, not 'str'"},
    {"{{ '%c' % 'ab' }}", "%c needs one character or its number"},
    {"{{ '%y' % 1 }}", "a format string has no directive '%y'"},
    {"{{ '%5' % 1 }}", "a format string ends inside a directive"},
    {"{{ '%(a' % {} }}", "a format string has an open '('"},
    {"{{ '%(a)s' % 1 }}", "a format string with names needs a dict"},
    {"{{ '%(a)s' % {} }}", "a format string names 'a', which the dict does not have"},
    {"{{ '%s' % (1, 2) }}", "not all values are used by the format string"},
    {"{{ '{:.}'.format(1.5) }}", "a format misses the precision behind its point"},
    {"{{ '{:5é}'.format(1) }}", "the format '5é' is not valid"},
    {"{{ '{:\\x00}'.format(1) }}", "is not valid"},
    {"{{ '{:q}'.format(2.5) }}", "the format type 'q' is not for floats"},
    {"{{ '{:q}'.format(2) }}", "the format type 'q' is not for integers"},
    {"{{ '{:d}'.format('a') }}", "this format is not for strings"},
    {"{{ '{:.1d}'.format(1) }}", "integers take no precision in a format"},
    {"{{ '{:,x}'.format(1) }}", "',' groups decimal digits only"},
    {"{{ '{:c}'.format(-1) }}", "-1 is no character"},
    {"{{ '{:5}'.format(none) }}", "a value of type 'None' takes no format"},
    {"{{ '{:5}'.format([]) }}", "a value of type 'list' takes no format"},
    {"{{ '{}{0}'.format(1) }}", "format() cannot switch from automatic numbers to given ones"},
    {"{{ '{0}{}'.format(1) }}", "format() cannot switch from given numbers to automatic ones"},
    {"{{ '{7}'.format(1) }}", "format() has no argument number 7"},
    {"{{ '{99999999999999999999}'.format(1) }}", "an argument number in format() is too large"},
    {"{{ '{x}'.format(y=1) }}", "format() has no argument 'x'"},
    {"{{ '{0.}'.format(1) }}", "a field of format() has an empty attribute or item"},
    {"{{ '{0[]}'.format(1) }}", "a field of format() has an empty attribute or item"},
    {"{{ '{0[a]b}'.format({'a': 1}) }}", "in a field of format() only '.' or '[' may follow ']'"},
    {"{{ '{0[a}'.format({'a': 1}) }}", "format() found a '{' without its partner"},
    {"{{ 'a}'.format() }}", "format() found a '}' without its partner"},
    {"{{ '{!x}'.format(1) }}", "format() has no conversion 'x'"},
    {"{{ '{!rx}'.format(1) }}", "format() misses ':' behind a conversion"},
    {"{{ '{:{:{:{}}}}'.format(1, 2, 3, 4) }}", "format() fields nested too deep"},
    {"{{ ('{:5}'|safe).format('a'|safe) }}", "markup takes no format"},
};

static void errors_say_what_is_wrong(void **state)
{
    (void)state;
    assert_true(sizeof wrong / sizeof *wrong >= 50);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        expect_error(wrong[i].source, NULL, MLXR_FORMAT, wrong[i].part);
    }
}

static void what_is_too_much_says_how_much(void **state)
{
    (void)state;
    static const struct {
        const char *source, *part;
    } rows[] = {
        {"{{ [1, 2, 3] * 9223372036854775807 }}", "a list repeated 9223372036854775807 times is too long"},
        {"{{ 'xyz' * 9223372036854775807 }}", "a string repeated 9223372036854775807 times is too long"},
        {"{{ '%.301f' % 1.5 }}", "a precision above 300 in a format string"},
        {"{{ '%.99999999999d' % 1 }}", "a width or precision in a format string is too large"},
        {"{{ '{:.301f}'.format(1.5) }}", "a precision above 300 in a format"},
        {"{{ '{:99999999999}'.format(1) }}", "a width or precision in a format is too large"},
        {"{{ '{:09999,}'.format(1) }}", "a width of 9999 with digit groups is too large"},
        {"{{ range(100001) }}", "range() of 100001 numbers; the limit is 100000"},
        {"{% set n = namespace(x=()) %}{% for i in range(3000) %}{% set n.x = (n.x,) %}{% endfor %}{{ {}[n.x] }}",
         "nested more than 1000 levels deep"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_error(rows[i].source, NULL, MLXR_LIMIT, rows[i].part);
    }
    /* With fuel without end, what does not fit into memory still is an error and no wrapped number. */
    static const chat_limits endless = {.steps_max = UINT64_MAX};
    expect_error("{{ [1] * 9223372036854775807 }}", &endless, MLXR_LIMIT, "items are too many");
    expect_error("{{ '😀😀😀'.ljust(9223372036854775807, 'é') }}", &endless, MLXR_LIMIT,
                 "a string of more than 12 bytes");
    expect_error("{{ ''.ljust(9223372036854775807, 'é') }}", &endless, MLXR_LIMIT,
                 "the values need more than the limit");
    expect_error("{{ 'x' * 9223372036854775807 }}", &endless, MLXR_LIMIT, "the values need more than the limit");
}

static void long_names_and_messages_are_cut(void **state)
{
    (void)state;
    char *source = repeat("{{ ", "abcdefghij", 40, ".x }}");
    mlxr_error error = {0};
    assert_int_equal(render(source, NULL, NULL, NULL, &error), MLXR_FORMAT);
    assert_int_equal(strlen(strstr(error.text, "'abc")), 1 + 200 + strlen("' is undefined"));
    free(source);
    source = repeat("{{ raise_exception('", "abcdefghij", 60, "') }}");
    assert_int_equal(render(source, NULL, NULL, NULL, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "the template refuses: abcdefghij"));
    assert_true(strlen(error.text) < 450);
    free(source);
    source = repeat("{{ 1|", "abcdefghij", 60, " }}");
    assert_int_equal(render(source, NULL, NULL, NULL, &error), MLXR_FORMAT);
    assert_int_equal(strlen(strstr(error.text, "'abc")), 62);
    free(source);
    source = repeat("{% macro ", "abcdefghij", 60, "() %}{% endmacro %}{% set m = ");
    char *whole = repeat(source, "abcdefghij", 60, " %}{{ m(1) }}");
    assert_int_equal(render(whole, NULL, NULL, NULL, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "the macro 'abcdefghij"));
    assert_non_null(strstr(error.text, "' takes at most 0 arguments, not 1"));
    free(whole);
    free(source);
}

static void a_refused_tag_is_refused_without_an_error_too(void **state)
{
    (void)state;
    assert_int_equal(render("{% include x %}", NULL, NULL, NULL, NULL), MLXR_UNSUPPORTED);
    assert_int_equal(render("{{ 1|pprint }}", NULL, NULL, NULL, NULL), MLXR_UNSUPPORTED);
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

/* Every limit of memory that is too small stops it, and the first that is not gives the whole text. */
static void memory_runs_out_cleanly_at_every_byte(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "{{ 'a' ~ 'b' ~ [1, 2] }}{% set x = {'a': 1, 'b': [1, 2]} %}{{ x }}{{ x.a }}{{ x|tojson }}",
        "{% macro m(a, b=2) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}",
        "{% for x in [3, 1, 2]|sort %}{{ loop.index }}{{ '%05d' % x }}{{ '{:>5}'.format(x) }}{% endfor %}",
        "{{ ('<a>'|e) ~ 'b' }}{{ 'ab'.upper() }}{{ 'a,b'.split(',') }}{{ 'abc'[::-1] }}{{ [1] * 3 }}{{ (1,) + (2,) }}",
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        mlxr_status status = MLXR_LIMIT;
        for (size_t n = 1; status == MLXR_LIMIT; n++) {
            mlxr_error error = {0};
            assert_true(n < 100000);
            status = render(sources[i], NULL, &(chat_limits){.memory_bytes_max = n}, NULL, &error);
            assert_true(status == MLXR_OK || strstr(error.text, "the values need more than the limit of"));
        }
        assert_int_equal(status, MLXR_OK);
    }
}

/* Values and calls that nest as deep as is allowed, and one level deeper: wherever the last level is spent. */
static void the_last_level_of_nesting_is_an_error(void **state)
{
    (void)state;
    for (int wrapped = 0; wrapped < 8; wrapped++) { /* a loop that calls itself for ever, begun at different depths */
        char *head = repeat("{% set y = [1] %}{% macro m() %}{% for x in y recursive %}{{ loop(y) }}{% endfor %}"
                            "{% endmacro %}{{ ",
                            "[", (size_t)wrapped, "m()");
        char *source = repeat(head, "]", (size_t)wrapped, " }}");
        expect_error(source, NULL, MLXR_LIMIT, "nested more than 1000 levels deep");
        free(source);
        free(head);
    }
    int n_ok = 0, n_deep = 0;
    for (int depth = 960; depth < 1010; depth++) { /* two lists that differ in their innermost item only */
        char source[400];
        mlxr_error error = {0};
        snprintf(source, sizeof source,
                 "{%% set n = namespace(x=1, y=2) %%}{%% for i in range(%d) %%}{%% set n.x = [n.x] %%}"
                 "{%% set n.y = [n.y] %%}{%% endfor %%}{{ n.x < n.y }}",
                 depth);
        mlxr_status status = render(source, NULL, NULL, NULL, &error);
        assert_true(status == MLXR_OK ? n_deep == 0 : status == MLXR_LIMIT && strstr(error.text, "levels deep"));
        n_ok += status == MLXR_OK;
        n_deep += status != MLXR_OK;
    }
    assert_true(n_ok > 0 && n_deep > 0);
}

/* Brackets of one kind inside brackets of another kind, so that each of them is the one too many. */
static void the_last_level_of_brackets_is_an_error(void **state)
{
    (void)state;
    static const char *const inside[] = {"(a", "[a", "a(", "a[", "[", "{1:", "f(a=", "f(*", "f(**", "not (", "-("};
    static const char *const heads[] = {"{{ a", "{{ not a", "{{ (a", "{{ not (a", "{{ -(a", "{{ [a", "{{ a(a"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        for (size_t k = 0; k < sizeof heads / sizeof *heads; k++) {
            char *source = repeat(heads[k], inside[i], 300, "");
            mlxr_error error = {0};
            assert_int_equal(render(source, NULL, NULL, NULL, &error), MLXR_FORMAT);
            assert_true(strstr(error.text, "levels") || strstr(error.text, "expected"));
            free(source);
        }
    }
}

/* Keys whose hashes share their low bits sit in one long chain of the dict's index: walking it is counted as work. */
static void keys_made_to_collide_use_up_fuel(void **state)
{
    (void)state;
    enum { KEYS = 64 };
    buffer source = buffer_make(1 << 16);
    buffer_append_text(&source, "{{ {");
    for (int n = 0, i = 0; n < KEYS; i++) {
        char name[16];
        int length = snprintf(name, sizeof name, "k%d", i);
        jtext text = {.bytes = name, .n = (size_t)length, .n_chars = JTEXT_UNCOUNTED};
        if ((jtext_hash(&text) & 0xfff) == 0x123) {
            buffer_printf(&source, "'%s': %d, ", name, n++);
        }
    }
    buffer_append_text(&source, "}|length }}");
    mlxr_status status = MLXR_LIMIT;
    uint64_t steps;
    for (steps = 1; status == MLXR_LIMIT; steps++) {
        mlxr_error error = {0};
        status = render(source.data, NULL, &(chat_limits){.steps_max = steps}, NULL, &error);
    }
    assert_int_equal(status, MLXR_OK);
    assert_true(steps > KEYS + KEYS * KEYS / 2 / 16); /* more than one step a key */
    buffer_close(&source);
}

/* ---- variables --------------------------------------------------------------------------------------------------- */

static void bytes_that_are_not_utf8_are_characters_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *source, *value, *text;
    } rows[] = {
        {"{% for c in s|reverse %}[{{ c }}]{% endfor %}", "\x80", "[\x80]"},
        {"{% for c in s|reverse %}[{{ c }}]{% endfor %}", "a\x80", "[\x80][a]"},
        {"{% for c in s|reverse %}[{{ c }}]{% endfor %}", "\x80\x80\x80\x80\x80", "[\x80][\x80][\x80][\x80][\x80]"},
        {"{% for c in s|reverse %}[{{ c }}]{% endfor %}", "\xe6\xbc", "[\xbc][\xe6]"},
        {"{{ s|last }}", "a\xc3\xa9", "\xc3\xa9"},
        {"{{ s|last }}", "a\x80", "\x80"},
        {"{{ s|last }}", "\x80", "\x80"},
        {"{{ s|last }}", "a\x80\x80\x80\x80\x80", "\x80"},
        {"{{ s|last }}", "a\xe6\xbc", "\xbc"},
        {"{{ s|map('upper')|reverse|join('.') }}", "\xc3\xa9\xc3", "\xc3.\xc3\x89"},
        {"{{ s.strip() }}", "\x80\x80 ", "\x80\x80"},
        {"{{ s.strip() }}", "\xe3\x80\x80\x80\xe3\x80\x80", "\x80"},
        {"{{ s.strip('\\u3000') }}", "\xe3\x80\x80x\x80\x80\x80\x80", "x\x80\x80\x80\x80"},
        {"{{ s.lower() }}", "\x80\xce\xa3", "\x80\xcf\x83"},
        {"{{ s.lower() }}", "a\x80\xce\xa3", "a\x80\xcf\x83"},
        {"{{ s.lower() }}", "\xbf\x80\x80\x80\x80\xce\xa3", "\xbf\x80\x80\x80\x80\xcf\x83"},
        {"{{ s[::-1] }}", "\xe6\xbc", "\xbc\xe6"},
        {"{{ s.title() }}", "a\xff\x62", "A\xff\x42"},
        {"{{ s|length }}{{ [s] }}", "\xff", "1['\xff']"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *v = json_object();
        json_object_set_new(v, "s", json_stringn_nocheck(rows[i].value, strlen(rows[i].value)));
        expect_text(rows[i].source, v, NULL, rows[i].text, strlen(rows[i].text));
        json_decref(v);
    }
}

static void dates_are_printed_as_c_prints_them(void **state)
{
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    chat_limits limits = {.now = 1754384523}; /* 5 August 2025, 09:02:03, a Tuesday */
    static const char *const rows[][2] = {
        {"{{ strftime_now('%d|%e|%-d|%-e|%H|%-H|%I|%-I|%k|%-k|%M|%-M|%-S|%-j|%-y') }}",
         "05| 5|5|5|09|9|09|9| 9|9|02|2|3|217|25"},
        {"{{ strftime_now('%-z|%-A|%-%|%f') }}", "|Tuesday|%|000000"},
        {"{{ strftime_now('%a %b %B %Y %p %y %j %u %w') }}", "Tue Aug August 2025 AM 25 217 2 2"},
        {"{{ strftime_now('100%') }}{{ strftime_now('') }}{{ strftime_now('%%-d') }}", "100%%-d"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_text(rows[i][0], NULL, &limits, rows[i][1], strlen(rows[i][1]));
    }
    expect_error("{{ strftime_now('%Q') }}", &limits, MLXR_FORMAT, "strftime_now() knows no '%Q'");
    expect_error("{{ strftime_now('%-Q') }}", &limits, MLXR_FORMAT, "strftime_now() knows no '%Q'");
    json_t *v = json_object();
    json_object_set_new(v, "s", json_stringn("%\0", 2));
    mlxr_error error = {0};
    assert_int_equal(render("{{ strftime_now(s) }}", v, &limits, NULL, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "strftime_now() knows no '%?'"));
    json_decref(v);
}

static void numbers_have_a_point_whatever_the_locale(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE", "fr_FR"};
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
        found = setlocale(LC_NUMERIC, names[i]) && localeconv()->decimal_point[0] == ',';
    }
    const char *text = "1.5|2.50|1e-05|0.3";
    expect_text("{{ 1.5 }}|{{ '%.2f' % 2.5 }}|{{ 0.00001 }}|{{ '0.3'|float }}", NULL, NULL, text, strlen(text));
    setlocale(LC_NUMERIC, "C");
    if (!found) {
        print_message("no locale with a decimal comma is installed\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_say_what_is_wrong),
        cmocka_unit_test(what_is_too_much_says_how_much),
        cmocka_unit_test(long_names_and_messages_are_cut),
        cmocka_unit_test(a_refused_tag_is_refused_without_an_error_too),
        cmocka_unit_test(memory_runs_out_cleanly_at_every_byte),
        cmocka_unit_test(the_last_level_of_nesting_is_an_error),
        cmocka_unit_test(the_last_level_of_brackets_is_an_error),
        cmocka_unit_test(keys_made_to_collide_use_up_fuel),
        cmocka_unit_test(bytes_that_are_not_utf8_are_characters_of_their_own),
        cmocka_unit_test(dates_are_printed_as_c_prints_them),
        cmocka_unit_test(numbers_have_a_point_whatever_the_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
