#!/usr/bin/env python3
"""Measures the attention kernels at 1,024 to 32,768 tokens and writes docs/attention_speed.md.

    deploy/dev/attention_speed.py [--build DIR] [--jobs N]       default: build/ci, 1

Times are those of one thread on its processor, so that other programs may run beside it. What counts are ratios: how
time grows with the length, the rate of the arithmetic over that of the matrix library in the same process, and the
time over that of our own softmax attention. Every mechanism's pass is measured by a process of its own, N at a time:
at most as many as there are idle cores.
"""

import argparse
import json
import math
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/attention_speed.md"
LENGTHS = [1024, 4096, 8192, 16384, 32768]
# Names, benchmarks ({} is the pass, {T} the length), and what bounds them where the arithmetic does not.
MECHANISMS = [
    ("`delta`, heads of 128", "BM_Delta{}/T:{T}/D:128/C:64/threads:1", "the triangular system of a chunk"),
    ("`performer`, heads of 64, 256 random features", "BM_LinearAttention{}/T:{T}/D:64/rows:256/C:64/threads:1",
     "exponentials"),
    ("`slim`, heads of 64, squares", "BM_LinearAttention{}/T:{T}/D:64/rows:0/C:64/threads:1",
     "products of 64 x 64, which are small"),
    ("`polysketch`, all sketched, r = 32", "BM_Polysketch{}/weights:1/T:{T}/r:32/b:128/threads:1",
     "making the products of features"),
    ("`polysketch`, blocks of 1,024, r = 32", "BM_Polysketch{}/weights:2/T:{T}/r:32/b:1024/threads:1",
     "making the products of features"),
    ("`scatterbrain`, window of 64, 64 features", "BM_Scatterbrain{}/kind:1/size:64/T:{T}/r:64/causal:1/threads:1",
     "exponentials and tiles of half a window"),
    ("`sbm`, heads of 32, 64 edges a query", "BM_Sbm{}/T:{T}/edges:1064/K:128/threads:1/way:0",
     "memory: each edge reads a key and a value of its own"),
    ("`softmax`, heads of 64, all tokens", "BM_Softmax{}/T:{T}/D:64/window:0/threads:1", "exponentials"),
]
HEAD = """# Attention on CPU, by the length of the sequence

Made by `deploy/dev/attention_speed.py`: one thread of {cpu}, causal, f32, four heads. Nanoseconds of processor time
for a token of one head, medians of five runs. `growth` is the slope of the logarithm of the whole time over that of the
length, by least squares: 1 is linear, 2 quadratic; `from 4,096` is the same without the shortest sequence, whose data
fit nearer caches and which, with blocks of 1,024, has one block and no sketch. The edges of `sbm` grow as the length.
`share` is the rate of the arithmetic that the algorithm needs at 8,192 tokens over the rate of the matrix library
({rate:.0f} GFLOP/s here) in the same process.
"""


def measure_one(build, pattern):
    """name -> {ns, share, rate} of the benchmarks that the pattern names, measured by one process."""
    run = subprocess.run(
        [build / "bench/attention_bench", f"--benchmark_filter=^{pattern}/real_time$", "--benchmark_format=json",
         "--benchmark_min_time=0.1", "--benchmark_repetitions=5", "--benchmark_report_aggregates_only=true"],
        check=True, stdout=subprocess.PIPE, text=True)
    return {
        entry["run_name"].removesuffix("/real_time"): {
            "ns": entry["ns/token/head"], "share": entry["share"], "rate": entry["GFLOP/s"] / entry["share"]}
        for entry in json.loads(run.stdout)["benchmarks"] if entry["aggregate_name"] == "median"
    }


def measure(build, jobs):
    """name -> {ns, share, rate} of all."""
    lengths = "(" + "|".join(str(length) for length in LENGTHS) + ")"
    patterns = [benchmark.format(pass_name, T=lengths) for _, benchmark, _ in MECHANISMS
                for pass_name in ("Forward", "Backward")]
    results = {}
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(lambda pattern: measure_one(build, pattern), patterns):
            results.update(found)
    return results


def slope(points):
    """Of ln(y) over ln(x), by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    return (sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs))


def table(results, pass_name):
    lines = ["| mechanism | " + " | ".join(f"{length:,}" for length in LENGTHS)
             + " | growth | from 4,096 | share | below 0.60, bound by | softmax at 8,192 takes |",
             "|---" * (len(LENGTHS) + 6) + "|"]
    softmax = results[MECHANISMS[-1][1].format(pass_name, T=8192)]["ns"]
    for name, benchmark, bound in MECHANISMS:
        found = {length: results[key] for length in LENGTHS
                 if (key := benchmark.format(pass_name, T=length)) in results}
        times = [f"{found[length]['ns']:,.0f}" if length in found else "" for length in LENGTHS]
        whole = [(length, length * each["ns"]) for length, each in found.items()]
        growth, later = slope(whole), slope(whole[1:])
        share = found[8192]["share"]
        lines.append(f"| {name} | " + " | ".join(times) + f" | {growth:.2f} | {later:.2f} | {share:.2f} | "
                     + (bound if share < 0.6 else "") + f" | {softmax / found[8192]['ns']:.1f} x |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=ROOT / "build/ci")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    results = measure(arguments.build.resolve(), arguments.jobs)
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    rate = max(each["rate"] for each in results.values())
    text = HEAD.format(cpu=cpu, rate=rate)
    for pass_name in ("Forward", "Backward"):
        text += f"\n## {pass_name}\n\n{table(results, pass_name)}\n"
    PAGE.write_text(text)
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
