/*
 * Running a kernel: one threadgroup after the other, its threads as fibres, in an order that the seed decides.
 * Owner: the run, on the stack of metal_emulator_run. Lifetime: the call.
 *
 * States of a thread:
 *
 *     ready ──run_thread──> runs ──barrier──────> at_barrier ──open_barrier, when the last arrives──> ready
 *                            ├────simd_arrive───> meets ──────simd_release──────────────────────────> ready
 *                            └────returns───────> done
 *
 * A thread that arrives last does not wait. When nobody is ready and not all are done, the kernel is wrong, and the run
 * says who waits where.
 */
#include "runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fibre.h"

namespace metal_emulator
{

namespace
{

enum thread_state : uint8_t { ready, at_barrier, meets, done };

struct thread_info {
    thread_state state;
    bool completes; /* woken to complete a meeting, its other lanes having returned */
    site at;
    position place; /* in the threadgroup */
};

struct simdgroup {
    uint32_t live, arrived, mask; /* lanes that have not returned; that came to this meeting */
    uint32_t meeting;             /* parity: values of two meetings exist side by side */
    bool orders[2];
    site at;
    char slots[2][simd_width][slot_bytes];
    char results[2][simd_width][slot_bytes];
    char order[2]; /* addresses for order_release */
};

constexpr unsigned memories_max = 32;

/* One threadgroup variable. */
struct memory {
    const void *key;
    size_t n_bytes;
    char *at;
};

struct run {
    const metal_emulator_launch *launch;
    const entry *kernel;
    const binding *arguments;
    fibre_pool pool;
    thread_info *threads; /* [n] of the largest group */
    simdgroup *simdgroups;
    uint32_t *order; /* [n] scratch of the schedule */
    uint32_t n, n_live, n_at_barrier, current;
    bool barrier_orders;
    site barrier_at;
    uint32_t barriers; /* passed by this group */
    char barrier_order[2], begin_order, end_order;
    position group, group_threads, full_group, n_groups;
    memory memories[memories_max];
    unsigned n_memories;
    size_t memory_bytes;
    char *arena; /* of threadgroup memory, where it must be new for each group */
    size_t arena_used;
    uint64_t random;
    metal_emulator_report report;
    char *error;
    size_t error_bytes;
    bool failed;
};

thread_local run *now;

constexpr size_t arena_bytes = 2 * METAL_EMULATOR_MEMORY;

uint32_t random_below(run *r, uint32_t n)
{
    uint64_t z = r->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ z >> 31) % n);
}

/* Byte by byte: library calls would be watched as accesses of a kernel. */
void copy_bytes(void *to, const void *from, size_t n)
{
    auto *t = static_cast<volatile char *>(to);
    auto *f = static_cast<const volatile char *>(from);
    if (((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | n) & 3) == 0) {
        for (size_t i = 0; i < n; i += 4) {
            *reinterpret_cast<volatile uint32_t *>(t + i) = *reinterpret_cast<const volatile uint32_t *>(f + i);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        t[i] = f[i];
    }
}

void fill_bytes(void *to, size_t n)
{
    auto *t = static_cast<volatile char *>(to);
    for (size_t i = 0; i < n; i++) {
        t[i] = static_cast<char>(0xff);
    }
}

void fail(run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fail(run *r, const char *format, ...)
{
    if (r->failed) {
        return;
    }
    r->failed = true;
    va_list list;
    va_start(list, format);
    int n = snprintf(r->error, r->error_bytes, "%s: ", r->kernel ? r->kernel->name : "metal_emulator");
    if (n >= 0 && static_cast<size_t>(n) < r->error_bytes) {
        vsnprintf(r->error + n, r->error_bytes - static_cast<size_t>(n), format, list);
    }
    va_end(list);
}

/* Gives way to the schedule until somebody makes this thread ready. */
void wait(run *r)
{
    uint32_t me = r->current;
    order_release(&r->end_order); /* it may never come back */
    fibre_leave(&r->pool, me, false);
    r->current = me;
}

void open_barrier(run *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->threads[i].state == at_barrier) {
            r->threads[i].state = ready;
        }
    }
    r->n_at_barrier = 0;
    r->barriers++;
    r->report.n_barriers++;
}

