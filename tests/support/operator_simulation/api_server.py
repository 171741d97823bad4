"""The Kubernetes API server of the simulation, and a client of it for one operator.

Objects are JSON. A write replaces an object by a new one, so a reader keeps what it read. The real adapters of the
operator read and write through `SimulatedKube`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from workflow_operator.adapters.kube import Kube, Object, Resource, error_of_response
from workflow_operator.api.base import format_time

if TYPE_CHECKING:
    from tests.support.operator_simulation.world import OperatorProcess, World

T = TypeVar("T")

Hook = Callable[[str, "str", "Object | None", "Object | None"], None]
"""(actor, plural, before, after) -> None: called after each write."""


class ApiServer:
    """Objects with resource versions, finalizers and owner references.

    Args:
        world: the clock of the timestamps.

    Attributes:
        hooks: called after each write.
        terminating: namespaces that are being deleted, in which nothing can be created.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._versions = 0
        self.hooks: list[Hook] = []
        self.terminating: set[str] = set()

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return self._objects.get((plural, namespace, name))

    def list(
        self, plural: str, namespace: str | None, labels: Mapping[str, str], fields: Mapping[str, str] | None = None
    ) -> list[Object]:
        """Return the objects with these labels and fields, sorted by name."""
        found = [
            item
            for (kind, where, _), item in sorted(self._objects.items())
            if kind == plural and namespace in (None, where)
        ]
        found = [item for item in found if labels.items() <= (item["metadata"].get("labels") or {}).items()]
        return [item for item in found if all(_field(item, path) == value for path, value in (fields or {}).items())]

    def create(self, actor: str, plural: str, namespace: str, body: Object) -> Object:
        """Create an object; raise the operator's error if the name is taken or the namespace is being deleted."""
        key = (plural, namespace, body["metadata"]["name"])
        path = f"/{plural}/{key[2]}"
        if namespace in self.terminating:
            raise error_of_response("POST", path, 403, f"namespace {namespace} is being terminated")
        if key in self._objects:
            raise error_of_response("POST", path, 409, f"{plural} {key[2]} already exists")
        self._versions += 1
        metadata = {
            "uid": f"{plural}-uid-{self._versions}",
            **body["metadata"],
            "namespace": namespace,
            "creationTimestamp": format_time(self._world.now()),
            "resourceVersion": str(self._versions),
            "generation": 1,
        }
        created = {**body, "metadata": metadata}
        self._store(actor, key, created)
        return created

    def patch(self, actor: str, plural: str, namespace: str, name: str, body: Object) -> Object | None:
        """Apply a merge patch, on condition of its resourceVersion and uid; return None if the object is absent."""
        key = (plural, namespace, name)
        old = self._objects.get(key)
        if old is None:
            return None
        wanted = body.get("metadata") or {}
        for field in ("resourceVersion", "uid"):
            if wanted.get(field, old["metadata"][field]) != old["metadata"][field]:
                raise error_of_response("PATCH", f"/{plural}/{name}", 409, f"the {field} is another one")
        new = merged(old, body)
        if new == old:  # such a patch writes nothing
            return old
        self._versions += 1
        generation = old["metadata"]["generation"] + (new.get("spec") != old.get("spec"))
        new["metadata"] = {**new["metadata"], "resourceVersion": str(self._versions), "generation": generation}
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self._remove(actor, key)
        else:
            self._store(actor, key, new)
        return new

    def delete(self, actor: str, plural: str, namespace: str, name: str, uid: str = "") -> None:
        """Delete an object with this uid. With finalizers, it only gets a deletionTimestamp."""
        key = (plural, namespace, name)
        old = self._objects.get(key)
        if old is None or (uid and old["metadata"]["uid"] != uid):
            return
        if not old["metadata"].get("finalizers"):
            self._remove(actor, key)
        elif "deletionTimestamp" not in old["metadata"]:
            self._versions += 1
            changed = {"deletionTimestamp": format_time(self._world.now()), "resourceVersion": str(self._versions)}
            self._store(actor, key, {**old, "metadata": {**old["metadata"], **changed}})

    def _store(self, actor: str, key: tuple[str, str, str], new: Object) -> None:
        before = self._objects.get(key)
        self._objects[key] = new
        for hook in self.hooks:
            hook(actor, key[0], before, new)

    def _remove(self, actor: str, key: tuple[str, str, str]) -> None:
        """Remove an object, and delete the objects that it owns."""
        before = self._objects.pop(key)
        for hook in self.hooks:
            hook(actor, key[0], before, None)
        uid = before["metadata"]["uid"]
        for kind, namespace, name in sorted(self._objects):
            owned = self._objects.get((kind, namespace, name))
            if owned and any(each["uid"] == uid for each in owned["metadata"].get("ownerReferences") or ()):
                self.delete("garbage collector", kind, namespace, name)


class SimulatedKube(Kube):
    """The client of one operator. Each request arrives after a delay, and so does its response.

    Args:
        world: the simulation.
        operator: the process that sends the requests.
    """

    def __init__(self, world: World, operator: OperatorProcess) -> None:
        self._world = world
        self._operator = operator

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return await self._send(f"get {resource.plural}", lambda: self._api.get(resource.plural, namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        labels: Mapping[str, str],
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        return await self._send(
            f"list {resource.plural}", lambda: self._api.list(resource.plural, namespace, labels, fields)
        )

    async def serves(self, resource: Resource) -> bool:
        return True

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        return await self._send(
            f"create {resource.plural}", lambda: self._api.create(self._actor, resource.plural, namespace, body)
        )

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str = ""
    ) -> Object | None:
        parts = {"metadata", subresource} if subresource else body.keys() - {"status"}
        body = {key: value for key, value in body.items() if key in parts}
        return await self._send(
            f"patch {resource.plural} {subresource}".rstrip(),
            lambda: self._api.patch(self._actor, resource.plural, namespace, name, body),
        )

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        await self._send(
            f"delete {resource.plural}",
            lambda: self._api.delete(self._actor, resource.plural, namespace, name, uid),
        )

    @property
    def _api(self) -> ApiServer:
        return self._world.api

    @property
    def _actor(self) -> str:
        return self._operator.name

    async def _send(self, what: str, effect: Callable[[], T]) -> T:
        return await self._world.network.request("API server", what, effect)


def merged(old: Object, patch: Object) -> Object:
    """Return the result of a JSON merge patch."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            before = new.get(key)
            new[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            new[key] = value
    return new


def _field(item: Object, path: str) -> Any:
    value: Any = item
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
