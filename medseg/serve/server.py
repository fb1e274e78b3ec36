"""The port, and the server's life on it."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from medseg.errors import MedsegError

#: seconds that running requests have when the server ends
GRACE = 3
#: requests at once; more are refused
CONNECTIONS = 64


def bind(host: str, port: int) -> socket.socket:
    """A listening place.

    Args:
        host: name or address of this machine.
        port: 0 for any that is free.

    Raises:
        MedsegError: the port is taken, or the host is none of this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise MedsegError(f"--host {host}: not a name or address of this machine; try 127.0.0.1") from None
    place = socket.socket(family, kind)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        place.listen(128)
    except OSError as error:
        place.close()
        if isinstance(error, PermissionError):
            raise MedsegError(f"--port {port} is not for users; give one above 1023") from None
        if error.errno == 98 or "in use" in str(error):
            raise MedsegError(
                f"--port {port} of {host} is taken; give another one, or 0 for any that is free"
            ) from None
        raise MedsegError(f"--host {host}: {error.strerror or error}; try 127.0.0.1") from None
    return place


def address(host: str, place: socket.socket) -> str:
    """The address of a server for the browser."""
    port = place.getsockname()[1]
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def names_of(host: str) -> tuple[str, ...]:
    """Names under which a server on a host may be called."""
    return () if is_loopback(host) else (host, socket.gethostname(), socket.getfqdn())


def run(app: Callable[..., Any], place: socket.socket, ending: Callable[[], None]) -> None:
    """Serve until Ctrl-C, a request to end, or the end of the terminal.

    Args:
        app: the application.
        place: that it listens on.
        ending: is called at once when the end begins.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            ending()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    _quiet()
    # uvicorn ends in order and then raises the signal again, which would end the process before its last words
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    try:
        Server(config).run(sockets=[place])
    except KeyboardInterrupt:
        return


def _quiet() -> None:
    """Only medseg and the server itself speak on the console: what libraries say may quote a header."""
    logging.getLogger().addHandler(logging.NullHandler())
    own = logging.getLogger("medseg")
    own.addHandler(logging.StreamHandler())
    own.propagate = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
