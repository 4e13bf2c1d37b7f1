#!/usr/bin/env python3
"""Writes docs/presets.md from the files of client/presets.

    docs/generate_presets.py            writes the page
    docs/generate_presets.py --check    exit status 1 when the page is not what would be written
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ROOT / "client/presets"
PAGE = ROOT / "docs/presets.md"

HEAD = """# Presets

Job specs that come with `weft`: the set-ups of the papers, as far as these tell. This page is made from the files in
`client/presets` by `docs/generate_presets.py`; a test compares the two, another reads every preset with the rules of
the spec.

```
weft presets                                        # all of them
weft presets show deltanet-340m > job.yaml          # the YAML, with its comments, to be changed
weft submit --preset deltanet-340m --set 'data={text: {paths: [corpus]}}' --set model.vocab_size=256
```

`--set PATH=VALUE` works for `submit`, `run`, `validate` and `data print`, with a preset or a file, and may be
repeated. A path names fields as errors do (`model.mixers[0].delta.heads`); the value is YAML and takes the place of
what was there, whole: `--set 'data={...}'` is how a preset gets other data. Paths in a preset and in its settings
start in the present folder.

A preset holds the numbers that the paper or its program gives. Its comments say which they are and which are ours,
because the source is silent. The presets of large models are set-ups, not advice for a small machine:
`--set training.steps=100 --set training.batch_size=8 --set training.shards=8` makes a trial of any of them.
"""


def parts(text):
    """The title, what follows it in the first comment, and the spec."""
    lines = text.splitlines()
    comment = []
    while lines and lines[0].startswith("#"):
        comment.append(lines.pop(0).lstrip("#").strip())
    return comment[0], " ".join(line for line in comment[1:] if line), "\n".join(lines)


def size(spec):
    """Layers, width and sequence length, as they stand in the spec."""
    found = [re.search(rf"^ +{field}: (\d+)", spec, re.MULTILINE) for field in ("layers", "width", "sequence_length")]
    return [match.group(1) if match else "" for match in found]


def page():
    out = [HEAD, "| preset | what | layers | width | tokens |", "|---|---|---|---|---|"]
    files = sorted(PRESETS.glob("*.yaml"), key=lambda file: file.stem)
    for file in files:
        title, _, spec = parts(file.read_text(encoding="utf-8"))
        out.append(f"| [`{file.stem}`](#{re.sub('[^a-z0-9-]', '', file.stem)}) | {title} | {' | '.join(size(spec))} |")
    for file in files:
        _, about, _ = parts(file.read_text(encoding="utf-8"))
        out.append(f"\n### {file.stem}\n\n{about}")
    return "\n".join(out) + "\n"


def main():
    text = page()
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/presets.md is not what client/presets says; run docs/generate_presets.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
