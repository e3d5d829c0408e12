/*
 * Grammars over a real vocabulary: what a mask costs, and sentences for other programs to check.
 * Owner: the test program. Lifetime: the process.
 *
 *   oracle_test_grammars MODEL                     every schema of tests/data/grammars: cost of a token
 *   oracle_test_grammars MODEL SCHEMA N SEED       prints N sentences, a JSON line each: {"text":…, "ids":[…]}
 *   oracle_test_grammars MODEL SCHEMA masks        reads token ids, a JSON array a line; prints a line of hexadecimal
 *                                                  digits for the mask before the first token and after each
 *
 * Sentences are random walks: any allowed token, but after a while one that closes something, so that they end.
 */
#include <dirent.h>
#include <jansson.h>
#include <time.h>

#include "graph/vocabulary.h"
#include "runtime/grammar/constraint.h"
#include "support/models.h"
#include "support/test.h"

enum { TOKENS_MAX = 600, CLOSE_AFTER = 60, ANSWERS = 50 };
#define TOKEN_US_MAX 100.0

static const char *model_name;
static const char *const *arguments;

typedef struct vocabulary_setup {
    tokenizer *t;
    token_trie *trie;
    uint32_t n_vocab;
} vocabulary_setup;

static void open_real(vocabulary_setup *v)
{
    mlxr_error error = {0};
    model_file *file;
    char path[1024];
    if (!test_model_path(model_name, path, sizeof path)) {
        skip();
    }
    assert_ok(model_file_open(&file, path, &error), &error);
    assert_ok(vocabulary_open(&v->t, file, &error), &error);
    model_file_close(&file);
    v->n_vocab = tokenizer_size(v->t);
    assert_ok(token_trie_open(&v->trie, v->t, v->n_vocab, &error), &error);
}

static void close_real(vocabulary_setup *v)
{
    token_trie_close(&v->trie);
    tokenizer_close(&v->t);
}

static grammar *open_schema(const vocabulary_setup *v, const char *path)
{
    mlxr_error error = {0};
    static char text[1 << 16];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    grammar *g = NULL;
    assert_ok(grammar_open_schema(&g, text, n, v->trie, &error), &error);
    return g;
}

/* CPU time of this thread: other programs do not count. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static bool closes(const vocabulary_setup *v, int32_t token)
{
    token_text text = tokenizer_piece(v->t, token);
    return tokenizer_is_end(v->t, token) || (text.n && strchr("\"}],:0", text.data[0]));
}

/* A random allowed token; `closing`: one that closes something, if there is any. −1: none is allowed. */
static int32_t choose(const vocabulary_setup *v, const uint32_t *mask, uint64_t *seed, bool closing)
{
    int32_t chosen = -1;
    uint64_t n_seen = 0;
    for (int pass = closing ? 0 : 1; pass < 2 && chosen < 0; pass++) {
        for (uint32_t word = 0; word < (v->n_vocab + 31) / 32; word++) {
            for (uint32_t bits = mask[word]; bits; bits &= bits - 1) {
                int32_t token = (int32_t)(word * 32 + (uint32_t)__builtin_ctz(bits));
                if ((pass || closes(v, token)) && test_random(seed) % ++n_seen == 0) {
                    chosen = token;
                }
            }
        }
    }
    return chosen;
}

typedef struct walk {
    int32_t ids[TOKENS_MAX];
    size_t n;
    bool ended;
    double us; /* of masks and transitions */
} walk;

static void generate(const vocabulary_setup *v, grammar *g, uint64_t *seed, walk *w)
{
    mlxr_error error = {0};
    constraint c = {0};
    assert_ok(constraint_set(&c, g, 0, v->n_vocab, &error), &error);
    w->n = 0;
    w->ended = false;
    w->us = 0;
    while (w->n < TOKENS_MAX && !w->ended) {
        const uint32_t *mask;
        double begin = cpu_us();
        assert_ok(constraint_mask(&c, &mask, &error), &error);
        w->us += cpu_us() - begin;
        int32_t token = choose(v, mask, seed, w->n > CLOSE_AFTER);
        assert_true(token >= 0); /* a grammar never leads into a dead end */
        w->ended = tokenizer_is_end(v->t, token);
        w->ids[w->n++] = token;
        begin = cpu_us();
        assert_ok(constraint_accept(&c, token, &error), &error);
        w->us += cpu_us() - begin;
    }
    constraint_clear(&c);
}

