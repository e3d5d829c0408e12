/*
 * Finding models by name, and listing them, wherever they lie.
 * Owner: the caller closes what it is given. Lifetime: the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "registry/catalogue.h"
#include "registry/create_adapters.h"
#include "registry/digest.h"
#include "registry/found.h"
#include "registry/pull.h"
#include "registry/rows.h"
#include "registry/words.h"

void registry_model_close(registry_model *m)
{
    free(m->name);
    free(m->path);
    free(m->digest);
    free(m->id);
    free(m->origin);
    free(m->alias_of);
    free(m->family);
    free(m->quant);
    free(m->unusable);
    free(m->template_text);
    free(m->system);
    free(m->license);
    registry_pairs_close(&m->parameters);
    registry_pairs_close(&m->messages);
    registry_pairs_close(&m->warnings);
    registry_pairs_close(&m->adapters);
    *m = (registry_model){0};
}

const char *registry_source_name(registry_source source)
{
    static const char *const names[] = {"store", "path", "directory", "huggingface", "ollama", "lmstudio"};
    return names[source];
}

/* ---- identity and JSON ------------------------------------------------------------------------------------------- */

static bool add_text(digest_state *d, const char *text)
{
    return digest_add(d, text ? text : "", text ? strlen(text) + 1 : 1);
}

static bool add_pairs(digest_state *d, const registry_pairs *pairs)
{
    bool ok = true;
    for (size_t i = 0; i < pairs->n; i++) {
        ok = ok && add_text(d, pairs->items[i].name) && add_text(d, pairs->items[i].value);
    }
    return ok && add_text(d, NULL);
}

bool model_set_id(registry_model *m)
{
    char numbers[64] = "", text[REGISTRY_DIGEST_MAX];
    digest_state *d = digest_begin();
    if (!*m->digest) { /* nobody has read the file; what tells it from an older one is its size and date */
        snprintf(numbers, sizeof numbers, "%llu %lld", (unsigned long long)m->n_bytes, (long long)m->modified_us);
    }
    bool ok = d && add_text(d, *m->digest ? m->digest : m->path) && add_text(d, numbers) &&
              add_text(d, m->template_text) && add_text(d, m->system) && add_pairs(d, &m->parameters) &&
              add_pairs(d, &m->messages);
    for (size_t i = 0; i < m->adapters.n; i++) { /* a model without any keeps the id that it had */
        ok = ok && add_text(d, *m->adapters.items[i].value ? m->adapters.items[i].value : m->adapters.items[i].name);
    }
    ok = digest_end(&d, text) && ok;
    m->id = ok ? strdup(text + 7) : NULL;
    return m->id != NULL;
}

/* JSON takes UTF-8 only; names of files need not be. */
static json_t *json_of(const char *text)
{
    json_t *value = text ? json_string(text) : json_null();
    if (value || !text) {
        return value;
    }
    char *copy = strdup(text);
    for (char *c = copy; c && *c; c++) {
        *c = (unsigned char)*c < 0x80 ? *c : '?';
    }
    value = copy ? json_string(copy) : NULL;
    free(copy);
    return value;
}

static json_t *json_pairs(const registry_pairs *pairs, const char *first, const char *second)
{
    json_t *list = json_array();
    for (size_t i = 0; i < pairs->n; i++) {
        json_array_append_new(list, json_pack("{s:o, s:o}", first, json_of(pairs->items[i].name), second,
                                              json_of(pairs->items[i].value)));
    }
    return list;
}

