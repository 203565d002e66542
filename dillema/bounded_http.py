"""An HTTP transport that limits the time and the size of a whole response."""

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import httpcore2
import httpx2
import openai

MAX_BYTES = 1_000_000  # a chat completion has a few thousand


class BoundedTransport(httpx2.HTTPTransport):
    """Ends a response that takes too long or is too large.

    The timeouts of HTTP clients limit a single read, so they never stop a server that sends a byte from time
    to time.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._deadline = _Deadline()
        pool: Any = self._pool
        pool._network_backend = _Backend(self._deadline)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns the response; its body raises ReadTimeout or OpenAIError while it is read."""
        self._deadline.time = time.monotonic() + self._seconds
        request.headers["Accept-Encoding"] = "identity"  # a small response may unpack to a huge one
        response = super().handle_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise openai.OpenAIError("the response is compressed, which was not asked for")
        response.stream = _BoundedStream(cast(httpx2.SyncByteStream, response.stream))
        return response


class _Deadline(threading.local):
    """The time until which the response to the request of this thread may take."""

    time = float("inf")

    def limit(self, timeout: float | None) -> float:
        """Returns the seconds that are left for a read, `timeout` at most."""
        left = self.time - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the response took too long")
        return left if timeout is None else min(left, timeout)


class _Backend(httpcore2.SyncBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore2.NetworkStream:
        return _Stream(super().connect_tcp(*arguments, **options), self._deadline)


class _Stream(httpcore2.NetworkStream):
    """A connection on which no read goes beyond the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *arguments: Any, **options: Any) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(*arguments, **options), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BYTES:
                # the client would retry other errors, and the next reply would be as large
                raise openai.OpenAIError(f"the response is larger than {MAX_BYTES} bytes")
            yield chunk

    def close(self) -> None:
        self._stream.close()
