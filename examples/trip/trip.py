"""Books a trip in twelve steps, and goes on where it was when everything under it is killed.

    python examples/trip/trip.py

runs it on a Ray of its own, with a folder as the store. Kill it (kill -9, and all of Ray with it) and start it again:
it goes on from its checkpoints. In Kubernetes the operator runs the same file: see workflow.yaml.
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

HALF = 0.5
"""Of a processor for each step, so that a small machine runs several side by side."""


@step(num_cpus=HALF)
def book_trip(origin: str, dest: str, dates: list[str]) -> Workflow[Booking]:
    """The whole trip, a dynamic step: the workflow that it returns takes its place, and begins once it has returned."""
    work("book_trip", 1)
    there, back = dates
    trip = make_trip_id.step(origin, dest, dates)
    prices = fetch_prices.step(origin, dest)
    out = book_flight.options(name="book_flight_out").step("book_flight_out", origin, dest, there, prices)
    home = book_flight.options(name="book_flight_home").step("book_flight_home", dest, origin, back, prices)
    hotel = book_hotel.step(trip, dest, dates, prices)
    car = rent_car.step(trip, dest, prices)
    seat_out = choose_seat.options(name="choose_seat_out").step("choose_seat_out", out)
    seat_home = choose_seat.options(name="choose_seat_home").step("choose_seat_home", home)
    insurance = insure.step([out, home, hotel])
    table = book_table.step(hotel)
    return finalize_or_cancel.step(trip, [out, home], [hotel], [car, seat_out, seat_home, insurance, table])


@step(num_cpus=HALF)
def make_trip_id(origin: str, dest: str, dates: list[str]) -> str:
    """An id for the services to recognise a booking by, so that a step that runs again books nothing twice."""
    work("make_trip_id", 1)
    return uuid.uuid5(uuid.NAMESPACE_URL, f"trip:{origin}:{dest}:{'/'.join(dates)}").hex[:8]


@step(num_cpus=HALF)
def fetch_prices(origin: str, dest: str) -> dict[str, Any]:
    """The price list, a Ray object inside a value: who takes it gets a reference, and its content is stored once."""
    work("fetch_prices", 1)
    prices = {"flight": 120 + 7 * len(origin + dest), "night": 95, "car": 210, "seat": 15, "table": 60}
    return {"list": ray.put(prices)}


@step(num_cpus=HALF)
def book_flight(name: str, origin: str, dest: str, date: str, prices: dict[str, Any]) -> Booking:
    """Both flights are booked side by side."""
    work(name, 1.5)
    return {"what": f"flight {origin}-{dest} on {date}", "price": ray.get(prices["list"])["flight"]}


@step(num_cpus=HALF, max_retries=3)
def book_hotel(trip: str, dest: str, dates: list[str], prices: dict[str, Any]) -> Booking:
    """The hotel's service drops the first call of every trip."""
    if work("book_hotel", 2) == 0:
        raise ConnectionError(f"the hotel in {dest} hung up on trip {trip}")
    return {"what": f"hotel in {dest}, {' to '.join(dates)}", "price": 3 * ray.get(prices["list"])["night"]}


@step(num_cpus=HALF)
def rent_car(trip: str, dest: str, prices: dict[str, Any]) -> Booking:
    """A car for trip `trip`."""
    work("rent_car", 1.5)
    return {"what": f"car in {dest}, reservation {trip}", "price": ray.get(prices["list"])["car"]}


@step(num_cpus=HALF)
def choose_seat(name: str, flight: Booking) -> Booking:
    """A seat at the window."""
    work(name, 2)
    return {"what": f"window seat, {flight['what']}", "price": 15}


