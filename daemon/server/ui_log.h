/*
 * The events of one generation, and who is attached to them.
 * Owner: a run while it is made, then itself. Lifetime: ui_log_open until its owner has released it and the last client
 * has left. Loop thread.
 *
 *   add, add … (numbered from 1) ─▶ show up to n ─▶ each client, as fast as it reads ─▶ end: streams end
 */
#ifndef MLXR_SERVER_UI_LOG_H
#define MLXR_SERVER_UI_LOG_H

#include "server/http.h"

typedef struct ui_log ui_log;

ui_log *ui_log_open(http_server *http); /* NULL: no memory */
/* Takes the event, whose number it must have; false: no memory. */
bool ui_log_add(ui_log *log, json_t *event);
/* Clients get what is there up to number n, within 50 ms: what comes meanwhile goes with it. */
void ui_log_show(ui_log *log, uint64_t n);
/* What is there up to number n is on the disk, which clients are told. */
void ui_log_saved(ui_log *log, uint64_t n);
/* Nothing more comes; all of it is shown. */
void ui_log_end(ui_log *log);
/* Streams the events behind `after`; takes the exchange. */
void ui_log_attach(ui_log *log, http_exchange *x, uint64_t after);
/* The owner leaves it to its clients. */
void ui_log_release(ui_log *log);

#endif
