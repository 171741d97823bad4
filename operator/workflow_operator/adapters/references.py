"""What a Workflow's spec refers to, and where debts are noted: the port `core.ports.References`.

Secrets and ConfigMaps are read one by one, by name, and never watched: to watch them the operator would have to be
allowed to read every Secret there is. What is missing is looked for again at the pace that `decide` asks for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict

from workflow_operator.adapters.kube import CONFIGMAPS, SECRETS, Kube, Object
from workflow_operator.core.actions import DeferCleanup, RunRef, StoreRef
from workflow_operator.core.names import FIELD_MANAGER, cleanup_name
from workflow_operator.core.observation import ConfigMapView, SecretView
from workflow_operator.errors import ConflictError, RefusedError

ACCESS_KEY, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
TOKEN_KEY = "auth_token"
"""Key of the Secret that KubeRay makes for a cluster with token authentication."""

CLEANUP_LABELS = {"app.kubernetes.io/managed-by": FIELD_MANAGER, "app.kubernetes.io/component": "debt"}


class KubeReferences:
    """The port on a real API server.

    Args:
        kube: the API.
        pack: makes the zip of the code from a ConfigMap's files, and refuses some; returns its bytes and digest.
        home: the operator's own namespace, where debts are noted.
    """

    def __init__(self, kube: Kube, pack: Callable[[Mapping[str, bytes]], tuple[bytes, str]], home: str) -> None:
        self._kube = kube
        self._pack = pack
        self._home = home

    async def secret(self, namespace: str, name: str) -> SecretView:
        """Whether the storage Secret is there and whole."""
        found = await self._kube.get(SECRETS, namespace, name)
        if found is None:
            return SecretView(name, present=False)
        held = found.get("data") or {}
        return SecretView(name, True, tuple(key for key in (ACCESS_KEY, SECRET_KEY) if not held.get(key)))

    async def config_map(self, namespace: str, name: str) -> ConfigMapView:
        """Whether the code is there, and the digest of its package."""
        found = await self._kube.get(CONFIGMAPS, namespace, name)
        if found is None:
            return ConfigMapView(name, present=False)
        try:
            return ConfigMapView(name, True, sha256=self._pack(files_of(found))[1])
        except RefusedError as refusal:
            return ConfigMapView(name, True, refusal=str(refusal))

    async def code(self, namespace: str, name: str) -> tuple[bytes, str]:
        """The package of a ConfigMap's files and its digest.

        Raises:
            Refused: the ConfigMap is gone, or no package can be made of it.
        """
        found = await self._kube.get(CONFIGMAPS, namespace, name)
        if found is None:
            raise RefusedError(f"the ConfigMap {name} with the code is gone; create it again")
        return self._pack(files_of(found))

    async def credentials(self, namespace: str, name: str) -> tuple[str, str]:
        """Access key and secret key of the storage.

        Raises:
            Refused: the Secret is missing or lacks a key.
        """
        found = await self._kube.get(SECRETS, namespace, name)
        values = secret_values(found) if found else {}
        if not values.get(ACCESS_KEY) or not values.get(SECRET_KEY):
            raise RefusedError(f"the Secret {name} is missing or lacks {ACCESS_KEY} or {SECRET_KEY}")
        return values[ACCESS_KEY], values[SECRET_KEY]

    async def token(self, namespace: str, name: str) -> str:
        """The token of a Ray cluster, from the Secret of this name.

        Raises:
            Refused: there is none.
        """
        found = await self._kube.get(SECRETS, namespace, name)
        token = (secret_values(found) if found else {}).get(TOKEN_KEY, "")
        if not token:
            raise RefusedError(f"the Secret {name} with the cluster's token (key {TOKEN_KEY}) is missing")
        return token

    async def defer_cleanup(self, debt: DeferCleanup) -> None:
        """Write the debt down; one that is noted already is a success."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": cleanup_name(debt.run.uid, debt.run.run_number), "labels": CLEANUP_LABELS},
            "data": {"debt": json.dumps(asdict(debt), sort_keys=True)},
        }
        try:
            await self._kube.create(CONFIGMAPS, self._home, body)
        except ConflictError:
            return

    async def deferred(self) -> list[tuple[Object, DeferCleanup]]:
        """All that are noted, each with the object it is noted in."""
        found = await self._kube.list(CONFIGMAPS, self._home, CLEANUP_LABELS)
        return [(one, parse_cleanup(one["data"]["debt"])) for one in found]

    async def finish_cleanup(self, noted: Object) -> None:
        """Strike a debt out: it was paid."""
        meta = noted["metadata"]
        await self._kube.delete(CONFIGMAPS, self._home, meta["name"], meta["uid"])


def parse_cleanup(text: str) -> DeferCleanup:
    """A debt from the JSON that `note_debt` wrote."""
    value = json.loads(text)
    run = value["run"]
    return DeferCleanup(value["namespace"], RunRef(**{**run, "store": StoreRef(**run["store"])}), value["what"])


def files_of(config_map: Object) -> dict[str, bytes]:
    """The files of a ConfigMap: its `data` as UTF-8 and its `binaryData`."""
    texts = {name: text.encode() for name, text in (config_map.get("data") or {}).items()}
    binaries = {name: base64.b64decode(text) for name, text in (config_map.get("binaryData") or {}).items()}
    return texts | binaries


def secret_values(secret: Object) -> dict[str, str]:
    """The values of a Secret as text, without the line end that often comes with a file."""
    return {key: base64.b64decode(text).decode().strip() for key, text in (secret.get("data") or {}).items()}
