/*
 * API keys. A key is "mlxr-" ID "-" SECRET: 16 hexadecimal digits that find its row, and 64 that are 256 random bits.
 * What is stored is the SHA-256 of the whole text: a secret that nobody can guess needs no slow hash.
 * Owner: the store. Lifetime: until revoked; rows stay, for the usage they explain.
 */
#include <stdio.h>
#include <string.h>

#include "registry/digest.h"
#include "registry/inside.h"

enum { ID_DIGITS = 16, SECRET_DIGITS = 64, TEXT_BYTES = 5 + ID_DIGITS + 1 + SECRET_DIGITS };

static const char prefix[] = "mlxr-";
static const char columns[] = "id, label, models, scopes, requests_per_minute, tokens_per_day, created_us, expires_us, "
                              "revoked_us, hash, tokens_per_minute";

static void read_row(sqlite3_stmt *s, registry_key *key)
{
    *key = (registry_key){.scopes = (uint32_t)sqlite3_column_int64(s, 3),
                          .requests_per_minute = (uint32_t)sqlite3_column_int64(s, 4),
                          .tokens_per_day = (uint64_t)sqlite3_column_int64(s, 5),
                          .created_us = sqlite3_column_int64(s, 6),
                          .expires_us = sqlite3_column_int64(s, 7),
                          .revoked_us = sqlite3_column_int64(s, 8),
                          .tokens_per_minute = (uint64_t)sqlite3_column_int64(s, 10)};
    snprintf(key->id, sizeof key->id, "%s", db_text(s, 0));
    snprintf(key->label, sizeof key->label, "%s", db_text(s, 1));
    snprintf(key->models, sizeof key->models, "%s", db_text(s, 2));
}

static mlxr_status insert(registry *r, const registry_key *key, const uint8_t hash[32], mlxr_error *error)
{
    mlxr_status status = inside_begin(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = db_run(
        r->db, error,
        "INSERT INTO keys (id, hash, label, scopes, models, requests_per_minute, tokens_per_day, created_us,"
        " expires_us, revoked_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        "tbtitiiii", key->id, (const void *)hash, (size_t)32, key->label, (int64_t)key->scopes, key->models,
        (int64_t)key->requests_per_minute, (int64_t)key->tokens_per_day, key->created_us, key->expires_us,
        (int64_t)key->tokens_per_minute);
    return inside_end(r, status, error);
}

static const struct {
    const char *name;
    uint32_t scope;
} scope_names[] = {
    {"inference", REGISTRY_SCOPE_INFERENCE}, {"read", REGISTRY_SCOPE_READ}, {"admin", REGISTRY_SCOPE_ADMIN}};
#define N_SCOPES (sizeof scope_names / sizeof *scope_names)

bool registry_scopes_parse(const char *text, uint32_t *out)
{
    *out = 0;
    while (*text) {
        size_t n = strcspn(text, ","), i = 0;
        while (i < N_SCOPES && (strlen(scope_names[i].name) != n || memcmp(scope_names[i].name, text, n) != 0)) {
            i++;
        }
        if (i == N_SCOPES) {
            return false;
        }
        *out |= scope_names[i].scope;
        text += n + (text[n] == ',');
    }
    return true;
}

void registry_scopes_text(uint32_t scopes, char *out, size_t cap)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < N_SCOPES; i++) {
        if (scopes & scope_names[i].scope) {
            used += (size_t)snprintf(out + used, cap - used, "%s%s", used ? "," : "", scope_names[i].name);
        }
    }
}

static json_t *time_json(int64_t us)
{
    char text[32];
    time_t s = (time_t)(us / 1000000);
    struct tm parts;
    if (!us) {
        return json_null();
    }
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &parts));
    return json_string(text);
}

json_t *registry_key_json(const registry_key *key)
{
    char scopes[64];
    registry_scopes_text(key->scopes, scopes, sizeof scopes);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "id", key->id, "label", key->label, "scopes",
                     scopes, "models", key->models, "requests_per_minute", (json_int_t)key->requests_per_minute,
                     "tokens_per_day", (json_int_t)key->tokens_per_day, "created", time_json(key->created_us),
                     "expires", time_json(key->expires_us), "revoked", time_json(key->revoked_us));
}

mlxr_status registry_key_create(registry *r, registry_key *key, char *text, mlxr_error *error)
{
    uint8_t random[8 + 32], hash[32];
    registry_key made = *key;
    if (key->tokens_per_day > INT64_MAX || key->tokens_per_minute > INT64_MAX) {
        return daemon_error(error, MLXR_ARG, "a quota of more than %lld tokens is too large", (long long)INT64_MAX);
    }
    if (!digest_random(random, sizeof random)) {
        return daemon_error(error, MLXR_IO, "the system gives no random numbers");
    }
    made.label[sizeof made.label - 1] = made.models[sizeof made.models - 1] = '\0';
    made.scopes = key->scopes ? key->scopes : REGISTRY_SCOPE_INFERENCE | REGISTRY_SCOPE_READ;
    made.created_us = inside_now_us();
    made.revoked_us = 0;
    digest_hex(random, 8, made.id);
    char whole[TEXT_BYTES + 1];
    memcpy(whole, prefix, 5);
    memcpy(whole + 5, made.id, ID_DIGITS);
    whole[5 + ID_DIGITS] = '-';
    digest_hex(random + 8, 32, whole + 5 + ID_DIGITS + 1);
    mlxr_status status = digest_raw(whole, TEXT_BYTES, hash) ? insert(r, &made, hash, error)
                                                             : registry_fail_nomem(error);
    if (status == MLXR_OK) {
        *key = made;
        memcpy(text, whole, sizeof whole);
    }
    return status;
}

