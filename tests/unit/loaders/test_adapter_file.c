/*
 * Adapter files: what good ones give, and one clear line for every kind of bad one.
 * Owner: the test program. Lifetime: the process.
 */
#include "loaders/adapter_file.h"

#include <math.h>
#include <unistd.h>

#include "byte_script.h"
#include "safetensors_text.h"

/* What adapters are read for. */
static const adapter_model llama = {.arch = "llama", .n_layers = 4, .n_expert = 3, .n_expert_in = 8, .n_ff_expert = 4};

/* ---- GGUF -------------------------------------------------------------------------------------------------------- */

/* A header, with metadata and without. */
#define BARE(n_tensors, n_meta) "=GGUF 4:3 8:" #n_tensors " 8:" #n_meta " "
#define TYPE "'general.type 4:8 'adapter "
#define KIND "'adapter.type 4:8 'lora "
#define ARCH "'general.architecture 4:8 'llama "
#define ALPHA "'adapter.lora.alpha 4:6 4:0x40c00000 " /* 6 */
#define LORA(n_tensors) BARE(n_tensors, 4) TYPE KIND ARCH ALPHA
/* A matrix of n inputs and m rows; one of other dimensions. */
#define M(name, n, m, type, offset) "'" name " 4:2 8:" #n " 8:" #m " 4:" #type " 8:" #offset " "
#define S(name, n, m, k, offset) "'" name " 4:3 8:" #n " 8:" #m " 8:" #k " 4:0 8:" #offset " "
#define Q "blk.0.attn_q.weight"
#define U "blk.0.ffn_up_exps.weight"
#define T "token_embd.weight"
#define A M(Q ".lora_a", 8, 2, 0, 0)
#define B M(Q ".lora_b", 2, 8, 0, 64)
#define DATA "|32 0*128"
#define LONG                                                                                                           \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"             \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"             \
    "0123456789012345678901234567890123456789012345678901234567890123456789"
/* A whole adapter whose scale may be another. */
#define SCALED(alpha) BARE(2, 4) TYPE KIND ARCH alpha A B DATA
/* One matrix pair, its rows given. */
#define ROWS(rows) LORA(2) rows "|32 0*65536"

