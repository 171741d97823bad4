"""A proxy on the loopback device that simulates a bad network.

It runs between a store and a real server, forwards each request completely, and injects the faults that a test chooses.
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

XML = "application/xml"
CONFLICT_BODY = b"<?xml version='1.0'?><Error><Code>ConditionalRequestConflict</Code><Message>at once</Message></Error>"
THROTTLED_BODY = b"<?xml version='1.0'?><Error><Code>TooManyRequests</Code></Error>"
SHUTDOWN_BODY = b"<?xml version='1.0'?><Error><Code>ClientDisconnected</Code></Error>"


@dataclass(slots=True)
class Fault:
    """The treatment of one request.

    Attributes:
        forward: the server receives the request.
        reply: status, content type and body that the client receives. Without it the connection is closed.
        hang: the client receives nothing until the proxy ends.
        truncate: the client receives half of the body of the server.
        delay: seconds that the request takes longer.
        before_reply: called after the server has handled the request, before the client receives anything.
    """

    forward: bool = True
    reply: tuple[int, str, bytes] | None = None
    hang: bool = False
    truncate: bool = False
    delay: float = 0.0
    before_reply: Callable[[], object] | None = None


LOST_REPLY = Fault()
LOST_REQUEST = Fault(forward=False)
GATEWAY_ERROR = Fault(reply=(503, "text/html", b"<html>the gateway has no answer</html>"))
"""The server handles the request, but a gateway replies with an error."""

BUSY = Fault(forward=False, reply=(503, XML, b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>"))
SHUTDOWN = Fault(reply=(499, XML, SHUTDOWN_BODY))
"""The server handles the request while it shuts down, and replies with status 499."""

HANGING = Fault(hang=True)
CUT_REPLY = Fault(truncate=True)
CONFLICT = Fault(forward=False, reply=(409, XML, CONFLICT_BODY))
THROTTLED = Fault(forward=False, reply=(429, XML, THROTTLED_BODY))
SLOW = Fault(delay=0.1)


class NetworkFaults:
    """Random faults: lost replies, refusals, slow replies, and outages from time to time.

    Args:
        seed: seed of the random choices. The order of concurrent requests still differs between runs.
        every: shortest and longest time between two outages, in seconds. The first outage starts within one second.
        down: shortest and longest duration of an outage, in seconds.

    Attributes:
        counts: number of requests by kind of fault, and number of outages.
    """

    def __init__(self, seed: int, every: tuple[float, float] = (5.0, 40.0), down: tuple[float, float] = (0.0, 2.0)):
        self._random = random.Random(seed)
        self._every, self._down = every, down
        self._next_outage = time.monotonic() + self._random.uniform(0.2, 1.0)
        self._outage_ends = 0.0
        self.counts: Counter[str] = Counter()

    def __call__(self) -> Fault | None:
        """Return the fault of the next request, or None."""
        now = time.monotonic()
        if now >= self._next_outage:
            self._outage_ends = now + self._random.uniform(*self._down)
            self._next_outage = self._outage_ends + self._random.uniform(*self._every)
            self.counts["outages"] += 1
        if now < self._outage_ends:
            return LOST_REQUEST
        name, fault = self._random.choices(
            [("none", None), ("lost", LOST_REPLY), ("gateway", GATEWAY_ERROR), ("429", THROTTLED), ("slow", SLOW)],
            [82, 4, 4, 4, 6],
        )[0]
        self.counts[name] += 1
        return fault


class LossyProxy:
    """Forwards HTTP requests to one server while its `with` block runs.

    Args:
        port: port of the server on the loopback device.

    Attributes:
        endpoint: `http://127.0.0.1:PORT` of the proxy.
        requests: method and path of all requests so far.
        date_shift: added to the Date header of all replies.
        faults: returns the fault of each request for which `inject` set none.
    """

    def __init__(self, port: int) -> None:
        self.date_shift = timedelta()
        self.faults: Callable[[], Fault | None] = lambda: None
        self.requests: list[tuple[str, str]] = []
        self._server_port = port
        self._injected: list[tuple[str, Fault]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = False
        self.endpoint = f"http://127.0.0.1:{self._listener.server_port}"

    def inject(self, method: str, *faults: Fault) -> None:
        """Give the next requests of a method these faults, in this order."""
        with self._lock:
            self._injected += [(method, fault) for fault in faults]

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

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Record a request, and return its fault or None."""
        with self._lock:
            self.requests.append((method, path))
            for number, (wanted, _) in enumerate(self._injected):
                if wanted == method:
                    return self._injected.pop(number)[1]
            return self.faults()

    def wait_for_end(self) -> None:
        """Block until the `with` block of the proxy ends."""
        self._ended.wait()

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> _Reply:
        """Send a request to the server and return its reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=20)
        try:
            connection.request(method, path, body=body or None, headers=headers)
            response = connection.getresponse()
            reply = _Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()
        date = parsedate_to_datetime(reply.headers["Date"]) + self.date_shift
        reply.headers["Date"] = format_datetime(date, usegmt=True)
        return reply


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    """Serves one request for each connection, because an open connection would outlive the test."""

    owner: LossyProxy
    protocol_version = "HTTP/1.1"

    def _handle_any(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        fault = self.owner.next_fault(self.command, self.path)
        if fault is not None:
            time.sleep(fault.delay)
        reply = None
        if fault is None or fault.forward:
            reply = self.owner.forward(self.command, self.path, dict(self.headers.items()), body)
        if fault is None or fault.delay:
            assert reply is not None
            self._send(reply, reply.body)
            return
        if fault.before_reply:
            fault.before_reply()
        if fault.hang:
            self.owner.wait_for_end()
        elif fault.reply:
            status, kind, text = fault.reply
            self._send(_Reply(status, {"Content-Type": kind, "Content-Length": str(len(text))}, text), text)
        elif fault.truncate and reply:
            self._send(reply, reply.body[: len(reply.body) // 2])

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle_any  # noqa: N815 - http.server calls these names

    def _send(self, reply: _Reply, body: bytes) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = reply.headers.get("Content-Length", str(len(reply.body)))
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the assertions of the test report what went wrong."""
