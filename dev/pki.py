"""The certificates of a local control plane, made with openssl, and the kubeconfigs that carry them.

Called by the control plane. Keys are made once per state folder: a cluster that comes up again is still trusted by
the kubeconfigs handed out before.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.console import run
from dev.processes import write

_DAYS: Final = "3650"
_CONFIG: Final = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder, and what it signed.

    Args:
        folder: where certificates and keys lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self.authority = self._pair("ca")
        self.service_accounts = folder / "service-accounts.key"

    def create(self) -> None:
        """Make the authority's own key and the key that signs service account tokens, unless they are there."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.service_accounts.exists():
            return
        self._config.write_text(_CONFIG)
        self._request(self.authority, "/CN=rayworkflow-dev", "authority", ())
        # The API server reads a public key only from this older form of a private key.
        run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", self.service_accounts])

    def issue(self, name: str, *, groups: Sequence[str] = (), addresses: Sequence[str] = ()) -> Pair:
        """Sign a certificate for a server or a user, unless it is there.

        Args:
            name: the user's name, also the file's.
            groups: the groups Kubernetes sees the user in.
            addresses: for a server: its names and addresses, as openssl writes them (`DNS:x`, `IP:1.2.3.4`).
        """
        pair = self._pair(name.replace(":", "_").replace("/", "_"))
        if not pair.certificate.exists():
            subject = "".join(f"/O={group}" for group in groups) + f"/CN={name.replace('/', chr(92) + '/')}"
            signer = ["-CA", str(self.authority.certificate), "-CAkey", str(self.authority.key)]
            names = ["-addext", f"subjectAltName={','.join(addresses)}"] if addresses else []
            self._request(pair, subject, "leaf", (*signer, *names))
        return pair

    def kubeconfig(self, path: Path, server: str, user: Pair) -> None:
        """Write a kubeconfig that carries its certificates within, so that it can be copied anywhere.

        Args:
            path: the file.
            server: the API server's URL.
            user: the user's certificate.
        """
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "rayworkflow-dev",
            "clusters": [
                {
                    "name": "rayworkflow-dev",
                    "cluster": {"server": server, "certificate-authority-data": _encoded(self.authority.certificate)},
                }
            ],
            "users": [
                {
                    "name": "user",
                    "user": {
                        "client-certificate-data": _encoded(user.certificate),
                        "client-key-data": _encoded(user.key),
                    },
                }
            ],
            "contexts": [{"name": "rayworkflow-dev", "context": {"cluster": "rayworkflow-dev", "user": "user"}}],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        write(path, json.dumps(content, indent=1))

    def _pair(self, name: str) -> Pair:
        return Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")

    def _request(self, pair: Pair, subject: str, section: str, more: Sequence[str]) -> None:
        words: list[str | Path] = [
            "openssl",
            "req",
            "-x509",
            "-new",
            "-nodes",
            "-config",
            self._config,
            "-extensions",
            section,
        ]
        # Written under another name first: a killed run must not leave half a pair behind.
        fresh = pair.certificate.with_suffix(".new")
        where: list[str | Path] = ["-days", _DAYS, "-subj", subject, "-keyout", pair.key, "-out", fresh]
        run([*words, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *where, *more])
        fresh.rename(pair.certificate)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
