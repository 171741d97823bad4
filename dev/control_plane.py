"""The control plane: etcd and kube-apiserver, without nodes and controllers.

Tests use `with ControlPlane() as plane`, which takes free loopback ports and a temporary folder. `dev.cluster` passes
its own folder and address.
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
from dev.pki import CertificateAuthority
from dev.processes import Daemon, free_port

_READY_TIMEOUT_SECONDS: Final = 60.0
_STANDALONE_FLAGS: Final = ("--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none")


@dataclass(frozen=True)
class Settings:
    """Folder, addresses and mode of a control plane.

    Attributes:
        folder: the folder of all its files.
        address: the IP address on which the API server listens.
        port: the port of the API server.
        etcd_port: the client port of etcd, on the loopback device.
        etcd_peer_port: the peer port of etcd, which etcd needs even with a single member.
        service_cidr: the address range of Services.
        standalone: whether no controllers run. Pods are then admitted without service accounts, because service
            accounts are created by a controller.
    """

    folder: Path
    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    etcd_peer_port: int = field(default_factory=free_port)
    service_cidr: str = "198.19.0.0/16"
    standalone: bool = True


class ControlPlane:
    """A Kubernetes API without nodes, which runs inside the `with` block.

    Without controllers, the objects of a deleted namespace and the dependents of a deleted owner are not deleted.

    Args:
        settings: folder and addresses; None means free loopback ports and a temporary folder.

    Attributes:
        settings: the folder and the addresses in use.
        kubeconfig: the path of an administrator's kubeconfig.
        url: the URL of the API server.
        pki: the certificate authority that signs all certificates of the cluster.
        etcd: the process of etcd.
        api_server: the process of the API server.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._scratch = None if settings else tempfile.TemporaryDirectory(prefix="rayworkflow-api-")
        self.settings = settings or Settings(folder=Path(self._scratch.name if self._scratch else ""))
        self.url = f"https://{self.settings.address}:{self.settings.port}"
        self.kubeconfig = self.settings.folder / "kubeconfig"
        self.pki = CertificateAuthority(self.settings.folder / "pki")
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
        """Start both servers unless they run, and wait until the API server is ready."""
        built = binaries.ensure_all(["etcd", "kube-apiserver"])
        self.pki.create()
        admin = self.pki.issue("admin", groups=["system:masters"])
        self.etcd.start([built["etcd"], *self._etcd_flags()])
        self.api_server.start([built["kube-apiserver"], *self._api_server_flags()])
        self.pki.kubeconfig(self.kubeconfig, self.url, admin)
        self.api_server.wait(self.is_ready, _READY_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Stop both servers. The stored objects are kept in the folder."""
        self.api_server.stop()
        self.etcd.stop()

    def restart(self) -> None:
        """Stop and start both servers with the same ports and the same stored objects."""
        self.stop()
        self.start()

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as an administrator.

        Args:
            words: the arguments of kubectl.
            stdin: the text for its standard input; None means empty.

        Returns:
            The standard output of kubectl.

        Raises:
            SetupError: kubectl failed. The message contains its output.
        """
        return run([binaries.ensure("kubectl"), "--kubeconfig", self.kubeconfig, *words], stdin=stdin)

    def is_ready(self) -> bool:
        """Return whether the API server runs and reports that it is ready."""
        if not self.api_server.running():
            return False
        context = ssl.create_default_context(cafile=str(self.pki.ca.certificate))
        admin = self.pki.issue("admin", groups=["system:masters"])
        context.load_cert_chain(admin.certificate, admin.key)
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2, context=context) as response:
                return bool(response.status == 200)
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
            "--unsafe-no-fsync",  # faster, and a test cluster need not survive a crash of the machine
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
            f"--client-ca-file={self.pki.ca.certificate}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",  # no DNS server knows the name of the node
            f"--service-cluster-ip-range={self.settings.service_cidr}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.pki.service_accounts}",
            f"--service-account-signing-key-file={self.pki.service_accounts}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            *(_STANDALONE_FLAGS if self.settings.standalone else ()),
        ]