static const struct {
    const char *script, *error; /* NULL: it opens */
} gguf[] = {
    {LORA(2) A B DATA, NULL},
    {LORA(2) B A DATA, NULL},
    {SCALED("'adapter.lora.alpha 4:4 4:6 "), NULL},
    {SCALED("'adapter.lora.alpha 4:6 4:0 "), NULL},
    {ROWS(M(Q ".lora_a", 32, 2, 8, 0) M(Q ".lora_b", 2, 8, 1, 96)), NULL},
    /* no GGUF, or a broken one */
    {"", "does not begin with 'GGUF'"},
    {"=GGUF", "memory: "},
    {"=GGUF 4:1 8:0 8:0", "version 1"},
    {LORA(3) A B DATA, "memory: "},
    {LORA(2) A B "|32 0*127", "memory: "},
    {LORA(2) A M(Q ".lora_b", 2, 8, 0, 4096) DATA, "memory: "},
    {LORA(2) A M(Q ".lora_b", 2, 8, 0, 32) DATA, "overlap"},
    {LORA(2) A A DATA, "memory: "},
    {LORA(2) A M(Q ".lora_b", 2, 8, 250, 64) DATA, "memory: "},
    {LORA(2) A M(Q ".lora_b", 2, 0, 0, 64) DATA, "memory: "},
    {LORA(2) M(Q ".lora_a", 8, 2, 8, 0) B DATA, "memory: "},
    {BARE(2, 5) TYPE KIND ARCH ALPHA "'split.count 4:2 2:2 " A B DATA, "parts must be named"},
    /* no adapter, or another kind of one */
    {BARE(0, 0), "not a LoRA adapter: general.type is '', adapter.type ''"},
    {BARE(2, 3) KIND ARCH ALPHA A B DATA, "general.type is '', adapter.type 'lora'"},
    {BARE(2, 3) TYPE ARCH ALPHA A B DATA, "general.type is 'adapter', adapter.type ''"},
    {BARE(2, 4) "'general.type 4:8 'model " KIND ARCH ALPHA A B DATA, "general.type is 'model'"},
    {BARE(2, 4) "'general.type 4:8 'adapters " KIND ARCH ALPHA A B DATA, "general.type is 'adapters'"},
    {BARE(2, 4) "'general.type 4:8 'Adapter " KIND ARCH ALPHA A B DATA, "general.type is 'Adapter'"},
    {BARE(2, 4) "'general.type 4:8 '' " KIND ARCH ALPHA A B DATA, "general.type is ''"},
    {BARE(2, 4) "'general.type 4:4 4:7 " KIND ARCH ALPHA A B DATA, "'general.type' is 7; expected a string"},
    {BARE(2, 4) TYPE "'adapter.type 4:8 'loha " ARCH ALPHA A B DATA, "adapter.type 'loha'"},
    {BARE(2, 4) TYPE "'adapter.type 4:8 'LORA " ARCH ALPHA A B DATA, "adapter.type 'LORA'"},
    {BARE(2, 4) TYPE
     "'adapter.type 4:8 'control_vector_of_a_name_that_goes_on_and_on_and_on_and_on_until_the_end " ARCH ALPHA A B DATA,
     "control_vector_of_a_name_that_goes_on_and_on_and_on_and_on_u'"},
    {BARE(2, 4) TYPE "'adapter.type 4:7 1:1 " ARCH ALPHA A B DATA, "'adapter.type' is true; expected a string"},
    /* another family */
    {BARE(2, 3) TYPE KIND ALPHA A B DATA, "the family ''; this is a llama model"},
    {BARE(2, 4) TYPE KIND "'general.architecture 4:8 'qwen2 " ALPHA A B DATA, "the family 'qwen2'"},
    {BARE(2, 4) TYPE KIND "'general.architecture 4:8 'llam " ALPHA A B DATA, "the family 'llam'"},
    {BARE(2, 4) TYPE KIND "'general.architecture 4:8 'llama4 " ALPHA A B DATA, "the family 'llama4'"},
    {BARE(2, 4) TYPE KIND "'general.architecture 4:9 4:4 8:1 4:1 " ALPHA A B DATA, "expected a string"},
    /* scales */
    {SCALED("'adapter.lora.alpha 4:6 4:0xc0c00000 "), "alpha is -6; it cannot be below 0"},
    {SCALED("'adapter.lora.alpha 4:5 4:0xffffffff "), "alpha is -1; it cannot be below 0"},
    {SCALED("'adapter.lora.alpha 4:6 4:0x7fc00000 "), "nan; it cannot be below 0"},
    {SCALED("'adapter.lora.alpha 4:6 4:0x7f800000 "), "an alpha of inf, which no float holds"},
    {SCALED("'adapter.lora.alpha 4:6 4:0xff800000 "), "alpha is -inf"},
    {SCALED("'adapter.lora.alpha 4:12 8:0x7fe0000000000000 "), "expected a number that fits a float32"},
    {SCALED("'adapter.lora.alpha 4:8 'six "), "'adapter.lora.alpha' is a string"},
    {SCALED("'adapter.lora.alpha 4:7 1:1 "), "'adapter.lora.alpha' is true"},
    {SCALED("'adapter.lora.alpha 4:9 4:6 8:1 4:0 "), "'adapter.lora.alpha' is an array"},
    /* tensors */
    {LORA(0), "the adapter changes nothing"},
    {LORA(1) A DATA, "adapter tensor '" Q ".lora_b' is missing"},
    {LORA(1) M(Q ".lora_b", 2, 8, 0, 0) DATA, "adapter tensor '" Q ".lora_a' is missing"},
    {LORA(2) A M("blk.1.attn_q.weight.lora_b", 2, 8, 0, 64) DATA, "adapter tensor '" Q ".lora_b' is missing"},
    {ROWS(M(Q, 8, 2, 0, 0) B), "adapter tensor '" Q "': only .lora_a and .lora_b"},
    {ROWS(M(Q ".lora_A", 8, 2, 0, 0) B), "'" Q ".lora_A': only .lora_a and .lora_b"},
    {ROWS(M(Q ".lora_magnitude", 8, 2, 0, 0) B), ".lora_magnitude': only .lora_a and .lora_b"},
    {ROWS(M("lora_a", 8, 2, 0, 0) M("lora_b", 2, 8, 0, 64)), "adapter tensor 'lora_a': only .lora_a"},
    {ROWS(M(Q ".lora_a.lora_c", 8, 2, 0, 0) B), ".lora_c': only .lora_a"},
    {ROWS(M("n" LONG ".lora_a", 8, 2, 0, 0) M("n" LONG ".lora_b", 2, 8, 0, 64)), "it must be 1 to 255"},
    {ROWS("'" Q ".lora_a 4:1 8:8 4:0 8:0 " B), "are no pair"},
    {ROWS("'" Q ".lora_a 4:3 8:8 8:2 8:1 4:0 8:0 " B), "are no pair"},
    {ROWS(A "'" Q ".lora_b 4:1 8:16 4:0 8:64 "), "are no pair"},
    {ROWS(A "'" Q ".lora_b 4:4 8:2 8:8 8:1 8:1 4:0 8:64 "), "are no pair"},
    {ROWS(M(Q ".lora_a", 8, 3, 0, 0) M(Q ".lora_b", 2, 8, 0, 96)), "[8, 3] and '" Q ".lora_b' [2, 8] are no pair"},
    {ROWS(A M(Q ".lora_b", 8, 2, 0, 64)), "are no pair"},
    {ROWS(M(Q ".lora_a", 2, 8, 0, 0) M(Q ".lora_b", 8, 2, 0, 64)), NULL}, /* the model will refuse it */
    {ROWS(M(Q ".lora_a", 1, 4097, 0, 0) M(Q ".lora_b", 4097, 1, 0, 16416)), "are no pair"},
    {ROWS(M(Q ".lora_a", 1, 4096, 0, 0) M(Q ".lora_b", 4096, 1, 0, 16384)), NULL},
    /* experts' stacks, and an embedding's A, which has a row a token */
    {ROWS(S(U ".lora_a", 8, 2, 3, 0) S(U ".lora_b", 2, 8, 3, 192)), NULL},
    {ROWS(S(U ".lora_a", 8, 2, 3, 0) S(U ".lora_b", 2, 8, 2, 192)), "are no pair of this model's experts"},
    {ROWS(S(U ".lora_a", 8, 2, 3, 0) S(U ".lora_b", 3, 8, 3, 192)), "are no pair of this model's experts"},
    {ROWS(S(U ".lora_a", 8, 2, 3, 0) M(U ".lora_b", 2, 8, 0, 192)), "are no pair of this model's experts"},
    {ROWS(M(U ".lora_a", 8, 2, 0, 0) S(U ".lora_b", 2, 8, 3, 64)), "are no pair"},
    {LORA(1) S(U ".lora_a", 8, 2, 3, 0) "|32 0*65536", "adapter tensor '" U ".lora_b' is missing"},
    {LORA(1) S(U ".lora_b", 2, 8, 3, 0) "|32 0*65536", "adapter tensor '" U ".lora_a' is missing"},
    {ROWS(M(T ".lora_a", 2, 9, 0, 0) M(T ".lora_b", 2, 8, 0, 96)), NULL},
    {ROWS(M(T ".lora_a", 9, 2, 0, 0) M(T ".lora_b", 2, 8, 0, 96)), "are no pair"},
    {ROWS(M("per_layer_" T ".lora_a", 2, 9, 0, 0) M("per_layer_" T ".lora_b", 2, 8, 0, 96)), NULL},
    {ROWS(S(T ".lora_a", 2, 9, 1, 0) M(T ".lora_b", 2, 8, 0, 96)), "are no pair"},
    {ROWS(M(T ".lora_a", 2, 9, 0, 0) S(T ".lora_b", 2, 8, 1, 96)), "are no pair"},
};

