#!/usr/bin/env python3
"""Makes docs/performance.md from what `tests/gpu/run.sh --benchmarks` left.

    docs/generate_performance.py [FOLDER ...]   folders with Google Benchmark's JSON files

What stands in docs/performance is read first; newer results replace it. Put into it what the page shall keep.
"""

import json
import sys
from pathlib import Path

# (benchmark, model, rivals). A rival has a title, the name of a run that measures it, and what others published for it
# on one H200: tokens a second and GiB, shown where no such run is there.
STEPS = [
    ("gpt2_124m", "GPT-2 124M, sequence 1024", [
        ("PyTorch, compiled", "RivalSteps/gpt2_124m", None),
        ("llm.c", None, (575_600, None))]),
    ("deltanet_1300m_4k", "DeltaNet 1.3B, sequence 4096, 8 sequences", [
        ("flash-linear-attention", "RivalSteps/deltanet_1300m_4k", (56_900, 71.9))]),
    ("deltanet_1300m_32k", "DeltaNet 1.3B, sequence 32768", [
        ("the same model at 4096", "Steps/deltanet_1300m_4k", None)]),
]

HEAD = """# Performance on GPUs

Made by `docs/generate_performance.py` from the results of `tests/gpu/run.sh --benchmarks`, on one NVIDIA H200, bf16.

## Whole training steps

Rivals were timed on the same machine in the same run (`worker/train/gpu_training_rivals.py`): machines of one kind differ by 4 % and
more. GPT-2's is a plain model in PyTorch, compiled, with fused attention and AdamW; DeltaNet's is flash-linear-attention's own
model with its fused kernels. Both hold weights in bf16 beside those of the optimizer in fp32, as ours does. Those with a star are
what was measured for them on one H200 elsewhere: llm.c was not to be had where the others were timed. Ours computes DeltaNet 1.3B at
4096 in micro-batches of four sequences, GPT-2 in those of 128. `of peak` counts the model's matrix products only, over 989 TFLOP/s.
`GiB` is the most memory in use, the rival's without CUDA's own and what PyTorch keeps unused.

| model | tokens/s | of peak | GiB | rival | its tokens/s | its GiB | ratio |
|---|---|---|---|---|---|---|---|
"""

# Slices: (mechanism, tokens by their names)
SLICES_HEAD = """
## Long sequences in slices

One sequence, slices of 16,384 tokens, a model of eight layers 1024 wide; `GiB` is the most memory in use.

| mechanism | tokens of the sequence | tokens/s | GiB |
|---|---|---|---|
"""

GANGS = """
## Gangs of GPUs

One job, {gpus} GPUs of one host, whole steps, a shard for each GPU; ratios of the same run. `exact` adds gradients as
integers, the same bits on any number of GPUs; `fixed_gang` adds them in floating point; GPUs that are `apart` do the same but
exchange nothing, which no gang can beat. What two GPUs lack is the same for every step: the less, the more tokens a step has.
GPT-2's has 524,288 for each GPU, the small DeltaNet's 65,536, the 1.3B model's 32,768 and 5.5 GB of gradients to exchange. Of the
22 ms that it lacks of half of one GPU's 945, 14 are the exchange, 6 the optimizer, which each GPU runs whole, and the rest exact
sums, which move 20 bytes an element on each of two GPUs and 36 on one. The exchange takes those 14 ms from products at the limit
of power, carried by NCCL's kernels as by copy engines alone (`worker/train/LOG.md`, section 9). Over five pairs of GPUs, two were 1.89 to
1.94 times as fast as one at 1.3B.

| model | GPUs | sums | tokens/s | times one GPU | cost of exact sums |
|---|---|---|---|---|---|
"""

RECOVERY = """
## NCCL after the loss of a rank

{gpus} GPUs of one host, a process each; one dies by SIGKILL, the others are inside an all-reduce. Milliseconds: `abort` is
ncclCommAbort, `again` connecting anew with a process that stood by in the dead one's place, or ncclCommShrink with the
abort in it (of two ranks, one is left, whose all-reduce has nothing to add); all-reduces are of 64 MiB. A gang of GPUs that loses a rank is formed anew by the service
with new processes, which takes longer than this: 1.3 s from the kill to a step of the next generation
(`tests/gpu/service_check.py`).

| | first init | all-reduce, first | steady | abort | again | all-reduce, first again |
|---|---|---|---|---|---|---|
"""

