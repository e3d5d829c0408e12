/*
 * Prompts that find no memory: the daemon lacks something, not the client.
 * Owner: the test program. Lifetime: the process.
 */
#include <stdlib.h>
#include <string.h>

#include "mlxr.h"
#include "server/chat_prompt.h"
#include "support/fail_alloc.h"
#include "support/test.h"
#include "support/tiny_model.h"

static const char *const template_text = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";

/* Makes a prompt with each allocation failing in turn; the pieces of a message are cached nowhere. */
static void check(const mlxr_model *model, token_store *store, json_t *messages, const char *prompt)
{
    const output_format format = {.template_has_tools = true, .template_has_system = true};
    const chat_model m = {.model = model, .template_text = template_text, .format = &format, .store = store};
    long n = 1, n_failed = 0;
    for (;; n++) {
        chat_request r = {.messages = messages, .prompt = prompt, .n_prompt = prompt ? strlen(prompt) : 0};
        chat_prompt p = {0};
        request_fields_open(&r.f, NULL);
        fail_alloc_at(n);
        bool made = chat_prompt_make(&p, &m, &r);
        bool failed = fail_alloc_stop();
        if (!made && r.f.error.status != MLXR_NOMEM) {
            fail_msg("%s, allocation %ld: status %d: %s", prompt ? "a text" : "messages", n, r.f.error.status,
                     r.f.error.text);
        }
        n_failed += !made;
        chat_prompt_close(&p);
        request_fields_close(&r.f);
        if (!failed) {
            assert_true(made);
            break;
        }
    }
    assert_true(n_failed > 3);
}

static void a_prompt_that_finds_no_memory_is_not_called_wrong(void **state)
{
    (void)state;
    char path[512];
    mlxr_error error;
    mlxr_engine *engine = NULL;
    mlxr_model *model = NULL;
    token_store *store = NULL;
    snprintf(path, sizeof path, "%s/llama.gguf", test_temp_dir());
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);
    const mlxr_engine_options options = {.backend = "cpu-scalar", .n_threads = 1, .kv_bytes = 1 << 20};
    assert_ok(mlxr_engine_open(&engine, &options, &error), &error);
    assert_ok(mlxr_model_load(&model, engine, path, NULL, &error), &error);
    assert_ok(token_store_open(&store, 1 << 20, &error), &error);
    json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", "the quick brown fox", "role",
                                 "assistant", "content", "jumps over it");
    check(model, store, messages, NULL);
    check(model, store, NULL, "the quick brown fox jumps over it 123 times");
    json_decref(messages);
    token_store_close(&store);
    mlxr_model_unref(&model);
    mlxr_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_that_finds_no_memory_is_not_called_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
