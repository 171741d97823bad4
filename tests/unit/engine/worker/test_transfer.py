"""Ephemeral values: who owns a large one, and what counts as lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, OwnerDiedError, RayError, WorkerCrashedError

from workflow.engine.messages import EphemeralValue
from workflow.engine.worker import transfer
from workflow.engine.worker.transfer import EphemeralValuesLostError
from workflow.log.blobs import INLINE_LIMIT

LARGE = b"x" * (INLINE_LIMIT + 1)


class FakeObjects:
    """Objects of Ray, without Ray. A reference is the data, or the exception that fetching it raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited: list[Any] = []
        monkeypatch.setattr(ray, "put", lambda data: ("own", data))
        monkeypatch.setattr(ray, "wait", lambda refs, fetch_local: self.waited.extend(refs))
        monkeypatch.setattr(ray, "get", self.get)

    def get(self, ref: Any) -> Any:
        if isinstance(ref, Exception):
            raise ref
        return ref


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> FakeObjects:
    return FakeObjects(monkeypatch)


def owner_that(answers: Any) -> Any:
    """Return a manager whose method returns copies, or raises."""
    return SimpleNamespace(own_copy=SimpleNamespace(remote=answers))


def test_small_value_passes_through_the_manager(objects: FakeObjects) -> None:
    published = transfer.publish(b"small", owner_that(lambda refs: pytest.fail("not needed")))
    assert published.value is not None
    assert published.value.inline == b"small"


def test_large_value_is_owned_by_the_worker_or_by_the_owner(objects: FakeObjects) -> None:
    assert transfer.publish(LARGE).ref == ("own", LARGE)
    assert objects.waited == []
    published = transfer.publish(LARGE, owner_that(lambda refs: [("copy", *refs)]))
    assert published.ref == ("copy", ("own", LARGE))
    assert objects.waited == [published.ref], "the original is kept until the copy exists"


def test_large_value_stays_with_the_worker_if_its_owner_is_dead(objects: FakeObjects) -> None:
    assert transfer.publish(LARGE, owner_that(lambda refs: ActorDiedError())).ref == ("own", LARGE)


@pytest.mark.parametrize("error", [OwnerDiedError("0" * 56, "", ""), WorkerCrashedError(), RayError()], ids=repr)
def test_value_that_ray_cannot_fetch_is_lost(error: RayError, objects: FakeObjects) -> None:
    values = {"a": EphemeralValue(ref=error), "b": EphemeralValue(ref=b"kept")}
    with pytest.raises(EphemeralValuesLostError) as lost:
        transfer.fetch(values)
    assert lost.value.step_ids == ("a",)
