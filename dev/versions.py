"""The one file of versions: everything the local cluster is made of, and the packages it asks the system for.

The Go modules below `dev/tools/` repeat some of these in their go.mod files; a test keeps both equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KUBERNETES: Final = "v1.34.4"
ETCD: Final = "v3.6.16"
MINIO: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
KUBERAY: Final = "v1.6.2"
HELM: Final = "v3.22.0"
COREDNS: Final = "v1.15.0"
KIND: Final = "v0.30.0"
PAUSE: Final = "v1"
RAY: Final = "2.60.0"
UV: Final = "uv>=0.9,<1"
"""Installs the Python environment; the same bounds as in pyproject.toml."""

GO_AT_LEAST: Final = (1, 26)
PYTHON_AT_LEAST: Final = (3, 10)

DEBIAN_SUITE: Final = "bookworm"
# wget: KubeRay's probes call it.
BASE_IMAGE_PACKAGES: Final = ("ca-certificates", "python3", "python3-venv", "python3-pip", "wget")
# With a Docker engine, these public images replace the two that are built here.
BASE_IMAGE_OF_DOCKER: Final = f"python:3.11-slim-{DEBIAN_SUITE}"
RAY_IMAGE_OF_DOCKER: Final = f"rayproject/ray:{RAY}-py311"

# Debian packages of the node: the runtime, its plugins, and what builds and holds images.
APT_NODE: Final = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "iproute2",
    "openssl",
    "buildah",
    "debootstrap",
    "docker-registry",
)


@dataclass(frozen=True)
class GoModule:
    """One Go module below `dev/tools/`: a set of programs that share their dependencies.

    Attributes:
        folder: the folder's name below `dev/tools/`.
        require: the module path whose version `version` pins; empty when the source is ours.
        version: the pinned version.
        programs: program name -> Go package.
        ldflags: what the linker stamps into the programs.
        assets: folders of the required module that are kept beside the programs.
    """

    folder: str
    require: str
    version: str
    programs: dict[str, str]
    ldflags: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()


def _kubernetes() -> GoModule:
    names = ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    # Without a stamped version the server reports none, and kubectl and Helm refuse to talk to it.
    stamps = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return GoModule(
        folder="kubernetes",
        require="k8s.io/kubernetes",
        version=KUBERNETES,
        programs={name: f"k8s.io/kubernetes/cmd/{name}" for name in names},
        ldflags=tuple(f"-X {package}.gitVersion={KUBERNETES}" for package in stamps),
    )


# In the order of building: what others wait for first, then the longest.
GO_MODULES: Final = (
    GoModule("minio", "github.com/minio/minio", MINIO, {"minio": "github.com/minio/minio"}),
    GoModule("etcd", "go.etcd.io/etcd/server/v3", ETCD, {"etcd": "go.etcd.io/etcd/server/v3"}),
    _kubernetes(),
    GoModule(
        "kuberay-operator",
        "github.com/ray-project/kuberay/ray-operator",
        KUBERAY,
        {"kuberay-operator": "github.com/ray-project/kuberay/ray-operator"},
        assets=("config",),
    ),
    GoModule(
        "helm",
        "helm.sh/helm/v3",
        HELM,
        {"helm": "helm.sh/helm/v3/cmd/helm"},
        (f"-X helm.sh/helm/v3/internal/version.version={HELM}",),
    ),
    GoModule("coredns", "github.com/coredns/coredns", COREDNS, {"coredns": "."}),
    GoModule("kind", "sigs.k8s.io/kind", KIND, {"kind": "sigs.k8s.io/kind"}),
    GoModule("pause", "", PAUSE, {"pause": "."}),
)
