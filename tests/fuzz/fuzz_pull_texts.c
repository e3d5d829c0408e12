/*
 * Fuzz target: what servers send to `pull`: manifests, lists of files, parameters, messages, headers; and Modelfiles
 * and Go templates. The first byte chooses. What is accepted keeps its promises. Owner: the fuzzer. Lifetime: the
 * process.
 */
/* links: registry */
#include <stdlib.h>
#include <string.h>

#include "registry/go_template.h"
#include "registry/http_text.h"
#include "registry/hub.h"
#include "registry/inside.h"
#include "registry/manifest.h"

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static void fuzz_manifest(const char *text, size_t n)
{
    static manifest m;
    mlxr_error error = {.text = ""};
    char digest[REGISTRY_DIGEST_MAX];
    if (manifest_parse(&m, text, n, &error) != MLXR_OK) {
        require(error.text[0] != '\0');
        return;
    }
    size_t n_models = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < m.n_layers; i++) {
        require(registry_digest_parse(m.layers[i].digest, digest));
        n_models += m.layers[i].kind == MANIFEST_MODEL;
        total += m.layers[i].n_bytes;
    }
    require(n_models == 1 && total == m.n_bytes && total <= (uint64_t)1 << 50);
}

static void fuzz_hub(const char *text, size_t n)
{
    hub_list list = {0};
    mlxr_error error = {.text = ""};
    if (hub_parse(&list, text, n, &error) == MLXR_OK) {
        bool *picked = calloc(list.n + 1, 1);
        char label[64];
        size_t first = 0, n_picked = 0;
        static const char *const types[] = {NULL, "Q4_0", "Q8_0", "m"};
        for (size_t k = 0; picked && k < 4; k++) {
            if (hub_pick(&list, types[k], picked, label, &first, &error) == MLXR_OK) {
                for (size_t i = 0; i < list.n; i++) {
                    n_picked += picked[i];
                }
                require(n_picked > 0 && first < list.n && picked[first]);
            }
        }
        for (size_t i = 0; i < list.n; i++) {
            require(!strstr(list.items[i].path, "..") && list.items[i].path[0] != '/');
        }
        free(picked);
    }
    hub_close(&list);
}

static void fuzz_headers(const char *text)
{
    uint64_t first, last, total;
    http_challenge challenge;
    char next[512];
    if (http_content_range(text, &first, &last, &total)) {
        require(first <= last && last < total);
    }
    if (http_bearer_challenge(text, &challenge)) {
        require(challenge.realm[0] && strlen(challenge.service) < HTTP_CHALLENGE_MAX);
    }
    if (http_link_next(text, next, sizeof next)) {
        require(next[0] && !strchr(next, '>'));
    }
    require(http_retry_after_s(text, 120, 5) <= 120);
}

static void fuzz_modelfile(const char *text, size_t n)
{
    registry_recipe recipe, again;
    mlxr_error error = {.text = ""};
    if (registry_modelfile_parse(&recipe, text, n, &error) != MLXR_OK) {
        require(error.text[0] != '\0');
        return;
    }
    require(recipe.from != NULL);
    registry_model m = {.path = recipe.from,
                        .template_text = recipe.template_text,
                        .system = recipe.system,
                        .license = recipe.license,
                        .parameters = recipe.parameters,
                        .messages = recipe.messages};
    char *written = registry_modelfile_text(&m);
    if (written && registry_modelfile_parse(&again, written, strlen(written), &error) == MLXR_OK) {
        require(again.parameters.n >= recipe.parameters.n);
        registry_recipe_close(&again);
    }
    free(written);
    registry_recipe_close(&recipe);
}

static void fuzz_template(const char *text)
{
    char *jinja = NULL;
    mlxr_error error = {.text = ""};
    if (go_template_to_jinja(text, &jinja, &error) == MLXR_OK) {
        require(strstr(jinja, "turn.prompt") != NULL);
        free(jinja);
    } else {
        require(error.text[0] != '\0' && jinja == NULL);
    }
}

static void fuzz_pairs(const char *text, size_t n, bool messages)
{
    registry_pairs pairs = {0};
    mlxr_error error = {.text = ""};
    if ((messages ? manifest_messages : manifest_parameters)(&pairs, text, n, &error) != MLXR_OK) {
        require(error.text[0] != '\0');
    }
    registry_pairs_close(&pairs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    char *text = malloc(n);
    if (!text) {
        return 0;
    }
    memcpy(text, data + 1, n - 1);
    text[n - 1] = '\0';
    switch (data[0]) {
    case 'm':
        fuzz_manifest(text, n - 1);
        break;
    case 'h':
        fuzz_hub(text, n - 1);
        break;
    case 'w':
        fuzz_headers(text);
        break;
    case 'f':
        fuzz_modelfile(text, n - 1);
        break;
    case 'g':
        fuzz_template(text);
        break;
    default:
        fuzz_pairs(text, n - 1, data[0] == 'c');
        break;
    }
    free(text);
    return 0;
}
