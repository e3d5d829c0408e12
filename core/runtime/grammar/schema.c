/*
 * JSON Schema compiler: a schema becomes rules whose sentences are instances of it.
 * Owner: none. Lifetime: the call.
 *
 * Keywords: type, properties, required, additionalProperties, items, prefixItems, minItems, maxItems, enum, const,
 * anyOf, oneOf, allOf, $ref ("#…"), $defs, definitions, minLength, maxLength, pattern, format, minimum, maximum,
 * exclusiveMinimum, exclusiveMaximum, nullable; one of ours: an array with "x-mlxr-items": {"between", "behind"} is
 * written as its items with these texts between and behind them, without brackets and commas; annotations (title,
 * description, default, examples, $schema, $id, $comment, …) mean nothing here. Any other keyword is refused by name: a
 * schema is never enforced in part.
 *
 * What is generated is a subset of what is valid: properties come in the schema's order, properties the schema does not
 * name only where additionalProperties allows them explicitly, numbers have at most 18 digits. oneOf is generated as
 * anyOf, and only where its branches exclude each other by their types or constants.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "runtime/grammar/grammar.h"
#include "runtime/grammar/place.h"
#include "runtime/grammar/schema_parts.h"

#define SCHEMA_BYTES_MAX ((size_t)1 << 20)
#define ITEMS_MAX 2000

static uint32_t compile(schema *s, const json_t *at, const char *step);

uint32_t schema_fail(schema *s, mlxr_status status, const char *format, ...)
{
    if (s->status == MLXR_OK) {
        char text[300];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        place at = place_of(s->text, place_in_json(s->text, s->n_text, s->path));
        s->status = error_set(s->error, status, "JSON schema, line %zu, column %zu, at #%s: %s", at.line, at.column,
                              s->path, text);
    }
    return RULES_NONE;
}

static bool is_one_of(const char *key, const char *const *list)
{
    for (; *list; list++) {
        if (strcmp(*list, key) == 0) {
            return true;
        }
    }
    return false;
}

static const char *const annotations[] = {
    "title",       "description", "default",         "examples",         "example",   "$schema", "$id",
    "id",          "$comment",    "deprecated",      "readOnly",         "writeOnly", "$anchor", "$defs",
    "definitions", "strict",      "contentEncoding", "contentMediaType", NULL};
static const char *const known[] = {"type",
                                    "properties",
                                    "required",
                                    "additionalProperties",
                                    "items",
                                    "prefixItems",
                                    "minItems",
                                    "maxItems",
                                    "enum",
                                    "const",
                                    "anyOf",
                                    "oneOf",
                                    "allOf",
                                    "$ref",
                                    "minLength",
                                    "maxLength",
                                    "pattern",
                                    "format",
                                    "minimum",
                                    "maximum",
                                    "exclusiveMinimum",
                                    "exclusiveMaximum",
                                    "nullable",
                                    "x-mlxr-items",
                                    NULL};

static void refuse_unknown(schema *s, const json_t *at)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)at, key, value)
    {
        if (is_one_of(key, annotations) || is_one_of(key, known)) {
            continue;
        }
        if (strcmp(key, "uniqueItems") == 0 && json_is_false(value)) {
            continue;
        }
        size_t n_path = strlen(s->path);
        snprintf(s->path + n_path, sizeof s->path - n_path, "/%.60s", key); /* its own place */
        schema_fail(s, MLXR_UNSUPPORTED, "keyword '%.60s' is not supported", key);
        s->path[n_path] = '\0';
        return;
    }
}

/* A non-negative whole number under a key; `absent` where there is none. */
static uint32_t count_of(schema *s, const json_t *at, const char *key, uint32_t absent)
{
    const json_t *value = json_object_get(at, key);
    if (!value) {
        return absent;
    }
    json_int_t n = json_is_real(value) && json_real_value(value) == (double)(json_int_t)json_real_value(value)
                       ? (json_int_t)json_real_value(value)
                       : json_integer_value(value);
    if (!json_is_number(value) || n < 0 || n > ITEMS_MAX) {
        schema_fail(s, MLXR_LIMIT, "'%s' must be a whole number from 0 to %d", key, ITEMS_MAX);
        return absent;
    }
    return (uint32_t)n;
}

