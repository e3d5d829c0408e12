#!/usr/bin/env python3
"""Regenerates the reference logits of the families with transformers and compares them with the committed ones.

    check_families.py [NAME…]          compare; exit 1 on a difference
    check_families.py --write [NAME…]  write tests/oracle/families/NAME.{json,tensors,bin} anew

NAME.json is the config.json of a tiny model as transformers saves it, NAME.tensors lists its tensors (see families.py),
NAME.bin holds ids and logits as check_logits.py packs them. NAME.ahead and NAME.again hold in the same form what a head
for multi-token prediction gives (mtp.py).
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
import families  # noqa: E402

FOLDER = os.path.join(check_logits.ROOT, "tests", "oracle", "families")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    from transformers.utils import logging

    logging.disable_progress_bar()
    failed = False
    for name in options.names or families.FAMILIES:
        config, listing, ids, logits, ahead = families.make(name)
        data = check_logits.pack(ids, logits, families.kind(name))
        path = os.path.join(FOLDER, name)
        if options.write:
            os.makedirs(FOLDER, exist_ok=True)
            extra = ((".pooling", families.pooling_config(name).encode()),) if families.pooling(name) else ()
            if "lora" in families.FAMILIES[name][1]:
                extra += ((".adapter", families.adapter_config(name).encode()),)
            if ahead is not None:
                extra += tuple((end, check_logits.pack(ids, rows)) for end, rows in zip((".ahead", ".again"), ahead))
            for end, content in ((".json", config.encode()), (".tensors", listing.encode()), (".bin", data)) + extra:
                with open(path + end, "wb") as f:
                    f.write(content)
        with open(path + ".bin", "rb") as f:
            old_ids, old = check_logits.kept(f.read())
        with open(path + ".tensors") as f:
            same = f.read() == listing
        committed = check_logits.nmse(old, check_logits.kept(data)[1]) if np.array_equal(old_ids, ids) else float("inf")
        for end, rows in zip((".ahead", ".again"), () if ahead is None else ahead):
            with open(path + end, "rb") as f:
                old_ids, old = check_logits.kept(f.read())
            found = check_logits.nmse(old, check_logits.kept(check_logits.pack(ids, rows))[1])
            committed = max(committed, found if np.array_equal(old_ids, ids) else float("inf"))
        failed |= not (same and committed < check_logits.TOLERANCE)
        print(f"{name:20} logits' spread {logits.std():8.3f}  NMSE {committed:.2e}{'' if same else '  other tensors'}")
    if failed:
        raise SystemExit("the reference of a family differs from what is committed")


if __name__ == "__main__":
    main()
