"""An HTTP transport that limits the time and the size of a whole response."""

import time
from collections.abc import Iterator
from typing import cast

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

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns the response; its body raises ReadTimeout or OpenAIError while it is read."""
        deadline = time.monotonic() + self._seconds
        response = super().handle_request(request)
        stream = cast(httpx2.SyncByteStream, response.stream)
        response.stream = _BoundedStream(stream, deadline, request)
        return response


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, deadline: float, request: httpx2.Request) -> None:
        self._stream = stream
        self._deadline = deadline
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BYTES:
                # the client would retry other errors, and the next reply would be as large
                raise openai.OpenAIError(f"the response is larger than {MAX_BYTES} bytes")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the response took too long", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()
