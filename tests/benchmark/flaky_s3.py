"""An S3 server on loopback (moto's) that is busy now and then, and drops connections."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: A bucket's answer where it is asked too much.
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Flaky:
    """A WSGI application that answers every `busy`-th request with 503 and drops every `drop`-th.

    0 is never; `refused` counts both.
    """

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self.inner, self.busy, self.drop = inner, 0, 0
        self.refused = 0
        self._count = itertools.count(1)

    def __call__(self, environ: dict[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        number = next(self._count)
        if self.busy and number % self.busy == 0:
            self.refused += 1
            begin("503 Slow Down", [("Content-Type", "application/xml")])
            return [BUSY]
        if self.drop and number % self.drop == 0:
            self.refused += 1
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return self.inner(environ, begin)


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[tuple[str, Flaky]]:
    """Address of a server with the bucket ``bucket``, and what makes it flaky."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    flaky = Flaky(DomainDispatcherApplication(create_backend_app))
    server = make_server(host, 0, flaky, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        import urllib.request

        address = f"http://{host}:{server.port}"
        asked = urllib.request.Request(f"{address}/bucket", method="PUT")
        asked.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/x")
        urllib.request.urlopen(asked).close()
        yield address, flaky
    finally:
        server.shutdown()
        thread.join()
