"""Secrets and ConfigMaps of Workflows, and records of deferred cleanup: the port `core.ports.References`.

Secrets and ConfigMaps are read by name and never watched, because a watch would need the right to read every Secret.
If one is missing, `decide` sets when it is read again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict

import structlog

from workflow_operator.adapters.kube import CONFIGMAPS, NAMESPACES, SECRETS, Kube, Object
from workflow_operator.core.actions import DeferCleanup, RunRef, StoreRef
from workflow_operator.core.names import FIELD_MANAGER, cleanup_name
from workflow_operator.core.observation import ConfigMapView, SecretView
from workflow_operator.errors import ConflictError, RefusedError

log = structlog.get_logger(__name__)

ACCESS_KEY, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
TOKEN_KEY = "auth_token"
"""Key in the Secret that KubeRay creates for a cluster with token authentication."""

CLEANUP_LABELS = {"app.kubernetes.io/managed-by": FIELD_MANAGER, "app.kubernetes.io/component": "deferred-cleanup"}
"""Labels of the ConfigMaps that record a deferred cleanup."""

CLEANUP_KEY = "cleanup"
"""Key in such a ConfigMap. Its value is the deferred cleanup as JSON."""


class KubeReferences:
    """Implements the port with the Kubernetes API.

    Args:
        kube: the API server.
        pack: makes a package of a ConfigMap's files, and returns its bytes and sha256; may raise `RefusedError`.
        operator_namespace: the operator's own namespace, in which deferred cleanups are recorded.
    """

    def __init__(
        self, kube: Kube, pack: Callable[[Mapping[str, bytes]], tuple[bytes, str]], operator_namespace: str
    ) -> None:
        self._kube = kube
        self._pack = pack
        self._operator_namespace = operator_namespace

    async def secret(self, namespace: str, name: str) -> SecretView:
        """Return whether the storage Secret exists and has all keys."""
        found = await self._kube.get(SECRETS, namespace, name)
        if found is None:
            return SecretView(name, present=False)
        data = found.get("data") or {}
        return SecretView(name, True, tuple(key for key in (ACCESS_KEY, SECRET_KEY) if not data.get(key)))

    async def config_map(self, namespace: str, name: str) -> ConfigMapView:
        """Return whether the ConfigMap with the code exists, and the sha256 of its package."""
        found = await self._kube.get(CONFIGMAPS, namespace, name)
        if found is None:
            return ConfigMapView(name, present=False)
        try:
            return ConfigMapView(name, True, sha256=self._pack(files_of(found))[1])
        except RefusedError as refusal:
            return ConfigMapView(name, True, refusal=str(refusal))

    async def code(self, namespace: str, name: str) -> tuple[bytes, str]:
        """Return the package of a ConfigMap's files and its sha256.

        Raises:
            RefusedError: the ConfigMap does not exist, or no package can be made of it.
        """
        found = await self._kube.get(CONFIGMAPS, namespace, name)
        if found is None:
            raise RefusedError(f"the ConfigMap {name} with the code does not exist; create it")
        return self._pack(files_of(found))

    async def credentials(self, namespace: str, name: str) -> tuple[str, str]:
        """Return access key and secret key of the storage.

        Raises:
            RefusedError: the Secret does not exist or lacks a key.
        """
        found = await self._kube.get(SECRETS, namespace, name)
        values = secret_values(found) if found else {}
        if not values.get(ACCESS_KEY) or not values.get(SECRET_KEY):
            raise RefusedError(
                f"the Secret {name} does not exist or lacks {ACCESS_KEY} or {SECRET_KEY}; create it with both keys"
            )
        return values[ACCESS_KEY], values[SECRET_KEY]

    async def token(self, namespace: str, name: str) -> str:
        """Return the token of a Ray cluster from the Secret of this name.

        Raises:
            RefusedError: the Secret does not exist or contains no token.
        """
        found = await self._kube.get(SECRETS, namespace, name)
        token = (secret_values(found) if found else {}).get(TOKEN_KEY, "")
        if not token:
            raise RefusedError(
                f"the Secret {name} does not exist or lacks the key {TOKEN_KEY}; store the cluster's token there"
            )
        return token

    async def namespace_terminating(self, namespace: str) -> bool:
        """Return whether a namespace is being deleted or is gone; False if the operator may not read it."""
        try:
            found = await self._kube.get(NAMESPACES, "", namespace)
        except RefusedError:
            return False
        return found is None or "deletionTimestamp" in found["metadata"]

    async def defer_cleanup(self, cleanup: DeferCleanup) -> None:
        """Record a deferred cleanup. If it is already recorded, do nothing."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": cleanup_name(cleanup.run.uid, cleanup.run.run_number), "labels": CLEANUP_LABELS},
            "data": {CLEANUP_KEY: json.dumps(asdict(cleanup), sort_keys=True)},
        }
        try:
            await self._kube.create(CONFIGMAPS, self._operator_namespace, body)
        except ConflictError:
            return

    async def deferred(self) -> list[tuple[Object, DeferCleanup]]:
        """Return all recorded cleanups, each with the ConfigMap that records it."""
        found = await self._kube.list(CONFIGMAPS, self._operator_namespace, CLEANUP_LABELS)
        parsed = [(config_map, _readable_cleanup(config_map)) for config_map in found]
        return [(config_map, cleanup) for config_map, cleanup in parsed if cleanup is not None]

    async def finish_cleanup(self, config_map: Object) -> None:
        """Delete the record of a finished cleanup."""
        meta = config_map["metadata"]
        await self._kube.delete(CONFIGMAPS, self._operator_namespace, meta["name"], meta["uid"])


def _readable_cleanup(config_map: Object) -> DeferCleanup | None:
    """Return the cleanup that a ConfigMap records, or None if a user or another version wrote something else there."""
    try:
        return parse_cleanup(config_map["data"][CLEANUP_KEY])
    except (KeyError, TypeError, ValueError) as error:
        name = config_map["metadata"]["name"]
        log.warning("unreadable deferred cleanup", config_map=name, error=repr(error), remedy="delete the ConfigMap")
        return None


def parse_cleanup(text: str) -> DeferCleanup:
    """Parse the JSON that `defer_cleanup` wrote."""
    value = json.loads(text)
    run = value["run"]
    return DeferCleanup(value["namespace"], RunRef(**{**run, "store": StoreRef(**run["store"])}), value["what"])


def files_of(config_map: Object) -> dict[str, bytes]:
    """Return the files of a ConfigMap: its `data` as UTF-8, and its `binaryData`."""
    texts = {name: text.encode() for name, text in (config_map.get("data") or {}).items()}
    binaries = {name: base64.b64decode(text) for name, text in (config_map.get("binaryData") or {}).items()}
    return texts | binaries


def secret_values(secret: Object) -> dict[str, str]:
    """Return the values of a Secret as strings, without surrounding white space such as the line end of a file."""
    return {key: base64.b64decode(text).decode().strip() for key, text in (secret.get("data") or {}).items()}
