"""examples/trip as its reader uses it: started, killed with everything under it, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
TRIP = ROOT / "examples" / "trip"


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The example in a session of its own, Ray with it; nothing of it is left behind."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, TRIP / "trip.py", "--folder", folder],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_session(process.pid)
        process.wait()
        if process.stdout:
            process.stdout.close()


def kill_session(session: int) -> None:
    """SIGKILL to every process of a session: Ray's own servers and workers are in process groups of their own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    os.kill(int(entry.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue


def marks(folder: Path) -> dict[str, int]:
    return {step.name: len(list(step.iterdir())) for step in (folder / "marks" / "trip").glob("*")}


def receipt_in(printed: str) -> object:
    """The receipt, which is printed as JSON on lines of its own."""
    start = printed.index("\n{\n")
    return json.JSONDecoder().raw_decode(printed[start + 1 :])[0]


async def test_killed_with_all_of_ray_and_started_again_it_goes_on(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        await eventually(lambda: "choose_seat_out" in marks(tmp_path), timeout=120)
        kill_session(first.pid)
    before = marks(tmp_path)
    with started(tmp_path) as second:
        printed, _ = second.communicate(timeout=180)
    assert second.returncode == 0, printed
    assert receipt_in(printed) == json.loads((TRIP / "receipt.json").read_text())
    after = marks(tmp_path)
    committed = {"book_trip", "make_trip_id", "fetch_prices", "book_flight_out"}  # a seat was chosen on that flight
    assert {step: after[step] for step in committed} == dict.fromkeys(committed, 1)
    assert before.keys() < after.keys()
    assert len(after) == 12
