#!/usr/bin/env python3
"""Compares the template engine with apply_chat_template() of transformers: the families' templates over our conversations, the
frozen results of tests/unit/text/templates, and random templates. Exit 1 on a difference. More with template_compare.py.

    check_templates.py [--program FILE] [--cases N]
"""
import argparse
import os
import pathlib
import sys
import tempfile
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
    """Whether the committed results are, byte for byte, what these packages make of the cases and templates."""
    with tempfile.TemporaryDirectory() as folder:
        compare.freeze(folder, TEMPLATES)
        made = sorted(pathlib.Path(folder).iterdir())
        stale = [path.name for path in made if path.read_bytes() != (TEMPLATES / path.name).read_bytes()]
    print(f"{len(made)} frozen files, {len(stale)} not as these packages make them: {' '.join(stale) or 'none'}", flush=True)
    return not stale


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
