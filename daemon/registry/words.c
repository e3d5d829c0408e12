/*
 * Comparing words, and listing them.
 * Owner: none. Lifetime: the call.
 */
#include "registry/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WORD_MAX 63u

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Damerau-Levenshtein, optimal string alignment. */
size_t words_distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t n_a = least(strlen(a), WORD_MAX), n_b = least(strlen(b), WORD_MAX);
    for (size_t j = 0; j <= n_b; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            row[j] = least(least(row[j - 1], above[j]) + 1, above[j - 1] + !same(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) {
                row[j] = least(row[j], second[j - 2] + 1);
            }
        }
    }
    return rows[n_a % 3][n_b];
}

bool words_contain(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; *text; text++) {
        if (strncasecmp(text, part, n) == 0) {
            return true;
        }
    }
    return n == 0;
}

bool text_list_add(text_list *list, const char *text)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 8;
        const char **grown = realloc(list->items, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        list->items = grown;
        list->cap = cap;
    }
    list->items[list->n++] = text;
    return true;
}

void text_trim_cut(char *text)
{
    size_t n = strlen(text), back = 0;
    while (back < 3 && back < n && ((unsigned char)text[n - 1 - back] & 0xc0) == 0x80) {
        back++;
    }
    if (back >= n) {
        return;
    }
    unsigned char first = (unsigned char)text[n - 1 - back];
    size_t need = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
    if (need > back) {
        text[n - 1 - back] = 0;
    }
}
