/*
 * SentencePiece tokenizer.model: what it means, and hostile files.
 * Owner: the test program. Lifetime: the process.
 */
#include "support/token_ids.h"

#include "support/sentencepiece_file.inc"

static mlxr_error error;

static mlxr_status open_bytes(tokenizer **t, const void *bytes, size_t n)
{
    error = (mlxr_error){0};
    *t = NULL;
    void *copy = malloc(n ? n : 1); /* of exactly that length, so that reading past it is seen */
    assert_non_null(copy);
    if (n) {
        memcpy(copy, bytes, n);
    }
    mlxr_status status = tokenizer_open_spm(t, copy, n, &error);
    free(copy);
    return status;
}

static void expect_ids(const proto_file *p, const char *text, unsigned flags, size_t n, const int32_t *ids)
{
    tokenizer *t;
    assert_ok(open_bytes(&t, p->bytes, p->n), &error);
    expect_token_ids(t, text, flags, n, ids);
    tokenizer_close(&t);
}

#define EXPECT(p, text, flags, ...) expect_ids(p, text, flags, IDS(__VA_ARGS__))

static void put_normalizer(proto_file *p, bool dummy, bool trim)
{
    proto_file n = {.n = 0};
    put_bytes(&n, 1, "identity", 8);
    put_number(&n, 3, dummy);
    put_number(&n, 4, trim);
    put_number(&n, 5, 1);
    put_bytes(p, 3, n.bytes, n.n);
}

/* ids of put_usual_pieces: 3 ▁, 4 h, 5 e, 6 l, 7 o, 8 he, 9 ll, 10 hell, 11 hello, 12 ▁hello */

static void bpe_merges_the_best_score_first(void **state)
{
    (void)state;
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_trainer(&p, 2);
    EXPECT(&p, "hello hell", 0, 12, 3, 10);
    EXPECT(&p, "  hello  ", 0, 12);
    EXPECT(&p, "h?!o", MLXR_TOKENIZE_ADD_SPECIAL, 1, 3, 4, 0, 7); /* one unknown for a run */
    EXPECT(&p, "</s>o", MLXR_TOKENIZE_PARSE_SPECIAL, 2, 3, 7);
    expect_ids(&p, "   ", 0, 0, NULL);
    expect_ids(&p, "", 0, 0, NULL);
}

static void unigram_takes_the_best_path(void **state)
{
    (void)state;
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_trainer(&p, 1);
    EXPECT(&p, "hello", MLXR_TOKENIZE_ADD_SPECIAL, 12, 2);
    EXPECT(&p, "hexx", 0, 3, 8, 0);
}

static void spaces_stay_where_the_model_keeps_them(void **state)
{
    (void)state;
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_trainer(&p, 2);
    put_normalizer(&p, false, false);
    EXPECT(&p, "  h \xe2\x96\x81", 0, 3, 3, 4, 3, 3);
}

static void unknown_bytes_are_byte_pieces(void **state)
{
    (void)state;
    proto_file p = {.n = 0}, trainer = {.n = 0};
    put_usual_pieces(&p);
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        put_piece(&p, text, 0, TOKEN_BYTE);
    }
    put_number(&trainer, 3, 2);
    put_number(&trainer, 35, 1);
    put_bytes(&p, 2, trainer.bytes, trainer.n);
    EXPECT(&p, "h\xc3\xa9\xff", 0, 3, 4, 13 + 0xc3, 13 + 0xa9, 13 + 0xff);
    tokenizer *t;
    assert_ok(open_bytes(&t, p.bytes, p.n), &error);
    token_text piece = tokenizer_piece(t, 13 + 0xc3);
    assert_int_equal(piece.n, 1);
    assert_int_equal((unsigned char)piece.data[0], 0xc3);
    detokenizer state_of = {0};
    char out[64];
    assert_int_equal(detokenizer_push(&state_of, t, 12, false, out, sizeof out), 5); /* without the dummy space */
    assert_memory_equal(out, "hello", 5);
    assert_int_equal(detokenizer_push(&state_of, t, 13 + 0xc3, false, out, sizeof out), 0);
    assert_int_equal(detokenizer_push(&state_of, t, 13 + 0xa9, false, out, sizeof out), 2);
    assert_int_equal(detokenizer_push(&state_of, t, 12, false, out, sizeof out), 6);
    tokenizer_close(&t);
}

