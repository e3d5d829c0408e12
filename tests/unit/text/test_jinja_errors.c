/*
 * An error anywhere in a template stops it, wherever it happens: when it is parsed, bound to names, or run.
 * Owner: the test program. Lifetime: the process.
 */
#include "jinja_contexts.h"
#include "support/test.h"
#include "text/chat_template.h"

/* What comes of a template, and in *opened whether it compiled. */
static mlxr_status render(const char *source, const chat_limits *limits, bool *opened, mlxr_error *error)
{
    chat_template *t = NULL;
    buffer out = buffer_make(1 << 20);
    mlxr_status status = chat_template_open(&t, source, strlen(source), error);
    *opened = status == MLXR_OK;
    if (status == MLXR_OK) {
        status = chat_template_render(t, NULL, limits, &out, error);
        chat_template_close(&t);
    }
    assert_true(status == MLXR_OK || out.n == 0);
    assert_true(status == MLXR_OK || (error->status == status && error->text[0]));
    buffer_close(&out);
    return status;
}

static void fail_everywhere(const char *hole, bool when_opened, const char *part)
{
    for (size_t i = 0; i < JINJA_CONTEXTS; i++) {
        mlxr_error error = {0};
        bool opened;
        char *source = jinja_fill(jinja_contexts[i], hole);
        assert_non_null(source);
        mlxr_status status = render(source, NULL, &opened, &error);
        if (status != MLXR_FORMAT || !strstr(error.text, part) || (!when_opened && !opened)) {
            fail_msg("%s: status %d: %s", source, (int)status, error.text);
        }
        free(source);
    }
}

static void a_syntax_error_is_found_everywhere(void **state)
{
    (void)state;
    fail_everywhere("(1 2)", true, "expected");
    fail_everywhere("'\\x'", true, "hexadecimal");
    fail_everywhere("@", true, "means nothing");
}

static void an_unknown_filter_or_test_is_found_everywhere(void **state)
{
    (void)state;
    fail_everywhere("(1|nothing)", true, "there is no filter 'nothing'");
    fail_everywhere("(1 is nothing)", true, "there is no test 'nothing'");
    fail_everywhere("([1]|map('nothing')|list)", false, "there is no filter 'nothing'");
    fail_everywhere("((1|default(a_name_that_is_longer_than_what_an_error_message_is_going_to_show_of_it.x, true))"
                    ".a_name_that_is_longer_than_what_an_error_message_is_going_to_show_of_it())",
                    false, "a_name_that_is_longer_than");
}

static void an_undefined_variable_is_found_everywhere(void **state)
{
    (void)state;
    fail_everywhere("missing.x", false, "'missing' is undefined");
    fail_everywhere("(1 if missing.x)", false, "'missing' is undefined");
}

/* Deep trees are refused at whichever node is one too many. */
static void a_tree_that_is_too_deep_is_refused_everywhere(void **state)
{
    (void)state;
    static char chain[4096];
    for (int n = 488; n <= 500; n++) {
        strcpy(chain, "(1");
        for (int i = 1; i < n; i++) {
            strcat(chain, " + 1");
        }
        strcat(chain, ")");
        for (size_t i = 0; i < JINJA_CONTEXTS; i++) {
            mlxr_error error = {0};
            bool opened;
            char *source = jinja_fill(jinja_contexts[i], chain);
            mlxr_status status = render(source, NULL, &opened, &error);
            assert_true(opened ? n < 500 : status == MLXR_FORMAT && strstr(error.text, "levels"));
            free(source);
        }
    }
}

/* A stack of macro calls that is nearly too high, with each context on top of it. */
static void running_too_deep_is_stopped_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < JINJA_CONTEXTS; i++) {
        char *top = jinja_fill(jinja_contexts[i], "[[1], [1]]"), source[2048];
        int n_limits = 0;
        for (int depth = 150; depth < 350; depth++) {
            mlxr_error error = {0};
            bool opened;
            snprintf(
                source, sizeof source,
                "{%% macro r_(n) %%}{%% if n %%}{{ r_(n - 1) }}{%% else %%}%s{%% endif %%}{%% endmacro %%}{{ r_(%d) }}",
                top, depth);
            mlxr_status status = render(source, NULL, &opened, &error);
            assert_true(status == MLXR_OK || status == MLXR_FORMAT || status == MLXR_LIMIT);
            n_limits += status == MLXR_LIMIT;
            if (n_limits == 5) { /* each macro call is several levels: five reach the lowest of the context's */
                break;
            }
        }
        assert_int_equal(n_limits, 5);
        free(top);
    }
}

static void running_out_of_steps_is_stopped_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < JINJA_CONTEXTS; i++) {
        char *source = jinja_fill(jinja_contexts[i], "([1]|map('string')|list)");
        mlxr_status status = MLXR_LIMIT;
        for (uint64_t steps = 1; steps < 500 && status == MLXR_LIMIT; steps++) {
            mlxr_error error = {0};
            bool opened;
            status = render(source, &(chat_limits){.steps_max = steps}, &opened, &error);
            assert_true(opened);
        }
        assert_true(status == MLXR_OK || status == MLXR_FORMAT);
        free(source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_syntax_error_is_found_everywhere),
        cmocka_unit_test(an_unknown_filter_or_test_is_found_everywhere),
        cmocka_unit_test(an_undefined_variable_is_found_everywhere),
        cmocka_unit_test(a_tree_that_is_too_deep_is_refused_everywhere),
        cmocka_unit_test(running_too_deep_is_stopped_everywhere),
        cmocka_unit_test(running_out_of_steps_is_stopped_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
