"""Books a trip in twelve steps, and resumes from its checkpoints after a crash.

    python examples/trip/trip.py

This command starts a local Ray and stores checkpoints in a folder. Kill the program and Ray with `kill -9`, then run
the command again: the workflow resumes. In Kubernetes, the operator runs the same file, see workflow.yaml.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import ray

import workflow
from workflow import Workflow, step

Booking = dict[str, Any]

CPUS_PER_STEP = 0.5
"""Less than one CPU per step, so that a machine with 2 CPUs runs 4 steps in parallel."""


@step(num_cpus=CPUS_PER_STEP)
def book_trip(origin: str, dest: str, dates: list[str]) -> Workflow[Booking]:
    """Book the whole trip. This is a dynamic step: the workflow that it returns runs in its place."""
    simulate_work("book_trip", 1)
    outbound_date, return_date = dates
    trip = make_trip_id.step(origin, dest, dates)
    prices = fetch_prices.step(origin, dest)
    out = book_flight.options(name="book_flight_out").step("book_flight_out", origin, dest, outbound_date, prices)
    home = book_flight.options(name="book_flight_home").step("book_flight_home", dest, origin, return_date, prices)
    hotel = book_hotel.step(trip, dest, dates, prices)
    car = rent_car.step(trip, dest, prices)
    seat_out = choose_seat.options(name="choose_seat_out").step("choose_seat_out", out)
    seat_home = choose_seat.options(name="choose_seat_home").step("choose_seat_home", home)
    insurance = insure.step([out, home, hotel])
    table = book_table.step(hotel)
    return finalize_or_cancel.step(trip, [out, home], [hotel], [car, seat_out, seat_home, insurance, table])


@step(num_cpus=CPUS_PER_STEP)
def make_trip_id(origin: str, dest: str, dates: list[str]) -> str:
    """Create a trip id. Booking services use it to recognize a repeated request and do not book twice."""
    simulate_work("make_trip_id", 1)
    return uuid.uuid5(uuid.NAMESPACE_URL, f"trip:{origin}:{dest}:{'/'.join(dates)}").hex[:8]


@step(num_cpus=CPUS_PER_STEP)
def fetch_prices(origin: str, dest: str) -> dict[str, Any]:
    """Fetch the price list. The result contains a Ray object reference, and its content is stored only once."""
    simulate_work("fetch_prices", 1)
    prices = {"flight": 120 + 7 * len(origin + dest), "night": 95, "car": 210, "seat": 15, "table": 60}
    return {"list": ray.put(prices)}


@step(num_cpus=CPUS_PER_STEP)
def book_flight(name: str, origin: str, dest: str, date: str, prices: dict[str, Any]) -> Booking:
    """Book a flight. Both flights of the trip are booked in parallel."""
    simulate_work(name, 1.5)
    return {"what": f"flight {origin}-{dest} on {date}", "price": ray.get(prices["list"])["flight"]}


@step(num_cpus=CPUS_PER_STEP, max_retries=3)
def book_hotel(trip: str, dest: str, dates: list[str], prices: dict[str, Any]) -> Booking:
    """Book a hotel. Its service fails the first request of every trip, so this step needs a retry."""
    if simulate_work("book_hotel", 2) == 0:
        raise ConnectionError(f"cannot book a hotel for trip {trip}: the hotel in {dest} closed the connection")
    return {"what": f"hotel in {dest}, {' to '.join(dates)}", "price": 3 * ray.get(prices["list"])["night"]}


@step(num_cpus=CPUS_PER_STEP)
def rent_car(trip: str, dest: str, prices: dict[str, Any]) -> Booking:
    """Rent a car."""
    simulate_work("rent_car", 1.5)
    return {"what": f"car in {dest}, reservation {trip}", "price": ray.get(prices["list"])["car"]}


@step(num_cpus=CPUS_PER_STEP)
def choose_seat(name: str, flight: Booking) -> Booking:
    """Reserve a window seat on a booked flight."""
    simulate_work(name, 2)
    return {"what": f"window seat, {flight['what']}", "price": 15}


@step(num_cpus=CPUS_PER_STEP)
def insure(bookings: list[Booking]) -> Booking:
    """Buy insurance for 5 % of the total price of some bookings."""
    simulate_work("insure", 1.5)
    return {
        "what": f"insurance for {len(bookings)} bookings",
        "price": sum(booking["price"] for booking in bookings) // 20,
    }


@step(num_cpus=CPUS_PER_STEP)
def book_table(hotel: Booking) -> Booking:
    """Reserve a table for dinner at the booked hotel."""
    simulate_work("book_table", 1)
    return {"what": f"dinner at the {hotel['what'].partition(',')[0]}", "price": 60}


@step(num_cpus=CPUS_PER_STEP)
def finalize_or_cancel(trip: str, flights: list[Booking], hotels: list[Booking], extras: list[Booking]) -> Booking:
    """Return the receipt, or cancel the trip if a flight or the hotel is missing."""
    simulate_work("finalize_or_cancel", 1)
    if not (all(flights) and all(hotels)):
        return {"trip": trip, "canceled": True}
    booked = [*flights, *hotels, *extras]
    return {"trip": trip, "total": sum(item["price"] for item in booked), "booked": [item["what"] for item in booked]}


# --- Simulated work. Each step also records its starts outside the library, so that a test can count them. ---


def simulate_work(name: str, seconds: float) -> int:
    """Record the start of a step, then sleep.

    Args:
        name: the name of the step.
        seconds: how long to sleep.

    Returns:
        The number of earlier starts of the step, or -1 if the variable TRIP_STARTS is not set.
    """
    print(f"{name} starts", flush=True)
    location = os.environ.get("TRIP_STARTS", "")
    earlier_starts = -1
    if location:
        starts = StartsInBucket(location) if location.startswith("s3://") else StartsInFolder(Path(location))
        earlier_starts = sum(1 for _ in starts.records(name))
        starts.add(name)
    time.sleep(seconds)
    return earlier_starts


class StartsInFolder:
    """Records of step starts in a folder: one empty file `STEP/UUID` per start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def records(self, name: str) -> Iterator[str]:
        """Return the records of a step."""
        return (path.name for path in (self._folder / name).glob("*"))

    def add(self, name: str) -> None:
        """Record a start of a step."""
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / name / uuid.uuid4().hex).touch()