/* All that a model will read of it. */
static void read_all(const adapter_file *f)
{
    assert_true(f->n_targets > 0);
    for (uint32_t i = 0; i < f->n_targets; i++) {
        const adapter_target *t = &f->targets[i];
        assert_true(isfinite(t->scale) && t->rank > 0 && t->n > 0);
        float *a = malloc((size_t)t->n_in * t->rank * sizeof *a), *b = malloc(t->rank * sizeof *b);
        for (uint32_t expert = 0; expert < t->n; expert++) {
            adapter_target_a(t, expert, a);
            for (uint64_t row = 0; row < t->n_out; row++) {
                adapter_target_b(t, expert, row, b);
            }
        }
        free(a);
        free(b);
    }
}

static void check(const char *what, text_view config, const uint8_t *bytes, size_t n, const char *wanted)
{
    adapter_file *file = NULL;
    mlxr_error error = {0};
    mlxr_status status = adapter_file_open_memory(&file, config, bytes, n, &llama, &error);
    bool right = wanted ? status != MLXR_OK && status == error.status && !file && strstr(error.text, wanted) &&
                              !strchr(error.text, '\n')
                        : status == MLXR_OK && file;
    if (!right) {
        fail_msg("%s\n  gave status %d: %s\n  expected: %s", what, status, error.text, wanted ? wanted : "success");
    }
    if (file) {
        read_all(file);
        adapter_file_close(&file);
    }
    assert_int_equal(adapter_file_open_memory(&file, config, bytes, n, &llama, NULL), status);
    adapter_file_close(&file);
}

static void every_hostile_gguf_gets_one_clear_line(void **state)
{
    size_t n_hostile = 0;
    (void)state;
    for (size_t i = 0; i < sizeof gguf / sizeof *gguf; i++) {
        size_t n;
        uint8_t *bytes = byte_script(gguf[i].script, &n);
        check(gguf[i].script, (text_view){0}, bytes, n, gguf[i].error);
        n_hostile += gguf[i].error != NULL;
        free(bytes);
    }
    assert_true(n_hostile >= 50);
}

/* ---- PEFT -------------------------------------------------------------------------------------------------------- */

#define CONFIG(more) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6" more "}"
#define P "base_model.model.model.layers.0.self_attn.q_proj"
#define EA(name) E(name ".lora_A.weight", "F32", "[2, 8]", 0, 64)
#define EB(name) E(name ".lora_B.weight", "F32", "[8, 2]", 64, 128)
#define GOOD "{" EA(P) ", " EB(P) "}"
#define NAMED(name) "{" EA(name) ", " EB(name) "}"

