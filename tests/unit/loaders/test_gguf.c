/*
 * GGUF reader: what a good file gives, and one clear line for every kind of bad one.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "byte_script.h"
#include "loaders/readers.h"
#include "support/test.h"

/* Header: version, tensors, metadata entries. */
#define H(version, n_tensors, n_meta) "=GGUF 4:" #version " 8:" #n_tensors " 8:" #n_meta " "
/* Tensor row of one dimension: name, elements, type, offset. */
#define T(name, n, type, offset) "'" name " 4:1 8:" #n " 4:" #type " 8:" #offset " "
/* A file with one metadata entry, the bytes of it given. */
#define META(bytes) H(3, 0, 1) bytes
/* A file with one F32 tensor of 32 elements, whose row is given. */
#define ROW(bytes) H(3, 1, 0) bytes " |32 0*128"

static const char good[] = H(
    3, 3,
    15) "'u8 4:0 1:200 'i8 4:1 1:0xfe 'u16 4:2 2:60000 'i16 4:3 2:0xfffd 'u32 4:4 4:4000000000 'i32 4:5 4:0xfffffffc "
        "'f32 4:6 4:0x3fc00000 'bool 4:7 1:1 'text 4:8 'h\xc3\xa9 'u64 4:10 8:0xfffffffffffffff1 "
        "'i64 4:11 8:0xfffffffffffffffb 'f64 4:12 8:0x3ff8000000000000 'words 4:9 4:8 8:3 'one '' 'three "
        "'numbers 4:9 4:3 8:3 2:1 2:0xffff 2:3 'general.alignment 4:4 4:64 "
        "'a 4:2 8:32 8:3 4:0 8:0 " T("b", 64, 8, 384) "'c 4:4 8:2 8:2 8:2 8:2 4:1 8:512 |64 0*384 0*68 |64 0*32";

static model_file *open_script(const char *script, uint8_t **bytes)
{
    size_t n;
    mlxr_error error = {0};
    model_file *file = NULL;
    *bytes = byte_script(script, &n);
    assert_ok(gguf_open_memory(&file, *bytes, n, &error), &error);
    return file;
}

static void every_metadata_type_is_read(void **state)
{
    (void)state;
    uint8_t *bytes;
    model_file *file = open_script(good, &bytes);
    assert_int_equal(file->version, 3);
    assert_int_equal(file->format, MODEL_GGUF);
    assert_false(file->rope_halves);
    assert_int_equal(file->n_meta, 15);
    assert_string_equal(file->meta[0].key, "u8");
    assert_int_equal(model_file_meta(file, "u8")->u, 200);
    assert_int_equal(model_file_meta(file, "i8")->i, -2);
    assert_int_equal(model_file_meta(file, "u16")->u, 60000);
    assert_int_equal(model_file_meta(file, "i16")->i, -3);
    assert_int_equal(model_file_meta(file, "u32")->u, 4000000000u);
    assert_int_equal(model_file_meta(file, "i32")->i, -4);
    assert_true(model_file_meta(file, "f32")->f == 1.5);
    assert_true(model_file_meta(file, "bool")->u == 1);
    assert_int_equal(model_file_meta(file, "text")->s.n, 3);
    assert_memory_equal(model_file_meta(file, "text")->s.data, "h\xc3\xa9", 3);
    assert_true(model_file_meta(file, "u64")->u == 0xfffffffffffffff1u);
    assert_int_equal(model_file_meta(file, "i64")->i, -5);
    assert_true(model_file_meta(file, "f64")->f == 1.5);
    const meta_array *words = &model_file_meta(file, "words")->array,
                     *numbers = &model_file_meta(file, "numbers")->array;
    assert_int_equal(words->n, 3);
    assert_int_equal(words->strings[1].n, 0);
    assert_memory_equal(words->strings[2].data, "three", 5);
    assert_int_equal(numbers->type, META_I16);
    assert_true(meta_array_number(numbers, 1) == -1.0);
    assert_null(model_file_meta(file, "absent"));
    model_file_close(&file);
    assert_null(file);
    free(bytes);
}

