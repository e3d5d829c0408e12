"""Prometheus's text format, read strictly: what the tests of metrics share. Standard library only.

A scrape is a Scrape: types by metric name, samples by (name, labels). Anything the format does not allow is an
AssertionError that names the line.
"""
import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')
SUFFIXES = ("_bucket", "_sum", "_count")


class Scrape:
    def __init__(self, text):
        self.types, self.helps, self.samples = {}, {}, {}
        assert text.endswith("\n"), "the text does not end with a line feed"
        for number, line in enumerate(text[:-1].split("\n"), 1):
            try:
                self.read(line)
            except (AssertionError, ValueError) as problem:
                raise AssertionError(f"line {number}: {line!r}: {problem}") from None
        self.check_histograms()

    def read(self, line):
        if line.startswith("# HELP "):
            name, text = line[7:].split(" ", 1)
            assert name not in self.helps, "a second help"
            self.helps[name] = text
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name not in self.types and kind in ("counter", "gauge", "histogram")
            self.types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, "not a sample"
            name, labels, value = match.groups()
            family = self.family(name)
            assert family == list(self.types)[-1], "stands apart from its family"
            pairs = LABEL.findall(labels or "")
            assert "".join(f'{k}="{v}",' for k, v in pairs)[:-1] == (labels or ""), "labels"
            key = (name, tuple(sorted(pairs)))
            assert key not in self.samples, "a second time"
            self.samples[key] = float(value)

    def family(self, name):
        for suffix in SUFFIXES:
            if name.endswith(suffix) and self.types.get(name[: -len(suffix)]) == "histogram":
                return name[: -len(suffix)]
        assert self.types.get(name) in ("counter", "gauge"), "no type was given"
        return name

    def check_histograms(self):
        for (name, labels), count in self.samples.items():
            if not name.endswith("_count") or self.types.get(name[:-6]) != "histogram":
                continue
            buckets = sorted((float(dict(l)["le"]), v) for (n, l), v in self.samples.items()
                             if n == name[:-6] + "_bucket" and set(labels) <= set(l))
            values = [v for _, v in buckets]
            assert values == sorted(values), f"{name}: buckets fall"
            assert buckets and math.isinf(buckets[-1][0]) and buckets[-1][1] == count, f"{name}: no +Inf of {count}"

    def value(self, name, **labels):
        """Of the one sample with these labels among its own; 0 where there is none."""
        found = [v for (n, l), v in self.samples.items() if n == name and set(labels.items()) <= set(l)]
        return sum(found)