/* ---- merging
 * ------------------------------------------------------------------------------------------------------------- */

/* A schema that demands what both demand; keeps it alive with the compilation. NULL after a failure. */
static json_t *merge(schema *s, const json_t *a, const json_t *b)
{
    json_t *both = json_deep_copy(a);
    const char *key;
    json_t *value;
    if (!both || json_array_append_new(s->merged, both) != 0) {
        schema_fail(s, MLXR_NOMEM, "out of memory");
        return NULL;
    }
    json_object_foreach((json_t *)(uintptr_t)b, key, value)
    {
        json_t *own = json_object_get(both, key);
        if (!own) {
            json_object_set(both, key, value);
        } else if (strcmp(key, "properties") == 0 && json_is_object(own) && json_is_object(value)) {
            const char *name;
            json_t *property;
            json_object_foreach(value, name, property)
            {
                json_t *known_property = json_object_get(own, name);
                json_t *merged = known_property ? merge(s, known_property, property) : property;
                if (!merged) {
                    return NULL;
                }
                json_object_set(own, name, merged);
            }
        } else if (strcmp(key, "required") == 0 && json_is_array(own) && json_is_array(value)) {
            json_array_extend(own, value);
        } else if (!is_one_of(key, annotations) && !json_equal(own, value)) {
            schema_fail(s, MLXR_UNSUPPORTED, "allOf or anyOf with two different '%.60s'", key);
            return NULL;
        }
    }
    return both;
}

/* The schema without one keyword. */
static json_t *without(schema *s, const json_t *at, const char *key)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)at);
    if (!copy || json_array_append_new(s->merged, copy) != 0) {
        schema_fail(s, MLXR_NOMEM, "out of memory");
        return NULL;
    }
    json_object_del(copy, key);
    return copy;
}

static bool has_constraints(const json_t *at)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)at, key, value)
    {
        if (!is_one_of(key, annotations)) {
            return true;
        }
    }
    return false;
}

/* ---- references
 * ------------------------------------------------------------------------------------------------------------ */

/* Follows "#/a/b~1c" from the root. */
static const json_t *resolve(schema *s, const char *pointer)
{
    const json_t *at = s->root;
    if (pointer[0] != '#') {
        schema_fail(s, MLXR_UNSUPPORTED, "$ref '%.80s': only references within the schema (#…) are followed", pointer);
        return NULL;
    }
    for (const char *p = pointer + 1; *p && at;) {
        char name[256];
        size_t n = 0;
        if (*p++ != '/') {
            at = NULL;
            break;
        }
        for (; *p && *p != '/' && n + 1 < sizeof name; p++) {
            bool tilde = *p == '~' && (p[1] == '0' || p[1] == '1');
            name[n++] = tilde ? (p[1] == '0' ? '~' : '/') : *p;
            p += tilde;
        }
        name[n] = 0;
        at = json_is_array(at) ? json_array_get(at, strtoul(name, NULL, 10)) : json_object_get(at, name);
    }
    if (!at) {
        schema_fail(s, MLXR_FORMAT, "$ref '%.80s' leads nowhere", pointer);
    }
    return at;
}

static uint32_t compile_ref(schema *s, const char *pointer)
{
    const json_t *target = resolve(s, pointer);
    if (!target) {
        return RULES_NONE;
    }
    for (size_t i = 0; i < s->n_refs; i++) {
        if (s->refs[i].target == target) {
            return s->refs[i].rule;
        }
    }
    if (s->n_refs == s->cap_refs) {
        size_t cap = s->cap_refs ? s->cap_refs * 2 : 8;
        schema_ref *grown = realloc(s->refs, cap * sizeof *grown);
        if (!grown) {
            return schema_fail(s, MLXR_NOMEM, "out of memory");
        }
        s->refs = grown;
        s->cap_refs = cap;
    }
    uint32_t made = rules_add(s->rules, pointer, strlen(pointer));
    s->refs[s->n_refs++] = (schema_ref){target, made};
    char before[sizeof s->path]; /* messages tell the place of the target */
    memcpy(before, s->path, sizeof before);
    snprintf(s->path, sizeof s->path, "%s", pointer[0] == '#' ? pointer + 1 : pointer);
    element use = rules_use(compile(s, target, ""));
    memcpy(s->path, before, sizeof before);
    rules_alternative(s->rules, made, &use, 1);
    return made;
}