static void tensors_point_into_the_file(void **state)
{
    (void)state;
    uint8_t *bytes;
    model_file *file = open_script(good, &bytes);
    const tensor *a = model_file_tensor(file, "a"), *b = model_file_tensor(file, "b"),
                 *c = model_file_tensor(file, "c");
    assert_int_equal(file->n_tensors, 3);
    assert_ptr_equal(a, &file->tensors[0]);
    assert_int_equal(a->type, DTYPE_F32);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->shape[0], 32);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->shape[2], 1);
    assert_int_equal(a->row_bytes, 128);
    assert_int_equal(a->n_bytes, 384);
    assert_int_equal(((const uint8_t *)a->data - bytes) % 64, 0);
    assert_int_equal(b->type, DTYPE_Q8_0);
    assert_int_equal(b->n_bytes, 68);
    assert_ptr_equal(b->data, (const uint8_t *)a->data + 384);
    assert_int_equal(c->n_dims, 4);
    assert_int_equal(c->n_bytes, 32);
    assert_ptr_equal((const uint8_t *)c->data + 32, bytes + file->file_bytes);
    assert_null(model_file_tensor(file, "d"));
    model_file_close(&file);
    free(bytes);
}

static void version_2_gaps_any_order_and_empty_files_are_fine(void **state)
{
    (void)state;
    static const char *const scripts[] = {
        H(2, 1, 0) T("w", 32, 0, 0) "|32 0*128",
        H(3, 2, 0) T("w", 32, 0, 256) T("v", 32, 0, 0) "|32 0*384", /* out of order, with a gap */
        H(3, 0, 0),                                                 /* a vocabulary or nothing at all */
        H(3, 1, 0) T("w", 32, 0, 0) "|32 0*128 0*7",                /* bytes behind the last tensor */
        H(3, 0, 1) "'k 4:9 4:8 8:0",                                /* an empty array */
        H(3, 0, 1) "'k 4:9 4:7 8:2 1:0 1:1",
        H(3, 0, 1) "'split.count 4:2 2:1",
        H(3, 1, 1) "'general.alignment 4:4 4:1 " T("w", 32, 0, 3) "0*131",
    };
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        uint8_t *bytes;
        model_file *file = open_script(scripts[i], &bytes);
        model_file_close(&file);
        free(bytes);
    }
}

