"""tests/oracle/families: what the tiny models are made of is what tools/oracle makes, without the reference's programs."""
import glob
import json
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "tests", "oracle", "families")
sys.path.insert(0, os.path.join(ROOT, "tools", "oracle"))
import listing  # noqa: E402


def committed():
    """(name, model_type, lines) of each family"""
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.tensors"))):
        name = os.path.basename(path).removesuffix(".tensors")
        with open(os.path.join(FOLDER, name + ".json"), encoding="utf-8") as file:
            model_type = json.load(file)["model_type"]
        with open(path, encoding="utf-8") as file:
            yield name, model_type, file.read().splitlines()


def expected(model_type, key, shape):
    if "lora_embedding" in key and key.endswith("_A"):
        return 0.0, 1.0
    if "_B" in key.split("lora")[-1] and "lora" in key:
        return 0.0, listing.f32(0.4)
    if "lora" in key or "_Dense/" in key:
        return 0.0, listing.unit(shape[-1])
    return listing.spread(model_type, key, shape)


class Listings(unittest.TestCase):
    def test_each_tensor_is_drawn_as_the_generator_draws_it(self):
        found = 0
        for name, model_type, lines in committed():
            with self.subTest(name):
                self.assertEqual(lines[0], f"seed {listing.seed(name)}")
                other = []
                for line in lines[1:]:
                    key, _, _, *shape = line.split(" ")
                    shape = tuple(int(n) for n in shape if n)
                    if listing.line(key, shape, *expected(model_type, key, shape)) != line:
                        other.append(line)
                self.assertEqual(other, [], f"{name}: tools/oracle/check_families.py --write {name} makes others")
                found += len(lines) - 1
        self.assertGreater(found, 1000)


if __name__ == "__main__":
    unittest.main()