simdgroup *my_simdgroup(run *r)
{
    return &r->simdgroups[r->current / simd_width];
}

/* A lane has returned: where the others of its simdgroup all wait in a meeting, one of them completes it. */
void lane_returned(run *r)
{
    simdgroup *s = my_simdgroup(r);
    s->live--;
    if (s->live == 0 || s->arrived != s->live) {
        return;
    }
    for (uint32_t i = r->current / simd_width * simd_width; i < r->n; i++) {
        if (r->threads[i].state == meets) {
            r->threads[i].state = ready;
            r->threads[i].completes = true;
            return;
        }
    }
}

void thread_life()
{
    run *r = now;
    uint32_t me = r->current;
    order_acquire(&r->begin_order);
    r->kernel->run(r->arguments);
    r->current = me;
    r->threads[me].state = done;
    r->n_live--;
    lane_returned(r);
    order_release(&r->end_order); /* met when the whole grid has run: threadgroups are not ordered among themselves */
    fibre_leave(&r->pool, me, true);
}

void run_thread(run *r, uint32_t i)
{
    if (r->threads[i].state == ready && !r->failed) {
        r->current = i;
        fibre_enter(&r->pool, i);
    }
}

void shuffle(run *r, uint32_t *list, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        list[i] = i;
    }
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = random_below(r, i), kept = list[i - 1];
        list[i - 1] = list[j];
        list[j] = kept;
    }
}

bool any_ready(const run *r, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++) {
        if (r->threads[i].state == ready) {
            return true;
        }
    }
    return false;
}

/* Everybody who is ready runs once (odd seeds: simdgroup by simdgroup, each as far as it goes). */
void round_of_threads(run *r)
{
    uint64_t seed = r->launch->seed;
    if (seed % 2 == 0) {
        if (seed) {
            shuffle(r, r->order, r->n);
        }
        for (uint32_t i = 0; i < r->n; i++) {
            run_thread(r, seed ? r->order[i] : i);
        }
        return;
    }
    uint32_t n_simd = (r->n + simd_width - 1) / simd_width;
    shuffle(r, r->order, n_simd);
    for (uint32_t k = 0; k < n_simd; k++) {
        uint32_t begin = r->order[k] * simd_width, end = begin + simd_width < r->n ? begin + simd_width : r->n;
        while (any_ready(r, begin, end) && !r->failed) {
            for (uint32_t i = begin; i < end; i++) {
                run_thread(r, i);
            }
        }
    }
}

/* Nobody can go on: names one who waits, and another who waits elsewhere or has returned. */
void explain_deadlock(run *r)
{
    uint32_t one = 0;
    while (r->threads[one].state == done) {
        one++;
    }
    const site &a = r->threads[one].at;
    for (uint32_t i = 0; i < r->n; i++) {
        const thread_info &t = r->threads[i];
        if (t.state == done) {
            fail(r, "%s at %s:%d is not reached by all threads: thread %u waits there, thread %u has returned", a.what,
                 a.file, a.line, one, i);
            return;
        }
        if (t.at.what != a.what || t.at.line != a.line) {
            fail(r, "divergent control flow: thread %u waits in %s at %s:%d, thread %u in %s at %s:%d", one, a.what,
                 a.file, a.line, i, t.at.what, t.at.file, t.at.line);
            return;
        }
    }
    fail(r, "%s at %s:%d: all threads wait there", a.what, a.file, a.line);
}

void poison_memories(run *r)
{
    if (order_watched()) {
        if (r->arena) {
            fresh_unmap(r->arena, arena_bytes);
        }
        r->arena = static_cast<char *>(fresh_map(arena_bytes));
        r->arena_used = 0;
        r->n_memories = 0;
        r->memory_bytes = 0;
        if (r->arena) {
            fill_bytes(r->arena, METAL_EMULATOR_MEMORY);
        } else {
            fail(r, "out of memory");
        }
    }
    for (unsigned i = 0; i < r->n_memories; i++) {
        fill_bytes(r->memories[i].at, r->memories[i].n_bytes);
    }
}

