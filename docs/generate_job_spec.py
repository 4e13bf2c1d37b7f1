#!/usr/bin/env python3
"""Writes docs/job_spec.md from the comments of the protos of a job spec, which are the specification.

    docs/generate_job_spec.py            writes the page
    docs/generate_job_spec.py --check    exit status 1 when the page is not what would be written
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = [ROOT / "proto/weft/v1" / name for name in ("job_spec.proto", "data_spec.proto")]
PAGE = ROOT / "docs/job_spec.md"
EXAMPLE = ROOT / "docs/examples/demo.yaml"

HEAD = """# The job spec

What stands in `job.yaml`. This page is made from the comments of `job_spec.proto` and `data_spec.proto` in
`proto/weft/v1` by `docs/generate_job_spec.py`; a test compares the two.

An example, `docs/examples/demo.yaml`:

```yaml
{example}```
"""


def parse(text):
    """[(kind, name, comment, [(field, type, comment)])] for messages and enums, nested ones included."""
    blocks, stack, comment = [], [], []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        opened = re.match(r"(message|enum) (\w+) \{", line)
        field = re.match(r"(optional |repeated )?([\w.]+) (\w+) = \d+;(?:\s*// ?(.*))?", line)
        value = re.match(r"([A-Z]\w+) = (\d+);(?:\s*// ?(.*))?", line)
        if opened:
            prefix = stack[-1][1] + "." if stack and stack[-1][0] != "oneof" else ""
            block = (opened.group(1), prefix + opened.group(2), " ".join(comment), [])
            blocks.append(block)
            stack.append(block)
        elif re.match(r"oneof \w+ \{", line):
            stack.append(("oneof", stack[-1][1], " ".join(comment), stack[-1][3]))
        elif line == "}":
            stack.pop()
        elif value and stack and stack[-1][0] == "enum":
            if value.group(2) != "0":
                stack[-1][3].append((value.group(1), "", value.group(3) or " ".join(comment)))
        elif field and stack:
            label = (field.group(1) or "").strip()
            kind = field.group(2).split(".")[-1]
            text_of = field.group(4) or " ".join(comment)
            if stack[-1][0] == "oneof" and stack[-1][2]:
                text_of = f"{text_of} {stack[-1][2]}".strip()
            stack[-1][3].append((field.group(3), f"list of {kind}" if label == "repeated" else kind, text_of))
        comment = []
    return blocks


def type_link(kind, names):
    plain = kind.removeprefix("list of ")
    words = {"int32": "whole number", "int64": "whole number", "uint64": "whole number", "double": "number",
             "bool": "true or false", "string": "text", "Duration": "duration"}
    shown = words.get(plain)
    if shown is None:
        full = next((name for name in names if name.split(".")[-1] == plain), plain)
        shown = f"[{plain}](#{full.lower().replace('.', '')})"
    return f"list of {shown}" if kind.startswith("list of ") else shown


def page():
    blocks = [block for proto in PROTOS for block in parse(proto.read_text(encoding="utf-8"))]
    names = [name for _, name, _, _ in blocks]
    out = [HEAD.format(example=EXAMPLE.read_text(encoding="utf-8"))]
    for kind, name, comment, fields in blocks:
        out.append(f"\n## {name}\n")
        if comment:
            out.append(f"{comment}\n")
        if kind == "enum":
            prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name.split(".")[-1]).upper() + "_"
            out.append("| value | meaning |\n|---|---|")
            out += [f"| `{value.removeprefix(prefix).lower()}` | {text} |" for value, _, text in fields]
        else:
            out.append("| field | type | meaning |\n|---|---|---|")
            out += [f"| `{field}` | {type_link(kind_of, names)} | {text.replace('|', chr(92) + '|')} |"
                    for field, kind_of, text in fields]
    return "\n".join(out) + "\n"


def main():
    text = page()
    if sys.argv[1:] == ["--check"]:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/job_spec.md is not what the protos of a job spec say; "
                  "run docs/generate_job_spec.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
