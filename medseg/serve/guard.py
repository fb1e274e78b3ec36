"""Who may ask the server, how much, and what every reply says to the browser.

Any page in the browser can send requests to a server on the same machine, and a name that an attacker owns can be
made to point to it (DNS rebinding). So requests must name this machine as their host, and those that come from a
page must come from this server's own.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
#: of every reply
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
#: bytes of a request beside the file itself: the boundaries and headers of the form
FORM = 4096


class Refused(Exception):
    """A request that is not answered, with the status and the line that say why.

    Args:
        status: of HTTP.
        reason: what was wrong and what to do.
        headers: further ones of the reply.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


class Guard:
    """An ASGI application around another: refuses foreign hosts, foreign pages and large bodies.

    Args:
        inner: the application that is guarded.
        hosts: names under which the server may be called, beside ``localhost`` and IP addresses, which cannot be
            rebound to another machine.
        max_bytes: of a file that is sent.
    """

    def __init__(self, inner: Application, hosts: Iterable[str], max_bytes: int) -> None:
        self.inner = inner
        self.hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it with one line of JSON."""
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _marked(send)
        try:
            self.check(scope["method"], _headers(scope))
        except Refused as refused:
            await reply(answer, refused)
            return
        # the application has answered and logged its own defects; their words may quote the file
        with suppress(Exception):
            await self.inner(scope, self._counted(receive), answer)

    def check(self, method: str, headers: dict[str, list[str]]) -> None:
        """Refuse a request by its head.

        Args:
            method: such as ``POST``.
            headers: by name in lower case, every value that came.

        Raises:
            Refused: it names another host, comes from another page, or announces too large a body.
        """
        named = headers.get("host", [])
        if len(named) != 1 or not self._is_here(named[0]):
            raise Refused(
                421, "this server does not answer under that host name; open the address it printed"
            )
        origins = headers.get("origin", [])
        if any(_place(origin) != named[0].lower() for origin in origins):
            raise Refused(403, "requests from other web pages are refused; open this server's own page")
        foreign = any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", []))
        # a link on another page may still lead to this server's page
        if foreign and (method != "GET" or headers.get("sec-fetch-mode") != ["navigate"]):
            raise Refused(403, "requests from other web pages are refused; open this server's own page")
        length = headers.get("content-length", ["0"])[0]
        if not length.isdecimal() or int(length) > self.max_bytes + FORM:
            raise self._too_large()

    def _is_here(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True

    def _too_large(self) -> Refused:
        return Refused(
            413, f"the file is larger than {megabytes(self.max_bytes)}; --max-megabytes allows more"
        )

    def _counted(self, receive: Receive) -> Receive:
        """The body, counted as it comes: its announced length may be missing or wrong."""
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.max_bytes + FORM:
                raise self._too_large()
            return message

        return counted


async def reply(send: Send, refused: Refused) -> None:
    """Answer a refused request, and close its connection: the rest of its body is not read."""
    body = json.dumps({"error": refused.reason}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **refused.headers,
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def megabytes(count: int) -> str:
    """Bytes for people, such as ``64 MB``."""
    return f"{count / 1e6:g} MB"


def _place(origin: str) -> str:
    """Host and port of an origin; empty where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _marked(send: Send) -> Send:
    """Sends replies with ``HEADERS``."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [
                (name, value) for name, value in message["headers"] if name.decode().lower() not in HEADERS
            ]
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*own, *added]}
        await send(message)

    return marked
