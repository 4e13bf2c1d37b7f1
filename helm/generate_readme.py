#!/usr/bin/env python3
"""Makes helm/weft/README.md from README.md.head and the comments "# --" of values.yaml.

    helm/generate_readme.py [--check]      --check: only says whether the page is up to date
"""

import re
import sys
from pathlib import Path

CHART = Path(__file__).resolve().parent / "weft"


def documented_values(text):
    """(path, default, meaning) of every key that a comment "# --" stands above."""
    open_keys = []  # (indent, name)
    meaning = None
    rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        comment = re.match(r"\s*# ?(-- )?(.*)", line)
        if comment:
            if comment.group(1):
                meaning = comment.group(2)
            elif meaning is not None:
                meaning += " " + comment.group(2)
            continue
        key = re.match(r"( *)([A-Za-z][\w.-]*):\s*(.*)$", line)
        if not key:
            if line.strip():
                meaning = None
            continue
        indent, name, default = len(key.group(1)), key.group(2), key.group(3)
        open_keys = [entry for entry in open_keys if entry[0] < indent] + [(indent, name)]
        if meaning is not None:
            path = ".".join(entry[1] for entry in open_keys)
            rows.append((path, default or inner(lines[number + 1:], indent), meaning))
        meaning = None
    return rows


def inner(lines, indent):
    """The block below a key on one line, as far as a table holds it."""
    block = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        block.append(line.strip())
    text = ", ".join(part for part in block if part)
    return text if len(text) <= 60 else "see values.yaml"


def page():
    rows = documented_values((CHART / "values.yaml").read_text(encoding="utf-8"))
    table = ["## Values", "", "| key | default | meaning |", "|---|---|---|"]
    for path, default, meaning in rows:
        table.append(f"| `{path}` | `{default}` | {meaning.replace('|', chr(92) + '|')} |")
    return (CHART / "README.md.head").read_text(encoding="utf-8") + "\n".join(table) + "\n"


def main():
    target = CHART / "README.md"
    if "--check" in sys.argv[1:]:
        if not target.exists() or target.read_text(encoding="utf-8") != page():
            print(f"{target} is not what values.yaml says: run helm/generate_readme.py")
            return 1
        return 0
    target.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
