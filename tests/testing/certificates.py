"""A certificate authority of a test's own, by the openssl of the system."""

import subprocess
from pathlib import Path

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.openssl("req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self, folder, common_name, names, uses):
        """ca.crt, tls.crt and tls.key in `folder`, which is made; names like "DNS:a" and "IP:127.0.0.1", uses like
        "serverAuth"."""
        folder = Path(folder)
        folder.mkdir()
        extensions = "extendedKeyUsage=" + ",".join(uses)
        if names:
            extensions += "\nsubjectAltName=" + ",".join(names)
        (folder / "extensions").write_text(extensions)
        self.openssl("req", *NEW_KEY, "-keyout", folder / "tls.key", "-out", folder / "request", "-subj", f"/CN={common_name}")
        self.openssl("x509", "-req", "-in", folder / "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                     "-extfile", folder / "extensions", "-out", folder / "tls.crt")
        (folder / "ca.crt").write_text((self.folder / "ca.crt").read_text())
