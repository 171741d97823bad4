"""The Kubernetes API as the operator uses it: plain objects in and out, and three kinds of error.

`observe.py` reads and `apply.py` writes through it; kopf only brings the events that wake them. It sits on the
transport of `kubernetes.aio` (addresses, certificates, tokens that rotate) but not on its thousand models: an object of
Kubernetes is the JSON it is on the wire.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from workflow_operator.errors import ConflictError, RefusedError, UnreachableError

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
PAGE = 500
CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced kind of object.

    Attributes:
        group_version: `v1` or `group/version`.
        plural: as in its URL.
    """

    group_version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The URL's path of one object, or of all of a namespace or of the whole cluster."""
        root = "/api" if "/" not in self.group_version else "/apis"
        parts = [root, self.group_version]
        parts += ["namespaces", namespace] if namespace else []
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])


WORKFLOWS = Resource("rayworkflow.dev/v1alpha1", "workflows")
RAYCLUSTERS = Resource("ray.io/v1", "rayclusters")
PODS = Resource("v1", "pods")
SECRETS = Resource("v1", "secrets")
CONFIGMAPS = Resource("v1", "configmaps")
EVENTS = Resource("v1", "events")
LEASES = Resource("coordination.k8s.io/v1", "leases")


@asynccontextmanager
async def connected(kubeconfig: str = "", *, timeout: float = 15.0) -> AsyncIterator[Kube]:
    """A client of the cluster that this process belongs to.

    Args:
        kubeconfig: file to use; empty: the pod's service account.
        timeout: seconds for a request.
    """
    settings = await configuration(kubeconfig)
    async with _connector(settings) as connector:
        settings.client_session_kwargs = {"connector": connector}
        async with client.ApiClient(settings) as api:
            yield Kube(api, timeout=timeout)


async def watch_session(kubeconfig: str = "") -> tuple[str, aiohttp.ClientSession]:
    """Address of the API server, and a session for whoever speaks HTTP with it by himself.

    The token in it does not rotate: after a 401 a new session is asked for.
    """
    settings = await configuration(kubeconfig)
    token = settings.api_key.get("BearerToken")
    headers = {"Authorization": f"Bearer {str(token).split()[-1]}"} if token else {}
    return settings.host, aiohttp.ClientSession(connector=_connector(settings), headers=headers)


def _connector(settings: client.Configuration) -> aiohttp.TCPConnector:
    """Connections of which those of canceled requests are closed too; some Pythons leave them open."""
    tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        tls.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
    return aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED)


async def configuration(kubeconfig: str = "") -> client.Configuration:
    """Address and credentials of the API server; a file's, or the pod's service account's where empty."""
    settings, loaders = client.Configuration(), cast("Any", config)  # the package has no types
    if kubeconfig:
        await loaders.load_kube_config(config_file=kubeconfig, client_configuration=settings)
    else:
        loaders.load_incluster_config(client_configuration=settings)
    return settings


class Kube:
    """Reads and writes objects.

    Every method raises `Unreachable` where asking again may help and `Refused` where it will not.

    Args:
        api: the transport; the caller closes it.
        timeout: seconds for a request.
    """

    def __init__(self, api: client.ApiClient, *, timeout: float = 15.0) -> None:
        self.api = api
        self._timeout = timeout

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object, or None where there is none."""
        try:
            return await self._call("GET", resource.path(namespace, name))
        except _Absent:
            return None

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        labels: Mapping[str, str],
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """All objects with these labels and fields, in pages; of the whole cluster where `namespace` is None."""
        query: dict[str, Any] = {"labelSelector": _selector(labels), "limit": PAGE}
        if fields:
            query["fieldSelector"] = _selector(fields)
        found: list[Object] = []
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            found += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return found
            query["continue"] = more

    async def serves(self, resource: Resource) -> bool:
        """Whether the API server knows this kind of object."""
        try:
            listed = await self._call("GET", f"/apis/{resource.group_version}")
        except _Absent:
            return False
        return any(one["name"] == resource.plural for one in listed.get("resources") or ())

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Make an object.

        Raises:
            Conflict: one of that name is there already.
        """
        return await self._call("POST", resource.path(namespace), body=body)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str = ""
    ) -> Object | None:
        """Change an object by a JSON merge patch; with `metadata.resourceVersion` in it only if it is still that one.

        Returns:
            The object as it then is, or None where there is none any more.

        Raises:
            Conflict: it has changed since.
        """
        path = resource.path(namespace, name, subresource)
        try:
            return await self._call("PATCH", path, body=body, content_type=MERGE_PATCH)
        except _Absent:
            return None

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete that very object: nothing happens where it is gone, or where another bears its name."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("DELETE", resource.path(namespace, name), body=options)
        except (_Absent, ConflictError):
            return

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = await self.api.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response: Any = await self.api.call_api(*request, _request_timeout=self._timeout)
            text = (await response.read()).decode()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise UnreachableError(
                f"{method} {path}: the API server does not answer: {type(error).__name__}"
            ) from error
        except ApiException as error:
            raise translated(method, path, int(error.status or 0), str(error.body or error.reason)) from error
        if not 200 <= response.status <= 299:
            raise translated(method, path, int(response.status), text)
        value: Object = json.loads(text)
        return value


def _selector(wanted: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))


class _Absent(RefusedError):
    """There is no such object, or no such namespace."""


def translated(method: str, path: str, status: int, text: str) -> Exception:
    """The operator's error for an answer of the API server; its text is the server's own message."""
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        message = text
    said = f"{method} {path}: HTTP {status}: {message[:1000]}"
    if status == 404:
        return _Absent(said)
    if status == 409:
        return ConflictError(said)
    if status in (408, 429) or status >= 500 or status == 401:  # 401: a token that rotates this moment
        return UnreachableError(said)
    return RefusedError(said)
