"""deploy/backup.sh: a copy is taken while jobs train, time goes on, the coordinator's disk is lost, the copy restored. And
what the operations guide does with a dump of PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from postgres import PostgresServer
from programs import Cluster, await_that

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "backup.sh"


def backup(*arguments):
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=60)


class Backup(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self.state = self.folder / "state"
        self.checkpoints = self.folder / "checkpoints"
        self.cluster = Cluster(self.folder)
        self.addCleanup(self.cluster.close)

    def start_coordinator(self, state):
        self.cluster.start_coordinator(state, f"--checkpoint-root={self.checkpoints}")

    def job_file(self, name, steps):
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({
            "name": name, "model": {"width": 16, "layers": 1, "mlp_width": 32, "mixers": [{"delta": {"heads": 1}}]},
            "data": {"induction_heads": {}}, "evaluation": {"every_steps": 0, "sequences": 4},
            "training": {"steps": steps, "batch_size": 4, "sequence_length": 64, "shards": 4},
            "checkpoint": {"every_steps": 20}}))
        return path

    def test_jobs_go_on_from_a_backup_that_is_older_than_they_are(self):
        self.start_coordinator(self.state)
        self.cluster.start_worker("w1")
        self.cluster.start_worker("w2")
        first = self.cluster.submit(self.job_file("first", 4000))
        await_that(lambda: self.cluster.step(first) > 20)
        archive = self.folder / "backup.tar"
        saved = backup("save", self.state, archive)  # while it trains
        self.assertEqual(saved.returncode, 0, saved.stderr)
        # What the backup does not know: a newer generation, and a job with its checkpoint.
        for worker in self.cluster.job(first)["workers"]:
            self.cluster.kill(worker.removeprefix("workers/"))
            self.cluster.start_worker(worker.removeprefix("workers/"))
        reached = self.cluster.step(first)
        await_that(lambda: self.cluster.step(first) > reached + 20 and int(self.cluster.job(first)["generation"]) > 1)
        lost = self.cluster.submit(self.job_file("lost", 20))
        self.assertEqual(self.cluster.weft("watch", lost).returncode, 0)
        self.cluster.kill("coordinator")
        shutil.rmtree(self.state)

        restored = backup("restore", archive, self.folder / "restored")
        self.assertEqual(restored.returncode, 0, restored.stderr)
        self.assertIn("restored 1 jobs", restored.stdout)
        self.start_coordinator(self.folder / "restored")  # the workers come back by themselves
        await_that(lambda: int(self.cluster.job(first)["generation"]) > 1000 and self.cluster.step(first) > reached)
        again = self.cluster.submit(self.job_file("lost", 20))
        self.assertNotEqual(again, lost, "it would have found the other one's checkpoints")
        self.assertEqual(self.cluster.weft("watch", again).returncode, 0)
        self.assertEqual(self.cluster.weft("watch", first).returncode, 0)
        self.assertIn("step", self.cluster.weft("logs", first).stdout)

    def test_nothing_is_overwritten_and_damage_is_noticed(self):
        self.start_coordinator(self.state)
        archive = self.folder / "backup.tar"
        self.assertEqual(backup("save", self.state, archive).returncode, 0)
        refused = backup("restore", archive, self.state)
        self.assertEqual((refused.returncode, "a coordinator runs on" in refused.stderr), (1, True))
        self.cluster.kill("coordinator")
        self.assertEqual(backup("restore", archive, self.state).returncode, 0)
        self.assertTrue((self.state / "replaced" / "weft.db").exists())
        refused = backup("restore", archive, self.state)
        self.assertEqual((refused.returncode, "from an earlier restore" in refused.stderr), (1, True))
        self.start_coordinator(self.state)
        self.assertEqual(backup("save", self.folder, archive).returncode, 1)
        self.assertEqual(backup("save", self.state).returncode, 2)
        # The head of the second page of the database that the archive holds.
        data = bytearray(archive.read_bytes())
        at = data.index(b"SQLite format 3", data.index(b"weft.db")) + 4096
        data[at:at + 64] = b"\xff" * 64
        archive.write_bytes(data)
        damaged = backup("restore", archive, self.folder / "restored")
        self.assertNotEqual(damaged.returncode, 0, damaged.stdout)
        self.assertEqual(list((self.folder / "restored").glob("*/")), [], "nothing half restored is left")

    @unittest.skipUnless(os.geteuid() == 0, "makes files of another user")
    def test_a_volume_may_belong_to_somebody_else(self):
        """As Kubernetes gives it to a pod: the root is of root and writable for the group of fsGroup."""
        self.start_coordinator(self.state)
        self.cluster.submit(self.job_file("first", 20))
        archive = self.folder / "backup.tar"
        self.assertEqual(backup("save", self.state, archive).returncode, 0)
        volume = self.folder / "volume"
        volume.mkdir()
        os.chown(volume, 0, 10001)
        volume.chmod(0o2775)
        script = shutil.copy(SCRIPT, self.folder)  # where that user may read it
        self.folder.chmod(0o755)
        restored = subprocess.run(["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", script, "restore", archive,
                                   volume], capture_output=True, text=True, timeout=60)
        self.assertEqual(restored.returncode, 0, restored.stderr)
        database = sqlite3.connect(volume / "weft.db")
        self.addCleanup(database.close)
        self.assertEqual(database.execute("SELECT last_job FROM meta").fetchone(), (1001,))

    def test_a_dump_of_postgres_is_loaded_and_moved_on(self):
        server = PostgresServer()
        self.addCleanup(server.close)

        def psql(*arguments):
            return subprocess.run([server.programs / "psql", server.target, "--no-psqlrc", "--quiet", "-At", *arguments],
                                  capture_output=True, text=True, timeout=60)

        move_on = ["-f", ROOT / "deploy" / "postgres_after_restore.sql"]
        self.assertNotEqual(psql(*move_on).returncode, 0, "there is nothing yet")
        self.cluster.start_coordinator(self.state, f"--checkpoint-root={self.checkpoints}",
                                       f"--log-root={self.folder / 'logs'}", f"--postgres={server.target}")
        self.cluster.start_worker("w1")
        self.cluster.submit(self.job_file("first", 1000000))
        await_that(lambda: psql("-c", "SELECT generation FROM weft.jobs").stdout == "1\n")
        dump = self.folder / "weft.sql"
        with dump.open("w") as out:
            subprocess.run([server.programs / "pg_dump", "-n", "weft", server.target], stdout=out, check=True, timeout=60)
        self.cluster.kill("coordinator")
        for arguments in [["-c", "DROP SCHEMA weft CASCADE"], ["-v", "ON_ERROR_STOP=1", "-1", "-f", dump], move_on]:
            done = psql(*arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
        moved = psql("-c", "SELECT last_job, generation, record::jsonb ->> 'generation' FROM weft.meta, weft.jobs")
        self.assertEqual(moved.stdout, "1001|1001|1001\n", moved.stderr)


if __name__ == "__main__":
    unittest.main()