json_t *registry_model_json(const registry_model *m)
{
    return json_pack("{s:o, s:o, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:o, s:o, s:I, s:I, s:b, s:o, s:o, s:o, s:o, s:o, "
                     "s:o, s:o, s:o}",
                     "name", json_of(m->name), "path", json_of(m->path), "source", registry_source_name(m->source),
                     "digest", m->digest, "id", m->id, "origin", json_of(m->origin), "alias_of", json_of(m->alias_of),
                     "bytes", (json_int_t)m->n_bytes, "modified", (json_int_t)(m->modified_us / 1000000), "family",
                     json_of(m->family), "quantization", json_of(m->quant), "n_params", (json_int_t)m->n_params,
                     "n_ctx_train", (json_int_t)m->n_ctx_train, "has_template", m->has_template, "why_not",
                     *m->unusable ? json_of(m->unusable) : json_null(), "template", json_of(m->template_text), "system",
                     json_of(m->system), "license", json_of(m->license), "parameters",
                     json_pairs(&m->parameters, "name", "value"), "messages",
                     json_pairs(&m->messages, "role", "content"), "warnings", json_pairs(&m->warnings, "what", "why"),
                     "adapters", json_pairs(&m->adapters, "path", "digest"));
}

/* ---- one that was found ------------------------------------------------------------------------------------------ */

static char *copy_or_null(const char *text, bool *ok)
{
    char *copy = text ? strdup(text) : NULL;
    *ok = *ok && (copy || !text);
    return copy;
}

static mlxr_status from_found(registry *r, const found_model *f, registry_model *out, mlxr_error *error)
{
    bool ok = true;
    *out = (registry_model){.source = f->source, .n_bytes = f->n_bytes, .modified_us = f->modified_us};
    out->name = copy_or_null(f->name, &ok);
    out->path = copy_or_null(f->path, &ok);
    out->digest = copy_or_null(f->digest ? f->digest : "", &ok);
    out->origin = copy_or_null("", &ok);
    out->template_text = copy_or_null(f->template_text, &ok);
    out->system = copy_or_null(f->system, &ok);
    out->license = copy_or_null(f->license, &ok);
    ok = ok && pairs_copy(&out->parameters, &f->parameters) && pairs_copy(&out->messages, &f->messages) &&
         pairs_copy(&out->warnings, &f->warnings) && pairs_copy(&out->adapters, &f->adapters);
    mlxr_status status = ok ? describe_model(r, out, error) : registry_fail_nomem(error);
    if (status == MLXR_OK && f->unusable && !*out->unusable) {
        free(out->unusable);
        out->unusable = copy_or_null(f->unusable, &ok);
    }
    if (status == MLXR_OK && (!ok || !model_set_id(out))) {
        status = registry_fail_nomem(error);
    }
    if (status != MLXR_OK) {
        registry_model_close(out);
    }
    return status;
}

mlxr_status registry_model_copy(registry_model *out, const registry_model *m, mlxr_error *error)
{
    bool ok = true;
    *out = *m;
    out->parameters = out->messages = out->warnings = out->adapters = (registry_pairs){0};
    char **texts[] = {&out->name,     &out->path,          &out->digest, &out->id,
                      &out->origin,   &out->alias_of,      &out->family, &out->quant,
                      &out->unusable, &out->template_text, &out->system, &out->license};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *texts[i] = copy_or_null(*texts[i], &ok);
    }
    ok = ok && pairs_copy(&out->parameters, &m->parameters) && pairs_copy(&out->messages, &m->messages) &&
         pairs_copy(&out->warnings, &m->warnings) && pairs_copy(&out->adapters, &m->adapters);
    if (!ok) {
        registry_model_close(out);
        return registry_fail_nomem(error);
    }
    return MLXR_OK;
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

#define NAMES_SHOWN 6u

typedef struct name_list {
    char **items;
    size_t n;
} name_list;

static void names_close(name_list *names)
{
    for (size_t i = 0; i < names->n; i++) {
        free(names->items[i]);
    }
    free(names->items);
}

static bool names_add(name_list *names, const char *name)
{
    char **grown = realloc(names->items, (names->n + 1) * sizeof *grown);
    names->items = grown ? grown : names->items;
    char *copy = grown ? strdup(name) : NULL;
    if (!copy) {
        return false;
    }
    names->items[names->n++] = copy;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcasecmp(*(char *const *)a, *(char *const *)b);
}

static bool near(const char *name, const char *wanted)
{
    return (strlen(wanted) > 1 && words_contain(name, wanted)) || words_contain(wanted, name) ||
           words_distance(name, wanted) <= 1 + strlen(wanted) / 3;
}

