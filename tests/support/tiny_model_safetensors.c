/*
 * Tiny random models as directories with config.json, tokenizer.json and safetensors.
 * Owner: see tiny_model.h. Lifetime: the call.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "quant/codec.h"
#include "support/tiny_model.h"

/* ---- config.json ------------------------------------------------------------------------------------------------ */

static const char *boolean(bool value)
{
    return value ? "true" : "false";
}

/* One set of RoPE parameters, without braces; old files keep theta outside. */
static void write_rope_set(FILE *f, const tiny_model *m, bool with_theta)
{
    static const char *const names[] = {"default", "linear", "yarn", "llama3"};
    fprintf(f, "\"rope_type\": \"%s\"", names[m->scaling]);
    if (with_theta) {
        fprintf(f, ", \"rope_theta\": %.9g", (double)m->theta);
    }
    const struct {
        const char *name;
        float value;
    } numbers[] = {{"factor", m->factor},
                   {"low_freq_factor", m->low_freq},
                   {"high_freq_factor", m->high_freq},
                   {"beta_fast", m->beta_fast},
                   {"beta_slow", m->beta_slow},
                   {"attention_factor", m->attn_factor},
                   {"original_max_position_embeddings", (float)m->n_ctx_orig}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].value != 0) {
            fprintf(f, ", \"%s\": %.9g", numbers[i].name, (double)numbers[i].value);
        }
    }
}

static void write_rope_config(FILE *f, const tiny_model *m)
{
    if (m->new_config && m->theta_local != 0) {
        fprintf(f, "  \"rope_parameters\": {\n    \"full_attention\": {");
        write_rope_set(f, m, true);
        fprintf(f, "},\n    \"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": %.9g}\n  },\n",
                (double)m->theta_local);
        return;
    }
    if (m->new_config) {
        fprintf(f, "  \"rope_parameters\": {");
        write_rope_set(f, m, true);
        fprintf(f, "},\n");
        return;
    }
    fprintf(f, "  \"rope_theta\": %.9g,\n", (double)m->theta);
    if (m->theta_local != 0) {
        fprintf(f, "  \"rope_local_base_freq\": %.9g,\n", (double)m->theta_local);
    }
    fprintf(f, "  \"rope_scaling\": ");
    if (m->scaling == TINY_SCALING_NONE) {
        fprintf(f, "null,\n");
    } else {
        fprintf(f, "{");
        write_rope_set(f, m, false);
        fprintf(f, "},\n");
    }
}

static void write_window_config(FILE *f, const tiny_model *m)
{
    if (strcmp(m->arch, "qwen2") == 0) { /* as published: a window is named and switched off */
        fprintf(f, "  \"use_sliding_window\": false,\n  \"sliding_window\": 32,\n  \"max_window_layers\": 2,\n");
        return;
    }
    if (m->window == 0) {
        return;
    }
    fprintf(f, "  \"sliding_window\": %u,\n", m->window);
    if (m->window_every && m->new_config) {
        fprintf(f, "  \"layer_types\": [");
        for (uint32_t i = 0; i < m->n_layers; i++) {
            fprintf(f, "%s\"%s_attention\"", i ? ", " : "", (i + 1) % m->window_every ? "sliding" : "full");
        }
        fprintf(f, "],\n");
    } else if (m->window_every) {
        fprintf(f, "  \"sliding_window_pattern\": %u,\n", m->window_every);
    }
}

