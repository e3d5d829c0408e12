/*
 * Tests of core/base/utf8 against a decoder that knows nothing but the definition: a byte string is the character U+c
 * if and only if it is the encoding of c.
 * Owner: the test program. Lifetime: the process.
 */
#include "base/utf8.h"

#include "support/test.h"

/* RFC 3629's table, by arithmetic; 0 for what is no scalar value. */
static size_t encode_plainly(uint32_t code, unsigned char *out)
{
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (n == 1) {
        out[0] = (unsigned char)code;
        return 1;
    }
    for (size_t i = n; i-- > 1;) {
        out[i] = (unsigned char)(0x80 + code % 64);
        code /= 64;
    }
    out[0] = (unsigned char)(256 - (256 >> n) + (int)code);
    return n;
}

/* Bits taken by pattern, then accepted only if encoding gives the same bytes back. */
static size_t decode_plainly(const unsigned char *p, size_t n, uint32_t *code)
{
    for (size_t length = 1; length <= 4 && length <= n; length++) {
        uint32_t value = length == 1 ? p[0] : p[0] & (0xffu >> (length + 1));
        for (size_t i = 1; i < length; i++) {
            value = value * 64 + p[i] % 64;
        }
        unsigned char again[4];
        if (encode_plainly(value, again) == length && memcmp(again, p, length) == 0) {
            *code = value;
            return length;
        }
    }
    return 0;
}

static bool begins_a_character(const unsigned char *p, size_t n)
{
    /* Is there any continuation that makes these n bytes a character? */
    unsigned char bytes[4];
    uint32_t code;
    memcpy(bytes, p, n);
    static const unsigned char tries[] = {0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf};
    for (size_t total = n + 1; total <= 4; total++) {
        for (size_t first = 0; first < sizeof tries; first++) {
            memset(bytes + n, 0x80, total - n);
            bytes[n] = tries[first];
            if (decode_plainly(bytes, total, &code) == total) {
                return true;
            }
        }
    }
    return false;
}

static size_t incomplete_plainly(const unsigned char *p, size_t n)
{
    for (size_t tail = n < 3 ? n : 3; tail > 0; tail--) {
        if (begins_a_character(p + n - tail, tail)) {
            return tail;
        }
    }
    return 0;
}

static void every_code_point_survives_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x120000; code++) {
        char ours[4];
        unsigned char plain[4];
        size_t n = utf8_encode(code, ours);
        if (n != encode_plainly(code, plain) || memcmp(ours, plain, n) != 0) {
            fail_msg("U+%04X is encoded in %zu bytes", code, n);
        }
        uint32_t back = UINT32_MAX;
        if (n && (utf8_decode(ours, n, &back) != n || back != code)) {
            fail_msg("U+%04X comes back as U+%04X", code, back);
        }
        for (size_t shorter = 0; shorter < n; shorter++) {
            assert_int_equal(utf8_decode(ours, shorter, &back), 0);
            assert_int_equal(utf8_incomplete_tail(ours, shorter), shorter);
        }
        assert_int_equal(utf8_incomplete_tail(ours, n), 0);
    }
    char out[4];
    assert_int_equal(utf8_encode(UINT32_MAX, out), 0);
}

static void check_bytes(const unsigned char *bytes, size_t n)
{
    uint32_t ours = 0, plain = 0;
    size_t n_ours = utf8_decode((const char *)bytes, n, &ours);
    size_t n_plain = decode_plainly(bytes, n, &plain);
    if (n_ours != n_plain || (n_plain && ours != plain)) {
        fail_msg("%zu bytes %02x %02x %02x %02x: length %zu instead of %zu", n, bytes[0], bytes[1], bytes[2], bytes[3],
                 n_ours, n_plain);
    }
    size_t tail = utf8_incomplete_tail((const char *)bytes, n);
    size_t plain_tail = incomplete_plainly(bytes, n);
    if (tail != plain_tail) {
        fail_msg("%zu bytes %02x %02x %02x %02x: incomplete tail %zu instead of %zu", n, bytes[0], bytes[1], bytes[2],
                 bytes[3], tail, plain_tail);
    }
}

static void every_pair_of_bytes_decodes_as_defined(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            unsigned char bytes[4] = {(unsigned char)a, (unsigned char)b, 0x80, 0xbf};
            check_bytes(bytes, 1);
            check_bytes(bytes, 2);
            check_bytes(bytes, 3);
            check_bytes(bytes, 4);
        }
    }
}

static void random_bytes_decode_as_defined(void **state)
{
    (void)state;
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
                                          0xdf, 0xe0, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf3, 0xf4, 0xf5, 0xff};
    uint64_t seed = 2;
    for (int round = 0; round < 300000; round++) {
        unsigned char bytes[4];
        for (size_t i = 0; i < 4; i++) {
            uint64_t r = test_random(&seed);
            bytes[i] = r % 4 ? edges[(r >> 8) % sizeof edges] : (unsigned char)(r >> 32);
        }
        check_bytes(bytes, 1 + test_random(&seed) % 4);
    }
}

static void nothing_decodes_to_nothing(void **state)
{
    (void)state;
    uint32_t code;
    assert_int_equal(utf8_decode("", 0, &code), 0);
    assert_int_equal(utf8_incomplete_tail("", 0), 0);
    assert_int_equal(utf8_decode("\0", 1, &code), 1);
    assert_int_equal(code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives_a_round_trip),
        cmocka_unit_test(every_pair_of_bytes_decodes_as_defined),
        cmocka_unit_test(random_bytes_decode_as_defined),
        cmocka_unit_test(nothing_decodes_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
