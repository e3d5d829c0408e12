/*
 * `mlxr doctor`: what this machine offers, what is missing and how to mend it.
 * Owner: main. Lifetime: the call.
 */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels.h"
#include "models.h"
#include "output.h"
#include "verbs.h"

typedef enum verdict { GOOD, ADVICE, PROBLEM } verdict;

/* What was found, as JSON: [{"what", "verdict", "found", "advice"}]. */
typedef struct findings {
    json_t *list;
    bool problem;
} findings;

static void add(findings *f, verdict v, const char *what, const char *found, const char *advice)
{
    static const char *const names[] = {[GOOD] = "ok", [ADVICE] = "advice", [PROBLEM] = "problem"};
    json_t *entry = json_object();
    json_object_set_new(entry, "what", json_string(what));
    json_object_set_new(entry, "verdict", json_string(names[v]));
    json_object_set_new(entry, "found", json_text(found, strlen(found)));
    if (advice) {
        json_object_set_new(entry, "advice", json_text(advice, strlen(advice)));
    }
    json_array_append_new(f->list, entry);
    f->problem |= v == PROBLEM;
}

/* "avx2, fma": the strings of a list; those that `except` has too are left out. */
static void join(const json_t *list, const json_t *except, char *out, size_t cap)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        bool left_out = !name;
        for (size_t j = 0; name && j < json_array_size(except); j++) {
            const char *other = json_string_value(json_array_get(except, j));
            left_out = left_out || (other && strcmp(other, name) == 0);
        }
        if (!left_out && used < cap) {
            used += (size_t)snprintf(out + used, cap - used, "%s%s", used ? ", " : "", name);
        }
    }
}

static void check_processor(findings *f, const json_t *system)
{
    char features[512], missing[512], line[1200];
    const char *cpu = json_string_value(json_object_get(system, "cpu"));
    json_t *granted = json_object_get(system, "cpu_features");
    join(granted, NULL, features, sizeof features);
    join(json_object_get(system, "cpu_features_advertised"), granted, missing, sizeof missing);
    snprintf(line, sizeof line, "%s, %lld usable cores", cpu ? cpu : "unknown",
             (long long)json_integer_value(json_object_get(system, "cores_usable")));
    add(f, GOOD, "processor", line, NULL);
    add(f, *features ? GOOD : ADVICE, "instructions", *features ? features : "none that MLXR has fast code for",
        *features ? NULL : "answers will be slow: use a machine with AVX2 or ARM64 with dot products");
    if (*missing) {
        snprintf(line, sizeof line, "%s", missing);
        add(f, ADVICE, "withheld", line,
            "the processor has these, but the operating system or virtual machine does not grant them: a newer kernel, "
            "or "
            "the settings of the virtual machine, may");
    }
}

static void check_memory(findings *f, const json_t *system)
{
    uint64_t total = (uint64_t)json_integer_value(json_object_get(system, "memory_bytes"));
    uint64_t available = (uint64_t)json_integer_value(json_object_get(system, "memory_available_bytes"));
    char line[128];
    snprintf(line, sizeof line, "%s, %s available", human_bytes(total), human_bytes(available));
    bool low = available < ((uint64_t)512 << 20);
    add(f, low ? ADVICE : GOOD, "memory", line,
        low ? "close other programs: even small models want half a gigabyte" : NULL);
}

static void check_backends(findings *f, const json_t *system)
{
    const json_t *list = json_object_get(system, "backends");
    bool any = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *why = json_string_value(json_object_get(entry, "why"));
        char what[64];
        bool present = json_is_true(json_object_get(entry, "present"));
        bool invariant = json_is_true(json_object_get(entry, "batch_invariant"));
        const char *device = json_string_value(json_object_get(entry, "device"));
        bool rounds = json_array_size(json_object_get(entry, "activations")) > 1;
        char here[280];
        snprintf(here, sizeof here, "present%s%s; %s%s", device ? ": " : "", device ? device : "",
                 invariant ? "results never depend on the batch" : "cannot keep --batch-invariant",
                 rounds ? "; activations of 16 or 8 bits (8 is faster with AVX2, AVX-VNNI and AVX-512 VNNI)" : "");
        snprintf(what, sizeof what, "backend %s", name ? name : "?");
        add(f, GOOD, what, present ? here : why ? why : "absent", NULL);
        any |= present;
    }
    if (!any) {
        add(f, PROBLEM, "backends", "none", "this build can compute nothing: build it again with the CPU backend");
    }
}

