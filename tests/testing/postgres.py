"""A real PostgreSQL server of a test's own, on a Unix socket, as a user without rights where the test runs as root."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class PostgresServer:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="weft-pg-", dir="/tmp"))  # a socket's path has at most 107 bytes
        self.folder.chmod(0o755)  # whoever connects may be another user
        self.target = f"host={self.folder} dbname=postgres user=weft"  # for libpq
        self.programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.as_owner = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
            self.as_owner = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        self.run("initdb", "--pgdata=data", "--username=weft", "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync")
        self.run("pg_ctl", "start", "--wait", "--pgdata=data", "--log=log",
                 f"--options=-k {self.folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB")

    def run(self, program, *arguments):
        subprocess.run([*self.as_owner, self.programs / program, *arguments], cwd=self.folder, check=True,
                       stdout=subprocess.DEVNULL, timeout=60)

    def close(self):
        self.run("pg_ctl", "stop", "--wait", "--mode=immediate", "--pgdata=data")
        shutil.rmtree(self.folder)
