"""For tests written in Python: the programs under test, a cluster of them on loopback, waiting for conditions."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path


def programs():
    """The folder of the programs under test; ctest sets it."""
    folder = os.environ.get("WEFT_BIN_DIR")
    assert folder, "WEFT_BIN_DIR is not set: run the test with ctest"
    return Path(folder)


def run(program, *arguments, **environment):
    """One of our programs, to its end."""
    return subprocess.run([programs() / program, *arguments], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=120)


def await_that(condition, seconds=60):
    """Polls until the condition is true, and returns its value."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return result


class Cluster:
    """A coordinator and workers with free ports. `close` kills what still runs."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.address = "127.0.0.1:0"
        self.processes = {}
        self.environment = {}  # of our own `weft`, beside the address

    def start(self, name, program, *arguments):
        with open(self.folder / f"{name}.log", "a") as log:
            self.processes[name] = subprocess.Popen([programs() / program, *arguments], stdout=log, stderr=log)
        return self.processes[name]

    def start_coordinator(self, state, *arguments):
        """Again on the same port when there was one before."""
        child = self.start("coordinator", "weft-coordinator", f"--state-dir={state}", f"--listen={self.address}",
                           "--metrics-listen=127.0.0.1:0", *arguments)

        def announced():
            assert child.poll() is None, (self.folder / "coordinator.log").read_text()
            try:
                told = json.loads((Path(state) / "coordinator.json").read_text())
            except (OSError, ValueError):
                return None
            return told if told["pid"] == child.pid else None
        self.address = await_that(announced)["address"]

    def start_worker(self, name, *arguments):
        self.start(name, "weft-worker", f"--coordinator={self.address}", f"--name={name}", "--threads=1",
                   f"--state-dir={self.folder / name}", "--metrics-listen=127.0.0.1:0", *arguments)
        await_that(lambda: self.state_of_worker(name) == "READY")

    def kill(self, name, signal_number=signal.SIGKILL):
        child = self.processes.pop(name)
        child.send_signal(signal_number)
        return child.wait(60)

    def weft(self, *arguments):
        return run("weft", *arguments, WEFT_ADDRESS=self.address, **self.environment)

    def state_of_worker(self, name):
        for line in self.weft("get", "workers").stdout.splitlines():
            if line.split()[:1] == [name]:
                return line.split()[1]
        return None

    def submit(self, path):
        submitted = self.weft("submit", str(path), "-o", "name")
        assert submitted.returncode == 0, submitted.stderr
        return submitted.stdout.strip()

    def job(self, name):
        shown = self.weft("get", "job", name, "-o", "json")
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)

    def step(self, name):
        return int(self.job(name).get("last_step", {}).get("step", 0))

    def close(self):
        for name in list(self.processes):
            self.kill(name)