/* Each row: a broken file, and what its error line must say. */
static const struct {
    const char *script, *error;
} hostile[] = {
    /* header */
    {"", "does not begin with 'GGUF'"},
    {"=GGU", "does not begin with 'GGUF'"},
    {"=GGML 4:3 8:0 8:0", "does not begin with 'GGUF'"},
    {"=GGUF", "ends inside the header"},
    {"=GGUF 2:3", "ends inside the header"},
    {"=GGUF 4:3 4:0", "ends inside the header"},
    {"=GGUF 4:3 8:0 4:0", "ends inside the header"},
    {H(0, 0, 0), "GGUF version 0; versions 2 and 3"},
    {H(1, 0, 0), "GGUF version 1; versions 2 and 3"},
    {H(4, 0, 0), "GGUF version 4; versions 2 and 3"},
    {H(0x03000000, 0, 0), "big-endian"},
    {H(0x02000000, 0, 0), "big-endian"},
    {H(3, 0, 1), "claims 1 metadata entries, more than 0 bytes can hold"},
    {H(3, 0, 0xffffffffffffffff), "metadata entries, more than"},
    {H(3, 0, 100) "0*1000", "claims 100 metadata entries"},
    {H(3, 0xffffffffffffffff, 0), "tensors, more than"},
    {H(3, 0x8000000000000000, 0) "0*100", "tensors, more than"},
    {H(3, 4, 0) "0*128", "claims 4 tensors, more than 128 bytes"},
    /* metadata */
    {META("8:0xffffffffffffffff 0*100"), "metadata key 0 claims 18446744073709551615 bytes"},
    {META("8:1000 0*100"), "metadata key 0 claims 1000 bytes at byte 32, but the file has only 100 more"},
    {META("'' 0*100"), "metadata key 0 at byte 24 is 0 bytes long; it must be 1 to 65535"},
    {META("8:65536 0*65600"), "is 65536 bytes long; it must be 1 to 65535"},
    {META("8:3 x:c328 0*100"), "metadata key 0 at byte 24 is not UTF-8"},
    {META("8:3 =a 1:0 =b 0*100"), "metadata key 0 at byte 24 is not UTF-8"},
    {META("'key 2:4 2:0"), "ends inside key"},
    {META("'key 4:13 0*100"), "metadata 'key' has the unknown type 13; GGUF has types 0 to 12"},
    {META("'key 4:0xffffffff 0*100"), "unknown type 4294967295"},
    {META("'key 4:4 2:1"), "ends inside key"},
    {META("'key 4:10 4:1"), "ends inside key"},
    {META("'key 4:7 1:2"), "'key': 2 is no bool"},
    {META("'key 4:8 4:3"), "ends inside key"},
    {META("'key 4:8 8:4 =abc"), "key claims 4 bytes"},
    {META("'key 4:8 8:0xfffffffffffffff8 0*64"), "key claims 18446744073709551608 bytes"},
    {META("'key 4:9 2:0"), "ends inside key"},
    {META("'key 4:9 4:0 4:0"), "ends inside key"},
    {META("'key 4:9 4:13 8:0"), "unknown type 13"},
    {META("'key 4:9 4:9 8:1 4:0 8:0"), "'key' is an array of arrays"},
    {META("'key 4:9 4:0 8:101 0*100"), "'key' claims 101 uint8, but the file has only 100 more bytes"},
    {META("'key 4:9 4:4 8:0x4000000000000000 0*100"), "'key' claims 4611686018427387904 uint32"},
    {META("'key 4:9 4:12 8:0xffffffffffffffff 0*100"), "float64, but the file has only"},
    {META("'key 4:9 4:8 8:0x2000000000000000 0*100"), "'key' claims 2305843009213693952 strings"},
    {META("'key 4:9 4:8 8:13 0*100"), "'key' claims 13 strings"},
    {META("'key 4:9 4:8 8:2 'ab 8:100 0*50"), "'key': string 1 of 2 at byte 61 reaches past the end"},
    {META("'key 4:9 4:8 8:2 8:5 =hello 4:0"), "string 1 of 2"},
    {META("'key 4:9 4:8 8:1 8:0xffffffffffffffff"), "string 0 of 1"},
    {META("'key 4:9 4:7 8:3 1:0 1:1 1:255"), "'key': 255 is no bool"},
    {H(3, 0, 2) "'key 4:4 4:1 'key 4:4 4:1", "metadata key 'key' appears twice"},
    {H(3, 0, 2) "'key 4:4 4:1 'yek 4:4 2:1", "ends inside yek"},
    {META("'general.alignment 4:4 4:0"), "general.alignment is 0; it must be a power of two"},
    {META("'general.alignment 4:4 4:48"), "general.alignment is 48"},
    {META("'general.alignment 4:10 8:0x8000000000000000"), "general.alignment is 9223372036854775808"},
    {META("'general.alignment 4:5 4:0xffffffe0"), "'general.alignment' is no whole number"},
    {META("'general.alignment 4:8 '32"), "'general.alignment' is no whole number"},
    /* split files */
    {META("'split.no 4:8 'x"), "'split.no' is no whole number"},
    {META("'split.count 4:6 4:0"), "'split.count' is no whole number"},
    {META("'split.tensors.count 4:5 4:0xffffffff"), "'split.tensors.count' is no whole number"},
    {META("'split.count 4:4 4:100000"), "split.count is 100000"},
    {H(3, 0, 2) "'split.no 4:2 2:1 'split.count 4:2 2:3", "part 2 of 3 of a split model; open the first"},
    {META("'split.count 4:2 2:3"), "must be named '…-00001-of-00003.gguf'"},
    /* tensors */
    {ROW("8:0xffffffffffffffff"), "tensor name 0 claims"},
    {ROW("'' 4:1 8:32 4:0 8:0"), "tensor name 0 at byte 24 is 0 bytes long; it must be 1 to 255"},
    {ROW("8:256 0*256 4:1 8:32 4:0 8:0"), "is 256 bytes long"},
    {ROW("8:2 x:ff41 4:1 8:32 4:0 8:0"), "tensor name 0 at byte 24 is not UTF-8"},
    {H(3, 1, 0) "8:26 =abcdefghijklmnopqrstuvwxyz 2:1", "ends inside abcdefghijklmnopqrstuvwxyz"},
    {H(3, 1, 0) "8:21 =abcdefghijklmnopqrstu 4:1 2:1", "ends inside abcdefghijklmnopqrstu"},
    {H(3, 1, 0) "8:13 =abcdefghijklm 4:1 8:32 2:0", "ends inside abcdefghijklm"},
    {H(3, 1, 0) "8:9 =abcdefghi 4:1 8:32 4:0 4:0", "ends inside abcdefghi"},
    {ROW("'w 4:0 8:32 4:0 8:0"), "tensor 'w' has 0 dimensions; it must have 1 to 4"},
    {ROW("'w 4:5 8:1 8:1 8:1 8:1 8:1 4:0 8:0"), "tensor 'w' has 5 dimensions"},
    {ROW("'w 4:0xffffffff 8:32 4:0 8:0"), "tensor 'w' has 4294967295 dimensions"},
    {ROW("'w 4:2 8:32 8:0 4:0 8:0"), "tensor 'w': dimension 1 is 0"},
    {ROW(T("w", 0, 0, 0)), "tensor 'w': dimension 0 is 0"},
    {ROW("'w 4:2 8:0x4000000000000000 8:4 4:0 8:0"), "elements overflow"},
    {ROW("'w 4:4 8:0x100000000 8:0x100000000 8:2 8:2 4:0 8:0"), "elements overflow"},
    {ROW("'w 4:3 8:0x8000000000000000 8:2 8:1 4:1 8:0"), "elements overflow"},
    {ROW(T("w", 0xffffffffffffffff, 0, 0)), "overflow"},
    {ROW(T("w", 32, 4, 0)), "tensor 'w' has the unknown type 4"},
    {ROW(T("w", 32, 31, 0)), "tensor 'w' has the unknown type 31"},
    {ROW(T("w", 32, 0xffffffff, 0)), "tensor 'w' has the unknown type 4294967295"},
    {ROW(T("w", 31, 2, 0)), "tensor 'w': rows of 31 elements do not divide into Q4_0 blocks of 32"},
    {ROW(T("w", 32, 12, 0)), "rows of 32 elements do not divide into Q4_K blocks of 256"},
    {ROW("'w 4:2 8:16 8:2 4:8 8:0"), "rows of 16 elements do not divide into Q8_0 blocks"},
    {ROW(T("w", 32, 0, 1)), "tensor 'w': offset 1 is no multiple of the alignment 32"},
    {ROW(T("w", 32, 0, 0xffffffffffffffe0)), "offset 18446744073709551584 and size 128 overflow"},
    {ROW(T("w", 32, 0, 0xffffffffffffff60)), "offset 18446744073709551456 overflows"},
    {ROW(T("w", 33, 0, 0)), "tensor 'w': data ends at byte 196, but the file has 192; the file is truncated"},
    {ROW(T("w", 32, 0, 32)), "data ends at byte 224, but the file has 192"},
    {ROW(T("w", 32, 0, 0x4000000000000000)), "but the file has 192; the file is truncated"},
    {H(3, 1, 0) T("w", 32, 0, 0) "|32 0*127", "data ends at byte 192, but the file has 191"},
    {H(3, 1, 0) T("w", 32, 0, 0), "but the file has 57"},
    {H(3, 2, 0) T("w", 32, 0, 0) T("w", 32, 0, 128) "|32 0*256", "tensor 'w' appears twice"},
    {H(3, 2, 0) T("w", 32, 0, 0) T("v", 32, 0, 96) "|32 0*256", "tensors 'w' and 'v' overlap"},
    {H(3, 2, 0) T("w", 32, 0, 0) T("v", 32, 0, 0) "|32 0*256", "tensors 'w' and 'v' overlap"},
    {H(3, 3, 0) T("w", 32, 0, 128) T("v", 64, 0, 0) T("u", 8, 0, 256) "|32 0*512", "tensors 'v' and 'w' overlap"},
    {H(3, 2, 1) "'general.alignment 4:4 4:64 " T("w", 32, 0, 0) T("v", 32, 0, 96) "|64 0*256",
     "tensor 'v': offset 96 is no multiple of the alignment 64"},
};