/* ---- objects
 * ------------------------------------------------------------------------------------------------------------------ */

static bool is_required(const json_t *at, const char *name)
{
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(at, "required"), i, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), name) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t member(schema *s, uint32_t key, uint32_t value)
{
    uint32_t parts[] = {key, schema_text(s, ":"), schema_space(s), value};
    return rules_sequence(s->rules, parts, 4);
}

/* "," space item */
static uint32_t after_comma(schema *s, uint32_t item)
{
    uint32_t parts[] = {schema_text(s, ","), schema_space(s), item};
    return rules_sequence(s->rules, parts, 3);
}

/* Members that properties do not name: RULES_NONE where they are not allowed. */
static uint32_t additional_member(schema *s, const json_t *at, const char *const *names, size_t n_names)
{
    const json_t *additional = json_object_get(at, "additionalProperties");
    bool named = json_object_get(at, "properties") != NULL;
    if (json_is_false(additional) || (!additional && named)) {
        return RULES_NONE;
    }
    uint32_t value = json_is_object(additional) ? compile(s, additional, "/additionalProperties") : schema_any_value(s);
    return s->status == MLXR_OK ? member(s, schema_other_key(s, names, n_names), value) : RULES_NONE;
}

/* Rules for the members from the last to the first, each in two forms: behind another member (with a comma) or as the
 * first. An optional member may be left out, which keeps the form. */
static uint32_t members(schema *s, const json_t *at, const uint32_t *items, const char *const *names, size_t n)
{
    rules *r = s->rules;
    uint32_t other = additional_member(s, at, names, n);
    uint32_t nothing = schema_text(s, "");
    uint32_t behind = other == RULES_NONE ? nothing : rules_repeat(r, after_comma(s, other), 0, RULES_NONE);
    uint32_t first = nothing;
    if (other != RULES_NONE) {
        uint32_t some[] = {other, behind};
        first = rules_optional(r, rules_sequence(r, some, 2));
    }
    for (size_t i = n; i-- > 0 && s->status == MLXR_OK;) {
        uint32_t as_first[] = {items[i], behind}, as_next[] = {after_comma(s, items[i]), behind};
        uint32_t with_first = rules_sequence(r, as_first, 2), with_next = rules_sequence(r, as_next, 2);
        if (is_required(at, names[i])) {
            first = with_first;
            behind = with_next;
        } else {
            uint32_t maybe_first[] = {with_first, first}, maybe_next[] = {with_next, behind};
            first = rules_choice(r, maybe_first, 2);
            behind = rules_choice(r, maybe_next, 2);
        }
    }
    return first;
}

static uint32_t compile_object(schema *s, const json_t *at)
{
    const json_t *properties = json_object_get(at, "properties");
    const json_t *required = json_object_get(at, "required");
    size_t n = json_object_size(properties), i = 0, r;
    json_t *value;
    const char *name;
    if (!properties && !json_object_get(at, "additionalProperties") && !json_array_size(required)) {
        return schema_any_object(s);
    }
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required))) {
        return schema_fail(s, MLXR_FORMAT, "'properties' must be an object and 'required' an array");
    }
    json_array_foreach(required, r, value)
    {
        if (!json_is_string(value) || !json_object_get(properties, json_string_value(value))) {
            return schema_fail(s, MLXR_UNSUPPORTED, "'required' names '%.60s', which 'properties' does not describe",
                               json_is_string(value) ? json_string_value(value) : "?");
        }
    }
    uint32_t *items = calloc(n + 1, sizeof *items);
    const char **names = calloc(n + 1, sizeof *names);
    uint32_t made = RULES_NONE;
    if (!items || !names) {
        schema_fail(s, MLXR_NOMEM, "out of memory");
        goto done;
    }
    json_object_foreach((json_t *)(uintptr_t)properties, name, value)
    {
        char step[80];
        json_t *key = json_string(name);
        snprintf(step, sizeof step, "/properties/%.60s", name);
        names[i] = name;
        items[i++] = member(s, schema_literal(s, key), compile(s, value, step));
        json_decref(key);
        if (s->status != MLXR_OK) {
            goto done;
        }
    }
    uint32_t parts[] = {schema_text(s, "{"), schema_space(s), members(s, at, items, names, n), schema_space(s),
                        schema_text(s, "}")};
    made = rules_sequence(s->rules, parts, 5);
