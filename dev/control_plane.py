"""etcd and kube-apiserver, alone: what the operator's tests need, and the ground the whole cluster stands on.

Called by tests as `with ControlPlane() as plane`, which lives on free loopback ports in a folder that goes away, and by
`dev.cluster` with a folder and an address of its own.
"""

from __future__ import annotations

import ssl
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from dev import binaries
from dev.console import run
from dev.pki import Authority
from dev.processes import Daemon, free_port

_ANSWERS_WITHIN_SECONDS: Final = 60.0
_ALONE_FLAGS: Final = ("--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")


@dataclass(frozen=True)
class Settings:
    """Where a control plane lives.

    Attributes:
        folder: all its files.
        address: where the API server listens.
        port: the API server's port.
        etcd_port: etcd's port for clients, on the loopback device.
        etcd_peer_port: etcd's port for other members, of which there are none.
        service_cidr: the addresses of services.
        alone: nothing else runs: no controller makes service accounts, so pods are admitted without them.
    """

    folder: Path
    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    etcd_peer_port: int = field(default_factory=free_port)
    service_cidr: str = "198.19.0.0/16"
    alone: bool = True


class ControlPlane:
    """A Kubernetes API without nodes, alive inside the `with` block.

    Without the controllers nothing deletes the content of a deleted namespace, nor objects whose owner is gone.

    Args:
        settings: where it lives; by default on free ports in a temporary folder.

    Attributes:
        kubeconfig: the file for an administrator.
        url: the API server's address.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._scratch = None if settings else tempfile.TemporaryDirectory(prefix="rayworkflow-api-")
        self.settings = settings or Settings(folder=Path(self._scratch.name if self._scratch else ""))
        self.url = f"https://{self.settings.address}:{self.settings.port}"
        self.kubeconfig = self.settings.folder / "kubeconfig"
        self.pki = Authority(self.settings.folder / "pki")
        self.etcd = Daemon("etcd", self.settings.folder)
        self.api_server = Daemon("kube-apiserver", self.settings.folder)

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._scratch:
            self._scratch.cleanup()

    def start(self) -> None:
        """Start both servers, unless they run, and wait until the API answers."""
        built = binaries.ensure_all(["etcd", "kube-apiserver"])
        self.pki.create()
        admin = self.pki.issue("admin", groups=["system:masters"])
        self.etcd.start([built["etcd"], *self._etcd_flags()])
        self.api_server.start([built["kube-apiserver"], *self._api_server_flags()])
        self.pki.kubeconfig(self.kubeconfig, self.url, admin)
        self.api_server.wait(self.answers, _ANSWERS_WITHIN_SECONDS)

    def stop(self) -> None:
        """Stop both servers; what was stored stays in the folder."""
        self.api_server.stop()
        self.etcd.stop()

    def restart(self) -> None:
        """Stop and start both servers on the same ports with the same content."""
        self.stop()
        self.start()

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator.

        Args:
            words: its arguments.
            stdin: what it reads where an argument is `-`.

        Returns:
            What it printed.

        Raises:
            SetupError: it failed.
        """
        return run([binaries.ensure("kubectl"), "--kubeconfig", self.kubeconfig, *words], stdin=stdin)

    def answers(self) -> bool:
        """Whether the API server says it is ready."""
        if not self.api_server.running():
            return False
        context = ssl.create_default_context(cafile=str(self.pki.authority.certificate))
        admin = self.pki.issue("admin", groups=["system:masters"])
        context.load_cert_chain(admin.certificate, admin.key)
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _etcd_flags(self) -> list[str]:
        clients = f"http://127.0.0.1:{self.settings.etcd_port}"
        peers = f"http://127.0.0.1:{self.settings.etcd_peer_port}"
        return [
            f"--data-dir={self.settings.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server_flags(self) -> list[str]:
        address = self.settings.address
        first_service = self.settings.service_cidr.split("/")[0].rsplit(".", 1)[0] + ".1"
        names = ["DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"]
        addresses = [f"IP:{address}", f"IP:{first_service}", "IP:127.0.0.1"]
        serving = self.pki.issue("kube-apiserver", addresses=[*dict.fromkeys(addresses), *names])
        to_kubelet = self.pki.issue("kube-apiserver-kubelet-client", groups=["system:masters"])
        return [
            f"--etcd-servers=http://127.0.0.1:{self.settings.etcd_port}",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            f"--secure-port={self.settings.port}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.pki.authority.certificate}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-cluster-ip-range={self.settings.service_cidr}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.pki.service_accounts}",
            f"--service-account-signing-key-file={self.pki.service_accounts}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            *(_ALONE_FLAGS if self.settings.alone else ()),
        ]
