/*
 * Hostile names: 200 of them through every function that takes a name, a digest, a source or a Modelfile, and not one
 * opens, makes, renames or removes anything outside the store.
 * Owner: the test program. Lifetime: the process.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "registry/inside.h"
#include "support/fault_io.h"
#include "support/test.h"

static char root[512]; /* the model directory; what is used must be in it */
static const char *name_now, *call_now;

/* In the model directory, without a way out of it. */
static bool harmless(const char *path)
{
    if (strcmp(path, "/nowhere/.cache/huggingface/token") == 0) { /* ours, whatever the name */
        return true;
    }
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0') && !strstr(path, "/../") &&
           !strstr(path, "/./");
}

static void path_used(void *user, const char *path)
{
    size_t *n = user;
    (*n)++;
    if (!harmless(path)) {
        fail_msg("%s of '%s' uses %s", call_now, name_now, path);
    }
}

/* Parts that are put together. */
static const char *const bad[] = {
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "../",
    "./x",
    "a/../../b",
    "....//....//etc/passwd",
    "..\\..\\windows\\system32",
    "C:\\secret",
    "\\\\host\\share",
    "%2e%2e%2fetc%2fpasswd",
    "..%00/etc/passwd",
    "a\nb",
    "a\rb",
    "a\tb",
    "a b",
    "a;rm -rf /",
    "$(id)",
    "`id`",
    "|id",
    "&id",
    ">x",
    "<x",
    "*",
    "?",
    "[a]",
    "{a,b}",
    "~root",
    "~",
    "a'b",
    "a\"b",
    "--help",
    "-rf",
    ":x",
    "x:",
    "a:b:c",
    "a@b",
    "a#b",
    "a%n%s%s%n",
    "%s%s%s%s",
    "\xff\xfe",
    "\xc0\xae\xc0\xae/",
    "\xe2\x80\xae",
    "a\xe2\x80\x8b",
    "\x1b[31m",
    "\x7f",
    "CON",
    "NUL",
    "sha256:",
    "sha256-",
    "sha256:../../x",
    "sha256:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    "sha256:/etc/passwd/////////////////////////////////////////////////",
    "registry.db",
    ".mlxr/registry.db",
    "lock",
    "blobs/sha256-x",
    "partial",
    "x/.mlxr",
    "null",
    "file:///etc/passwd",
    "/proc/self/mem",
    "/dev/zero",
    "a//b",
    "a/./b",
    "a/b/c/d/e/f",
    "latest",
    ":latest",
    "a:latest/../..",
    "hf:../..",
    "hf:o/../../r",
    "hf:/etc/passwd",
    "hf:o/r:../../x",
    "ollama:../../x",
    "ollama:/etc/passwd",
    "http:///etc/passwd",
    "http://[",
    "https://",
    "https://user:pw@/",
    "ftp://x/y",
    "gopher://x",
    "javascript:x",
    "data:,x",
    "' OR 1=1 --",
    "'; DROP TABLE models; --",
    "x') UNION SELECT 1 --",
    "\\",
    "//",
    "///",
    "a/",
    "/a",
    "\xf0\x9f\x92\xa9",
    "a\\..\\b",
    "..;/x",
    "x/..;/y",
    "0",
    "-1",
    "NaN",
    "true",
};

static registry *r;

static mlxr_status ignore(void *user, const registry_key *key, mlxr_error *error)
{
    (void)user;
    (void)key;
    (void)error;
    return MLXR_OK;
}

