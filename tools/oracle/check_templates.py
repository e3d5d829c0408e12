#!/usr/bin/env python3
"""Compares the template engine with Jinja2 as transformers sets it up: our templates over our conversations, the frozen
results of tests/unit/text/templates, and random templates. Exit 1 on a difference. More with template_compare.py.

    check_templates.py [--program FILE] [--cases N]
"""
import argparse
import json
import os
import pathlib
import sys
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import template_compare as compare  # noqa: E402
import template_fuzz  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TEMPLATES = ROOT / "tests" / "unit" / "text" / "templates"


def find_program():
    found = sorted(ROOT.glob("build/**/render_template"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise SystemExit("build/**/render_template is missing; run `make oracle`, which builds it")
    return str(found[-1])


def frozen_is_current():
    """Whether the committed results are what this Jinja2 makes of the cases."""
    stale = 0
    rows = json.loads((TEMPLATES / "cases.json").read_text(encoding="utf-8"))["cases"]
    sources = list(compare.case_lines(TEMPLATES / "cases.txt"))
    if [row["template"] for row in rows] != sources:
        print("cases.json is not made from cases.txt")
        stale += 1
    for row in rows:
        stale += compare.theirs(row["template"], compare.CASE_VARIABLES).get("text") != row.get("text")
    print(f"{len(rows)} frozen cases, {stale} not as this Jinja2 renders them")
    return stale == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program")
    parser.add_argument("--cases", type=int, default=5000, help="random templates")
    args = parser.parse_args()
    warnings.simplefilter("ignore", SyntaxWarning)  # Jinja2 compiles odd templates to odd Python
    ours = compare.Ours(args.program or find_program())
    results = [frozen_is_current(), compare.compare_cases(ours, TEMPLATES / "cases.txt"),
               compare.compare_real(ours, TEMPLATES, 1),
               template_fuzz.run(ours, compare.theirs, compare.same, args.cases, 1, 10)]
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
