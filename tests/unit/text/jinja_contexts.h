/*
 * Every place an expression can stand in a template; § marks it. Each evaluates what stands there.
 * Owner: the test program. Lifetime: the process.
 */
#ifndef MLXR_TEST_JINJA_CONTEXTS_H
#define MLXR_TEST_JINJA_CONTEXTS_H

#include <stdlib.h>
#include <string.h>

static const char *const jinja_contexts[] = {
    "{{ § }}",
    "{{ 1, § }}",
    "{{ (§, 1) }}",
    "{{ [§] }}",
    "{{ [1, § ] }}",
    "{{ {§: 1} }}",
    "{{ {1: §} }}",
    "{{ {1: 2, 3: §} }}",
    "{{ -§ }}",
    "{{ +§ }}",
    "{{ not § }}",
    "{{ § + 1 }}",
    "{{ 1 - § }}",
    "{{ 2 * § }}",
    "{{ § // 1 }}",
    "{{ § ** 1 }}",
    "{{ 1 ** § }}",
    "{{ § ~ 1 }}",
    "{{ 1 ~ § }}",
    "{{ § < 1 }}",
    "{{ 1 <= § }}",
    "{{ 1 < 2 < § }}",
    "{{ 1 in § }}",
    "{{ § not in [1] }}",
    "{{ § and 1 }}",
    "{{ 1 and § }}",
    "{{ § or 1 }}",
    "{{ 0 or § }}",
    "{{ § if 1 else 2 }}",
    "{{ 1 if § else 2 }}",
    "{{ 1 if 0 else § }}",
    "{{ §.x }}",
    "{{ §.0 }}",
    "{{ §[0] }}",
    "{{ [1][§] }}",
    "{{ {}[1, §] }}",
    "{{ §[1:] }}",
    "{{ [1][§:] }}",
    "{{ [1][:§] }}",
    "{{ [1][::§] }}",
    "{{ §(1) }}",
    "{{ range(§) }}",
    "{{ range(1, §) }}",
    "{{ dict(a=§) }}",
    "{{ dict(a=1, b=§) }}",
    "{{ range(*§) }}",
    "{{ dict(**§) }}",
    "{{ §|string }}",
    "{{ 'a'|default(§) }}",
    "{{ 'a'|default(default_value=§) }}",
    "{{ [1]|map('default', §)|list }}",
    "{{ § is defined }}",
    "{{ § is not none }}",
    "{{ 1 is eq(§) }}",
    "{{ 1 is eq § }}",
    "{{ 1 is divisibleby(num=§) }}",
    "{% if § %}{% endif %}",
    "{% if 0 %}{% elif § %}{% endif %}",
    "{% if 1 %}{{ § }}{% endif %}",
    "{% if 0 %}{% else %}{{ § }}{% endif %}",
    "{% if 0 %}{% elif 1 %}{{ § }}{% endif %}",
    "{% for x in § %}{% endfor %}",
    "{% for x in [1] if § %}{% endfor %}",
    "{% for x in [1] %}{{ § }}{% endfor %}",
    "{% for x in [1] %}{{ loop.cycle(§) }}{% endfor %}",
    "{% for x in [1] %}{% if § %}{% break %}{% endif %}{% endfor %}",
    "{% for x in [] %}{% else %}{{ § }}{% endfor %}",
    "{% for x in [1] recursive %}{{ § }}{% endfor %}",
    "{% for x in § recursive %}{% endfor %}",
    "{% for x in [1] if § recursive %}{% endfor %}",
    "{% set x = § %}",
    "{% set x, y = 1, § %}",
    "{% set ns = namespace() %}{% set ns.x = § %}",
    "{% set x %}{{ § }}{% endset %}",
    "{% set x | default(§) %}a{% endset %}",
    "{% set x | default(default_value=§) | upper %}a{% endset %}",
    "{% macro m() %}{{ § }}{% endmacro %}{{ m() }}",
    "{% macro m(a=§) %}{% endmacro %}{{ m() }}",
    "{% macro m(a, b=1, c=§) %}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(§) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ § }}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call(a=§) m() %}{% endcall %}",
    "{% macro m(a) %}{{ caller() }}{% endmacro %}{% call m(§) %}{% endcall %}",
    "{% macro m(a) %}{{ caller() }}{% endmacro %}{% call m(a=§) %}{% endcall %}",
    "{% call [1][§]() %}{% endcall %}",
    "{% filter default(§) %}a{% endfilter %}",
    "{% filter upper | default(default_value=§) %}a{% endfilter %}",
    "{% filter upper %}{{ § }}{% endfilter %}",
    "{% with a = § %}{% endwith %}",
    "{% with a = 1, b = § %}{% endwith %}",
    "{% with %}{{ § }}{% endwith %}",
    "{% generation %}{{ § }}{% endgeneration %}",
    "{% print § %}",
    "{% print 1, § %}",
};

#define JINJA_CONTEXTS (sizeof jinja_contexts / sizeof *jinja_contexts)

/* The context with its § replaced, malloc'd. */
static char *jinja_fill(const char *context, const char *hole)
{
    const char *at = strstr(context, "§");
    char *text = malloc(strlen(context) + strlen(hole) + 1);
    if (text) {
        memcpy(text, context, (size_t)(at - context));
        strcpy(text + (at - context), hole);
        strcat(text, at + strlen("§"));
    }
    return text;
}

#endif
