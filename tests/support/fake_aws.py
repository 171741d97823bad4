"""A fake of the services that give credentials to programs: instance metadata, container credentials and STS."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from workflow.store.s3 import S3Credentials

ROLE = "/latest/meta-data/iam/security-credentials/"
CONTAINER = "/container"
_STS_REPLY = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>
<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken>{Token}</SessionToken>
<Expiration>{Expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


class FakeAws:
    """An HTTP server that gives the same credentials as all three services. It runs inside the `with` block.

    Attributes:
        given: the credentials to give.
        life: seconds until they expire.
        status: HTTP status of all replies.
        served: number of credentials given.
        identities: the web identities that were sent.
    """

    def __init__(self, given: S3Credentials) -> None:
        self.given = given
        self.life = 3600.0
        self.status = 200
        self.served = 0
        self.identities: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeAws:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _document(self) -> dict[str, str]:
        self.served += 1
        expires = datetime.now(timezone.utc) + timedelta(seconds=self.life)
        return {
            "AccessKeyId": self.given.access_key,
            "SecretAccessKey": self.given.secret_key,
            "Token": self.given.session_token or "",
            "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _handler(fake) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler below
        class Handler(BaseHTTPRequestHandler):
            def _reply(self, text: str) -> None:
                self.send_response(fake.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_PUT(self) -> None:
                self._reply("a-metadata-token")

            def do_GET(self) -> None:
                if self.path == ROLE:
                    self._reply("role-of-the-machine")
                else:
                    self._reply(json.dumps(fake._document()))

            def do_POST(self) -> None:
                fake.identities += parse_qs(urlsplit(self.path).query).get("WebIdentityToken", [])
                self._reply(_STS_REPLY.format(**fake._document()))

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        return Handler
