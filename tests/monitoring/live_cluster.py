"""The real programs and a real Prometheus on loopback, on free ports, for tests that look at what operators see.

Waits have deadlines; nothing waits for time to pass alone.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

START_SECONDS = 60
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def wait_for(what, condition, seconds):
    """The first true value of condition(), asked ten times a second."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for: {what}")
        time.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LiveCluster:
    """A coordinator and workers in `folder`, which exists. To be used with `with`."""

    def __init__(self, programs, folder):
        self.programs = Path(programs)
        self.folder = Path(folder)
        self.processes = {}
        self.address = "127.0.0.1:0"
        self.coordinator_metrics = "127.0.0.1:0"
        self._make_authority()
        (self.folder / "text").write_text("".join(f"the {i % 97} quick brown foxes; " for i in range(4000)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def _make_authority(self):
        self._openssl("req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority")

    def issue_certificate(self, name, days=90):
        """A new certificate for a program, over the one it has; the flags by which it is used."""
        self._openssl("req", *NEW_KEY, "-keyout", "new.key", "-out", "request", "-subj", f"/CN={name}",
                      "-addext", "subjectAltName=IP:127.0.0.1")
        self._openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-copy_extensions", "copy",
                      "-days", str(days), "-out", "new.crt")
        for kind in ("key", "crt"):
            (self.folder / f"new.{kind}").rename(self.folder / f"{name}.{kind}")
        return ["--tls-cert", self.folder / f"{name}.crt", "--tls-key", self.folder / f"{name}.key"]

    def spawn(self, name, command):
        log = open(self.folder / f"{name}.log", "ab")  # noqa: SIM115: the child's
        # SIGXFSZ stays ignored as it is here, so that a limit on files looks like a full disk.
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                                restore_signals=False)
        return self.processes[name]

    def _announced(self, name, path):
        process = self.processes[name]

        def read():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {(self.folder / f'{name}.log').read_text()[-2000:]}")
            try:
                content = json.loads(path.read_text())
            except (OSError, ValueError):
                return None
            return content if content.get("pid") == process.pid else None

        return wait_for(f"{name} to serve", read, START_SECONDS)

    def start_coordinator(self):
        """Starts it, or starts it again on the same ports and state."""
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        self.spawn("coordinator", [self.programs / "weft-coordinator", "--state-dir", state, "--listen", self.address,
                                   "--metrics-listen", self.coordinator_metrics,
                                   *self.issue_certificate("coordinator")])
        announced = self._announced("coordinator", state / "coordinator.json")
        self.address, self.coordinator_metrics = announced["address"], announced["metrics_address"]

    def start_worker(self, name):
        state = self.folder / name
        self.spawn(name, [self.programs / "weft-worker", "--coordinator", self.address, "--name", name, "--state-dir",
                          state, "--threads", "1", "--metrics-listen", "127.0.0.1:0",
                          "--tls-ca", self.folder / "ca.crt", *self.issue_certificate(name)])
        return self._announced(name, state / "worker.json")["metrics_address"]

    def weft(self, *arguments):
        environment = {**os.environ, "WEFT_ADDRESS": self.address, "WEFT_TLS_CA": str(self.folder / "ca.crt")}
        return subprocess.run([self.programs / "weft", *arguments], env=environment, capture_output=True, text=True,
                              timeout=60, check=False)

    def submit(self, name, workers, **sections):
        """A tiny job that does not end by itself; its name ("pair-1")."""
        spec = {
            "name": name,
            "model": {"width": 32, "layers": 2, "mlp_width": 64,
                      "mixers": [{"delta": {"heads": 2}}, {"softmax": {"heads": 2}}]},
            "data": {"text": {"paths": [str(self.folder / "text")]}},
            "training": {"steps": 10_000_000, "batch_size": 8, "shards": 8, "sequence_length": 32, "seed": 7},
            "resources": {"min_workers": workers, "max_workers": workers},
            "checkpoint": {"every_steps": 20},
            "evaluation": {"every_steps": 20, "sequences": 4},
            "retry": {"max_retries": 20, "initial_backoff": "0.05s", "max_backoff": "0.1s"},
        }
        for section, values in sections.items():
            merged = isinstance(values, dict) and section != "data"  # one source of data, or another
            spec[section] = {**spec[section], **values} if merged else values
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(spec))
        result = self.weft("submit", str(path), "-o", "json")
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        return json.loads(result.stdout)["name"].removeprefix("jobs/")

    def job(self, name):
        result = self.weft("get", "jobs", name, "-o", "json")
        if result.returncode != 0:
            raise RuntimeError(result.stderr)
        job = json.loads(result.stdout)
        return job[0] if isinstance(job, list) else job

    def ranks_of(self, job):
        """Pids of the job's rank processes, by rank."""
        found = {}
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = line.read_bytes().split(b"\0")[0].decode().split()
            except OSError:
                continue
            if words[:2] == ["weft-rank", f"jobs/{job}"]:
                found[int(words[2].removeprefix("rank="))] = int(line.parent.name)
        return found


class Prometheus:
    """Debian's Prometheus over the targets, with these rule files. It ends with the cluster."""

    def __init__(self, cluster, targets, rule_files):
        self.port = free_port()
        self.begin = time.time()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [{"job_name": "weft", "static_configs": [{"targets": targets}]}],
        }
        path = cluster.folder / "prometheus.json"  # YAML includes JSON
        path.write_text(json.dumps(config))
        cluster.spawn("prometheus", [
            "prometheus", f"--config.file={path}", f"--storage.tsdb.path={cluster.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
        wait_for("Prometheus to serve", self._ready, START_SECONDS)

    def _ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _ask(self, path, **arguments):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error

    def now(self, expression):
        """The present samples: [{metric: {...}, value: [time, text]}]. ValueError when it does not parse."""
        return self._ask("query", query=expression)["result"]

    def history(self, expression):
        """All since the start, a point a second: [{metric: {...}, values: [[time, text], ...]}]."""
        return self._ask("query_range", query=expression, start=self.begin, end=time.time(), step=1)["result"]

    def firing(self):
        """The names of all alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self._ask("alerts")["alerts"] if alert["state"] == "firing"}
