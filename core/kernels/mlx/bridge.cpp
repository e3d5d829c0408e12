/*
 * The bridge to MLX: arenas, memory, and MLX's operations one by one.
 * Owner, lifetime: as bridge.h says.
 */
#include "kernels/mlx/bridge.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include <unistd.h>

namespace
{

/* Of this process: MLX's default device is, too. */
bool wraps_memory = false;

mx::Shape shape_of(size_t n_dims, const int32_t *shape)
{
    return mx::Shape(shape, shape + n_dims);
}

size_t page_bytes()
{
    return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void leave_alone(void *)
{
}

/* An array over memory of ours; MLX copies it where its allocator knows only buffers of its own. */
mx::array array_over(const void *data, mx::Shape shape, mx::Dtype dtype)
{
    return mx::array(const_cast<void *>(data), std::move(shape), dtype, leave_alone);
}

bool probe_wrapping()
{
    size_t n = page_bytes();
    void *memory = std::aligned_alloc(n, n);
    if (!memory) {
        throw std::bad_alloc();
    }
    std::memset(memory, 0, n);
    bool same;
    {
        mx::array a = array_over(memory, {static_cast<int>(n)}, mx::uint8);
        same = a.data<uint8_t>() == memory;
    }
    std::free(memory);
    return same;
}

/* Metal takes whole pages. The array is a part of those that the data touches. */
mx::array wrap_pages(const void *data, const mx::Shape &shape, mx::Dtype dtype)
{
    size_t n_items = 1, item = dtype.size();
    for (int n : shape) {
        n_items *= static_cast<size_t>(n);
    }
    uintptr_t at = reinterpret_cast<uintptr_t>(data), page = page_bytes();
    uintptr_t begin = at / page * page, end = (at + n_items * item + page - 1) / page * page;
    size_t unit = begin == at ? item : 1; /* elements that the way from the page's beginning is counted in */
    if ((end - begin) / unit > INT32_MAX || (at - begin) % item != 0) {
        return array_over(data, shape, dtype);
    }
    mx::array pages = array_over(reinterpret_cast<void *>(begin), {static_cast<int>((end - begin) / unit)},
                                 unit == 1 ? mx::uint8 : dtype);
    int first = static_cast<int>((at - begin) / unit), n = static_cast<int>(n_items * item / unit);
    mx::array part = mx::slice(pages, {first}, {first + n});
    return mx::reshape(unit == 1 ? mx::view(part, dtype) : part, shape);
}

/* Newer releases have one more argument before the last. */
template <class Array>
mx::array gather_qmm(const Array &x, const Array &w, const Array &scales, const Array &biases, const Array &chosen,
                     bool sorted, int group, int bits)
{
    if constexpr (requires {
                      mx::gather_qmm(x, w, scales, biases, std::nullopt, chosen, true, group, bits, "affine",
                                     std::nullopt, sorted);
                  }) {
        return mx::gather_qmm(x, w, scales, biases, std::nullopt, chosen, true, group, bits, "affine", std::nullopt,
                              sorted);
    } else {
        return mx::gather_qmm(x, w, scales, biases, std::nullopt, chosen, true, group, bits, "affine", sorted);
    }
}

} // namespace

void bridge_fail(mlx_arena *arena, mlxr_status status, const char *text) noexcept
{
    if (!arena->failed) {
        arena->failed = true;
        arena->status = status;
        std::snprintf(arena->text, sizeof arena->text, "%s", text);
    }
}

mx::Dtype bridge_dtype(mlx_type type)
{
    switch (type) {
    case MLX_F32:
        return mx::float32;
    case MLX_F16:
        return mx::float16;
    case MLX_BF16:
        return mx::bfloat16;
    case MLX_I32:
        return mx::int32;
    case MLX_U32:
        return mx::uint32;
    case MLX_U16:
        return mx::uint16;
    case MLX_U8:
        return mx::uint8;
    case MLX_I8:
        return mx::int8;
    case MLX_BOOL:
        return mx::bool_;
    }
    throw std::invalid_argument("no such element type");
}

/* ---- device and arenas ---- */

static void set_error(mlxr_error *error, mlxr_status status, const char *text)
{
    if (error) {
        error->status = status;
        std::snprintf(error->text, sizeof error->text, "MLX: %s", text);
    }
}

static void name_device(bridge_device *out)
{
    std::snprintf(out->name, sizeof out->name, "%s", out->gpu ? "a GPU" : "CPU");
    if (out->gpu) {
        const auto &info = mx::device_info(mx::default_device());
        auto at = info.find("device_name");
        const std::string *name = at == info.end() ? nullptr : std::get_if<std::string>(&at->second);
        if (name) {
            std::snprintf(out->name, sizeof out->name, "%s", name->c_str());
        }
    }
    for (char *c = out->name; *c; c++) { /* it becomes a field of a line */
        *c = static_cast<unsigned char>(*c) < ' ' ? ' ' : *c;
    }
}

mlxr_status bridge_open(bridge_device *out, mlxr_error *error)
{
    try {
        out->gpu = mx::metal::is_available();
        mx::set_default_device(out->gpu ? mx::Device::gpu : mx::Device::cpu);
        out->wraps = wraps_memory = probe_wrapping();
        std::snprintf(out->version, sizeof out->version, "%s", mx::version());
        name_device(out);
        return MLXR_OK;
    } catch (const std::exception &e) {
        set_error(error, MLXR_DEVICE, e.what());
    } catch (...) {
        set_error(error, MLXR_DEVICE, "it cannot be started");
    }
    return MLXR_DEVICE;
}

void bridge_limit(size_t cache_bytes, size_t wired_bytes)
{
    try {
        mx::set_cache_limit(cache_bytes);
        if (mx::metal::is_available()) {
            mx::set_wired_limit(wired_bytes);
        }
    } catch (...) { /* an older system, or less than that may be wired: nothing is, which is slower but safe */
    }
}

mlx_arena *bridge_arena_open(void)
{
    return new (std::nothrow) mlx_arena;
}

void bridge_arena_close(mlx_arena **arena)
{
    delete *arena;
    *arena = nullptr;
}

void bridge_arena_empty(mlx_arena *arena)
{
    arena->values.clear();
    bridge_arena_recover(arena);
}

void bridge_arena_recover(mlx_arena *arena)
{
    arena->failed = false;
    arena->status = MLXR_OK;
    arena->text[0] = '\0';
}

mlxr_status bridge_status(const mlx_arena *arena, mlxr_error *error)
{
    if (arena->failed) {
        set_error(error, arena->status, arena->text);
    }
    return arena->status;
}

size_t bridge_bytes(void)
{
    return mx::get_active_memory();
}

mlx_value *bridge_keep(mlx_arena *arena, const mlx_value *x)
{
    return bridge_make(arena, [&] { return bridge_at(x); });
}

/* ---- from memory and back ---- */

mlx_value *bridge_copy(mlx_arena *arena, mlx_type type, size_t n_dims, const int32_t *shape, const void *data)
{
    return bridge_make(arena, [&] {
        mx::Dtype dtype = bridge_dtype(type);
        size_t n_bytes = dtype.size();
        for (size_t i = 0; i < n_dims; i++) {
            n_bytes *= static_cast<size_t>(shape[i]);
        }
        void *copy = std::malloc(n_bytes ? n_bytes : 1);
        if (!copy) {
            throw std::bad_alloc();
        }
        std::memcpy(copy, data, n_bytes);
        return mx::array(copy, shape_of(n_dims, shape), dtype, std::free);
    });
}

void bridge_refill(mlx_arena *arena, mlx_value *x, const void *data, size_t n_bytes)
{
    if (arena->failed || !x) {
        return;
    }
    if (!x->a.is_available() || n_bytes != x->a.nbytes()) {
        bridge_fail(arena, MLXR_DEVICE, "an array to be filled is not one that holds so many bytes");
        return;
    }
    std::memcpy(x->a.data<char>(), data, n_bytes);
}

mlx_value *bridge_scalar(mlx_arena *arena, float x)
{
    return bridge_make(arena, [&] { return mx::array(x); });
}

mlx_value *bridge_wrap(mlx_arena *arena, mlx_type type, size_t n_dims, const int32_t *shape, const void *data)
{
    return bridge_make(arena, [&] {
        mx::Shape s = shape_of(n_dims, shape);
        return wraps_memory ? wrap_pages(data, s, bridge_dtype(type)) : array_over(data, s, bridge_dtype(type));
    });
}

void bridge_submit(mlx_arena *arena, const mlx_value *const *values, size_t n)
{
    if (arena->failed) {
        return;
    }
    try {
        std::vector<mx::array> arrays;
        for (size_t i = 0; i < n; i++) {
            arrays.push_back(bridge_at(values[i]));
        }
        mx::async_eval(std::move(arrays));
    } catch (const std::bad_alloc &) {
        bridge_fail(arena, MLXR_NOMEM, "no memory for what was to be computed");
    } catch (const std::exception &e) {
        bridge_fail(arena, MLXR_DEVICE, e.what());
    } catch (...) {
        bridge_fail(arena, MLXR_DEVICE, "computing failed without a reason");
    }
}

const void *bridge_data(mlx_arena *arena, mlx_value *x)
{
    if (arena->failed) {
        return nullptr;
    }
    try {
        if (!x) {
            throw std::invalid_argument("there is no result to read");
        }
        x->a.eval();
        if (!x->a.flags().row_contiguous) {
            x->a = mx::contiguous(x->a);
            x->a.eval();
        }
        return x->a.data<char>();
    } catch (const std::bad_alloc &) {
        bridge_fail(arena, MLXR_NOMEM, "no memory for a result");
    } catch (const std::exception &e) {
        bridge_fail(arena, MLXR_DEVICE, e.what());
    } catch (...) {
        bridge_fail(arena, MLXR_DEVICE, "computing failed without a reason");
    }
    return nullptr;
}

int32_t bridge_dim(const mlx_value *x, size_t axis)
{
    return x && axis < x->a.ndim() ? x->a.shape(static_cast<int>(axis)) : 0;
}

/* ---- operations ---- */

mlx_value *bridge_one(mlx_arena *arena, bridge_unary op, const mlx_value *x)
{
    return bridge_make(arena, [&]() -> mx::array {
        const mx::array &a = bridge_at(x);
        switch (op) {
        case BRIDGE_ABS:
            return mx::abs(a);
        case BRIDGE_ERF:
            return mx::erf(a);
        case BRIDGE_EXP:
            return mx::exp(a);
        case BRIDGE_LOG1P:
            return mx::log1p(a);
        case BRIDGE_NEGATIVE:
            return mx::negative(a);
        case BRIDGE_RINT:
            return mx::round(a);
        case BRIDGE_SIGMOID:
            return mx::sigmoid(a);
        case BRIDGE_SQUARE:
            return mx::square(a);
        case BRIDGE_TANH:
            return mx::tanh(a);
        case BRIDGE_CONTIGUOUS:
            return mx::contiguous(a);
        }
        throw std::invalid_argument("no such operation");
    });
}

mlx_value *bridge_two(mlx_arena *arena, bridge_binary op, const mlx_value *x, const mlx_value *y)
{
    return bridge_make(arena, [&]() -> mx::array {
        const mx::array &a = bridge_at(x), &b = bridge_at(y);
        switch (op) {
        case BRIDGE_ADD:
            return mx::add(a, b);
        case BRIDGE_SUBTRACT:
            return mx::subtract(a, b);
        case BRIDGE_MULTIPLY:
            return mx::multiply(a, b);
        case BRIDGE_DIVIDE:
            return mx::divide(a, b);
        case BRIDGE_MAXIMUM:
            return mx::maximum(a, b);
        case BRIDGE_MINIMUM:
            return mx::minimum(a, b);
        case BRIDGE_LESS:
            return mx::less(a, b);
        case BRIDGE_LESS_EQUAL:
            return mx::less_equal(a, b);
        case BRIDGE_AND:
            return mx::logical_and(a, b);
        case BRIDGE_BITS:
            return mx::bitwise_and(a, b);
        case BRIDGE_SHIFT_DOWN:
            return mx::right_shift(a, b);
        case BRIDGE_MATMUL:
            return mx::matmul(a, b);
        }
        throw std::invalid_argument("no such operation");
    });
}

mlx_value *bridge_reduce(mlx_arena *arena, bridge_reduction op, const mlx_value *x, int axis)
{
    return bridge_make(arena, [&] {
        return op == BRIDGE_SUM ? mx::sum(bridge_at(x), axis, true) : mx::max(bridge_at(x), axis, true);
    });
}

mlx_value *bridge_cumsum(mlx_arena *arena, const mlx_value *x, int axis)
{
    return bridge_make(arena, [&] { return mx::cumsum(bridge_at(x), axis); });
}

mlx_value *bridge_where(mlx_arena *arena, const mlx_value *condition, const mlx_value *a, const mlx_value *b)
{
    return bridge_make(arena, [&] { return mx::where(bridge_at(condition), bridge_at(a), bridge_at(b)); });
}

mlx_value *bridge_cast(mlx_arena *arena, const mlx_value *x, mlx_type type)
{
    return bridge_make(arena, [&] { return mx::astype(bridge_at(x), bridge_dtype(type)); });
}

mlx_value *bridge_view(mlx_arena *arena, const mlx_value *x, mlx_type type)
{
    return bridge_make(arena, [&] { return mx::view(bridge_at(x), bridge_dtype(type)); });
}

mlx_value *bridge_reshape(mlx_arena *arena, const mlx_value *x, size_t n_dims, const int32_t *shape)
{
    return bridge_make(arena, [&] { return mx::reshape(bridge_at(x), shape_of(n_dims, shape)); });
}

mlx_value *bridge_broadcast(mlx_arena *arena, const mlx_value *x, size_t n_dims, const int32_t *shape)
{
    return bridge_make(arena, [&] { return mx::broadcast_to(bridge_at(x), shape_of(n_dims, shape)); });
}

mlx_value *bridge_transpose(mlx_arena *arena, const mlx_value *x, size_t n_dims, const int *axes)
{
    return bridge_make(arena, [&] { return mx::transpose(bridge_at(x), std::vector<int>(axes, axes + n_dims)); });
}

mlx_value *bridge_slice(mlx_arena *arena, const mlx_value *x, size_t axis, int32_t begin, int32_t end)
{
    return bridge_make(arena, [&] {
        const mx::array &a = bridge_at(x);
        mx::Shape from(a.ndim(), 0), to = a.shape();
        from.at(axis) = begin;
        to.at(axis) = end;
        return mx::slice(a, from, to);
    });
}

mlx_value *bridge_join(mlx_arena *arena, const mlx_value *const *parts, size_t n, int axis)
{
    return bridge_make(arena, [&] {
        std::vector<mx::array> arrays;
        for (size_t i = 0; i < n; i++) {
            arrays.push_back(bridge_at(parts[i]));
        }
        return mx::concatenate(std::move(arrays), axis);
    });
}

mlx_value *bridge_take(mlx_arena *arena, const mlx_value *x, const mlx_value *indices, int axis)
{
    return bridge_make(arena, [&] { return mx::take(bridge_at(x), bridge_at(indices), axis); });
}

mlx_value *bridge_take_along(mlx_arena *arena, const mlx_value *x, const mlx_value *indices, int axis)
{
    return bridge_make(arena, [&] { return mx::take_along_axis(bridge_at(x), bridge_at(indices), axis); });
}

mlx_value *bridge_sorting(mlx_arena *arena, const mlx_value *x, int axis)
{
    return bridge_make(arena, [&] { return mx::argsort(bridge_at(x), axis); });
}

mlx_value *bridge_gather_matmul(mlx_arena *arena, const mlx_value *x, const mlx_value *w, const mlx_value *chosen,
                                bool sorted)
{
    return bridge_make(
        arena, [&] { return mx::gather_mm(bridge_at(x), bridge_at(w), std::nullopt, bridge_at(chosen), sorted); });
}

mlx_value *bridge_gather_quantized_matmul(mlx_arena *arena, const mlx_value *x, const mlx_value *w,
                                          const mlx_value *scales, const mlx_value *biases, const mlx_value *chosen,
                                          bool sorted, int group, int bits)
{
    return bridge_make(arena, [&] {
        return gather_qmm(bridge_at(x), bridge_at(w), bridge_at(scales), bridge_at(biases), bridge_at(chosen), sorted,
                          group, bits);
    });
}

mlx_value *bridge_quantized_matmul(mlx_arena *arena, const mlx_value *x, const mlx_value *w, const mlx_value *scales,
                                   const mlx_value *biases, int group, int bits)
{
    return bridge_make(arena, [&] {
        return mx::quantized_matmul(bridge_at(x), bridge_at(w), bridge_at(scales), bridge_at(biases), true, group,
                                    bits);
    });
}

mlx_value *bridge_dequantize(mlx_arena *arena, const mlx_value *w, const mlx_value *scales, const mlx_value *biases,
                             int group, int bits)
{
    return bridge_make(arena,
                       [&] { return mx::dequantize(bridge_at(w), bridge_at(scales), bridge_at(biases), group, bits); });
}

mlx_value *bridge_norm(mlx_arena *arena, bool layer_norm, const mlx_value *x, const mlx_value *weight,
                       const mlx_value *bias, float eps)
{
    return bridge_make(arena, [&] {
        std::optional<mx::array> w, b;
        if (weight) {
            w = weight->a;
        }
        if (bias) {
            b = bias->a;
        }
        if (layer_norm) {
            return mx::fast::layer_norm(bridge_at(x), w, b, eps);
        }
        mx::array y = mx::fast::rms_norm(bridge_at(x), w, eps);
        return b ? mx::add(y, *b) : y;
    });
}

mlx_value *bridge_conv(mlx_arena *arena, const mlx_value *x, const mlx_value *taps)
{
    return bridge_make(arena, [&] {
        const mx::array &a = bridge_at(x);
        return mx::conv1d(a, bridge_at(taps), 1, 0, 1, a.shape(2));
    });
}

mlx_value *bridge_attention(mlx_arena *arena, const mlx_value *q, const mlx_value *k, const mlx_value *v, float scale,
                            bool causal, const mlx_value *mask, const mlx_value *sinks)
{
    return bridge_make(arena, [&] {
        std::optional<mx::array> m, s;
        if (mask) {
            m = mask->a;
        }
        if (sinks) {
            s = sinks->a;
        }
        return mx::fast::scaled_dot_product_attention(bridge_at(q), bridge_at(k), bridge_at(v), scale,
                                                      !mask && causal ? "causal" : "", m, s);
    });
}