/* "a, b, c and 4 more" of the names that are near, or of all. */
static size_t join_names(const name_list *names, const char *wanted, bool all, char *out, size_t cap)
{
    size_t n_picked = 0, used = 0;
    *out = '\0';
    for (size_t i = 0; i < names->n; i++) {
        bool again = i > 0 && strcmp(names->items[i], names->items[i - 1]) == 0; /* found, and given by its path */
        if (again || (!all && !near(names->items[i], wanted))) {
            continue;
        }
        if (n_picked++ < NAMES_SHOWN && used < cap) {
            used += (size_t)snprintf(out + used, cap - used, "%s%s", n_picked > 1 ? ", " : "", names->items[i]);
        }
    }
    if (n_picked > NAMES_SHOWN && used < cap) {
        snprintf(out + used, cap - used, " and %zu more", n_picked - NAMES_SHOWN);
    }
    return n_picked;
}

/* Every name there is. */
static mlxr_status all_names(registry *r, const found_list *found, name_list *out, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool ok = true;
    mlxr_status status = db_prepare(r->db, &s, error,
                                    "SELECT name FROM models WHERE removed_us = 0 UNION SELECT name FROM aliases", "");
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status != MLXR_OK || !row) {
            break;
        }
        ok = ok && names_add(out, db_text(s, 0));
    }
    sqlite3_finalize(s);
    for (size_t i = 0; i < r->given.n; i++) {
        ok = ok && names_add(out, r->given.items[i].name);
    }
    for (size_t i = 0; i < found->n; i++) {
        ok = ok && (i > 0 && strcmp(found->items[i].name, found->items[i - 1].name) == 0
                        ? true
                        : names_add(out, found->items[i].name));
    }
    if (out->n) {
        qsort(out->items, out->n, sizeof *out->items, compare_names);
    }
    return status == MLXR_OK && !ok ? registry_fail_nomem(error) : status;
}

/* The models there are, none of which is near, and how to get the one that is wanted. */
static mlxr_status tell_others(const registry *r, const char *wanted, const char *names, mlxr_error *error)
{
    const catalogue_entry *size = catalogue_size_of(wanted);
    char how[240] = "";
    size_t n = strlen(wanted);
    bool is_file = (n > 5 &&
                    strcasecmp(wanted + n - 5, ".gguf") == 0) || /* whoever types that means one of this machine */
                   (n > 12 && strcasecmp(wanted + n - 12, ".safetensors") == 0);
    if (size || (n <= 100 && !is_file && registry_name_valid(wanted) && pull_asks_ollama(wanted))) {
        snprintf(how, sizeof how, "; mlxr pull %.100s %s", size ? size->name : wanted,
                 size ? "gets one" : "asks Ollama's registry for it");
    }
    return daemon_error(error, MLXR_ARG, "no model '%.100s' in %s; there is %.300s%s", wanted, r->directory, names,
                        how);
}

static mlxr_status tell_unknown(registry *r, const found_list *found, const char *wanted, mlxr_error *error)
{
    char text[400];
    name_list names = {0};
    mlxr_status status = all_names(r, found, &names, error);
    if (status == MLXR_OK && catalogue_entry_find(wanted)) {
        status = daemon_error(error, MLXR_ARG, "no model '%.100s' in %s yet; mlxr pull %.100s gets it", wanted,
                              r->directory, wanted);
    } else if (status == MLXR_OK && names.n == 0 && catalogue_size_of(wanted)) {
        status = daemon_error(error, MLXR_ARG, "no model '%.100s' in %s yet; mlxr pull %.100s gets one", wanted,
                              r->directory, catalogue_size_of(wanted)->name);
    } else if (status == MLXR_OK && names.n == 0) {
        status = daemon_error(
            error, MLXR_ARG,
            "no model '%.100s': there are no models in %s; put a .gguf file there, give a path, or get "
            "one: mlxr list --catalogue",
            wanted, r->directory);
    } else if (status == MLXR_OK) {
        bool any_near = join_names(&names, wanted, false, text, sizeof text) > 0;
        if (!any_near) {
            join_names(&names, wanted, true, text, sizeof text);
        }
        status = any_near ? daemon_error(error, MLXR_ARG, "no model '%.100s' in %s; did you mean %.300s?", wanted,
                                         r->directory, text)
                          : tell_others(r, wanted, text, error);
    }
    names_close(&names);
    return status;
}

