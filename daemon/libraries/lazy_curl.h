/*
 * libcurl, opened at the first call of its functions; these are those of <curl/curl.h> that somebody uses.
 * Owner: the process. Lifetime: the process's.
 */
#ifndef MLXR_LIBRARIES_LAZY_CURL_H
#define MLXR_LIBRARIES_LAZY_CURL_H

#include "libraries/lazy_library.h"

extern lazy_library lazy_curl;

#endif
