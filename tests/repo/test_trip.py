"""The example examples/trip resumes after it and Ray were killed."""

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
def running_example(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the example and its Ray in a new session, and kill the session at the end of the block."""
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
    """Send SIGKILL to every process of a session. A process group is not enough, because Ray creates its own groups."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    os.kill(int(entry.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue


def start_counts(folder: Path) -> dict[str, int]:
    """Return how often each step started."""
    return {step.name: len(list(step.iterdir())) for step in (folder / "starts" / "trip").glob("*")}


def receipt_in(output: str) -> object:
    """Return the receipt, which the example prints as JSON."""
    start = output.index("\n{\n")
    return json.JSONDecoder().raw_decode(output[start + 1 :])[0]


async def test_example_resumes_after_it_and_ray_were_killed(tmp_path: Path) -> None:
    with running_example(tmp_path) as first:
        await eventually(lambda: "choose_seat_out" in start_counts(tmp_path), timeout=120)
        kill_session(first.pid)
    before = start_counts(tmp_path)
    with running_example(tmp_path) as second:
        output, _ = second.communicate(timeout=180)
    assert second.returncode == 0, output
    assert receipt_in(output) == json.loads((TRIP / "receipt.json").read_text())
    after = start_counts(tmp_path)
    committed = {
        "book_trip",
        "make_trip_id",
        "fetch_prices",
        "book_flight_out",
    }  # finished before choose_seat_out started
    assert {step: after[step] for step in committed} == dict.fromkeys(committed, 1)
    assert before.keys() < after.keys()
    assert len(after) == 12