static void invalid_utf8_without_byte_pieces_is_the_replacement_character(void **state)
{
    (void)state;
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_piece(&p, "\xef\xbf\xbd", -20, TOKEN_NORMAL);
    put_trainer(&p, 2);
    EXPECT(&p, "h\xff\x80", 0, 3, 4, 13, 13);
}

static void user_defined_symbols_are_found_first_and_kept(void **state)
{
    (void)state;
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_piece(&p, "el", 0, TOKEN_USER_DEFINED);
    put_piece(&p, "  ", 0, TOKEN_USER_DEFINED); /* plain spaces are never met */
    put_trainer(&p, 2);
    EXPECT(&p, "hello", 0, 3, 4, 13, 6, 7);
    EXPECT(&p, "h  h", 0, 3, 4, 3, 3, 4); /* but the normalisation leaves them alone */
}

static void names_of_special_pieces_may_differ(void **state)
{
    (void)state;
    proto_file p = {.n = 0}, trainer = {.n = 0};
    put_piece(&p, "<unk>", 0, TOKEN_UNKNOWN);
    put_piece(&p, "<bos>", 0, TOKEN_CONTROL);
    put_piece(&p, "<eos>", 0, TOKEN_CONTROL);
    put_piece(&p, "a", -1, TOKEN_NORMAL);
    put_number(&trainer, 3, 2);
    put_bytes(&trainer, 45, "<unk>", 5);
    put_bytes(&trainer, 46, "<bos>", 5);
    put_bytes(&trainer, 47, "<eos>", 5);
    put_bytes(&trainer, 48, "<pad>", 5);
    put_number(&trainer, 24, 0);
    put_bytes(&p, 2, trainer.bytes, trainer.n);
    put_bytes(&p, 4, "later fields", 12);
    tokenizer *t;
    assert_ok(open_bytes(&t, p.bytes, p.n), &error);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_true(tokenizer_is_end(t, 2));
    assert_true(tokenizer_adds_bos(t));
    tokenizer_close(&t);
}

/* ---- hostile files ---- */

typedef struct hostile {
    const char *says;
    mlxr_status status;
    const char *bytes;
    size_t n;
} hostile;

#define BYTES(text) text, sizeof text - 1
#define UNK "\x0a\x09\x0a\x05<unk>\x18\x02" /* a piece, unknown */
#define S "\x0a\x05\x0a\x03<s>"             /* a piece, normal */

