#!/usr/bin/env python3
"""Dashboards and rules as files: complete, in order, and of one piece. Starts nothing."""

import itertools
import re
import unittest

import expressions

VARIABLES = {
    "weft-overview": ["datasource", "queue"],
    "weft-job": ["datasource", "queue", "job", "rank"],
    "weft-worker": ["datasource", "worker", "device"],
    "weft-coordinator": ["datasource"],
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def overlap(one, other):
    return (one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"] and
            one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"])


class Dashboards(unittest.TestCase):
    def test_there_are_those_that_are_promised_with_their_variables(self):
        found = {board["uid"]: [v["name"] for v in board["templating"]["list"]] for board in expressions.dashboards()}
        self.assertEqual(found, VARIABLES)

    def test_every_panel_says_what_it_shows_in_which_unit(self):
        for board in expressions.dashboards():
            for panel in expressions.panels(board):
                with self.subTest(board=board["uid"], panel=panel["title"]):
                    self.assertTrue(panel["title"])
                    self.assertTrue(panel["description"].endswith("."))
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                    self.assertTrue(panel["targets"])
                    for target in panel["targets"]:
                        self.assertTrue(target["legendFormat"])

    def test_data_come_through_the_variable_alone(self):
        for board in expressions.dashboards():
            queried = board["annotations"]["list"] + [v for v in board["templating"]["list"] if v["type"] == "query"]
            for panel in expressions.panels(board):
                queried += [panel, *panel["targets"]]
            for part in queried:
                self.assertEqual(part["datasource"], DATASOURCE, part.get("title") or part.get("name"))

    def test_panels_lie_beside_each_other(self):
        for board in expressions.dashboards():
            self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
            for panel in board["panels"]:
                self.assertLessEqual(panel["gridPos"]["x"] + panel["gridPos"]["w"], 24)
            for one, other in itertools.combinations(board["panels"], 2):
                self.assertFalse(overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"]))

    def test_recoveries_and_checkpoints_are_marked(self):
        for board in expressions.dashboards():
            self.assertEqual([a["name"] for a in board["annotations"]["list"]], ["Recoveries", "Checkpoints"])

    def test_only_variables_of_the_dashboard_are_used(self):
        for board in expressions.dashboards():
            known = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
            for panel in expressions.panels(board):
                for target in panel["targets"]:
                    used = set(re.findall(r"\$\{?(\w+)", target["expr"]))
                    self.assertLessEqual(used, known, panel["title"])


class Rules(unittest.TestCase):
    def alerts(self):
        return [rule for path in expressions.rule_files() for rule in expressions.rules(path) if "alert" in rule]

    def test_every_alert_says_what_it_means_and_what_to_do(self):
        self.assertTrue(self.alerts())
        for alert in self.alerts():
            with self.subTest(alert=alert["alert"]):
                self.assertRegex(alert["alert"], "^Weft[A-Z]")
                self.assertIn(alert["labels"]["severity"], {"critical", "warning", "info"})
                self.assertTrue(alert["annotations"]["summary"])
                self.assertTrue(alert["annotations"]["description"].endswith("."))
                self.assertEqual(alert["annotations"]["runbook_url"],
                                 f"docs/operations.md#{alert['alert'].lower()}")

    def test_every_alert_has_a_test_of_its_rule(self):
        tests = (expressions.ROOT / "tests" / "monitoring" / "rules_test.yaml").read_text()
        for alert in self.alerts():
            self.assertRegex(tests, rf"\b{alert['alert']}\b")

    def test_what_a_rule_records_is_used(self):
        text = "".join(path.read_text() for path in expressions.rule_files())
        text += "".join(path.read_text() for path in expressions.DASHBOARDS.glob("*.json"))
        for path in expressions.rule_files():
            for rule in expressions.rules(path):
                if "record" in rule:
                    self.assertGreater(text.count(rule["record"]), 1, rule["record"])


if __name__ == "__main__":
    unittest.main()