static mlxr_status tell_ambiguous(const found_list *list, const char *wanted, mlxr_error *error)
{
    char paths[400] = "";
    size_t used = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (strcasecmp(list->items[i].name, wanted) == 0 && used < sizeof paths) {
            used += (size_t)snprintf(paths + used, sizeof paths - used, "%s%s", used ? ", " : "", list->items[i].path);
        }
    }
    return daemon_error(error, MLXR_ARG, "'%.100s' is the name of several models; give the path of one: %s", wanted,
                        paths);
}

/* Exactly, else ignoring case; of the best source. *several: more than one there. */
static const found_model *pick_found(const found_list *list, const char *wanted, bool *several)
{
    for (int exactly = 1; exactly >= 0; exactly--) {
        const found_model *best = NULL;
        size_t n = 0;
        for (size_t i = 0; i < list->n; i++) {
            const found_model *m = &list->items[i];
            if ((exactly ? strcmp(m->name, wanted) : strcasecmp(m->name, wanted)) != 0) {
                continue;
            }
            n = best && m->source == best->source ? n + 1 : best && m->source > best->source ? n : 1;
            best = best && m->source >= best->source ? best : m;
        }
        /* The same download found twice, such as two revisions in a cache: the newest, not a question. */
        if (n > 1 && best->source != REGISTRY_DIRECTORY) {
            for (size_t i = 0; i < list->n; i++) {
                const found_model *m = &list->items[i];
                bool same = (exactly ? strcmp(m->name, wanted) : strcasecmp(m->name, wanted)) == 0;
                best = same && m->source == best->source && m->modified_us > best->modified_us ? m : best;
            }
            n = 1;
        }
        *several = n > 1;
        if (n == 1 || (n > 1 && !exactly)) {
            return best;
        }
    }
    return NULL;
}

/* The row of a name, an alias's target, or a digest; 0: none. */
static mlxr_status find_row(registry *r, const char *wanted, int64_t *id, mlxr_error *error)
{
    static const char *const searches[] = {
        "SELECT id FROM models WHERE name = ?1 AND removed_us = 0",
        ("SELECT models.id FROM aliases JOIN models ON models.name = aliases.target AND removed_us = 0 "
         "WHERE aliases.name = ?1"),
        "SELECT iif(count(*) = 1, min(id), 0) FROM models WHERE name = ?1 COLLATE NOCASE AND removed_us = 0",
    };
    char digest[REGISTRY_DIGEST_MAX];
    *id = 0;
    if (registry_digest_parse(wanted, digest)) {
        return db_number(r->db, id, 0, error,
                         "SELECT models.id FROM files JOIN models ON models.id = files.model AND removed_us = 0 "
                         "WHERE digest = ? AND role = 'weights' ORDER BY models.id LIMIT 1",
                         "t", digest);
    }
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < 3 && status == MLXR_OK && !*id; i++) {
        status = db_number(r->db, id, 0, error, searches[i], "t", wanted);
    }
    return status;
}

/* An alias of a model that is not in the database. out: REGISTRY_NAME_MAX + 1 bytes; "" if there is none. */
static mlxr_status alias_target(registry *r, const char *wanted, char *out, mlxr_error *error)
{
    sqlite3_stmt *s;
    bool row = false;
    *out = '\0';
    mlxr_status status = db_prepare(r->db, &s, error, "SELECT target FROM aliases WHERE name = ?", "t", wanted);
    status = status == MLXR_OK ? db_step(r->db, &s, &row, error) : status;
    if (row) {
        snprintf(out, REGISTRY_NAME_MAX + 1, "%s", db_text(s, 0));
        sqlite3_finalize(s);
    }
    return status;
}

