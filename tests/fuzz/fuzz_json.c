/*
 * Fuzz target: JSON from outside. What is accepted keeps its limits and survives being written and read again.
 * Owner: the fuzzer. Lifetime: the process.
 */
/* links: text */
#include <stdlib.h>
#include <string.h>

#include "text/json_text.h"

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static unsigned depth(const json_t *json)
{
    unsigned deepest = 0;
    size_t i;
    const char *key;
    json_t *value;
    json_array_foreach((json_t *)json, i, value)
    {
        unsigned d = depth(value);
        deepest = d > deepest ? d : deepest;
    }
    json_object_foreach((json_t *)json, key, value)
    {
        unsigned d = depth(value);
        deepest = d > deepest ? d : deepest;
    }
    return deepest + (json_is_array(json) || json_is_object(json));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    mlxr_error error = {0};
    json_t *json = NULL, *again = NULL;
    mlxr_status status = json_text_parse(&json, (const char *)data, n, 1 << 20, &error);
    require((status == MLXR_OK) == (json != NULL));
    if (status != MLXR_OK) {
        require((status == MLXR_FORMAT || status == MLXR_LIMIT) && error.status == status && error.text[0]);
        return 0;
    }
    require(depth(json) <= JSON_TEXT_DEPTH_MAX);
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) { /* NaN and infinity cannot be written, but cannot be read either */
        require(json_text_parse(&again, text, strlen(text), 0, &error) == MLXR_OK && json_equal(json, again));
        json_decref(again);
    }
    free(text);
    json_decref(json);
    return 0;
}
