"""bench/apple_model.py: the tables in docs/apple.md are what it prints, and its bytes are those of real files."""
import importlib.util
import os
import sys
import unittest

import support

sys.dont_write_bytecode = True
PROGRAM = os.path.join(support.ROOT, "bench", "apple_model.py")
SPEC = importlib.util.spec_from_file_location("apple_model", PROGRAM)
model = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(model)


class AppleModel(unittest.TestCase):
    def test_the_tables_of_the_documents_are_what_it_prints(self):
        with open(os.path.join(support.ROOT, "docs", "apple.md"), encoding="utf-8") as file:
            text = file.read()
        found = text.split(model.BEGIN + "\n")[1].split("\n" + model.END)[0]
        self.assertEqual(found, "\n".join(model.tables()), "run bench/apple_model.py --write")

    def test_its_bytes_are_those_of_published_files(self):
        for name, file_format, gigabytes in (
            ("TinyLlama-1.1B", "Q4_0", 0.637), ("TinyLlama-1.1B", "Q4_K_M", 0.668), ("TinyLlama-1.1B", "Q8_0", 1.17),
            ("Llama-3-8B", "Q4_0", 4.66), ("Llama-3-8B", "Q4_K_M", 4.92), ("Llama-3-8B", "Q8_0", 8.54),
            ("Llama-3-8B", "F16", 16.07),
        ):  # fmt: skip
            with self.subTest(name, file_format=file_format):
                self.assertAlmostEqual(model.file_bytes(name, file_format) / 1e9 / gigabytes, 1, delta=0.005)

    def test_nothing_passes_the_bandwidth(self):
        costs = model.layer_costs()
        for chip in model.CHIPS:
            for file_format in model.FORMATS:
                expected = model.expected(chip, "Llama-3-8B", file_format, costs)
                self.assertLess(expected, model.STREAM * model.bound(chip, "Llama-3-8B", file_format))
        for chip, name, file_format, _, speed in model.PUBLISHED:
            self.assertLess(speed, model.bound(chip, name, file_format))


if __name__ == "__main__":
    unittest.main()