static void every_hostile_file_gets_one_clear_line(void **state)
{
    (void)state;
    assert_true(sizeof hostile / sizeof *hostile >= 50);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        size_t n;
        uint8_t *bytes = byte_script(hostile[i].script, &n);
        mlxr_error error = {0};
        model_file *file = NULL;
        mlxr_status status = gguf_open_memory(&file, bytes, n, &error);
        if (status == MLXR_OK || status != error.status || file || !strstr(error.text, hostile[i].error) ||
            strncmp(error.text, "memory: ", 8) != 0 || strchr(error.text, '\n')) {
            fail_msg("%s\n  gave status %d: %s\n  expected: %s", hostile[i].script, status, error.text,
                     hostile[i].error);
        }
        assert_int_equal(gguf_open_memory(&file, bytes, n, NULL), status); /* without an error to fill */
        free(bytes);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = byte_script(good, &n);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *shorter = malloc(cut ? cut : 1);
        memcpy(shorter, bytes, cut);
        mlxr_error error = {0};
        model_file *file = NULL;
        assert_int_not_equal(gguf_open_memory(&file, shorter, cut, &error), MLXR_OK);
        assert_true(error.text[0] != 0);
        free(shorter);
    }
    free(bytes);
}

static void any_changed_byte_is_survived(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = byte_script(good, &n);
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at < n; at++) {
        uint8_t before = bytes[at];
        for (size_t v = 0; v < sizeof values; v++) {
            bytes[at] = values[v];
            model_file *file = NULL;
            mlxr_error error = {0};
            if (gguf_open_memory(&file, bytes, n, &error) == MLXR_OK) {
                model_file_close(&file);
            }
        }
        bytes[at] = before;
    }
    free(bytes);
}