static void check_models(findings *f)
{
    char directory[MODEL_PATH_MAX], line[MODEL_PATH_MAX + 64];
    model_list list;
    if (!models_directory(directory, sizeof directory)) {
        add(f, PROBLEM, "models", "there is no model directory", "set HOME or MLXR_MODELS");
        return;
    }
    if (!models_list(&list)) {
        f->problem = true;
        return;
    }
    snprintf(line, sizeof line, "%zu in %s", list.n, directory);
    if (list.n > 0) {
        add(f, GOOD, "models", line, NULL);
    } else if (access(directory, R_OK | X_OK) == 0 || access(directory, F_OK) != 0) {
        add(f, ADVICE, "models", line,
            "mlxr list --catalogue shows good ones, mlxr pull NAME gets one; or put a .gguf file there");
    } else {
        add(f, PROBLEM, "models", line, "the directory cannot be read: check its owner and permissions");
    }
    models_list_close(&list);
}

/* Asks the servers that models come from. */
static void check_pull(findings *f)
{
    json_t *list = NULL;
    mlxr_error error;
    if (registry_pull_check(&list, &error) != MLXR_OK) {
        add(f, PROBLEM, "pull", error.text, NULL);
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        bool ok = json_is_true(json_object_get(entry, "ok"));
        add(f, ok ? GOOD : PROBLEM, json_string_value(json_object_get(entry, "what")),
            json_string_value(json_object_get(entry, "found")),
            ok ? NULL : "check the network, the proxy (https_proxy) and HF_ENDPOINT or MLXR_OLLAMA_REGISTRY");
    }
    json_decref(list);
}

static void check_terminal(findings *f)
{
    setlocale(LC_CTYPE, "");
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    setlocale(LC_CTYPE, "C");
    add(f, utf8 ? GOOD : ADVICE, "locale", utf8 ? "UTF-8" : "not UTF-8",
        utf8 ? NULL : "texts are UTF-8 whatever it says; set LC_ALL=C.UTF-8 if characters look wrong");
}

static void print_findings(const json_t *list)
{
    static const char *const colours[] = {"\033[32m", "\033[33m", "\033[31m"};
    static const char *const marks[] = {"ok", "--", "!!"};
    bool colour = use_colours(STDOUT_FILENO);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *v = json_string_value(json_object_get(entry, "verdict"));
        const char *advice = json_string_value(json_object_get(entry, "advice"));
        int kind = strcmp(v, "ok") == 0 ? 0 : strcmp(v, "advice") == 0 ? 1 : 2;
        printf("%s%s%s  %-14s %s\n", colour ? colours[kind] : "", marks[kind], colour ? "\033[0m" : "",
               json_string_value(json_object_get(entry, "what")), json_string_value(json_object_get(entry, "found")));
        if (advice) {
            printf("    %-14s -> %s\n", "", advice);
        }
    }
}

int verb_doctor(options *o)
{
    mlxr_error error;
    char *description = NULL;
    if (o->metal) {
        return doctor_metal(o);
    }
    if (mlxr_system_describe(&description, &error) != MLXR_OK) {
        return print_failure(&error);
    }
    json_t *system = json_loads(description, 0, NULL);
    mlxr_free(description);
    findings f = {.list = json_array()};
    check_processor(&f, system);
    check_memory(&f, system);
    check_backends(&f, system);
    check_models(&f);
    check_terminal(&f);
    if (o->pull) {
        check_pull(&f);
    }
    int code;
    if (o->json) {
        json_object_set_new(system, "findings", f.list);
        code = print_json(system);
    } else {
        printf("mlxr %s\n", mlxr_version());
        print_findings(f.list);
        json_decref(f.list);
        json_decref(system);
        code = finish_output(EXIT_OK);
    }
    return code == EXIT_OK && f.problem ? EXIT_FAILED : code;
}
