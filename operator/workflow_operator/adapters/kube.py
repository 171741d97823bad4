"""A client of the Kubernetes API. It reads and writes objects as plain JSON, and raises the operator's own errors.

The other adapters read and write through it. kopf only watches, with its own connections. The client uses
the transport of `kubernetes.aio` (addresses, certificates, tokens that rotate), but not its generated models.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from workflow_operator.core.server_clock import ServerClock
from workflow_operator.core.texts import clip
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
PAGE_SIZE = 500
MAX_CONNECTIONS = 100
ERROR_LIMIT = 1000
"""Longest text that is kept of an error of the API server, in characters."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced resource of the Kubernetes API.

    Attributes:
        group_version: `v1` or `group/version`.
        plural: the plural name in URLs, for example `pods`.
    """

    group_version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of one object, or of all objects of a namespace or of the whole cluster."""
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
NAMESPACES = Resource("v1", "namespaces")
LEASES = Resource("coordination.k8s.io/v1", "leases")


@asynccontextmanager
async def connected(kubeconfig: str = "", *, timeout: float = 15.0) -> AsyncIterator[Kube]:
    """Connect a client while the block runs.

    Args:
        kubeconfig: file with the address and credentials; empty for the pod's service account.
        timeout: the timeout of a request, in seconds.
    """
    settings = await configuration(kubeconfig)
    async with _connector(settings) as connector:
        settings.client_session_kwargs = {"connector": connector}
        async with client.ApiClient(settings) as api:
            yield Kube(api, timeout=timeout)


async def watch_session(kubeconfig: str = "") -> tuple[str, aiohttp.ClientSession]:
    """Return the address of the API server, and an HTTP session with credentials for it.

    The token of the session does not rotate. After a 401, the caller must create a new session.
    """
    settings = await configuration(kubeconfig)
    token = settings.api_key.get("BearerToken")
    headers = {"Authorization": f"Bearer {str(token).split()[-1]}"} if token else {}
    return settings.host, aiohttp.ClientSession(connector=_connector(settings), headers=headers)


def _connector(settings: client.Configuration) -> aiohttp.TCPConnector:
    """Return a connection pool that closes connections of canceled requests, which some Python versions leave open."""
    tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        tls.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
    return aiohttp.TCPConnector(ssl=tls, limit=MAX_CONNECTIONS, enable_cleanup_closed=NEEDS_CLEANUP_CLOSED)


async def configuration(kubeconfig: str = "") -> client.Configuration:
    """Load address and credentials of the API server, from a file or, if empty, from the pod's service account."""
    settings, loaders = client.Configuration(), cast("Any", config)  # the package has no types
    if kubeconfig:
        await loaders.load_kube_config(config_file=kubeconfig, client_configuration=settings)
    else:
        loaders.load_incluster_config(client_configuration=settings)
    return settings


