/*
 * Added tokens: the trie, and what surrounds a match.
 * Owner: the tokenizer's region. Lifetime: the tokenizer.
 */
#include "text/tokenizer_added.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

mlxr_status added_set_make(added_set *set, region *memory, uint64_t n_bytes, mlxr_error *error)
{
    *set = (added_set){0};
    if (n_bytes == 0) {
        return MLXR_OK;
    }
    if (n_bytes >= UINT32_MAX) {
        return error_set(error, MLXR_LIMIT, "added tokens: %llu bytes of text", (unsigned long long)n_bytes);
    }
    set->nodes = region_array(memory, (size_t)n_bytes + 1, sizeof *set->nodes);
    if (!set->nodes) {
        return error_nomem(error, "added tokens", ((size_t)n_bytes + 1) * sizeof *set->nodes);
    }
    set->cap = (uint32_t)n_bytes + 1;
    set->n = 1; /* node 0 stands for "none" */
    return MLXR_OK;
}

/* The child of a node with this byte; the root is its table of first bytes. */
static inline uint32_t child_of(const added_set *set, uint32_t node, uint8_t byte)
{
    if (node == 0) {
        return set->first[byte];
    }
    uint32_t child = set->nodes[node].child;
    while (child && set->nodes[child].byte != byte) {
        child = set->nodes[child].sibling;
    }
    return child;
}

mlxr_status added_set_add(added_set *set, token_text text, int32_t id, unsigned flags, mlxr_error *error)
{
    if (text.n > ADDED_TEXT_MAX) {
        return error_set(error, MLXR_LIMIT, "added token %d has %zu bytes; at most %u", id, text.n, ADDED_TEXT_MAX);
    }
    uint32_t node = 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        uint32_t child = child_of(set, node, byte);
        if (!child) {
            if (set->n == set->cap) {
                return error_set(error, MLXR_ARG, "added token %d: the set was made for fewer bytes", id);
            }
            child = set->n++;
            set->nodes[child] = (added_node){.id = -1, .byte = byte};
            if (node == 0) {
                set->first[byte] = child;
            } else {
                set->nodes[child].sibling = set->nodes[node].child;
                set->nodes[node].child = child;
            }
        }
        node = child;
    }
    if (node && set->nodes[node].id < 0) {
        set->nodes[node].id = id;
        set->nodes[node].flags = (uint8_t)flags;
    }
    return MLXR_OK;
}

int32_t added_set_id(const added_set *set, token_text text)
{
    uint32_t node = 0;
    for (size_t i = 0; i < text.n; i++) {
        node = child_of(set, node, (uint8_t)text.data[i]);
        if (!node) {
            return -1;
        }
    }
    return node ? set->nodes[node].id : -1;
}

/* The longest text of the set at the start of text[0..n), n > 0: its length and node, 0 if none. */
static inline size_t longest_at(const added_set *set, const char *text, size_t n, uint32_t *found)
{
    uint32_t node = set->first[(uint8_t)text[0]];
    size_t length = 0;
    *found = 0;
    for (size_t i = 1; node; i++) {
        if (set->nodes[node].id >= 0) {
            *found = node;
            length = i;
        }
        if (i == n) {
            break;
        }
        node = child_of(set, node, (uint8_t)text[i]);
    }
    return length;
}

size_t added_set_prefix(const added_set *set, const char *text, size_t n)
{
    uint32_t found;
    return set->nodes && n ? longest_at(set, text, n, &found) : 0;
}

size_t added_set_special(const added_set *set, const char *text, size_t n)
{
    uint32_t node = set->nodes && n ? set->first[(uint8_t)text[0]] : 0;
    size_t length = 0;
    for (size_t i = 1; node; i++) {
        if (set->nodes[node].id >= 0 && (set->nodes[node].flags & ADDED_SPECIAL)) {
            length = i;
        }
        if (i == n) {
            return set->nodes[node].child ? n : length;
        }
        node = child_of(set, node, (uint8_t)text[i]);
    }
    return length;
}

/* The last character that ends at `end`, and where it begins. */
static size_t read_back(const char *text, size_t begin, size_t end, uint32_t *code)
{
    for (size_t length = 1; length <= 4 && length <= end - begin; length++) {
        if (utf8_decode(text + end - length, length, code) == length) {
            return end - length;
        }
    }
    *code = UNICODE_INVALID;
    return end - 1;
}

static bool touches_word(const char *text, size_t begin, size_t end, size_t n)
{
    uint32_t code;
    if (begin > 0) {
        read_back(text, 0, begin, &code);
        if (unicode_is_word(code)) {
            return true;
        }
    }
    if (end < n) {
        unicode_read(text + end, n - end, &code);
        return unicode_is_word(code);
    }
    return false;
}

added_match added_set_find(const added_set *set, const char *text, size_t at, size_t taken, size_t n, bool special)
{
    added_match none = {.id = -1, .begin = n, .end = n, .next = n};
    if (!set->nodes) {
        return none;
    }
    for (size_t begin = at; begin < n;) {
        uint32_t found;
        size_t end = begin + longest_at(set, text + begin, n - begin, &found);
        if (!found) {
            begin++;
            continue;
        }
        unsigned flags = set->nodes[found].flags;
        if (((flags & ADDED_SPECIAL) && !special) ||
            ((flags & ADDED_SINGLE_WORD) && touches_word(text, begin, end, n))) {
            begin = end;
            continue;
        }
        added_match match = {.id = set->nodes[found].id,
                             .begin = begin,
                             .end = end,
                             .next = end,
                             .text_begin = begin,
                             .text_end = end,
                             .special = flags & ADDED_SPECIAL};
        uint32_t code;
        if (flags & ADDED_LSTRIP) {
            while (match.begin > taken) {
                size_t before = read_back(text, taken, match.begin, &code);
                if (!unicode_is_space(code)) {
                    break;
                }
                match.begin = before;
            }
        }
        if (flags & ADDED_RSTRIP) {
            while (match.end < n) {
                size_t length = unicode_read(text + match.end, n - match.end, &code);
                if (!unicode_is_space(code)) {
                    break;
                }
                match.end += length;
            }
        }
        return match;
    }
    return none;
}