static const struct {
    const char *config, *error;
} configs[] = {
    {CONFIG(""), NULL},
    {CONFIG(", \"bias\": \"none\", \"modules_to_save\": null, \"use_dora\": false"), NULL},
    {CONFIG(", \"init_lora_weights\": true, \"alpha_pattern\": {}, \"target_parameters\": []"), NULL},
    {CONFIG(", \"init_lora_weights\": \"gaussian\", \"alpha_pattern\": {\"q_proj\": 3}"), NULL},
    {CONFIG(", \"alpha_pattern\": null, \"use_rslora\": true"), NULL},
    {CONFIG(", \"use_rslora\": false, \"modules_to_save\": [], \"layer_replication\": {}"), NULL},
    {CONFIG(", \"bias\": null, \"init_lora_weights\": null, \"lora_bias\": null"), NULL},
    {" ", "adapter_config.json: line"},
    {"{", "adapter_config.json: line 1"},
    {"[]", "not a JSON object"},
    {"{\"peft_type\": \"LORA\", \"peft_type\": \"LORA\"}", "duplicate"},
    {"{}", "peft_type ''"},
    {"{\"peft_type\": null}", "peft_type ''"},
    {"{\"peft_type\": 7}", "peft_type ''"},
    {"{\"peft_type\": \"lora\"}", "peft_type 'lora'"},
    {"{\"peft_type\": \"LOHA\"}", "peft_type 'LOHA'"},
    {"{\"peft_type\": \"PROMPT_TUNING\"}", "peft_type 'PROMPT_TUNING'"},
    {"{\"peft_type\": \"LORA\"}", "'lora_alpha' is no number above 0"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": null}", "'lora_alpha' is no number above 0"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": \"16\"}", "'lora_alpha' is no number above 0"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": true}", "'lora_alpha' is no number above 0"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": 0}", "'lora_alpha' is no number above 0"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": -16}", "'lora_alpha' is no number above 0"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": 1e300}", "an alpha of 1e+300, which no float holds"},
    {"{\"peft_type\": \"LORA\", \"lora_alpha\": 1e999}", "adapter_config.json: line 1"},
    {CONFIG(", \"use_dora\": true"), "'use_dora' is not supported"},
    {CONFIG(", \"use_qalora\": true"), "'use_qalora' is not supported"},
    {CONFIG(", \"fan_in_fan_out\": true"), "'fan_in_fan_out' is not supported"},
    {CONFIG(", \"lora_bias\": true"), "'lora_bias' is not supported"},
    {CONFIG(", \"bias\": \"all\""), "biases ('all')"},
    {CONFIG(", \"bias\": \"lora_only\""), "biases ('lora_only')"},
    {CONFIG(", \"modules_to_save\": [\"lm_head\"]"), "'modules_to_save' is not supported"},
    {CONFIG(", \"trainable_token_indices\": {\"embed_tokens\": [7]}"), "'trainable_token_indices' is not supported"},
    {CONFIG(", \"layer_replication\": [[0, 2], [1, 2]]"), "'layer_replication' is not supported"},
    {CONFIG(", \"alora_invocation_tokens\": [1, 2]"), "'alora_invocation_tokens' is not supported"},
    {CONFIG(", \"init_lora_weights\": \"pissa\""), "init_lora_weights 'pissa' may change the model's own weights"},
    {CONFIG(", \"init_lora_weights\": \"pissa_niter_16\""), "init_lora_weights 'pissa_niter_16'"},
    {CONFIG(", \"init_lora_weights\": \"olora\""), "init_lora_weights 'olora'"},
    {CONFIG(", \"init_lora_weights\": \"corda\""), "init_lora_weights 'corda'"},
    {CONFIG(", \"init_lora_weights\": \"loftq\""), "init_lora_weights 'loftq'"},
    {CONFIG(", \"alpha_pattern\": 7"), "'alpha_pattern' is no object"},
    {CONFIG(", \"alpha_pattern\": [\"q_proj\", 7]"), "'alpha_pattern' is no object"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": 0}"), "alpha of 'q_proj' is no number above 0"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": -3}"), "alpha of 'q_proj' is no number above 0"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": \"3\"}"), "alpha of 'q_proj' is no number above 0"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": null}"), "alpha of 'q_proj' is no number above 0"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": 1e300}"), "an alpha of 1e+300"},
    {CONFIG(", \"alpha_pattern\": {\".*q_proj\": 3}"), "alpha_pattern '.*q_proj': names alone"},
    {CONFIG(", \"target_parameters\": [\"mlp.experts.down_proj\"]"), NULL}, /* names of tensors tell */
    {CONFIG(", \"alpha_pattern\": {\".*\\\\.q_proj\": 3}"), NULL},          /* as PEFT writes it */
    {CONFIG(", \"alpha_pattern\": {\".*\\\\.(q|k)_proj\": 3}"), "names alone"},
    {CONFIG(", \"alpha_pattern\": {\"^model\": 3}"), "alpha_pattern '^model': names alone"},
    {CONFIG(", \"alpha_pattern\": {\"layers.[01].mlp\": 3}"), "names alone"},
};

#define TABLE(name)                                                                                                    \
    "{" E(name ".lora_embedding_A", "F32", "[2, 8]", 0, 64) ", " E(name ".lora_embedding_B", "F32", "[8, 2]", 64,      \
                                                                   128) "}"
#define X "base_model.model.model.layers.0.mlp.experts"
#define EXPERTS(name, a, b)                                                                                            \
    "{" E(name ".lora_A.weight", "F32", a, 0, 192) ", " E(name ".lora_B.weight", "F32", b, 192, 384) "}"