static void write_config(const tiny_model *m, const char *dtype_text, const char *path)
{
    tiny_specials s = tiny_vocab_specials(m->vocab);
    FILE *f = tiny_open(path);
    fprintf(f, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n", m->class_name, m->model_type);
    fprintf(f, "  \"vocab_size\": %u,\n  \"hidden_size\": %u,\n  \"intermediate_size\": %u,\n", TINY_N_VOCAB, m->n_embd,
            m->n_ff);
    fprintf(f, "  \"num_hidden_layers\": %u,\n  \"num_attention_heads\": %u,\n  \"num_key_value_heads\": %u,\n",
            m->n_layers, m->n_head, m->n_head_kv);
    if (m->head_dim * m->n_head != m->n_embd || m->qk_norm) {
        fprintf(f, "  \"head_dim\": %u,\n", m->head_dim);
    }
    fprintf(f, "  \"max_position_embeddings\": %u,\n  \"rms_norm_eps\": %.9g,\n", TINY_N_CTX, (double)m->eps);
    write_rope_config(f, m);
    write_window_config(f, m);
    if (m->post_norms) {
        fprintf(f, "  \"query_pre_attn_scalar\": %.9g,\n",
                (double)(m->query_scalar != 0 ? m->query_scalar : (float)m->head_dim));
        fprintf(f, "  \"hidden_activation\": \"gelu_pytorch_tanh\",\n  \"attn_logit_softcapping\": null,\n"
                   "  \"final_logit_softcapping\": null,\n");
    } else {
        fprintf(f, "  \"hidden_act\": \"silu\",\n");
    }
    if (strcmp(m->model_type, "llama") == 0) {
        fprintf(f, "  \"attention_bias\": %s,\n  \"mlp_bias\": %s,\n", boolean(m->qkv_bias), boolean(m->other_bias));
    } else if (m->qk_norm) {
        fprintf(f, "  \"attention_bias\": false,\n");
    }
    if (s.pad >= 0) {
        fprintf(f, "  \"pad_token_id\": %d,\n", s.pad);
    }
    fprintf(f, "  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n", s.bos, s.eos);
    fprintf(f, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\"\n}\n", boolean(m->tied), dtype_text);
    tiny_close(f, path);
}

/* ---- tokenizer.json --------------------------------------------------------------------------------------------- */

static const char *const qwen2_pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";
static const char *const llama3_pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                                          "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                                          "\\s+(?!\\S)|\\s+";

static void write_bpe_steps(FILE *f, const tiny_model *m)
{
    fprintf(f, "  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
               "    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
    tiny_json_string(f, m->arch[0] == 'q' ? qwen2_pattern : llama3_pattern);
    fprintf(
        f,
        "}, \"behavior\": \"Isolated\", \"invert\": false},\n"
        "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}]},\n"
        "  \"post_processor\": null,\n"
        "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": "
        "true},\n");
}

static void write_spm_steps(FILE *f, const tiny_model *m)
{
    tiny_specials s = tiny_vocab_specials(m->vocab);
    const char *bos = m->vocab == TINY_VOCAB_GEMMA ? "<bos>" : "<s>";
    const char *replace = "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}";
    if (s.add_space_prefix) {
        fprintf(f,
                "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [\n"
                "    {\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}, %s]},\n",
                replace);
    } else {
        fprintf(f, "  \"normalizer\": %s,\n", replace);
    }
    fprintf(f,
            "  \"pre_tokenizer\": null,\n  \"post_processor\": {\"type\": \"TemplateProcessing\",\n"
            "    \"single\": [{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", "
            "\"type_id\": 0}}],\n"
            "    \"pair\": [{\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", "
            "\"type_id\": 0}},\n"
            "      {\"SpecialToken\": {\"id\": \"%s\", \"type_id\": 1}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": "
            "1}}],\n"
            "    \"special_tokens\": {\"%s\": {\"id\": \"%s\", \"ids\": [%d], \"tokens\": [\"%s\"]}}},\n",
            bos, bos, bos, bos, bos, s.bos, bos);
    fprintf(f,
            "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [\n"
            "    {\"type\": \"Replace\", \"pattern\": {\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": "
            "\"ByteFallback\"},\n"
            "    {\"type\": \"Fuse\"}%s]},\n",
            s.add_space_prefix ? ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}" : "");
}

static void write_tokenizer(const tiny_model *m, const char *path)
{
    tiny_token tokens[TINY_N_VOCAB];
    tiny_vocab_tokens(m->vocab, tokens);
    bool bpe = m->vocab == TINY_VOCAB_BPE;
    FILE *f = tiny_open(path);
    fprintf(f, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [\n");
    for (size_t i = 0, n = 0; i < TINY_N_VOCAB; i++) {
        if (tokens[i].type == 2 || tokens[i].type == 3) {
            fprintf(f, "%s    {\"id\": %zu, \"content\": ", n++ ? ",\n" : "", i);
            tiny_json_string(f, tokens[i].text);
            fprintf(f, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                       "\"special\": true}");
        }
    }
    fprintf(f, "\n  ],\n");
    if (bpe) {
        write_bpe_steps(f, m);
    } else {
        write_spm_steps(f, m);
    }
    fprintf(
        f,
        "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": %s, \"continuing_subword_prefix\": null,\n"
        "    \"end_of_word_suffix\": null, \"fuse_unk\": %s, \"byte_fallback\": %s, \"ignore_merges\": false,\n    "
        "\"vocab\": {",
        bpe ? "null" : "\"<unk>\"", boolean(!bpe), boolean(!bpe));
    for (size_t i = 0, n = 0; i < TINY_N_VOCAB; i++) {
        if (!bpe || tokens[i].type != 3) { /* byte-level files keep special tokens beside the vocabulary */
            fprintf(f, "%s", n++ ? ", " : "");
            tiny_json_string(f, tokens[i].text);
            fprintf(f, ": %zu", i);
        }
    }
    fprintf(f, "},\n    \"merges\": [");
    char merge[64];
    for (size_t i = 0; tiny_vocab_merge(m->vocab, i, merge, sizeof merge); i++) {
        fprintf(f, "%s", i ? ", " : "");
        tiny_json_string(f, merge);
    }
    fprintf(f, "]}\n}\n");
    tiny_close(f, path);
}

static void write_tokenizer_config(const tiny_model *m, const char *path)
{
    tiny_token tokens[TINY_N_VOCAB];
    tiny_specials s = tiny_vocab_specials(m->vocab);
    tiny_vocab_tokens(m->vocab, tokens);
    FILE *f = tiny_open(path);
    fprintf(f, "{\n  \"add_bos_token\": %s,\n  \"add_eos_token\": false,\n  \"bos_token\": ", boolean(s.add_bos));
    tiny_json_string(f, tokens[s.bos].text);
    fprintf(f, ",\n  \"eos_token\": ");
    tiny_json_string(f, tokens[s.eos].text);
    if (s.unk >= 0) {
        fprintf(f, ",\n  \"unk_token\": ");
        tiny_json_string(f, tokens[s.unk].text);
    }
    if (m->chat_template) {
        fprintf(f, ",\n  \"chat_template\": ");
        tiny_json_string(f, m->chat_template);
    }
    fprintf(f, ",\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    tiny_close(f, path);
}

void tiny_model_write_tokenizer(const tiny_model *model, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    write_tokenizer(model, path);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    write_tokenizer_config(model, path);
}

/* ---- weights ---------------------------------------------------------------------------------------------------- */

/* The type of a tensor in the file: vectors follow the matrices, as published checkpoints have it. */
static dtype file_type(const tiny_options *options)
{
    return options->decoded ? DTYPE_F32 : options->type;
}

static size_t tensor_bytes(const tiny_tensor *t, const tiny_options *options)
{
    return dtype_row_bytes(file_type(options), (size_t)t->n_in * (t->n_out ? t->n_out : 1));
}

static void write_header(FILE *f, const tiny_tensor *tensors, size_t n, const tiny_options *options)
{
    char *text = NULL;
    size_t n_text = 0, offset = 0;
    FILE *header = open_memstream(&text, &n_text);
    if (!header) {
        abort();
    }
    fprintf(header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (size_t i = 0; i < n; i++) {
        const tiny_tensor *t = &tensors[i];
        fprintf(header, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [", t->hf_name, dtype_name(file_type(options)));
        fprintf(header, t->n_out ? "%u, %u]" : "%u]", t->n_out ? t->n_out : t->n_in, t->n_in);
        fprintf(header, ", \"data_offsets\": [%zu, %zu]}", offset, offset + tensor_bytes(t, options));
        offset += tensor_bytes(t, options);
    }
    fprintf(header, "}");
    fflush(header);
    while (n_text % 8 != 0) {
        fputc(' ', header);
        fflush(header);
    }
    tiny_close(header, "memory");
    uint64_t length = n_text;
    fwrite(&length, sizeof length, 1, f);
    fwrite(text, 1, n_text, f);
    free(text);
}

static void write_values(FILE *f, const tiny_model *m, const tiny_tensor *t, const tiny_options *options)
{
    size_t n = (size_t)t->n_in * (t->n_out ? t->n_out : 1);
    float *values = tiny_tensor_values(m, t);
    if (options->type == DTYPE_F32) {
        fwrite(values, sizeof *values, n, f);
    } else {
        void *encoded = malloc(dtype_row_bytes(options->type, n));
        if (!encoded) {
            abort();
        }
        codec_encode(options->type, values, encoded, n, NULL);
        if (options->decoded) {
            codec_decode(options->type, encoded, values, n);
            fwrite(values, sizeof *values, n, f);
        } else {
            fwrite(encoded, 1, dtype_row_bytes(options->type, n), f);
        }
        free(encoded);
    }
    free(values);
}

static void shard_name(uint32_t shard, uint32_t n_shards, char *out, size_t cap)
{
    if (n_shards < 2) {
        snprintf(out, cap, "model.safetensors");
    } else {
        snprintf(out, cap, "model-%05u-of-%05u.safetensors", shard + 1, n_shards);
    }
}

static void write_index(const tiny_tensor *tensors, size_t n, uint32_t n_shards, const tiny_options *options,
                        const char *path)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        total += tensor_bytes(&tensors[i], options);
    }
    FILE *f = tiny_open(path);
    fprintf(f, "{\"metadata\": {\"total_size\": %zu}, \"weight_map\": {\n", total);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        shard_name((uint32_t)(i * n_shards / n), n_shards, name, sizeof name);
        fprintf(f, "  \"%s\": \"%s\"%s\n", tensors[i].hf_name, name, i + 1 < n ? "," : "");
    }
    fprintf(f, "}}\n");
    tiny_close(f, path);
}

void tiny_model_write_safetensors(const tiny_model *model, const tiny_options *options, const char *dir)
{
    tiny_tensor tensors[TINY_TENSORS_MAX];
    tiny_options plain = {0};
    options = options ? options : &plain;
    size_t n_all = tiny_model_tensors(model, tensors), n = 0;
    for (size_t i = 0; i < n_all; i++) {
        if (!tensors[i].gguf_only) {
            tensors[n++] = tensors[i];
        }
    }
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "cannot make %s\n", dir);
        abort();
    }
    char path[4096], name[64];
    snprintf(path, sizeof path, "%s/config.json", dir);
    write_config(model,
                 options->decoded || options->type == DTYPE_F32 ? "float32"
                 : options->type == DTYPE_F16                   ? "float16"
                                                                : "bfloat16",
                 path);
    tiny_model_write_tokenizer(model, dir);
    uint32_t n_shards = options->shards > 1 ? options->shards : 1;
    for (uint32_t shard = 0; shard < n_shards; shard++) {
        size_t first = 0, end = 0;
        while (first < n && first * n_shards / n < shard) {
            first++;
        }
        for (end = first; end < n && end * n_shards / n == shard; end++) {
        }
        shard_name(shard, n_shards, name, sizeof name);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        FILE *f = tiny_open(path);
        write_header(f, tensors + first, end - first, options);
        for (size_t i = first; i < end; i++) {
            write_values(f, model, &tensors[i], options);
        }
        tiny_close(f, path);
    }
    if (n_shards > 1) {
        snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
        write_index(tensors, n, n_shards, options, path);
    }
}
