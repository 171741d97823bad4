"""A proxy on the loopback device that loses answers, for what only happens on a bad network.

It stands between a store and a real server, forwards each request whole, and spoils the answers it was told to.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

CONFLICT = b"<?xml version='1.0'?><Error><Code>ConditionalRequestConflict</Code><Message>at once</Message></Error>"
XML = "application/xml"


@dataclass(slots=True)
class Fault:
    """What happens to one request.

    Attributes:
        forward: whether the server gets the request.
        answer: status, content type and body that the client gets; without it the connection is closed.
        hang: the client gets nothing at all until the proxy ends.
        half: the client gets half of the server's body.
        delay: seconds that the request takes longer.
        meanwhile: called when the request is done with, before the client hears.
    """

    forward: bool = True
    answer: tuple[int, str, bytes] | None = None
    hang: bool = False
    half: bool = False
    delay: float = 0.0
    meanwhile: Callable[[], object] | None = None


LOST = Fault()
NEVER_ARRIVED = Fault(forward=False)
BUSY_THOUGH_DONE = Fault(answer=(503, "text/html", b"<html>the gateway has no answer</html>"))
BUSY = Fault(forward=False, answer=(503, XML, b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>"))
ENDING_THOUGH_DONE = Fault(answer=(499, XML, b"<?xml version='1.0'?><Error><Code>ClientDisconnected</Code></Error>"))
HANGING = Fault(hang=True)
CUT = Fault(half=True)
IN_CONFLICT = Fault(forward=False, answer=(409, XML, CONFLICT))
TOO_MANY = Fault(forward=False, answer=(429, XML, b"<?xml version='1.0'?><Error><Code>TooManyRequests</Code></Error>"))
SLOW = Fault(delay=0.1)


class Weather:
    """Faults by chance: answers lost though it was done, refusals, slow answers, and outages now and then.

    Args:
        seed: of the chances; the order in which requests come is not ours.
        every: seconds between two outages, from and to; the first comes within one second.
        down: seconds of one outage, from and to.
    """

    def __init__(self, seed: int, every: tuple[float, float] = (5.0, 40.0), down: tuple[float, float] = (0.0, 2.0)):
        self._chance = random.Random(seed)
        self._every, self._down = every, down
        self._next = time.monotonic() + self._chance.uniform(0.2, 1.0)
        self._until = 0.0
        self.met: Counter[str] = Counter()

    def __call__(self) -> Fault | None:
        """What the next request meets."""
        now = time.monotonic()
        if now >= self._next:
            self._until = now + self._chance.uniform(*self._down)
            self._next = self._until + self._chance.uniform(*self._every)
            self.met["outages"] += 1
        if now < self._until:
            return NEVER_ARRIVED
        name, fault = self._chance.choices(
            [("well", None), ("lost", LOST), ("gateway", BUSY_THOUGH_DONE), ("429", TOO_MANY), ("slow", SLOW)],
            [82, 4, 4, 4, 6],
        )[0]
        self.met[name] += 1
        return fault


class LossyProxy:
    """Forwards HTTP to one server, alive inside the `with` block.

    Args:
        port: the server's, on the loopback device.

    Attributes:
        endpoint: `http://127.0.0.1:PORT`.
        requests: method and path of all that came.
        date_shift: added to the Date header of all answers.
        weather: what requests meet for which no fault was set.
    """

    def __init__(self, port: int) -> None:
        self.date_shift = timedelta()
        self.weather: Callable[[], Fault | None] = lambda: None
        self.requests: list[tuple[str, str]] = []
        self._server_port = port
        self._faults: list[tuple[str, Fault]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = False
        self.endpoint = f"http://127.0.0.1:{self._listener.server_port}"

    def spoil(self, method: str, *faults: Fault) -> None:
        """Let the next requests of a method meet these faults, one after the other."""
        with self._lock:
            self._faults += [(method, fault) for fault in faults]

    def __enter__(self) -> LossyProxy:
        self._thread = threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    def due(self, method: str, path: str) -> Fault | None:
        """The fault for a request that came; none where it shall pass."""
        with self._lock:
            self.requests.append((method, path))
            for number, (wanted, _) in enumerate(self._faults):
                if wanted == method:
                    return self._faults.pop(number)[1]
            return self.weather()

    def wait_for_end(self) -> None:
        """Return when the proxy ends."""
        self._ended.wait()

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> _Answer:
        """Ask the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=20)
        try:
            connection.request(method, path, body=body or None, headers=headers)
            response = connection.getresponse()
            answer = _Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()
        date = parsedate_to_datetime(answer.headers["Date"]) + self.date_shift
        answer.headers["Date"] = format_datetime(date, usegmt=True)
        return answer


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    """One connection carries one request: what is left open would outlive the test."""

    owner: LossyProxy
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        fault = self.owner.due(self.command, self.path)
        if fault is not None:
            time.sleep(fault.delay)
        answer = None
        if fault is None or fault.forward:
            answer = self.owner.forward(self.command, self.path, dict(self.headers.items()), body)
        if fault is None or fault.delay:
            assert answer is not None
            self._send(answer, answer.body)
            return
        if fault.meanwhile:
            fault.meanwhile()
        if fault.hang:
            self.owner.wait_for_end()
        elif fault.answer:
            status, kind, text = fault.answer
            self._send(_Answer(status, {"Content-Type": kind, "Content-Length": str(len(text))}, text), text)
        elif fault.half and answer:
            self._send(answer, answer.body[: len(answer.body) // 2])

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any  # noqa: N815 - http.server calls these names

    def _send(self, answer: _Answer, body: bytes) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = answer.headers.get("Content-Length", str(len(answer.body)))
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests say themselves what went wrong."""
