/*
 * Modelfiles that are read while memory runs out: that is told as what it is, not as a mistake in them.
 * Owner: the test program. Lifetime: the process.
 */
#include "registry/registry.h"
#include "support/fail_alloc.h"
#include "support/test.h"

static void want_of_memory_is_no_mistake_of_the_modelfile(void **unused)
{
    (void)unused;
    static const char text[] = "FROM x.gguf\nPARAMETER temperature 0.25\nPARAMETER stop \"a b\"\nSYSTEM \"\"\"two\n"
                               "lines\"\"\"\nMESSAGE user hi\nLICENSE MIT\nTEMPLATE {{ x }}\n";
    registry_recipe r;
    mlxr_error error;
    long n = 1;
    for (;; n++) {
        fail_alloc_at(n);
        mlxr_status status = registry_modelfile_parse(&r, text, strlen(text), &error);
        if (!fail_alloc_stop()) {
            assert_ok(status, &error);
            registry_recipe_close(&r);
            break;
        }
        assert_int_equal(status, MLXR_NOMEM);
        assert_int_equal(error.status, MLXR_NOMEM);
        assert_non_null(strstr(error.text, "memory"));
    }
    assert_true(n > 7); /* each text is one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(want_of_memory_is_no_mistake_of_the_modelfile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