# (mechanism, its title, rival, its title)
CUDNN = "cuDNN softmax through PyTorch, the gradient with atomics"
ATTENTION = [
    ("delta", "`delta`", "fla_delta", "flash-linear-attention's delta rule"),
    ("slim", "`slim` (squares)", "fla_linear", "flash-linear-attention's linear attention"),
    ("polysketch_r32", "`polysketch`, r = 32, blocks of 1,024, given the features", "cudnn_softmax", CUDNN),
    ("polysketch_r64", "`polysketch`, r = 64, blocks of 1,024, given the features", "cudnn_softmax", CUDNN),
    ("polysketch_learned_r32", "the same, r = 32, with the network that makes the features", "cudnn_softmax", CUDNN),
    ("polysketch_learned_r64", "the same, r = 64, with the network that makes the features", "cudnn_softmax", CUDNN),
    ("softmax", "`softmax`", "cudnn_softmax", CUDNN),
    ("performer", "`performer` (256 random features)", "cudnn_softmax", CUDNN),
]

# Milliseconds of rivals on one H200 in an earlier run, for where the same run has none: forward, both.
ON_RECORD = {
    "fla_delta": {
        "d128/16x2048": (1.00, 2.77), "d128/4x8192": (1.01, 2.80), "d128/1x32768": (1.49, 4.45),
        "d64/16x2048": (1.32, 3.20), "d64/4x8192": (1.32, 3.36), "d64/1x32768": (1.62, 4.64)},
    "fla_linear": {"d128/16x2048": (0.37, 1.62), "d128/4x8192": (0.37, 1.74), "d128/1x32768": (0.44, 2.22)},
    "cudnn_softmax": {
        "d128/16x2048": (0.56, 2.31), "d128/4x8192": (1.98, 7.61), "d128/1x32768": (7.47, 27.95),
        "d64/16x2048": (0.72, 2.79), "d64/4x8192": (2.57, 9.28), "d64/1x32768": (9.84, 35.45)},
}

ATTENTION_HEAD = """
## Attention

32,768 tokens a call, heads x head width 2048, milliseconds; ours gives the same bits each time. The rivals were timed in the same run
(`kernels/bench/gpu_attention_rivals.py`), those with a star in another; flash-linear-attention's linear attention beside ours in a
run of its own, at width 64 on another day but for one figure. What falls short of a rival, and what is known of why, stands in the `LOG.md` beside each
mechanism's kernels. The gradient of `softmax` adds in a fixed order, which the rival does not.

| mechanism | head width | sequences x tokens | forward | rival | ratio | forward + backward | rival | ratio |
|---|---|---|---|---|---|---|---|---|
"""

OPS = """
## Ops

32,768 tokens. The limit is what the same GPU did in the same run: a copy of a gigabyte for ops that move memory, a product of 8192 x 8192 matrices for products.

| op | microseconds | share of the limit |
|---|---|---|
"""


DENSITIES_HEAD = """
### By density

16 x 2048, head width 128, milliseconds: the time follows the pairs that are computed. `sbm` attends along a graph that is there,
`scatterbrain` has 64 features beside its exact pairs. All pairs by cuDNN's softmax take 0.56 and 2.3 here. Buckets of 32 take as
long as larger ones: of the 64 rows that are computed at a time half are empty there.

| mechanism | pairs | forward | forward + backward |
|---|---|---|---|
"""


def read(folders):
    runs = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("**/*.json")):
            for run in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
                runs[run["name"].split("/iterations")[0]] = run
    return runs


def steps(runs):
    """A row for each rival of a model that has figures, or one without a rival."""
    rows = ""
    for name, model, rivals in STEPS:
        run = runs.get(f"Steps/{name}", {})
        if "tokens/s" not in run:
            rows += f"| {model} | not measured yet | | | | | | |\n"
            continue
        ours = f"| {model} | {run['tokens/s']:,.0f} | {run['of_peak']:.2f} | {run['GiB']:.1f} "
        shown = ""
        for title, same_run, on_record in rivals:
            if same_run in runs:
                number, gib, star = runs[same_run]["tokens/s"], runs[same_run]["GiB"], ""
            elif on_record:
                (number, gib), star = on_record, "*"
            else:
                continue
            shown += (f"{ours}| {title}{star} | {number:,.0f} | {f'{gib:.1f}' if gib else ''} "
                      f"| {run['tokens/s'] / number:.2f} |\n")
        rows += shown or f"{ours}| | | | |\n"
    return rows


def slices(runs):
    rows = ""
    for mechanism in ("delta", "slim"):
        for name, tokens in (("64k", 65_536), ("1m", 1_048_576)):
            run = runs.get(f"Steps/{mechanism}_slices_{name}")
            if run and "tokens/s" in run:
                rows += f"| `{mechanism}` | {tokens:,} | {run['tokens/s']:,.0f} | {run['GiB']:.2f} |\n"
    return SLICES_HEAD + rows if rows else ""


