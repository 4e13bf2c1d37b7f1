#!/usr/bin/env python3
"""Puts kernels/tested_items.txt, which says what is tested where, into kernels/README.md.

    kernels/generate_tested_items.py              writes the tables
    kernels/generate_tested_items.py --check      exit status 1 when they differ, or a test is not there
    kernels/generate_tested_items.py --self-test  proves on made-up lists that every complaint can come
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ITEMS = ROOT / "kernels/tested_items.txt"
PAGE = ROOT / "kernels/README.md"
BEGIN, END = "<!-- tested items: begin -->", "<!-- tested items: end -->"


def tests_of(root):
    """{"Suite.Test": path} of every test in the tree."""
    found = {}
    for path in sorted(root.rglob("*_test.cc")) + sorted(root.rglob("*_contract.cc")):
        text = path.read_text(encoding="utf-8")
        for suite, name in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", text, re.MULTILINE):
            found[f"{suite}.{name}"] = path.relative_to(root.parent).as_posix()
    return found


def parse(text):
    """[(section, [(item, [test], note)])] and what is wrong with the lines."""
    sections, problems, seen = [], [], set()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            sections.append((line.strip("[]"), []))
            continue
        parts = [part.strip() for part in line.split("|")]
        if not sections or len(parts) not in (2, 3) or not all(parts):
            problems.append(f"line {number} is not 'item | tests' or 'item | tests | note' in a section")
            continue
        item, tests = parts[0], [test.strip() for test in parts[1].split(",")]
        if (sections[-1][0], item) in seen:
            problems.append(f"line {number}: '{item}' stands there twice")
        seen.add((sections[-1][0], item))
        sections[-1][1].append((item, tests, parts[2] if len(parts) == 3 else ""))
    return sections, problems


def missing(sections, known):
    return [f"'{item}' names {test}, which is no test" for _, items in sections for item, tests, _ in items
            for test in tests if test not in known]


def tables(sections, known):
    out = []
    for section, items in sections:
        out += [f"### {section}\n", "| item | test | in |", "|---|---|---|"]
        for item, tests, note in items:
            files = sorted({known[test].removeprefix("tests/") for test in tests})
            out.append(f"| {item}{f' ({note})' if note else ''} | {', '.join(f'`{test}`' for test in tests)} "
                       f"| {', '.join(files)} |")
        out.append("")
    return "\n".join(out)


def page_with(page, text):
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}"


def self_test():
    known = {"A.B": "tests/a_test.cc"}
    good, problems = parse("# about\n[One]\nx | A.B\n[Two]\nx | A.B | a note\n")
    assert problems == [] and missing(good, known) == [] and "| x (a note) | `A.B` | a_test.cc |" in tables(good, known)
    assert missing(parse("[One]\nx | A.B, A.C\n")[0], known) == ["'x' names A.C, which is no test"]
    for bad in ("x | A.B\n", "[One]\nx\n", "[One]\nx | \n", "[One]\nx | A.B\nx | A.B\n"):
        assert parse(bad)[1], bad
    assert page_with(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\n\nnew\n{END}\nb\n"
    return 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    known = tests_of(ROOT / "tests")
    sections, problems = parse(ITEMS.read_text(encoding="utf-8"))
    problems += missing(sections, known)
    if not problems:
        page = PAGE.read_text(encoding="utf-8")
        text = page_with(page, tables(sections, known))
        if arguments != ["--check"]:
            PAGE.write_text(text, encoding="utf-8")
        elif text != page:
            problems.append("kernels/README.md is not what the list says; run kernels/generate_tested_items.py")
    for problem in problems:
        print(f"kernels/tested_items.txt: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
