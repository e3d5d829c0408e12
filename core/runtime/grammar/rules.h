/*
 * Rules: a context-free grammar over bytes, as both GBNF and JSON Schema compile to it.
 * Owner: whoever opened it, then the automaton. Lifetime: rules_open to rules_close. Immutable once finished.
 *
 * A rule is a list of alternatives; an alternative is a run of elements in one flat array that ends with ELEMENT_END.
 * Characters are UTF-8: a class of code points becomes alternatives of byte ranges.
 */
#ifndef MLXR_RUNTIME_GRAMMAR_RULES_H
#define MLXR_RUNTIME_GRAMMAR_RULES_H

#include "mlxr.h"

#define RULES_NONE UINT32_MAX
#define RULES_REPEAT_MAX 2000u        /* {n,m} beyond this is refused */
#define RULES_ELEMENTS_MAX (1u << 22) /* what repetitions may blow a grammar up to */

typedef enum element_kind { ELEMENT_END, ELEMENT_BYTES, ELEMENT_RULE } element_kind;

typedef struct element {
    element_kind kind;
    uint8_t low, high; /* BYTES: low ≤ byte ≤ high */
    uint32_t rule;     /* RULE */
} element;

typedef struct rule {
    char *name;             /* for messages; NULL: made up */
    uint32_t *alternatives; /* [n_alternatives]: index of the first element */
    uint32_t n_alternatives, cap;
    size_t at; /* where in rules.text its name stands */
} rule;

typedef struct rules {
    element *elements; /* [n_elements] */
    uint32_t n_elements, cap_elements;
    rule *list; /* [n_rules] */
    uint32_t n_rules, cap_rules;
    const char *text; /* what they were read from, until rules_check; NULL: messages name no place */
    bool failed;      /* out of memory or too large; sticks */
} rules;

typedef struct code_range {
    uint32_t low, high;
} code_range;

void rules_close(rules *r);

/* A new rule without alternatives; `name` may be NULL. RULES_NONE on failure. */
uint32_t rules_add(rules *r, const char *name, size_t n_name);
/* The rule of that name, RULES_NONE if there is none. */
uint32_t rules_find(const rules *r, const char *name, size_t n_name);

/* Adds the alternative sequence[0 … n) (without END) to a rule. */
void rules_alternative(rules *r, uint32_t rule_index, const element *sequence, uint32_t n);

/* Rules made of others; each returns a rule that may be used as one element. */
uint32_t rules_literal(rules *r, const char *bytes, size_t n);
uint32_t rules_class(rules *r, const code_range *ranges, size_t n, bool negated);
/* between `least` and `most` times (most = RULES_NONE: any number) */
uint32_t rules_repeat(rules *r, uint32_t item, uint32_t least, uint32_t most);
uint32_t rules_sequence(rules *r, const uint32_t *items, size_t n);
uint32_t rules_choice(rules *r, const uint32_t *items, size_t n);
uint32_t rules_optional(rules *r, uint32_t item);

static inline element rules_use(uint32_t rule_index)
{
    return (element){.kind = ELEMENT_RULE, .rule = rule_index};
}

/* Every rule used has alternatives and can be finished, and none is left-recursive: MLXR_FORMAT names the rule.
 * MLXR_LIMIT or MLXR_NOMEM where building failed. */
mlxr_status rules_check(const rules *r, mlxr_error *error);

#endif
