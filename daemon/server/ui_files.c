/*
 * The web page and its assets, from a table of known files; nothing here opens a path.
 * Owner: the program; the files are constant, made by tools/ui. Lifetime: the process.
 *
 *   /, /chat, /models …   ─▶ index.html, asked for anew each time (ETag); the page itself shows what the path means
 *   /assets/NAME-HASH.js  ─▶ gzip, kept for ever: other bytes have another name
 */
#include "server/ui_files.h"

#include <string.h>
#include <strings.h>

#include "server/daemon_parts.h"
#include "server/errors.h"

typedef struct ui_file {
    const char *path, *type, *etag;
    bool gzip;
    const unsigned char *bytes;
    size_t n;
} ui_file;

#include <server/ui_files.inc> /* ui_files[], ended by a row without a path */

/* No script, style or frame that is not ours; what a model wrote can neither run nor call out. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
                             "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
                             "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
                             "trusted-types dompurify mlxr-worker; worker-src 'self'";

#define APIS "It answers Ollama's API at /api, OpenAI's and Anthropic's at /v1; see /openapi.json\n"
static const char alive[] = "MLXR is running. " APIS;
static const char no_page[] = "MLXR is running, without its web page: for that, run `make build` with a network. " APIS;

bool ui_files_take_gzip(const char *accept_encoding)
{
    const char *at = accept_encoding ? accept_encoding : "";
    while (*at) {
        at += strspn(at, ", \t");
        size_t n = strcspn(at, ", ;\t"), whole = strcspn(at, ",");
        if ((n == 4 && strncasecmp(at, "gzip", 4) == 0) || (n == 1 && *at == '*')) {
            const char *q = memchr(at, '=', whole);
            return !q || strspn(q + 1, "0. \t") < whole - (size_t)(q + 1 - at);
        }
        at += whole;
    }
    return false;
}

/* Of one path there may be two: packed, and as it is. *other: there is one, but not as the client takes it. */
static const ui_file *find(const http_exchange *x, const char *path, bool *other)
{
    bool gzip = ui_files_take_gzip(http_header_get(x, "accept-encoding"));
    *other = false;
    for (const ui_file *file = ui_files; file->path; file++) {
        if (strcmp(file->path, path) == 0) {
            if (gzip || !file->gzip) {
                return file;
            }
            *other = true;
        }
    }
    return NULL;
}

static void serve(http_exchange *x, const ui_file *file, const char *caching)
{
    const char *known = http_header_get(x, "if-none-match");
    http_header_add(x, "Cache-Control", caching);
    http_header_add(x, "ETag", file->etag);
    http_header_add(x, "Vary", "Accept-Encoding");
    http_header_add(x, "Referrer-Policy", "no-referrer");
    http_header_add(x, "Cross-Origin-Resource-Policy", "same-origin");
    if (known && strcmp(known, file->etag) == 0) {
        http_respond(x, 304, NULL, "", 0);
        return;
    }
    if (file->gzip) {
        http_header_add(x, "Content-Encoding", "gzip");
    }
    http_respond(x, 200, file->type, file->bytes, file->n);
}

static void file_of(void *service, http_exchange *x)
{
    const char *path = http_request_of(x)->path;
    bool other;
    (void)service;
    const ui_file *file = find(x, path, &other);
    if (file) {
        serve(x, file, strncmp(path, "/assets/", 8) == 0 ? "public, max-age=31536000, immutable" : "no-cache");
    } else if (other) {
        error_respond(x, 406, NULL, "this file is there with gzip only", NULL);
    } else {
        error_respond(x, 404, NULL, "there is nothing at this path", NULL);
    }
}

static void page(void *service, http_exchange *x)
{
    bool other;
    (void)service;
    const ui_file *file = find(x, "/index.html", &other);
    if (!file) {
        http_respond(x, 404, "text/plain; charset=utf-8", no_page, sizeof no_page - 1);
        return;
    }
    http_header_add(x, "Content-Security-Policy", policy);
    http_header_add(x, "Cross-Origin-Opener-Policy", "same-origin");
    serve(x, file, "no-cache");
}

/* Programs that look whether somebody lives here get a line of text; browsers, which ask for HTML, the page. */
static void root(void *service, http_exchange *x)
{
    const char *accept = http_header_get(x, "accept");
    bool html = accept && strstr(accept, "text/html"), there = ui_files[0].path != NULL;
    http_header_add(x, "Vary", "Accept");
    if (html && there) {
        page(service, x);
    } else {
        http_respond(x, 200, "text/plain; charset=utf-8", there ? alive : no_page, strlen(there ? alive : no_page));
    }
}

#define FILE_ROW(pattern, handler) {"GET", pattern, ROUTE_PUBLIC, ROUTE_PLAIN, ROUTE_WHEN_CLOSING, 0, handler}

const route ui_file_routes[N_UI_FILE_ROUTES] = {
    FILE_ROW("/", root),
    FILE_ROW("/chat", page),
    FILE_ROW("/chat/{id}", page),
    FILE_ROW("/models", page),
    FILE_ROW("/models/{name...}", page),
    FILE_ROW("/logs", page),
    FILE_ROW("/settings", page),
    FILE_ROW("/dashboard", page),
    FILE_ROW("/playground", page),
    FILE_ROW("/tray", page),
    FILE_ROW("/sw.js", file_of),
    FILE_ROW("/assets/{file}", file_of),
    FILE_ROW("/favicon.svg", file_of),
    FILE_ROW("/manifest.webmanifest", file_of),
};