class Kube:
    """Reads and writes objects.

    Every method raises `UnreachableError` if a retry may succeed, and `RefusedError` if it cannot.

    Args:
        api: the transport; the caller closes it.
        timeout: the timeout of a request, in seconds.
        before_write: called before each request that changes an object; raises if the process must not write.
        clock: a clock that another client also follows. By default, a new one.

    Attributes:
        clock: follows the clock of the API server.
    """

    def __init__(
        self,
        api: client.ApiClient,
        *,
        timeout: float = 15.0,
        before_write: Callable[[], None] = lambda: None,
        clock: ServerClock | None = None,
    ) -> None:
        self.api = api
        self._timeout = timeout
        self._before_write = before_write
        self.clock = clock or ServerClock(time.time, time.monotonic)

    def guarded(self, before_write: Callable[[], None]) -> Kube:
        """Return a client with the same transport and clock that calls `before_write` before each write."""
        return Kube(self.api, timeout=self._timeout, before_write=before_write, clock=self.clock)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return an object, or None if it does not exist."""
        try:
            return await self._call("GET", resource.path(namespace, name))
        except _NotFoundError:
            return None

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        labels: Mapping[str, str],
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """List all objects with these labels and fields. If `namespace` is None, list the whole cluster."""
        query: dict[str, Any] = {"labelSelector": _selector(labels), "limit": PAGE_SIZE}
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
        """Return whether the API server serves this resource."""
        try:
            listed = await self._call("GET", f"/apis/{resource.group_version}")
        except _NotFoundError:
            return False
        return any(entry["name"] == resource.plural for entry in listed.get("resources") or ())

    async def schema(self, resource: Resource, kind: str) -> Object | None:
        """Return the served OpenAPI schema of a kind, or None if it is not published.

        Every authenticated client may read it, also without the right to read CRDs.
        """
        try:
            document = await self._call("GET", f"/openapi/v3/apis/{resource.group_version}")
        except _NotFoundError:
            return None
        group, _, version = resource.group_version.partition("/")
        wanted = {"group": group, "version": version, "kind": kind}
        schemas: dict[str, Object] = (document.get("components") or {}).get("schemas") or {}
        return next(
            (each for each in schemas.values() if wanted in each.get("x-kubernetes-group-version-kind", ())), None
        )

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Create an object.

        Raises:
            ConflictError: an object of that name exists.
        """
        return await self._call("POST", resource.path(namespace), body=body)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str = ""
    ) -> Object | None:
        """Change an object by a JSON merge patch.

        If the patch contains `metadata.resourceVersion`, it applies only to this version of the object.

        Returns:
            The changed object, or None if it no longer exists.

        Raises:
            ConflictError: the object has another version.
        """
        path = resource.path(namespace, name, subresource)
        try:
            return await self._call("PATCH", path, body=body, content_type=MERGE_PATCH)
        except _NotFoundError:
            return None

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid. If it no longer exists or its name belongs to another object, do nothing."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("DELETE", resource.path(namespace, name), body=options)
        except (_NotFoundError, ConflictError):
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
        if method != "GET":
            self._before_write()
        try:
            request = await self.api.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            sent = self.clock.started()
            response: Any = await self.api.call_api(*request, _request_timeout=self._timeout)
            self.clock.follow(response.headers.get("Date"), sent)
            text = (await response.read()).decode()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise UnreachableError(
                f"{method} {path} failed: the API server does not answer: {type(error).__name__}"
            ) from error
        except ApiException as error:
            raise error_of_response(method, path, int(error.status or 0), str(error.body or error.reason)) from error
        if not 200 <= response.status <= 299:
            raise error_of_response(method, path, int(response.status), text)
        value: Object = json.loads(text)
        return value


def _selector(wanted: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))


class _NotFoundError(RefusedError):
    """The object or its namespace does not exist."""


class ContentRefusedError(RefusedError):
    """The server refuses the content: the object would be too large or invalid. Other content may be accepted."""


_TOO_LARGE = ("request is too large", "larger than max", "entity too large", "too long: must have at most")
"""Parts of the texts of the API server and of etcd for an object that is too large. Their status can be 500."""


def event_time(event: Object) -> str:
    """Return the time at which an event was last seen, as Kubernetes writes it; empty if it has none."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def error_of_response(method: str, path: str, status: int, text: str) -> Exception:
    """Return the operator's error for a failed response of the API server. Its text contains the server's message."""
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        message = text
    described = f"{method} {path} failed: HTTP {status}: {clip(message, ERROR_LIMIT)}"
    if status == 404:
        return _NotFoundError(described)
    if status == 409:
        return ConflictError(described)
    if status in (400, 413, 422) or (status >= 500 and any(text in message.lower() for text in _TOO_LARGE)):
        return ContentRefusedError(described)
    if status in (408, 429) or status >= 500 or status == 401:  # 401: the token is being rotated
        return UnreachableError(described)
    return RefusedError(described)
