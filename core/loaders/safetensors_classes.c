/*
 * Hugging Face classes: which row is meant.
 * Owner: none; const tables. Lifetime: static.
 */
#include "loaders/safetensors_classes.h"

#include <string.h>

#include "base/text.h"

/* In this order: where rows share an architecture or a type, the first is meant. */
static const hf_class_list *const lists[] = {&hf_classes_dense, &hf_classes_experts, &hf_classes_mixers,
                                             &hf_classes_encoders};

/* Any row of any list; NULL: there are fewer. */
static const hf_class *class_at(size_t index)
{
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (index < lists[i]->n) {
            return &lists[i]->rows[index];
        }
        index -= lists[i]->n;
    }
    return NULL;
}

/* What a class's name begins with: "Qwen3" of "Qwen3ForCausalLM" and "Qwen3Model". *end: which of the endings. */
typedef enum class_end { END_CAUSAL, END_MODEL, END_CLASSES, END_MASKED, END_NONE } class_end;

static size_t class_stem(const char *name, class_end *end)
{
    static const char *const ends[] = {"ForCausalLM", "Model", "ForSequenceClassification", "ForMaskedLM"};
    for (*end = END_CAUSAL; *end < END_NONE; (*end)++) {
        if (text_ends_with(name, ends[*end])) {
            return strlen(name) - strlen(ends[*end]);
        }
    }
    return strlen(name);
}

const hf_class *hf_class_find(const char *class_name, hf_config *config)
{
    class_end end, own_end;
    size_t n = class_stem(class_name, &end);
    const hf_class *class;
    for (size_t i = 0; end != END_NONE && (class = class_at(i)); i++) {
        if (class_stem(class->class_name, &own_end) == n && memcmp(class->class_name, class_name, n) == 0 &&
            (own_end == end || (own_end == END_CAUSAL && end == END_MODEL) || (end == END_CLASSES && class->ranker) ||
             (end == END_MASKED && class->encoder && own_end == END_MODEL && !class->both_ways))) {
            config->ranks = end == END_CLASSES;
            config->masked = end == END_MASKED;
            config->headless = own_end != end && !class->encoder;
            return class;
        }
    }
    return NULL;
}

const hf_class *hf_class_find_type(const char *model_type)
{
    const hf_class *class;
    for (size_t i = 0; (class = class_at(i)) && strcmp(class->model_type, model_type) != 0; i++) {
    }
    return class;
}

const hf_class *hf_class_of(const char *arch)
{
    const hf_class *class;
    for (size_t i = 0; (class = class_at(i)) && strcmp(class->arch, arch) != 0; i++) {
    }
    return class;
}
