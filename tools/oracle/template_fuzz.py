"""Random templates for template_compare.py: a grammar of what chat templates are made of, typed just enough that most
expressions mean something. Both engines render each; a difference is printed with the template that shows it.
"""
import random
import re
import resource

NAMES = {"int": ["a", "b", "z"], "float": ["f"], "str": ["s", "e", "u", "w", "m", "q"], "bool": ["t"],
         "list": ["l", "ll", "names", "users"], "dict": ["d"], "any": ["n", "missing", "v", "ns.x", "ns.y", "d.k", "d.q"]}
STRINGS = ["''", "'a'", "'b c'", '"x\\ny"', "'Ärger'", "' , '", "'<b>&'", "'%s'", "'{}'", "'1'", "'2.50'", "'k'",
           "'abcabc'", "'\\u00e9\\t'", "'ǆ ß ﬁ'", "'ΑΣ'", "'-7'", "'l1\\r\\nl2\\n'", "'\"\\''", "'a,b,,c'", "'name'"]
TYPES = ["int", "float", "str", "bool", "list", "dict", "any"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.loops = 0
        self.macros = []

    def pick(self, *choices):
        return self.r.choice(choices)

    def chance(self, p):
        return self.r.random() < p

    def expr(self, kind=None, depth=3):
        kind = kind or self.r.choice(TYPES)
        if self.chance(0.06):
            kind = self.r.choice(TYPES)
        if depth <= 0 or self.chance(0.2):
            return self.leaf(kind)
        if self.chance(0.08):
            return f"({self.expr(kind, depth - 1)} if {self.expr('bool', depth - 1)} else {self.expr(kind, depth - 1)})"
        if self.chance(0.04):
            return f"({self.expr(kind, depth - 1)} {self.pick('and', 'or')} {self.expr(kind, depth - 1)})"
        out = getattr(self, "make_" + kind)(depth - 1)
        return f"({out})" if "|" in out and self.chance(0.8) else out

    def leaf(self, kind):
        if self.loops and self.chance(0.15):
            return self.pick("x", "x", "loop.index", "loop.index0", "loop.first", "loop.last", "loop.length",
                             "loop.previtem", "loop.nextitem", "loop.revindex", "loop.revindex0", "loop.depth")
        if kind == "int":
            return self.pick(str(self.r.randint(0, 12)), str(self.r.randint(-5, 300)), self.r.choice(NAMES["int"]))
        if kind == "float":
            return self.pick("1.5", "0.1", "1e3", "2.675", "1e-7", "123456789.125", "0.5", "f", "1e22", "3.0")
        if kind == "str":
            return self.r.choice(STRINGS + NAMES["str"] * 2)
        if kind == "bool":
            return self.pick("true", "false", "True", "t")
        if kind == "list":
            return self.pick("[]", "[1, 2, 3]", "['b', 'a']", "(1, 'x')", "()", "[none, true]", *NAMES["list"])
        if kind == "dict":
            return self.pick("{}", "{'k': 1}", "{'b': 2, 'a': [1]}", "{1: 'one', none: 2.5}", "d")
        return self.pick("none", *NAMES["any"])

    def make_int(self, d):
        e = self.expr
        return self.pick(
            lambda: f"({e('int', d)} {self.pick('+', '-', '*', '//', '%')} {e('int', d)})",
            lambda: f"({e('int', d)} ** {self.r.randint(0, 3)})",
            lambda: f"{e(self.pick('list', 'str', 'dict'), d)}|{self.pick('length', 'count')}",
            lambda: f"{e(self.pick('str', 'float', 'int', 'any'), d)}|int",
            lambda: f"{e('str', d)}|int({e('int', d)}, {self.pick('10', '16', '2', '0')})",
            lambda: f"{e('str', d)}.{self.pick('find', 'rfind', 'count', 'index')}({e('str', d)})",
            lambda: f"{e('str', d)}.find({e('str', d)}, {e('int', d)}, {e('int', d)})",
            lambda: f"{e('int', d)}|abs",
            lambda: f"-{e('int', d)}",
            lambda: f"{e('list', d)}[{self.r.randint(-3, 3)}]",
            lambda: f"{e('list', d)}|{self.pick('sum', 'first', 'last', 'min', 'max')}",
            lambda: f"{e('str', d)}|wordcount",
            lambda: f"{e('list', d)}.{self.pick('index', 'count')}({e('any', d)})",
        )()

    def make_float(self, d):
        e = self.expr
        return self.pick(
            lambda: f"({e('int', d)} / {e('int', d)})",
            lambda: f"({e('float', d)} {self.pick('+', '-', '*', '/', '//', '%')} {e(self.pick('float', 'int'), d)})",
            lambda: f"{e(self.pick('str', 'int', 'float'), d)}|float",
            lambda: f"{e(self.pick('float', 'int'), d)}|round({self.pick('', '1', '2', '-1', '0')})",
            lambda: f"{e('float', d)}|round({self.r.randint(0, 3)}, '{self.pick('ceil', 'floor', 'common')}')",
            lambda: f"(-{e('float', d)})",
        )()

    def make_str(self, d):
        e = self.expr
        method = self.pick("upper", "lower", "title", "capitalize", "strip", "lstrip", "rstrip", "swapcase", "casefold")
        width = self.r.randint(-1, 12)
        return self.pick(
            lambda: f"({e('str', d)} {self.pick('~', '~', '+')} {e(self.pick('str', 'any', 'int'), d)})",
            lambda: f"({e('str', d)} + {e('str', d)})",
            lambda: f"({e('str', d)} * {self.r.randint(-1, 3)})",
            lambda: f"{e('str', d)}.{method}()",
            lambda: f"{e('str', d)}.{self.pick('strip', 'lstrip', 'rstrip')}({e('str', d)})",
            lambda: f"{e('str', d)}.replace({e('str', d)}, {e('str', d)}{self.pick('', '', ', 1', ', -1')})",
            lambda: f"{e('any', d)}|{self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'safe', 'e')}",
            lambda: f"{e('str', d)}|replace({e('str', d)}, {e('str', d)}{self.pick('', ', 1')})",
            lambda: f"{e('list', d)}|join({self.pick('', repr(', '), e('str', d))})",
            lambda: f"{e('str', d)}.join({e('list', d)})",
            lambda: f"{e(None, d)}|tojson{self.pick('', '', '(indent=2)', '(sort_keys=true)', '(ensure_ascii=true)')}",
            lambda: f"{e(None, d)}|tojson(indent={self.r.randint(0, 3)}, separators=(',', ':'))",
            lambda: f"{e('str', d)}[{self.slice_text()}]",
            lambda: f"{e('str', d)}[{self.r.randint(-4, 4)}]",
            lambda: f"{e('str', d)}|indent({self.pick('', '2', 'first=true', '3, true', 'blank=true', repr('> '))})",
            lambda: f"{e('str', d)}|truncate({self.r.randint(0, 9)}{self.pick('', ', true', ', false, ' + repr('.'))})",
            lambda: f"{e('str', d)}.{self.pick('center', 'ljust', 'rjust', 'zfill')}({width})",
            lambda: f"{e('str', d)}|center({width})",
            lambda: f"{e('str', d)}.{self.pick('removeprefix', 'removesuffix')}({e('str', d)})",
            lambda: f"({self.percent()} % {self.pick(e(None, d), '(' + e(None, d) + ',)')})",
            lambda: f"{self.percent()}|format({e(None, d)})",
            lambda: f"{self.braces()}.format({e(None, d)}, k={e(None, d)})",
            lambda: f"{e('str', d)}|reverse",
            lambda: f"{e(None, d)}|default({e('str', d)}{self.pick('', ', true')})",
            lambda: f"{e(None, d)}|urlencode",
            lambda: f"{e('int', d)}|filesizeformat",
            lambda: f"{e('dict', d)}|xmlattr",
            lambda: f"{e('list', d)}|{self.pick('first', 'last', 'max', 'min')}",
            lambda: self.macro_call(d),
        )()

    def percent(self):
        return "'" + self.pick("%s", "%r", "%d", "%5d|", "%-5s|", "%05.1f", "%x", "%.3s", "%+d", "%e", "%g", "%%%s",
                               "%c", "%#o", "% d", "%(k)s", "%.2f", "%i%%") + "'"

    def braces(self):
        return "'" + self.pick("{}", "{0}", "{k}", "{:>6}|", "{!r}", "{0!s:<5}|", "{:^7}|", "{:05d}", "{:,}", "{:.2f}",
                               "{:x}", "{k.a}", "{0[0]}", "{:+}", "{{}}{}", "{:.1%}", "{:e}", "{:*^9}", "{:#b}", "{:g}",
                               "{:.3}", "{:08.2f}", "{:_}", "{:>{k}}", "{} {}", "{1}", "{:n}", "{:s}", "{:010,}") + "'"

    def slice_text(self):
        part = lambda: self.pick("", "", str(self.r.randint(-6, 6)))
        return f"{part()}:{part()}" + self.pick("", "", f":{self.pick('', '1', '2', '-1', '-2', '0')}")

    def make_bool(self, d):
        e = self.expr
        test = self.pick("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping",
                         "sequence", "iterable", "true", "false", "callable", "odd", "even", "upper", "lower", "escaped")
        kind = self.pick("int", "str", "list", "any", "float")
        check = self.pick("isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "istitle", "isnumeric",
                          "isdecimal", "isascii", "isprintable", "isidentifier")
        return self.pick(
            lambda: f"({e(None, d)} is {self.pick('', 'not ')}{test})",
            lambda: f"({e(kind, d)} {self.pick('==', '!=', '<', '<=', '>', '>=')} {e(kind, d)})",
            lambda: f"({e('int', d)} < {e('int', d)} <= {e('int', d)})",
            lambda: f"(not {e(None, d)})",
            lambda: f"({e(None, d)} {self.pick('in', 'not in')} {e(self.pick('list', 'str', 'dict'), d)})",
            lambda: f"({e('str', d)} in {e('str', d)})",
            lambda: f"({e('int', d)} is divisibleby({e('int', d)}))",
            lambda: f"({e(kind, d)} is {self.pick('eq', 'ne', 'gt', 'lt', 'ge', 'le', 'equalto', 'in')}({e(kind, d)}))",
            lambda: f"{e('str', d)}.{self.pick('startswith', 'endswith')}({e('str', d)})",
            lambda: f"{e('str', d)}.startswith(({e('str', d)}, {e('str', d)}), {self.r.randint(-2, 3)})",
            lambda: f"{e('str', d)}.{check}()",
            lambda: f"({e(None, d)} and {e(None, d)})",
            lambda: f"({e(None, d)} or {e(None, d)})",
        )()

    def make_list(self, d):
        e = self.expr
        name = self.pick("upper", "length", "string", "int", "first", "lower", "list", "abs", "float", "trim", "tojson")
        test = self.pick("odd", "string", "defined", "number", "none", "mapping", "'gt', 1", "'in', [1, 'a']",
                         "'equalto', 2", "'ne', 'a'")
        test = test if test.startswith("'") else f"'{test}'"
        attr = self.pick("'name'", "'age'", "'tag.id'", "0", "'0'", "'zz'")
        return self.pick(
            lambda: f"[{', '.join(e(None, d) for _ in range(self.r.randint(0, 3)))}]",
            lambda: f"({e('list', d)} + {e('list', d)})",
            lambda: f"({e('list', d)} * {self.r.randint(-1, 2)})",
            lambda: f"{e('list', d)}[{self.slice_text()}]",
            lambda: f"{e('str', d)}.{self.pick('split', 'rsplit')}({self.pick('', e('str', d), e('str', d) + ', 1', 'none, 1')})",
            lambda: f"{e('str', d)}.splitlines({self.pick('', 'true')})",
            lambda: f"{e('str', d)}.{self.pick('partition', 'rpartition')}({e('str', d)})",
            lambda: f"{e(self.pick('list', 'dict', 'str'), d)}|list",
            lambda: f"{e('list', d)}|sort{self.pick('', '(reverse=true)', '(case_sensitive=true)', '(attribute=' + attr + ')')}",
            lambda: f"{e('list', d)}|map('{name}')|list",
            lambda: f"{e('list', d)}|map(attribute={attr}{self.pick('', ', default=5')})|list",
            lambda: f"{e('list', d)}|{self.pick('select', 'reject')}({self.pick('', test)})|list",
            lambda: f"{e('list', d)}|{self.pick('selectattr', 'rejectattr')}({attr}{self.pick('', ', ' + test)})|list",
            lambda: f"{e('list', d)}|unique{self.pick('', '(true)')}|list",
            lambda: f"{e('list', d)}|reverse|list",
            lambda: f"{e('list', d)}|batch({self.r.randint(0, 3)}{self.pick('', ', ' + e('any', d))})|list",
            lambda: f"{e('list', d)}|slice({self.r.randint(0, 3)}{self.pick('', ', ' + e('any', d))})|list",
            lambda: f"{e('list', d)}|groupby({attr})",
            lambda: f"{e('dict', d)}|{self.pick('dictsort', 'items|list', 'dictsort(by=' + repr('value') + ')')}",
            lambda: f"{e('dict', d)}.{self.pick('keys', 'values', 'items')}(){self.pick('', '|list')}",
            lambda: f"range({e('int', d)}{self.pick('', ', ' + e('int', d))})",
            lambda: f"range({e('int', d)}, {e('int', d)}, {self.pick('1', '2', '-1', '-3')}){self.pick('|list', '[1:]', '')}",
        )()

    def make_dict(self, d):
        e = self.expr
        keys = self.pick("'k'", "'k'", "1", "'b'", e("str", d), e("any", d))
        return self.pick(
            lambda: f"{{{keys}: {e(None, d)}, 'z': {e(None, d)}}}",
            lambda: f"dict({self.pick('', 'k=' + e(None, d), e('dict', d) + ', q=1', '[(1, 2)]')})",
            lambda: f"{e('dict', d)}.copy()",
            lambda: f"({e('dict', d)} or d)",
        )()

    def make_any(self, d):
        e = self.expr
        attribute = self.pick("k", "x", "name", "items", "upper", "get", "zz", "y", "0", "count", "_p")
        return self.pick(
            lambda: f"{e('dict', d)}[{e('str', d)}]",
            lambda: f"{e(self.pick('dict', 'list', 'any', 'str'), d)}.{attribute}",
            lambda: f"{e('dict', d)}.get({e('str', d)}{self.pick('', ', ' + e('any', d))})",
            lambda: f"{e('list', d)}[{e('int', d)}]",
            lambda: f"{e(None, d)}|default({e(None, d)})",
            lambda: f"{e(None, d)}|attr({e('str', d)})",
            lambda: f"{e('list', d)}|first",
            lambda: f"({e(None, d)} if {e('bool', d)})",
            lambda: f"({e(None, d)}, {e(None, d)})",
            lambda: f"{e('dict', d)}.{self.pick('pop', 'update', 'setdefault')}({e('str', d)})",
            lambda: f"{e('list', d)}.{self.pick('append', 'sort')}({e('int', d)})",
            lambda: f"({e('int', d)} {self.pick('+', '-', '*')} {e('str', d)})",
            lambda: f"namespace(x={e(None, d)}).{self.pick('x', 'y')}",
        )()

    def macro_call(self, d):
        if not self.macros:
            return self.leaf("str")
        args = [self.expr(None, d) for _ in range(self.r.randint(0, 3))]
        if self.chance(0.3):
            args.append(f"{self.pick('p', 'o', 'zz')}={self.expr(None, d)}")
        if self.chance(0.05):
            args.append("*" + self.expr("list", d))
        if self.chance(0.05):
            args.append("**" + self.expr("dict", d))
        return f"{self.r.choice(self.macros)}({', '.join(args)})"

    # ---- statements -------------------------------------------------------------------------------------------------

    def tag(self, inside):
        left, right = self.pick("{%", "{%", "{%-", "{%+"), self.pick("%}", "%}", "-%}", "+%}")
        return f"{left} {inside} {right}"

    def text(self):
        return self.pick("", " ", "\n", "a\n", "  \n  ", "text ", "\n\n", "\t", "x\n y", "{# c #}", "{#- c -#}\n", "é")

    def body(self, depth):
        return "".join(self.text() + self.statement(depth) for _ in range(self.r.randint(1, 3))) + self.text()

    def statement(self, depth):
        e = self.expr
        if depth <= 0 or self.chance(0.4):
            return f"{self.pick('{{', '{{', '{{-')} {e(None, 3)} {self.pick('}}', '}}', '-}}')}"
        return self.r.choice([self.st_if, self.st_for, self.st_for, self.st_set, self.st_set, self.st_macro, self.st_with,
                              self.st_filter, self.st_call, self.st_setblock, self.st_generation, self.st_raw])(depth - 1)

    def st_if(self, depth):
        out = self.tag("if " + self.expr("bool", 2)) + self.body(depth)
        if self.chance(0.3):
            out += self.tag("elif " + self.expr("bool", 2)) + self.body(depth)
        if self.chance(0.5):
            out += self.tag("else") + self.body(depth)
        return out + self.tag("endif")

    def st_for(self, depth):
        target, source = self.pick(("x", self.expr("list", 2)), ("x", self.expr("list", 2)),
                                   ("x", self.expr(self.pick("str", "dict", "any"), 2)),
                                   ("x, v", self.expr("dict", 1) + ".items()"), ("x, v", "ll"))
        condition = f" if {self.pick('x', self.expr('bool', 1), 'x is string', 'x != 2')}" if self.chance(0.25) else ""
        self.loops += 1
        out = self.tag(f"for {target} in {source}{condition}") + self.body(depth)
        if self.chance(0.15):
            out += self.tag("if " + self.expr("bool", 1)) + self.tag(self.pick("break", "continue")) + self.tag("endif")
            out += self.body(depth - 1)
        self.loops -= 1
        if self.chance(0.2):
            out += self.tag("else") + self.body(depth)
        return out + self.tag("endfor")

    def st_set(self, depth):
        return self.tag("set " + self.pick(
            lambda: f"v = {self.expr(None, 3)}", lambda: f"ns.x = {self.expr(None, 3)}",
            lambda: f"s = {self.expr('str', 3)}", lambda: f"a, v = {self.expr('list', 1)}",
            lambda: f"l = {self.expr('list', 2)}", lambda: f"a = {self.expr('int', 2)}",
            lambda: f"ns.y, b = 1, {self.expr('int', 1)}", lambda: "ns = namespace(x=0)")())

    def st_setblock(self, depth):
        flt = self.pick("", " | upper", " | trim", " | length")
        return self.tag(f"set {self.pick('v', 'w', 'ns.x')}{flt}") + self.body(depth) + self.tag("endset")

    def st_macro(self, depth):
        name = self.pick("m1", "m2")
        params = self.pick("", "p", "p, o=2", "p=1, o=none", "p, o, x='d'")
        loops, self.loops = self.loops, 0
        extra = self.pick("", "", "{{ p }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}", "{{ o }}")
        out = self.tag(f"macro {name}({params})") + extra + self.body(depth) + self.tag("endmacro")
        self.loops = loops
        if name not in self.macros:
            self.macros.append(name)
        return out

    def st_with(self, depth):
        return (self.tag(f"with v = {self.expr(None, 2)}{self.pick('', ', a = v')}") + self.body(depth)
                + self.tag("endwith"))

    def st_filter(self, depth):
        flt = self.pick("upper", "trim", "indent(2)", "replace('a', 'b')", "length", "title", "upper|lower")
        return self.tag(f"filter {flt}") + self.body(depth) + self.tag("endfilter")

    def st_call(self, depth):
        if not self.macros:
            return self.text()
        signature = self.pick("", "", "(p)")
        loops, self.loops = self.loops, 0
        out = self.tag(f"call{signature} {self.r.choice(self.macros)}({self.expr(None, 1)})") + self.body(depth)
        self.loops = loops
        return out + self.tag("endcall")

    def st_generation(self, depth):
        loops, self.loops = self.loops, self.loops
        return self.tag("generation") + self.body(depth) + self.tag("endgeneration")

    def st_raw(self, depth):
        return self.tag("raw") + self.pick("{{ x }}", "\n{% if %}", " a ") + self.tag("endraw")

    def template(self):
        kind = self.r.random()
        if kind < 0.45:
            return "{{ " + self.expr(None, 4) + " }}"
        start = self.pick("", "{% set ns = namespace(x=1, y='n') %}")
        return start + "".join(self.text() + self.statement(3) for _ in range(self.r.randint(1, 4)))


# What Python prints with an address, and what we refuse by name or by size.
ADDRESS = re.compile(r"object at 0x|<built-in|<function|<bound method|<generator|<class|0x[0-9a-f]{6,}|&lt;generator"
                     r"|&lt;built|&lt;function|dict_itemiterator|reverseiterator|reversed object|iterator object"
                     r"|%3C(built|gener|function)|<GENERATOR|<BUILT", re.I)
# Jinja folds constants when it compiles: a slice of something that has none is undefined then instead of an error, and
# an unknown filter behind a constant 'or' is never looked at.
OURS_ONLY = re.compile(r"64.bit|not supported|limit of|too long|too large|more than \d+ levels|out of memory|be sliced")


def run(ours, theirs, same, n_cases, seed, show):
    from template_compare import CASE_VARIABLES
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    equal = errors = skipped = different = 0
    for i in range(n_cases):
        template = Maker(f"{seed}/{i}").template()
        a, b = ours.render(template, CASE_VARIABLES), theirs(template, CASE_VARIABLES)
        if same(a, b):
            equal += 1
            errors += "error" in b
        elif a.get("where") == "open" and "there is no" in a["error"] and "text" in b:
            skipped += 1
        elif ADDRESS.search(b.get("text", "")) or OURS_ONLY.search(a.get("error", "")) or \
                "MemoryError" in b.get("error", ""):
            skipped += 1
        else:
            different += 1
            if different <= show:
                print(f"--- {seed}/{i}\n{template}\n  ours:   {str(a)[:500]}\n  jinja2: {str(b)[:500]}", flush=True)
    print(f"{n_cases} random templates (seed {seed}): {equal} identical ({errors} of them both an error), "
          f"{skipped} not comparable (addresses, integers beyond 64 bits, refused by name, folded), {different} different")
    return different == 0
