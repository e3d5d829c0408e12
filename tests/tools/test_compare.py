"""bench/compare and bench/tables, with commands that print what was recorded from real ones."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

BENCH = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bench")

# What each prints, shortened to the fields that matter and a few that do not.
OURS = [
    {"test": "pp512", "tokens_per_s": 1000.0, "min": 990.0, "max": 1010.0, "batch_invariant": True},
    {"test": "tg64", "tokens_per_s": 200.0, "min": 1, "max": 2},
    {"test": "tg64", "tokens_per_s": 150.0, "min": 1, "max": 2, "depth": 2048},
    {"test": "batch", "tokens_per_s": 640.0, "batch": 8, "n_prompt": 128, "n_generate": 64},
]
LLAMA_BENCH = [
    {"build_commit": "unknown", "build_number": 11434, "n_threads": 2, "n_prompt": 512, "n_gen": 0, "n_depth": 0,
     "avg_ns": 710465762, "avg_ts": 250.0, "samples_ts": [249.0, 251.0]},
    {"build_commit": "unknown", "n_prompt": 0, "n_gen": 64, "n_depth": 0, "avg_ts": 100.0},
    {"build_commit": "unknown", "n_prompt": 0, "n_gen": 64, "n_depth": 2048, "avg_ts": 100.0},
]
BATCHED = [{"n_kv_max": 4096, "pp": 128, "tg": 64, "pl": 8, "n_kv": 1536, "t_pp": 1.0, "speed_pp": 1024.0, "t_tg": 3.2,
            "speed_tg": 160.0, "t": 4.2, "speed": 365.7}]
SWEEP = [{"n_kv_max": 8704, "pp": 512, "tg": 64, "n_kv": n_kv, "t_pp": 1.0, "speed_pp": 500.0, "t_tg": 1.0,
          "speed_tg": speed} for n_kv, speed in ((0, 80.0), (2048, 60.0))]


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-compare-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def command(self, name, lines, faster=1.0):
        """A program that prints these lines among others; its figures grow by `faster` from run to run."""
        path = os.path.join(self.folder, name + ".py")
        log = os.path.join(self.folder, "order")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                "import json, sys\n"
                f"open({log!r}, 'a').write({name!r} + ' ')\n"
                f"runs = open({log!r}).read().split().count({name!r})\n"
                "print('| a table, too |')\n"
                f"for line in json.loads({json.dumps(json.dumps(lines))}):\n"
                "    for key in ('tokens_per_s', 'avg_ts', 'speed_tg'):\n"
                f"        line[key] = line[key] * {faster} ** (runs - 1) if key in line else 0\n"
                "        line = {k: v for k, v in line.items() if v != 0 or k != key}\n"
                "    print(json.dumps(line))\n")
        return f"{name}={sys.executable} {path}"

    def run_tool(self, tool, *arguments):
        done = subprocess.run([sys.executable, os.path.join(BENCH, tool), *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_runs_alternate_and_ratios_are_taken_within_a_round(self):
        out = os.path.join(self.folder, "out.json")
        code, text, err = self.run_tool("compare", "--rounds", "3", "--out", out, "--title", "a test", self.command(
            "mlxr", OURS, 2.0), self.command("llama", LLAMA_BENCH, 2.0), self.command("batched", BATCHED),
            self.command("sweep", SWEEP, 2.0))
        self.assertEqual(code, 0, err)
        with open(os.path.join(self.folder, "order"), encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["mlxr", "llama", "batched", "sweep"] * 3)
        with open(out, encoding="utf-8") as file:
            result = json.load(file)
        self.assertEqual(len(result["rounds"]), 3)
        self.assertRegex(result["commands"]["mlxr"], r"^python[0-9.]* mlxr.py$")
        llama = result["ratios"]["llama"]
        self.assertEqual({test: (r["ratio"], r["min"], r["max"]) for test, r in llama.items()},
                         {"pp512": (4, 4, 4), "tg64": (2, 2, 2), "tg64@2048": (1.5, 1.5, 1.5)})
        self.assertEqual(result["ratios"]["batched"],
                         {"batch8": {"ratio": 8, "min": 4, "max": 16, "ours": 1280, "peer": 160}})
        self.assertEqual({test: r["ratio"] for test, r in result["ratios"]["sweep"].items()},
                         {"pp512": 4, "tg64": 2.5, "tg64@2048": 2.5})
        self.assertRegex(text, r"pp512 +2000.00 +500.00 +4.00 +4.00 +4.00")

        picture = os.path.join(self.folder, "out.svg")
        code, text, err = self.run_tool("tables", "--svg", picture, out)
        self.assertEqual(code, 0, err)
        self.assertIn("| tg64@2048 | 300.0 | 200.0 | 1.50 | 1.50 … 1.50 |", text)
        document = xml.dom.minidom.parse(picture)
        self.assertEqual(len(document.getElementsByTagName("rect")), 1 + 4)  # beside the better of two; batch8

    def test_the_table_of_a_batched_benchmark_is_read_too(self):
        path = os.path.join(self.folder, "table.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write("print('|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |')\n"
                       "print('|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|')\n"
                       "print('|   128 |     64 |    8 |   1536 |    1.369 |   748.25 |    2.386 |   160.00 |    3.755 |   409.10 |')\n")
        code, text, err = self.run_tool("compare", "--rounds", "1", self.command("mlxr", OURS), f"table={sys.executable} {path}")
        self.assertEqual(code, 0, err)
        self.assertRegex(text, r"batch8 +640.00 +160.00 +4.00 +4.00 +4.00")

    def test_the_better_of_several_peers_is_another_one_in_each_test(self):
        """A: 250 and 100 (and 100 at a depth); B: 500 and 50, the prompt ever faster."""
        other = [{"n_prompt": 512, "n_gen": 0, "avg_ts": 500.0}, {"n_prompt": 0, "n_gen": 64, "avg_ts": 50.0}]
        out = os.path.join(self.folder, "out.json")
        code, _, err = self.run_tool("compare", "--rounds", "2", "--out", out, self.command("mlxr", OURS), self.command(
            "A", LLAMA_BENCH), self.command("B", other, 2.0))
        self.assertEqual(code, 0, err)
        with open(out, encoding="utf-8") as file:
            better = json.load(file)["ratios"]["the better peer"]
        self.assertEqual({test: (r["min"], r["max"]) for test, r in better.items()}, {"pp512": (1, 2), "tg64": (2, 2)})

    def test_documents_are_made_from_the_latest_files(self):
        history, docs = os.path.join(self.folder, "history"), os.path.join(self.folder, "docs")
        os.makedirs(history)
        os.makedirs(os.path.join(docs, "images"))

        def keep(name, ours, **more):
            rate = {"ratio": ours / 100, "min": ours / 100, "max": ours / 100, "ours": ours, "peer": 100}
            with open(os.path.join(history, name), "w", encoding="utf-8") as file:
                json.dump({"what": "A test", "date": name[:10], "commit": "abc", "machine": {"cpu": "a CPU"}, "ours": "mlxr",
                           "commands": {"mlxr": "mlxr bench M.Q4_1.gguf", "llama.cpp": "llama-bench"},
                           "ratios": {"llama.cpp": {"pp512": rate}}, **more}, file)

        keep("2026-01-02-compare-m.json", 200)
        keep("2026-01-03-compare-m.json", 300)
        with open(os.path.join(history, "2026-01-01-accuracy-m.json"), "w", encoding="utf-8") as file:
            figures = {"ppl": 14.2, "ppl_change_pct": 0.01, "kld_p99": 1e-3, "top1_agreement": 0.99}
            json.dump({"what": "x", "date": "2026-01-01", "commit": None, "machine": {"cpu": "a CPU"}, "accuracy": [
                {"model": "M.Q4_1", "reference": {"ppl": 14.1}, "rows": [
                    {"engine": "mlxr", "mask": "", "kld_mean": 6e-7, **figures},
                    {"engine": "llama.cpp", "kld_mean": 4e-3, **figures}]}]}, file)
        document = os.path.join(docs, "performance.md")
        with open(document, "w", encoding="utf-8") as file:
            file.write("before\n<!-- figures: tables *-compare-m.json -->\nold\n<!-- end -->\nbetween\n"
                       "<!-- figures: plot m.svg *-compare-m.json -->\n<!-- end -->\nbehind\n")
        code, text, err = self.run_tool("tables", "--history", history, "--update", document)
        self.assertEqual((code, len(text.splitlines())), (0, 2), err)
        with open(document, encoding="utf-8") as file:
            made = file.read()
        self.assertIn("| pp512 | 300.0 | 100.0 | 3.00 | 3.00 … 3.00 | 6.0e-07 | 4.0e-03 |", made)
        self.assertNotIn("200.0", made)
        self.assertNotIn("old", made)
        self.assertRegex(made, r"(?s)^before\n.*<!-- end -->\nbetween\n<!-- figures: plot .*images/m.svg\)\n<!-- end -->\nbehind\n$")
        xml.dom.minidom.parse(os.path.join(docs, "images", "m.svg"))
        self.assertEqual(self.run_tool("tables", "--history", history, "--update", document)[1], "")  # nothing is left to do
        with open(document, "a", encoding="utf-8") as file:
            file.write("<!-- figures: tables *-none.json -->\n<!-- end -->\n")
        self.assertEqual(self.run_tool("tables", "--history", history, "--update", document)[0], 1)

    def test_the_committed_document_is_what_its_files_give(self):
        document = os.path.join(os.path.dirname(BENCH), "docs", "performance.md")
        copy = os.path.join(self.folder, "docs")
        os.makedirs(os.path.join(copy, "images"))
        shutil.copy(document, copy)
        self.assertEqual(self.run_tool("tables", "--update", os.path.join(copy, "performance.md"))[0], 0)
        names = ["performance.md"] + [os.path.join("images", name) for name in os.listdir(os.path.join(copy, "images"))]
        for name in names:
            with open(os.path.join(copy, name), encoding="utf-8") as ours, open(
                    os.path.join(os.path.dirname(document), name), encoding="utf-8") as theirs:
                self.assertEqual(ours.read(), theirs.read(), f"bench/tables --update docs/performance.md writes another {name}")

    def test_what_is_wrong_is_said(self):
        ours = self.command("mlxr", OURS)
        silent = self.command("silent", [])
        cases = [
            (["mlxr"], "NAME=COMMAND is needed"),
            ([ours], "two commands at least"),
            ([ours, ours], "each name once"),
            ([ours, "peer=/no/such/program"], "peer: .*No such file"),
            ([ours, f"peer={sys.executable} -c 'import sys; sys.exit(\"no model\")'"], "peer: exit code 1: no model"),
            ([ours, silent], "silent: no figures in its output"),
            ([ours, self.command("twice", LLAMA_BENCH + LLAMA_BENCH)], "twice: pp512 appears twice"),
            ([ours, self.command("other", [{"n_prompt": 7, "n_gen": 0, "avg_ts": 1.0}])], "no test in common.*pp7"),
            (["--rounds", "0", ours, silent], "--rounds must be 1"),
        ]
        for arguments, pattern in cases:
            code, text, err = self.run_tool("compare", *arguments)
            self.assertEqual((code, text), (1, ""), err)
            self.assertRegex(err.splitlines()[-1], pattern)
        code, text, err = self.run_tool("tables", os.path.join(self.folder, "mlxr.py"))
        self.assertEqual((code, text), (1, ""), err)


if __name__ == "__main__":
    unittest.main()
