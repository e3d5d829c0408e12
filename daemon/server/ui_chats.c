/*
 * Folders, chats, messages, search, presets, settings, files: what the store answers.
 * Owner: none; each call is ui_calls.c's. Lifetime: the call.
 */
#include <stdlib.h>
#include <string.h>

#include "server/ui_parts.h"
#include "server/ui_routes.h"

#define HANDLER(name, spec)                                                                                            \
    void name(void *service, http_exchange *x)                                                                         \
    {                                                                                                                  \
        static const ui_spec own = spec;                                                                               \
        ui_call_start(service, x, &own);                                                                               \
    }
#define READS(work) {work, NULL, NULL, NULL}
#define CHANGES(work, kind, op) {work, kind, op, NULL}

/* A list as an object: {"folders": […]}. */
static chats_status wrap(ui_call *c, const char *key, chats_status status)
{
    if (status == CHATS_OK) {
        c->out = json_pack("{s:o}", key, c->out);
        status = c->out ? CHATS_OK : CHATS_NO_MEMORY;
    }
    return status;
}

static int64_t query_number(const ui_call *c, const char *name)
{
    return json_integer_value(json_object_get(c->query, name));
}

/* Parameters that no answer could be made with are refused where they are kept. */
static chats_status check_parameters(ui_call *c, const json_t *fields)
{
    const json_t *parameters = json_object_get(fields, "parameters");
    return !parameters || ui_parameters_check(parameters, c->field, sizeof c->field, &c->error) ? CHATS_OK
                                                                                                : CHATS_INVALID;
}

/* ---- folders ----------------------------------------------------------------------------------------------------- */

static chats_status list_folders(ui_call *c)
{
    return wrap(c, "folders", chats_folders(c->store, &c->who, &c->out, &c->error));
}

static chats_status add_folder(ui_call *c)
{
    return chats_folder_add(c->store, &c->who, c->fields, &c->out, &c->error);
}

static chats_status change_folder(ui_call *c)
{
    return chats_folder_change(c->store, &c->who, c->id, c->fields, &c->out, &c->error);
}

static chats_status remove_folder(ui_call *c)
{
    return chats_folder_remove(c->store, &c->who, c->id, &c->error);
}

HANDLER(ui_folders, READS(list_folders))
HANDLER(ui_folder_add, CHANGES(add_folder, "folder", "created"))
HANDLER(ui_folder_change, CHANGES(change_folder, "folder", "changed"))
HANDLER(ui_folder_remove, CHANGES(remove_folder, "folder", "removed"))

/* ---- chats ------------------------------------------------------------------------------------------------------- */

static chats_status list_chats(ui_call *c)
{
    const json_t *folder = json_object_get(c->query, "folder");
    chats_query q = {.in_folder = folder != NULL,
                     .removed = json_is_true(json_object_get(c->query, "removed")),
                     .folder = json_integer_value(folder),
                     .since_ms = query_number(c, "since_ms"),
                     .until_ms = query_number(c, "until_ms"),
                     .after = json_string_value(json_object_get(c->query, "after")),
                     .limit = (uint32_t)query_number(c, "limit")};
    return chats_list(c->store, &c->who, &q, &c->out, &c->error);
}

static chats_status add_chat(ui_call *c)
{
    chats_status status = check_parameters(c, c->fields);
    return status == CHATS_OK ? chats_add(c->store, &c->who, c->fields, &c->out, &c->error) : status;
}

static chats_status get_chat(ui_call *c)
{
    return chats_get(c->store, &c->who, c->id, &c->out, &c->error);
}

static chats_status change_chat(ui_call *c)
{
    bool only_leaf = json_object_size(c->fields) == 1 && json_object_get(c->fields, "leaf");
    if (!only_leaf && !json_object_get(c->fields, "revision")) {
        return ui_call_bad(c, "revision", "revision is missing: that of the chat as it was read");
    }
    chats_status status = check_parameters(c, c->fields);
    return status == CHATS_OK ? chats_change(c->store, &c->who, c->id, c->fields, &c->out, &c->error) : status;
}

static chats_status remove_chat(ui_call *c)
{
    bool forever = json_is_true(json_object_get(c->query, "forever"));
    return chats_remove(c->store, &c->who, c->id, forever, &c->error);
}

static chats_status restore_chat(ui_call *c)
{
    return chats_restore(c->store, &c->who, c->id, &c->out, &c->error);
}

HANDLER(ui_chats, READS(list_chats))
HANDLER(ui_chat_add, CHANGES(add_chat, "chat", "created"))
HANDLER(ui_chat_get, READS(get_chat))
HANDLER(ui_chat_change, CHANGES(change_chat, "chat", "changed"))
HANDLER(ui_chat_remove, CHANGES(remove_chat, "chat", "removed"))
HANDLER(ui_chat_restore, CHANGES(restore_chat, "chat", "restored"))

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static chats_status list_messages(ui_call *c)
{
    return chats_messages(c->store, &c->who, c->id, query_number(c, "after"), (uint32_t)query_number(c, "limit"),
                          &c->out, &c->error);
}

static chats_status add_message(ui_call *c)
{
    return chats_message_add(c->store, &c->who, c->id, c->fields, &c->out, &c->error);
}

static chats_status get_message(ui_call *c)
{
    return chats_message_get(c->store, &c->who, c->id, c->message, &c->out, &c->error);
}

static chats_status change_message(ui_call *c)
{
    return chats_message_change(c->store, &c->who, c->id, c->message, c->fields, &c->out, &c->error);
}

static chats_status remove_message(ui_call *c)
{
    return chats_message_remove(c->store, &c->who, c->id, c->message, &c->error);
}

