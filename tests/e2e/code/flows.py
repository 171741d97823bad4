"""What the Workflows of these tests run. Each step marks its starts in a bucket by itself, outside the library.

A mark is an object `<place>/marks/<step>/<unique>` that holds the time. A gate is a step that waits for the object
`<place>/open/<step>`, so that a test holds a run where it wants it.
"""

from __future__ import annotations

import io
import os
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from minio import Minio
from urllib3.exceptions import HTTPError

from workflow import Workflow, step

VERSION = "plain"
"""Tests replace it: the same module in two versions."""

SMALL = 0.1
"""Of a processor for each step: these steps only wait."""

PATIENCE_SECONDS = 240


class Place:
    """Where one Workflow's marks and gates lie: `s3://bucket/prefix?endpoint=http://host:9000`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        endpoint = urlsplit(parse_qs(parts.query)["endpoint"][0])
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._client = Minio(
            endpoint.netloc,
            access_key=os.environ["AWS_ACCESS_KEY_ID"],
            secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            secure=False,
            region="us-east-1",
        )

    def mark(self, name: str) -> None:
        """Say that a step starts."""
        text = repr(time.time()).encode()
        key = f"{self._prefix}/marks/{name}/{uuid.uuid4().hex}"
        self._retry_while_unavailable(
            lambda: self._client.put_object(self._bucket, key, io.BytesIO(text), len(text)) or True
        )

    def wait_until_open(self, name: str) -> None:
        """Return when the gate is open."""
        key = f"{self._prefix}/open/{name}"
        self._retry_while_unavailable(lambda: any(self._client.list_objects(self._bucket, prefix=key)))

    def _retry_while_unavailable(self, call: Any) -> None:
        """Try until it answers true; the store may be away for a while."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if call():
                    return
            except (HTTPError, OSError, ValueError) as error:
                print(f"{self._prefix}: {error!r}", flush=True)
            time.sleep(0.1)
        raise TimeoutError(f"nothing came of it within {PATIENCE_SECONDS} s")


@step(num_cpus=SMALL)
def work(place: str, name: str, before: Any = None) -> str:
    """A short step."""
    Place(place).mark(name)
    return f"{name} of {VERSION}"


@step(num_cpus=SMALL)
def gate(place: str, name: str, before: Any = None) -> str:
    """A step that ends when the test lets it."""
    here = Place(place)
    here.mark(name)
    here.wait_until_open(name)
    return f"{name} of {VERSION}"


@step(num_cpus=SMALL)
def tick(place: str, name: str, before: Any = None) -> str:
    """A step that takes a moment after its mark."""
    Place(place).mark(name)
    time.sleep(0.3)
    return name


@step(num_cpus=SMALL)
def fails(place: str) -> str:
    """A step that raises, somewhat deep down."""
    Place(place).mark("fails")
    return _pay({"OAK": 100}, "SAN")


def _pay(prices: dict[str, int], city: str) -> str:
    return f"paid {prices[city]}"


def line(place: str) -> Workflow[str]:
    """One, two, three, then a gate, then four and five."""
    node = work.options(name="one").step(place, "one")
    node = work.options(name="two").step(place, "two", node)
    node = work.options(name="three").step(place, "three", node)
    node = gate.options(name="gate").step(place, "gate", node)
    node = work.options(name="four").step(place, "four", node)
    return work.options(name="five").step(place, "five", node)


def ticks(place: str, count: int) -> Workflow[str]:
    """Steps one after the other."""
    node = tick.options(name="tick-0").step(place, "tick-0")
    for number in range(1, count):
        node = tick.options(name=f"tick-{number}").step(place, f"tick-{number}", node)
    return node


def short(place: str) -> Workflow[str]:
    """One step."""
    return work.options(name="one").step(place, "one")


def needs_a_city(place: str, city: str) -> Workflow[str]:
    """One step that takes two arguments."""
    return work.options(name=city).step(place, city)


def half_done(place: str) -> Workflow[str]:
    """One step that ends, then one that raises."""
    return fails.options(name="fails").step(place)
