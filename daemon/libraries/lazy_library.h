/*
 * Functions of a shared library that is opened when the first of them is called.
 * Owner: the file that defines the functions; one lazy_library for each library. Lifetime: the process's.
 */
#ifndef MLXR_LIBRARIES_LAZY_LIBRARY_H
#define MLXR_LIBRARIES_LAZY_LIBRARY_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct lazy_library {
    const char *name;       /* what the loader looks for: "libcurl.so.4" */
    _Atomic(void *) handle; /* NULL: not opened, or not there */
} lazy_library;

/* Where the function is; 0: the library, or the function in it, is not there. `known` remembers it. Any thread. */
uintptr_t lazy_function(lazy_library *library, _Atomic(uintptr_t) *known, const char *name);

/*
 * Defines a library's function: LAZY(library, result, name, parameters, arguments, what it returns without it).
 * Its name is in parentheses because some headers also have a macro of that name.
 */
#define LAZY(library, result, name, parameters, arguments, otherwise)                                                  \
    result(name) parameters                                                                                            \
    {                                                                                                                  \
        static _Atomic(uintptr_t) known;                                                                               \
        result(*function) parameters = (result(*) parameters)lazy_function(&(library), &known, #name);                 \
        return function ? function arguments : (otherwise);                                                            \
    }

#define LAZY_VOID(library, name, parameters, arguments)                                                                \
    void(name) parameters                                                                                              \
    {                                                                                                                  \
        static _Atomic(uintptr_t) known;                                                                               \
        void(*function) parameters = (void(*) parameters)lazy_function(&(library), &known, #name);                     \
        if (function) {                                                                                                \
            function arguments;                                                                                        \
        }                                                                                                              \
    }

#endif
