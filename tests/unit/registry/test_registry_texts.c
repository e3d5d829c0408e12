/*
 * What is read into the registry: Modelfiles, Go templates, lists of files, headers, other programs' folders,
 * addresses, the catalogue. Owner: the test program. Lifetime: the process.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry/address.h"
#include "registry/catalogue.h"
#include "registry/go_template.h"
#include "registry/http_text.h"
#include "registry/hub.h"
#include "registry/inside.h"
#include "support/test.h"
#include "support/tiny_model.h"

/* ---- Modelfiles -------------------------------------------------------------------------------------------------- */

static mlxr_status parse(registry_recipe *recipe, const char *text, mlxr_error *error)
{
    return registry_modelfile_parse(recipe, text, strlen(text), error);
}

static void a_modelfile_is_read_whole(void **unused)
{
    (void)unused;
    registry_recipe r;
    mlxr_error error;
    assert_ok(parse(&r,
                    "# a comment\r\nFROM  ./x y.gguf \nparameter temperature 0.25\nPARAMETER stop \"a b \"\n"
                    "PARAMETER stop <|end|>\nSYSTEM \"\"\"two\n\"lines\" \"\"\"\nMESSAGE user hi there\n"
                    "MESSAGE assistant \"\"\"yes\n\"\"\"\nLICENSE MIT\nLICENSE \"\"\"and\nmore\"\"\"\nTEMPLATE {{ x }}",
                    &error),
              &error);
    assert_string_equal(r.from, "./x y.gguf");
    assert_int_equal(r.parameters.n, 3);
    assert_string_equal(r.parameters.items[1].value, "a b ");
    assert_string_equal(r.parameters.items[2].value, "<|end|>");
    assert_string_equal(r.system, "two\n\"lines\" ");
    assert_string_equal(r.messages.items[0].value, "hi there");
    assert_string_equal(r.messages.items[1].value, "yes\n");
    assert_string_equal(r.license, "MIT\n\nand\nmore");
    assert_string_equal(r.template_text, "{{ x }}");
    registry_recipe_close(&r);
}

static void what_a_modelfile_may_not_say_is_refused_with_its_line(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *why;
        mlxr_status status;
    } cases[] = {
        {"", "no FROM", MLXR_ARG},
        {"FROM a\nFROM b", "line 2: FROM is given twice", MLXR_ARG},
        {"FROM a\n\nADAPTER \"./lora", "line 3: ADAPTER has a quote that does not end", MLXR_FORMAT},
        {"FROM a\nADAPTER \"x\" y", "behind the closing quote", MLXR_FORMAT},
        {"FROM a\nRENDERER x", "RENDERER is not supported", MLXR_UNSUPPORTED},
        {"FROM a\nNONSENSE x", "'NONSENSE' is no command", MLXR_FORMAT},
        {"FROM a\nPARAMETER", "needs a name", MLXR_FORMAT},
        {"FROM a\nPARAMETER warmth 1", "'warmth' is not known", MLXR_UNSUPPORTED},
        {"FROM a\nPARAMETER temperature hot", "a number is needed", MLXR_ARG},
        {"FROM a\nPARAMETER temperature nan", "a number is needed", MLXR_ARG},
        {"FROM a\nPARAMETER top_k 1.5", "a whole number is needed", MLXR_ARG},
        {"FROM a\nPARAMETER use_mmap maybe", "true or false", MLXR_ARG},
        {"FROM a\nMESSAGE robot hi", "not 'robot'", MLXR_ARG},
        {"FROM a\nSYSTEM \"\"\"never", "line 2: SYSTEM has a quote that does not end", MLXR_FORMAT},
        {"FROM a\nSYSTEM \"never\n\"", "does not end", MLXR_FORMAT},
        {"FROM a\nSYSTEM \"x\" y", "behind the closing quote", MLXR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        registry_recipe r;
        mlxr_error error;
        assert_int_equal(parse(&r, cases[i].text, &error), cases[i].status);
        if (!strstr(error.text, cases[i].why)) {
            fail_msg("'%s' does not say '%s'", error.text, cases[i].why);
        }
    }
}