void begin_group(run *r)
{
    position t = r->group_threads;
    r->n = t.x * t.y * t.z;
    r->n_live = r->n;
    r->n_at_barrier = r->barriers = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        r->threads[i] = {};
        r->threads[i].place = {i % t.x, i / t.x % t.y, i / (t.x * t.y)};
    }
    for (uint32_t s = 0; s * simd_width < r->n; s++) {
        simdgroup *g = &r->simdgroups[s];
        g->live = r->n - s * simd_width < simd_width ? r->n - s * simd_width : simd_width;
        g->arrived = g->mask = g->meeting = 0;
    }
    poison_memories(r);
    if (!fibre_pool_begin(&r->pool, thread_life)) {
        fail(r, "out of memory for %u stacks", r->n);
    }
    order_release(&r->begin_order);
}

void run_group(run *r)
{
    begin_group(r);
    while (r->n_live && !r->failed) {
        if (!any_ready(r, 0, r->n)) {
            explain_deadlock(r);
            return;
        }
        round_of_threads(r);
    }
    r->report.n_groups++;
}

uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void run_grid(run *r)
{
    const uint32_t *grid = r->launch->grid, *g = r->launch->group;
    for (r->group.z = 0; r->group.z < r->n_groups.z; r->group.z++) {
        for (r->group.y = 0; r->group.y < r->n_groups.y; r->group.y++) {
            for (r->group.x = 0; r->group.x < r->n_groups.x; r->group.x++) {
                r->group_threads = {least(g[0], grid[0] - r->group.x * g[0]), least(g[1], grid[1] - r->group.y * g[1]),
                                    least(g[2], grid[2] - r->group.z * g[2])};
                run_group(r);
                if (r->failed) {
                    return;
                }
            }
        }
    }
}

/* Under AddressSanitizer a block's neighbourhood is watched; elsewhere a page that may not be touched follows it. The
 * block begins at a multiple of 16. */
struct copy {
    char *at, *map;
    size_t map_bytes;
};

bool copy_make(copy *c, const metal_emulator_argument *a)
{
    *c = {};
    if (METAL_EMULATOR_ASAN) {
        c->at = static_cast<char *>(malloc(a->n_bytes ? a->n_bytes : 1));
    } else {
        size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), data = (a->n_bytes + page - 1) / page * page;
        c->map_bytes = data + page;
        c->map = static_cast<char *>(fresh_map(c->map_bytes));
        if (c->map) {
            mprotect(c->map + data, page, PROT_NONE);
            c->at = c->map + ((data - a->n_bytes) & ~static_cast<size_t>(15));
        }
    }
    if (c->at) {
        copy_bytes(c->at, a->data, a->n_bytes);
    }
    return c->at != nullptr;
}

void copy_drop(copy *c)
{
    if (METAL_EMULATOR_ASAN) {
        free(c->at);
    } else if (c->map) {
        fresh_unmap(c->map, c->map_bytes);
    }
}

bool set_constants(run *r, const file *f)
{
    for (size_t i = 0; i < f->n_constants; i++) {
        const function_constant *wanted = &f->constants[i];
        const metal_emulator_constant *given = nullptr;
        for (size_t j = 0; j < r->launch->n_constants; j++) {
            given = strcmp(r->launch->constants[j].name, wanted->name) ? given : &r->launch->constants[j];
        }
        if (!(r->kernel->constants >> i & 1)) {
            continue;
        }
        if (!given || given->n_bytes != wanted->n_bytes) {
            fail(r, "the function constant %s of %zu bytes is %s", wanted->name, wanted->n_bytes,
                 given ? "given with another size" : "not given");
            return false;
        }
        wanted->set(given->value);
    }
    return true;
}

