/*
 * libcurl's functions, opened at the first call.
 * Owner: libcurl. Lifetime: the process's.
 */
#include <curl/curl.h>
#include <stdarg.h>
#include <stddef.h>

#include "libraries/lazy_library.h"

static lazy_library lazy_curl = {.name = MLXR_CURL_SONAME};

LAZY(lazy_curl, CURLcode, curl_global_init, (long flags), (flags), CURLE_FAILED_INIT)
LAZY(lazy_curl, CURLcode, curl_global_init_mem,
     (long flags, curl_malloc_callback m, curl_free_callback f, curl_realloc_callback r, curl_strdup_callback s,
      curl_calloc_callback c),
     (flags, m, f, r, s, c), CURLE_FAILED_INIT)
LAZY_VOID(lazy_curl, curl_global_cleanup, (void), ())
LAZY_VOID(lazy_curl, curl_free, (void *p), (p))

LAZY(lazy_curl, CURL *, curl_easy_init, (void), (), NULL)
LAZY_VOID(lazy_curl, curl_easy_cleanup, (CURL * curl), (curl))
LAZY_VOID(lazy_curl, curl_easy_reset, (CURL * curl), (curl))
LAZY(lazy_curl, CURLcode, curl_easy_perform, (CURL * curl), (curl), CURLE_FAILED_INIT)
LAZY(lazy_curl, char *, curl_easy_escape, (CURL * curl, const char *text, int n), (curl, text, n), NULL)
LAZY(lazy_curl, const char *, curl_easy_strerror, (CURLcode code), (code), "libcurl is not installed")
LAZY(lazy_curl, struct curl_slist *, curl_slist_append, (struct curl_slist * list, const char *text), (list, text),
     NULL)
LAZY_VOID(lazy_curl, curl_slist_free_all, (struct curl_slist * list), (list))

LAZY(lazy_curl, CURLM *, curl_multi_init, (void), (), NULL)
LAZY(lazy_curl, CURLMcode, curl_multi_cleanup, (CURLM * multi), (multi), CURLM_INTERNAL_ERROR)
LAZY(lazy_curl, CURLMcode, curl_multi_add_handle, (CURLM * multi, CURL *curl), (multi, curl), CURLM_INTERNAL_ERROR)
LAZY(lazy_curl, CURLMcode, curl_multi_remove_handle, (CURLM * multi, CURL *curl), (multi, curl), CURLM_INTERNAL_ERROR)
LAZY(lazy_curl, CURLMcode, curl_multi_perform, (CURLM * multi, int *running), (multi, running), CURLM_INTERNAL_ERROR)
LAZY(lazy_curl, CURLMcode, curl_multi_poll,
     (CURLM * multi, struct curl_waitfd extra[], unsigned int n, int timeout_ms, int *ready),
     (multi, extra, n, timeout_ms, ready), CURLM_INTERNAL_ERROR)
LAZY(lazy_curl, CURLMcode, curl_multi_wakeup, (CURLM * multi), (multi), CURLM_INTERNAL_ERROR)
LAZY(lazy_curl, CURLMsg *, curl_multi_info_read, (CURLM * multi, int *left), (multi, left), NULL)
LAZY(lazy_curl, const char *, curl_multi_strerror, (CURLMcode code), (code), "libcurl is not installed")

LAZY(lazy_curl, CURLU *, curl_url, (void), (), NULL)
LAZY_VOID(lazy_curl, curl_url_cleanup, (CURLU * url), (url))
/* Newer headers have const here. */
typedef __typeof__(_Generic(&curl_url_get,
                       CURLUcode (*)(const CURLU *, CURLUPart, char **, unsigned int): (const CURLU *)NULL,
                       default: (CURLU *)NULL)) url_read;
LAZY(lazy_curl, CURLUcode, curl_url_get, (url_read url, CURLUPart part, char **text, unsigned int flags),
     (url, part, text, flags), CURLUE_OUT_OF_MEMORY)
LAZY(lazy_curl, CURLUcode, curl_url_set, (CURLU * url, CURLUPart part, const char *text, unsigned int flags),
     (url, part, text, flags), CURLUE_OUT_OF_MEMORY)

/* The number of an option tells the type of its value: CURLOPTTYPE_*, in steps of ten thousand. */
CURLcode(curl_easy_setopt)(CURL *curl, CURLoption option, ...)
{
    static _Atomic(uintptr_t) known;
    CURLcode (*set)(CURL *, CURLoption, ...) = (CURLcode(*)(CURL *, CURLoption, ...))lazy_function(&lazy_curl, &known,
                                                                                                   "curl_easy_setopt");
    CURLcode code = CURLE_FAILED_INIT;
    va_list values;
    va_start(values, option);
    if (set && option < CURLOPTTYPE_OBJECTPOINT) {
        code = set(curl, option, va_arg(values, long));
    } else if (set && option >= CURLOPTTYPE_OFF_T && option < CURLOPTTYPE_BLOB) {
        code = set(curl, option, va_arg(values, curl_off_t));
    } else if (set) {
        code = set(curl, option, va_arg(values, void *));
    }
    va_end(values);
    return code;
}

CURLcode(curl_easy_getinfo)(CURL *curl, CURLINFO info, ...)
{
    static _Atomic(uintptr_t) known;
    CURLcode (*get)(CURL *, CURLINFO, ...) = (CURLcode(*)(CURL *, CURLINFO, ...))lazy_function(&lazy_curl, &known,
                                                                                               "curl_easy_getinfo");
    va_list values;
    va_start(values, info);
    CURLcode code = get ? get(curl, info, va_arg(values, void *)) : CURLE_FAILED_INIT;
    va_end(values);
    return code;
}
