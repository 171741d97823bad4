"""Certificates of a local control plane, created with openssl, and kubeconfigs that contain them.

Keys are created once per folder. Existing kubeconfigs therefore stay valid when a cluster starts again after a crash.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.console import run
from dev.processes import write_if_changed

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
class KeyPair:
    """The files of a certificate and its private key."""

    certificate: Path
    key: Path


class CertificateAuthority:
    """A certificate authority whose keys and certificates are in one folder.

    Args:
        folder: where keys and certificates are stored.

    Attributes:
        ca: the key pair of the authority itself.
        service_accounts: the file of the key that signs service account tokens.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self.ca = self._pair("ca")
        self.service_accounts = folder / "service-accounts.key"

    def create(self) -> None:
        """Create the key of the authority and the key that signs service account tokens, unless they exist."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.service_accounts.exists():
            return
        self._config.write_text(_CONFIG)
        self._request(self.ca, "/CN=rayworkflow-dev", "authority", ())
        # The API server derives a public key only from a private key in the older SEC 1 format.
        run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", self.service_accounts])

    def issue(self, name: str, *, groups: Sequence[str] = (), addresses: Sequence[str] = ()) -> KeyPair:
        """Create a certificate for a server or a user, unless it exists.

        Args:
            name: the user name in Kubernetes; it is also the base of the file name.
            groups: the groups of the user in Kubernetes.
            addresses: the names and addresses of a server, in the notation of openssl (`DNS:x`, `IP:1.2.3.4`).
        """
        pair = self._pair(name.replace(":", "_").replace("/", "_"))
        if not pair.certificate.exists():
            subject = "".join(f"/O={group}" for group in groups) + f"/CN={name.replace('/', chr(92) + '/')}"
            signer = ["-CA", str(self.ca.certificate), "-CAkey", str(self.ca.key)]
            names = ["-addext", f"subjectAltName={','.join(addresses)}"] if addresses else []
            self._request(pair, subject, "leaf", (*signer, *names))
        return pair

    def kubeconfig(self, path: Path, server: str, user: KeyPair) -> None:
        """Write a kubeconfig that embeds its certificates, so that it can be copied to other machines.

        Args:
            path: the path of the kubeconfig.
            server: the URL of the API server.
            user: the certificate of the user.
        """
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "rayworkflow-dev",
            "clusters": [
                {
                    "name": "rayworkflow-dev",
                    "cluster": {"server": server, "certificate-authority-data": _encoded(self.ca.certificate)},
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
        write_if_changed(path, json.dumps(content, indent=1))

    def _pair(self, name: str) -> KeyPair:
        return KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")

    def _request(self, pair: KeyPair, subject: str, section: str, options: Sequence[str]) -> None:
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
        # The rename is the last step: an existing certificate proves that its key is complete too.
        unfinished = pair.certificate.with_suffix(".new")
        output: list[str | Path] = ["-days", _DAYS, "-subj", subject, "-keyout", pair.key, "-out", unfinished]
        run([*words, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *output, *options])
        unfinished.rename(pair.certificate)


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
