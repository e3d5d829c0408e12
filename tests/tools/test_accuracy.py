"""bench/accuracy, with programs that print what the real ones do."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BENCH = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bench")

PEER = """
====== Perplexity statistics ======
Mean PPL(Q)                   :  14.271887 ±   0.718454
Mean PPL(base)                :  14.133598 ±   0.700651
Mean PPL(Q)/PPL(base)         :   1.009784 ±   0.003670

====== KL divergence statistics ======
Mean    KLD:   0.004006 ±   0.000090
99.9%   KLD:   0.048432
99.0%   KLD:   0.025245

====== Token probability statistics ======
Mean    Δp:  0.006 ± 0.030 %
Same top p: 95.588 ± 0.371 %
"""
OURS = {"ppl": 14.21, "n_tokens": 6144, "n_predicted": 3060, "kld_mean": 6.4e-7, "kld_p99": 6.2e-6, "top1_agreement": 0.999,
        "ppl_ratio": 1.015, "ppl_ratio_error": 0.0002}


class Accuracy(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mlxr-accuracy-test-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.log = os.path.join(self.folder, "log")

    def program(self, name, output, code=0):
        """A program that keeps its arguments and prints `output`."""
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\nimport json, sys\n"
                       "if '--llama' in sys.argv:\n"
                       "    open(sys.argv[sys.argv.index('--llama') + 1], 'wb').write(b'_logits_' + (513).to_bytes(4, sys.byteorder))\n"
                       f"open({self.log!r}, 'a').write(json.dumps([{name!r}] + sys.argv[1:]) + '\\n')\n"
                       f"sys.stdout.buffer.write({output.encode()!r})\nsys.exit({code})\n")
        os.chmod(path, 0o755)
        return path

    def run_tool(self, *arguments):
        done = subprocess.run([sys.executable, os.path.join(BENCH, "accuracy"), *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stdout, done.stderr

    def test_everybody_meets_the_same_reference(self):
        reference = self.program("python", json.dumps({"ppl": 14.0, "n_tokens": 6144, "n_predicted": 3060}))
        mlxr, peer = self.program("mlxr", json.dumps(OURS)), self.program("peer", PEER)
        out = os.path.join(self.folder, "out.json")
        code, text, err = self.run_tool("--mlxr", mlxr, "--python", reference, "--peer", f"llama.cpp={peer}", "--mask=-avx512",
                                        "--windows", "12", "--out", out, "/models/A.Q4_1.gguf")
        self.assertEqual(code, 0, err)
        with open(self.log, encoding="utf-8") as file:
            calls = [json.loads(line) for line in file]
        self.assertEqual([call[0] for call in calls], ["python", "mlxr", "mlxr", "peer"])
        option = lambda call, name: call[call.index(name) + 1]
        for call in calls[:3]:
            self.assertEqual([option(call, name) for name in ("--windows", "--ctx", "--skip")], ["12", "512", "256"])
        self.assertEqual(option(calls[0], "--mlxr"), option(calls[1], "--kld"))
        self.assertEqual(option(calls[0], "--llama"), option(calls[3], "--kl-divergence-base"))
        self.assertEqual(option(calls[2], "--cpu-features"), "-avx512")
        self.assertEqual([option(calls[3], name) for name in ("-c", "-b", "-ub")], ["513"] * 3)
        with open(out, encoding="utf-8") as file:
            result = json.load(file)
        model, = result["accuracy"]
        self.assertEqual(model["model"], "A.Q4_1")
        self.assertEqual([(r["engine"], r.get("mask")) for r in model["rows"]],
                         [("mlxr", ""), ("mlxr", "-avx512"), ("llama.cpp", None)])
        self.assertAlmostEqual(model["rows"][0]["ppl_change_pct"], 1.5)
        self.assertAlmostEqual(model["rows"][2]["ppl_change_pct"], 100 * (14.271887 / 14 - 1))
        self.assertEqual([model["rows"][2][key] for key in ("kld_mean", "kld_p99", "top1_agreement")],
                         [0.004006, 0.025245, 0.95588])
        self.assertEqual([round(r["ppl_change_error_pct"], 6) for r in model["rows"]], [0.02, 0.02, 0.367])
        self.assertRegex(text, r"A.Q4_1 +llama.cpp +14.27189 +1.9421 +0.3670 +0.00401")

    def test_what_is_wrong_is_said(self):
        reference = self.program("python", json.dumps({"ppl": 14.0, "n_tokens": 6144, "n_predicted": 3060}))
        mlxr = self.program("mlxr", json.dumps(OURS))
        cases = [
            (["--python", self.program("none", "no torch", 1)], "reference: exit code 1"),
            (["--python", reference, "--mlxr", "/no/such/mlxr"], "mlxr: .*No such file"),
            (["--python", reference, "--mlxr", mlxr, "--peer", f"x={self.program('silent', 'hm')}"], "x: no ppl in its output"),
        ]
        for arguments, pattern in cases:
            code, text, err = self.run_tool(*arguments, "A.gguf")
            self.assertEqual((code, text), (1, ""), err)
            self.assertRegex(err.splitlines()[-1], pattern)


if __name__ == "__main__":
    unittest.main()
