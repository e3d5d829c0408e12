#!/usr/bin/env python3
"""Translates a .metal file, in the subset that README.md describes, for those who cannot compile Metal.

    translate.py run FILE NAME               C++ that tools/metal-emulator executes; the file's kernels as NAME
    translate.py address-spaces FILE         C++ for clang -fsyntax-only: a pointer in the wrong address space is an error
    translate.py library NAME FILE_NAME…     the C++ table of several translated files
    translate.py sources FILE…               C: each kernel cut into what mx::fast::metal_kernel takes (metal_kernels.h)

All print to standard output. Lines keep their numbers (#line), so that compilers and sanitizers speak of the .metal file.
"""
import os
import re
import sys

# [[attribute]] of a parameter -> number of components of its value
BUILTINS = {
    "thread_position_in_grid": 3, "thread_position_in_threadgroup": 3, "threadgroup_position_in_grid": 3,
    "threads_per_grid": 3, "threads_per_threadgroup": 3, "threadgroups_per_grid": 3, "thread_index_in_threadgroup": 1,
    "thread_index_in_simdgroup": 1, "simdgroup_index_in_threadgroup": 1, "simdgroups_per_threadgroup": 1,
    "threads_per_simdgroup": 1,
}  # fmt: skip
REFUSED = {
    "goto": "there is no goto in Metal", "new": "there is no new in Metal", "delete": "there is no delete in Metal",
    "try": "there are no exceptions in Metal", "throw": "there are no exceptions in Metal",
    "virtual": "there are no virtual functions in Metal", "double": "there is no double in Metal",
    "long double": "there is no double in Metal", "texture2d": "textures are not emulated", "sampler": "samplers are not emulated",
    "atomic_int": "atomics are not emulated", "atomic_uint": "atomics are not emulated", "atomic": "atomics are not emulated",
    "quad_sum": "quadgroups are not emulated", "std": "Metal has no std namespace",
    "is_function_constant_defined": "every function constant must be set",
}  # fmt: skip
SPACES = {"device": 1, "constant": 2, "threadgroup": 3}
SYSTEM = re.compile(r'[ \t]*#[ \t]*include[ \t]*<metal_\w+>[ \t]*')
LOCAL = re.compile(r'[ \t]*#[ \t]*include[ \t]*"([^"]+)"[ \t]*')
KERNEL = re.compile(r"(?:\[\[\s*kernel\s*\]\]|\bkernel\b)\s+void\s+(\w+)\s*\(")
INSTANCE = re.compile(
    r'template\s*\[\[\s*host_name\s*\(\s*"([^"]+)"\s*\)\s*\]\]\s*(?:\[\[\s*kernel\s*\]\]|kernel)\s+'
    r"decltype\s*\(([^;()]*)\)\s*([^;]*);"
)
# The usual macro for an instance, and its definition.
SHORT = re.compile(r'^[ \t]*instantiate_kernel\s*\(\s*("[^"]+")\s*,\s*(\w+)\s*,\s*([^()]*?)\s*\)\s*;', re.M)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+instantiate_kernel\b(?:[^\n\\]|\\.|\\\n)*", re.M)
CONSTANT = re.compile(
    r"\bconstant\s+(?:const\s+)?(\w+)\s+(\w+)\s*\[\[\s*function_constant\s*\(\s*(\d+)\s*\)\s*\]\]\s*;"
)
MEMORY = re.compile(r"\bthreadgroup\s+([A-Za-z_][\w:]*(?:\s*<[^;<>]*>)?)\s+([A-Za-z_]\w*)\s*((?:\[[^\[\]]*\]\s*)*)\s*;")
CONSTRUCTED = re.compile(r"\b((?:bool|float|half|bfloat|uint|int|ushort|short|uchar|char)[234]|vec\s*<[^<>;(){}]*>)\s*\(")


class Refused(Exception):
    """Something outside the subset; says where."""


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
    return pattern.sub(lambda m: blank(m.group(0)) if m.group(0)[0] == "/" else m.group(0), text)


