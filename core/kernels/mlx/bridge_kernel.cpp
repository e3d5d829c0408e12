/*
 * Metal kernels of our own as operations of an MLX graph.
 * Owner, lifetime: as bridge_kernel.h says.
 */
#include "kernels/mlx/bridge_kernel.h"

#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

#include <mlx/backend/cpu/encoder.h>
#include <mlx/primitives.h>

#include "kernels/mlx/bridge.hpp"

struct kernel_failures {
    kernel_runner runner;
    std::mutex lock; /* runs end on a thread of MLX */
    bool failed = false;
    char text[256] = "";
};

namespace
{

/* Where an input's elements lie when the run begins. */
struct view {
    const char *at;
    mx::Shape shape;
    mx::Strides strides;
    size_t item, n_items;
    bool contiguous;
};

view view_of(const mx::array &a)
{
    return {a.data<char>(), a.shape(), a.strides(), a.itemsize(), a.size(), a.flags().row_contiguous};
}

/* The elements in the order of the shape, whatever the strides. */
std::vector<char> gather(const view &v)
{
    std::vector<char> out(v.n_items * v.item);
    std::vector<int> index(v.shape.size(), 0);
    for (size_t i = 0; i < v.n_items; i++) {
        int64_t at = 0;
        for (size_t d = 0; d < index.size(); d++) {
            at += index[d] * static_cast<int64_t>(v.strides[d]);
        }
        std::memcpy(&out[i * v.item], v.at + at * static_cast<int64_t>(v.item), v.item);
        for (size_t d = index.size(); d-- > 0;) {
            if (++index[d] < v.shape[d]) {
                break;
            }
            index[d] = 0;
        }
    }
    return out;
}

/* A kernel in the hands of a runner. Its last input may be another kernel's output that it only comes after. */
class RunKernel : public mx::Primitive
{
  public:
    RunKernel(mx::Stream stream, kernel_failures *failures, const kernel_call &call)
        : Primitive(stream), failures_(failures), instance_(call.instance), dispatch_(*call.dispatch),
          n_inputs_(call.n_inputs)
    {
    }

    void eval_cpu(const std::vector<mx::array> &inputs, std::vector<mx::array> &outputs) override;

    void eval_gpu(const std::vector<mx::array> &, std::vector<mx::array> &) override
    {
        throw std::runtime_error("a kernel for a runner has come to a GPU");
    }

    const char *name() const override
    {
        return "RunKernel";
    }