/* Whatever it returned: a line that is fit for a terminal if it failed. */
static void told(mlxr_status status, const mlxr_error *error)
{
    if (status != MLXR_OK && !error->text[0]) {
        fail_msg("%s of '%s' does not say why not", call_now, name_now);
    }
    for (const char *c = error->text; *c; c++) {
        assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
}

#define CALL(expression)                                                                                               \
    do {                                                                                                               \
        mlxr_error error = {.text = ""};                                                                               \
        call_now = #expression;                                                                                        \
        told(expression, &error);                                                                                      \
    } while (0)

static void try_models(const char *name)
{
    registry_model m;
    mlxr_error why;
    call_now = "resolve";
    if (registry_resolve(r, name, &m, &why) == MLXR_OK) {
        assert_string_equal(m.name, "good"); /* the only one there is */
        registry_model_close(&m);
    }
    CALL(registry_copy(r, name, "good2", &error));
    CALL(registry_copy(r, "good", name, &error));
    CALL(registry_alias(r, name, "good", &error));
    CALL(registry_alias(r, "other", name, &error));
    CALL(registry_remove(r, name, 0, &error));
    CALL(registry_remove(r, name, 60, &error));
    CALL(registry_restore(r, name, &error));
    registry_remove(r, "good2", 0, NULL);
    registry_remove(r, "other", 0, NULL);
}

static void try_making(const char *name)
{
    char modelfile[2000];
    registry_recipe from = {.from = (char *)name}, parsed = {0}, plain = {.from = "good"};
    CALL(registry_create(r, name, &plain, NULL, &error));
    CALL(registry_remove(r, name, 0, &error));
    CALL(registry_create(r, "made", &from, NULL, &error));
    registry_remove(r, "made", 0, NULL);
    snprintf(modelfile, sizeof modelfile, "FROM %s\nPARAMETER %s %s\nSYSTEM %s\n", name, name, name, name);
    CALL(registry_modelfile_parse(&parsed, modelfile, strlen(modelfile), &error));
    registry_recipe_close(&parsed);
    snprintf(modelfile, sizeof modelfile, "FROM %s\n", name);
    call_now = "create from a Modelfile";
    if (registry_modelfile_parse(&parsed, modelfile, strlen(modelfile), NULL) == MLXR_OK) {
        CALL(registry_create(r, "made", &parsed, NULL, &error));
        registry_remove(r, "made", 0, NULL);
        registry_recipe_close(&parsed);
    }
    CALL(registry_register_path(r, "/nowhere/x.gguf", name, true, &error));
}

static void try_files(const char *name)
{
    registry_blob *b = NULL;
    uint64_t n;
    char digest[REGISTRY_DIGEST_MAX];
    call_now = "blob_exists";
    assert_false(registry_blob_exists(r, name, &n));
    assert_false(registry_digest_parse(name, digest));
    CALL(registry_blob_begin(&b, r, name, 10, &error));
    assert_null(b);
    stored_file file = {.role = "weights", .name = name};
    snprintf(file.digest, sizeof file.digest, "%.70s", name);
    stored_model m = {.name = "made", .path = "", .origin = "", .files = &file, .n_files = 1};
    call_now = "rows_put"; /* what it has no blob for is refused */
    assert_int_not_equal(rows_put(r, &m, &(mlxr_error){0}), MLXR_OK);
}

static void try_others(const char *name)
{
    registry_key key = {.label = ""};
    registry_usage one = {1, 1, 1, 1}, sum;
    char text[REGISTRY_KEY_TEXT_MAX];
    snprintf(key.label, sizeof key.label, "%.60s", name);
    snprintf(key.models, sizeof key.models, "%.500s", name);
    CALL(registry_key_create(r, &key, text, &error));
    CALL(registry_key_verify(r, name, strlen(name), &key, &error));
    CALL(registry_key_revoke(r, name, &error));
    CALL(registry_key_each(r, ignore, NULL, &error));
    CALL(registry_usage_add(r, name, name, &one, &error));
    CALL(registry_usage_today(r, name, &sum, &error));
    CALL(registry_pull(r, name, NULL, NULL, &error));
    registry_pull_options named = {.name = name};
    CALL(registry_pull(r, "http://127.0.0.1:9/x.gguf", &named, NULL, &error));
}

static void hostile_names_open_nothing_outside_the_store(void **unused)
{
    char name[400];
    size_t n_paths = 0, n_names = 0;
    (void)unused;
    mlxr_error error;
    assert_ok(registry_open(&r, root, &(registry_options){.no_foreign = true}, &error), &error);
    for (size_t i = 0; i < 3 * sizeof bad / sizeof *bad; i++, n_names++) {
        const char *part = bad[i / 3];
        snprintf(name, sizeof name, "%s%s%s", i % 3 == 1 ? "owner/" : "", part,
                 i % 3 == 2   ? "/x"
                 : i % 3 == 1 ? ":tag"
                              : "");
        name_now = name;
        fault_watch(path_used, &n_paths);
        try_models(name);
        try_making(name);
        try_files(name);
        try_others(name);
        fault_watch(NULL, NULL);
    }
    registry_model m;
    assert_ok(registry_resolve(r, "good", &m, &error), &error); /* nobody has hurt it */
    registry_model_close(&m);
    registry_close(&r);
    assert_true(n_names >= 200 && n_paths > 500);
    print_message("%zu names, %zu paths looked at\n", n_names, n_paths);
}

static int set_up(void **unused)
{
    (void)unused;
    fault_set_up();
    struct stat info; /* in memory, if that can be: it is not about disks */
    snprintf(root, sizeof root, "%s/models", test_temp_dir());
    if (stat("/dev/shm", &info) == 0 && S_ISDIR(info.st_mode)) {
        snprintf(root, sizeof root, "/dev/shm/mlxr-names-%d", (int)getpid());
    }
    char path[600];
    mkdir(root, 0700);
    snprintf(path, sizeof path, "%s/good.gguf", root);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("GGUF, but no model", file);
    fclose(file);
    static const char *const settings[][2] = {{"MLXR_OLLAMA_REGISTRY", "http://127.0.0.1:9"},
                                              {"HF_ENDPOINT", "http://127.0.0.1:9"},
                                              {"https_proxy", "http://127.0.0.1:9"},
                                              {"http_proxy", "http://127.0.0.1:9"},
                                              {"MLXR_PULL_RETRY_MS", "1"},
                                              {"HOME", "/nowhere"},
                                              {"no_proxy", ""}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        setenv(settings[i][0], settings[i][1], 1);
    }
    unsetenv("MLXR_ALLOW_PRIVATE");
    unsetenv("HF_HOME");
    unsetenv("HF_TOKEN");
    unsetenv("XDG_DATA_HOME");
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    fault_remove_tree(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hostile_names_open_nothing_outside_the_store)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
