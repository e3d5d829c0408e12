"""packaging/grafana/mlxr.json: every metric it asks for is one that the daemon has, with the labels it has."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from prometheus import Scrape

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DASHBOARD = os.path.join(ROOT, "packaging", "grafana", "mlxr.json")
WRITER = os.environ["MLXR_WRITE_METRICS"]
NAME = re.compile(r"\bmlxr_[a-z0-9_]+")


def expressions(value):
    """Every PromQL text in the dashboard."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("expr", "query") and isinstance(inner, str):
                yield inner
            else:
                yield from expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from expressions(inner)


class Grafana(unittest.TestCase):
    def setUp(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            self.dashboard = json.load(file)
        self.texts = [text for text in expressions(self.dashboard) if "mlxr_" in text]
        text = subprocess.run([WRITER], check=True, stdout=subprocess.PIPE).stdout.decode("utf-8")
        self.scrape = Scrape(text)

    def test_every_metric_it_names_exists(self):
        names = {key[0] for key in self.scrape.samples}
        asked = {name for text in self.texts for name in NAME.findall(text)}
        self.assertGreater(len(asked), 40)
        self.assertEqual(asked - names, set())

    def test_labels_are_those_of_the_metric(self):
        labels = {}
        for name, pairs in self.scrape.samples:
            labels.setdefault(name, set()).update(key for key, _ in pairs)
        for text in self.texts:
            for name, inner in re.findall(r"\b(mlxr_[a-z0-9_]+)\{([^}]*)\}", text):
                for label in re.findall(r"([a-z_]+)=~?\"", inner):
                    self.assertIn(label, labels[name] | {"instance"}, text)
            for inner in re.findall(r"\bby \(([^)]*)\)", text):
                for label in inner.split(","):
                    self.assertTrue(any(label.strip() in labels[name] for name in NAME.findall(text)), text)

    def test_prometheus_can_read_the_expressions(self):
        """As rules, which promtool checks; Grafana's variables are replaced as Grafana does."""
        self.assertIsNotNone(shutil.which("promtool"), "promtool is missing: tools/setup test installs it")
        rules = []
        for panel in self.dashboard["panels"]:
            for target in panel.get("targets", []):
                text = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*")
                self.assertNotIn("$", text)
                rules.append({"record": f"dashboard:rule{len(rules)}", "expr": text})
        with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)  # JSON is YAML
            file.flush()
            done = subprocess.run(["promtool", "check", "rules", file.name], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout.decode())

    def test_panels_have_names_units_and_places_of_their_own(self):
        taken = {}
        for panel in self.dashboard["panels"]:
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, (panel["title"], taken.get((x, y))))
                    taken[x, y] = panel["title"]
            if panel["type"] != "row":
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))


if __name__ == "__main__":
    unittest.main()
