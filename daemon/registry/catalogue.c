/*
 * Models we recommend.
 * Owner: const data. Lifetime: static.
 *
 * Digests and sizes are those that several publications, independent of each other, state for the file of this name;
 * none could be compared with the servers from where this was written. Where there was only one such publication, or
 * none, the digest is left out and the size is the number of weights times the bits a weight has in files of the type.
 * A pull always checks against the digest that the server's own list of files states; one that is not the catalogue's
 * is told as a warning of the model, since a repository may publish better files under the same name.
 */
#include "registry/catalogue.h"

#include <string.h>
#include <strings.h>

#include "registry/registry.h"

#define MB(n) ((uint64_t)(n) * 1000000u)

static const catalogue_entry entries[] = {
    {"smollm2:135m", "hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M", "tiny; for trying things out", 134515008,
     MB(105), NULL, 23040, true},
    {"smollm2:1.7b", "hf:HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M", "small and quick, English", 1711376384,
     MB(1056), NULL, 196608, false},
    {"gemma3:270m", "hf:ggml-org/gemma-3-270m-it-GGUF:Q8_0", "tiny, for one narrow task", 268098176, 291545600,
     "sha256:0ef57d2c838458a1952664260dcba38e5bdda37494f3af732f06e4add24068e3", 18432, false},
    {"gemma3:1b", "hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M", "small, many languages", 999885952, 806058240,
     "sha256:8ccc5cd1f1b3602548715ae25a66ed73fd5dc68a210412eea643eb20eb75a135", 26624, true},
    {"gemma3:4b", "hf:ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "good all-rounder in 140 languages (text only here)",
     3880263168, MB(2490), NULL, 139264, false},
    {"llama3.2:1b", "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "small, long context", 1235814400, 807694464,
     "sha256:6f85a640a97cf2bf5b8e764087b1e83da0fdb51d7c9fab7d0fece9385611df83", 32768, false},
    {"llama3.2:3b", "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "everyday chat, long context", 3212749824,
     2019377696, "sha256:6c1a2b41161032677be168d354123594c0e6e67d2b9227c84f296ad037c728ff", 114688, false},
    {"mistral:7b", "hf:bartowski/Mistral-7B-Instruct-v0.3-GGUF:Q4_K_M", "proven, calls tools", 7248023552, MB(4370),
     NULL, 131072, false},
    {"qwen2.5-coder:7b", "hf:Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M", "writes and completes code", 7615616512,
     MB(4680), NULL, 57344, false},
    {"qwen3:0.6b", "hf:Qwen/Qwen3-0.6B-GGUF:Q8_0", "tiny, thinks before it answers", 596049920, MB(639), NULL, 114688,
     false},
    {"qwen3:4b", "hf:Qwen/Qwen3-4B-GGUF:Q4_K_M", "the one to begin with: thinks, calls tools, fits 8 GB", 4022468096,
     2497280256, "sha256:7485fe6f11af29433bc51cab58009521f205840f5b4ae3a32fa7f92e8534fdf5", 147456, true},
    {"qwen3:8b", "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M", "the same, better, for 16 GB", 8190735360, 5027783488,
     "sha256:d98cdcbd03e17ce47681435b5150e34c1417f50b5c0019dd560e4882c5745785", 147456, false},
};

const catalogue_entry *catalogue_entry_at(size_t i)
{
    return i < sizeof entries / sizeof *entries ? &entries[i] : NULL;
}

const catalogue_entry *catalogue_entry_find(const char *name)
{
    const catalogue_entry *entry;
    for (size_t i = 0; (entry = catalogue_entry_at(i)) != NULL; i++) {
        if (strcasecmp(entry->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

const catalogue_entry *catalogue_size_of(const char *name)
{
    const size_t n = strlen(name);
    const catalogue_entry *entry;
    for (size_t i = 0; (entry = catalogue_entry_at(i)) != NULL; i++) {
        if (strncasecmp(entry->name, name, n) == 0 && entry->name[n] == ':') {
            return entry;
        }
    }
    return NULL;
}

#define CONTEXT 8192u

json_t *registry_catalogue_json(void)
{
    json_t *list = json_array();
    const catalogue_entry *e;
    for (size_t i = 0; list && (e = catalogue_entry_at(i)) != NULL; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:s?, s:b, s:b}", "name", e->name,
                                              "source", e->source, "about", e->about, "n_params",
                                              (json_int_t)e->n_params, "bytes", (json_int_t)e->bytes, "memory_bytes",
                                              (json_int_t)(e->bytes + (uint64_t)e->kv_bytes_per_token * CONTEXT),
                                              "digest", e->digest, "exact", e->digest != NULL, "first", e->first));
    }
    return list;
}