class Source:
    """A file with what it includes in its place. `line` names a position as file:line."""

    def __init__(self, path):
        self.path = path
        self.text = self.read(path, path, set())

    def read(self, path, name, seen):
        seen.add(os.path.abspath(path))
        with open(path, encoding="utf-8") as file:
            lines = without_comments(file.read()).split("\n")
        out = [f'#line 1 "{name}"']
        for number, line in enumerate(lines, 1):
            local = LOCAL.fullmatch(line)
            if local:
                inner = os.path.join(os.path.dirname(path), local.group(1))
                if os.path.abspath(inner) not in seen:
                    shown = os.path.normpath(os.path.join(os.path.dirname(name), local.group(1)))
                    out.append(self.read(inner, shown, seen))
                out.append(f'#line {number + 1} "{name}"')
            elif SYSTEM.fullmatch(line) or re.fullmatch(r"\s*(using\s+namespace\s+metal\s*;|#\s*pragma\s+once)\s*", line):
                out.append("")
            else:
                out.append(line)
        return "\n".join(out)

    def line(self, text, at):
        """file:line of a position of `text`, which begins as this source does."""
        name, number = self.path, 0
        for line in text[:at].split("\n"):
            marked = re.match(r'#line (\d+) "([^"]+)"', line)
            number = int(marked.group(1)) - 1 if marked else number + 1
            name = marked.group(2) if marked else name
        return f"{name}:{number}"


def closing(text, at):
    """Position of the bracket that closes the one at `at`."""
    pairs = {"(": ")", "{": "}", "[": "]", "<": ">"}
    opening, end, depth = text[at], pairs[text[at]], 0
    for i in range(at, len(text)):
        depth += (text[i] == opening) - (text[i] == end)
        if depth == 0:
            return i
    raise Refused(f"a {opening} is never closed")


def split_list(text):
    """At commas outside brackets."""
    out, depth, current = [], 0, ""
    for character in text:
        depth += (character in "(<[") - (character in ")>]")
        if character == "," and depth == 0:
            out.append(current)
            current = ""
        else:
            current += character
    return out + [current] if current.strip() else out


class Parameter:
    def __init__(self, text, where):
        attribute = re.search(r"\[\[\s*(\w+)\s*(?:\(\s*(\w+)\s*\))?\s*\]\]", text)
        if not attribute:
            raise Refused(f"{where}: the parameter '{' '.join(text.split())}' has no [[attribute]]")
        self.kind, self.index = attribute.group(1), attribute.group(2)
        self.declaration = text[: attribute.start()] + text[attribute.end() :]
        self.name = re.search(r"(\w+)\s*$", self.declaration.rstrip()).group(1)
        if self.kind in ("buffer", "threadgroup"):
            limit = 31 if self.kind == "buffer" else 8
            if not (self.index or "").isdigit() or int(self.index) >= limit:
                raise Refused(f"{where}: [[{self.kind}({self.index})]]: a number below {limit} is needed")
        elif self.kind not in BUILTINS:
            raise Refused(f"{where}: [[{self.kind}]] is not emulated")
        self.const = bool(re.search(r"\bconst\b|\bconstant\b", self.declaration))


class Kernel:
    """One [[kernel]] function: `parameters`, `body` without its braces, template head `template` or ''."""

    def __init__(self, source, text, match):
        where = source.line(text, match.start())
        self.name = match.group(1)
        self.open = match.end() - 1
        self.close = closing(text, self.open)
        self.parameters = [Parameter(p, where) for p in split_list(text[self.open + 1 : self.close])]
        self.begin = text.index("{", self.close)
        self.end = closing(text, self.begin)
        head = re.search(r"template\s*<([^;{}]*)>\s*$", text[: match.start()])
        self.template = head.group(1) if head else ""
        self.start = head.start() if head else match.start()
        self.keyword = match.start()
        self.body = text[self.begin + 1 : self.end]


