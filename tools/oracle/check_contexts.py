#!/usr/bin/env python3
"""Regenerates the references of contexts beyond the trained one with transformers and compares them with the committed ones.

    check_contexts.py [NAME…]          compare; exit 1 on a difference
    check_contexts.py --write [NAME…]  write tests/oracle/contexts/NAME.{options,bin} anew

NAME.options has the family of tests/oracle/families and what its model is loaded with: scaling, scale, base, original context,
context, and YaRN's numbers where they are given. NAME.bin holds ids and logits as check_logits.py packs them.
"""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_logits
import committed
import contexts
import families

FOLDER = os.path.join(check_logits.ROOT, "tests", "oracle", "contexts")


def unchanged(family, ids):
    """What the family gives without the options"""
    with tempfile.TemporaryDirectory() as folder:
        families.write_folder(family, folder)
        return families.reference(folder, ids, family)


def make(name):
    line, ids, logits = contexts.make(name)
    family = contexts.CASES[name]["family"]
    moved = check_logits.nmse(logits, unchanged(family, ids))
    files = {".options": line.encode(), ".bin": check_logits.pack(ids, logits, families.kind(family))}
    return committed.Case(files, ".options", f"moved by {moved:.1e}")


if __name__ == "__main__":
    committed.run(__doc__, FOLDER, contexts.CASES, make)
