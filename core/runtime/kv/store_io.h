/*
 * The operating system behind the KV store.
 * Owner: none; a const table. Lifetime: static.
 */
#ifndef MLXR_RUNTIME_KV_STORE_IO_H
#define MLXR_RUNTIME_KV_STORE_IO_H

#include "runtime/kv/store.h"

extern const kv_store_io store_io_system;

#endif
