/*
 * Bodies of requests that cannot be read: what is said of them.
 * Owner: each test. Lifetime: the test.
 */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

#include "server/request_fields.h"

/* No token is longer than the 16 bytes that jansson begins with: it cannot stand a buffer that does not grow. */
static const char body[] =
    "{\"prompt\": \"a\\u00e9b\", \"stop\": [\"x\", \"yy\"], \"n\": 1, \"options\": {\"seed\": 2.5}}";

static mlxr_error error;

static long left; /* allocations of jansson's that still succeed */

static void *allocate(size_t n)
{
    return left-- > 0 ? malloc(n) : NULL;
}

static mlxr_status read_with(long n_allocations)
{
    left = n_allocations;
    json_set_alloc_funcs(allocate, free);
    json_t *made = request_body_read(body, strlen(body), &error);
    json_decref(made);
    json_set_alloc_funcs(malloc, free);
    return made ? MLXR_OK : error.status;
}

/* Where it is a token's own text that does not fit, jansson itself calls the token invalid, and says which. */
static void one_that_does_not_fit_into_memory_is_not_called_wrong(void **state)
{
    (void)state;
    long n = 0, n_told = 0;
    for (; read_with(n) != MLXR_OK; n++) {
        bool told = error.status == MLXR_NOMEM;
        n_told += told;
        if (!told && !strstr(error.text, " near '\"")) {
            fail_msg("%ld allocations: %d, %s", n, error.status, error.text);
        }
        assert_true(told || n > 2); /* nothing was read yet */
        assert_true(!told || strcmp(error.text, "out of memory") == 0);
    }
    assert_true(n >= 20 && n_told > n / 2);
}

static void one_that_is_no_json_is_told_where(void **state)
{
    static const struct {
        const char *body, *says;
    } wrong[] = {{"", "line 1, column 0"},
                 {"{\"a\": 1,\n \"b\" 2}", "line 2, column 6"},
                 {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
                 {"[1]", "must be a JSON object"}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(request_body_read(wrong[i].body, strlen(wrong[i].body), &error));
        assert_int_equal(error.status, MLXR_ARG);
        if (!strstr(error.text, wrong[i].says)) {
            fail_msg("'%s': %s", wrong[i].body, error.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_does_not_fit_into_memory_is_not_called_wrong),
        cmocka_unit_test(one_that_is_no_json_is_told_where),
    };
    return cmocka_run_group_tests_name("bodies of requests", tests, NULL, NULL);
}