/* The name without ".gguf" and the number of a part. */
static void without_ending(char *name)
{
    size_t n = strlen(name);
    if (n > 5 && strcasecmp(name + n - 5, ".gguf") == 0) {
        size_t stem = found_without_part(name, n - 5);
        name[stem ? stem : n - 5] = '\0';
    }
}

static mlxr_status resolve_found(registry *r, const found_list *found, const char *wanted, registry_model *out,
                                 mlxr_error *error)
{
    char target[REGISTRY_NAME_MAX + 1], stem[REGISTRY_NAME_MAX + 1];
    bool several = false;
    mlxr_status status = alias_target(r, wanted, target, error);
    if (status != MLXR_OK) {
        return status;
    }
    snprintf(stem, sizeof stem, "%s", *target ? target : wanted);
    const found_model *m = pick_found(&r->given, stem, &several);
    m = m || several ? m : pick_found(found, stem, &several);
    if (!m && !several) {
        without_ending(stem);
        m = pick_found(found, stem, &several);
    }
    if (several) {
        return tell_ambiguous(found, stem, error);
    }
    return m ? from_found(r, m, out, error) : tell_unknown(r, found, wanted, error);
}

mlxr_status registry_resolve(registry *r, const char *name, registry_model *out, mlxr_error *error)
{
    char wanted[REGISTRY_NAME_MAX + 1];
    size_t n = strlen(name);
    int64_t id = 0;
    bool several = false;
    found_list found = {0};
    *out = (registry_model){0};
    if (n == 0 || n > REGISTRY_NAME_MAX) {
        return daemon_error(error, MLXR_ARG,
                            n ? "the name of the model is too long" : "the name of the model is empty");
    }
    if (!name_canonical(name, wanted)) { /* files in the model directory may have any name */
        memcpy(wanted, name, n + 1);
    }
    inside_lock(r);
    mlxr_status status = MLXR_OK;
    const found_model *given = pick_found(&r->given, wanted, &several);
    if (given && !several) {
        status = from_found(r, given, out, error);
        inside_unlock(r);
        return status;
    }
    status = find_row(r, wanted, &id, error);
    if (status == MLXR_OK && id) {
        status = rows_get(r, id, out, error);
    } else if (status == MLXR_OK && (status = found_scan(r, &found, error)) == MLXR_OK) {
        status = resolve_found(r, &found, wanted, out, error);
        found_close(&found);
    }
    inside_unlock(r);
    return status;
}

/* ---- listing ----------------------------------------------------------------------------------------------------- */

typedef struct listing {
    registry_model *items;
    size_t n, cap;
} listing;

static registry_model *listing_next(listing *l)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 32;
        registry_model *grown = realloc(l->items, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        l->items = grown;
        l->cap = cap;
    }
    return &l->items[l->n];
}

/* A listed model becomes its alias. */
static mlxr_status name_alias(registry_model *m, const char *alias, mlxr_error *error)
{
    m->alias_of = m->name;
    m->name = strdup(alias);
    return m->name ? MLXR_OK : registry_fail_nomem(error);
}

static mlxr_status list_rows(registry *r, listing *l, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(r->db, &s, error,
                                    "SELECT id, '' FROM models WHERE removed_us = 0 UNION ALL "
                                    "SELECT models.id, aliases.name FROM aliases JOIN models "
                                    "ON models.name = aliases.target AND removed_us = 0",
                                    "");
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status != MLXR_OK || !row) {
            break;
        }
        registry_model *m = listing_next(l);
        status = m ? rows_get(r, sqlite3_column_int64(s, 0), m, error) : registry_fail_nomem(error);
        if (status == MLXR_OK) {
            l->n++;
            status = *db_text(s, 1) ? name_alias(m, db_text(s, 1), error) : MLXR_OK;
        }
    }
    sqlite3_finalize(s);
    return status;
}

