/*
 * What a batch writes about a request, in the form it was asked in.
 * Owner: the caller. Lifetime: the call.
 */
#ifndef MLXR_CLI_BATCH_RESULT_H
#define MLXR_CLI_BATCH_RESULT_H

#include "batch_run.h"

/* The result of a job, an error where one of its choices failed. `model`: its name for those who ask. */
json_t *batch_result_json(const batch_job *job, const mlxr_model *model, const char *model_name, uint64_t hash);
/* The result of a request that was not taken. */
json_t *batch_result_bad_json(const batch_request *r, uint64_t hash);
/* Did a choice fail? */
bool batch_result_failed(const batch_job *job);
uint64_t batch_result_tokens(const batch_job *job);

#endif
