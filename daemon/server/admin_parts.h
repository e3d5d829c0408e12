/*
 * What the routes for who looks after the daemon share: bodies, answers, handlers.
 * Owner: a call belongs to its exchange and to what works for it together. Lifetime: until both have ended.
 */
#ifndef MLXR_SERVER_ADMIN_PARTS_H
#define MLXR_SERVER_ADMIN_PARTS_H

#include "server/daemon_parts.h"
#include "server/model_jobs.h"
#include "server/request_fields.h"
#include "server/routes.h"

/* ---- admin_fields.c ---- */
typedef struct admin_fields { /* of a body; texts are borrowed from it, NULL: not given */
    const char *model, *name, *source, *from, *to, *digest, *path;
    const char *modelfile, *template_text, *system, *license;
    json_t *parameters, *messages;
    const char *label, *scopes, *models;
    int64_t keep_alive_s, requests_per_minute, tokens_per_day, expires_at, grace_s;
    bool alias, keep_going, now;
    json_t *body; /* owned */
} admin_fields;

/* Reads the body of the route's table. False: it has been answered. */
bool admin_fields_read(admin_fields *f, http_exchange *x);
void admin_fields_close(admin_fields *f);
/* The text was given; else it is answered. */
bool admin_fields_need(http_exchange *x, const char *name, const char *text);
/* A route's body as JSON Schema; NULL: it is none of these. */
json_t *admin_body_schema(const char *pattern);

/* ---- answers ---- */
/* 200 unless something is wrong; takes the body. */
void admin_respond(http_exchange *x, json_t *body);
void admin_no_memory(http_exchange *x);
json_t *admin_loaded_json(const model_loaded *l);
json_t *admin_job_json(const model_job_info *info);

/* ---- admin_status.c ---- */
void admin_version(void *service, http_exchange *x);
void admin_status(void *service, http_exchange *x);
void admin_drain(void *service, http_exchange *x);
/* ---- admin_models.c ---- */
void admin_models(void *service, http_exchange *x);
void admin_model(void *service, http_exchange *x);
void admin_delete(void *service, http_exchange *x);
void admin_restore(void *service, http_exchange *x);
void admin_copy(void *service, http_exchange *x);
void admin_load(void *service, http_exchange *x);
void admin_unload(void *service, http_exchange *x);
void admin_loaded(void *service, http_exchange *x);
void admin_catalogue(void *service, http_exchange *x);
/* ---- admin_jobs.c ---- */
void admin_pull(void *service, http_exchange *x);
void admin_create(void *service, http_exchange *x);
void admin_jobs(void *service, http_exchange *x);
void admin_job(void *service, http_exchange *x);
void admin_job_cancel(void *service, http_exchange *x);
/* ---- admin_import.c ---- */
void admin_import(void *service, http_exchange *x);
void admin_register(void *service, http_exchange *x);
/* ---- admin_keys.c ---- */
void admin_keys(void *service, http_exchange *x);
void admin_key_create(void *service, http_exchange *x);
void admin_key_revoke(void *service, http_exchange *x);

#endif
