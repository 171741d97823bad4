"""The section "Durability guarantees" of the specification: a booking whose worker dies after its side effect."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@dataclass(frozen=True)
class FlightTicket:
    request_id: str
    number: int


@dataclass(frozen=True)
class Service:
    """Books flights outside the library. Each booking writes a new file.

    Attributes:
        folder: the folder of the files.
    """

    folder: Path

    def book_flight(self, request_id: str = "") -> FlightTicket:
        number = len(self.tickets()) + 1
        with (self.folder / f"ticket-{number}").open("x") as file:
            file.write(request_id)
        return FlightTicket(request_id, number)

    def has_ticket(self, request_id: str) -> bool:
        return any(ticket.request_id == request_id for ticket in self.tickets())

    def get_ticket(self, request_id: str) -> FlightTicket:
        return next(ticket for ticket in self.tickets() if ticket.request_id == request_id)

    def tickets(self) -> list[FlightTicket]:
        files = self.folder.glob("ticket-*")
        return [FlightTicket(file.read_text(), int(file.name.partition("-")[2])) for file in files]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    folder = tmp_path / "service"
    folder.mkdir()
    return Service(folder)


def die_once(marks: Marks, step: str) -> None:
    marks.started(step)
    if marks.starts()[step] == 1:
        os._exit(1)


@workflow.step
def book_flight_unsafe(service: Service, marks: Marks) -> FlightTicket:
    ticket = service.book_flight()
    # Uh oh, what if we failed here?
    die_once(marks, "booked")
    return ticket


@workflow.step(name="generate_id")
def generate_id(marks: Marks) -> str:
    # Generate a unique idempotency token.
    marks.started("generate_id")
    return uuid.uuid4().hex


@workflow.step
def book_flight_idempotent(service: Service, marks: Marks, request_id: str) -> FlightTicket:
    marks.started(f"book {request_id}")
    if service.has_ticket(request_id):
        # Retrieve the previously created ticket.
        return service.get_ticket(request_id)
    ticket = service.book_flight(request_id)
    die_once(marks, "booked")
    return ticket


def test_non_idempotent_step_may_book_more_than_once(service: Service, marks: Marks, wid: str, store: Store) -> None:
    """Text: "we could book multiple flight tickets"."""
    assert book_flight_unsafe.step(service, marks).run(wid) == FlightTicket("", 2)
    assert len(service.tickets()) == 2
    invariants.check(store, wid)


def test_idempotent_step_books_once_with_the_stored_id(service: Service, marks: Marks, wid: str, store: Store) -> None:
    """The safe variant of the text, which is written to be idempotent."""
    request_id = generate_id.step(marks)
    ticket = book_flight_idempotent.step(service, marks, request_id).run(wid)
    assert service.tickets() == [ticket]
    assert ticket.request_id == ray.get(workflow.get_output(wid, name="generate_id"))
    assert marks.starts() == {"generate_id": 1, f"book {ticket.request_id}": 2, "booked": 1}
    invariants.check(store, wid)