def densities(runs):
    """Where the time follows the pairs that are computed: at 16 x 2048, width 128, beside all pairs."""
    place = "d128/16x2048"
    rows = ""
    for name, run in runs.items():
        kind, *parts = name.split("/")
        if kind != "Attention" or not parts[0].startswith(("sbm-", "scatterbrain-")) or not name.endswith(f"{place}/forward"):
            continue
        both = runs.get(name.removesuffix("forward") + "both", {}).get("real_time")
        mechanism, _, pairs = parts[0].partition("-")
        if mechanism == "sbm":
            given = pairs.startswith("given-")
            pairs = "density " + pairs.removeprefix("given-") + ("" if given else ", the graph drawn too")
        pairs = pairs.replace("window-", "window ").replace("hash-", "hash ").replace("blocks-", "blocks of 64, side by side ")
        rows += f"| `{mechanism}` | {pairs} | {run['real_time']:.2f} | {f'{both:.2f}' if both else ''} |\n"
    return DENSITIES_HEAD + rows if rows else ""


def gangs(runs):
    """`Gang/MODEL/SUMS/gpus:N` and, through the service, `Service/...`."""
    rows, most = "", 0
    for name, run in runs.items():
        kind, *parts = name.split("/")
        if kind not in ("Gang", "Service") or "tokens/s" not in run:
            continue
        model, sums, gpus = parts[0], parts[1], int(parts[2].removeprefix("gpus:"))
        most = max(most, gpus)
        one, plain = (runs.get(f"{kind}/{model}/{other}", {}).get("tokens/s")
                      for other in ("exact/gpus:1", f"fixed_gang/gpus:{gpus}"))
        scale = f"{run['tokens/s'] / one:.2f}" if one and gpus > 1 else ""
        cost = f"{100 * (plain / run['tokens/s'] - 1):.1f} %" if plain and sums == "exact" else ""
        where = ", through the service" if kind == "Service" else ""
        rows += f"| `{model}`{where} | {gpus} | {sums.replace('_apart', ', apart')} | {run['tokens/s']:,.0f} | {scale} | {cost} |\n"
    return GANGS.format(gpus=most) + rows if rows else ""


def recovery(runs):
    columns = ("init", "first", "steady", "abort", "again", "first_again")
    rows, gpus = "", 0
    for name, run in runs.items():
        if name.startswith("LossOfARank/") and "again" in run:
            gpus = int(run["gpus"])
            how = name.split("/")[1]
            rows += f"| {how} | " + " | ".join(f"{run[column]:.2f}" for column in columns) + " |\n"
    return RECOVERY.format(gpus=gpus) + rows if rows else ""


def attention_cells(runs, mechanism, rival, place):
    """Ours, the rival's and their ratio, for the forward pass and for both; None when ours was not measured."""
    cells = ""
    for column, way in enumerate(("forward", "both")):
        ours = runs.get(f"Attention/{mechanism}/{place}/{way}", {}).get("real_time")
        if ours is None:
            return None
        theirs = runs.get(f"Rival/{rival}/{place}/{way}", {}).get("real_time")
        star = "" if theirs else "*"
        theirs = theirs or ON_RECORD[rival].get(place, (None, None))[column]
        cells += f"| {ours:.2f} | {theirs:.2f}{star} | {theirs / ours:.2f} " if theirs else f"| {ours:.2f} | | "
    return cells


def attention_rows(runs):
    text = ""
    for mechanism, title, rival, rival_title in ATTENTION:
        for width in (128, 64):
            for tokens in (2048, 8192, 32768):
                batch = 32768 // tokens
                cells = attention_cells(runs, mechanism, rival, f"d{width}/{batch}x{tokens}")
                if cells is not None:
                    text += f"| {title}, against {rival_title} | {width} | {batch} x {tokens} {cells}|\n"
    return text


def main():
    runs = read([Path(__file__).with_name("performance"), *sys.argv[1:]])
    text = HEAD + steps(runs)
    text += slices(runs) + gangs(runs) + recovery(runs) + ATTENTION_HEAD + attention_rows(runs) + densities(runs) + OPS
    for name, run in runs.items():
        if "of_limit" in run:
            text += f"| `{name.removeprefix('Bench')}` | {run['real_time']:.0f} | {run['of_limit']:.2f} |\n"
    Path(__file__).with_name("performance.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
