#!/usr/bin/env python3
"""Trains through the whole service on this machine's GPUs and checks what must hold there.

    tests/gpu/service_check.py OUT_FOLDER [CHECK ...]

Takes the programs from PATH. A coordinator, a worker with one GPU, one with all of them and one with the cores; jobs by
`weft submit`. Without names every check runs, whatever became of the others; the exit code is the number of those that
failed. Logs and service.json (Google Benchmark's form, for docs/generate_performance.py) land in OUT_FOLDER.
"""

import array
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

SMALL = """
name: {name}
model: {{width: 512, layers: 4, mixers: [{{delta: {{heads: 4}}}}]}}
data: {{text: {{paths: [{text}]}}}}
training:
  steps: {steps}
  batch_size: 16
  sequence_length: 512
  shards: 8
  seed: 5
  learning_rate: {{peak: 1e-3}}
  reproducibility: {reproducibility}
resources: {{device: {device}}}
checkpoint: {{every_steps: 50}}
evaluation: {{every_steps: 0, sequences: 8}}
memory: {{sharded_optimizer: {sharded}}}
"""

# DeltaNet 340M as its authors have it, without the tokens that it learns from.
LARGE = """
name: large
model:
  vocab_size: 32000
  width: 1024
  layers: 24
  mlp_width: 2816
  mixers: [{{delta: {{heads: 8}}}}]
  initialisation: torch
data: {{tokens: {{paths: [{tokens}]}}}}
training:
  steps: 100000
  batch_size: 64
  sequence_length: 2048
  micro_batch_size: 8
  shards: 2
  reproducibility: {reproducibility}
resources: {{device: gpu}}
checkpoint: {{every_steps: 0}}
evaluation: {{every_steps: 0, sequences: 2}}
"""
LARGE_TOKENS = 64 * 2048

ENDED = ("STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED")


def await_that(condition, limit, what):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit} s for {what}")
        time.sleep(0.05)


def gpu_count():
    if shutil.which("nvidia-smi") is None:
        return 0
    return len(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines())