static void a_token_costs_less_than_100_us(void **state)
{
    (void)state;
    vocabulary_setup v;
    open_real(&v);
    DIR *folder = opendir("tests/data/grammars");
    assert_non_null(folder);
    unsigned n_schemas = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[300];
        if (!strstr(entry->d_name, ".json")) {
            continue;
        }
        snprintf(path, sizeof path, "tests/data/grammars/%s", entry->d_name);
        uint64_t seed = 7;
        double begin = cpu_us(), first = 0, all = 0;
        grammar *g = open_schema(&v, path);
        double compile = cpu_us() - begin;
        size_t n_tokens = 0, n_first = 0, n_ended = 0;
        for (int i = 0; i < ANSWERS; i++) {
            static walk w;
            generate(&v, g, &seed, &w);
            all += w.us;
            n_tokens += w.n;
            n_ended += w.ended;
            first = i ? first : w.us;
            n_first = i ? n_first : w.n;
        }
        grammar_stats stats = grammar_stats_get(g);
        printf(
            "%-18s compiled in %6.0f us; first answer %6.1f us a token, %d answers %5.1f (%zu tokens, %zu ended, %llu "
            "masks made)\n",
            entry->d_name, compile, first / (double)n_first, ANSWERS, all / (double)n_tokens, n_tokens, n_ended,
            (unsigned long long)stats.n_walks);
        assert_true(all / (double)n_tokens < TOKEN_US_MAX);
        grammar_unref(&g);
        n_schemas++;
    }
    closedir(folder);
    assert_true(n_schemas >= 10);
    close_real(&v);
}

static void prints_sentences(void **state)
{
    (void)state;
    vocabulary_setup v;
    open_real(&v);
    grammar *g = open_schema(&v, arguments[0]);
    uint64_t seed = strtoull(arguments[2], NULL, 10);
    for (unsigned long left = strtoul(arguments[1], NULL, 10); left;) {
        static walk w;
        generate(&v, g, &seed, &w);
        if (!w.ended) {
            continue;
        }
        static char text[TOKENS_MAX * 64];
        size_t n = 0;
        json_t *ids = json_array();
        for (size_t i = 0; i + 1 < w.n; i++) {
            token_text piece = tokenizer_piece(v.t, w.ids[i]);
            assert_true(n + piece.n < sizeof text);
            memcpy(text + n, piece.data, piece.n);
            n += piece.n;
            json_array_append_new(ids, json_integer(w.ids[i]));
        }
        json_t *line = json_pack("{s:s%, s:o}", "text", text, n, "ids", ids);
        assert_non_null(line); /* the text is UTF-8 */
        char *dumped = json_dumps(line, JSON_COMPACT);
        puts(dumped);
        free(dumped);
        json_decref(line);
        left--;
    }
    grammar_unref(&g);
    close_real(&v);
}

/* ---- masks that tools/oracle/check_masks.py had from llguidance ------------------------------------------------- */

static grammar *open_case(const vocabulary_setup *v, const char *name)
{
    mlxr_error error = {0};
    grammar *g = NULL;
    size_t i;
    json_t *cases = json_load_file("tests/oracle/masks.json", 0, NULL), *at;
    assert_true(json_is_array(cases));
    json_array_foreach(cases, i, at)
    {
        if (strcmp(json_string_value(json_object_get(at, "name")), name) == 0) {
            char *text = json_dumps(json_object_get(at, "schema"), JSON_COMPACT);
            assert_ok(grammar_open_schema(&g, text, strlen(text), v->trie, &error), &error);
            free(text);
        }
    }
    json_decref(cases);
    assert_non_null(g);
    return g;
}

/* MLXR allows white space between JSON's tokens, llguidance was told not to: tokens with any are left out. */
static bool has_space(token_text text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (memchr(" \t\r\n", text.data[i], 4)) {
            return true;
        }
    }
    return false;
}

