/*
 * The UI's side of the daemon: its chats, the answers that are made in them, and who is told what changes.
 * Owner: the daemon. Lifetime: ui_open to ui_close; the loop thread, except where "any thread" is said.
 *
 * Without a store (another daemon has it open, or the disk fails) the daemon serves everything else; these routes then
 * answer 503 with the reason, and try again.
 */
#ifndef MLXR_SERVER_UI_H
#define MLXR_SERVER_UI_H

#include "server/daemon_parts.h"

struct ui; /* daemon_parts.h: d->ui */

mlxr_status ui_open(struct ui **out, struct daemon *d, mlxr_error *error);
/* The daemon drains: streams of changes end, answers go on. */
void ui_drain(struct ui *ui);
/* Answers of chats that are being made. */
unsigned ui_answering(const struct ui *ui);
/* Nothing is being made or written any more. */
bool ui_idle(const struct ui *ui);
/* The loop has ended, and so have all generations: what is not on the disk yet is written. */
void ui_end(struct ui *ui);
void ui_close(struct ui **ui);

/* Tells who follows the changes; takes `change` ({kind, op, …}). owner: whose it is, NULL: everybody's. */
void ui_publish(struct daemon *d, const char *owner, json_t *change);

#endif
