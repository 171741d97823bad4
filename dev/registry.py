"""A container registry on the loopback device, from which the node pulls its images.

`dev.images` uses it. The node pulls only the layers that changed. The content is in the cache, so a new cluster finds
the images of an earlier one.
"""

from __future__ import annotations

import http.client
import json
from typing import Final

from dev import paths
from dev.processes import Daemon, write_if_changed

PORT: Final = 5055
ADDRESS: Final = f"127.0.0.1:{PORT}"
_READY_TIMEOUT_SECONDS: Final = 20.0
_MANIFESTS: Final = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def daemon() -> Daemon:
    """Return the process of the registry."""
    return Daemon("docker-registry", paths.state() / "registry")


def start() -> None:
    """Start the registry unless it runs, and wait until it is ready."""
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(paths.cache() / "registry")}},
        "http": {"addr": ADDRESS},
    }
    config_file = write_if_changed(paths.state() / "registry" / "config.yml", json.dumps(config))
    daemon().start(["docker-registry", "serve", config_file], config=[config_file])
    daemon().wait(lambda: _status("GET", "/v2/") == http.client.OK, _READY_TIMEOUT_SECONDS)


def has_image(name: str, tag: str) -> bool:
    """Return whether the registry has an image.

    Args:
        name: the name of the image, without the address of the registry.
        tag: the tag of the image.
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
