#!/usr/bin/env python3
"""Regenerates the references of contexts beyond the trained one with transformers and compares them with the committed ones.

    check_contexts.py [NAME…]          compare; exit 1 on a difference
    check_contexts.py --write [NAME…]  write tests/oracle/contexts/NAME.{options,bin} anew

NAME.options has the family of tests/oracle/families and what its model is loaded with: scaling, scale, base, original context,
context. NAME.bin holds ids and logits as check_logits.py packs them.
"""
import argparse
import os
import sys

import numpy as np

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_logits  # noqa: E402
import contexts  # noqa: E402
import families  # noqa: E402

FOLDER = os.path.join(check_logits.ROOT, "tests", "oracle", "contexts")


def unchanged(c, ids):
    """What the family gives without the options"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        families.write_folder(c["family"], folder)
        return families.reference(folder, ids, c["family"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    from transformers.utils import logging

    logging.disable_progress_bar()
    failed = False
    for name in options.names or contexts.CASES:
        line, ids, logits = contexts.make(name)
        data = check_logits.pack(ids, logits, families.kind(contexts.CASES[name]["family"]))
        path = os.path.join(FOLDER, name)
        if options.write:
            os.makedirs(FOLDER, exist_ok=True)
            for end, content in ((".options", line.encode()), (".bin", data)):
                with open(path + end, "wb") as f:
                    f.write(content)
        with open(path + ".bin", "rb") as f:
            old_ids, old = check_logits.kept(f.read())
        with open(path + ".options") as f:
            same = f.read() == line
        committed = check_logits.nmse(old, check_logits.kept(data)[1]) if np.array_equal(old_ids, ids) else float("inf")
        moved = check_logits.nmse(logits, unchanged(contexts.CASES[name], ids))
        failed |= not (same and committed < check_logits.TOLERANCE)
        print(f"{name:22} moved by {moved:.1e}  NMSE {committed:.2e}{'' if same else '  other options'}")
    if failed:
        raise SystemExit("the reference of a context differs from what is committed")


if __name__ == "__main__":
    main()
