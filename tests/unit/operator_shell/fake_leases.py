"""Leases in memory with the rules of the API server. Any thread may use them, and the connection can be cut."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from workflow_operator.adapters.kube import Kube, Object
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError


class LeaseServer:
    """The stored Leases, shared by all connections."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Object] = {}
        self.terminating: set[str] = set()
        self.lock = threading.Lock()
        self.version = 0


class LeaseConnection:
    """What one client sees of the server: the part of `Kube` that Leases need.

    Attributes:
        state: `up`, `down` (each request fails at once), `hung` (no request is answered) or `denied`.
        requests: how many requests arrived.
    """

    def __init__(self, server: LeaseServer) -> None:
        self.server = server
        self.state = "up"
        self.requests = 0

    @property
    def kube(self) -> Kube:
        """Return this connection under the type that its users expect."""
        return cast("Kube", self)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Kube]:
        yield self.kube

    async def get(self, resource: Any, namespace: str, name: str) -> Object | None:
        await self._request()
        with self.server.lock:
            return copy.deepcopy(self.server.stored.get((namespace, name)))

    async def create(self, resource: Any, namespace: str, body: Object) -> Object:
        await self._request()
        with self.server.lock:
            key = namespace, body["metadata"]["name"]
            if namespace in self.server.terminating:
                raise RefusedError("the namespace is being terminated")
            if key in self.server.stored:
                raise ConflictError("it exists")
            return self._store(key, {"spec": body["spec"]})

    async def patch(self, resource: Any, namespace: str, name: str, body: Object) -> Object | None:
        await self._request()
        with self.server.lock:
            found = self.server.stored.get((namespace, name))
            if found is None:
                return None
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                raise ConflictError("it has another version")
            merged = {**found["spec"], **body["spec"]}
            kept = {key: value for key, value in merged.items() if value is not None}
            return self._store((namespace, name), {"spec": kept})

    async def _request(self) -> None:
        self.requests += 1
        if self.state == "hung":
            await asyncio.Event().wait()
        if self.state == "down":
            raise UnreachableError("the API server does not answer")
        if self.state == "denied":
            raise RefusedError("the role lacks the right")

    def _store(self, key: tuple[str, str], body: Object) -> Object:
        self.server.version += 1
        self.server.stored[key] = {"metadata": {"resourceVersion": str(self.server.version)}, **body}
        return self.server.stored[key]
