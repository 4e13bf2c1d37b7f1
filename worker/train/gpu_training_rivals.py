#!/usr/bin/env python3
"""Times whole training steps of what others have on the GPU, at the shapes of gpu_training_bench: GPT-2 124M in
PyTorch, and DeltaNet 1.3B by flash-linear-attention's own model where it is installed (`flash-linear-attention` on
PyPI).

    worker/train/gpu_training_rivals.py OUT.json [MODEL ...]

A step is the forward and backward passes, the gradient's norm cut at one, and AdamW, all of them as fast as their
authors offer: torch.compile, fused kernels, weights in bf16 beside those of the optimizer in fp32, which is also what
ours has. The first run on a machine compiles and tunes for minutes, before what is timed; Triton and Inductor keep what
they found in their caches. The file has the form of Google Benchmark's, so that docs/generate_performance.py reads both.
`GiB` is the most that PyTorch's allocator had given out, without what it keeps unused and without CUDA's own.
"""

import functools
import importlib.util
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

WARM_UPS, STEPS = 2, 5
GPT2_VOCABULARY = 50304  # 50257, padded as llm.c pads it


class Gpt2Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.mixer_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        heads = self.qkv(self.mixer_norm(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # [batch, heads, tokens, head width] each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, layers=12, width=768, heads=12, positions=1024):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(GPT2_VOCABULARY, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Gpt2Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for weight in (self.embedding.weight, self.positions.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, tokens, targets):
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight)  # tied
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def gpt2_124m(micro_batch=64, compiled=True, weights=torch.bfloat16, cudnn=True):
    for backend in ("flash", "mem_efficient", "math"):
        getattr(torch.backends.cuda, f"enable_{backend}_sdp")(not cudnn)
    model = Gpt2().to("cuda", weights)
    run = torch.compile(model) if compiled else model

    def loss(tokens):  # [batch, 1025]
        return run(tokens[:, :-1], tokens[:, 1:])

    return measure(model, loss, GPT2_VOCABULARY, shape=(512, 1024 + 1), micro_batch=micro_batch)


def compile_side_by_side():
    """Lets Triton compile the choices of a kernel that it is about to tune on all cores, not one after another. What
    it chooses from stays the same."""
    import triton
    from triton.runtime.autotuner import Autotuner

    bench = Autotuner._bench
    executor = ThreadPoolExecutor(os.cpu_count())

    def compile_and_bench(self, *args, config, **meta):
        if getattr(self, "compiled_for", None) is not self.nargs:  # the first choice of this tuning
            self.compiled_for = self.nargs
            with triton.AsyncCompileMode(executor, ignore_errors=True):
                for choice in self.configs:
                    self.fn.run(*args, **{**meta, **choice.all_kwargs(), "warmup": True})
        return bench(self, *args, config=config, **meta)

    Autotuner._bench = compile_and_bench
    Autotuner.do_bench = functools.partial(triton.testing.do_bench, warmup=5, rep=20)  # milliseconds


def deltanet_1300m_4k(micro_batch=8, compiled=False, weights=torch.bfloat16, fused_head=False):
    from fla.models.delta_net import DeltaNetConfig, DeltaNetForCausalLM

    compile_side_by_side()
    config = DeltaNetConfig(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_heads=16,
                            use_cache=False, fuse_norm=True, fuse_swiglu=True, fuse_cross_entropy=not fused_head,
                            fuse_linear_cross_entropy=fused_head)
    with torch.device("cuda"):
        model = DeltaNetForCausalLM(config).to(weights)
    if compiled:  # each block, whose delta rule stays outside of what is compiled
        torch._dynamo.config.recompile_limit = 64
        for layer in model.model.layers:
            layer.compile()

    def loss(tokens):
        return model(input_ids=tokens, labels=tokens).loss  # shifts the labels itself

    return measure(model, loss, config.vocab_size, shape=(8, 4096), micro_batch=micro_batch)


class Optimizer:
    """Fused AdamW. For a model in bf16 it keeps weights in fp32, and sums gradients of micro-batches in fp32."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.in_bf16 = self.parameters[0].dtype == torch.bfloat16
        self.weights = [p.detach().float().requires_grad_() for p in self.parameters] if self.in_bf16 else self.parameters
        self.adamw = torch.optim.AdamW(self.weights, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def take_gradients(self, first):
        if not self.in_bf16:
            return  # summed where they are
        given = [p.grad for p in self.parameters]
        if first:
            for weight in self.weights:
                weight.grad = torch.empty_like(weight) if weight.grad is None else weight.grad
            torch._foreach_copy_([w.grad for w in self.weights], given)
        else:
            torch._foreach_add_([w.grad for w in self.weights], given)
        for p in self.parameters:
            p.grad = None

    def step(self):
        nn.utils.clip_grad_norm_(self.weights, 1.0, foreach=True)
        self.adamw.step()
        if self.in_bf16:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.weights)
        else:
            self.adamw.zero_grad()


def measure(model, loss_of, vocabulary, shape, micro_batch):
    """Seconds of a step over shape [sequences, tokens] of noise, in micro-batches."""
    parts = torch.randint(vocabulary, shape, device="cuda").split(micro_batch)
    optimizer = Optimizer(model.parameters())

    def step():
        for i, part in enumerate(parts):
            with torch.autocast("cuda", torch.bfloat16, enabled=not optimizer.in_bf16):
                loss = loss_of(part)
            (loss / len(parts)).backward()
            optimizer.take_gradients(first=i == 0)
        optimizer.step()
        return loss

    for _ in range(WARM_UPS):
        first_loss = step().item()
    torch.cuda.reset_peak_memory_stats()
    begin = time.monotonic()
    for _ in range(STEPS):
        loss = step()
    loss = loss.item()  # waits
    seconds = (time.monotonic() - begin) / STEPS
    return {
        "real_time": 1e3 * seconds,
        "time_unit": "ms",
        "GiB": torch.cuda.max_memory_allocated() / 2**30,
        "parameters": sum(p.numel() for p in model.parameters()),
        "first_loss": first_loss,
        "loss": loss,
    }


MODELS = {"gpt2_124m": (gpt2_124m, 512 * 1024)}
if importlib.util.find_spec("fla") and importlib.util.find_spec("transformers"):
    MODELS["deltanet_1300m_4k"] = (deltanet_1300m_4k, 8 * 4096)


def main():
    runs = []
    for name in sys.argv[2:] or MODELS:
        train, tokens = MODELS[name]
        run = {"name": f"RivalSteps/{name}", **train()}
        run["tokens/s"] = 1e3 * tokens / run["real_time"]
        runs.append(run)
        print(json.dumps(run), flush=True)
        torch.cuda.empty_cache()
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump({"benchmarks": runs}, out, indent=1)


if __name__ == "__main__":
    main()