static const struct {
    const char *header;
    size_t n_data;
    const char *error;
} weight_files[] = {
    {GOOD, 128, NULL},
    {"{\"__metadata__\": {\"format\": \"pt\"}, " EA(P) ", " EB(P) "}", 128, NULL},
    {NAMED("base_model.model.layers.3.mlp.down_proj"), 128, NULL},
    {"", 0, "adapter_model.safetensors: header: line 1"},
    {"{}", 0, "the adapter changes nothing"},
    {"{}", 8, "the file has 8"},
    {GOOD, 127, "is truncated"},
    {GOOD, 130, "but the file has 130"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "F32", "[8, 2]", 32, 96) "}", 96, "begins at data byte 32"},
    {"{" EA(P) ", " EA(P) "}", 64, "duplicate"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "I32", "[8, 2]", 64, 128) "}", 128, "has dtype 'I32'"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "F64", "[8, 2]", 64, 192) "}", 192, "has dtype 'F64'"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "F8_E4M3", "[8, 8]", 64, 128) "}", 128, "has dtype 'F8_E4M3'"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "F32", "[8, 0]", 64, 64) "}", 64, "dimension 1 is no number above 0"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "F32", "[8, 3]", 64, 128) "}", 128, "its shape needs 96 bytes"},
    {"{" EA(P) "}", 64, "adapter tensor '" P ".lora_B.weight' is missing"},
    {"{" E(P ".lora_B.weight", "F32", "[8, 2]", 0, 64) "}", 64, "adapter tensor '" P ".lora_A.weight' is missing"},
    {"{" EA(P) ", " EB("base_model.model.model.layers.1.self_attn.q_proj") "}", 128, "is missing"},
    {NAMED("model.layers.0.self_attn.q_proj"), 128, "only lora_A and lora_B of linear layers"},
    {NAMED("base_model.layers.0.self_attn.q_proj"), 128, "only lora_A and lora_B of linear layers"},
    {NAMED("base_model.model." LONG), 128, "it must have 1 to 255"},
    {NAMED(""), 128, "only lora_A and lora_B of linear layers"},
    {NAMED("base_model.model."), 128, "changes what no llama model takes adapters for"},
    {NAMED("base_model.model.model.layers.0.self_attn.qkv"), 128, "changes what no llama model takes adapters for"},
    {NAMED("base_model.model.model.layers.x.self_attn.q_proj"), 128, "changes what no llama model takes"},
    {NAMED("base_model.model.model.layers.-1.self_attn.q_proj"), 128, "changes what no llama model takes"},
    {NAMED("base_model.model.model.layers.99999999999999999999.self_attn.q_proj"), 128, "changes what no llama model"},
    {NAMED("base_model.model.model.layers.0.mlp.experts.3.up_proj"), 128, NULL}, /* the model will refuse it */
    {NAMED("base_model.model.transformer.h.0.attn.c_attn"), 128, "changes what no llama model takes"},
    {"{" E(P ".lora_embedding_A", "F32", "[2, 8]", 0, 64) ", " EB(P) "}", 128,
     "adapter tensor '" P ".lora_embedding_B' is missing"},
    /* embeddings, and the copies of them that PEFT saves */
    {TABLE("base_model.model.model.embed_tokens"), 128, NULL},
    {TABLE(P), 128, "changes what no llama model takes adapters for"},
    {TABLE(X), 128, "changes what no llama model takes adapters for"},
    {NAMED("base_model.model.model.mtp_block.0.fc"), 128, "changes what no llama model takes adapters for"},
    {TABLE("base_model.model.model.norm"), 128, "changes what no llama model takes adapters for"},
    {NAMED("base_model.model.model.embed_tokens"), 128, "changes what no llama model takes adapters for"},
    {"{" E("base_model.model.model.embed_tokens.lora_embedding_A", "F32", "[2, 8]", 0, 64) "}", 64,
     "embed_tokens.lora_embedding_B' is missing"},
    {"{" E("base_model.model.model.embed_tokens.lora_embedding_B", "F32", "[8, 2]", 0, 64) "}", 64,
     "embed_tokens.lora_embedding_A' is missing"},
    {"{" EA("base_model.model.lm_head") ", " EB("base_model.model.lm_head") ", " E(
         "base_model.model.lm_head.base_layer.weight", "F32", "[8]", 128, 160) "}",
     160, NULL},
    {"{" EA(P) ", " EB(P) ", " E("base_model.model.lm_head.base_layer.weight", "F32", "[8]", 128, 160) "}", 160,
     "lm_head.base_layer.weight': only lora_A and lora_B"},
    /* parameters of 3 experts, [8, 8] twice in one, and [4, 8] */
    {EXPERTS(X, "[6, 8]", "[8, 6]"), 384, NULL},
    {EXPERTS(X ".base_layer", "[6, 8]", "[8, 6]"), 384, NULL},
    {EXPERTS(X ".base_layer.base_layer", "[12, 4]", "[8, 6]"), 384, "are no pair of this model's experts"},
    {EXPERTS(X, "[12, 4]", "[4, 12]"), 384, "experts.lora_A.weight' [4, 12] changes what no llama model takes"},
    {EXPERTS(X, "[8, 6]", "[6, 8]"), 384, "experts.lora_A.weight' [6, 8] changes what no llama model takes"},
    {EXPERTS(X, "[6, 8]", "[6, 8]"), 384, "changes what no llama model takes"},
    {EXPERTS("base_model.model.model.layers.x.mlp.experts", "[6, 8]", "[8, 6]"), 384, "changes what no llama model"},
    {EXPERTS("base_model.model.model.layers.0", "[6, 8]", "[8, 6]"), 384, "changes what no llama model takes"},
    {EXPERTS("base_model.model.model.layers.0.mlp.experts.gate_up_proj", "[6, 8]", "[8, 6]"), 384, "no llama model"},
    {"{" E(X ".lora_A.weight", "F32", "[2, 8]", 0, 64) ", " E(X ".lora_B.weight", "F32", "[8, 2]", 64, 128) "}", 128,
     "are no pair of this model's experts"},
    {"{" E(X ".lora_A.weight", "F32", "[6, 8]", 0, 192) ", " E(X ".lora_B.weight", "F32", "[8, 3]", 192, 288) "}", 288,
     "are no pair of this model's experts"},
    {"{" E(X ".lora_A.weight", "F32", "[6, 8]", 0, 192) "}", 192, "experts.lora_B.weight' is missing"},
    {"{" E(X ".lora_B.weight", "F32", "[8, 6]", 0, 192) "}", 192, "experts.lora_A.weight' is missing"},
    {"{" EA(P) ", " EB(P) ", " E(P ".lora_magnitude_vector", "F32", "[8]", 128, 160) "}", 160,
     "only lora_A and lora_B"},
    {"{" EA(P) ", " EB(P) ", " E(P ".bias", "F32", "[8]", 128, 160) "}", 160, "only lora_A and lora_B"},
    {"{" EA(P) ", " EB(P) ", " E("base_model.model.lm_head.weight", "F32", "[8]", 128, 160) "}", 160, "only lora_A"},
    {"{" E(P ".lora_A.default.weight", "F32", "[2, 8]", 0, 64) ", " EB(P) "}", 128, "only lora_A and lora_B"},
    {"{" E(P ".lora_a.weight", "F32", "[2, 8]", 0, 64) ", " EB(P) "}", 128, "only lora_A and lora_B"},
    {"{" E(P ".lora_A.weight", "F32", "[16]", 0, 64) ", " EB(P) "}", 128, "are no pair"},
    {"{" E(P ".lora_A.weight", "F32", "[1, 2, 8]", 0, 64) ", " EB(P) "}", 128, "are no pair"},
    {"{" E(P ".lora_A.weight", "F32", "[]", 0, 4) ", " E(P ".lora_B.weight", "F32", "[1, 1]", 4, 8) "}", 8, "no pair"},
    {"{" E(P ".lora_A.weight", "F32", "[8, 2]", 0, 64) ", " EB(P) "}", 128, "are no pair"},
    {"{" E(P ".lora_A.weight", "F32", "[4, 4]", 0, 64) ", " EB(P) "}", 128, "are no pair"},
    {"{" EA(P) ", " E(P ".lora_B.weight", "F32", "[16]", 64, 128) "}", 128, "are no pair"},
    {"{" E(P ".lora_A.weight", "F16", "[4097, 1]", 0, 8194) ", " E(P ".lora_B.weight", "F16", "[1, 4097]", 8194,
                                                                   16388) "}",
     16388, "are no pair"},
};

