"""A registry on the loopback device: it hands images to the node layer by layer, so that only what changed moves.

Called by `dev.images`. Its content lies in the cache: a cluster that was taken down finds its images again.
"""

from __future__ import annotations

import http.client
import json
from typing import Final

from dev import paths
from dev.processes import Daemon, write

PORT: Final = 5055
ADDRESS: Final = f"127.0.0.1:{PORT}"
_ANSWERS_WITHIN_SECONDS: Final = 20.0
_MANIFESTS: Final = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def daemon() -> Daemon:
    """The registry's process."""
    return Daemon("docker-registry", paths.state() / "registry")


def start() -> None:
    """Start the registry unless it runs, and wait until it answers."""
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(paths.cache() / "registry")}},
        "http": {"addr": ADDRESS},
    }
    config_file = write(paths.state() / "registry" / "config.yml", json.dumps(config))
    daemon().start(["docker-registry", "serve", config_file], config=[config_file])
    daemon().wait(lambda: _status("GET", "/v2/") == http.client.OK, _ANSWERS_WITHIN_SECONDS)


def holds(name: str, tag: str) -> bool:
    """Whether the registry has an image.

    Args:
        name: the image's name, without the registry's address.
        tag: its tag.
    """
    return _status("HEAD", f"/v2/{name}/manifests/{tag}") == http.client.OK


def _status(method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        connection.request(method, path, headers={"Accept": _MANIFESTS})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
