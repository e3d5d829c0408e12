/*
 * Which of the daemon's LoRA adapters a request gets.
 * Owner: the request; paths are the daemon's and the model's. Lifetime: the call.
 */
#ifndef MLXR_SERVER_ADAPTERS_H
#define MLXR_SERVER_ADAPTERS_H

#include "mlxr_adapter.h"
#include "registry/registry.h"
#include "server/daemon.h"
#include "server/request_fields.h"

/* The model's own, which are a part of it; behind them those that its `lora` names ([{"id", "scale"}]); NULL: what the
 * daemon was started with. False after saying what is wrong. out: [MLXR_ADAPTERS_MAX] */
bool adapters_choose(request_fields *f, const daemon_options *o, const registry_model *m, const json_t *lora,
                     mlxr_adapter_path *out, size_t *n);

#endif