class Cluster:
    """A coordinator and three workers: `one` has a GPU, `all` every GPU, `cores` none."""

    def __init__(self, out):
        self.out = Path(out)
        shutil.rmtree(self.out, ignore_errors=True)
        self.state = self.out / "state"
        self.state.mkdir(parents=True)
        self.processes = []

    def start(self):
        self._start("coordinator", "weft-coordinator", "--state-dir", self.state / "coordinator",
                    "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
        self.file = self.state / "coordinator" / "coordinator.json"
        await_that(self.file.exists, 20, "the coordinator's address")
        self.address = json.loads(self.file.read_text())["address"]
        self._worker("one", "gpu", CUDA_VISIBLE_DEVICES="0")
        self._worker("all", "gpu")
        self._worker("cores", "cpu")
        await_that(lambda: len(self.weft_json("get", "workers")) == 3, 60, "the workers")

    def _start(self, name, program, *arguments, **environment):
        with open(self.out / f"{name}.log", "wb") as log:
            self.processes.append(subprocess.Popen([program, *map(str, arguments)], stdout=log, stderr=log,
                                                   env={**os.environ, **environment}))

    def _worker(self, name, device, **environment):
        self._start(name, "weft-worker", "--coordinator-file", self.file, "--name", name, "--device", device,
                    "--state-dir", self.state / name, "--metrics-listen", "127.0.0.1:0", **environment)

    def weft(self, *arguments):
        done = subprocess.run(["weft", "--address", self.address, *map(str, arguments)],
                              capture_output=True, text=True, timeout=120, check=False)
        with open(self.out / "weft.log", "a", encoding="utf-8") as log:
            log.write(f"$ weft {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            raise RuntimeError(f"weft {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def weft_json(self, *arguments):
        return json.loads(self.weft("-o", "json", *arguments))

    def submit(self, spec, worker):
        """Only `worker` of the two with GPUs can take the job."""
        for name in ("one", "all"):
            self.weft("undrain" if name == worker else "drain", name)
        path = self.out / "job.yaml"
        path.write_text(spec, encoding="utf-8")
        return self.weft("submit", path, "-o", "name").strip().removeprefix("jobs/")

    def job(self, name):
        return self.weft_json("get", "job", name)

    def step(self, name):
        job = self.job(name)
        if job["state"] == "STATE_FAILED":
            raise RuntimeError(f"{name} failed: {job.get('reason')}")
        return int(job.get("last_step", {}).get("step", 0))

    def finish(self, name, limit=120):
        await_that(lambda: self.job(name)["state"] in ENDED, limit, f"the end of {name}")
        job = self.job(name)
        if job["state"] != "STATE_SUCCEEDED":
            self.weft("logs", name)
            raise RuntimeError(f"{name}: {job['state']}: {job.get('reason')}")
        print(f"{name}: weights {job['weights_hash'][:16]}, loss {job['last_step']['loss']:.4f}", flush=True)
        return job

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.state, ignore_errors=True)


def pid_of_rank(job, rank):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"weft-rank ") and f"{job} rank={rank} ".encode() in line:
                return int(entry.name)
    raise RuntimeError(f"no process of rank {rank} of {job}")


class Checks:
    def __init__(self, cluster, gpus):
        self.cluster, self.gpus = cluster, gpus
        self.results = []
        draw = random.Random(3)
        words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 7))) for _ in range(300)]
        self.text = cluster.out.resolve() / "text"
        self.text.write_text(" ".join(draw.choices(words, k=200_000)), encoding="utf-8")
        self.undisturbed = None

    def small(self, name, device="gpu", steps=400, reproducibility="exact", sharded="false"):
        return SMALL.format(name=name, device=device, steps=steps, text=self.text, reproducibility=reproducibility,
                            sharded=sharded)

    def train(self, name, worker, **how):
        return self.cluster.finish(self.cluster.submit(self.small(name, **how), worker))

    def weights_of_one_gpu(self):
        if self.undisturbed is None:
            self.undisturbed = self.train("one-gpu", "one")["weights_hash"]
        return self.undisturbed

    def same_bits_on_all_gpus(self):
        assert self.train("all-gpus", "all")["weights_hash"] == self.weights_of_one_gpu()

    def same_bits_through_the_death_of_a_rank_with_a_sharded_optimizer(self):
        cluster = self.cluster
        job = cluster.submit(self.small("killed-rank", sharded="true"), "all")
        await_that(lambda: cluster.step(job) >= 60, 60, "step 60")
        os.kill(pid_of_rank(job, self.gpus - 1), signal.SIGKILL)
        killed = time.monotonic()
        await_that(lambda: int(cluster.job(job)["generation"]) == 2, 30, "generation 2")
        saved = int(cluster.job(job)["checkpoint_step"])
        await_that(lambda: cluster.step(job) > saved, 60, "a step of generation 2")
        print(f"{time.monotonic() - killed:.1f} s from the kill to a step of the next generation", flush=True)
        done = cluster.finish(job)
        assert int(done["recoveries"]) == 1, done["recoveries"]
        assert done["weights_hash"] == self.weights_of_one_gpu()

    def fixed_gang_ends_alike_twice(self):
        hashes = {self.train(f"fixed-{run}", "all", reproducibility="fixed_gang")["weights_hash"] for run in "ab"}
        assert len(hashes) == 1, hashes

    def loss_is_like_that_of_cores(self):
        gpu = self.train("short-gpu", "one", steps=20)["last_step"]["loss"]
        cores = self.train("short-cores", None, steps=20, device="cpu")["last_step"]["loss"]
        assert abs(gpu - cores) < 0.01 * cores, (gpu, cores)

    def tokens_per_second(self, worker, gpus, reproducibility):
        tokens = self.cluster.out.resolve() / "tokens.bin"
        if not tokens.exists():
            header = array.array("i", [20240520, 1, 4_000_000] + [0] * 253)
            draws = array.array("H", random.Random(1).choices(range(32000), k=4_000_000))
            tokens.write_bytes(header.tobytes() + draws.tobytes())
        job = self.cluster.submit(LARGE.format(tokens=tokens, reproducibility=reproducibility), worker)
        seconds = {}

        def enough():
            last = self.cluster.job(job).get("last_step", {"step": 0})
            if int(last["step"]) > 3:
                seconds[last["step"]] = float(last["seconds"])
            return len(seconds) >= 10 or self.cluster.step(job) < 0
        try:
            await_that(enough, 60, "ten steps")
        finally:
            self.cluster.weft("cancel", job)
        median = statistics.median(seconds.values())
        self.results.append({"name": f"Service/deltanet_374m/{reproducibility}/gpus:{gpus}",
                             "real_time": median * 1e3, "time_unit": "ms", "tokens/s": LARGE_TOKENS / median})
        print(f"{gpus} GPU(s), {reproducibility}: {LARGE_TOKENS / median:,.0f} tokens/s", flush=True)
        return median

    def speed(self):
        one = self.tokens_per_second("one", 1, "exact")
        exact = self.tokens_per_second("all", self.gpus, "exact")
        print(f"{self.gpus} GPUs are {one / exact:.3f} times one", flush=True)


CHECKS = [
    "same_bits_on_all_gpus", "same_bits_through_the_death_of_a_rank_with_a_sharded_optimizer",
    "fixed_gang_ends_alike_twice", "loss_is_like_that_of_cores", "speed",
]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    gpus = gpu_count()
    if gpus == 0:
        sys.exit("no GPU: the service is NOT tested on GPUs here")
    cluster = Cluster(sys.argv[1])
    failed = 0
    try:
        cluster.start()
        checks = Checks(cluster, gpus)
        for name in sys.argv[2:] or CHECKS:
            begin = time.monotonic()
            try:
                getattr(checks, name)()
                verdict = "ok"
            except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
                verdict = f"FAILED: {type(error).__name__}: {error}"
                failed += 1
            print(f"{name}: {verdict} ({time.monotonic() - begin:.1f} s)", flush=True)
        (cluster.out / "service.json").write_text(json.dumps({"benchmarks": checks.results}, indent=1))
    finally:
        cluster.stop()
    sys.exit(failed)


if __name__ == "__main__":
    main()