HANDLER(ui_messages, READS(list_messages))
HANDLER(ui_message_add, CHANGES(add_message, "message", "created"))
HANDLER(ui_message_get, READS(get_message))
HANDLER(ui_message_change, CHANGES(change_message, "message", "changed"))
HANDLER(ui_message_remove, CHANGES(remove_message, "message", "removed"))

/* ---- files ------------------------------------------------------------------------------------------------------- */

static chats_status export_chat(ui_call *c)
{
    const char *format = json_string_value(json_object_get(c->query, "format"));
    char *text = NULL;
    if (!format || strcmp(format, "markdown") != 0) {
        return chats_export(c->store, &c->who, c->id, &c->out, &c->error);
    }
    chats_status status = chats_export_markdown(c->store, &c->who, c->id, &text, &c->error);
    if (status == CHATS_OK) {
        c->out = json_pack("{s:s}", "markdown", text);
        status = c->out ? CHATS_OK : CHATS_NO_MEMORY;
    }
    free(text);
    return status;
}

static chats_status import_chat(ui_call *c)
{
    const json_t *file = json_object_get(c->fields, "chat");
    const char *markdown = json_string_value(json_object_get(c->fields, "markdown"));
    int64_t folder = json_integer_value(json_object_get(c->fields, "folder"));
    if (!file == !markdown) {
        return ui_call_bad(c, NULL, "exactly one of chat and markdown is needed");
    }
    if (markdown) {
        return chats_import_markdown(c->store, &c->who, markdown, folder, &c->out, &c->error);
    }
    chats_status status = check_parameters(c, json_object_get(file, "chat"));
    return status == CHATS_OK ? chats_import(c->store, &c->who, file, folder, &c->out, &c->error) : status;
}

HANDLER(ui_chat_export, READS(export_chat))
HANDLER(ui_chat_import, CHANGES(import_chat, "chat", "created"))

/* ---- search ------------------------------------------------------------------------------------------------------ */

static chats_status search(ui_call *c)
{
    return chats_search(c->store, &c->who, json_string_value(json_object_get(c->query, "q")),
                        (uint32_t)query_number(c, "offset"), (uint32_t)query_number(c, "limit"), &c->out, &c->error);
}

HANDLER(ui_search, READS(search))

/* ---- presets ----------------------------------------------------------------------------------------------------- */

static chats_status list_presets(ui_call *c)
{
    return wrap(c, "presets", chats_presets(c->store, &c->who, &c->out, &c->error));
}

static chats_status add_preset(ui_call *c)
{
    chats_status status = check_parameters(c, c->fields);
    return status == CHATS_OK ? chats_preset_add(c->store, &c->who, c->fields, &c->out, &c->error) : status;
}

static chats_status change_preset(ui_call *c)
{
    chats_status status = check_parameters(c, c->fields);
    return status == CHATS_OK ? chats_preset_change(c->store, &c->who, c->id, c->fields, &c->out, &c->error) : status;
}

static chats_status remove_preset(ui_call *c)
{
    return chats_preset_remove(c->store, &c->who, c->id, &c->error);
}

HANDLER(ui_presets, READS(list_presets))
HANDLER(ui_preset_add, CHANGES(add_preset, "preset", "created"))
HANDLER(ui_preset_change, CHANGES(change_preset, "preset", "changed"))
HANDLER(ui_preset_remove, CHANGES(remove_preset, "preset", "removed"))

/* ---- settings: what is kept differs from the defaults, what is told has all of them -------------------------------
 */

/* What another version kept and this one does not know would make every change one that is refused. */
static void drop_unknown(json_t *values, const json_t *schema)
{
    const json_t *known = json_object_get(schema, "properties");
    const char *name;
    json_t *one;
    void *next;
    json_object_foreach_safe(values, next, name, one)
    {
        if (!json_object_get(known, name)) {
            json_object_del(values, name);
        }
    }
}

static chats_status give_settings(ui_call *c, chats_status status)
{
    const json_t *schema = ui_schema_named(c->d->ui->document, "UiSettingValues");
    const char *name;
    json_t *one;
    if (status != CHATS_OK) {
        return status;
    }
    json_t *values = json_object_get(c->out, "values");
    drop_unknown(values, schema);
    json_object_foreach(json_object_get(schema, "properties"), name, one)
    {
        if (!json_object_get(values, name)) {
            json_object_set(values, name, json_object_get(one, "default"));
        }
    }
    json_object_set_new(c->out, "version", json_integer(1));
    return CHATS_OK;
}

static chats_status get_settings(ui_call *c)
{
    return give_settings(c, chats_settings(c->store, &c->who, &c->out, &c->error));
}

static chats_status change_settings(ui_call *c)
{
    const json_t *document = c->d->ui->document, *schema = ui_schema_named(document, "UiSettingValues");
    json_t *kept = NULL, *value;
    const char *name;
    chats_status status = chats_settings(c->store, &c->who, &kept, &c->error);
    if (status != CHATS_OK) {
        return status;
    }
    json_t *values = json_object_get(kept, "values");
    drop_unknown(values, schema);
    json_object_foreach(json_object_get(c->fields, "values"), name, value)
    {
        if (json_is_null(value)) {
            json_object_del(values, name);
        } else {
            json_object_set(values, name, value);
        }
    }
    if (ui_schema_check(document, schema, values, c->field, sizeof c->field, &c->error)) {
        int64_t revision = json_integer_value(json_object_get(c->fields, "revision"));
        status = chats_settings_put(c->store, &c->who, revision, values, &c->out, &c->error);
    } else {
        status = CHATS_INVALID;
    }
    json_decref(kept);
    return give_settings(c, status);
}

HANDLER(ui_settings, READS(get_settings))
HANDLER(ui_settings_change, CHANGES(change_settings, "settings", "changed"))
