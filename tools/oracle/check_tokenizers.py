#!/usr/bin/env python3
"""Compares token ids with the reference packages on some million generated strings (tools/oracle/tokenizer_compare.py), and
the frozen ids of tests/data/tokenizers with what the packages give now.

    check_tokenizers.py [--count N]     strings for each real vocabulary; the small trained ones take a part of it
"""
import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tokenizer_compare  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def models_folder():
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.environ.get("MLXR_MODELS") or os.path.join(data, "mlxr", "models")


def main():
    found = sorted(ROOT.glob("build/**/tokenize_lines"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit("build/**/tokenize_lines is missing; run `make oracle`, which builds it")
    counts = [] if "--count" in sys.argv else ["--count", "200000"]
    sys.argv[1:] = ["--program", str(found[-1]), "--models", models_folder(), *counts, *sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        models = argparse.Namespace(models=models_folder())
        current = tokenizer_compare.frozen_is_current(models, ROOT / "tests" / "data" / "tokenizers", folder)
    return tokenizer_compare.main() or not current


if __name__ == "__main__":
    sys.exit(main())
