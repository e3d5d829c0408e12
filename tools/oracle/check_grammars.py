#!/usr/bin/env python3
"""Sentences that the grammars of tests/data/grammars let through, judged by the package jsonschema.

    check_grammars.py [--count N]     sentences for each schema (1,000)

Every sentence must be JSON and valid against its schema, formats included. The sentences are random walks over the real
vocabulary (tests/oracle/test_grammars.c), so that they go where a model would not.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct.Q4_1"


def sentences(program, schema, count):
    """The texts that a schema's grammar generates."""
    run = subprocess.run([program, MODEL, schema, str(count), "1"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line)["text"] for line in run.stdout.split("\n") if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    found = sorted(ROOT.glob("build/**/oracle_test_grammars"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit("build/**/oracle_test_grammars is missing; run `make oracle`, which builds it")
    n_bad = n_all = 0
    for path in sorted((ROOT / "tests/data/grammars").glob("*.json")):
        validator = jsonschema.Draft202012Validator(json.loads(path.read_text()),
                                                    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        texts = sentences(found[-1], path, count)
        if len(texts) != count:
            raise SystemExit(f"{path.name}: {len(texts)} sentences, not {count}")
        for text in texts:
            n_all += 1
            try:
                validator.validate(json.loads(text))
            except (ValueError, jsonschema.ValidationError) as error:
                n_bad += 1
                print(f"{path.name}: {text!r}: {str(error).splitlines()[0]}")
    print(f"grammars: {n_all} sentences, {n_bad} invalid")
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