done:
    free(items);
    free(names);
    return made;
}

/* ---- arrays, strings
 * ------------------------------------------------------------------------------------------------------------ */

/* item behind (between item behind)… */
static uint32_t written_items(schema *s, const json_t *written, uint32_t item, uint32_t least, uint32_t most)
{
    const char *between = json_string_value(json_object_get(written, "between"));
    const char *behind = json_string_value(json_object_get(written, "behind"));
    if (!between || !behind || least == 0 || most < least) {
        return schema_fail(s, MLXR_FORMAT,
                           "'x-mlxr-items' must have the texts 'between' and 'behind', and 'minItems' 1");
    }
    uint32_t one[] = {item, schema_text(s, behind)};
    uint32_t first = rules_sequence(s->rules, one, 2);
    uint32_t more[] = {schema_text(s, between), first};
    uint32_t next = rules_sequence(s->rules, more, 2);
    uint32_t all[] = {first, rules_repeat(s->rules, next, least - 1, most == RULES_NONE ? RULES_NONE : most - 1)};
    return s->status == MLXR_OK ? rules_sequence(s->rules, all, 2) : RULES_NONE;
}

static uint32_t compile_array(schema *s, const json_t *at)
{
    rules *r = s->rules;
    const json_t *items = json_object_get(at, "items"), *prefix = json_object_get(at, "prefixItems");
    uint32_t least = count_of(s, at, "minItems", 0), most = count_of(s, at, "maxItems", RULES_NONE);
    uint32_t n_prefix = (uint32_t)json_array_size(prefix);
    bool closed = json_is_false(items);
    uint32_t item = closed                          ? RULES_NONE
                    : items && !json_is_true(items) ? compile(s, items, "/items")
                                                    : schema_any_value(s);
    if (s->status != MLXR_OK) {
        return RULES_NONE;
    }
    if (most < least || (closed && least > n_prefix)) {
        return schema_fail(s, MLXR_FORMAT, "an array cannot have %u items at least", least);
    }
    if (json_object_get(at, "x-mlxr-items")) {
        return n_prefix || closed ? schema_fail(s, MLXR_FORMAT, "'x-mlxr-items' goes with 'items' only")
                                  : written_items(s, json_object_get(at, "x-mlxr-items"), item, least, most);
    }
    /* From the last possible item to the first: behind[i] is what may follow i items. */
    uint32_t rest = schema_text(s, "");
    if (!closed && (most == RULES_NONE || most > n_prefix)) {
        uint32_t from = least > n_prefix ? least - n_prefix : 0;
        uint32_t next = after_comma(s, item);
        if (n_prefix > 0) {
            rest = rules_repeat(r, next, from, most == RULES_NONE ? RULES_NONE : most - n_prefix);
        } else { /* the first item has no comma */
            uint32_t some[] = {item,
                               rules_repeat(r, next, from ? from - 1 : 0, most == RULES_NONE ? RULES_NONE : most - 1)};
            rest = rules_sequence(r, some, 2);
            rest = least ? rest : rules_optional(r, rest);
        }
    }
    for (uint32_t i = n_prefix; i-- > 0 && s->status == MLXR_OK;) {
        char step[40];
        snprintf(step, sizeof step, "/prefixItems/%u", i);
        uint32_t own = compile(s, json_array_get(prefix, i), step);
        if (i < (most == RULES_NONE ? n_prefix : most)) {
            uint32_t some[] = {i ? after_comma(s, own) : own, rest};
            rest = rules_sequence(r, some, 2);
        }
        rest = i < least ? rest : rules_optional(r, rest);
    }
    uint32_t parts[] = {schema_text(s, "["), schema_space(s), rest, schema_space(s), schema_text(s, "]")};
    return s->status == MLXR_OK ? rules_sequence(r, parts, 5) : RULES_NONE;
}

