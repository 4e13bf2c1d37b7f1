"""No finding of checkov in anything that the chart renders. What is not followed is named beside its reason."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

from chart import CHART, MATRIX, render


def checkov(folder):
    result = subprocess.run(
        [Path(sys.executable).with_name("checkov"), "--directory", folder, "--framework", "kubernetes", "--output", "json",
         "--skip-download"],
        capture_output=True, text=True, timeout=300)
    report = json.loads(result.stdout)
    return report[0] if isinstance(report, list) else report


class Security(unittest.TestCase):
    maxDiff = None

    def test_nothing_is_found(self):
        not_followed = yaml.safe_load((CHART / ".checkov.yaml").read_text())["skip-check"]
        with tempfile.TemporaryDirectory() as folder:
            for name, values in MATRIX.items():
                (Path(folder) / name).mkdir()
                for template, text in render(values).items():
                    if template.endswith(".yaml") and text.strip():
                        (Path(folder) / name / template.replace("/", "_")).write_text(text)
            report = checkov(folder)
        self.assertGreater(report["summary"]["passed"], 300)
        self.assertEqual(report["summary"]["parsing_errors"], 0)
        looked_at = {check["file_path"].split("/")[1] for check in report["results"]["passed_checks"]}
        self.assertEqual(looked_at, set(MATRIX))
        found = [f"{check['check_id']} {check['check_name']}: {check['resource']} in {check['file_path']}"
                 for check in report["results"]["failed_checks"]
                 if check["file_path"].startswith("/everything/") or check["check_id"] not in not_followed]
        self.assertEqual(sorted(found), [])
        # The linter works: it does see what the defaults do not follow.
        self.assertEqual({check["check_id"] for check in report["results"]["failed_checks"]}, set(not_followed))


if __name__ == "__main__":
    unittest.main()
