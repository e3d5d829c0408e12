/*
 * The table. What is in a chat may be written by whoever may use models.
 * Owner: none; constant. Lifetime: the process.
 */
#include "server/ui_routes.h"

#define IMPORT_BYTES (64u << 20)
#define TEXT_BYTES (48u << 20) /* a message with what is attached to it */

#define PLAIN(method, pattern, handler) {method, pattern, ROUTE_USE, ROUTE_PLAIN, ROUTE_BODY_NONE, 0, handler}
#define JSON(method, pattern, bytes, handler) {method, pattern, ROUTE_USE, ROUTE_PLAIN, ROUTE_BODY_JSON, bytes, handler}

const route ui_routes[N_UI_ROUTES] = {
    PLAIN("GET", "/ui-api/folders", ui_folders),
    JSON("POST", "/ui-api/folders", 0, ui_folder_add),
    JSON("PATCH", "/ui-api/folders/{id}", 0, ui_folder_change),
    PLAIN("DELETE", "/ui-api/folders/{id}", ui_folder_remove),
    PLAIN("GET", "/ui-api/chats", ui_chats),
    JSON("POST", "/ui-api/chats", 0, ui_chat_add),
    PLAIN("GET", "/ui-api/chats/{id}", ui_chat_get),
    JSON("PATCH", "/ui-api/chats/{id}", 0, ui_chat_change),
    PLAIN("DELETE", "/ui-api/chats/{id}", ui_chat_remove),
    PLAIN("POST", "/ui-api/chats/{id}/restore", ui_chat_restore),
    PLAIN("GET", "/ui-api/chats/{id}/export", ui_chat_export),
    JSON("POST", "/ui-api/import", IMPORT_BYTES, ui_chat_import),
    PLAIN("GET", "/ui-api/chats/{id}/messages", ui_messages),
    JSON("POST", "/ui-api/chats/{id}/messages", TEXT_BYTES, ui_message_add),
    PLAIN("GET", "/ui-api/chats/{id}/messages/{message}", ui_message_get),
    JSON("PATCH", "/ui-api/chats/{id}/messages/{message}", TEXT_BYTES, ui_message_change),
    PLAIN("DELETE", "/ui-api/chats/{id}/messages/{message}", ui_message_remove),
    JSON("POST", "/ui-api/chats/{id}/generations", TEXT_BYTES, ui_generate),
    PLAIN("GET", "/ui-api/generations", ui_generations),
    PLAIN("GET", "/ui-api/generations/{id}", ui_generation_get),
    PLAIN("GET", "/ui-api/generations/{id}/events", ui_generation_events),
    PLAIN("POST", "/ui-api/generations/{id}/stop", ui_generation_stop),
    PLAIN("GET", "/ui-api/search", ui_search),
    PLAIN("GET", "/ui-api/presets", ui_presets),
    JSON("POST", "/ui-api/presets", 0, ui_preset_add),
    JSON("PATCH", "/ui-api/presets/{id}", 0, ui_preset_change),
    PLAIN("DELETE", "/ui-api/presets/{id}", ui_preset_remove),
    PLAIN("GET", "/ui-api/settings", ui_settings),
    JSON("PATCH", "/ui-api/settings", 0, ui_settings_change),
    PLAIN("GET", "/ui-api/events", ui_events),
};