static uint32_t compile_string(schema *s, const json_t *at)
{
    const json_t *pattern = json_object_get(at, "pattern"), *format = json_object_get(at, "format");
    uint32_t least = count_of(s, at, "minLength", 0), most = count_of(s, at, "maxLength", RULES_NONE);
    bool sized = least > 0 || most != RULES_NONE;
    uint32_t body;
    if (s->status != MLXR_OK) {
        return RULES_NONE;
    }
    if ((pattern && !json_is_string(pattern)) || (format && !json_is_string(format)) || most < least) {
        return schema_fail(s, MLXR_FORMAT, "'pattern' and 'format' must be strings, and minLength at most maxLength");
    }
    if ((pattern && format) || (sized && (pattern || format))) {
        return schema_fail(s, MLXR_UNSUPPORTED, "'pattern', 'format' and a length together");
    }
    if (pattern) {
        body = schema_pattern(s, json_string_value(pattern));
    } else if (format) {
        body = schema_format(s, json_string_value(format));
    } else if (!sized) {
        return schema_any_string(s);
    } else {
        body = rules_repeat(s->rules, schema_string_char(s), least, most);
    }
    uint32_t quote = schema_text(s, "\"");
    uint32_t parts[] = {quote, body, quote};
    return s->status == MLXR_OK ? rules_sequence(s->rules, parts, 3) : RULES_NONE;
}

/* ---- choices
 * ---------------------------------------------------------------------------------------------------------------------
 */

static const char *type_of_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    default:
        return "null";
    }
}

static bool is_type(const json_t *schema_at, const char *type)
{
    const json_t *own = json_object_get(schema_at, "type");
    return json_is_string(own) && strcmp(json_string_value(own), type) == 0;
}

/* Can no instance satisfy both? By type, by constant, or by a required property that excludes itself. */
static bool exclude_each_other(const json_t *a, const json_t *b, uint32_t depth)
{
    const json_t *const_a = json_object_get(a, "const"), *const_b = json_object_get(b, "const");
    const json_t *type_a = json_object_get(a, "type"), *type_b = json_object_get(b, "type");
    if (const_a && const_b && !json_equal((json_t *)(uintptr_t)const_a, (json_t *)(uintptr_t)const_b)) {
        return true;
    }
    if (json_is_string(type_a) && json_is_string(type_b) &&
        !json_equal((json_t *)(uintptr_t)type_a, (json_t *)(uintptr_t)type_b)) {
        bool numbers = (is_type(a, "integer") || is_type(a, "number")) &&
                       (is_type(b, "integer") || is_type(b, "number"));
        return !numbers;
    }
    const json_t *enum_a = json_object_get(a, "enum"), *enum_b = json_object_get(b, "enum");
    if (json_is_array(enum_a) && json_is_array(enum_b)) {
        size_t i, j;
        json_t *x, *y;
        json_array_foreach((json_t *)(uintptr_t)enum_a, i, x)
        {
            json_array_foreach((json_t *)(uintptr_t)enum_b, j, y)
            {
                if (json_equal(x, y)) {
                    return false;
                }
            }
        }
        return true;
    }
    const char *name;
    json_t *property;
    json_object_foreach(json_object_get(a, "properties"), name, property)
    {
        json_t *other = json_object_get(json_object_get(b, "properties"), name);
        if (depth < 8 && other && is_required(a, name) && is_required(b, name) &&
            exclude_each_other(property, other, depth + 1)) {
            return true;
        }
    }
    return false;
}

static void check_one_of(schema *s, const json_t *branches)
{
    size_t i, j;
    json_t *a;
    json_array_foreach((json_t *)(uintptr_t)branches, i, a)
    {
        for (j = i + 1; j < json_array_size(branches); j++) {
            if (!exclude_each_other(a, json_array_get(branches, j), 0)) {
                schema_fail(s, MLXR_UNSUPPORTED, "oneOf: branches %zu and %zu may both hold; use anyOf", i, j);
                return;
            }
        }
    }
}