static void a_created_model_takes_over_what_its_base_has(void **unused)
{
    (void)unused;
    char dir[512], path[600], text[700], *written;
    registry *reg;
    registry_recipe recipe;
    registry_model m;
    mlxr_error error;
    snprintf(dir, sizeof dir, "%s/create", test_temp_dir());
    assert_ok(registry_open(&reg, dir, &(registry_options){.no_foreign = true}, &error), &error);
    snprintf(path, sizeof path, "%s/base.gguf", dir);
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);
    assert_ok(parse(&recipe, "FROM ./base.gguf\nPARAMETER top_k 5\nPARAMETER stop a\nSYSTEM one", &error), &error);
    assert_int_equal(registry_create(reg, "first", &recipe, NULL, &error), MLXR_ARG); /* paths only where they may be */
    assert_ok(registry_create(reg, "first", &recipe, dir, &error), &error);
    registry_recipe_close(&recipe);
    assert_ok(parse(&recipe, "FROM first\nPARAMETER stop b\nPARAMETER stop c\nMESSAGE user hi", &error), &error);
    assert_ok(registry_create(reg, "second:v1", &recipe, NULL, &error), &error);
    registry_recipe_close(&recipe);
    assert_ok(registry_resolve(reg, "second:v1", &m, &error), &error);
    assert_string_equal(m.system, "one");
    assert_int_equal(m.parameters.n, 3);
    assert_string_equal(m.parameters.items[0].value, "5");
    assert_string_equal(m.parameters.items[2].value, "c");
    assert_string_equal(m.family, "llama");
    written = registry_modelfile_text(&m);
    snprintf(text, sizeof text,
             "FROM %s\nSYSTEM one\nPARAMETER top_k 5\nPARAMETER stop b\nPARAMETER stop c\nMESSAGE user hi\n", m.path);
    assert_string_equal(written, text);
    free(written);
    registry_model_close(&m);
    assert_ok(parse(&recipe, "FROM first\nTEMPLATE \"{{ range .Messages }}{{ .Content }}{{ end }}\"", &error), &error);
    assert_int_equal(registry_create(reg, "third", &recipe, NULL, &error), MLXR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "range .Messages"));
    registry_recipe_close(&recipe);
    assert_ok(parse(&recipe, "FROM nothing", &error), &error);
    assert_int_equal(registry_create(reg, "third", &recipe, dir, &error), MLXR_ARG);
    registry_recipe_close(&recipe);
    registry_close(&reg);
}

/* ---- Go templates ------------------------------------------------------------------------------------------------ */

static void classic_go_templates_become_jinja_and_others_are_named(void **unused)
{
    (void)unused;
    static const char *const refused[][2] = {
        {"{{ range .Messages }}x{{ end }}", "range .Messages"},
        {"{{ .Prompt | upper }}", ".Prompt | upper"},
        {"{{ if .Tools }}{{ end }}{{ .Prompt }}", "if .Tools"},
        {"{{ if .System }}{{ .Response }}{{ end }}{{ .Prompt }}", ".Response"},
        {"{{ .System }}", "does not write {{ .Prompt }}"},
        {"{{ .Prompt", "without its end"},
        {"{{ if .System }}{{ .Prompt }}", "condition without its end"},
        {"{{ end }}{{ .Prompt }}", "{{ end }}"},
        {"{{ .Response }}{{ .Response }}{{ .Prompt }}", ".Response"},
    };
    char *jinja = NULL;
    mlxr_error error;
    assert_true(go_template_is("{{ .Prompt }}") &&
                !go_template_is("{% for m in messages %}{{ m.content }}{% endfor %}"));
    assert_ok(go_template_to_jinja(
                  "{{- if .System }}<s>{{ .System }}'s</s>\n{{ end -}}  <u>{{ .Prompt }}</u>{{ .Response }}<e>", &jinja,
                  &error),
              &error);
    assert_non_null(strstr(jinja, "{{- '\\'s</s>\\n' -}}"));
    assert_non_null(
        strstr(jinja, "{{- '<u>' -}}{{- turn.prompt -}}{{- '</u>' -}}{{- message.content -}}{{- '<e>' -}}"));
    free(jinja);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_not_equal(go_template_to_jinja(refused[i][0], &jinja, &error), MLXR_OK);
        if (!strstr(error.text, refused[i][1])) {
            fail_msg("%s: '%s'", refused[i][0], error.text);
        }
    }
}

