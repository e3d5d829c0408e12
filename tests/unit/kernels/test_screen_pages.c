/*
 * Pages of a mapped matrix of logits that are given back while halves are made of it and behind that.
 * Owner: the test program. Lifetime: the process.
 */
#include "kernels/cpu/program.h"
#include "logits_matrix.h"

#if defined(__linux__)
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Which bytes of a mapping its threads gave back: the library's calls come here. */
static struct {
    const uint8_t *data;
    size_t n_bytes;
    _Atomic uint32_t n;
    struct {
        pthread_t thread;
        size_t begin, end;
    } calls[256];
} given_back;

int madvise(void *part, size_t n_bytes, int advice)
{
    const size_t begin = (size_t)((uint8_t *)part - given_back.data);
    if (advice == MADV_DONTNEED && begin < given_back.n_bytes) {
        uint32_t i = atomic_fetch_add(&given_back.n, 1);
        if (i < sizeof given_back.calls / sizeof *given_back.calls) {
            given_back.calls[i].thread = pthread_self();
            given_back.calls[i].begin = begin;
            given_back.calls[i].end = begin + n_bytes;
        }
    }
    return (int)syscall(SYS_madvise, part, n_bytes, advice);
}

/* Small parts, which members give back while they make theirs, are of one member each. */
static void check_given_back(size_t small)
{
    assert_in_range(given_back.n, 0, sizeof given_back.calls / sizeof *given_back.calls);
    for (uint32_t i = 0; i < given_back.n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const size_t a = given_back.calls[i].begin, a_end = given_back.calls[i].end;
            const size_t b = given_back.calls[j].begin, b_end = given_back.calls[j].end;
            if (a_end - a < small && b_end - b < small && a < b_end && b < a_end) {
                assert_true(pthread_equal(given_back.calls[i].thread, given_back.calls[j].thread));
            }
        }
    }
}

/* A model whose matrix of logits is a file's mapping, and also what its tokens are rows of, if tied. */
typedef struct mapped {
    tiny t;
    rig r;
    mapping m;
    const char *path;
    int32_t greatest, *tokens;
    float *got;
} mapped;

#define MANY_TOKENS 8u

static rig *open_mapped(mapped *x, bool tied)
{
    const tiny_options o = LOGITS_MODEL(LARGE);
    open_normal(&x->t, &o);
    x->path = test_write_file("matrix", tiny_logits_matrix(&x->t)->data, tiny_logits_matrix(&x->t)->n_bytes);
    x->m = map_matrix(&x->t, x->path);
    if (tied) {
        x->t.ops[0].weight = tiny_logits_matrix(&x->t);
    }
    x->tokens = tiny_tokens(&x->t, MANY_TOKENS);
    x->got = calloc(MANY_TOKENS * (size_t)LARGE, sizeof *x->got);
    assert_non_null(x->got);
    rig_open(&x->r, &x->t, false, 3, cpu_detect(), DTYPE_F32, 64, 2);
    given_back.data = x->m.data;
    given_back.n_bytes = x->m.n_bytes;
    return &x->r;
}

static void close_mapped(mapped *x)
{
    given_back.n_bytes = 0;
    rig_close(&x->r);
    tiny_close(&x->t);
    mapping_close(&x->m);
    free(x->got);
}

static void members_give_back_what_they_made(void **state)
{
    (void)state;
    mapped x;
    uint32_t n_made = 0;
    rig *r = open_mapped(&x, false);
    for (uint32_t n = 0; n < MADE; n++) {
        given_back.n = 0;
        rig_logits(r, x.tokens, 1, &x.greatest, x.got);
        if (n_made == 0 && few_count(r->prog).n_made > 0) { /* the first pass that makes some, and most */
            assert_true(given_back.n > 3);
            check_given_back(3 * SCREEN_CHUNK * tiny_logits_matrix(&x.t)->row_bytes);
        }
        n_made = few_count(r->prog).n_made;
    }
    assert_int_equal(n_made, can_halve(cpu_detect()) ? LARGE : 0);
    close_mapped(&x);
}

static size_t bytes_given_back(void)
{
    size_t n = 0;
    for (uint32_t i = 0; i < given_back.n; i++) {
        n += given_back.calls[i].end - given_back.calls[i].begin;
    }
    return n;
}

/* Once all rows are made, only inputs' tokens bring pages of the file back, where they are its rows. */
static void what_no_pass_touched_is_not_given_back_again(void **state)
{
    (void)state;
    for (uint32_t tied = 0; tied < 2 && can_halve(cpu_detect()); tied++) {
        mapped x;
        rig *r = open_mapped(&x, tied);
        for (uint32_t n = 0; n < MADE + 2; n++) {
            rig_logits(r, x.tokens, 1, &x.greatest, x.got);
        }
        given_back.n = 0;
        rig_logits(r, x.tokens, 1, &x.greatest, x.got);
        assert_true(tied ? bytes_given_back() > x.m.n_bytes - 8192 : bytes_given_back() == 0);
        assert_true(resident_kib(x.path) <= 64);
        given_back.n = 0;
        rig_logits(r, x.tokens, MANY_TOKENS, NULL, x.got);
        assert_true(tied ? bytes_given_back() > x.m.n_bytes - 8192 : bytes_given_back() == 0);
        assert_true(resident_kib(x.path) <= 64);
        close_mapped(&x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_give_back_what_they_made),
        cmocka_unit_test(what_no_pass_touched_is_not_given_back_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 0;
}
#endif