class File:
    """A .metal file, taken apart."""

    def __init__(self, path):
        self.source = Source(path)
        self.text = self.source.text
        self.text = MACRO.sub(lambda m: blank(m.group(0)), self.text)
        self.text = SHORT.sub(
            lambda m: f'template [[host_name({m.group(1)})]] [[kernel]] decltype({m.group(2)}<{m.group(3)}>) '
            f"{m.group(2)}<{m.group(3)}>;",
            self.text,
        )
        self.refuse()
        self.kernels = [Kernel(self.source, self.text, match) for match in KERNEL.finditer(self.text)]
        for match in MEMORY.finditer(self.text):
            if not any(k.begin < match.start() < k.end for k in self.kernels):
                where = self.source.line(self.text, match.start())
                raise Refused(f"{where}: threadgroup memory '{match.group(2)}' is declared outside a kernel")
        self.instances = [(m.group(1), " ".join(m.group(2).split())) for m in INSTANCE.finditer(self.text)]
        for host, expression in self.instances:
            if re.match(r"\w+", expression).group(0) not in [k.name for k in self.kernels]:
                raise Refused(f"{path}: host_name {host}: there is no kernel {expression}")
        self.instances += [(k.name, k.name) for k in self.kernels if not k.template]
        if not self.instances:
            raise Refused(f"{path}: has no kernel with a host_name")
        self.constants = [m.groups() for m in CONSTANT.finditer(self.text)]

    def refuse(self):
        for word, why in REFUSED.items():
            match = re.search(rf"(?<![\w.]){word}\b(?!\w)", self.text)
            if match and not self.text[: match.start()].rsplit("\n", 1)[-1].startswith("#"):
                raise Refused(f"{self.source.line(self.text, match.start())}: {word}: {why}")

    def kernel(self, expression):
        name = re.match(r"\w+", expression).group(0)
        return next(k for k in self.kernels if k.name == name)

    def uses(self, kernel, name):
        """Does the kernel need this function constant, itself or in functions outside kernels?"""
        outside = CONSTANT.sub("", self.text)
        for other in self.kernels:
            if other is not kernel:
                outside = outside.replace(other.body, "")
        return bool(re.search(rf"\b{name}\b", outside))

    def translated(self, memory, constant, space, after_instances=""):
        """The text with kernels made functions; `memory`, `constant` and `space` say how their namesakes are written."""
        out, at = [], 0
        for k in self.kernels:
            out.append(self.text[at : k.keyword])
            declarations = ",".join(p.declaration for p in k.parameters)
            body = MEMORY.sub(memory, self.text[k.begin : k.end + 1])
            out.append(f"static void {k.name}({declarations}){self.text[k.close + 1 : k.begin]}{body}")
            at = k.end + 1
        text = "".join(out) + self.text[at:]
        text = INSTANCE.sub(lambda m: blank(m.group(0)), text)
        text = CONSTANT.sub(constant, text)
        return space(text)


def erase_spaces(text):
    """Address spaces mean nothing to the emulator. What is `constant` outside functions is static."""
    opened, out, at = [], [], 0  # opened: is the brace a namespace's?
    for match in re.finditer(r"(?:\bnamespace\s+\w+\s*)?[{}]|\b(?:device|constant|threadgroup|thread)\b", text):
        word = match.group(0)
        if word[-1] == "{":
            opened.append(word != "{")
        elif word == "}" and opened:
            opened.pop()
        if word[-1] in "{}":
            continue
        out.append(text[at : match.start()])
        before = text[: match.start()].rstrip()
        outside = word == "constant" and all(opened) and (not before or before[-1] in ';{}"')
        out.append("static const" if outside else "")
        at = match.end()
    return "".join(out) + text[at:]


def run(path, name):
    file = File(path)
    # Inside metal, so that its functions hide the C library's of the same name.
    head = f'#include "metal_stdlib.h"\nnamespace metal::kernels_of_{name}\n{{\n'
    text = file.translated(
        lambda m: f"METAL_EMULATOR_MEMORY_OF({m.group(1)}, {m.group(2)}, {m.group(3).strip()});",
        lambda m: f"static thread_local {m.group(1)} {m.group(2)};",
        erase_spaces,
    )
    tail = [f'\n#line 1 "{name}, generated"']
    rows = []
    for number, (host, expression) in enumerate(file.instances):
        kernel = file.kernel(expression)
        arguments, buffers = [], 0
        for p in kernel.parameters:
            if p.kind == "buffer":
                buffers |= 1 << int(p.index)
                arguments.append(f"b->buffer({p.index})")
            elif p.kind == "threadgroup":
                arguments.append(f"b->threadgroup({p.index})")
            else:
                arguments.append(f"metal_emulator::{p.kind}()")
        tail.append(
            f"static void entry_{number}([[maybe_unused]] const metal_emulator::binding *b)\n"
            f"{{\n    {expression}({', '.join(arguments)});\n}}"
        )
        dynamic = sum(1 << int(p.index) for p in kernel.parameters if p.kind == "threadgroup")
        used = sum(1 << i for i, (_, n, _) in enumerate(file.constants) if file.uses(kernel, n))
        rows.append(f'    {{"{host}", entry_{number}, {buffers}u, {dynamic}u, {used}u}},')
    constants = [
        f'    {{"{n}", sizeof({t}), [](const void *v) {{ __builtin_memcpy(&{n}, v, sizeof({t})); }}}},'
        for t, n, _ in file.constants
    ]
    tail += ["const metal_emulator::entry entries_of_file[] = {", *rows, "};"]
    if constants:
        tail += ["const metal_emulator::function_constant constants_of_file[] = {", *constants, "};"]
    tail.append(f"}} // namespace metal::kernels_of_{name}\nusing namespace metal::kernels_of_{name};")
    shown = ("constants_of_file" if constants else "nullptr", len(constants))
    tail.append(
        f'extern const metal_emulator::file metal_file_{name};\nconst metal_emulator::file metal_file_{name} = {{"{path}", '
        f"entries_of_file, {len(rows)}, {shown[0]}, {shown[1]}}};\n"
    )
    return head + text + "\n".join(tail)


