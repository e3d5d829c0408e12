/*
 * The web page: files that were put into the program when it was built.
 * Owner: the program; they are constant. Lifetime: the process.
 */
#ifndef MLXR_SERVER_UI_FILES_H
#define MLXR_SERVER_UI_FILES_H

#include "server/routes.h"

#define N_UI_FILE_ROUTES 14
extern const route ui_file_routes[N_UI_FILE_ROUTES];

/* Does a client with this Accept-Encoding (NULL: it sent none) take gzip? */
bool ui_files_take_gzip(const char *accept_encoding);

#endif
