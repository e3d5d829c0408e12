/*
 * JSON Schema compiler: values without a schema, made once and shared.
 * Owner: one compilation. Lifetime: grammar_open_schema's call.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/grammar/schema_parts.h"

/* Digits beyond these are never needed for a 64-bit integer or a double; without a bound a model can count for ever. */
#define DIGITS_MAX 18u
#define FRACTION_DIGITS_MAX 17u
#define BLANKS_MAX 20u

uint32_t schema_text(schema *s, const char *text)
{
    return rules_literal(s->rules, text, strlen(text));
}

static uint32_t class_of(schema *s, uint32_t low, uint32_t high)
{
    return rules_class(s->rules, &(code_range){low, high}, 1, false);
}

uint32_t schema_space(schema *s)
{
    if (s->space == RULES_NONE) {
        static const code_range blanks[] = {{' ', ' '}, {'\t', '\t'}};
        uint32_t indent = rules_repeat(s->rules, rules_class(s->rules, blanks, 2, false), 0, BLANKS_MAX);
        uint32_t line[] = {schema_text(s, "\n"), indent};
        uint32_t choices[] = {schema_text(s, ""), schema_text(s, " "), rules_sequence(s->rules, line, 2)};
        s->space = rules_choice(s->rules, choices, 3);
    }
    return s->space;
}

uint32_t schema_string_char(schema *s)
{
    if (s->string_char == RULES_NONE) {
        rules *r = s->rules;
        static const code_range plain[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0x10ffff}};
        static const code_range simple[] = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'},
                                            {'f', 'f'}, {'n', 'n'},   {'r', 'r'}, {'t', 't'}};
        static const code_range hex[] = {{'0', '9'}, {'a', 'f'}, {'A', 'F'}};
        static const code_range not_d[] = {{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}};
        static const code_range d[] = {{'d', 'd'}, {'D', 'D'}};
        static const code_range below_8[] = {{'0', '7'}};
        static const code_range high[] = {{'8', '9'}, {'a', 'b'}, {'A', 'B'}};
        static const code_range low[] = {{'c', 'f'}, {'C', 'F'}};
        uint32_t h = rules_class(r, hex, 3, false), dd = rules_class(r, d, 2, false), u = schema_text(s, "\\u");
        uint32_t ordinary[] = {u, rules_class(r, not_d, 5, false), h, h, h};
        uint32_t before_surrogates[] = {u, dd, rules_class(r, below_8, 1, false), h, h};
        uint32_t pair[] = {u, dd, rules_class(r, high, 3, false), h, h, u, dd, rules_class(r, low, 2, false), h, h};
        uint32_t escape[] = {schema_text(s, "\\"), rules_class(r, simple, 8, false)};
        uint32_t choices[] = {rules_class(r, plain, 3, false), rules_sequence(r, escape, 2),
                              rules_sequence(r, ordinary, 5), rules_sequence(r, before_surrogates, 5),
                              rules_sequence(r, pair, 10)};
        s->string_char = rules_choice(r, choices, 5);
    }
    return s->string_char;
}

uint32_t schema_any_string(schema *s)
{
    if (s->string == RULES_NONE) {
        uint32_t quote = schema_text(s, "\"");
        uint32_t parts[] = {quote, rules_repeat(s->rules, schema_string_char(s), 0, RULES_NONE), quote};
        s->string = rules_sequence(s->rules, parts, 3);
    }
    return s->string;
}

uint32_t schema_any_integer(schema *s)
{
    if (s->integer == RULES_NONE) {
        rules *r = s->rules;
        uint32_t more[] = {class_of(s, '1', '9'), rules_repeat(r, class_of(s, '0', '9'), 0, DIGITS_MAX - 1)};
        uint32_t magnitude[] = {schema_text(s, "0"), rules_sequence(r, more, 2)};
        uint32_t parts[] = {rules_optional(r, schema_text(s, "-")), rules_choice(r, magnitude, 2)};
        s->integer = rules_sequence(r, parts, 2);
    }
    return s->integer;
}

uint32_t schema_any_number(schema *s)
{
    if (s->number == RULES_NONE) {
        rules *r = s->rules;
        static const code_range e[] = {{'e', 'e'}, {'E', 'E'}}, signs[] = {{'+', '+'}, {'-', '-'}};
        uint32_t digit = class_of(s, '0', '9');
        uint32_t fraction[] = {schema_text(s, "."), rules_repeat(r, digit, 1, FRACTION_DIGITS_MAX)};
        uint32_t exponent[] = {rules_class(r, e, 2, false), rules_optional(r, rules_class(r, signs, 2, false)),
                               rules_repeat(r, digit, 1, 2)};
        uint32_t parts[] = {schema_any_integer(s), rules_optional(r, rules_sequence(r, fraction, 2)),
                            rules_optional(r, rules_sequence(r, exponent, 3))};
        s->number = rules_sequence(r, parts, 3);
    }
    return s->number;
}

uint32_t schema_boolean(schema *s)
{
    if (s->boolean == RULES_NONE) {
        uint32_t choices[] = {schema_text(s, "true"), schema_text(s, "false")};
        s->boolean = rules_choice(s->rules, choices, 2);
    }
    return s->boolean;
}

uint32_t schema_null(schema *s)
{
    if (s->null == RULES_NONE) {
        s->null = schema_text(s, "null");
    }
    return s->null;
}

uint32_t schema_literal(schema *s, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!text) {
        return schema_fail(s, MLXR_NOMEM, "out of memory");
    }
    uint32_t made = schema_text(s, text);
    free(text);
    return made;
}

/* open space (item (, space item)*)? space close */
static uint32_t list_of(schema *s, const char *open, uint32_t item, const char *close)
{
    rules *r = s->rules;
    uint32_t next[] = {schema_text(s, ","), schema_space(s), item};
    uint32_t items[] = {item, rules_repeat(r, rules_sequence(r, next, 3), 0, RULES_NONE), schema_space(s)};
    uint32_t parts[] = {schema_text(s, open), schema_space(s), rules_optional(r, rules_sequence(r, items, 3)),
                        schema_text(s, close)};
    return rules_sequence(r, parts, 4);
}

uint32_t schema_any_array(schema *s)
{
    return list_of(s, "[", schema_any_value(s), "]");
}

uint32_t schema_any_object(schema *s)
{
    uint32_t member[] = {schema_any_string(s), schema_text(s, ":"), schema_space(s), schema_any_value(s)};
    return list_of(s, "{", rules_sequence(s->rules, member, 4), "}");
}

uint32_t schema_any_value(schema *s)
{
    if (s->value == RULES_NONE) {
        s->value = rules_add(s->rules, NULL, 0); /* known before its parts: they contain it */
        uint32_t choices[] = {schema_any_string(s), schema_any_number(s), schema_boolean(s),
                              schema_null(s),       schema_any_array(s),  schema_any_object(s)};
        for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
            element use = rules_use(choices[i]);
            rules_alternative(s->rules, s->value, &use, 1);
        }
    }
    return s->value;
}
