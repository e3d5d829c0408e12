/*
 * The Metal source that MLX generates around each of our kernels, as a Mac would compile it, against the copy in
 * metal_sources.txt: inside mx::export_function a call is recorded even where there is no Metal. What comes before the
 * kernel is the text of the .metal file and left out. MLXR_WRITE_SOURCES=FILE writes a new copy.
 * Owner: the test program. Lifetime: the process.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "kernels/mlx/bridge.hpp"
#include "kernels/mlx/bridge_kernel.h"

namespace
{

/* A kernel as the backend calls it: types of its inputs (f32 f, f16 h, i32 i, u32 u, bytes b), of its outputs, and its
 * template's values. */
struct sample {
    const char *source, *inputs, *outputs;
    int values[4];
    bool after;
};

const sample samples[] = {
    {"rms_norm", "ff", "f", {MLX_F32}, false},
    {"rope_apply", "fif", "f", {MLX_F32, 1}, false},
    {"rope_table", "if", "f", {}, false},
    {"kv_write", "fffhuui", "u", {MLX_F32, MLX_F16}, false},
    {"attention_decode_fused", "fhuuif", "ff", {MLX_F32, MLX_F16, 128}, true},
    {"attention_decode_merge", "ff", "f", {MLX_F32, 128}, false},
    {"attention_prefill_fused", "ffffhuuf", "f", {MLX_F32, MLX_F16, 128}, false},
    {"q_gemm_vector", "fbf", "f", {MLX_F32, 12, 1}, false},
    {"q_gemm_matrix", "fbf", "f", {MLX_F32, 12}, false},
    {"swiglu_mlp_fused", "fbb", "f", {MLX_F32, 12, 1}, false},
};

mlx_type type_of(char letter)
{
    switch (letter) {
    case 'f':
        return MLX_F32;
    case 'h':
        return MLX_F16;
    case 'i':
        return MLX_I32;
    case 'u':
        return MLX_U32;
    default:
        return MLX_U8;
    }
}

std::vector<mx::array> call(const sample &s)
{
    mlx_arena arena;
    metal_dispatch dispatch = {};
    for (int i = 0; i < 3; i++) {
        dispatch.grid[i] = dispatch.group[i] = 1;
    }
    kernel_call c = {};
    c.source = s.source;
    c.instance = "";
    c.template_values = s.values;
    c.dispatch = &dispatch;
    for (const char *letter = s.inputs; *letter; letter++) {
        arena.values.push_back({mx::zeros({64}, bridge_dtype(type_of(*letter)))});
        c.inputs[c.n_inputs++] = &arena.values.back();
    }
    if (s.after) {
        arena.values.push_back({mx::zeros({1}, mx::uint32)});
        c.after = &arena.values.back();
    }
    for (const char *letter = s.outputs; *letter; letter++) {
        c.outputs[c.n_outputs++] = {type_of(*letter), 1, {64}};
    }
    mlx_value *out[KERNEL_OUTPUTS_MAX] = {};
    if (!bridge_kernel_call(&arena, nullptr, &c, out)) {
        throw std::runtime_error(arena.text);
    }
    return {out[0]->a};
}

/* The longest text among the states of the recorded operations: the source of the one kernel. */
std::string exported(const sample &s)
{
    std::string found;
    auto see = [&found](const mx::ExportCallbackInput &input) {
        for (const auto &entry : input) {
            if (const auto *states = std::get_if<std::vector<mx::StateT>>(&entry.second)) {
                for (const mx::StateT &state : *states) {
                    const auto *text = std::get_if<std::string>(&state);
                    if (text && text->size() > found.size()) {
                        found = *text;
                    }
                }
            }
        }
    };
    mx::export_function(
        see, [&s](const std::vector<mx::array> &) { return call(s); }, std::vector<mx::array>{mx::zeros({1})});
    return found;
}

/* Without the part that the .metal file has word for word. */
std::string without_header(const std::string &text, const char *name)
{
    for (const metal_kernel_source *s = metal_kernel_sources; s->name; s++) {
        size_t at = std::strcmp(s->name, name) == 0 ? text.find(s->header) : std::string::npos;
        if (at != std::string::npos) {
            return text.substr(0, at) + "(what comes before it in the .metal file)\n" +
                   text.substr(at + std::strlen(s->header));
        }
    }
    return "(the header is missing)\n" + text;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::printf("usage: test_sources FILE\n");
        return 2;
    }
    std::ostringstream all;
    try {
        for (const sample &s : samples) {
            all << "==== " << s.source << "\n" << without_header(exported(s), s.source) << "\n";
        }
    } catch (const std::exception &e) {
        std::printf("MLX: %s\n", e.what());
        return 1;
    }
    if (const char *path = std::getenv("MLXR_WRITE_SOURCES")) {
        std::ofstream(path) << all.str();
        return 0;
    }
    std::ifstream file(argv[1]);
    std::stringstream copy;
    copy << file.rdbuf();
    if (copy.str() == all.str()) {
        std::printf("%zu kernels as in %s\n", sizeof samples / sizeof *samples, argv[1]);
        return 0;
    }
    std::istringstream a(copy.str()), b(all.str());
    std::string expected, found;
    for (int line = 1;; line++) {
        bool more_a = static_cast<bool>(std::getline(a, expected)), more_b = static_cast<bool>(std::getline(b, found));
        if (expected != found || more_a != more_b) {
            std::printf("%s:%d: %s\nMLX generates: %s\nMLXR_WRITE_SOURCES=FILE writes a new copy\n", argv[1], line,
                        expected.c_str(), found.c_str());
            return 1;
        }
    }
}
