/*
 * mlxr_chat.h: conversations whose texts cannot become control tokens, whatever is written in them. The rules of mlxr.h
 * about errors, threads and ownership hold here, too.
 *
 * In what mlxr_chat_render_marked returns, bytes 0xFF, which no text has, stand where a text of the conversation spells
 * a control token such as "<|im_end|>", or ends with the beginning of one. mlxr_tokenize with MLXR_TOKENIZE_MARKED
 * drops these marks, and takes nothing that had one inside, or before it, for a control token. What the template itself
 * writes has none. Where no text spells a control token, the result is mlxr_chat_render's.
 */
#ifndef MLXR_CHAT_H
#define MLXR_CHAT_H

#include "mlxr.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A further flag of mlxr_tokenize, beside MLXR_TOKENIZE_PARSE_SPECIAL: the text has marks. */
#define MLXR_TOKENIZE_MARKED (1u << 2)

/* As mlxr_chat_render; all texts of messages, tools and extra variables are marked, names and keys included. */
MLXR_API mlxr_status mlxr_chat_render_marked(const mlxr_model *model, const char *messages_json, const char *tools_json,
                                             const char *extra_json, bool add_generation_prompt, char **text,
                                             mlxr_error *error);
/* One of the two with another template (Jinja) in the place of the model's, whether that has one or not; NULL: the
 * model's. */
MLXR_API mlxr_status mlxr_chat_render_with(const mlxr_model *model, const char *template_text,
                                           const char *messages_json, const char *tools_json, const char *extra_json,
                                           bool add_generation_prompt, bool marked, char **text, mlxr_error *error);
/* Marks one text, to be put beside others. *out is NUL-terminated and freed with mlxr_free. */
MLXR_API mlxr_status mlxr_chat_mark(const mlxr_model *model, const char *text, size_t n_bytes, char **out,
                                    size_t *n_out, mlxr_error *error);
/* Takes the marks out again, in place, for people to read; returns the length, behind which a NUL is written. */
MLXR_API size_t mlxr_chat_unmark(char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
