#!/usr/bin/env python3
"""The rules of the house that a compiler does not check, as a test.

    tests/tidy/tidy.py [ROOT]      prints one line a finding, "path:line: text"; exit status 1 if any
    tests/tidy/tidy.py --self-test proves on made-up files that every rule can fail
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = {".h", ".cc", ".cu", ".cuh"}
FOLDERS = ["common", "kernels", "proto", "coordinator", "worker", "client", "tests"]

# (files it holds for, includes it forbids, why)
INCLUDE_RULES = [
    (r"^kernels/", r'"(weft/v1|grpc|google/protobuf|proto/|worker/|coordinator/)|<(grpcpp|google/protobuf)',
     "kernels know no gRPC, no protobuf, no jobs"),
    (r"^coordinator/core/", r'^"(?!coordinator/core/|common/base/|absl/)',
     "the core is pure: Abseil, common/base and itself"),
    (r"^coordinator/core/", r"<(thread|mutex|fstream|chrono|iostream|filesystem|random)>",
     "the core is pure: no threads, files, clocks, random numbers"),
    (r"^coordinator/", r'"worker/', "the coordinator and the worker meet only in proto/"),
    (r"^worker/", r'"coordinator/', "the coordinator and the worker meet only in proto/"),
    (r"^client/", r'"(coordinator|worker)/', "the command line speaks to the service through proto/"),
    (r"^common/", r'"(kernels|coordinator|worker|client|proto)/', "common/ is below everything"),
    (r"^(common|kernels|proto|coordinator|worker|client)/", r'"tests/', "nobody includes tests"),
]

# (files it holds for, files it does not hold for, pattern, why)
BANS = [
    (r"", r"^$", r"\bstd::string_view\b", "use absl::string_view: the two are different types here"),
    (r"", r"^$", r"\b(TODO|FIXME|XXX)\b", "finish it, or write it down in docs/"),
    (r"", r"^$", r"^\s*throw\b", "our code throws nothing: return an absl::Status"),
    (r"", r"^$", r"using namespace std\b", "name what you use"),
    (r"^tests/", r"^tests/testing/", r"\b(SleepFor|sleep_for|usleep|nanosleep)\b",
     "wait for a condition, not for time"),
    (r"^(coordinator/core|kernels)/", r"^$", r"\bgetenv\b", "configuration comes as an argument"),
    (r"^worker/model/", r"^$", r"\.data<|->data\(\)", "model code never touches addresses: it calls ops"),
    (r"", r"^$", r"/work/|/tmp/w/", "a path of one machine"),
]

MAX_LINES = 500
MAX_LINES_KERNELS = 600
MAX_LINES_TESTS = 700
MAX_FUNCTION = 70


def read(path):
    return path.read_text(encoding="utf-8").splitlines()


def code_files(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in CODE and path.is_file():
                yield path, path.relative_to(root).as_posix()


def check_includes(name, lines):
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#include\s+(["<].*[">])', line)
        if not match:
            continue
        for files, forbidden, why in INCLUDE_RULES:
            if re.search(files, name) and re.search(forbidden, match.group(1)):
                yield number, f"includes {match.group(1)}: {why}"


def check_bans(name, lines):
    for number, line in enumerate(lines, 1):
        for files, but, pattern, why in BANS:
            if re.search(files, name) and not re.search(but, name) and re.search(pattern, line):
                yield number, f"'{re.search(pattern, line).group(0).strip()}': {why}"


def check_shape(name, lines):
    limit = MAX_LINES
    if name.startswith("kernels/"):
        limit = MAX_LINES_KERNELS
    elif name.startswith("tests/"):
        limit = MAX_LINES_TESTS
    if len(lines) > limit:
        yield 1, f"has {len(lines)} lines; {limit} are the most"
    if name.endswith(".h") and not any(line.strip() == "#pragma once" for line in lines):
        yield 1, "has no #pragma once"


def check_functions(name, lines):
    """Functions as clang-format lays them out: a line that ends in ') {' and the '}' of its indent."""
    if name.startswith("tests/"):
        return
    for number, line in enumerate(lines, 1):
        match = re.match(r"^( {0,2})\S.*\)( const| noexcept| override|\s)* \{$", line)
        if not match or "](" in line or re.match(r"\s*(if|for|while|switch|else|do|extern|namespace|class|struct)\b", line):
            continue
        end = match.group(1) + "}"
        for length, later in enumerate(lines[number:], 1):
            if later == end:
                if length > MAX_FUNCTION:
                    yield number, f"a function of {length} lines; {MAX_FUNCTION} are the most"
                break


def check_documents(root):
    """Every path that a document names exists."""
    documents = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    tops = "|".join(FOLDERS + ["deploy", "helm", "docs"])
    for document in documents:
        if not document.is_file():
            continue
        for number, line in enumerate(read(document), 1):
            for path in re.findall(rf"`((?:{tops})/[A-Za-z0-9_./-]+)`", line):
                if not (root / path.rstrip("/")).exists():
                    yield document.relative_to(root).as_posix(), number, f"names {path}, which is not there"


def check_scripts(root):
    for path in sorted([*root.glob("deploy/**/*.sh"), *root.glob("tests/**/*.sh"), root / ".ci/run"]):
        if path.is_file():
            result = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
            if result.returncode != 0:
                yield path.relative_to(root).as_posix(), 1, result.stderr.strip()


def findings(root):
    for path, name in code_files(root):
        lines = read(path)
        for check in (check_includes, check_bans, check_shape, check_functions):
            for number, text in check(name, lines):
                yield f"{name}:{number}: {text}"
    for check in (check_documents, check_scripts):
        for name, number, text in check(root):
            yield f"{name}:{number}: {text}"


SAMPLES = {
    "kernels/a.h": ('#pragma once\n#include "weft/v1/job.pb.h"\n', "kernels know no gRPC"),
    "coordinator/core/a.cc": ('#include "common/log/log.h"\n', "the core is pure"),
    "coordinator/core/b.cc": ("#include <thread>\n", "no threads"),
    "coordinator/a.cc": ('#include "worker/agent/a.h"\n', "meet only in proto"),
    "worker/a.cc": ('#include "coordinator/driver.h"\n', "meet only in proto"),
    "client/a.cc": ('#include "worker/agent/a.h"\n', "through proto"),
    "common/a.cc": ('#include "kernels/a.h"\n', "below everything"),
    "common/b.cc": ('#include "tests/testing/a.h"\n', "nobody includes tests"),
    "common/c.cc": ("void F(std::string_view text);\n", "string_view"),
    "common/d.cc": ("// TODO: later\n", "finish it"),
    "common/e.cc": ("  throw 1;\n", "throws nothing"),
    "common/f.cc": ("using namespace std;\n", "name what you use"),
    "tests/unit_test.cc": ("absl::SleepFor(absl::Seconds(1));\n", "wait for a condition"),
    "kernels/b.cc": ('std::getenv("A");\n', "comes as an argument"),
    "worker/model/a.cc": ("x.data<float>();\n", "never touches addresses"),
    "common/g.cc": ("// /work/main\n", "path of one machine"),
    "common/h.h": ("int x;\n", "no #pragma once"),
    "common/i.cc": ("int x;\n" * 501, "has 501 lines"),
    "common/j.cc": ("void F() {\n" + "  G();\n" * 71 + "}\n", "a function of 72 lines"),
    "docs/a.md": ("See `common/not_there.h`.\n", "which is not there"),
    "deploy/a.sh": ("if then\n", "syntax error"),
}


def self_test():
    for name, (text, expected) in SAMPLES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
            found = list(findings(Path(folder)))
            if len(found) != 1 or expected not in found[0]:
                print(f"{name}: expected one finding with '{expected}', got {found}")
                return 1
    print(f"{len(SAMPLES)} rules can fail")
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    found = list(findings(root))
    print("\n".join(found) if found else "nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