static void every_hostile_peft_folder_gets_one_clear_line(void **state)
{
    size_t n, n_hostile = 0;
    uint8_t *bytes = weights(GOOD, 128, &n);
    (void)state;
    memset(bytes + n - 128, 0, 128);
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        check(configs[i].config, view(configs[i].config), bytes, n, configs[i].error);
        n_hostile += configs[i].error != NULL;
    }
    free(bytes);
    for (size_t i = 0; i < sizeof weight_files / sizeof *weight_files; i++) {
        bytes = weights(weight_files[i].header, weight_files[i].n_data, &n);
        check(weight_files[i].header, view(CONFIG("")), bytes, n, weight_files[i].error);
        n_hostile += weight_files[i].error != NULL;
        free(bytes);
    }
    assert_true(n_hostile >= 50);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

static void scales_are_what_the_files_say(void **state)
{
    static const struct {
        const char *config;
        double scale;
    } cases[] = {
        {CONFIG(""), 3},
        {CONFIG(", \"use_rslora\": true"), 4.2426406871192848},
        {CONFIG(", \"alpha_pattern\": {\"q_proj\": 5}"), 2.5},
        {CONFIG(", \"alpha_pattern\": {\"k_proj\": 5}"), 3},
        {CONFIG(", \"alpha_pattern\": {\"_proj\": 5, \"\": 5, \"model.layers.0.self_attn.q_proj\": 8}"), 4},
    };
    size_t n;
    uint8_t *bytes = weights(GOOD, 128, &n);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adapter_file *file = NULL;
        mlxr_error error = {0};
        assert_ok(adapter_file_open_memory(&file, view(cases[i].config), bytes, n, &llama, &error), &error);
        assert_string_equal(file->targets[0].name, "blk.0.attn_q.weight");
        assert_true((double)file->targets[0].scale == (double)(float)cases[i].scale);
        assert_true(file->halves);
        adapter_file_close(&file);
    }
    free(bytes);
    static const char *const scripts[] = {SCALED(ALPHA), SCALED("'adapter.lora.alpha 4:6 4:0 ")};
    for (size_t i = 0; i < 2; i++) {
        adapter_file *file = NULL;
        mlxr_error error = {0};
        bytes = byte_script(scripts[i], &n);
        assert_ok(adapter_file_open_memory(&file, (text_view){0}, bytes, n, &llama, &error), &error);
        assert_true(file->targets[0].scale == (i ? 1.0f : 3.0f)); /* 0: the file has none */
        assert_false(file->halves);
        adapter_file_close(&file);
        free(bytes);
    }
}

static void what_is_cut_is_refused(void **state)
{
    size_t n;
    (void)state;
    for (int peft = 0; peft < 2; peft++) {
        uint8_t *bytes = peft ? weights(GOOD, 128, &n) : byte_script(LORA(2) A B DATA, &n);
        for (size_t cut = 0; cut < n; cut++) {
            adapter_file *file = NULL;
            mlxr_error error = {0};
            uint8_t *shorter = malloc(cut + !cut);
            memcpy(shorter, bytes, cut);
            text_view config = peft ? view(CONFIG("")) : (text_view){0};
            assert_int_not_equal(adapter_file_open_memory(&file, config, shorter, cut, &llama, &error), MLXR_OK);
            free(shorter);
        }
        free(bytes);
    }
}

