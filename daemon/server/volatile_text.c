/*
 * Volatile lines.
 * Owner: none. Lifetime: the call.
 *
 * Taken out are the lines at the very beginning of a system message that look like headers of HTTP by the names that
 * agents give theirs: "x-anthropic-billing-header: cc_version=…; cch=…;" and any other "x-…: …". They are meant for a
 * provider's accounts, not for the model. Nothing else is touched: a date tells the model something, and changes once a
 * day; a clock tells it something, too. A request that wants even these lines kept says "keep_volatile": true.
 */
#include "server/volatile_text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* The bytes of the header lines that a text begins with, with the blank line behind them. */
static size_t header_bytes(const char *text)
{
    size_t n = 0;
    for (;;) {
        const char *line = text + n, *at = line;
        if (strncasecmp(at, "x-", 2) != 0) {
            break;
        }
        while (isalnum((unsigned char)*at) || *at == '-') {
            at++;
        }
        if (at[0] != ':' || at[1] != ' ') {
            break;
        }
        n += strcspn(line, "\n");
        n += text[n] == '\n';
    }
    return n && text[n] == '\n' ? n + 1 : n;
}

void volatile_text_remove(json_t *messages, chat_request *r)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        const char *text = json_string_value(json_object_get(message, "content"));
        size_t n = role && text && strcmp(role, "system") == 0 ? header_bytes(text) : 0;
        if (n == 0) {
            continue;
        }
        if (r) {
            request_fields_warn(&r->f,
                                "a header line at the beginning of the system message is not shown to the model: "
                                "it changes with every request (%.*s…)",
                                (int)(n < 40 ? n : strcspn(text, ":\n")), text);
        }
        json_object_set_new(message, "content", json_string(text + n));
    }
}