class StartsInBucket:
    """Records of step starts in an S3 bucket: one empty object `PREFIX/STEP/UUID` per start.

    Args:
        url: `s3://BUCKET/PREFIX?endpoint=http://HOST:PORT`. The credentials are in the usual AWS variables.
    """

    def __init__(self, url: str) -> None:
        from minio import Minio

        parts = urlsplit(url)
        endpoint = urlsplit(parse_qs(parts.query)["endpoint"][0])
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._client = Minio(
            endpoint.netloc,
            access_key=os.environ["AWS_ACCESS_KEY_ID"],
            secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            secure=endpoint.scheme == "https",
        )

    def records(self, name: str) -> Iterator[str]:
        """Return the records of a step."""
        found = self._client.list_objects(self._bucket, prefix=f"{self._prefix}/{name}/")
        return (str(entry.object_name) for entry in found)

    def add(self, name: str) -> None:
        """Record a start of a step."""
        self._client.put_object(self._bucket, f"{self._prefix}/{name}/{uuid.uuid4().hex}", io.BytesIO(), 0)


# --- The local command. ---


def main() -> None:
    """Run the workflow on a local Ray, or resume it."""
    parser = argparse.ArgumentParser(
        description="Book a trip on a local Ray. Run the command again to resume the workflow."
    )
    state = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
    parser.add_argument(
        "--folder", type=Path, default=state / "rayworkflow-trip", help="folder for checkpoints (default: %(default)s)"
    )
    parser.add_argument("--id", default="trip", help="workflow id; each id is a separate trip (default: %(default)s)")
    options = parser.parse_args()
    os.environ.setdefault("TRIP_STARTS", str(options.folder / "starts" / options.id))
    print(f"starting Ray; checkpoints are in {options.folder / 'store'}", flush=True)
    started, done = time.monotonic(), threading.Event()
    threading.Thread(target=_print_heartbeats, args=(done,), daemon=True).start()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    workflow.init(str(options.folder / "store"))
    print(f"workflow {options.id!r}: {_describe_status(options.id)}", flush=True)
    receipt = book_trip.step("OAK", "SAN", ["6/12", "7/5"]).run(workflow_id=options.id)
    done.set()
    print(json.dumps(receipt, indent=2))
    print(f"workflow {options.id!r}: {workflow.get_status(options.id)} after {time.monotonic() - started:.1f} s")


def _print_heartbeats(done: threading.Event) -> None:
    while not done.wait(10):
        print("  ...", flush=True)


def _describe_status(workflow_id: str) -> str:
    known = dict(workflow.list_all())
    if workflow_id not in known:
        return "new; kill the program and run it again to see the workflow resume"
    explanations = {
        "RUNNING": "another process runs it, and this one waits for its result",
        "RESUMABLE": "it resumes from its checkpoints",
        "SUCCESSFUL": "it is finished, and this is its stored result; use --id to book another trip",
    }
    status = str(known[workflow_id])
    return f"{status}: {explanations.get(status, 'see docs/errors.md')}"


if __name__ == "__main__":
    main()