static const hostile cases[] = {
    {"no pieces", MLXR_FORMAT, BYTES("")},
    {"no pieces", MLXR_FORMAT, BYTES("\x12\x02\x18\x02")},
    {"cut off inside a number", MLXR_FORMAT, BYTES("\x80")},
    {"cut off inside a number", MLXR_FORMAT, BYTES("\xff\xff\xff\xff\xff\xff\xff")},
    {"more than 64 bits", MLXR_FORMAT, BYTES("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")},
    {"more than 64 bits", MLXR_FORMAT, BYTES("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02")},
    {"no field", MLXR_FORMAT, BYTES("\x00")},
    {"no field", MLXR_FORMAT, BYTES("\x02\x00")},
    {"no field", MLXR_FORMAT, BYTES("\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00")},
    {"wire type", MLXR_FORMAT, BYTES("\x0b")},
    {"wire type", MLXR_FORMAT, BYTES("\x0c")},
    {"wire type", MLXR_FORMAT, BYTES("\x0e")},
    {"wire type", MLXR_FORMAT, BYTES("\x0f")},
    {"wire type", MLXR_FORMAT, BYTES("\x7b")},
    {"expected 2", MLXR_FORMAT, BYTES("\x08\x01")},
    {"expected 2", MLXR_FORMAT, BYTES("\x10\x01")},
    {"expected 2", MLXR_FORMAT, BYTES("\x18\x01")},
    {"expected 2", MLXR_FORMAT, BYTES("\x0d\x01\x01\x01\x01")},
    {"expected 2", MLXR_FORMAT, BYTES("\x09\x01\x01\x01\x01\x01\x01\x01\x01")},
    {"cut off", MLXR_FORMAT, BYTES("\x08")},
    {"announced", MLXR_FORMAT, BYTES("\x09\x01\x01")},
    {"announced", MLXR_FORMAT, BYTES("\x0d\x01\x01")},
    {"announced", MLXR_FORMAT, BYTES("\x0a\x05\x0a")},
    {"announced", MLXR_FORMAT, BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
    {"announced", MLXR_FORMAT, BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")},
    {"announced", MLXR_FORMAT, BYTES("\x0a\xff\xff\xff\xff\x0f")},
    {"cut off", MLXR_FORMAT, BYTES("\x0a")},
    {"has no text", MLXR_FORMAT, BYTES("\x0a\x00")},
    {"has no text", MLXR_FORMAT, BYTES("\x0a\x02\x0a\x00")},
    {"has no text", MLXR_FORMAT, BYTES("\x0a\x02\x18\x01")},
    {"type that is not known", MLXR_FORMAT,
     BYTES("\x0a\x05\x0a\x01"
           "a\x18\x00")},
    {"type that is not known", MLXR_FORMAT,
     BYTES("\x0a\x05\x0a\x01"
           "a\x18\x07")},
    {"type that is not known", MLXR_FORMAT,
     BYTES("\x0a\x0e\x0a\x01"
           "a\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
    {"expected 2", MLXR_FORMAT, BYTES("\x0a\x02\x08\x01")},
    {"expected 5", MLXR_FORMAT,
     BYTES("\x0a\x05\x0a\x01"
           "a\x10\x01")},
    {"expected 0", MLXR_FORMAT,
     BYTES("\x0a\x05\x0a\x01"
           "a\x1a\x00")},
    {"cut off", MLXR_FORMAT,
     BYTES("\x0a\x04\x0a\x01"
           "a\x18")},
    {"announced", MLXR_FORMAT,
     BYTES("\x0a\x03\x0a\x05"
           "a")},
    {"announced", MLXR_FORMAT,
     BYTES("\x0a\x05\x0a\x01"
           "a\x15\x00")},
    {"no unknown piece", MLXR_FORMAT, BYTES(S)},
    {"are both unknown", MLXR_FORMAT, BYTES(UNK UNK)},
    {"not UTF-8", MLXR_FORMAT, BYTES(UNK "\x0a\x03\x0a\x01\xff")},
    {"not UTF-8", MLXR_FORMAT, BYTES(UNK "\x0a\x05\x0a\x03\xed\xa0\x80")},
    {"(word)", MLXR_UNSUPPORTED, BYTES(UNK "\x12\x02\x18\x03")},
    {"(char)", MLXR_UNSUPPORTED, BYTES(UNK "\x12\x02\x18\x04")},
    {"(unknown)", MLXR_UNSUPPORTED, BYTES(UNK "\x12\x02\x18\x00")},
    {"trainer_spec", MLXR_FORMAT, BYTES(UNK "\x12\x01\x18")},
    {"trainer_spec", MLXR_FORMAT, BYTES(UNK "\x12\x02\x1a\x00")},
    {"trainer_spec", MLXR_FORMAT, BYTES(UNK "\x12\x03\xc0\x01\x80")},
    {"expected 2", MLXR_FORMAT, BYTES(UNK "\x12\x03\xf0\x02\x01")},
    {"expected 0", MLXR_FORMAT, BYTES(UNK "\x12\x03\x9a\x02\x00")},
    {"normalizer_spec", MLXR_FORMAT, BYTES(UNK "\x1a\x01\x18")},
    {"expected 0", MLXR_FORMAT, BYTES(UNK "\x1a\x02\x1a\x00")},
    {"expected 0", MLXR_FORMAT, BYTES(UNK "\x1a\x02\x2a\x00")},
    {"expected 2", MLXR_FORMAT, BYTES(UNK "\x1a\x02\x10\x01")},
    {"escape_whitespaces", MLXR_UNSUPPORTED, BYTES(UNK "\x1a\x02\x28\x00")},
    {"normalisation map", MLXR_FORMAT,
     BYTES(UNK "\x1a\x03\x12\x01"
               "a")},
    {"normalisation map", MLXR_FORMAT, BYTES(UNK "\x1a\x0a\x12\x08\xff\xff\xff\xff\x00\x00\x00\x00")},
    {"normalisation map", MLXR_FORMAT, BYTES(UNK "\x1a\x0a\x12\x08\x02\x00\x00\x00\x00\x00\x00\x00")},
    {"byte pieces", MLXR_FORMAT, BYTES(UNK "\x12\x03\x98\x02\x01")},
    {"byte pieces", MLXR_FORMAT, BYTES(UNK "\x0a\x0a\x0a\x06<0x41>\x18\x06")},
};

static void hostile_files_are_refused_in_words(void **state)
{
    (void)state;
    assert_true(sizeof cases / sizeof *cases >= 50);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tokenizer *t;
        mlxr_status status = open_bytes(&t, cases[i].bytes, cases[i].n);
        if (status != cases[i].status || !strstr(error.text, cases[i].says) || t) {
            fail_msg("case %zu: status %d, \"%s\"; expected %d, \"%s\"", i, status, error.text, cases[i].status,
                     cases[i].says);
        }
        assert_null(strchr(error.text, '\n'));
    }
}

static void byte_pieces_must_have_their_form(void **state)
{
    (void)state;
    proto_file p = {.n = 0}, trainer = {.n = 0};
    put_piece(&p, "<unk>", 0, TOKEN_UNKNOWN);
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, byte == 255 ? "<0xfg>" : "<0x%02X>", (unsigned)byte);
        put_piece(&p, text, 0, TOKEN_BYTE);
    }
    put_number(&trainer, 35, 1);
    put_bytes(&p, 2, trainer.bytes, trainer.n);
    tokenizer *t;
    assert_int_equal(open_bytes(&t, p.bytes, p.n), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "byte token 256"));
}