static uint32_t compile_any_of(schema *s, const json_t *at, const char *key)
{
    const json_t *branches = json_object_get(at, key);
    if (!json_is_array(branches) || json_array_size(branches) == 0) {
        return schema_fail(s, MLXR_FORMAT, "'%s' must be a non-empty array", key);
    }
    if (strcmp(key, "oneOf") == 0) {
        check_one_of(s, branches);
    }
    json_t *rest = without(s, at, key);
    uint32_t made = rules_add(s->rules, NULL, 0);
    size_t i;
    json_t *branch;
    json_array_foreach((json_t *)(uintptr_t)branches, i, branch)
    {
        char step[40];
        snprintf(step, sizeof step, "/%s/%zu", key, i);
        const json_t *whole = branch;
        if (s->status == MLXR_OK && has_constraints(rest)) {
            whole = json_is_object(branch) ? merge(s, rest, branch) : NULL;
        }
        if (s->status != MLXR_OK || !whole) {
            return schema_fail(s, MLXR_FORMAT, "'%s' must hold schemas", key);
        }
        element use = rules_use(compile(s, whole, step));
        if (s->status != MLXR_OK) {
            return RULES_NONE;
        }
        rules_alternative(s->rules, made, &use, 1);
    }
    return made;
}

static uint32_t compile_all_of(schema *s, const json_t *at)
{
    json_t *whole = without(s, at, "allOf");
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(at, "allOf"), i, part)
    {
        const json_t *ref = json_object_get(part, "$ref");
        const json_t *target = ref && json_is_string(ref) ? resolve(s, json_string_value(ref)) : part;
        whole = whole && json_is_object(target) ? merge(s, whole, target) : NULL;
        if (!whole) {
            return schema_fail(s, MLXR_FORMAT, "'allOf' must hold schemas");
        }
    }
    return compile(s, whole, "/allOf");
}

static uint32_t compile_enum(schema *s, const json_t *values)
{
    uint32_t made = rules_add(s->rules, NULL, 0);
    size_t i;
    json_t *value;
    if (!json_is_array(values) || json_array_size(values) == 0) {
        return schema_fail(s, MLXR_FORMAT, "'enum' must be a non-empty array");
    }
    json_array_foreach((json_t *)(uintptr_t)values, i, value)
    {
        element use = rules_use(schema_literal(s, value));
        rules_alternative(s->rules, made, &use, 1);
    }
    return made;
}

static uint32_t compile_type(schema *s, const json_t *at, const char *type)
{
    if (strcmp(type, "object") == 0) {
        return compile_object(s, at);
    }
    if (strcmp(type, "array") == 0) {
        return compile_array(s, at);
    }
    if (strcmp(type, "string") == 0) {
        return compile_string(s, at);
    }
    if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0) {
        return schema_bounded_number(s, at, type[0] == 'i');
    }
    if (strcmp(type, "boolean") == 0) {
        return schema_boolean(s);
    }
    return strcmp(type, "null") == 0 ? schema_null(s) : schema_fail(s, MLXR_FORMAT, "type '%.40s' is unknown", type);
}

/* The type that the keywords present speak of, where `type` itself is absent; NULL: none does. */
static const char *implied_type(const json_t *at)
{
    static const struct {
        const char *key, *type;
    } hints[] = {{"properties", "object"},      {"additionalProperties", "object"},
                 {"required", "object"},        {"items", "array"},
                 {"prefixItems", "array"},      {"minItems", "array"},
                 {"maxItems", "array"},         {"pattern", "string"},
                 {"format", "string"},          {"minLength", "string"},
                 {"maxLength", "string"},       {"minimum", "number"},
                 {"maximum", "number"},         {"exclusiveMinimum", "number"},
                 {"exclusiveMaximum", "number"}};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (json_object_get(at, hints[i].key)) {
            return hints[i].type;
        }
    }
    return NULL;
}

/* Constants restrict whatever else is said: each must be of the type that is said too. */
static uint32_t compile_constants(schema *s, const json_t *at)
{
    const json_t *values = json_object_get(at, "enum"), *one = json_object_get(at, "const");
    const json_t *type = json_object_get(at, "type");
    size_t i;
    json_t *value;
    if (json_is_string(type)) {
        json_array_foreach((json_t *)(uintptr_t)values, i, value)
        {
            bool integer = json_is_integer(value) && strcmp(json_string_value(type), "integer") == 0;
            if (!integer && strcmp(type_of_value(value), json_string_value(type)) != 0) {
                return schema_fail(s, MLXR_FORMAT, "'enum' value %zu is no %s", i, json_string_value(type));
            }
        }
    }
    return one ? schema_literal(s, one) : compile_enum(s, values);
}