/* Those of models that are not in the database. One whose model is not there at the moment is left out. */
static mlxr_status list_aliases(registry *r, const found_list *found, listing *l, mlxr_error *error)
{
    sqlite3_stmt *s;
    mlxr_status status = db_prepare(r->db, &s, error,
                                    "SELECT name, target FROM aliases WHERE NOT EXISTS "
                                    "(SELECT 1 FROM models WHERE models.name = aliases.target AND removed_us = 0)",
                                    "");
    for (bool row = true; status == MLXR_OK && s;) {
        status = db_step(r->db, &s, &row, error);
        if (status != MLXR_OK || !row) {
            break;
        }
        bool several = false;
        const found_model *of = pick_found(&r->given, db_text(s, 1), &several);
        of = of || several ? of : pick_found(found, db_text(s, 1), &several);
        registry_model *m = of && !several ? listing_next(l) : NULL;
        if (of && !several) {
            status = m ? from_found(r, of, m, error) : registry_fail_nomem(error);
            l->n += status == MLXR_OK;
            status = status == MLXR_OK ? name_alias(m, db_text(s, 0), error) : status;
        }
    }
    sqlite3_finalize(s);
    return status;
}

static mlxr_status list_found(registry *r, const found_list *found, listing *l, mlxr_error *error)
{
    mlxr_status status = MLXR_OK;
    for (size_t i = 0; i < found->n && status == MLXR_OK; i++) {
        bool hidden = false;
        for (size_t k = 0; k < l->n && !hidden; k++) { /* what is in the model directory twice is listed twice */
            bool both = l->items[k].source == REGISTRY_DIRECTORY && found->items[i].source == REGISTRY_DIRECTORY;
            hidden = !both && strcmp(l->items[k].name, found->items[i].name) == 0;
        }
        registry_model *m = hidden ? NULL : listing_next(l);
        if (!hidden) {
            status = m ? from_found(r, &found->items[i], m, error) : registry_fail_nomem(error);
            l->n += status == MLXR_OK;
        }
    }
    return status;
}

static int compare_models(const void *a, const void *b)
{
    const registry_model *x = a, *y = b;
    int order = strcasecmp(x->name, y->name);
    return order ? order : strcmp(x->path, y->path);
}

mlxr_status registry_each(registry *r, registry_seen *seen, void *user, mlxr_error *error)
{
    listing l = {0};
    found_list found = {0};
    inside_lock(r);
    mlxr_status status = found_scan(r, &found, error);
    status = status == MLXR_OK ? list_found(r, &r->given, &l, error) : status;
    status = status == MLXR_OK ? list_rows(r, &l, error) : status;
    status = status == MLXR_OK ? list_aliases(r, &found, &l, error) : status;
    status = status == MLXR_OK ? list_found(r, &found, &l, error) : status;
    inside_unlock(r);
    found_close(&found);
    if (status == MLXR_OK && l.n) {
        qsort(l.items, l.n, sizeof *l.items, compare_models);
    }
    for (size_t i = 0; i < l.n && status == MLXR_OK; i++) {
        status = seen(user, &l.items[i], error);
    }
    for (size_t i = 0; i < l.n; i++) {
        registry_model_close(&l.items[i]);
    }
    free(l.items);
    return status;
}

/* ---- registering by path ----------------------------------------------------------------------------------------- */

/* "name" of /path/name.gguf or /path/name/. */
static bool stem_of(const char *path, char *out, size_t cap)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    size_t at = n;
    while (at > 0 && path[at - 1] != '/') {
        at--;
    }
    if (n == at || n - at >= cap) {
        return false;
    }
    memcpy(out, path + at, n - at);
    out[n - at] = '\0';
    without_ending(out);
    return true;
}