  private:
    kernel_failures *failures_;
    std::string instance_;
    metal_dispatch dispatch_;
    size_t n_inputs_;
};

/* One run, on MLX's thread. Alignment is the runner's business: it isolates. */
void run(kernel_failures *failures, const std::string &instance, const metal_dispatch &dispatch,
         const std::vector<view> &inputs, const std::vector<metal_emulator_argument> &outputs)
{
    std::vector<std::vector<char>> copies;
    std::vector<metal_emulator_argument> arguments;
    copies.reserve(inputs.size());
    for (const view &v : inputs) {
        char *at = const_cast<char *>(v.at);
        if (!v.contiguous) {
            copies.push_back(gather(v));
            at = copies.back().data();
        }
        arguments.push_back({at, v.n_items * v.item});
    }
    metal_dispatch d = dispatch;
    arguments.push_back({d.words, sizeof d.words});
    arguments.insert(arguments.end(), outputs.begin(), outputs.end());
    metal_emulator_launch launch = {};
    std::copy(d.grid, d.grid + 3, launch.grid);
    std::copy(d.group, d.group + 3, launch.group);
    launch.isolate = true;
    char error[256] = "";
    if (failures->runner.run(failures->runner.context, instance.c_str(), arguments.data(), arguments.size(), &launch,
                             error, sizeof error) != 0) {
        std::lock_guard<std::mutex> held(failures->lock);
        if (!failures->failed) {
            failures->failed = true;
            std::snprintf(failures->text, sizeof failures->text, "%s: %.180s", instance.c_str(), error);
        }
    }
}

void RunKernel::eval_cpu(const std::vector<mx::array> &inputs, std::vector<mx::array> &outputs)
{
    std::vector<view> views;
    std::vector<metal_emulator_argument> arguments;
    for (size_t i = 0; i < n_inputs_; i++) {
        views.push_back(view_of(inputs[i]));
    }
    for (mx::array &out : outputs) {
        out.set_data(mx::allocator::malloc(out.nbytes()));
        std::memset(out.data<char>(), 0, out.nbytes());
        arguments.push_back({out.data<char>(), out.nbytes()});
    }
    mx::cpu::get_command_encoder(stream()).dispatch([failures = failures_, instance = instance_, dispatch = dispatch_,
                                                     views = std::move(views), arguments = std::move(arguments)]() {
        try {
            run(failures, instance, dispatch, views, arguments);
        } catch (...) { /* no memory for the copies; nothing may leave a thread of MLX */
            std::lock_guard<std::mutex> held(failures->lock);
            failures->failed = true;
        }
    });
}

const metal_kernel_source *source_of(const char *name)
{
    for (const metal_kernel_source *s = metal_kernel_sources; s->name; s++) {
        if (std::strcmp(s->name, name) == 0) {
            return s;
        }
    }
    throw std::invalid_argument(std::string("there is no kernel ") + name);
}

std::vector<std::string> names_of(const char *const *list)
{
    std::vector<std::string> names;
    for (; *list; list++) {
        names.push_back(*list);
    }
    return names;
}

/* "typename T", "int HEAD", "bool PAIRS" and their values. */
std::vector<std::pair<std::string, mx::fast::TemplateArg>> template_of(const kernel_call &call,
                                                                       const metal_kernel_source &source)
{
    std::vector<std::pair<std::string, mx::fast::TemplateArg>> arguments;
    for (size_t i = 0; source.template_parameters[i]; i++) {
        std::string parameter = source.template_parameters[i];
        size_t blank = parameter.rfind(' ');
        std::string kind = parameter.substr(0, blank), name = parameter.substr(blank + 1);
        int value = call.template_values[i];
        if (kind == "typename") {
            arguments.push_back({name, bridge_dtype(static_cast<mlx_type>(value))});
        } else if (kind == "bool") {
            arguments.push_back({name, value != 0});
        } else {
            arguments.push_back({name, value});
        }
    }
    return arguments;
}

std::tuple<int, int, int> triple(const uint32_t n[3])
{
    return {static_cast<int>(n[0]), static_cast<int>(n[1]), static_cast<int>(n[2])};
}

std::vector<mx::array> call_metal(const kernel_call &call, std::vector<mx::array> inputs,
                                  const std::vector<mx::Shape> &shapes, const std::vector<mx::Dtype> &types)
{
    const metal_kernel_source *source = source_of(call.source);
    std::vector<std::string> names = names_of(source->inputs);
    inputs.insert(inputs.begin() + static_cast<std::ptrdiff_t>(call.n_inputs),
                  mx::array(call.dispatch->words, {METAL_WORDS_MAX}, mx::uint32));
    if (call.after) {
        names.push_back("after");
    }
    auto kernel = mx::fast::metal_kernel(source->name, names, names_of(source->outputs), source->body, source->header);
    return kernel(inputs, shapes, types, triple(call.dispatch->grid), triple(call.dispatch->group),
                  template_of(call, *source), std::nullopt, false, {});
}

std::vector<mx::array> call_kernel(kernel_failures *failures, const kernel_call &call)
{
    std::vector<mx::array> inputs;
    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> types;
    for (size_t i = 0; i < call.n_inputs; i++) {
        inputs.push_back(bridge_at(call.inputs[i]));
    }
    if (call.after) {
        inputs.push_back(bridge_at(call.after));
    }
    for (size_t i = 0; i < call.n_outputs; i++) {
        const kernel_output &o = call.outputs[i];
        shapes.push_back(mx::Shape(o.shape, o.shape + o.n_dims));
        types.push_back(bridge_dtype(o.type));
    }
    if (!failures) {
        return call_metal(call, std::move(inputs), shapes, types);
    }
    auto primitive = std::make_shared<RunKernel>(mx::default_stream(mx::default_device()), failures, call);
    return mx::array::make_arrays(std::move(shapes), types, primitive, inputs);
}

} // namespace

kernel_failures *bridge_failures_open(const kernel_runner *runner)
{
    kernel_failures *failures = new (std::nothrow) kernel_failures;
    if (failures) {
        failures->runner = *runner;
    }
    return failures;
}

void bridge_failures_close(kernel_failures **failures)
{
    delete *failures;
    *failures = nullptr;
}

mlxr_status bridge_failures_take(kernel_failures *failures, mlxr_error *error)
{
    std::lock_guard<std::mutex> held(failures->lock);
    if (!failures->failed) {
        return MLXR_OK;
    }
    failures->failed = false;
    if (error) {
        error->status = MLXR_DEVICE;
        std::snprintf(error->text, sizeof error->text, "kernel %s", failures->text);
    }
    return MLXR_DEVICE;
}

bool bridge_kernel_call(mlx_arena *arena, kernel_failures *failures, const kernel_call *call, mlx_value **out)
{
    std::vector<mx::array> results;
    mlx_value *first = bridge_make(arena, [&] {
        results = call_kernel(failures, *call);
        return results.at(0);
    });
    for (size_t i = 0; i < call->n_outputs; i++) {
        out[i] = i == 0 ? first : bridge_make(arena, [&] { return results.at(i); });
    }
    return first != nullptr;
}