mlxr_status registry_key_revoke(registry *r, const char *id, mlxr_error *error)
{
    int64_t there = 0;
    mlxr_status status = inside_begin(r, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = db_number(r->db, &there, 0, error, "SELECT count(*) FROM keys WHERE id = ? AND revoked_us = 0", "t", id);
    if (status == MLXR_OK && !there) {
        status = daemon_error(error, MLXR_ARG, "no key '%.40s' that is not revoked already; mlxr key list shows them",
                              id);
    } else if (status == MLXR_OK) {
        status = db_run(r->db, error, "UPDATE keys SET revoked_us = ? WHERE id = ?", "it", inside_now_us(), id);
    }
    return inside_end(r, status, error);
}

mlxr_status registry_key_each(registry *r, registry_key_seen *seen, void *user, mlxr_error *error)
{
    char sql[256];
    sqlite3_stmt *s;
    registry_key key;
    snprintf(sql, sizeof sql, "SELECT %s FROM keys ORDER BY created_us, id", columns);
    inside_lock(r);
    mlxr_status status = db_prepare(r->db, &s, error, sql, "");
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status == MLXR_OK && row) {
            read_row(s, &key);
            status = seen(user, &key, error);
        }
    }
    sqlite3_finalize(s);
    inside_unlock(r);
    return status;
}

mlxr_status registry_key_any(registry *r, bool *any, mlxr_error *error)
{
    int64_t n = 0;
    inside_lock(r);
    mlxr_status status = db_number(
        r->db, &n, 0, error, "SELECT count(*) FROM keys WHERE revoked_us = 0 AND (expires_us = 0 OR expires_us > ?)",
        "i", inside_now_us());
    inside_unlock(r);
    *any = n > 0;
    return status;
}

/* The row of an id; a hash of zeros if there is none, so that the comparison happens all the same. */
static mlxr_status find_key(registry *r, const char *id, registry_key *key, uint8_t hash[32], mlxr_error *error)
{
    char sql[256];
    sqlite3_stmt *s;
    bool row = false;
    memset(hash, 0, 32);
    *key = (registry_key){.revoked_us = 1};
    snprintf(sql, sizeof sql, "SELECT %s FROM keys WHERE id = ?", columns);
    inside_lock(r);
    mlxr_status status = db_prepare(r->db, &s, error, sql, "t", id);
    status = status == MLXR_OK ? db_step(r->db, &s, &row, error) : status;
    if (row) {
        read_row(s, key);
        if (sqlite3_column_bytes(s, 9) == 32) {
            memcpy(hash, sqlite3_column_blob(s, 9), 32);
        }
        sqlite3_finalize(s);
    }
    inside_unlock(r);
    return status;
}

mlxr_status registry_key_verify(registry *r, const char *text, size_t n, registry_key *out, mlxr_error *error)
{
    char id[ID_DIGITS + 1] = "0000000000000000";
    uint8_t given[32], stored[32];
    registry_key key;
    bool shaped = n == TEXT_BYTES && memcmp(text, prefix, 5) == 0;
    if (shaped) {
        memcpy(id, text + 5, ID_DIGITS);
        shaped = strspn(id, "0123456789abcdef") == ID_DIGITS;
    }
    if (!digest_raw(text, n < 4096 ? n : 4096, given)) {
        return registry_fail_nomem(error);
    }
    mlxr_status status = find_key(r, shaped ? id : "", &key, stored, error);
    if (status != MLXR_OK) {
        return status;
    }
    bool same = digest_same(given, stored, 32), late = key.expires_us && key.expires_us <= inside_now_us();
    if (!shaped || !same || key.revoked_us || late) {
        return daemon_error(error, MLXR_ARG, "the API key is not valid");
    }
    *out = key;
    return MLXR_OK;
}

/* Whether text[0..n) with at most one * at its end covers a name. */
static bool covers(const char *pattern, size_t n, const char *name)
{
    if (n > 0 && pattern[n - 1] == '*') {
        return strncmp(pattern, name, n - 1) == 0;
    }
    return strlen(name) == n && memcmp(pattern, name, n) == 0;
}

bool registry_key_allows(const registry_key *key, const char *model)
{
    if (!key->models[0]) {
        return true;
    }
    for (const char *at = key->models; *at;) {
        size_t n = strcspn(at, ",");
        if (covers(at, n, model)) {
            return true;
        }
        at += n + (at[n] == ',');
    }
    return false;
}
