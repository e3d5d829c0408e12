/*
 * Numbers and scales of a request, as paths.
 * Owner: see the header. Lifetime: the call.
 */
#include "server/adapters.h"

bool adapters_choose(request_fields *f, const daemon_options *o, const registry_model *m, const json_t *lora,
                     mlxr_adapter_path *out, size_t *n)
{
    size_t n_more = lora ? json_array_size(lora) : o->n_adapters;
    *n = 0;
    if (n_more > MLXR_ADAPTERS_MAX || m->adapters.n > MLXR_ADAPTERS_MAX - n_more) {
        return request_fields_bad(f, "lora", "lora: at most %d adapters at once%s", MLXR_ADAPTERS_MAX,
                                  m->adapters.n ? ", the model's own with them" : "");
    }
    for (size_t i = 0; i < m->adapters.n; i++) {
        out[(*n)++] = (mlxr_adapter_path){.path = m->adapters.items[i].name, .scale = 1};
    }
    for (size_t i = 0; !lora && i < o->n_adapters; i++) {
        if (o->adapters[i].scale != 0) {
            out[(*n)++] = o->adapters[i];
        }
    }
    for (size_t i = 0; i < json_array_size(lora); i++) {
        const json_t *one = json_array_get(lora, i), *scale = json_object_get(one, "scale");
        json_int_t id;
        if (!request_field_whole(json_object_get(one, "id"), 0, UINT32_MAX, &id) || (scale && !json_is_number(scale)) ||
            json_object_size(one) != 1u + (scale != NULL)) {
            return request_fields_bad(f, "lora", "lora[%zu] must be {\"id\": 0, \"scale\": 1}", i);
        }
        if ((size_t)id >= o->n_adapters) {
            return request_fields_bad(f, "lora", "lora[%zu]: there is no adapter %lld; the daemon was started with %zu",
                                      i, (long long)id, o->n_adapters);
        }
        double value = scale ? json_number_value(scale) : 1;
        if (!(value >= -1e6 && value <= 1e6)) {
            return request_fields_bad(f, "lora", "lora[%zu]: scale must be a number from -1e6 to 1e6", i);
        }
        if (value != 0) {
            out[(*n)++] = (mlxr_adapter_path){.path = o->adapters[id].path, .scale = (float)value};
        }
    }
    return true;
}