def qualify_spaces(text):
    text = re.sub(
        r"\b(device|constant|threadgroup)\b",
        lambda m: f"__attribute__((address_space({SPACES[m.group(1)]})))",
        re.sub(r"\bthread\b", "", text),
    )
    return CONSTRUCTED.sub(lambda m: f"metal_make<{m.group(1)}>(", text)


def address_spaces(path):
    file = File(path)
    text = file.translated(
        lambda m: f"static threadgroup {m.group(1)} {m.group(2)}{m.group(3)};",
        lambda m: f"static {m.group(1)} {m.group(2)};",
        qualify_spaces,
    )
    uses = [f"[[maybe_unused]] static auto *const use_{i} = &{e};" for i, (_, e) in enumerate(file.instances)]
    return '#include "address_spaces.h"\n' + text + "\n" + "\n".join(uses) + "\n"


def library(name, files):
    lines = ['#include "runtime.h"', ""]
    lines += [f"extern const metal_emulator::file metal_file_{f};" for f in files]
    lines += [f"static const metal_emulator::file *const files[] = {{{', '.join('&metal_file_' + f for f in files)}}};"]
    lines += [f'extern "C" const metal_emulator_library {name};']
    lines += [f"const metal_emulator_library {name} = {{files, {len(files)}}};", ""]
    return "\n".join(lines)


def c_string(text):
    lines = [line.rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#line")]
    return "\n".join('    "' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"' for line in lines) or '    ""'


def names(kind, values):
    return f"(const char *const[]){{{', '.join(chr(34) + v + chr(34) for v in values)}{', ' if values else ''}NULL}}"


def sources(paths):
    """MLX writes a kernel's head itself, from the names and types of inputs and outputs; built-ins are parameters of
    the same name as their attribute, and template parameters are types, whole numbers and truth values."""
    rows, seen = [], 0
    out = ['#include "kernels/metal_kernels.h"', "", "#include <stddef.h>", ""]
    for path in paths:
        file = File(path)
        header = file.text[: min(k.start for k in file.kernels)]
        out.append(f"static const char header_{seen}[] =\n{c_string(header)};\n")
        for k in file.kernels:
            buffers = [p for p in k.parameters if p.kind == "buffer"]
            inputs = [p.name for p in buffers if p.const]
            for i, p in enumerate(buffers):
                if int(p.index) != i or p.const != (i < len(inputs)):
                    raise Refused(f"{path}: {k.name}: buffers are numbered in order, inputs (const) before outputs")
            for p in k.parameters:
                if p.kind == "threadgroup" or p.kind in BUILTINS and p.name != p.kind:
                    raise Refused(f"{path}: {k.name}: [[{p.kind}]] {p.name}: MLX gives built-ins the attribute's name")
                wanted = {3: "uint3", 1: "uint"}.get(BUILTINS.get(p.kind))
                if wanted and not re.search(rf"\b{wanted}\b", p.declaration):
                    raise Refused(f"{path}: {k.name}: MLX makes {p.kind} a {wanted}")
            template = [" ".join(t.split()) for t in split_list(k.template)]
            outputs = [p.name for p in buffers if not p.const]
            out.append(f"static const char body_{k.name}[] =\n{c_string(k.body)};\n")
            rows.append(
                f'    {{"{k.name}", header_{seen}, body_{k.name}, {names("inputs", inputs)},\n     '
                f'{names("outputs", outputs)}, {names("template", template)}}},'
            )
        seen += 1
    out += ["const metal_kernel_source metal_kernel_sources[] = {", *rows, "    {0},", "};", ""]
    return "\n".join(out)


def main(arguments):
    try:
        if len(arguments) == 3 and arguments[0] == "run":
            sys.stdout.write(run(arguments[1], arguments[2]))
        elif len(arguments) == 2 and arguments[0] == "address-spaces":
            sys.stdout.write(address_spaces(arguments[1]))
        elif len(arguments) > 2 and arguments[0] == "library":
            sys.stdout.write(library(arguments[1], arguments[2:]))
        elif len(arguments) > 1 and arguments[0] == "sources":
            sys.stdout.write(sources(arguments[1:]))
        else:
            sys.stderr.write(__doc__)
            return 2
    except (Refused, OSError) as problem:
        sys.stderr.write(f"translate.py: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