static void any_changed_byte_is_survived(void **state)
{
    static const uint8_t changes[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{'};
    (void)state;
    for (int peft = 0; peft < 2; peft++) {
        size_t n;
        uint8_t *bytes = peft ? weights(GOOD, 128, &n) : byte_script(LORA(2) A B DATA, &n);
        for (size_t at = 0; at < n - 128; at++) {
            for (size_t k = 0; k < sizeof changes; k++) {
                adapter_file *file = NULL;
                mlxr_error error = {0};
                uint8_t before = bytes[at];
                bytes[at] = changes[k];
                text_view config = peft ? view(CONFIG("")) : (text_view){0};
                if (adapter_file_open_memory(&file, config, bytes, n, &llama, &error) == MLXR_OK) {
                    read_all(file);
                }
                adapter_file_close(&file);
                bytes[at] = before;
            }
        }
        free(bytes);
    }
}

static void a_family_without_names_in_safetensors_is_refused(void **state)
{
    size_t n;
    adapter_file *file = NULL;
    mlxr_error error = {0};
    uint8_t *bytes = weights(GOOD, 128, &n);
    (void)state;
    assert_int_equal(adapter_file_open_memory(&file, view(CONFIG("")), bytes, n,
                                              &(adapter_model){.arch = "nosuch", .n_layers = 4}, &error),
                     MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "adapters of safetensors are not supported for nosuch models"));
    free(bytes);
}

static void folders_files_and_paths_open_alike(void **state)
{
    size_t n;
    mlxr_error error = {0};
    adapter_file *folder = NULL, *file = NULL, *gguf_file = NULL;
    uint8_t *bytes = weights(GOOD, 128, &n);
    (void)state;
    const char *weights_path = test_write_file("adapter_model.safetensors", bytes, n);
    assert_int_equal(adapter_file_open(&folder, test_temp_dir(), &llama, &error), MLXR_IO); /* no config yet */
    assert_null(folder);
    test_write_file("adapter_config.json", CONFIG(""), strlen(CONFIG("")));
    assert_ok(adapter_file_open(&folder, test_temp_dir(), &llama, &error), &error);
    assert_ok(adapter_file_open(&file, weights_path, &llama, &error), &error);
    assert_int_equal(folder->hash_low, file->hash_low);
    assert_int_equal(folder->hash_high, file->hash_high);
    free(bytes);
    bytes = byte_script(LORA(2) A B DATA, &n);
    assert_ok(adapter_file_open(&gguf_file, test_write_file("lora.gguf", bytes, n), &llama, &error), &error);
    assert_int_not_equal(gguf_file->hash_low, file->hash_low);
    free(bytes);
    adapter_file_close(&folder);
    adapter_file_close(&file);
    adapter_file_close(&gguf_file);
    adapter_file_close(&gguf_file); /* closed already */
    assert_int_equal(adapter_file_open(&file, "nowhere.gguf", &llama, &error), MLXR_IO);
    assert_int_equal(adapter_file_open(&file, "adapter_model.safetensors", &llama, &error), MLXR_IO);
}

/* Which parameter of all experts it is follows from the model's shape. */
static void parameters_are_named_by_the_shape_of_the_models_experts(void **state)
{
    static const struct {
        adapter_model of;
        const char *module, *name; /* NULL: it is refused */
    } cases[] = {
        {{"llama", 4, 3, 8, 4, false}, "model.layers.1.mlp.experts", "blk.1.ffn_gate_up_exps.weight"},
        {{"llama", 4, 3, 8, 8, true}, "model.layers.1.mlp.experts", NULL}, /* up and down alike */
        {{"llama", 4, 3, 16, 8, true}, "model.layers.1.mlp.experts", NULL},
        {{"llama", 4, 0, 8, 4, false}, "model.layers.1.mlp.experts", NULL},
        {{"llama", 4, 3, 8, 4, false}, "model.layers.x.mlp.experts", NULL},
        {{"llama", 4, 3, 8, 4, false}, "model.layers.1x.mlp.experts", NULL},
        {{"llama", 4, 3, 8, 4, false}, "mlp.experts", NULL},
        {{"gpt-oss", 4, 3, 8, 4, false}, "model.layers.2.mlp.experts.base_layer", "blk.2.ffn_gate_up_exps.weight"},
        {{"granitemoe", 4, 3, 8, 4, false},
         "model.layers.0.block_sparse_moe.input_linear",
         "blk.0.ffn_gate_up_exps.weight"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[1024];
        size_t n;
        adapter_file *file = NULL;
        mlxr_error error = {0};
        snprintf(
            header, sizeof header,
            "{\"base_model.model.%s.lora_A.weight\": {\"dtype\": \"F32\", \"shape\": [6, 8], \"data_offsets\": [0, "
            "192]}, \"base_model.model.%s.lora_B.weight\": {\"dtype\": \"F32\", \"shape\": [8, 6], "
            "\"data_offsets\": [192, 384]}}",
            cases[i].module, cases[i].module);
        uint8_t *bytes = weights(header, 384, &n);
        memset(bytes + n - 384, 0, 384);
        mlxr_status status = adapter_file_open_memory(&file, view(CONFIG(", \"alpha_pattern\": null")), bytes, n,
                                                      &cases[i].of, &error);
        if ((status == MLXR_OK) != (cases[i].name != NULL)) {
            fail_msg("%s of %s: %s", cases[i].module, cases[i].of.arch, status == MLXR_OK ? "taken" : error.text);
        }
        if (file) {
            assert_string_equal(file->targets[0].name, cases[i].name);
            assert_true(file->targets[0].layout == ADAPTER_PARAMETER && file->targets[0].rank == 2);
            assert_int_equal(file->targets[0].zipped, strcmp(cases[i].of.arch, "gpt-oss") == 0);
        }
        adapter_file_close(&file);
        free(bytes);
    }
}

static const struct {
    adapter_model of;
    const char *module, *a, *b, *words; /* `words` are of the name where it is taken, else of the error */
    bool taken;
} of_families[] = {
    {{"llama", 4, 3, 8, 4, true}, "model.layers.1.mlp.experts", "[6, 8]", "[4, 6]", "blk.1.ffn_up_exps", true},
    {{"llama", 4, 3, 8, 4, true}, "model.layers.1.mlp.experts", "[6, 4]", "[8, 6]", "blk.1.ffn_down_exps", true},
    {{"llama", 4, 3, 8, 4, true}, "model.layers.1.mlp.experts", "[6, 8]", "[8, 6]", "what no llama model", false},
    {{"llama", 4, 3, 8, 4, false}, "model.layers.1.mlp.experts", "[6, 8]", "[4, 6]", "what no llama model", false},
    {{"granitemoe", 4, 0, 8, 4, false},
     "model.layers.0.block_sparse_moe.input_linear",
     "[6, 8]",
     "[8, 6]",
     "are no pair of this model's experts",
     false},
    {{"granitemoe", 4, 4, 8, 4, false},
     "model.layers.0.block_sparse_moe.input_linear",
     "[6, 8]",
     "[8, 6]",
     "are no pair of this model's experts",
     false},
    {{"granitemoe", 4, 3, 8, 4, false},
     "model.layers.0.block_sparse_moe.input_linear",
     "[6, 8]",
     "[8, 5]",
     "are no pair of this model's experts",
     false},
    {{"lfm2", 4, 0, 8, 4, false}, "model.layers.0.conv.conv", "[6, 8]", "[8, 6]", "no lfm2 model takes", false},
    {{"lfm2", 4, 0, 8, 4, false}, "model.layers.0.conv.in_proj", "[2, 8]", "[8, 2]", "", true},
};

static void what_a_family_has_not_or_has_changed_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof of_families / sizeof *of_families; i++) {
        char header[1024];
        unsigned sides[4];
        size_t n;
        adapter_file *file = NULL;
        mlxr_error error = {0};
        assert_int_equal(sscanf(of_families[i].a, "[%u, %u]", &sides[0], &sides[1]), 2);
        assert_int_equal(sscanf(of_families[i].b, "[%u, %u]", &sides[2], &sides[3]), 2);
        unsigned n_a = 4 * sides[0] * sides[1], n_all = n_a + 4 * sides[2] * sides[3];
        snprintf(
            header, sizeof header,
            "{\"base_model.model.%s.lora_A.weight\": {\"dtype\": \"F32\", \"shape\": %s, \"data_offsets\": [0, %u]}, "
            "\"base_model.model.%s.lora_B.weight\": {\"dtype\": \"F32\", \"shape\": %s, \"data_offsets\": [%u, %u]}}",
            of_families[i].module, of_families[i].a, n_a, of_families[i].module, of_families[i].b, n_a, n_all);
        uint8_t *bytes = weights(header, n_all, &n);
        memset(bytes + n - n_all, 0, n_all);
        mlxr_status status = adapter_file_open_memory(&file, view(CONFIG("")), bytes, n, &of_families[i].of, &error);
        const char *said = file ? file->targets[0].name : error.text;
        if ((status == MLXR_OK) != of_families[i].taken || !strstr(said, of_families[i].words)) {
            fail_msg("%s of %s: %s, expected %s", of_families[i].module, of_families[i].of.arch, said,
                     of_families[i].words);
        }
        if (file) {
            read_all(file);
        }
        adapter_file_close(&file);
        free(bytes);
    }
}