bool check_launch(run *r, size_t n_arguments, const metal_emulator_argument *arguments)
{
    const metal_emulator_launch *l = r->launch;
    uint64_t n = 1;
    for (int i = 0; i < 3; i++) {
        if (l->grid[i] == 0 || l->group[i] == 0) {
            fail(r, "grid and group need at least one thread in each dimension");
            return false;
        }
        n *= l->group[i];
    }
    if (n > METAL_EMULATOR_THREADS) {
        fail(r, "a threadgroup of %llu threads; %u are allowed", static_cast<unsigned long long>(n),
             METAL_EMULATOR_THREADS);
        return false;
    }
    for (unsigned i = 0; i < METAL_EMULATOR_BUFFERS; i++) {
        bool has = r->kernel->buffers >> i & 1;
        if (has && (i >= n_arguments || !arguments[i].data)) {
            fail(r, "nothing is bound to [[buffer(%u)]]", i);
            return false;
        }
        if (!has && i < n_arguments && arguments[i].data) {
            fail(r, "there is no [[buffer(%u)]]", i);
            return false;
        }
    }
    if (n_arguments > METAL_EMULATOR_BUFFERS) {
        fail(r, "%zu arguments; a kernel has at most %u", n_arguments, METAL_EMULATOR_BUFFERS);
        return false;
    }
    for (unsigned i = 0; i < METAL_EMULATOR_THREADGROUPS; i++) {
        if (!(r->kernel->threadgroup >> i & 1) != !l->threadgroup_bytes[i]) {
            fail(r, "[[threadgroup(%u)]] %s", i,
                 l->threadgroup_bytes[i] ? "is given memory and does not exist" : "needs memory");
            return false;
        }
    }
    return true;
}

const entry *find(const metal_emulator_library *library, const char *kernel, const file **in)
{
    for (size_t f = 0; f < library->n_files; f++) {
        for (size_t i = 0; i < library->files[f]->n_entries; i++) {
            if (!strcmp(library->files[f]->entries[i].name, kernel)) {
                *in = library->files[f];
                return &library->files[f]->entries[i];
            }
        }
    }
    return nullptr;
}

bool open_run(run *r)
{
    const metal_emulator_launch *l = r->launch;
    uint32_t n = l->group[0] * l->group[1] * l->group[2];
    r->full_group = {l->group[0], l->group[1], l->group[2]};
    r->n_groups = {(l->grid[0] - 1) / l->group[0] + 1, (l->grid[1] - 1) / l->group[1] + 1,
                   (l->grid[2] - 1) / l->group[2] + 1};
    r->threads = static_cast<thread_info *>(calloc(n, sizeof *r->threads));
    r->simdgroups = static_cast<simdgroup *>(calloc((n + simd_width - 1) / simd_width, sizeof *r->simdgroups));
    r->order = static_cast<uint32_t *>(calloc(n, sizeof *r->order));
    if (!r->threads || !r->simdgroups || !r->order || !fibre_pool_open(&r->pool, n)) {
        fail(r, "out of memory for %u threads", n);
        return false;
    }
    return true;
}

void close_run(run *r)
{
    fibre_pool_close(&r->pool);
    free(r->threads);
    free(r->simdgroups);
    free(r->order);
    if (r->arena) {
        fresh_unmap(r->arena, arena_bytes);
    }
    for (unsigned i = 0; i < r->n_memories && !order_watched(); i++) {
        free(r->memories[i].at);
    }
}

} // namespace

void barrier(const site &at, bool orders)
{
    run *r = now;
    thread_info *t = &r->threads[r->current];
    t->at = at;
    char *order = &r->barrier_order[r->barriers & 1];
    if (r->n_at_barrier && (r->barrier_at.line != at.line || r->barrier_orders != orders)) {
        stop("divergent barriers: some threads wait at %s:%d, thread %u at %s:%d", r->barrier_at.file,
             r->barrier_at.line, r->current, at.file, at.line);
    }
    r->barrier_at = at;
    r->barrier_orders = orders;
    if (orders) {
        order_release(order);
    }
    if (++r->n_at_barrier == r->n) {
        open_barrier(r);
    } else {
        t->state = at_barrier;
        wait(r);
    }
    if (orders) {
        order_acquire(order);
    }
}

