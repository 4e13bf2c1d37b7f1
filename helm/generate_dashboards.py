#!/usr/bin/env python3
"""Makes helm/weft/dashboards/*.json, dashboards for Grafana, from helm/dashboard_panels.py.

    helm/generate_dashboards.py           writes them
    helm/generate_dashboards.py --check   exit status 1 when one is not up to date
"""

import json
import sys
from pathlib import Path

import dashboard_panels

TARGET = Path(__file__).resolve().parent / "weft" / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID_WIDTH = 24


def place(panels):
    """Fills rows of the grid from left to right; a section starts a new one."""
    x = y = row_height = 0
    for panel in panels:
        width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > GRID_WIDTH or panel["type"] == "row":
            x, y, row_height = 0, y + row_height, 0
        panel["gridPos"].update(x=x, y=y)
        x += width
        row_height = max(row_height, height)


def targets(panel):
    for index, query in enumerate(panel.queries):
        yield {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
            "range": panel.kind == "timeseries",
            "instant": panel.kind != "timeseries",
            **({"format": "table"} if panel.kind == "table" else {}),
        }


def thresholds(panel):
    steps = [{"color": "green" if panel.limits else "blue", "value": None}]
    steps += [{"color": color, "value": value} for value, color in panel.limits]
    return {"mode": "absolute", "steps": steps}


def options(panel):
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "stat":
        return {
            "colorMode": "value", "graphMode": "none", "textMode": "value_and_name" if panel.named else "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    return {"showHeader": True, "cellHeight": "sm"}


def transformations(panel):
    if panel.kind != "table":
        return []
    names = {f"Value #{chr(ord('A') + i)}": query.legend for i, query in enumerate(panel.queries)}
    hidden = {f"Time {i + 1}": True for i in range(len(panel.queries))} | {"Time": True}
    return [
        {"id": "joinByField", "options": {"byField": panel.join, "mode": "outer"}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": names}},
    ]


def overrides(panel):
    return [
        {"matcher": {"id": "byFrameRefID", "options": chr(ord("A") + i)},
         "properties": [{"id": "unit", "value": query.unit}]}
        for i, query in enumerate(panel.queries) if query.unit
    ]


def panel_json(panel, identity):
    custom = {}
    if panel.kind == "timeseries":
        custom = {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if panel.stacked else 0,
            "showPoints": "never", "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "scaleDistribution": {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"},
        }
    defaults = {"unit": panel.unit, "custom": custom, "thresholds": thresholds(panel), "mappings": []}
    if panel.lowest is not None:
        defaults["min"] = panel.lowest
    if panel.highest is not None:
        defaults["max"] = panel.highest
    return {
        "id": identity, "type": panel.kind, "title": panel.title, "description": panel.about,
        "datasource": DATASOURCE, "gridPos": {"w": panel.width, "h": panel.height},
        "targets": list(targets(panel)), "options": options(panel),
        "transformations": transformations(panel),
        "fieldConfig": {"defaults": defaults, "overrides": overrides(panel)},
    }


def section_json(section, identity):
    return {"id": identity, "type": "row", "title": section.title, "collapsed": False, "panels": [],
            "gridPos": {"w": GRID_WIDTH, "h": 1}}


def variable_json(variable):
    if variable.name == "datasource":
        return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
                "hide": 0, "refresh": 1, "current": {}, "options": []}
    return {
        "name": variable.name, "label": variable.label, "type": "query", "datasource": DATASOURCE,
        "query": {"query": variable.query, "refId": variable.name}, "definition": variable.query,
        "description": variable.about, "refresh": 2, "sort": 1, "hide": 0,
        "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]}, "options": [],
    }


def annotation_json(annotation):
    return {
        "name": annotation.name, "datasource": DATASOURCE, "enable": True, "hide": False,
        "iconColor": annotation.color, "expr": annotation.expression, "titleFormat": annotation.title,
        "useValueForTime": True, "step": "15s",
    }


def dashboard_json(dashboard):
    panels = []
    for identity, item in enumerate(dashboard.items, 1):
        is_section = isinstance(item, dashboard_panels.Section)
        panels.append((section_json if is_section else panel_json)(item, identity))
    place(panels)
    return {
        "uid": dashboard.uid, "title": dashboard.title, "description": dashboard.about, "tags": ["weft"],
        "schemaVersion": 39, "version": 1, "editable": False, "graphTooltip": 1, "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "links": [{"title": "Weft", "type": "dashboards", "tags": ["weft"], "asDropdown": False,
                   "keepTime": True, "includeVars": True, "targetBlank": False}],
        "templating": {"list": [variable_json(variable) for variable in dashboard.variables]},
        "annotations": {"list": [annotation_json(annotation) for annotation in dashboard.annotations]},
        "panels": panels,
    }


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    wanted = {f"{dashboard.uid}.json": json.dumps(dashboard_json(dashboard), indent=1) + "\n"
              for dashboard in dashboard_panels.DASHBOARDS}
    for name, text in wanted.items():
        path = TARGET / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    stale += [path.name for path in TARGET.glob("*.json") if path.name not in wanted]
    if check and stale:
        print("run helm/generate_dashboards.py, and delete what it does not make:", *sorted(stale))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
