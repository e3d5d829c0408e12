/*
 * What a text's tokens are meant to be.
 * Owner: none. Lifetime: the call.
 */
#ifndef MLXR_TEST_TOKEN_IDS_H
#define MLXR_TEST_TOKEN_IDS_H

#include "support/test.h"
#include "text/tokenizer.h"

/* Number of ids, and the ids. */
#define IDS(...)                                                                                                       \
    sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (int32_t[])                                                    \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

/* Fails, and prints what they are, unless the text's tokens are ids[n]. */
static inline void expect_token_ids(const tokenizer *t, const char *text, unsigned flags, size_t n, const int32_t *ids)
{
    mlxr_error error;
    token_list list = {0};
    assert_ok(tokenizer_encode(t, text, strlen(text), flags, &list, &error), &error);
    if (list.n != n || (n && memcmp(list.ids, ids, n * sizeof *ids) != 0)) {
        for (size_t i = 0; i < list.n; i++) {
            print_error("%d ", list.ids[i]);
        }
        fail_msg("\"%s\" gave these ids", text);
    }
    token_list_close(&list);
}

#endif
