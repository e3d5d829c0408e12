/*
 * Fuzz target: compiling and rendering chat templates. The input is a template, and behind a NUL byte, if there is one,
 * the JSON of its variables.
 * Owner: the fuzzer. Lifetime: the process.
 */
/* links: text */
#include <stdlib.h>
#include <string.h>

#include "text/chat_template.h"
#include "text/json_text.h"

static const char usual[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":\"H\\u00e4?\\n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"function\":{\"name\":\"f\","
    "\"arguments\":{\"a\":[1,2.5,true,null]}}}]},{\"role\":\"tool\",\"content\":\"3\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}],"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_generation_prompt\":true,\"s\":\"text <&> "
    "'\\u6f22'\",\"n\":-3}";

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    mlxr_error error = {0};
    chat_template *t = NULL;
    json_t *variables = NULL;
    const uint8_t *nul = n ? memchr(data, 0, n) : NULL;
    size_t n_source = nul ? (size_t)(nul - data) : n;
    mlxr_status status = chat_template_open(&t, (const char *)data, n_source, &error);
    require((status == MLXR_OK) == (t != NULL));
    if (status != MLXR_OK) {
        require(error.status == status && error.text[0]);
        return 0;
    }
    if (nul) {
        json_text_parse(&variables, (const char *)nul + 1, n - n_source - 1, 0, &error);
    }
    if (!variables) {
        require(json_text_parse(&variables, usual, strlen(usual), 0, &error) == MLXR_OK);
    }
    chat_limits limits = {
        .steps_max = 20000, .output_bytes_max = 1 << 16, .memory_bytes_max = 4 << 20, .now = 1753700000};
    buffer out = buffer_make(1 << 20);
    status = chat_template_render(t, json_is_object(variables) ? variables : NULL, &limits, &out, &error);
    require(status == MLXR_OK ? out.n <= (1 << 16) : out.n == 0 && error.status == status && error.text[0]);
    buffer_close(&out);
    json_decref(variables);
    chat_template_close(&t);
    return 0;
}