static void control_characters_of_a_name_do_not_reach_the_error_line(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = byte_script(ROW("8:5 x:1b5b33316d 4:9 8:32 4:0 8:0"), &n);
    mlxr_error error = {0};
    model_file *file = NULL;
    assert_int_equal(gguf_open_memory(&file, bytes, n, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "tensor '?[31m' has 9 dimensions"));
    free(bytes);
}

/* ---- split files ----------------------------------------------------------------------------------------------- */

#define SPLIT(no, count, total)                                                                                        \
    "'split.no 4:2 2:" #no " 'split.count 4:2 2:" #count " 'split.tensors.count 4:5 4:" #total " "

static const char *write_part(const char *name, const char *script)
{
    size_t n;
    uint8_t *bytes = byte_script(script, &n);
    const char *path = test_write_file(name, bytes, n);
    free(bytes);
    return path;
}

static void split_files_are_one_model(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    write_part("m-00002-of-00003.gguf", H(3, 1, 3) SPLIT(1, 3, 3) T("b", 32, 0, 0) "|32 0*128");
    write_part("m-00003-of-00003.gguf", H(3, 2, 3) SPLIT(2, 3, 3) T("c", 32, 0, 0) T("d", 32, 8, 128) "|32 0*162");
    const char *first = write_part("m-00001-of-00003.gguf", H(3, 0, 4) "'key 4:4 4:7 " SPLIT(0, 3, 3));
    assert_ok(model_file_open(&file, first, &error), &error);
    assert_int_equal(file->n_parts, 3);
    assert_int_equal(file->n_tensors, 3);
    assert_int_equal(file->n_meta, 4);
    assert_string_equal(file->tensors[2].name, "d");
    assert_ptr_equal((const uint8_t *)model_file_tensor(file, "d")->data + 34,
                     file->parts[2].data + file->parts[2].n_bytes);
    assert_int_equal(file->file_bytes, file->parts[0].n_bytes + file->parts[1].n_bytes + file->parts[2].n_bytes);
    model_file_close(&file);
}

