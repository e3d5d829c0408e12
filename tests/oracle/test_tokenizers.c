/*
 * Token ids of the real models' vocabularies against the reference's, on 1,500 frozen strings each.
 * Owner: the test program. Lifetime: the process.
 *
 *   oracle_test_tokenizers MODEL     SmolLM2-135M-Instruct.Q4_1 or gemma-3-270m-Q4_K_M
 */
#include "support/test.h"

#include "graph/vocabulary.h"
#include "support/frozen_ids.inc"
#include "support/models.h"

static const char *model_name;

static tokenizer *open_real(void)
{
    char path[1024];
    if (!test_model_path(model_name, path, sizeof path)) {
        skip();
    }
    mlxr_error error = {0};
    model_file *model;
    tokenizer *t = NULL;
    assert_ok(model_file_open(&model, path, &error), &error);
    assert_ok(vocabulary_open(&t, model, &error), &error);
    model_file_close(&model);
    return t;
}

static void real_vocabularies_give_the_ids_of_the_reference(void **state)
{
    (void)state;
    tokenizer *t = open_real();
    if (strncmp(model_name, "SmolLM2", 7) == 0) {
        check_frozen_ids(t, "smollm2", 0);
        check_frozen_ids(t, "smollm2-special", MLXR_TOKENIZE_PARSE_SPECIAL);
    } else {
        check_frozen_ids(t, "gemma3", 0);
    }
    tokenizer_close(&t);
}

int main(int argc, char **argv)
{
    model_name = argc > 1 ? argv[1] : "SmolLM2-135M-Instruct.Q4_1";
    const struct CMUnitTest tests[] = {cmocka_unit_test(real_vocabularies_give_the_ids_of_the_reference)};
    return cmocka_run_group_tests_name("tokenizers of the real models", tests, NULL, NULL);
}
