"""The collector: it comes at any moment, with a grace time so short that its rules alone can make it harmless."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

from tests.support.simulation.loop import context_of
from tests.support.simulation.world import World
from tests.support.stored import parsed
from workflow.errors import StoreUnavailableError
from workflow.garbage import Collected, collect
from workflow.log import keys
from workflow.store.port import Store


class Collector:
    """A process that collects again and again, and may be stopped in the middle.

    Args:
        world: where.
        seed: decides when it comes, apart from what else is drawn.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = Random(seed)
        self._every = self._chance.choice((0.3, 2.0, 10.0))
        self._grace = self._chance.choice((0.0, 0.0, 3.0, 20.0))

    def begin(self) -> None:
        """Until the world ends."""
        self._process = self._world.process("collector")
        self._store, self._threads = self._world.reached_by(self._process)
        self._world.loop.spawn(self._process, self._live())

    def die(self) -> None:
        """In the middle perhaps; another begins."""
        self._process.alive = False
        self._world.note("collector", "killed")
        self.begin()

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1.0 / self._every))
            if self._chance.random() < 0.3:
                self._stop_soon()
            try:
                collected = await self._threads.run(lambda: collect(self._store, grace=self._grace))
            except StoreUnavailableError as error:
                self._world.note("collector", f"broke off: {error}")
            else:
                self._tell(collected)

    def _stop_soon(self) -> None:
        """SIGSTOP in a moment, and SIGCONT later: what it has read is old by then."""
        loop, chance, process = self._world.loop, self._chance, self._process

        def stop() -> None:
            process.stopped = True
            self._world.note("collector", "stopped")
            loop.call_later(chance.choice((1.0, 10.0, 40.0)) * chance.random(), go_on, context=context_of(None))

        def go_on() -> None:
            self._world.note("collector", "goes on")
            loop.go_on(process)

        loop.call_later(chance.random(), stop, context=context_of(None))

    def _tell(self, collected: Collected) -> None:
        self._world.count("collections")
        for what in (
            "runs",
            "abandoned",
            "requests",
            "notifications",
            "owned",
            "managers",
            "index_corrected",
            "index_added",
        ):
            for _ in range(getattr(collected, what)):
                self._world.count(f"collected: {what}")
        for why in collected.skipped:
            self._world.watch.broken.append(f"the collector left {why}")


def left_behind(store: Store, failed: set[str]) -> list[str]:
    """What lies about in a quiet store behind one more collection.

    Args:
        store: the store itself.
        failed: run uuids of those that FAILED, which may be resumed.

    Returns:
        The problems: there may be no run folder without a name that counts, nothing asked, and of managers only what
        may still be theirs.
    """
    before = {info.key: store.get(info.key) for info in store.list(keys.WORKFLOWS)}
    collected = collect(store, grace=0.0)
    found = [f"the collector left {why}" for why in collected.skipped]
    named = _folders_that_count(before)
    for key, data in before.items():
        run = keys.run_key(key)
        kept = run is None or (run.kind != "inbox" and any(key.startswith(folder) for folder in named))
        if kept and store.get(key) != data:
            found.append(f"collected, though it counts: {key}")
        elif not kept and store.get(key) is not None:
            found.append(f"not collected: {key}")
    found += [f"not collected: {info.key}" for info in store.list(keys.NOTIFICATIONS)]
    owned = [info.key for info in store.list(keys.OWNED)]
    found += [f"not collected: {key}" for key in owned if keys.last_part(key) not in failed]
    index = sorted(info.key for info in store.list("index/"))
    true = sorted(_entries(before))
    return found + ([f"the index says {index}, the logs {true}"] if index != true else [])


def _entries(objects: dict[str, bytes | None]) -> Iterator[str]:
    """The entries that the index of a quiet store should have, read from the bytes."""
    for part, key in _highest_names(objects).items():
        record = parsed(key, objects[key] or b"")[1][0]
        if record["k"] == "Tombstone":
            if record["reason"] not in ("Deleted", "Abandoned"):
                yield f"index/{record['status']}/{part}"
            continue
        log = f"{keys.WORKFLOWS}{part}/runs/{record['run_number']}-{record['run_uuid']}/log/"
        status = "RUNNING"
        for segment in sorted(key for key in objects if key.startswith(log)):
            for each in parsed(segment, objects[segment] or b"")[1]:
                if each["k"] == "Claimed":
                    status = "RUNNING"
                elif each["k"] == "StatusChanged" and each["status"] != "RESUMABLE":
                    status = each["status"]
        yield f"index/{status}/{part}"


def _highest_names(objects: dict[str, bytes | None]) -> dict[str, str]:
    """Part of an id -> the key of the name that counts."""
    return {key.split("/")[1]: key for key in sorted(objects) if "/registry/" in key}


def _folders_that_count(objects: dict[str, bytes | None]) -> set[str]:
    """The folders of runs that the highest names say, read from the bytes."""
    folders = set()
    for part, key in _highest_names(objects).items():
        record = parsed(key, objects[key] or b"")[1][0]
        if record["k"] == "Created":
            folders.add(f"{keys.WORKFLOWS}{part}/runs/{record['run_number']}-{record['run_uuid']}/")
    return folders