@step(num_cpus=HALF)
def insure(bookings: list[Booking]) -> Booking:
    """Insurance for a twentieth of what it covers."""
    work("insure", 1.5)
    return {"what": f"insurance for {len(bookings)} bookings", "price": sum(each["price"] for each in bookings) // 20}


@step(num_cpus=HALF)
def book_table(hotel: Booking) -> Booking:
    """A dinner at the hotel."""
    work("book_table", 1)
    return {"what": f"dinner at the {hotel['what'].partition(',')[0]}", "price": 60}


@step(num_cpus=HALF)
def finalize_or_cancel(trip: str, flights: list[Booking], hotels: list[Booking], extras: list[Booking]) -> Booking:
    """The receipt; nothing is booked where a flight or the hotel is missing."""
    work("finalize_or_cancel", 1)
    if not (all(flights) and all(hotels)):
        return {"trip": trip, "canceled": True}
    booked = [*flights, *hotels, *extras]
    return {"trip": trip, "total": sum(each["price"] for each in booked), "booked": [each["what"] for each in booked]}


# --- what the steps do: take their time, and mark each start outside the library, so that others can count them ---


def work(name: str, seconds: float) -> int:
    """Mark that a step starts, then take time.

    Args:
        name: the step's.
        seconds: how long it takes.

    Returns:
        How often it had started before, or -1 where TRIP_MARKS says no place for marks.
    """
    print(f"{name} starts", flush=True)
    marks = os.environ.get("TRIP_MARKS", "")
    before = -1
    if marks:
        place = BucketMarks(marks) if marks.startswith("s3://") else FolderMarks(Path(marks))
        before = sum(1 for _ in place.of(name))
        place.add(name)
    time.sleep(seconds)
    return before


class FolderMarks:
    """An empty file for each start: `<step>/<unique>`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, name: str) -> Iterator[str]:
        """The marks of a step."""
        return (path.name for path in (self._folder / name).glob("*"))

    def add(self, name: str) -> None:
        """Mark a start."""
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / name / uuid.uuid4().hex).touch()


class BucketMarks:
    """The same as objects of an S3 bucket: `s3://bucket/prefix?endpoint=http://host:9000`, credentials as usual."""

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

    def of(self, name: str) -> Iterator[str]:
        """The marks of a step."""
        found = self._client.list_objects(self._bucket, prefix=f"{self._prefix}/{name}/")
        return (str(each.object_name) for each in found)

    def add(self, name: str) -> None:
        """Mark a start."""
        self._client.put_object(self._bucket, f"{self._prefix}/{name}/{uuid.uuid4().hex}", io.BytesIO(), 0)


# --- on a Ray of its own ---


def main() -> None:
    """Run the trip, or go on with it."""
    parser = argparse.ArgumentParser(description="Book a trip on a Ray of its own; start it again to resume it.")
    state = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state"))
    parser.add_argument("--folder", type=Path, default=state / "rayworkflow-trip", help="the store (%(default)s)")
    parser.add_argument("--id", default="trip", help="the workflow's id; another one is another trip (%(default)s)")
    told = parser.parse_args()
    os.environ.setdefault("TRIP_MARKS", str(told.folder / "marks" / told.id))
    print(f"starting Ray; the checkpoints lie in {told.folder / 'store'}", flush=True)
    started, done = time.monotonic(), threading.Event()
    threading.Thread(target=_sign_of_life, args=(done,), daemon=True).start()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    workflow.init(str(told.folder / "store"))
    print(f"workflow {told.id!r}: {_standing(told.id)}", flush=True)
    receipt = book_trip.step("OAK", "SAN", ["6/12", "7/5"]).run(workflow_id=told.id)
    done.set()
    print(json.dumps(receipt, indent=2))
    print(f"workflow {told.id!r}: {workflow.get_status(told.id)} after {time.monotonic() - started:.1f} s")


def _sign_of_life(done: threading.Event) -> None:
    while not done.wait(10):
        print("  ...", flush=True)


def _standing(workflow_id: str) -> str:
    known = dict(workflow.list_all())
    if workflow_id not in known:
        return "a new one; kill it and start it again to see it resume"
    said = {
        "RUNNING": "its last owner was alive half a minute ago; it goes on once that is certainly gone",
        "RESUMABLE": "it goes on from its checkpoints",
        "SUCCESSFUL": "it is done, this is its stored result; --id gives another trip",
    }
    status = str(known[workflow_id])
    return f"{status}: {said.get(status, 'see docs/errors.md')}"


if __name__ == "__main__":
    main()
