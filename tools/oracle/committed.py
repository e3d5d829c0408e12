"""Reference files that are committed: made anew, written or compared; check_families.py and check_contexts.py run on it.

A case NAME has several files NAME.ENDING in one folder. Those of logits (check_logits.pack) are compared by their ids and the
NMSE of their rows, one of text must be the same to the letter, the others are only written.
"""
import argparse
import os
from typing import NamedTuple

import numpy as np

import check_logits


class Case(NamedTuple):
    files: dict  # ending: bytes
    exact: str  # the ending of the file that must be the same
    note: str  # what to show of it


def difference(path, data):
    """NMSE between a committed file of logits and this one; infinite where the ids differ"""
    with open(path, "rb") as f:
        old_ids, old = check_logits.kept(f.read())
    ids, new = check_logits.kept(data)
    return check_logits.nmse(old, new) if np.array_equal(old_ids, ids) else float("inf")


def check(name, case, folder, write):
    """Writes the case's files if asked to, compares them with what the folder has, shows the result; True: they agree"""
    path = os.path.join(folder, name)
    if write:
        os.makedirs(folder, exist_ok=True)
        for ending, content in case.files.items():
            with open(path + ending, "wb") as f:
                f.write(content)
    with open(path + case.exact, "rb") as f:
        same = f.read() == case.files[case.exact]
    found = [difference(path + ending, data) for ending, data in case.files.items() if check_logits.is_packed(data)]
    nmse = float(np.max(found))  # NaN where one is, unlike Python's max
    print(f"{name:22} {case.note}  NMSE {nmse:.2e}{'' if same else f'  another {case.exact}'}")
    return same and nmse < check_logits.TOLERANCE


def run(doc, folder, names, make):
    """The program: `make(name)` gives the Case of a name; names: all there are"""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    from transformers.utils import logging

    logging.disable_progress_bar()
    if not all([check(name, make(name), folder, options.write) for name in options.names or names]):
        raise SystemExit(f"a reference differs from what is committed in {os.path.relpath(folder, check_logits.ROOT)}")