/* ---- headers, addresses ------------------------------------------------------------------------------------------ */

static void headers_are_read_strictly(void **unused)
{
    (void)unused;
    uint64_t first, last, total;
    http_challenge c;
    char next[64];
    assert_true(http_content_range("bytes 5-9/10", &first, &last, &total) && first == 5 && last == 9 && total == 10);
    static const char *const bad[] = {"bytes 5-10/10",
                                      "bytes 6-5/10",
                                      "bytes */10",
                                      "5-9/10",
                                      "bytes -9/10",
                                      "bytes 5-/10",
                                      "bytes 5-9/",
                                      "bytes 5-9/10x",
                                      "bytes 0-99999999999999999999/1",
                                      "",
                                      "bytes +1-2/3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(http_content_range(bad[i], &first, &last, &total));
    }
    assert_true(http_bearer_challenge("bearer realm=\"https://x/y?a=\\\"b\", service = s ,scope=\"a b\",other=1", &c));
    assert_string_equal(c.realm, "https://x/y?a=\"b");
    assert_string_equal(c.service, "s");
    assert_string_equal(c.scope, "a b");
    assert_false(http_bearer_challenge("Bearer realm=a, realm=b", &c) || http_bearer_challenge("Bearer", &c) ||
                 http_bearer_challenge("BearerX realm=a", &c) || http_bearer_challenge("Bearer realm=\"a", &c));
    assert_true(http_link_next("<https://a>; rel=\"prev\", <https://b>; rel=\"next\"", next, sizeof next));
    assert_string_equal(next, "https://b");
    assert_false(http_link_next("<https://a>; rel=\"prev\"", next, sizeof next) ||
                 http_link_next("<", next, sizeof next));
    assert_int_equal(http_retry_after_s("7", 120, 5), 7);
    assert_int_equal(http_retry_after_s("99999", 120, 5), 120);
    assert_int_equal(http_retry_after_s("soon", 120, 5), 5);
}

static bool is_private(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        return address_is_private((struct sockaddr *)&v4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return address_is_private((struct sockaddr *)&v6);
}

static void addresses_that_are_not_the_internets_are_private(void **unused)
{
    (void)unused;
    static const char *const private[] = {"0.0.0.0",
                                          "10.1.2.3",
                                          "100.64.0.1",
                                          "100.127.255.255",
                                          "127.0.0.1",
                                          "127.255.255.255",
                                          "169.254.169.254",
                                          "172.16.0.1",
                                          "172.31.255.255",
                                          "192.0.0.8",
                                          "192.0.2.1",
                                          "192.168.1.1",
                                          "198.18.0.1",
                                          "198.19.255.255",
                                          "198.51.100.1",
                                          "203.0.113.5",
                                          "224.0.0.1",
                                          "239.1.1.1",
                                          "240.0.0.1",
                                          "255.255.255.255",
                                          "::",
                                          "::1",
                                          "::7f00:1",
                                          "::ffff:127.0.0.1",
                                          "::ffff:10.0.0.1",
                                          "64:ff9b::a00:1",
                                          "2002:a00:1::",
                                          "2001::1",
                                          "2001:db8::1",
                                          "fc00::1",
                                          "fdff::1",
                                          "fe80::1",
                                          "ff02::1",
                                          "fec0::1",
                                          "100::1"};
    static const char *const public[] = {"1.1.1.1",        "8.8.8.8",        "100.63.255.255",   "100.128.0.1",
                                         "172.15.255.255", "172.32.0.1",     "192.167.255.255",  "192.169.0.1",
                                         "198.17.255.255", "198.20.0.1",     "223.255.255.255",  "2606:4700::1111",
                                         "2a00::1",        "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"};
    for (size_t i = 0; i < sizeof private / sizeof *private; i++) {
        if (!is_private(private[i])) {
            fail_msg("%s is taken for a public address", private[i]);
        }
    }
    for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
        if (is_private(public[i])) {
            fail_msg("%s is taken for a private address", public[i]);
        }
    }
    assert_true(address_name_is_private("localhost") && address_name_is_private("a.LOCALHOST.") &&
                address_name_is_private("[::1]") && address_name_is_private("2130706433") &&
                address_name_is_private("0x7f.1") && address_name_is_private(""));
    assert_false(address_name_is_private("huggingface.co") || address_name_is_private("8.8.8.8"));
    assert_true(address_allowed("a,b:80,c", "b", 80) && address_allowed("*", "x", 1) && address_allowed("A", "a", 5));
    assert_false(address_allowed("b:80", "b", 81) || address_allowed("", "b", 1) || address_allowed(NULL, "b", 1) ||
                 address_allowed("bb", "b", 1));
}

