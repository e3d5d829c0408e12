/*
 * Model cache: who goes when, and a random walk against its invariants.
 * Owner: the test program. Lifetime: the process.
 */
#include "scheduler/model_cache.h"
#include "support/test.h"

static mlxr_model *fake(uintptr_t i)
{
    return (mlxr_model *)(i * 16 + 16); /* compared, never looked into */
}

static cached_model *loaded(model_cache *c, const char *path, uintptr_t i, uint64_t bytes, uint64_t now_us)
{
    cached_model *m = model_cache_add(c, path);
    assert_non_null(m);
    model_cache_loaded(c, m, fake(i), bytes, now_us);
    return m;
}

static void unload_all(model_cache *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->items[i]->state == MODEL_LOADED) {
            model_cache_unloaded(c, c->items[i]);
        }
    }
    assert_int_equal(c->weight_bytes, 0);
    assert_int_equal(c->n_loaded, 0);
    model_cache_close(c);
}

static void an_idle_model_stays_as_long_as_its_last_lease_said(void **unused)
{
    (void)unused;
    model_cache c = {0};
    cached_model *m = loaded(&c, "a", 1, 100, 10);
    assert_int_equal(model_cache_next_us(&c), UINT64_MAX); /* nobody has said anything yet */
    model_cache_take(m, 10);
    model_cache_take(m, 20);
    model_cache_give(m, 5, 30); /* another lease is left: nothing expires */
    assert_null(model_cache_expired(&c, 1000));
    model_cache_give(m, 50, 40);
    assert_int_equal(model_cache_next_us(&c), 90);
    assert_null(model_cache_expired(&c, 89));
    assert_ptr_equal(model_cache_expired(&c, 90), m);
    model_cache_take(m, 89);
    assert_null(model_cache_expired(&c, 1000));
    model_cache_give(m, UINT64_MAX, 100);
    assert_null(model_cache_expired(&c, UINT64_MAX - 1));
    assert_ptr_equal(model_cache_victim(&c), m); /* for ever, unless room is needed */
    m->dismissed = true;
    assert_ptr_equal(model_cache_expired(&c, 100), m);
    assert_int_equal(model_cache_next_us(&c), 0);
    unload_all(&c);
}

static void the_idle_model_used_longest_ago_makes_room(void **unused)
{
    (void)unused;
    model_cache c = {0};
    cached_model *a = loaded(&c, "a", 1, 100, 10), *b = loaded(&c, "b", 2, 30, 20), *d = loaded(&c, "d", 3, 7, 30);
    assert_int_equal(c.weight_bytes, 137);
    assert_ptr_equal(model_cache_find(&c, "b"), b);
    assert_ptr_equal(model_cache_of(&c, fake(3)), d);
    assert_ptr_equal(model_cache_victim(&c), a);
    model_cache_take(a, 40);
    assert_ptr_equal(model_cache_victim(&c), b);
    b->pinned = true;
    assert_ptr_equal(model_cache_victim(&c), d);
    d->state = MODEL_UNLOADING;
    assert_null(model_cache_victim(&c));
    d->state = MODEL_LOADED;
    model_cache_give(a, 1000, 50);
    assert_ptr_equal(model_cache_victim(&c), d);
    model_cache_take(d, 60);
    model_cache_give(d, 1000, 70);
    assert_ptr_equal(model_cache_victim(&c), a);
    unload_all(&c);
}

static void what_goes_is_always_idle_and_the_sum_is_exact(void **unused)
{
    (void)unused;
    model_cache c = {0};
    uint64_t random = 7, now_us = 1;
    for (int step = 0; step < 20000; step++) {
        char path[8];
        uint64_t which = test_random(&random) % 6;
        snprintf(path, sizeof path, "%d", (int)which);
        cached_model *m = model_cache_add(&c, path);
        now_us += test_random(&random) % 100;
        switch (test_random(&random) % 5) {
        case 0:
            if (m->state == MODEL_ABSENT) {
                model_cache_loaded(&c, m, fake(which), which * 10 + 1, now_us);
            }
            break;
        case 1:
            if (m->state == MODEL_LOADED && m->n_uses < 3) {
                model_cache_take(m, now_us);
            }
            break;
        case 2:
            if (m->n_uses) {
                model_cache_give(m, test_random(&random) % 200, now_us);
            }
            break;
        case 3:
            m->pinned = m->state == MODEL_LOADED && test_random(&random) % 4 == 0;
            break;
        default: {
            cached_model *gone = test_random(&random) % 2 ? model_cache_victim(&c) : model_cache_expired(&c, now_us);
            if (gone) {
                assert_int_equal(gone->state, MODEL_LOADED);
                assert_true(gone->n_uses == 0 && !gone->pinned);
                model_cache_unloaded(&c, gone);
            }
        }
        }
        uint64_t sum = 0;
        uint32_t n_loaded = 0;
        for (uint32_t i = 0; i < c.n; i++) {
            sum += c.items[i]->weight_bytes;
            n_loaded += c.items[i]->state == MODEL_LOADED;
        }
        assert_int_equal(sum, c.weight_bytes);
        assert_int_equal(n_loaded, c.n_loaded);
    }
    unload_all(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_model_stays_as_long_as_its_last_lease_said),
        cmocka_unit_test(the_idle_model_used_longest_ago_makes_room),
        cmocka_unit_test(what_goes_is_always_idle_and_the_sum_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
