/*
 * Routes of the UI's API; ui_api.json describes each of them.
 * Owner: ui_routes.c. Lifetime: the process.
 */
#ifndef MLXR_SERVER_UI_ROUTES_H
#define MLXR_SERVER_UI_ROUTES_H

#include "server/routes.h"

#define N_UI_ROUTES 30
extern const route ui_routes[N_UI_ROUTES];

/* ui_chats.c */
void ui_folders(void *service, http_exchange *x);
void ui_folder_add(void *service, http_exchange *x);
void ui_folder_change(void *service, http_exchange *x);
void ui_folder_remove(void *service, http_exchange *x);
void ui_chats(void *service, http_exchange *x);
void ui_chat_add(void *service, http_exchange *x);
void ui_chat_get(void *service, http_exchange *x);
void ui_chat_change(void *service, http_exchange *x);
void ui_chat_remove(void *service, http_exchange *x);
void ui_chat_restore(void *service, http_exchange *x);
void ui_chat_export(void *service, http_exchange *x);
void ui_chat_import(void *service, http_exchange *x);
void ui_messages(void *service, http_exchange *x);
void ui_message_add(void *service, http_exchange *x);
void ui_message_get(void *service, http_exchange *x);
void ui_message_change(void *service, http_exchange *x);
void ui_message_remove(void *service, http_exchange *x);
void ui_search(void *service, http_exchange *x);
void ui_presets(void *service, http_exchange *x);
void ui_preset_add(void *service, http_exchange *x);
void ui_preset_change(void *service, http_exchange *x);
void ui_preset_remove(void *service, http_exchange *x);
void ui_settings(void *service, http_exchange *x);
void ui_settings_change(void *service, http_exchange *x);
/* ui_runs.c, ui_attach.c */
void ui_generate(void *service, http_exchange *x);
void ui_generations(void *service, http_exchange *x);
void ui_generation_get(void *service, http_exchange *x);
void ui_generation_events(void *service, http_exchange *x);
void ui_generation_stop(void *service, http_exchange *x);
/* ui_feed.c */
void ui_events(void *service, http_exchange *x);

#endif
