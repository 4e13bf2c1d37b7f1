"""Draws what each panel has seen as a picture, one PNG a dashboard, about as Grafana would lay it out: for people who
change dashboards and have no Grafana at hand (live_test.py --pictures)."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402

import expressions  # noqa: E402

GRID_ROW_INCHES = 0.42
GRID_COLUMN_INCHES = 0.75
SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def with_unit(value, unit):
    """About what Grafana prints."""
    if value is None or math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        if abs(value) < 1 and value != 0:
            return f"{value * 1e6:.3g} µs" if abs(value) < 1e-3 else f"{value * 1e3:.3g} ms"
        return f"{value:.3g} s" if abs(value) < 120 else f"{value / 60:.3g} min"
    if unit == "bytes":
        for power, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if abs(value) >= power:
                return f"{value / power:.3g} {prefix}"
        return f"{value:.3g} B"
    suffix = " /s" if unit == "ops" else ""
    for power, prefix in SI:
        if abs(value) >= power and unit in ("short", "ops"):
            return f"{value / power:.3g}{prefix}{suffix}"
    return f"{value:.4g}{suffix}"


def legend_of(template, labels):
    text = template
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def values_of(series):
    return [float(value) for _, value in series["values"]]


def split_at_gaps(times, values):
    """A point of nothing where samples are missing, so that no line crosses a gap."""
    out_times, out_values = [], []
    for time, value in zip(times, values):
        if out_times and time - out_times[-1] > 2.5:
            out_times.append(time - 1)
            out_values.append(math.nan)
        out_times.append(time)
        out_values.append(value)
    return out_times, out_values


def draw_graph(axes, panel, prometheus):
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    columns = {}
    for target in panel["targets"]:
        for series in prometheus.history(expressions.filled(target["expr"])):
            label = legend_of(target["legendFormat"], series["metric"])
            times = [time - prometheus.begin for time, _ in series["values"]]
            if stacked:
                columns.setdefault(label, {}).update(dict(zip((round(t) for t in times), values_of(series))))
            else:
                axes.plot(*split_at_gaps(times, values_of(series)), label=label, linewidth=1)
    if stacked and columns:
        times = sorted({time for column in columns.values() for time in column})
        heights = [[0 if math.isnan(v := column.get(time, 0)) else v for time in times] for column in columns.values()]
        axes.stackplot(times, heights, labels=list(columns), alpha=0.7)
    defaults = panel["fieldConfig"]["defaults"]
    if custom["scaleDistribution"]["type"] == "log":
        axes.set_yscale("log")
    elif "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, defaults["unit"])))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=5, loc="upper left", ncol=2, framealpha=0.5)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, color="red")


def last_of(prometheus, expression):
    """The last sample of each series in the whole time: what a viewer saw before the end of the scenario."""
    return [(series["metric"], float(series["values"][-1][1]))
            for series in prometheus.history(expressions.filled(expression))]


def draw_stat(axes, panel, prometheus):
    axes.axis("off")
    lines = []
    for target in panel["targets"]:
        for labels, value in last_of(prometheus, target["expr"]):
            text = with_unit(value, panel["fieldConfig"]["defaults"]["unit"])
            named = panel["options"]["textMode"] == "value_and_name"
            lines.append(f"{legend_of(target['legendFormat'], labels)}  {text}" if named else text)
    axes.text(0.5, 0.4, "\n".join(lines[:6]) or "no data", ha="center", va="center", transform=axes.transAxes,
              fontsize=14 if len(lines) == 1 else 7)


def draw_table(axes, panel, prometheus):
    axes.axis("off")
    key = panel["transformations"][0]["options"]["byField"]
    units = {o["matcher"]["options"]: o["properties"][0]["value"] for o in panel["fieldConfig"]["overrides"]}
    rows, names = {}, [key] + [target["legendFormat"] for target in panel["targets"]]
    for column, target in enumerate(panel["targets"], 1):
        for labels, value in last_of(prometheus, target["expr"]):
            row = rows.setdefault(labels.get(key, "?"), [labels.get(key, "?")] + [""] * (len(names) - 1))
            row[column] = with_unit(value, units.get(target["refId"], "none"))
    if rows:
        made = axes.table(cellText=list(rows.values()), colLabels=names, loc="upper center")
        made.auto_set_font_size(False)
        made.set_fontsize(7)


def mark_events(axes, board, prometheus):
    for annotation in board["annotations"]["list"]:
        times = {float(value) / 1000 - prometheus.begin
                 for series in prometheus.history(expressions.filled(annotation["expr"]))
                 for _, value in series["values"]}
        for time in times:
            if time >= 0:
                axes.axvline(time, color=annotation["iconColor"], linewidth=0.4, alpha=0.5)


def draw(board, prometheus, folder):
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(24 * GRID_COLUMN_INCHES, rows * GRID_ROW_INCHES), dpi=90)
    figure.suptitle(f"{board['title']}: {board['description']}", fontsize=10, y=1 - 0.1 / rows)
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        top = 1 - (place["y"] + 0.8) / (rows + 0.8)
        height = place["h"] / (rows + 0.8)
        if panel["type"] == "row":
            figure.text(left + 0.005, top - height * 0.7, panel["title"], fontsize=11, weight="bold")
            continue
        axes = figure.add_axes((left + 0.035, top - height * 0.86, width - 0.045, height * 0.7))
        axes.set_title(panel["title"], fontsize=8, loc="left")
        drawer = {"timeseries": draw_graph, "stat": draw_stat, "table": draw_table}[panel["type"]]
        drawer(axes, panel, prometheus)
        if panel["type"] == "timeseries":
            mark_events(axes, board, prometheus)
    figure.savefig(folder / f"{board['uid']}.png")
    plt.close(figure)


def draw_all(prometheus, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for board in expressions.dashboards():
        draw(board, prometheus, folder)
