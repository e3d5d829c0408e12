"""Mixtures whose experts do not all stay in memory."""
import os
import re
import resource
import subprocess
import sys
import unittest

import support

SYNTH = os.path.join(support.ROOT, "bench", "synth")
SHAPE = "layers=6,width=512,ffn=1024,heads=8,kv_heads=2,vocab=512,experts=32,used=2,ctx=512"
EXPERT = 3 * 512 * 1024 * 18 // 32  # bytes, Q4_0
MIB = 1 << 20
NOTE = re.compile(r"experts: (\S+ \S+) of (\S+ \S+) kept, budget (\S+ \S+), locked (\S+ \S+); (\d+) of (\d+) uses found; (\S+ \S+) read")


def bytes_of(text):
    number, unit = text.split()
    return float(number) * {"bytes": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}[unit]


class Experts(support.CliTest):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.models, "mixture.gguf")
        subprocess.run([sys.executable, SYNTH, SHAPE, "pure:Q4_0", self.path], check=True, stdout=subprocess.DEVNULL)
        self.text = os.path.join(self.models, "text.txt")
        with open(self.text, "w", encoding="utf-8") as file:
            file.write("".join(f"{i * i} steps, then {chr(97 + i % 26) * (i % 5 + 1)}. " for i in range(200)))

    def generate(self, *options):
        """Tokens one after another from a sampler with a seed, and what was noted."""
        result = self.succeed("run", self.path, "It was", "--raw", "--temp", "1.5", "--seed", "7", "-n", "200", "--threads", "2",
                              "--kv-bytes", "16M", "-v", *options)
        return result.out, result.err

    def most_resident(self, *options):
        """The most bytes that were resident while all experts are used, layer after layer."""
        arguments = [support.MLXR, "perplexity", self.path, "--file", self.text, "--ctx", "128", "--json", "--threads", "2", *options]
        # A process of its own waits for it: the system counts what a parent had before among its child's.
        code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, env=self.environment())
        return int(done.stdout) * 1024

    def test_a_budget_changes_no_token_and_its_uses_are_counted(self):
        free, said = self.generate("--expert-bytes", "0")
        self.assertNotIn("experts:", said)
        few, said = self.generate("--expert-bytes", "16M")
        self.assertEqual(few, free)
        hot, whole, budget, locked, found, uses, _ = NOTE.search(said).groups()
        self.assertEqual(bytes_of(budget), 16 * MIB)
        self.assertAlmostEqual(bytes_of(whole), 6 * 32 * EXPERT, delta=MIB)
        self.assertLessEqual(bytes_of(hot), 16 * MIB * 1.01)
        self.assertLessEqual(bytes_of(locked), bytes_of(hot) * 1.01)
        self.assertGreaterEqual(int(uses), 199 * 6 * 2)  # the prompt's passes may share experts
        self.assertTrue(0 < int(found) < int(uses), said)

    @unittest.skipUnless(sys.platform == "linux", "other systems leave clean pages of files where they are")
    def test_what_falls_out_of_the_budget_leaves_memory(self):
        free, few = self.most_resident("--expert-bytes", "0"), self.most_resident("--expert-bytes", "4M")
        self.assertGreater(free, 64 * MIB)  # a good part of the 162 MiB is used
        self.assertLess(few, free - 24 * MIB)

    def test_perplexity_is_the_same_to_the_last_bit_with_hardly_any_budget(self):
        found = [self.succeed("perplexity", self.path, "--file", self.text, "--ctx", "128", "--json", "--expert-bytes", size).json["ppl"]
                 for size in ("0", "1", "4M", "64M")]
        self.assertEqual(len(set(found)), 1, found)

    def test_experts_that_fit_are_left_alone(self):
        for options in ([], ["--expert-bytes", "1G"]):
            self.assertNotIn("experts:", self.generate(*options)[1])

    def test_a_budget_works_where_no_memory_may_be_locked(self):
        few, said = self.generate("--expert-bytes", "16M")
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, limits[1]))
        try:
            again, said = self.generate("--expert-bytes", "16M")
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)
        self.assertEqual(few, again)
        if os.geteuid() != 0:
            self.assertEqual(bytes_of(NOTE.search(said).group(4)), 0)


if __name__ == "__main__":
    support.main()