static void a_broken_split_says_which_part(void **state)
{
    (void)state;
    static const struct {
        const char *name, *first, *second, *error;
    } cases[] = {
        {"missing", H(3, 0, 3) SPLIT(0, 2, 1), NULL, "part 2 of 2: "},
        {"count", H(3, 0, 3) SPLIT(0, 2, 2), H(3, 1, 3) SPLIT(1, 2, 2) T("w", 32, 0, 0) "|32 0*128",
         "split.tensors.count is 2, but the 2 parts hold 1 tensors"},
        {"number", H(3, 0, 3) SPLIT(0, 2, 1), H(3, 0, 3) SPLIT(0, 2, 1), "it says it is part 1 of 2, expected 2 of 2"},
        {"total", H(3, 0, 3) SPLIT(0, 2, 1), H(3, 0, 3) SPLIT(1, 4, 1), "it says it is part 2 of 4, expected 2 of 2"},
        {"twice", H(3, 1, 3) SPLIT(0, 2, 2) T("w", 32, 0, 0) "|32 0*128",
         H(3, 1, 3) SPLIT(1, 2, 2) T("w", 32, 0, 0) "|32 0*128", "tensor 'w' appears twice"},
        {"damaged", H(3, 0, 3) SPLIT(0, 2, 1), "=GGUF", "damaged-00002-of-00002.gguf: the file ends inside the header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64];
        model_file *file = NULL;
        mlxr_error error = {0};
        if (cases[i].second) {
            snprintf(name, sizeof name, "%s-00002-of-00002.gguf", cases[i].name);
            write_part(name, cases[i].second);
        }
        snprintf(name, sizeof name, "%s-00001-of-00002.gguf", cases[i].name);
        mlxr_status status = model_file_open(&file, write_part(name, cases[i].first), &error);
        if (status == MLXR_OK || !strstr(error.text, cases[i].error)) {
            fail_msg("%s: %s", cases[i].name, error.text);
        }
        assert_null(file);
    }
}

/* A part that is cut anywhere, that says something else of itself, or is something else: each time it is that one. */
static void every_broken_part_names_itself(void **state)
{
    static const char *const others[] = {
        "",
        "=GGUF",
        "=GGUF 4:1 8:0 8:0",
        "=PK",
        H(3, 0, 0),
        H(3, 0, 1) "'split.no 4:2 2:1 ",
        H(3, 0, 3) SPLIT(0, 3, 3),
        H(3, 0, 3) SPLIT(2, 3, 3),
        H(3, 0, 3) SPLIT(1, 2, 3),
        H(3, 0, 3) SPLIT(1, 4, 3),
        H(3, 0, 3) SPLIT(1, 0, 3),
        H(3, 0, 3) SPLIT(65535, 3, 3),
        H(3, 0, 3) SPLIT(1, 65535, 3),
        H(3, 0, 3) "'split.no 4:8 'x 'split.count 4:2 2:3 'split.tensors.count 4:5 4:3 ",
        H(3, 0, 3) "'split.no 4:5 4:0xffffffff 'split.count 4:2 2:3 'split.tensors.count 4:5 4:3 ",
        H(3, 0, 3) "'split.no 4:6 4:0x3f800000 'split.count 4:2 2:3 'split.tensors.count 4:5 4:3 ",
        H(3, 0, 3) "'split.no 4:2 2:1 'split.count 4:7 1:1 'split.tensors.count 4:5 4:3 ",
        H(3, 0, 3) "'split.no 4:2 2:1 'split.no 4:2 2:1 'split.count 4:2 2:3 " T("c", 32, 0, 0) "|32 0*128"};
    static const char second[] = H(3, 1, 3) SPLIT(1, 3, 3) T("b", 32, 0, 0) "|32 0*128";
    size_t n, n_others = sizeof others / sizeof *others, n_tried = 0;
    uint8_t *bytes = byte_script(second, &n);
    (void)state;
    write_part("p-00003-of-00003.gguf", H(3, 1, 3) SPLIT(2, 3, 3) T("d", 32, 0, 0) "|32 0*128");
    char first[600];
    snprintf(first, sizeof first, "%.500s",
             write_part("p-00001-of-00003.gguf", H(3, 1, 3) SPLIT(0, 3, 3) T("a", 32, 0, 0) "|32 0*128"));
    for (size_t i = 0; i < n_others + n / 4; i++, n_tried++) {
        model_file *file = NULL;
        mlxr_error error = {0};
        if (i < n_others) {
            write_part("p-00002-of-00003.gguf", others[i]);
        } else {
            test_write_file("p-00002-of-00003.gguf", bytes, 4 * (i - n_others));
        }
        mlxr_status status = model_file_open(&file, first, &error);
        if (status == MLXR_OK || file || !strstr(error.text, "p-00002-of-00003.gguf") || strchr(error.text, '\n')) {
            fail_msg("%zu: %s", i, status == MLXR_OK ? "opens" : error.text);
        }
    }
    assert_true(n_tried >= 50);
    free(bytes);
}

static void a_split_without_a_total_is_fine(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    write_part("n-00002-of-00002.gguf",
               H(3, 1, 2) "'split.no 4:2 2:1 'split.count 4:2 2:2 " T("b", 32, 0, 0) "|32 0*128");
    const char *first = write_part("n-00001-of-00002.gguf", H(3, 0, 1) "'split.count 4:2 2:2");
    assert_ok(model_file_open(&file, first, &error), &error);
    assert_int_equal(file->n_tensors, 1);
    model_file_close(&file);
}

static void a_split_under_another_name_is_refused(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    const char *path = write_part("renamed-so-that-its-siblings-hide.gguf", H(3, 0, 1) "'split.count 4:2 2:2");
    assert_int_equal(model_file_open(&file, path, &error), MLXR_ARG);
    assert_non_null(strstr(error.text, "must be named '…-00001-of-00002.gguf'"));
}

static void files_that_cannot_be_opened_say_why(void **state)
{
    (void)state;
    model_file *file = NULL;
    mlxr_error error = {0};
    assert_int_equal(model_file_open(&file, "/nonexistent/model.gguf", &error), MLXR_IO);
    assert_non_null(strstr(error.text, "/nonexistent/model.gguf"));
    assert_int_equal(model_file_open(&file, "x", &error), MLXR_IO);
    const char *text = test_write_file("notes.txt", "hello", 5);
    assert_int_equal(model_file_open(&file, text, &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "not a model file"));
    const char *empty = test_write_file("empty.gguf", "", 0);
    assert_int_equal(model_file_open(&file, empty, &error), MLXR_FORMAT);
    char fifo[512];
    snprintf(fifo, sizeof fifo, "%s/fifo", test_temp_dir());
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(model_file_open(&file, fifo, &error), MLXR_IO);
    unlink(fifo);
    assert_null(file);
}

static void a_long_path_keeps_its_end_in_the_error(void **state)
{
    (void)state;
    char name[256];
    model_file *file = NULL;
    mlxr_error error = {0};
    memset(name, 'x', sizeof name);
    strcpy(name + 200, "-the-end.gguf");
    assert_int_equal(model_file_open(&file, test_write_file(name, "GGUF", 4), &error), MLXR_FORMAT);
    assert_non_null(strstr(error.text, "-the-end.gguf: the file ends inside the header"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metadata_type_is_read),
        cmocka_unit_test(tensors_point_into_the_file),
        cmocka_unit_test(version_2_gaps_any_order_and_empty_files_are_fine),
        cmocka_unit_test(every_hostile_file_gets_one_clear_line),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(any_changed_byte_is_survived),
        cmocka_unit_test(control_characters_of_a_name_do_not_reach_the_error_line),
        cmocka_unit_test(split_files_are_one_model),
        cmocka_unit_test(a_broken_split_says_which_part),
        cmocka_unit_test(every_broken_part_names_itself),
        cmocka_unit_test(a_split_without_a_total_is_fine),
        cmocka_unit_test(a_split_under_another_name_is_refused),
        cmocka_unit_test(files_that_cannot_be_opened_say_why),
        cmocka_unit_test(a_long_path_keeps_its_end_in_the_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
