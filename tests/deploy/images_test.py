"""The images, built for real by buildah on a base made by debootstrap, and run: submit, train, succeed inside them.

There is no container engine here: buildah builds and runs with chroot isolation. The programs are those of the build
under test; where that has CUDA they go into the image of CUDA workers, and the others get programs of the preset
cpu-only, most of which the compiler's cache has. The base and what pip downloads are kept in ~/.cache/weft."""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from certificates import Authority
from postgres import PostgresServer
from programs import await_that

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft"
# The authority of a proxy, if this machine is behind one.
AUTHORITIES = "--secret=id=authorities,src=/etc/ssl/certs/ca-certificates.crt"
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
WORKERS = ["w1", "w2"]


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise AssertionError(f"{command} ended with {result.returncode}\n{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result.stdout.strip()


def has_cuda(build):
    return "libcublasLt" in run("readelf", "-d", build / "bin/weft-rank")


def programs_without_cuda(build):
    """The folder of a build without CUDA: `build`, or another one beside it."""
    if not has_cuda(build):
        return build
    other = build.with_name(f"{build.name}-images")
    run("cmake", "--preset", "cpu-only", "-B", other, "-DWEFT_BUILD_TESTS=OFF", "-DWEFT_BUILD_BENCHMARKS=OFF", cwd=ROOT)
    run("cmake", "--build", other, "--target", *(path.name for path in (build / "bin").glob("weft*")))
    return other


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
        for program in ["buildah", "debootstrap"]:
            assert shutil.which(program), f"there is no {program} (deploy/install_packages.sh images installs it)"
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        cls.folder.chmod(0o755)
        cls.buildah = ["buildah", f"--root={cls.folder}/store", f"--runroot={cls.folder}/run"]
        cls.make_base()
        cls.under_test = Path(os.environ["WEFT_BUILD_DIR"])
        run(ROOT / "deploy/docker/collect_programs.sh", programs_without_cuda(cls.under_test), cls.folder / "compiled/programs")
        cls.build("coordinator")
        cls.build("worker-cpu")

    @classmethod
    def make_base(cls):
        """And a look whether containers can run here at all, before minutes are spent on them."""
        try:
            container = run(*cls.buildah, "from", "scratch")
            run(*cls.buildah, "add", "--quiet", container, debian_base(), "/")
            run(*cls.buildah, "run", "--isolation=chroot", container, "--", "true")
            run(*cls.buildah, "commit", "--quiet", "--rm", container, "localhost/base")
        except AssertionError as error:
            error.add_note("buildah cannot make and run a container here: it wants root that may mount and change its root")
            raise

    @classmethod
    def build(cls, target, tag=None, file="Dockerfile", compiled="compiled", options=()):
        # What mounts of the kind `cache` keep lies below TMPDIR.
        (CACHE / "buildah").mkdir(exist_ok=True)
        run(*cls.buildah, "bud", "--isolation=chroot", "--format=docker", "--timestamp=0", "--pull-never", "--layers=false",
            f"--file={ROOT}/deploy/docker/{file}", "--build-arg=BASE=localhost/base",
            f"--build-context=compiled={cls.folder}/{compiled}", *options,
            f"--target={target}", f"--tag=localhost/{tag or target}", ROOT, env={**os.environ, "TMPDIR": str(CACHE / "buildah")})

    @classmethod
    def build_on(cls, stage, target, **options):
        """With an image that is there already in place of the stage of its name."""
        cls.build(target, options=["--build-arg=WORKER=localhost/worker-cpu",
                                   f"--build-context={stage}=container-image://localhost/{stage}"], **options)

    @classmethod
    @functools.cache
    def build_toolkit(cls):
        cls.build("toolkit", file="cuda.Dockerfile", options=[AUTHORITIES])

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

    def over_the_base(self, image):
        return (self.bytes_of(image) - self.bytes_of("base")) / MEGABYTE

    def check_user_and_health(self, image, program):
        config = self.config(image)
        self.assertEqual(config["User"], "10001:10001")
        self.assertEqual(config["Healthcheck"]["Test"], ["CMD", "weft-healthcheck", "9733"])
        self.assertEqual(config["Cmd"], [program])
        self.assertEqual(config["Volumes"], {"/var/lib/weft": {}})
        print(f"{image}: {self.over_the_base(image):.0f} MiB over the base")
        return config

    def check_libraries(self, image):
        """Every program in an image finds every library; where each comes from."""
        container = run(*self.buildah, "from", "--pull-never", f"localhost/{image}")
        scripts_too = "for program in /usr/bin/weft*; do ldd $program || true; done"
        told = run(*self.buildah, "run", "--isolation=chroot", container, "--", "sh", "-c", scripts_too)
        run(*self.buildah, "rm", container)
        self.assertIn("libgrpc++", told)
        self.assertNotIn("not found", told)
        return dict(re.findall(r"(\S+) => (\S+)", told))

    def test_users_health_and_size(self):
        self.check_user_and_health("coordinator", "weft-coordinator")
        self.check_user_and_health("worker-cpu", "weft-worker")
        self.assertLess(self.over_the_base("coordinator"), 60)
        self.assertIn("libpq.so.5", self.check_libraries("coordinator"))
        self.check_libraries("worker-cpu")

    def test_a_second_build_gives_the_same_files(self):
        for image in ["coordinator", "worker-cpu"]:
            self.build(image, "again")
            self.assertEqual(self.tree_of(image), self.tree_of("again"), image)

    def test_a_job_trains_on_two_workers(self):
        self.train(["worker-cpu", "worker-cpu"])

    def test_a_job_trains_with_tls_and_postgres_and_on_a_tpu_vms_host(self):
        self.build_on("worker-cpu", "worker-tpu")
        self.assertEqual(self.check_user_and_health("worker-tpu", "weft-worker")["Labels"]["weft.device"], "tpu-vm-host")
        server = PostgresServer()
        self.addCleanup(server.close)
        self.train(["worker-cpu", "worker-tpu"], server, tls=True)

    def test_a_job_trains_on_the_cores_of_a_cuda_worker(self):
        if not has_cuda(self.under_test):
            self.skipTest("this build has no CUDA")
        self.build_toolkit()
        run(ROOT / "deploy/docker/collect_programs.sh", self.under_test, self.folder / "cuda/programs")
        self.build_on("toolkit", "worker-cuda", file="cuda.Dockerfile", compiled="cuda")
        self.check_user_and_health("worker-cuda", "weft-worker")
        environment = dict(variable.split("=", 1) for variable in self.config("worker-cuda")["Env"])
        self.assertEqual(environment["NVIDIA_DRIVER_CAPABILITIES"], "compute,utility")
        found = self.check_libraries("worker-cuda")
        for library in ["libcublasLt.so.13", "libnccl.so.2"]:
            self.assertEqual(found[library], f"/usr/local/cuda/lib/{library}")
        self.train(["worker-cuda", "worker-cpu"])
        # Without a driver it says so in one sentence.
        with self.assertRaisesRegex(AssertionError, "weft-worker: --device gpu: no NVIDIA driver"):
            run(*self.container("worker-cuda", self.shared / "w1"), "weft-worker", "--device=gpu", "--coordinator=127.0.0.1:1",
                "--name=w", "--state-dir=/tmp/w", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")

    def test_the_toolkit_from_pypi_compiles(self):
        """Nothing of CUDA is on the base, and nothing of this machine: what the stage that compiles begins with."""
        self.build_toolkit()
        container = run(*self.buildah, "from", "--pull-never", "localhost/toolkit")
        told = run(*self.buildah, "run", "--isolation=chroot", f"--volume={ROOT}:/tree:ro", container, "--", "sh", "-ec", """
            /tree/deploy/install_packages.sh run
            export PATH=/usr/local/cuda/bin:$PATH
            cmake -S /tree --preset cuda -B /build -DWEFT_BUILD_TESTS=OFF -DWEFT_BUILD_BENCHMARKS=OFF
            cmake --build /build --target kernels/ops/CMakeFiles/weft_ops.dir/bias/bias_cuda.cu.o
            ls -l /build/kernels/ops/CMakeFiles/weft_ops.dir/bias/bias_cuda.cu.o""")
        run(*self.buildah, "rm", container)
        self.assertIn("bias_cuda.cu.o", told.splitlines()[-1])
        self.assertIn("/usr/local/cuda/lib/libnccl.so", told)

    def train(self, worker_images, postgres=None, tls=False):
        """submit -> train -> SUCCEEDED, each program in a container of its image."""
        self.make_shared_folder(postgres, tls)
        flags = lambda party, *files: [f"--tls-{flag}=/shared/tls-{party}/{file}" for flag, file in files] if tls else []
        own = [("cert", "tls.crt"), ("key", "tls.key")]
        self.start("coordinator", "coordinator", "weft-coordinator", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
                   "--checkpoint-root=/checkpoints", "--state-dir=/state", *flags("coordinator", *own, ("client-ca", "ca.crt")),
                   *([f"--postgres={postgres.target}", "--log-root=/checkpoints/logs"] if postgres else []))
        announced = self.shared / "coordinator/coordinator.json"
        await_that(announced.exists)
        serves = json.loads(announced.read_text())
        for name, image in zip(WORKERS, worker_images):
            self.start(image, name, "tini", "--", "weft-worker", f"--coordinator={serves['address']}", f"--name={name}",
                       "--device=cpu", "--threads=1", "--state-dir=/state", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
                       *flags(name, *own, ("ca", "ca.crt")))
        client = self.container("coordinator", self.shared / "coordinator")
        inside = lambda *command: run(*client, *command)
        weft = lambda *command: inside("env", f"WEFT_ADDRESS={serves['address']}", "weft", *command,
                                       *flags("client", *own, ("ca", "ca.crt")))
        inside("weft-healthcheck", serves["metrics_address"].split(":")[1])
        with self.assertRaises(AssertionError):
            inside("weft-healthcheck", "1")  # nobody listens there
        if tls:
            with self.assertRaisesRegex(AssertionError, "it speaks TLS"):
                inside("env", f"WEFT_ADDRESS={serves['address']}", "weft", "get", "workers")
        await_that(lambda: weft("get", "workers").count("READY") == 2)
        for name, image in zip(WORKERS, worker_images):
            port = re.search(r"metrics=127.0.0.1:(\d+)", (self.folder / f"{name}.log").read_text()).group(1)
            run(*self.container(image, self.shared / name), "weft-healthcheck", port)
        job = weft("submit", "/shared/job.yaml", "-o", "name")
        self.assertIn("SUCCEEDED", weft("watch", job))
        weights = next((self.shared / "checkpoints").rglob("weights.safetensors"))
        self.assertEqual(weights.stat().st_uid, 10001)

    def make_shared_folder(self, postgres, tls):
        self.shared = Path(tempfile.mkdtemp(dir=self.folder))
        self.shared.chmod(0o755)
        self.postgres = postgres
        for name in ["coordinator", *WORKERS, "checkpoints"]:
            (self.shared / name).mkdir()
            os.chown(self.shared / name, 10001, 10001)
        (self.shared / "job.yaml").write_text(JOB)
        if tls:
            authority = Authority(self.shared)
            for party in ["coordinator", *WORKERS, "client"]:
                authority.issue(self.shared / f"tls-{party}", party, ["IP:127.0.0.1"], ["serverAuth", "clientAuth"])
                os.chown(self.shared / f"tls-{party}/tls.key", 10001, 10001)
        self.children = []
        self.addCleanup(self.stop)

    def container(self, image, state):
        """The words before a command that runs it in a fresh container. (Chroot isolation lets no volume be mounted over
        a VOLUME of the image.)"""
        container = run(*self.buildah, "from", "--pull-never", f"localhost/{image}")
        database = [f"--volume={self.postgres.folder}:{self.postgres.folder}"] if self.postgres else []
        return [*self.buildah, "run", "--isolation=chroot", f"--volume={state}:/state", *database,
                f"--volume={self.shared}/checkpoints:/checkpoints", f"--volume={self.shared}:/shared", container, "--"]

    def start(self, image, name, *command):
        with open(self.folder / f"{name}.log", "w") as log:
            self.children.append(subprocess.Popen([*self.container(image, self.shared / name), *command], stdout=log,
                                                  stderr=log, start_new_session=True))

    def stop(self):
        """Ends the programs themselves: tini and buildah, when they end, leave theirs behind. A session has them all."""
        ended = lambda child: subprocess.run(["pgrep", "--session", str(child.pid)], stdout=subprocess.DEVNULL).returncode == 1
        for name in ["TERM", "KILL"]:
            for child in reversed(self.children):
                subprocess.run(["pkill", f"-{name}", "--session", str(child.pid)])
            try:
                await_that(lambda: all(child.poll() is not None and ended(child) for child in self.children), seconds=10)
                break
            except AssertionError:
                continue
        else:
            self.fail("a program goes on after SIGKILL")
        if self._outcome.result.failures or self._outcome.result.errors:
            for log in self.folder.glob("*.log"):
                print(f"---- {log.name}\n{log.read_text()[-4000:]}")


if __name__ == "__main__":
    unittest.main()
