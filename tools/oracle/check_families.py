#!/usr/bin/env python3
"""Regenerates the reference logits of the families with transformers and compares them with the committed ones.

    check_families.py [NAME…]          compare; exit 1 on a difference
    check_families.py --write [NAME…]  write tests/oracle/families/NAME.{json,tensors,bin} anew

NAME.json is the config.json of a tiny model as transformers saves it, NAME.tensors lists its tensors (see families.py),
NAME.bin holds ids and logits as check_logits.py packs them. NAME.ahead and NAME.again hold in the same form what a head
for multi-token prediction gives (mtp.py).
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_logits
import committed
import families

FOLDER = os.path.join(check_logits.ROOT, "tests", "oracle", "families")


def make(name):
    config, listing, ids, logits, ahead = families.make(name)
    files = {".json": config.encode(), ".tensors": listing.encode(), ".bin": check_logits.pack(ids, logits, families.kind(name))}
    if families.pooling(name):
        files[".pooling"] = families.pooling_config(name).encode()
    if "lora" in families.FAMILIES[name][1]:
        files[".adapter"] = families.adapter_config(name).encode()
    for ending, rows in zip((".ahead", ".again"), () if ahead is None else ahead):
        files[ending] = check_logits.pack(ids, rows)
    return committed.Case(files, ".tensors", f"logits' spread {logits.std():8.3f}")


if __name__ == "__main__":
    committed.run(__doc__, FOLDER, families.FAMILIES, make)