bool simd_arrive(const site &at, const void *value, size_t n_bytes, bool orders)
{
    run *r = now;
    simdgroup *s = my_simdgroup(r);
    thread_info *t = &r->threads[r->current];
    t->at = at;
    if (s->arrived && (s->at.what != at.what || s->at.line != at.line)) {
        stop("divergent control flow: lanes of simdgroup %u wait in %s at %s:%d, thread %u in %s at %s:%d",
             r->current / simd_width, s->at.what, s->at.file, s->at.line, r->current, at.what, at.file, at.line);
    }
    if (!s->arrived) {
        s->mask = 0;
        s->at = at;
        s->orders[s->meeting & 1] = orders;
    }
    if (orders) {
        order_release(&s->order[s->meeting & 1]);
    }
    copy_bytes(s->slots[s->meeting & 1][r->current % simd_width], value, n_bytes);
    s->mask |= 1u << r->current % simd_width;
    if (++s->arrived == s->live) {
        return true;
    }
    t->state = meets;
    wait(r);
    bool completes = t->completes;
    t->completes = false;
    return completes;
}

uint32_t simd_gather(void *values, size_t n_bytes)
{
    simdgroup *s = my_simdgroup(now);
    for (unsigned i = 0; i < simd_width; i++) {
        if (s->mask >> i & 1) {
            copy_bytes(static_cast<char *>(values) + i * n_bytes, s->slots[s->meeting & 1][i], n_bytes);
        }
    }
    return s->mask;
}

void simd_release(const void *results, size_t n_bytes)
{
    run *r = now;
    simdgroup *s = my_simdgroup(r);
    uint32_t begin = r->current / simd_width * simd_width;
    for (unsigned i = 0; i < simd_width; i++) {
        if (s->mask >> i & 1) {
            copy_bytes(s->results[s->meeting & 1][i], static_cast<const char *>(results) + i * n_bytes, n_bytes);
            r->threads[begin + i].state = ready;
        }
    }
    s->arrived = 0;
    s->meeting++;
    r->report.n_simd++;
}

void simd_take(void *result, size_t n_bytes)
{
    run *r = now;
    simdgroup *s = my_simdgroup(r);
    uint32_t last = (s->meeting - 1) & 1;
    copy_bytes(result, s->results[last][r->current % simd_width], n_bytes);
    if (s->orders[last]) { /* this meeting's: others may have begun the next */
        order_acquire(&s->order[last]);
    }
}

void matrix_multiply(const matrix_lane *lanes, matrix_result *results)
{
    float left[8][8], right[8][8];
    for (unsigned l = 0; l < simd_width; l++) {
        matrix_place p = matrix_place_of(l);
        for (unsigned i = 0; i < 2; i++) {
            left[p.row][p.column + i] = lanes[l].a[i];
            right[p.row][p.column + i] = lanes[l].b[i];
        }
    }
    for (unsigned l = 0; l < simd_width; l++) {
        matrix_place p = matrix_place_of(l);
        for (unsigned i = 0; i < 2; i++) {
            float sum = lanes[l].c[i];
            for (unsigned k = 0; k < 8; k++) {
                sum += left[p.row][k] * right[k][p.column + i];
            }
            results[l].d[i] = sum;
        }
    }
}

unsigned lane()
{
    return now->current % simd_width;
}

void *threadgroup_memory(const void *key, size_t n_bytes, size_t alignment)
{
    run *r = now;
    for (unsigned i = 0; i < r->n_memories; i++) {
        if (r->memories[i].key == key) {
            return r->memories[i].at;
        }
    }
    if (r->n_memories == memories_max || alignment > 16 || r->memory_bytes + n_bytes > METAL_EMULATOR_MEMORY) {
        stop("%zu bytes of threadgroup memory in %u variables; %u bytes in %u are allowed", r->memory_bytes + n_bytes,
             r->n_memories + 1, METAL_EMULATOR_MEMORY, memories_max);
    }
    memory *m = &r->memories[r->n_memories];
    *m = {key, n_bytes, nullptr};
    if (order_watched()) { /* already poisoned */
        m->at = r->arena + r->arena_used;
        r->arena_used += (n_bytes + 15) & ~static_cast<size_t>(15);
    } else {
        m->at = static_cast<char *>(malloc(n_bytes));
        if (!m->at) {
            stop("out of memory");
        }
        fill_bytes(m->at, n_bytes);
    }
    r->n_memories++;
    r->memory_bytes += n_bytes;
    r->report.threadgroup_bytes = r->memory_bytes;
    return m->at;
}

