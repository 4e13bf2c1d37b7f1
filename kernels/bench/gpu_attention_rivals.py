#!/usr/bin/env python3
"""Times what others have for attention on the GPU, at the shapes of gpu_attention_bench: cuDNN through PyTorch, and
flash-linear-attention where it is installed (`fla-core` on PyPI).

    kernels/bench/gpu_attention_rivals.py OUT.json [RIVAL ...]

flash-linear-attention tunes itself for minutes when it runs for the first time on a machine, before what is timed, and
keeps what it found in Triton's cache. The file has the form of Google Benchmark's, so that docs/generate_performance.py reads both. Times are medians of
event-timed calls, in milliseconds. bf16, 32,768 tokens, heads x head width 2048, causal.
"""

import importlib.util
import json
import os
import sys

os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")

import torch  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

TOKENS, WIDTH = 32768, 2048


def median_ms(call, repeats=15):
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[repeats // 2]


def cudnn_softmax(head_dim, tokens):
    shape = (TOKENS // tokens, tokens, WIDTH // head_dim, head_dim)
    q, k, v, d_o = (torch.randn(shape, dtype=torch.bfloat16, device="cuda").transpose(1, 2) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()

    def forward():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def both():
        torch.autograd.grad(forward(), (q, k, v), d_o)

    return forward, both


def fla_operands(head_dim, tokens):
    shape = (TOKENS // tokens, tokens, WIDTH // head_dim, head_dim)
    q, k, v, d_o = (torch.randn(shape, dtype=torch.bfloat16, device="cuda") for _ in range(4))
    for x in (q, k):
        x /= x.float().norm(dim=-1, keepdim=True)
    for x in (q, k, v):
        x.requires_grad_()
    return q, k, v, d_o


def fla_delta(head_dim, tokens):
    from fla.ops.delta_rule import chunk_delta_rule

    q, k, v, d_o = fla_operands(head_dim, tokens)
    beta = torch.rand(q.shape[:-1], dtype=torch.bfloat16, device="cuda").requires_grad_()

    def forward():
        return chunk_delta_rule(q, k, v, beta)[0]

    return forward, lambda: torch.autograd.grad(forward(), (q, k, v, beta), d_o)


def fla_linear(head_dim, tokens):
    from fla.ops.linear_attn import chunk_linear_attn

    q, k, v, d_o = fla_operands(head_dim, tokens)

    def forward():
        return chunk_linear_attn(q, k, v, normalize=False)[0]

    return forward, lambda: torch.autograd.grad(forward(), (q, k, v), d_o)


RIVALS = {"cudnn_softmax": cudnn_softmax}
if importlib.util.find_spec("fla"):
    RIVALS |= {"fla_delta": fla_delta, "fla_linear": fla_linear}


def main():
    runs = []
    for name in sys.argv[2:] or RIVALS:
        make = RIVALS[name]
        for head_dim in (128, 64):
            for tokens in (2048, 8192, 32768):
                forward, both = make(head_dim, tokens)
                for way, call in (("forward", forward), ("both", both)):
                    runs.append({"name": f"Rival/{name}/d{head_dim}/{TOKENS // tokens}x{tokens}/{way}",
                                 "real_time": median_ms(call), "time_unit": "ms"})
                    print(runs[-1]["name"], round(runs[-1]["real_time"], 3), flush=True)
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump({"benchmarks": runs}, out, indent=1)


if __name__ == "__main__":
    main()