/* A path without a slash: its configuration lies in the working directory, too. */
static void weights_in_the_working_directory_open(void **state)
{
    char before[1024];
    size_t n;
    adapter_file *file = NULL;
    mlxr_error error = {0};
    uint8_t *bytes = weights(GOOD, 128, &n);
    (void)state;
    memset(bytes + n - 128, 0, 128);
    test_write_file("adapter_model.safetensors", bytes, n);
    test_write_file("adapter_config.json", CONFIG(""), strlen(CONFIG("")));
    free(bytes);
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(test_temp_dir()), 0);
    mlxr_status status = adapter_file_open(&file, "adapter_model.safetensors", &llama, &error);
    assert_int_equal(chdir(before), 0);
    assert_ok(status, &error);
    adapter_file_close(&file);
}

static void files_that_are_too_short_for_any_format_are_refused(void **state)
{
    static const char *const texts[] = {"", "GGU", "GGUFGGU", "\x08\0\0\0\0\0\0\0{",
                                        "\xff\xff\xff\xff\xff\xff\xff\xff{}"};
    static const size_t lengths[] = {0, 3, 7, 9, 10};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        adapter_file *file = NULL;
        mlxr_error error = {0};
        const char *path = test_write_file("short", texts[i], lengths[i]);
        assert_int_not_equal(adapter_file_open(&file, path, &llama, &error), MLXR_OK);
        assert_null(file);
        assert_non_null(strstr(error.text, "short"));
    }
}

/* One file of any name, as a store without folders keeps it. */
static void weights_may_have_their_configuration_in_them(void **state)
{
    static const struct {
        const char *meta, *error; /* NULL: it opens */
    } cases[] = {
        {"{\"format\": \"pt\", \"mlxr.adapter_config\": \"{\\\"peft_type\\\": \\\"LORA\\\", \\\"lora_alpha\\\": 6}\"}",
         NULL},
        {"{\"mlxr.adapter_config\": \"{\\\"peft_type\\\": \\\"LOHA\\\"}\"}", "peft_type 'LOHA'"},
        {"{\"mlxr.adapter_config\": \"{\"}", "adapter_config.json: line 1"},
        {"{\"mlxr.adapter_config\": \"\"}", "adapter_config.json: line"},
        {"{\"mlxr.adapter_config\": 7}", "safetensors without a text 'mlxr.adapter_config' among their metadata"},
        {"{\"adapter_config\": \"{}\"}", "safetensors without a text 'mlxr.adapter_config' among their metadata"},
        {"[", "header: line 1"},
        {"[]", "safetensors without a text 'mlxr.adapter_config' among their metadata"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[1024];
        size_t n;
        adapter_file *file = NULL;
        mlxr_error error = {0};
        snprintf(header, sizeof header, "{\"__metadata__\": %s, " EA(P) ", " EB(P) "}", cases[i].meta);
        uint8_t *bytes = weights(header, 128, &n);
        memset(bytes + n - 128, 0, 128);
        mlxr_status status = adapter_file_open(&file, test_write_file("sha256-0", bytes, n), &llama, &error);
        free(bytes);
        if ((status == MLXR_OK) != !cases[i].error || (cases[i].error && !strstr(error.text, cases[i].error))) {
            fail_msg("%s: %s", cases[i].meta, status == MLXR_OK ? "no error" : error.text);
        }
        assert_true(!file || (file->targets[0].scale == 3.0f && file->halves));
        adapter_file_close(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hostile_gguf_gets_one_clear_line),
        cmocka_unit_test(every_hostile_peft_folder_gets_one_clear_line),
        cmocka_unit_test(scales_are_what_the_files_say),
        cmocka_unit_test(what_is_cut_is_refused),
        cmocka_unit_test(any_changed_byte_is_survived),
        cmocka_unit_test(a_family_without_names_in_safetensors_is_refused),
        cmocka_unit_test(folders_files_and_paths_open_alike),
        cmocka_unit_test(weights_may_have_their_configuration_in_them),
        cmocka_unit_test(parameters_are_named_by_the_shape_of_the_models_experts),
        cmocka_unit_test(what_a_family_has_not_or_has_changed_is_refused),
        cmocka_unit_test(weights_in_the_working_directory_open),
        cmocka_unit_test(files_that_are_too_short_for_any_format_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
