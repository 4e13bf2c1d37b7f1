#!/usr/bin/env python3
"""What workers cost a coordinator: real agents on loopback that offer one core and wait, and the coordinator's own
metrics. CPU time, not wall time, so that a busy machine does not matter much.

    WEFT_BIN_DIR=build/release/bin deploy/dev/capacity.py [WORKERS ...]        default: 50 200
"""

import json
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "testing"))
from programs import Cluster, await_that  # noqa: E402

SECONDS = 20


def metrics(folder):
    address = json.loads((folder / "state/coordinator.json").read_text())["metrics_address"]
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=30).read().decode()
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) ([\d.e+-]+)$", text, re.M)}


def main():
    counts = [int(word) for word in sys.argv[1:]] or [50, 200]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = Cluster(folder)
        try:
            cluster.start_coordinator(folder / "state")
            started = 0
            print("| workers | CPU of the coordinator | for a worker | resident memory |\n|---|---|---|---|")
            for count in counts:
                for number in range(started, count):
                    cluster.start(f"w{number}", "weft-worker", f"--coordinator={cluster.address}", f"--name=w{number}",
                                  "--threads=1", f"--state-dir={folder}/w{number}", "--metrics-listen=127.0.0.1:0")
                started = count
                await_that(lambda: metrics(folder).get('weft_workers{state="READY"}') == count, 600)
                before, begin = metrics(folder), time.monotonic()
                time.sleep(SECONDS)
                after, took = metrics(folder), time.monotonic() - begin
                cpu = (after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / took
                print(f"| {count} | {100 * cpu:.1f} % of a core | {1e6 * cpu / count:.0f} us/s | "
                      f"{after['process_resident_memory_bytes'] / 2**20:.0f} MiB |", flush=True)
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