static uint32_t compile_keywords(schema *s, const json_t *at)
{
    const json_t *type = json_object_get(at, "type"), *ref = json_object_get(at, "$ref");
    if (ref) {
        json_t *rest = without(s, at, "$ref");
        if (!json_is_string(ref) || !rest || has_constraints(rest)) {
            return schema_fail(s, MLXR_UNSUPPORTED, "$ref beside other constraints");
        }
        return compile_ref(s, json_string_value(ref));
    }
    if (json_object_get(at, "allOf")) {
        return compile_all_of(s, at);
    }
    if (json_object_get(at, "anyOf") || json_object_get(at, "oneOf")) {
        return compile_any_of(s, at, json_object_get(at, "anyOf") ? "anyOf" : "oneOf");
    }
    if (json_object_get(at, "const") || json_object_get(at, "enum")) {
        return compile_constants(s, at);
    }
    if (json_is_array(type)) {
        uint32_t made = rules_add(s->rules, NULL, 0);
        size_t i;
        json_t *one;
        json_array_foreach((json_t *)(uintptr_t)type, i, one)
        {
            element use = rules_use(json_is_string(one) ? compile_type(s, at, json_string_value(one))
                                                        : schema_fail(s, MLXR_FORMAT, "'type' must hold strings"));
            if (s->status != MLXR_OK) {
                return RULES_NONE;
            }
            rules_alternative(s->rules, made, &use, 1);
        }
        return made;
    }
    if (type && !json_is_string(type)) {
        return schema_fail(s, MLXR_FORMAT, "'type' must be a string or an array");
    }
    const char *name = type ? json_string_value(type) : implied_type(at);
    return name ? compile_type(s, at, name) : schema_any_value(s);
}

/* One schema; `step` is where it stands below the one around it. */
static uint32_t compile(schema *s, const json_t *at, const char *step)
{
    size_t n_path = strlen(s->path);
    uint32_t made = RULES_NONE;
    if (s->status != MLXR_OK) {
        return RULES_NONE;
    }
    snprintf(s->path + n_path, sizeof s->path - n_path, "%s", step);
    if (++s->depth > SCHEMA_DEPTH_MAX) {
        schema_fail(s, MLXR_LIMIT, "schemas nest deeper than %u", SCHEMA_DEPTH_MAX);
    } else if (json_is_true(at)) {
        made = schema_any_value(s);
    } else if (!json_is_object(at)) {
        schema_fail(s, MLXR_FORMAT, "a schema must be an object or true");
    } else {
        refuse_unknown(s, at);
        bool nullable = json_is_true(json_object_get(at, "nullable"));
        made = s->status == MLXR_OK ? compile_keywords(s, at) : RULES_NONE;
        if (nullable && s->status == MLXR_OK) {
            uint32_t choices[] = {made, schema_null(s)};
            made = rules_choice(s->rules, choices, 2);
        }
    }
    s->depth--;
    s->path[n_path] = 0;
    return made;
}

mlxr_status grammar_open_schema(grammar **out, const char *json, size_t n, const token_trie *trie, mlxr_error *error)
{
    json_error_t where;
    if (n > SCHEMA_BYTES_MAX) {
        return error_set(error, MLXR_LIMIT, "JSON schema of %zu bytes; at most %zu are taken", n, SCHEMA_BYTES_MAX);
    }
    json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!root) {
        return error_set(error, MLXR_FORMAT, "JSON schema, line %d, column %d: %s", where.line, where.column,
                         where.text);
    }
    rules made = {0};
    schema s = {.rules = &made,
                .root = root,
                .text = json,
                .n_text = n,
                .merged = json_array(),
                .error = error,
                .space = RULES_NONE,
                .value = RULES_NONE,
                .string = RULES_NONE,
                .string_char = RULES_NONE,
                .number = RULES_NONE,
                .integer = RULES_NONE,
                .boolean = RULES_NONE,
                .null = RULES_NONE};
    uint32_t rule_index = s.merged ? compile(&s, root, "") : schema_fail(&s, MLXR_NOMEM, "out of memory");
    mlxr_status status = s.status;
    if (status == MLXR_OK) {
        status = grammar_open(out, &made, rule_index, trie, error);
    }
    rules_close(&made);
    json_decref(s.merged);
    json_decref(root);
    free(s.refs);
    return status;
}