/* The mask as masks.txt has it: [number, FNV-1a of the ids, may it end]. */
static void check_mask(const vocabulary_setup *v, constraint *c, const json_t *expected, const char *name, size_t place)
{
    mlxr_error error = {0};
    const uint32_t *mask;
    uint64_t hash = 0xcbf29ce484222325u;
    json_int_t n = 0;
    bool may_end = false;
    assert_ok(constraint_mask(c, &mask, &error), &error);
    for (uint32_t id = 0; id < v->n_vocab; id++) {
        bool allowed = mask[id / 32] >> id % 32 & 1, end = tokenizer_is_end(v->t, (int32_t)id);
        may_end = may_end || (allowed && end);
        if (allowed && !end && !has_space(tokenizer_piece(v->t, (int32_t)id))) {
            for (uint32_t byte = 0; byte < 4; byte++) {
                hash = (hash ^ (id >> 8 * byte & 255)) * 0x100000001b3u;
            }
            n++;
        }
    }
    uint64_t expected_hash = strtoull(json_string_value(json_array_get(expected, 1)), NULL, 16);
    if (n != json_integer_value(json_array_get(expected, 0)) || hash != expected_hash ||
        may_end != json_is_true(json_array_get(expected, 2))) {
        fail_msg("%s, place %zu: %d tokens%s allowed, llguidance allows %d%s", name, place, (int)n,
                 may_end ? " and an end" : "", (int)json_integer_value(json_array_get(expected, 0)),
                 json_is_true(json_array_get(expected, 2)) ? " and an end" : "");
    }
}

static size_t check_sentence(const vocabulary_setup *v, const json_t *sentence)
{
    mlxr_error error = {0};
    constraint c = {0};
    const char *name = json_string_value(json_object_get(sentence, "schema"));
    const json_t *ids = json_object_get(sentence, "ids"), *masks = json_object_get(sentence, "masks");
    grammar *g = open_case(v, name);
    size_t n = json_array_size(masks);
    assert_int_equal(n, json_array_size(ids) + 1);
    assert_ok(constraint_set(&c, g, 0, v->n_vocab, &error), &error);
    for (size_t i = 0; i < n; i++) {
        check_mask(v, &c, json_array_get(masks, i), name, i);
        if (i + 1 < n) {
            assert_ok(constraint_accept(&c, (int32_t)json_integer_value(json_array_get(ids, i)), &error), &error);
        }
    }
    constraint_clear(&c);
    grammar_unref(&g);
    return n;
}

static void masks_equal_another_engines(void **state)
{
    (void)state;
    static char line[1 << 16];
    vocabulary_setup v;
    size_t n_places = 0, n_sentences = 0;
    open_real(&v);
    FILE *file = fopen("tests/oracle/reference/masks.txt", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        json_t *sentence = json_loads(line, 0, NULL);
        assert_non_null(sentence);
        n_places += check_sentence(&v, sentence);
        n_sentences++;
        json_decref(sentence);
    }
    fclose(file);
    printf("%zu sentences, masks at %zu places as llguidance has them\n", n_sentences, n_places);
    assert_true(n_places > 1000);
    close_real(&v);
}

/* Eight digits for 32 tokens, the lowest bit the first of them. */
static void print_mask(const vocabulary_setup *v, constraint *c)
{
    mlxr_error error = {0};
    const uint32_t *mask;
    assert_ok(constraint_mask(c, &mask, &error), &error);
    for (uint32_t word = 0; word < (v->n_vocab + 31) / 32; word++) {
        printf("%08x", mask[word]);
    }
    putchar('\n');
}

static void prints_masks(void **state)
{
    (void)state;
    mlxr_error error = {0};
    vocabulary_setup v;
    open_real(&v);
    grammar *g = open_schema(&v, arguments[0]);
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        constraint c = {0};
        json_t *ids = json_loads(line, 0, NULL), *id;
        size_t i;
        assert_true(json_is_array(ids));
        assert_ok(constraint_set(&c, g, 0, v.n_vocab, &error), &error);
        print_mask(&v, &c);
        json_array_foreach(ids, i, id)
        {
            assert_ok(constraint_accept(&c, (int32_t)json_integer_value(id), &error), &error);
            print_mask(&v, &c);
        }
        constraint_clear(&c);
        json_decref(ids);
    }
    grammar_unref(&g);
    close_real(&v);
}

int main(int argc, char **argv)
{
    model_name = argc > 1 ? argv[1] : "SmolLM2-135M-Instruct.Q4_1";
    arguments = (const char *const *)argv + 2;
    const struct CMUnitTest cost[] = {cmocka_unit_test(a_token_costs_less_than_100_us),
                                      cmocka_unit_test(masks_equal_another_engines)};
    const struct CMUnitTest print[] = {cmocka_unit_test(prints_sentences)};
    const struct CMUnitTest masks[] = {cmocka_unit_test(prints_masks)};
    if (argc == 4 && strcmp(argv[3], "masks") == 0) {
        return cmocka_run_group_tests_name("masks", masks, NULL, NULL);
    }
    return argc > 4 ? cmocka_run_group_tests_name("sentences", print, NULL, NULL)
                    : cmocka_run_group_tests_name("grammars over a real vocabulary", cost, NULL, NULL);
}
