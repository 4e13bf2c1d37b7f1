"""Dashboards and rules as they are shipped, and their expressions with Grafana's variables filled in."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "helm" / "weft" / "dashboards"
RULES = ROOT / "helm" / "weft" / "rules"


def dashboards():
    return [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(expression, rate_interval="5s"):
    """All jobs, all ranks, all workers."""
    text = expression.replace("$__rate_interval", rate_interval)
    return re.sub(r"\$(queue|job|rank|worker|device)\b", ".*", text)


def rule_files():
    return sorted(RULES.glob("*.yaml"))


def rules(path):
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
