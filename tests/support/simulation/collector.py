"""Garbage collection during a simulation, at random times and with a very short grace time.

With such a grace time, only the rules of the collection protect the runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

from tests.support.simulation.environment import Environment
from tests.support.simulation.loop import context_of
from tests.support.stored import parsed
from workflow.errors import StoreUnavailableError
from workflow.garbage import Collected, collect
from workflow.log import keys
from workflow.store.port import Store


class Collector:
    """A process that collects garbage repeatedly, and may be stopped or killed during a collection.

    Args:
        environment: the environment of the simulation.
        seed: seed of the times and of the grace time. Other random choices do not depend on it.
    """

    def __init__(self, environment: Environment, seed: int) -> None:
        self._environment = environment
        self._chance = Random(seed)
        self._every = self._chance.choice((0.3, 2.0, 10.0))
        self._grace = self._chance.choice((0.0, 0.0, 3.0, 20.0))

    def start(self) -> None:
        """Start collecting, in a new process."""
        self._process = self._environment.process("collector")
        self._store, self._threads = self._environment.store_of(self._process)
        self._environment.loop.spawn(self._process, self._run())

    def die(self) -> None:
        """Kill the collector, perhaps during a collection, and start another one."""
        self._process.alive = False
        self._environment.note("collector", "killed")
        self.start()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1.0 / self._every))
            if self._chance.random() < 0.3:
                self._stop_soon()
            try:
                collected = await self._threads.run(lambda: collect(self._store, grace=self._grace))
            except StoreUnavailableError as error:
                self._environment.note("collector", f"broke off: {error}")
            else:
                self._record(collected)

    def _stop_soon(self) -> None:
        """Send SIGSTOP soon, and SIGCONT later. What the collector has read is outdated by then."""
        loop, chance, process = self._environment.loop, self._chance, self._process

        def stop() -> None:
            process.stopped = True
            self._environment.note("collector", "stopped")
            loop.call_later(chance.choice((1.0, 10.0, 40.0)) * chance.random(), resume, context=context_of(None))

        def resume() -> None:
            self._environment.note("collector", "continues")
            loop.resume(process)

        loop.call_later(chance.random(), stop, context=context_of(None))

    def _record(self, collected: Collected) -> None:
        self._environment.count("collections")
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
                self._environment.count(f"collected: {what}")
        for why in collected.skipped:
            self._environment.observer.violations.append(f"the collector left {why}")


def leftovers(store: Store, failed: set[str]) -> list[str]:
    """Collect garbage once more in a quiet store, and return what is wrong afterwards.

    All run folders without a current registry entry, all requests and all notifications must be gone. Of the keys
    below `owned/`, only those of FAILED runs may stay.

    Args:
        store: the store, without a network.
        failed: uuids of the runs that FAILED, which may be resumed.

    Returns:
        One text for each problem.
    """
    before = {info.key: store.get(info.key) for info in store.list(keys.WORKFLOWS)}
    collected = collect(store, grace=0.0)
    found = [f"the collector left {why}" for why in collected.skipped]
    current_folders = _current_folders(before)
    for key, data in before.items():
        run = keys.run_key(key)
        kept = run is None or (run.kind != "inbox" and any(key.startswith(folder) for folder in current_folders))
        if kept and store.get(key) != data:
            found.append(f"collected although it is needed: {key}")
        elif not kept and store.get(key) is not None:
            found.append(f"not collected: {key}")
    found += [f"not collected: {info.key}" for info in store.list(keys.NOTIFICATIONS)]
    owned = [info.key for info in store.list(keys.OWNED)]
    found += [f"not collected: {key}" for key in owned if keys.last_part(key) not in failed]
    index = sorted(info.key for info in store.list("index/"))
    expected = sorted(_expected_entries(before))
    return found + ([f"the index contains {index}, but it should contain {expected}"] if index != expected else [])


def _expected_entries(objects: dict[str, bytes | None]) -> Iterator[str]:
    """Yield the index entries that a quiet store should have, computed from its content."""
    for part, key in _highest_entries(objects).items():
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


def _highest_entries(objects: dict[str, bytes | None]) -> dict[str, str]:
    """Return the highest registry key for each encoded workflow id."""
    return {key.split("/")[1]: key for key in sorted(objects) if "/registry/" in key}


def _current_folders(objects: dict[str, bytes | None]) -> set[str]:
    """Return the folders of the runs that the highest registry entries name, computed from the content."""
    folders = set()
    for part, key in _highest_entries(objects).items():
        record = parsed(key, objects[key] or b"")[1][0]
        if record["k"] == "Created":
            folders.add(f"{keys.WORKFLOWS}{part}/runs/{record['run_number']}-{record['run_uuid']}/")
    return folders
