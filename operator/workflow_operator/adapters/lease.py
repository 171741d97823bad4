"""A Lease of the Kubernetes API: takes, renews and releases it.

`leadership.py` elects the leader of an installation with it. `claims.py` claims a namespace for an installation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from workflow_operator.adapters.kube import LEASES, Kube, Object
from workflow_operator.core.leases import LeaseRecord, Sighting, may_take, sighted
from workflow_operator.errors import ConflictError


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """A Lease, and the candidate that wants to hold it.

    Attributes:
        namespace: the namespace of the Lease.
        name: the name of the Lease.
        identity: the name of this candidate.
        seconds: the duration of the lease. A holder that does not renew it for this long can be replaced.
    """

    namespace: str
    name: str
    identity: str
    seconds: float


class Lease:
    """One Lease, as one candidate sees it.

    Args:
        config: the Lease and the candidate.
        kube: the API server.
        monotonic: returns the monotonic time in seconds.
    """

    def __init__(self, config: LeaseConfig, kube: Kube, monotonic: Callable[[], float]) -> None:
        self._config = config
        self._kube = kube
        self._monotonic = monotonic
        self._sighting: Sighting | None = None

    async def take(self) -> str:
        """Take the Lease if it is free or expired, or renew it.

        Returns:
            The identity of the holder: the candidate's own, or that of another one whose lease has not expired.

        Raises:
            OperatorError: the Lease could not be read or written.
        """
        config = self._config
        found = await self._kube.get(LEASES, config.namespace, config.name)
        if found is None:
            body = {"metadata": {"name": config.name}, "spec": self._spec({})}
            await self._kube.create(LEASES, config.namespace, body)
            return config.identity
        self._sighting = sighted(self._sighting, _record(found), self._monotonic())
        if not may_take(self._sighting, config.identity, self._monotonic()):
            return self._sighting.record.holder
        version = found["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": self._spec(found.get("spec") or {})}
        if await self._kube.patch(LEASES, config.namespace, config.name, body) is None:
            raise ConflictError(f"cannot renew Lease {config.namespace}/{config.name}: it was deleted meanwhile")
        return config.identity

    async def release(self) -> None:
        """Remove the holder from the Lease if it is this candidate, so that the next one need not wait.

        Raises:
            OperatorError: the Lease could not be read or written.
        """
        config = self._config
        found = await self._kube.get(LEASES, config.namespace, config.name)
        if found and (found.get("spec") or {}).get("holderIdentity") == config.identity:
            version = found["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": None}}
            await self._kube.patch(LEASES, config.namespace, config.name, body)

    def _spec(self, before: Object) -> Object:
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: Object = {
            "holderIdentity": self._config.identity,
            "leaseDurationSeconds": max(round(self._config.seconds), 1),
            "renewTime": now,
        }
        if before.get("holderIdentity") != self._config.identity:
            transitions = int(before.get("leaseTransitions") or 0)
            spec |= {"acquireTime": now, "leaseTransitions": transitions + 1 if before else transitions}
        return spec


def _record(found: Object) -> LeaseRecord:
    spec = found.get("spec") or {}
    seconds = float(spec.get("leaseDurationSeconds") or 0)
    return LeaseRecord(str(spec.get("holderIdentity") or ""), seconds, str(found["metadata"]["resourceVersion"]))
