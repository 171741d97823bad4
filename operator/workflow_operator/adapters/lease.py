"""Which replica works: leader election by a Lease, on `kubernetes.aio.leaderelection`.

Two replicas that both believe to lead do no harm (every status is written under a resourceVersion, every run is fenced
by its log); the lease only keeps them from working against each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import structlog
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from workflow_operator.adapters.kube import LEASES, Kube, Object
from workflow_operator.errors import OperatorError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """A lease and who wants it.

    Attributes:
        namespace, name: the Lease.
        identity: this replica.
        seconds: a holder that was silent for this long is succeeded.
    """

    namespace: str
    name: str
    identity: str
    seconds: int


class LeaseLostError(OperatorError):
    """Another replica may work now; this one must stop."""


class KubeLock(BaseLock):
    """The Lease as the election asks for it; an API server that does not answer is a failed try and not the end."""

    def __init__(self, terms: Terms, kube: Kube) -> None:
        super().__init__(terms.name, terms.namespace, terms.identity)
        self._kube = Kube(kube.api, timeout=terms.seconds / 3)
        self._seen = ""

    async def get(self, name: str, namespace: str) -> Any:
        """True and the record, or False and why there is none."""
        try:
            lease = await self._kube.get(LEASES, namespace, name)
        except OperatorError as error:
            return False, ApiException(status=0, reason=str(error))
        if lease is None:
            return False, ApiException(status=404, reason="Not Found", body='{"code": 404}')
        spec, self._seen = lease.get("spec") or {}, lease["metadata"]["resourceVersion"]
        seconds = spec.get("leaseDurationSeconds")
        return True, LeaderElectionRecord(
            spec.get("holderIdentity"), seconds and str(seconds), spec.get("acquireTime"), spec.get("renewTime")
        )

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Whether the record was made."""
        return await self._tried(
            self._kube.create(LEASES, namespace, {"metadata": {"name": name}, "spec": _spec(election_record)})
        )

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Whether the record was written over the one that was last seen."""
        body = {"metadata": {"resourceVersion": self._seen}, "spec": _spec(updated_record)}
        return await self._tried(self._kube.patch(LEASES, namespace, name, body))

    async def _tried(self, call: Awaitable[Object | None]) -> bool:
        try:
            return await call is not None
        except OperatorError as error:
            log.info("lease not written", error=str(error))
            return False


def _spec(record: LeaderElectionRecord) -> Object:
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(float(record.lease_duration or 0)),
        "acquireTime": _micro_time(record.acquire_time),
        "renewTime": _micro_time(record.renew_time),
    }


def _micro_time(text: str | None) -> str | None:
    """The election's local time as Kubernetes writes it; what Kubernetes wrote stays as it is."""
    if text is None or text.endswith("Z"):
        return text
    moment = datetime.fromisoformat(text).astimezone(timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def lead(terms: Terms, kube: Kube, work: Callable[[], Awaitable[None]]) -> None:
    """Wait until this replica leads, then work; at the end the lease is given back, so that the next need not wait.

    Args:
        terms: the lease and this replica.
        kube: the API.
        work: runs until it ends, fails or is canceled.

    Raises:
        LeaseLost: the lease could not be renewed in time; the work was canceled.
    """
    started = asyncio.Event()

    async def begin() -> None:
        started.set()

    config = Config(
        KubeLock(terms, kube),
        lease_duration=terms.seconds,
        renew_deadline=terms.seconds * 2 / 3,
        retry_period=max(terms.seconds / 8, 1),
        onstarted_leading=begin,
        onstopped_leading=None,  # type: ignore[arg-type]  # it asks for None itself
    )
    election = asyncio.create_task(LeaderElection(config).run())
    try:
        await _until_either(election, started.wait())
        log.info("leading", identity=terms.identity)
        await _until_either(election, work())
    finally:
        election.cancel()
        await asyncio.gather(election, return_exceptions=True)
        if started.is_set():
            await _give_back(terms, kube)


async def _until_either(election: asyncio.Task[Any], other: Awaitable[Any]) -> None:
    """Wait for `other`; cancel it where the election ends first.

    Raises:
        LeaseLost: the election ended.
    """
    task = asyncio.ensure_future(other)
    try:
        await asyncio.wait((election, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return
        raise LeaseLostError("the lease could not be renewed in time") from election.exception()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _give_back(terms: Terms, kube: Kube) -> None:
    """Free the lease if it is still ours."""
    try:
        lease = await kube.get(LEASES, terms.namespace, terms.name)
        if lease and lease["spec"].get("holderIdentity") == terms.identity:
            version = lease["metadata"]["resourceVersion"]
            body = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": None}}
            await kube.patch(LEASES, terms.namespace, terms.name, body)
    except OperatorError as error:
        log.info("lease not given back", error=str(error))
