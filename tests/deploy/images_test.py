"""The images, built for real by buildah on a base made by debootstrap, and run: submit, train, succeed inside them.

There is no container engine here: buildah builds and runs with chroot isolation. The programs are those of the build
under test, so that nothing is compiled. The base is kept in ~/.cache/weft."""

import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft"
MEGABYTE = 1 << 20
JOB = """
name: image
model: {width: 16, layers: 1, mlp_width: 32, mixers: [{delta: {heads: 1}}]}
data: {induction_heads: {}}
training: {steps: 20, batch_size: 4, sequence_length: 64, shards: 4}
resources: {min_workers: 2, max_workers: 2}
checkpoint: {every_steps: 10}
evaluation: {every_steps: 0, sequences: 4}
"""


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise AssertionError(f"{command} ended with {result.returncode}\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result.stdout.strip()


def await_that(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return result


def debian_base():
    """A tar archive of the smallest Debian 12, made once."""
    archive = CACHE / "bookworm-minbase.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            run("debootstrap", "--variant=minbase", "bookworm", f"{folder}/root")
            run("tar", "-C", f"{folder}/root", "--numeric-owner", "--exclude=./var/cache/apt/archives/*.deb", "-cf", f"{folder}/base.tar", ".")
            Path(f"{folder}/base.tar").rename(archive)
    return archive


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        cls.folder.chmod(0o755)
        cls.buildah = ["buildah", f"--root={cls.folder}/store", f"--runroot={cls.folder}/run", "--storage-driver=vfs"]
        run(ROOT / "deploy/docker/collect_programs.sh", os.environ["WEFT_BUILD_DIR"], cls.folder / "compiled/programs")
        container = run(*cls.buildah, "from", "scratch")
        run(*cls.buildah, "add", "--quiet", container, debian_base(), "/")
        run(*cls.buildah, "commit", "--quiet", "--rm", container, "localhost/base")
        cls.build("coordinator")
        cls.build("worker-cpu")

    @classmethod
    def build(cls, target, tag=None):
        run(*cls.buildah, "bud", "--isolation=chroot", "--format=docker", "--timestamp=0", "--pull-never", "--layers=false",
            f"--file={ROOT}/deploy/docker/Dockerfile", "--build-arg=BASE=localhost/base",
            f"--build-context=compiled={cls.folder}/compiled", f"--target={target}", f"--tag=localhost/{tag or target}", ROOT)

    def config(self, image):
        return json.loads(run(*self.buildah, "inspect", "--type=image", f"localhost/{image}"))["Docker"]["config"]

    def bytes_of(self, image):
        images = json.loads(run(*self.buildah, "images", "--json"))
        size = next(i["size"] for i in images if any(n.startswith(f"localhost/{image}:") for n in i["names"]))
        number, unit = re.fullmatch(r"([\d.]+) ([KMG]?B)", size).groups()
        return float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]

    def tree_of(self, image):
        """Path, kind, mode, owner and content of every file."""
        container = run(*self.buildah, "from", "--pull-never", f"localhost/{image}")
        root = Path(run(*self.buildah, "mount", container))
        tree = {}
        for path in sorted(root.rglob("*")):
            stat = path.lstat()
            content = (os.readlink(path) if path.is_symlink()
                       else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
            tree[str(path.relative_to(root))] = (stat.st_mode, stat.st_uid, stat.st_gid, content)
        run(*self.buildah, "rm", container)
        return tree

    def test_users_health_and_size(self):
        for image, program in [("coordinator", "weft-coordinator"), ("worker-cpu", "weft-worker")]:
            config = self.config(image)
            self.assertEqual(config["User"], "10001:10001")
            self.assertEqual(config["Healthcheck"]["Test"], ["CMD", "weft-healthcheck", "9733"])
            self.assertEqual(config["Cmd"], [program])
            self.assertEqual(config["Volumes"], {"/var/lib/weft": {}})
        grown = (self.bytes_of("coordinator") - self.bytes_of("base")) / MEGABYTE
        print(f"coordinator: {grown:.0f} MiB over the base; "
              f"worker-cpu: {(self.bytes_of('worker-cpu') - self.bytes_of('base')) / MEGABYTE:.0f} MiB")
        self.assertLess(grown, 60)

    def test_a_second_build_gives_the_same_files(self):
        self.build("coordinator", "again")
        self.assertEqual(self.tree_of("coordinator"), self.tree_of("again"))

    def test_a_job_trains_on_two_workers(self):
        shared = self.folder / "shared"
        for name in ["coordinator", "w1", "w2", "checkpoints"]:
            (shared / name).mkdir(parents=True)
            os.chown(shared / name, 10001, 10001)
        (shared / "job.yaml").write_text(JOB)
        self.children = []
        self.addCleanup(self.stop)
        self.start("coordinator", "coordinator", "weft-coordinator", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
                   "--checkpoint-root=/checkpoints", "--state-dir=/state", state=shared / "coordinator", shared=shared)
        announced = shared / "coordinator/coordinator.json"
        await_that(announced.exists)
        serves = json.loads(announced.read_text())
        for name in ["w1", "w2"]:
            self.start("worker-cpu", name, "tini", "--", "weft-worker", f"--coordinator={serves['address']}", f"--name={name}",
                       "--threads=1", "--state-dir=/state", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", state=shared / name, shared=shared)
        client = self.container("coordinator", shared / "coordinator", shared)
        inside = lambda *command: run(*client, "env", f"WEFT_ADDRESS={serves['address']}", *command)
        port = serves["metrics_address"].split(":")[1]
        inside("weft-healthcheck", port)
        with self.assertRaises(AssertionError):
            inside("weft-healthcheck", "1")  # nobody listens there
        await_that(lambda: inside("weft", "get", "workers").count("READY") == 2)
        job = inside("weft", "submit", "/shared/job.yaml", "-o", "name")
        self.assertIn("SUCCEEDED", inside("weft", "watch", job))
        weights = next((shared / "checkpoints").rglob("weights.safetensors"))
        self.assertEqual(weights.stat().st_uid, 10001)
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)

    def container(self, image, state, shared):
        """The words before a command that runs it in a fresh container. (Chroot isolation lets no volume be mounted over
        a VOLUME of the image.)"""
        container = run(*self.buildah, "from", "--pull-never", f"localhost/{image}")
        return [*self.buildah, "run", "--isolation=chroot", f"--volume={state}:/state",
                f"--volume={shared}/checkpoints:/checkpoints", f"--volume={shared}:/shared", container, "--"]

    def start(self, image, name, *command, state, shared):
        with open(self.folder / f"{name}.log", "w") as log:
            self.children.append(subprocess.Popen([*self.container(image, state, shared), *command], stdout=log,
                                                  stderr=log, start_new_session=True))

    def stop(self):
        for child in reversed(self.children):
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if self._outcome.result.failures or self._outcome.result.errors:
            for log in self.folder.glob("*.log"):
                print(f"---- {log.name}\n{log.read_text()[-4000:]}")


if __name__ == "__main__":
    unittest.main()