/* ---- other programs' folders ------------------------------------------------------------------------------------- */

static void make_tiny(const char *home, const char *folder, const char *name)
{
    char path[900];
    snprintf(path, sizeof path, "mkdir -p '%s/%s'", home, folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/%s/%s", home, folder, name);
    tiny_model_write_gguf(tiny_model_find("llama"), NULL, path);
}

static mlxr_status add_name(void *user, const registry_model *m, mlxr_error *error)
{
    (void)error;
    char *names = user;
    strcat(names, m->name);
    strcat(names, "=");
    strcat(names, registry_source_name(m->source));
    strcat(names, " ");
    return MLXR_OK;
}

static void models_of_other_programs_are_found_where_they_lie(void **unused)
{
    (void)unused;
    char home[512], path[800], names[1024] = "";
    registry *r;
    registry_model m;
    mlxr_error error;
    snprintf(home, sizeof home, "%s/home", test_temp_dir());
    make_tiny(home, ".cache/huggingface/hub/models--o--r-GGUF/blobs", "abc");
    make_tiny(home, ".cache/huggingface/hub/models--o--r-GGUF/snapshots/1234", "mmproj-F16.gguf");
    snprintf(path, sizeof path, "%s/.cache/huggingface/hub/models--o--r-GGUF/snapshots/1234/Model-1B.Q4_K_M.gguf",
             home);
    assert_int_equal(symlink("../../blobs/abc", path), 0);
    make_tiny(home, ".lmstudio/models/pub/repo", "Thing-Q8_0.gguf");
    make_tiny(home, ".ollama/models/blobs", "sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    make_tiny(home, ".ollama/models/manifests/registry.ollama.ai/library/tiny", "ignored.gguf");
    snprintf(path, sizeof path, "%s/.ollama/models/manifests/registry.ollama.ai/library/tiny/1b", home);
    FILE *file = fopen(path, "w");
    fprintf(file,
            "{\"schemaVersion\": 2, \"layers\": [{\"mediaType\": \"application/vnd.ollama.image.model\", \"size\": 5, "
            "\"digest\": \"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}]}");
    fclose(file);
    setenv("HOME", home, 1);
    unsetenv("HF_HOME");
    unsetenv("HF_HUB_CACHE");
    unsetenv("OLLAMA_MODELS");
    snprintf(path, sizeof path, "%s/models", home);
    assert_ok(registry_open(&r, path, NULL, &error), &error);
    assert_ok(registry_each(r, add_name, names, &error), &error);
    assert_string_equal(names, "o/r-GGUF:Q4_K_M=huggingface pub/repo:Q8_0=lmstudio tiny:1b=ollama ");
    assert_ok(registry_resolve(r, "o/r-gguf:q4_k_m", &m, &error), &error);
    assert_string_equal(m.family, "llama");
    registry_model_close(&m);
    assert_ok(registry_copy(r, "tiny:1b", "mine", &error),
              &error); /* in place: nothing of Ollama's is copied or changed */
    assert_ok(registry_resolve(r, "mine", &m, &error), &error);
    assert_non_null(strstr(m.path, ".ollama/models/blobs/sha256-aaaa"));
    registry_model_close(&m);
    registry_close(&r);
}

/* ---- the catalogue ----------------------------------------------------------------------------------------------- */

static void the_catalogue_is_consistent(void **unused)
{
    (void)unused;
    const catalogue_entry *e;
    size_t n = 0, n_first = 0;
    char digest[REGISTRY_DIGEST_MAX];
    for (; (e = catalogue_entry_at(n)) != NULL; n++) {
        n_first += e->first;
        double bits = (double)e->bytes * 8 / (double)e->n_params;
        assert_true(registry_name_valid(e->name) && strncmp(e->source, "hf:", 3) == 0 && strlen(e->about) > 5);
        assert_true(!e->digest || registry_digest_parse(e->digest, digest));
        bool eight = strstr(e->source, ":Q8_0") != NULL;
        assert_true(eight ? bits > 8.4 && bits < 8.8 : bits > 4.5 && bits < 6.6);
        assert_ptr_equal(catalogue_entry_find(e->name), e);
        assert_null(catalogue_size_of(e->name));
    }
    assert_true(n >= 10 && n_first > 1 && n_first < n);
    assert_string_equal(catalogue_size_of("Gemma3")->name, "gemma3:270m");
    assert_null(catalogue_size_of("gemma"));
    assert_null(catalogue_size_of(""));
    json_t *list = registry_catalogue_json();
    assert_int_equal(json_array_size(list), n);
    json_decref(list);
}

/* ---- a hub's files ----------------------------------------------------------------------------------------------- */

static void a_split_model_is_its_parts_from_the_first_to_the_last_each_once(void **unused)
{
    static const struct {
        const char *names[4];
        mlxr_status status;
        size_t first;
    } cases[] = {
        {{"m-Q8_0.gguf"}, MLXR_OK, 0},
        {{"m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf"}, MLXR_OK, 1},
        {{"m-Q8_0-00001-of-00002.gguf"}, MLXR_FORMAT, 0},
        {{"m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00003-of-00002.gguf"}, MLXR_FORMAT, 0},
        {{"x.gguf", "m-Q8_0-00003-of-00001.gguf"}, MLXR_FORMAT, 0}, /* a first part that is none */
        {{"m-Q8_0-00000-of-00001.gguf"}, MLXR_FORMAT, 0},
        {{"m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00001-of-00002.GGUF"}, MLXR_FORMAT, 0},
        {{"m-Q8_0-00001-of-02000.gguf"}, MLXR_FORMAT, 0},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1000] = "[", label[64];
        hub_list list = {0};
        bool picked[4];
        size_t first = 99;
        mlxr_error error = {.text = ""};
        for (size_t k = 0; k < 4 && cases[i].names[k]; k++) {
            size_t n = strlen(text);
            snprintf(text + n, sizeof text - n, "%s{\"type\": \"file\", \"path\": \"%s\", \"size\": 5}", k ? ", " : "",
                     cases[i].names[k]);
        }
        snprintf(text + strlen(text), sizeof text - strlen(text), "]");
        assert_ok(hub_parse(&list, text, strlen(text), &error), &error);
        mlxr_status status = hub_pick(&list, "Q8_0", picked, label, &first, &error);
        if (status != cases[i].status || (status == MLXR_OK && (first != cases[i].first || !picked[first]))) {
            fail_msg("case %zu: %d, %zu, %s", i, status, first, error.text);
        }
        hub_close(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_modelfile_is_read_whole),
        cmocka_unit_test(what_a_modelfile_may_not_say_is_refused_with_its_line),
        cmocka_unit_test(a_created_model_takes_over_what_its_base_has),
        cmocka_unit_test(classic_go_templates_become_jinja_and_others_are_named),
        cmocka_unit_test(headers_are_read_strictly),
        cmocka_unit_test(addresses_that_are_not_the_internets_are_private),
        cmocka_unit_test(models_of_other_programs_are_found_where_they_lie),
        cmocka_unit_test(the_catalogue_is_consistent),
        cmocka_unit_test(a_split_model_is_its_parts_from_the_first_to_the_last_each_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
