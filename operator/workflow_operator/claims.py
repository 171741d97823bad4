"""Claims of namespaces, so that two installations never act on the same Workflows.

An installation claims a namespace by a Lease in it, which all installations call by the same name. The first one wins.
Another one reports the namespace, does not act in it, and takes it over when the claim expires. All replicas of an
installation share its identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from workflow_operator.adapters.kube import Kube
from workflow_operator.adapters.lease import Lease, LeaseConfig
from workflow_operator.errors import ConflictError, OperatorError, RefusedError

CLAIM_NAME = "installation.rayworkflow.dev"
CLAIM_SECONDS = 120.0
"""An installation that does not renew its claim for this long is considered gone. An upgrade is faster."""

log = structlog.get_logger(__name__)


@dataclass
class _Claim:
    """What is known about one namespace.

    Attributes:
        lease: the Lease in the namespace.
        other: the installation that holds it, or empty.
        until: the monotonic time until which `other` is up to date.
        lock: held while the Lease is read or written.
    """

    lease: Lease
    other: str = ""
    until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Claims:
    """The claims of one installation.

    Args:
        kube: the API server.
        identity: the name of the installation, which its replicas share.
        monotonic: returns the monotonic time in seconds.
        report: called after each change, with the other installation of each namespace that this one must not serve.
        seconds: the duration of a claim.
    """

    def __init__(
        self,
        kube: Kube,
        identity: str,
        monotonic: Callable[[], float],
        report: Callable[[Mapping[str, str]], None] = lambda others: None,
        seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._kube = kube
        self._identity = identity
        self._monotonic = monotonic
        self._report = report
        self._seconds = seconds
        self._claims: dict[str, _Claim] = {}

    async def other_installation(self, namespace: str) -> str:
        """Claim a namespace, and return the installation that serves it instead; empty if it is this one.

        Raises:
            UnreachableError, ConflictError: the claim could not be read or written. Try again.
        """
        claim = self._claim(namespace)
        if self._monotonic() >= claim.until:
            await self._refresh(namespace, claim)
        return claim.other

    async def run(self, namespaces: Iterable[str]) -> None:
        """Claim `namespaces`, and renew all claims until canceled."""
        for namespace in namespaces:
            self._claim(namespace)
        while True:
            await asyncio.gather(*(self._renew(*each) for each in list(self._claims.items())))
            await asyncio.sleep(self._seconds / 4)

    def _claim(self, namespace: str) -> _Claim:
        if namespace not in self._claims:
            config = LeaseConfig(namespace, CLAIM_NAME, self._identity, self._seconds)
            self._claims[namespace] = _Claim(Lease(config, self._kube, self._monotonic))
        return self._claims[namespace]

    async def _renew(self, namespace: str, claim: _Claim) -> None:
        try:
            await self._refresh(namespace, claim)
        except OperatorError as error:
            log.warning("cannot renew the claim of a namespace", namespace=namespace, error=str(error))

    async def _refresh(self, namespace: str, claim: _Claim) -> None:
        async with claim.lock:
            started = self._monotonic()
            try:
                holder = await claim.lease.take()
            except ConflictError:
                holder = await claim.lease.take()  # another client wrote it meanwhile
            except RefusedError as refusal:
                # The namespace is being deleted, or a right is missing. Its Workflows still need an installation.
                if self._monotonic() >= claim.until:
                    log.warning(
                        "namespace served without a claim: the API server refused it",
                        namespace=namespace,
                        error=str(refusal),
                        remedy="unless the namespace is being deleted, upgrade the chart, which grants the right",
                    )
                holder = claim.other or self._identity
            claim.until = started + self._seconds
            self._record(namespace, claim, "" if holder == self._identity else holder)

    def _record(self, namespace: str, claim: _Claim, other: str) -> None:
        if other == claim.other:
            return
        claim.other = other
        if other:
            log.warning(
                "namespace served by another installation; this one does not act there",
                namespace=namespace,
                installation=other,
                remedy="uninstall one of the two, or set watchNamespaces so that they do not overlap",
            )
        else:
            log.info("namespace claimed after another installation", namespace=namespace)
        self._report({name: each.other for name, each in sorted(self._claims.items()) if each.other})