void stop(const char *format, ...)
{
    run *r = now;
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fail(r, "%s", text);
    for (;;) { /* the schedule never comes back */
        wait(r);
    }
}

position position_in_threadgroup()
{
    return now->threads[now->current].place;
}

position threadgroup_in_grid()
{
    return now->group;
}

position group_threads()
{
    return now->group_threads;
}

position grid_threads()
{
    const uint32_t *g = now->launch->grid;
    return {g[0], g[1], g[2]};
}

position grid_groups()
{
    return now->n_groups;
}

position position_in_grid()
{
    position p = position_in_threadgroup(), g = now->group, f = now->full_group;
    return {g.x * f.x + p.x, g.y * f.y + p.y, g.z * f.z + p.z};
}

uint32_t index_in_threadgroup()
{
    return now->current;
}

uint32_t simdgroups()
{
    return (now->n + simd_width - 1) / simd_width;
}

/* With all that is needed in place: the copies of arguments where they are wanted, and the grid. */
static void run_arguments(run *r, const metal_emulator_argument *arguments, size_t n_arguments)
{
    binding b = {};
    copy copies[METAL_EMULATOR_BUFFERS] = {};
    for (size_t i = 0; i < n_arguments && !r->failed; i++) {
        bool isolate = r->launch->isolate && arguments[i].data;
        if (isolate && !copy_make(&copies[i], &arguments[i])) {
            fail(r, "out of memory for a copy of %zu bytes", arguments[i].n_bytes);
        }
        b.buffers[i] = {isolate ? copies[i].at : arguments[i].data, arguments[i].n_bytes};
    }
    memcpy(b.threadgroup_bytes, r->launch->threadgroup_bytes, sizeof b.threadgroup_bytes);
    r->arguments = &b;
    if (!r->failed) {
        run_grid(r);
    }
    order_acquire(&r->end_order);
    for (size_t i = 0; i < n_arguments; i++) {
        if (copies[i].at && !r->failed) {
            copy_bytes(arguments[i].data, copies[i].at, arguments[i].n_bytes);
        }
        copy_drop(&copies[i]);
    }
}

} // namespace metal_emulator

extern "C" const char *metal_emulator_name(const metal_emulator_library *library, size_t i)
{
    for (size_t f = 0; f < library->n_files; f++) {
        if (i < library->files[f]->n_entries) {
            return library->files[f]->entries[i].name;
        }
        i -= library->files[f]->n_entries;
    }
    return nullptr;
}

extern "C" int metal_emulator_run(const metal_emulator_library *library, const char *kernel,
                                  const metal_emulator_argument *arguments, size_t n_arguments,
                                  const metal_emulator_launch *launch, metal_emulator_report *report, char *error,
                                  size_t error_bytes)
{
    using namespace metal_emulator;
    run r = {};
    const file *in = nullptr;
    r.launch = launch;
    r.error = error;
    r.error_bytes = error_bytes;
    r.random = launch->seed;
    r.kernel = find(library, kernel, &in);
    run *outer = now;
    now = &r;
    if (!r.kernel) {
        fail(&r, "there is no kernel %s", kernel);
    } else if (check_launch(&r, n_arguments, arguments) && set_constants(&r, in) && open_run(&r)) {
        run_arguments(&r, arguments, n_arguments);
    }
    close_run(&r);
    now = outer;
    if (report) {
        *report = r.report;
    }
    return r.failed ? -1 : 0;
}
