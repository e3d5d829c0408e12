/*
 * Presets (a system prompt, a model, parameters under a name) and settings.
 * Owner: the store. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "chats/inside.h"

#define N(list) (sizeof(list) / sizeof *(list))

#define PRESET_COLUMNS                                                                                                 \
    "id, name, model, system, parameters AS 'parameters?j', revision, created_us / 1000 AS created_ms, modified_us / " \
    "1000 AS modified_ms"

static const chats_column preset_fields[] = {{"name", 't'}, {"model", 't'}, {"system", 't'}, {"parameters", 'j'}};

chats_status chats_presets(chats *c, const chats_who *who, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    chats_lock(c);
    mlxr_status status = db_prepare(c->db, &s, error,
                                    "SELECT " PRESET_COLUMNS " FROM presets WHERE " CHATS_SEES " ORDER BY name, id",
                                    "tii", CHATS_WHO(who));
    chats_status result = chats_rows(c, status, s, out, error);
    chats_unlock(c);
    return result;
}

static chats_status preset_find(chats *c, const chats_who *who, int64_t id, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(c->db, &s, error,
                                    "SELECT " PRESET_COLUMNS " FROM presets WHERE " CHATS_SEES " AND id = ?4", "tiii",
                                    CHATS_WHO(who), id);
    return chats_one(c, status, s, "preset", id, out, error);
}

/* The preset as it goes out, once all has been written. */
static chats_status give(chats *c, const chats_who *who, int64_t id, chats_status status, json_t **out,
                         mlxr_error *error)
{
    json_t *row = NULL;
    status = status == CHATS_OK ? preset_find(c, who, id, &row, error) : status;
    status = chats_finish(c, status, error);
    *out = status == CHATS_OK ? json_incref(row) : NULL;
    json_decref(row);
    return status;
}

chats_status chats_preset_add(chats *c, const chats_who *who, const json_t *fields, json_t **out, mlxr_error *error)
{
    int64_t now = chats_now_us(c), id = 0, n = 0;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = chats_of_db(
        db_number(c->db, &n, 0, error, "SELECT count(*) FROM presets WHERE owner = ?", "t", who->owner));
    if (status == CHATS_OK && n >= CHATS_FOLDERS) {
        status = chats_fail(error, CHATS_LIMIT, "there are %lld presets; more are not kept", (long long)n);
    }
    if (status == CHATS_OK) {
        status = chats_of_db(db_run(c->db, error,
                                    "INSERT INTO presets(owner, name, created_us, modified_us) VALUES (?, '', ?, ?)",
                                    "tii", who->owner, now, now));
        id = sqlite3_last_insert_rowid(c->db);
    }
    status = status == CHATS_OK ? chats_set(c, "presets", id, fields, preset_fields, N(preset_fields), error) : status;
    return give(c, who, id, status, out, error);
}

chats_status chats_preset_change(chats *c, const chats_who *who, int64_t id, const json_t *fields, json_t **out,
                                 mlxr_error *error)
{
    json_t *row = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = preset_find(c, who, id, &row, error);
    status = status == CHATS_OK ? chats_check_revision(fields, row, "preset", error) : status;
    status = status == CHATS_OK ? chats_set(c, "presets", id, fields, preset_fields, N(preset_fields), error) : status;
    if (status == CHATS_OK) {
        status = chats_of_db(db_run(c->db, error,
                                    "UPDATE presets SET revision = revision + 1, modified_us = ? WHERE id = ?", "ii",
                                    chats_now_us(c), id));
    }
    json_decref(row);
    return give(c, who, id, status, out, error);
}

chats_status chats_preset_remove(chats *c, const chats_who *who, int64_t id, mlxr_error *error)
{
    json_t *row = NULL;
    chats_status status = chats_begin(c, error);
    if (status != CHATS_OK) {
        return status;
    }
    status = preset_find(c, who, id, &row, error);
    status = status == CHATS_OK ? chats_of_db(db_run(c->db, error, "DELETE FROM presets WHERE id = ?", "i", id))
                                : status;
    json_decref(row);
    return chats_finish(c, status, error);
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

static chats_status settings_find(chats *c, const chats_who *who, json_t **out, mlxr_error *error)
{
    sqlite3_stmt *s;
    json_t *list = NULL;
    mlxr_status status = db_prepare(
        c->db, &s, error, "SELECT revision, content AS 'values?j' FROM settings WHERE owner = ?", "t", who->owner);
    chats_status result = chats_rows(c, status, s, &list, error);
    if (result != CHATS_OK) {
        return result;
    }
    json_t *row = json_array_get(list, 0);
    *out = row ? json_incref(row) : json_pack("{s:i, s:{}}", "revision", 0, "values");
    json_decref(list);
    return *out ? CHATS_OK : chats_no_memory(error);
}

chats_status chats_settings(chats *c, const chats_who *who, json_t **out, mlxr_error *error)
{
    chats_lock(c);
    chats_status status = settings_find(c, who, out, error);
    chats_unlock(c);
    return status;
}

chats_status chats_settings_put(chats *c, const chats_who *who, int64_t revision, const json_t *values, json_t **out,
                                mlxr_error *error)
{
    json_t *row = NULL, *fields = json_pack("{s:I}", "revision", (json_int_t)revision);
    char *text = chats_dump(values);
    chats_status status = fields && text ? chats_begin(c, error) : chats_no_memory(error);
    if (status == CHATS_OK) {
        status = settings_find(c, who, &row, error);
        status = status == CHATS_OK ? chats_check_revision(fields, row, "settings", error) : status;
        if (status == CHATS_OK) {
            status = chats_of_db(
                db_run(c->db, error,
                       "INSERT INTO settings(owner, revision, content) VALUES (?1, 1, ?2) ON CONFLICT(owner) DO "
                       "UPDATE SET revision = revision + 1, content = excluded.content",
                       "tt", who->owner, text));
        }
        json_decref(row);
        row = NULL;
        status = status == CHATS_OK ? settings_find(c, who, &row, error) : status;
        status = chats_finish(c, status, error);
        *out = status == CHATS_OK ? json_incref(row) : NULL;
        json_decref(row);
    }
    json_decref(fields);
    free(text);
    return status;
}
