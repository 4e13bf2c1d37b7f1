"""A real PostgreSQL server of a test's own, as a user without rights where the test runs as root."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class PostgresServer:
    """On a Unix socket, for everybody. With `tls`, a folder with ca.crt, tls.crt and tls.key: on a port of localhost, for those
    whose certificate has their user's name."""

    def __init__(self, tls=None):
        self.folder = Path(tempfile.mkdtemp(prefix="weft-pg-", dir="/tmp"))  # a socket's path has at most 107 bytes
        self.folder.chmod(0o755)  # whoever connects may be another user
        self.target = f"host={self.folder} dbname=postgres user=weft"  # for libpq
        self.programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.as_owner = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody", "nogroup")
            self.as_owner = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        self.run("initdb", "--pgdata=data", "--username=weft", "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync")
        listens = self.use_tls(tls) if tls else "-c listen_addresses="
        self.run("pg_ctl", "start", "--wait", "--pgdata=data", "--log=log",
                 f"--options=-k {self.folder} {listens} -c fsync=off -c shared_buffers=16MB")

    def use_tls(self, tls):
        data = self.folder / "data"
        options = f"-c ssl=on -c listen_addresses=127.0.0.1 -p {(port := unused_port())}"
        for setting, name in [("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")]:
            shutil.copy(tls / name, data / name)
            (data / name).chmod(0o600)
            if self.as_owner:
                shutil.chown(data / name, "nobody", "nogroup")
            options += f" -c ssl_{setting}_file={name}"
        (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 cert\n")
        self.target = f"host=localhost port={port} dbname=postgres user=weft"
        return options

    def run(self, program, *arguments):
        subprocess.run([*self.as_owner, self.programs / program, *arguments], cwd=self.folder, check=True,
                       stdout=subprocess.DEVNULL, timeout=60)

    def close(self):
        self.run("pg_ctl", "stop", "--wait", "--mode=immediate", "--pgdata=data")
        shutil.rmtree(self.folder)