mlxr_status registry_register_path(registry *r, const char *path, const char *name, bool keep, mlxr_error *error)
{
    char text[REGISTRY_NAME_MAX + 1], wanted[REGISTRY_NAME_MAX + 1], full[REGISTRY_PATH_MAX];
    char *real = realpath(path, NULL);
    struct stat info;
    if (!real || strlen(real) >= sizeof full || stat(real, &info) != 0) {
        free(real);
        return daemon_error(error, MLXR_IO, "there is no model at %s", path);
    }
    snprintf(full, sizeof full, "%s", real);
    free(real);
    bool named = name ? snprintf(text, sizeof text, "%s", name) < (int)sizeof text : stem_of(path, text, sizeof text);
    if (!named || !name_canonical(text, wanted)) {
        return daemon_error(error, MLXR_ARG, "'%.100s' cannot be the name of a model; give it one",
                            named ? text : path);
    }
    if (keep) {
        stored_model m = {.name = wanted, .path = full, .origin = ""};
        return rows_put(r, &m, error);
    }
    inside_lock(r);
    found_model *f = NULL;
    for (size_t i = 0; i < r->given.n && !f; i++) { /* given anew */
        f = strcmp(r->given.items[i].name, wanted) == 0 ? &r->given.items[i] : NULL;
    }
    char *copy = f ? strdup(full) : NULL;
    if (f && copy) {
        free(f->path);
        f->path = copy;
    } else if (!f) {
        f = found_put(&r->given, wanted, strlen(wanted), full, &info, REGISTRY_IN_PLACE);
        copy = f ? f->path : NULL;
    }
    inside_unlock(r);
    return copy ? MLXR_OK : registry_fail_nomem(error);
}

/* ---- copies and aliases ------------------------------------------------------------------------------------------ */

mlxr_status registry_copy(registry *r, const char *from, const char *to, mlxr_error *error)
{
    char wanted[REGISTRY_NAME_MAX + 1];
    registry_model m;
    file_rows files = {0};
    if (!name_canonical(to, wanted)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model", to);
    }
    mlxr_status status = registry_resolve(r, from, &m, error);
    if (status != MLXR_OK) {
        return status;
    }
    bool stored = m.source == REGISTRY_STORED, other = strcmp(m.name, wanted) != 0;
    status = file_rows_of(r, &m, &files, error);
    if (status == MLXR_OK && other && m.adapters.n) { /* those of another program come into the store */
        status = create_adapters(r, &m, &(registry_pairs){0}, m.path, NULL, &files, error);
    }
    if (status == MLXR_OK && other) {
        stored_model copy = {.name = wanted,
                             .path = stored ? "" : m.path,
                             .origin = m.origin,
                             .template_text = m.template_text,
                             .system = m.system,
                             .license = m.license,
                             .files = files.items,
                             .n_files = files.n,
                             .parameters = &m.parameters,
                             .messages = &m.messages,
                             .warnings = &m.warnings};
        status = rows_put(r, &copy, error);
    }
    file_rows_close(&files);
    registry_model_close(&m);
    return status;
}

mlxr_status registry_alias(registry *r, const char *alias, const char *target, mlxr_error *error)
{
    char wanted[REGISTRY_NAME_MAX + 1];
    registry_model m;
    int64_t taken = 0;
    if (!name_canonical(alias, wanted)) {
        return daemon_error(error, MLXR_ARG, "'%.80s' cannot be the name of a model", alias);
    }
    mlxr_status status = registry_resolve(r, target, &m, error);
    if (status != MLXR_OK) {
        return status;
    }
    status = inside_begin(r, error);
    if (status == MLXR_OK) {
        status = db_number(r->db, &taken, 0, error, "SELECT count(*) FROM models WHERE name = ?", "t", wanted);
        if (status == MLXR_OK && taken) {
            status = daemon_error(error, MLXR_ARG, "'%s' is the name of a model; remove that first", wanted);
        } else if (status == MLXR_OK) {
            status = db_run(r->db, error,
                            "INSERT INTO aliases (name, target) VALUES (?, ?) "
                            "ON CONFLICT (name) DO UPDATE SET target = excluded.target",
                            "tt", wanted, m.name);
        }
        status = inside_end(r, status, error);
    }
    registry_model_close(&m);
    return status;
}