static void every_cut_and_every_changed_byte_is_survived(void **state)
{
    (void)state;
    proto_file p = {.n = 0};
    put_usual_pieces(&p);
    put_trainer(&p, 2);
    put_normalizer(&p, true, true);
    token_list list = {0};
    for (size_t cut = 0; cut < p.n; cut++) {
        tokenizer *t;
        if (open_bytes(&t, p.bytes, cut) == MLXR_OK) {
            tokenizer_close(&t);
        }
    }
    for (size_t at = 0; at < p.n; at++) {
        for (unsigned change = 1; change < 256; change <<= 1) {
            tokenizer *t;
            p.bytes[at] ^= (unsigned char)change;
            if (open_bytes(&t, p.bytes, p.n) == MLXR_OK) {
                list.n = 0;
                tokenizer_encode(t, "hello </s>", 10, 3, &list, NULL);
                tokenizer_close(&t);
            }
            p.bytes[at] ^= (unsigned char)change;
        }
    }
    token_list_close(&list);
}

static void maps_that_point_outside_end_there(void **state)
{
    (void)state;
    /* A trie of 300 units: the root leads to unit 'h', which has a value; the value, or the way, lies outside. */
    unsigned char map[4 + 1200 + 2] = {0xb0, 0x04};
    static const uint32_t units[][2] = {{'h' | 0x100 | 1u << 10, 0x80000000u | 5}, {'h' | 0x100 | 0x3fffffu << 10, 0}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        proto_file p = {.n = 0}, n = {.n = 0};
        uint32_t at = 'h', value_at = ('h' ^ 1u);
        for (int k = 0; k < 4; k++) {
            map[4 + 4 * at + k] = (unsigned char)(units[i][0] >> 8 * k);
            map[4 + 4 * value_at + k] = (unsigned char)(units[i][1] >> 8 * k);
        }
        put_usual_pieces(&p);
        put_trainer(&p, 2);
        put_bytes(&n, 2, map, sizeof map);
        put_bytes(&p, 3, n.bytes, n.n);
        EXPECT(&p, "hello", 0, 12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_the_best_score_first),
        cmocka_unit_test(unigram_takes_the_best_path),
        cmocka_unit_test(spaces_stay_where_the_model_keeps_them),
        cmocka_unit_test(unknown_bytes_are_byte_pieces),
        cmocka_unit_test(invalid_utf8_without_byte_pieces_is_the_replacement_character),
        cmocka_unit_test(user_defined_symbols_are_found_first_and_kept),
        cmocka_unit_test(names_of_special_pieces_may_differ),
        cmocka_unit_test(hostile_files_are_refused_in_words),
        cmocka_unit_test(byte_pieces_must_have_their_form),
        cmocka_unit_test(every_cut_and_every_changed_byte_is_survived),
        cmocka_unit_test(maps_that_point_outside_end_there),
    };
    return cmocka_run_group_tests_name("tokenizer.model", tests, NULL, NULL);
}
