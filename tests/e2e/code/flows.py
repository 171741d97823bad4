"""The code of the Workflows in these tests. Each step records its starts in a bucket, independently of the library.

A mark is an object `<prefix>/marks/<step>/<unique>` that contains the time. A gate is a step that waits for the object
`<prefix>/open/<step>`, so that a test can pause a run.
"""

from __future__ import annotations

import hashlib
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
"""Tests replace this text to get two versions of the module."""

CPUS = 0.1
"""CPUs of each step. It is small because these steps only wait."""

TIMEOUT_SECONDS = 240


class Marks:
    """The marks and gates of one Workflow, at `s3://bucket/prefix?endpoint=http://host:9000`."""

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
        """Record that a step starts."""
        text = repr(time.time()).encode()
        key = f"{self._prefix}/marks/{name}/{uuid.uuid4().hex}"
        self._retry_while_unavailable(
            lambda: self._client.put_object(self._bucket, key, io.BytesIO(text), len(text)) or True
        )

    def wait_until_open(self, name: str) -> None:
        """Wait until the gate is open."""
        key = f"{self._prefix}/open/{name}"
        self._retry_while_unavailable(lambda: any(self._client.list_objects(self._bucket, prefix=key)))

    def _retry_while_unavailable(self, call: Any) -> None:
        """Call until the result is true, also during an outage of the server."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            try:
                if call():
                    return
            except (HTTPError, OSError, ValueError) as error:
                print(f"{self._prefix}: {error!r}", flush=True)
            time.sleep(0.1)
        raise TimeoutError(f"no success within {TIMEOUT_SECONDS} s")


@step(num_cpus=CPUS)
def work(marks_url: str, name: str, before: Any = None) -> str:
    """A short step."""
    Marks(marks_url).mark(name)
    return f"{name} of {VERSION}"


@step(num_cpus=CPUS)
def gate(marks_url: str, name: str, before: Any = None) -> str:
    """A step that ends when the test opens its gate."""
    marks = Marks(marks_url)
    marks.mark(name)
    marks.wait_until_open(name)
    return f"{name} of {VERSION}"


@step(num_cpus=CPUS)
def tick(marks_url: str, name: str, before: Any = None) -> str:
    """A step that takes 0.3 seconds after its mark."""
    Marks(marks_url).mark(name)
    time.sleep(0.3)
    return name


@step(num_cpus=CPUS)
def fails(marks_url: str) -> str:
    """A step that raises in a function that it calls."""
    Marks(marks_url).mark("fails")
    return _charge({"OAK": 100}, "SAN")


def _charge(prices: dict[str, int], city: str) -> str:
    return f"charged {prices[city]}"


def line(marks_url: str) -> Workflow[str]:
    """A chain of one, two, three, a gate, four and five."""
    node = work.options(name="one").step(marks_url, "one")
    node = work.options(name="two").step(marks_url, "two", node)
    node = work.options(name="three").step(marks_url, "three", node)
    node = gate.options(name="gate").step(marks_url, "gate", node)
    node = work.options(name="four").step(marks_url, "four", node)
    return work.options(name="five").step(marks_url, "five", node)


def ticks(marks_url: str, count: int) -> Workflow[str]:
    """A chain of `count` steps."""
    node = tick.options(name="tick-0").step(marks_url, "tick-0")
    for number in range(1, count):
        node = tick.options(name=f"tick-{number}").step(marks_url, f"tick-{number}", node)
    return node


def short(marks_url: str) -> Workflow[str]:
    """One step."""
    return work.options(name="one").step(marks_url, "one")


def needs_a_city(marks_url: str, city: str) -> Workflow[str]:
    """One step that takes two arguments."""
    return work.options(name=city).step(marks_url, city)


def half_done(marks_url: str) -> Workflow[str]:
    """One step that raises."""
    return fails.options(name="fails").step(marks_url)


@step(num_cpus=CPUS)
def digest(marks_url: str, name: str, seconds: float, *before: str) -> str:
    """A step that takes some seconds. Its value depends on its name and on all values before it."""
    Marks(marks_url).mark(name)
    time.sleep(seconds)
    return hashlib.sha256("/".join((name, *before)).encode()).hexdigest()


def waves(marks_url: str, count: int, width: int, seconds: float) -> Workflow[str]:
    """A chain of `count` fan-outs of `width` steps of some seconds; one step joins each of them."""
    joined: list[Workflow[str]] = []
    for wave in range(count):
        names = [f"wave-{wave}-{number}" for number in range(width)]
        parts = [digest.options(name=name).step(marks_url, name, seconds, *joined) for name in names]
        joined = [digest.options(name=f"join-{wave}").step(marks_url, f"join-{wave}", seconds, *parts)]
    return joined[0]
