/*
 * Fuzz target: UTF-8 decoding, and error texts made from hostile bytes.
 * Owner: the fuzzer. Lifetime: the process.
 */
/* links: base */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    for (size_t i = 0; i < n;) {
        uint32_t code = UINT32_MAX;
        char again[4];
        size_t used = utf8_decode(text + i, n - i, &code);
        if (used) {
            require(used <= 4 && used <= n - i);
            require(utf8_encode(code, again) == used && memcmp(again, text + i, used) == 0);
        }
        i += used ? used : 1;
    }
    size_t tail = utf8_incomplete_tail(text, n);
    require(tail <= 3 && tail <= n);

    mlxr_error error = {0};
    error_set(&error, MLXR_FORMAT, "%.*s", (int)(n < 4096 ? n : 4096), text); /* stops at a NUL */
    error_prefix(&error, MLXR_FORMAT, "%.*s", (int)(n < 100 ? n : 100), text);
    size_t length = strlen(error.text);
    require(length < sizeof error.text);
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        size_t used = utf8_decode(error.text + i, length - i, &code);
        require(used && code >= 0x20 && code != 0x7f && (code < 0x80 || code >= 0xa0));
        i += used;
    }
    return 0;
}
