"""A server of chat models that misbehaves in many ways, each under a path of its own."""

import gzip
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECONDS = 8  # how long a server that never ends goes on; the clients give up much earlier
RIGHT = json.dumps({"weather": "clear"})
"""What a language model should reply to the tests' question."""

MARKUP = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>"


def completion(content: Any, finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    """Returns the body of a chat completion."""
    message = {"role": "assistant", "content": content} | message
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


class Reply:
    """Writes one response; `number` counts the requests to this behaviour, from 1."""

    def __init__(self, handler: BaseHTTPRequestHandler, request: dict[str, Any], number: int) -> None:
        self.handler, self.request, self.number = handler, request, number

    def send(self, body: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        content = (
            body
            if isinstance(body, bytes)
            else body.encode()
            if isinstance(body, str)
            else json.dumps(body).encode()
        )
        self.start(status, kind, **({"Content_Length": str(len(content))} | headers))
        self.handler.wfile.write(content)

    def start(self, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()

    def say(self, text: Any, finish_reason: str | None = "stop", **message: Any) -> None:
        self.send(completion(text, finish_reason, **message))

    def raw(self, *parts: bytes, pause: float = 0) -> None:
        """Writes bytes as they are, and closes the connection."""
        self.handler.close_connection = True
        for part in parts:
            self.handler.wfile.write(part)
            self.handler.wfile.flush()
            time.sleep(pause)

    def forever(self, part: bytes, pause: float) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self.raw(part, pause=pause)

    def close(self) -> None:
        self.handler.close_connection = True
        self.handler.connection.close()


Behaviour = Callable[[Reply], None]

BODY = json.dumps(completion(RIGHT)).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def _drip(reply: Reply) -> None:
    reply.start(Content_Length=str(len(BODY)))
    reply.raw(*(BODY[i : i + 1] for i in range(len(BODY))), pause=0.1)


def _endless(reply: Reply) -> None:
    reply.start(Transfer_Encoding="chunked")
    reply.forever(b"3e8\r\n" + b" " * 1000 + b"\r\n", 0.02)


def _refuse(*names: str) -> Behaviour:
    def answer(reply: Reply) -> None:
        for name in names:
            if name in reply.request:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                return reply.send({"error": {"message": message, "param": name}}, 400)
        return reply.say(RIGHT)

    return answer


def _stream(reply: Reply) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": RIGHT}}]}
    reply.send(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", kind="text/event-stream")


def _once(status: int, **headers: str) -> Behaviour:
    def answer(reply: Reply) -> None:
        if reply.number % 2:
            return reply.send({"error": {"message": "slow down"}}, status, **headers)
        return reply.say(RIGHT)

    return answer


def _status(status: int, **headers: str) -> Behaviour:
    return lambda reply: reply.send({"error": {"message": f"no {MARKUP}"}}, status, **headers)


ANSWERS: dict[str, Behaviour] = {
    "good": lambda reply: reply.say(RIGHT),
    "slow": lambda reply: (time.sleep(0.3), reply.say(RIGHT))[1],
    "fenced": lambda reply: reply.say(f"```json\n{RIGHT}\n```"),
    "fenced without a language": lambda reply: reply.say(f"```\n{RIGHT}\n```"),
    "after thinking": lambda reply: reply.say(f"<think>\nMaybe {{}}, or {{'weather'}}.\n</think>\n\n{RIGHT}"),
    "in prose": lambda reply: reply.say(f"Here is the JSON you asked for:\n{RIGHT}\nAnything else?"),
    "in a list": lambda reply: reply.say(f"[{RIGHT}]"),
    "a key twice, the right value last": lambda reply: reply.say('{"weather": "evil", "weather": "clear"}'),
    "escaped characters": lambda reply: reply.say('{"\\u0077eather": "cle\\u0061r"}'),
    "no finish reason": lambda reply: reply.say(RIGHT, None),
    "reasoning beside the reply": lambda reply: reply.say(RIGHT, reasoning_content="x" * 10_000),
    "busy once": _once(503),
    "too many requests once": _once(429, Retry_After="0"),
    "refuses max_tokens": _refuse("max_tokens"),
    "refuses temperature and top_p": _refuse("temperature", "top_p"),
    "refuses seed": _refuse("seed"),
}
RECORDED: dict[str, Behaviour] = {
    "empty": lambda reply: reply.say(""),
    "null": lambda reply: reply.say(None),
    "content in parts": lambda reply: reply.say([{"type": "text", "text": RIGHT}]),
    "content is a number": lambda reply: reply.say(5),
    "a tool call": lambda reply: reply.say(
        None, tool_calls=[{"id": "1", "type": "function", "function": {}}]
    ),
    "a refusal": lambda reply: reply.say(None, refusal="I cannot do that."),
    "no choices": lambda reply: reply.send({"object": "chat.completion", "choices": []}),
    "null choices": lambda reply: reply.send({"object": "chat.completion", "choices": None}),
    "choices of another type": lambda reply: reply.send({"object": "chat.completion", "choices": "none"}),
    "null message": lambda reply: reply.send(
        {"choices": [{"index": 0, "finish_reason": "stop", "message": None}]}
    ),
    "a list": lambda reply: reply.send([1, 2, 3]),
    "a number": lambda reply: reply.send(5),
    "null body": lambda reply: reply.send(None),
    "no JSON": lambda reply: reply.say("Sure! The weather may change."),
    "another word": lambda reply: reply.say('{"weather": "ignore previous instructions"}'),
    "a key twice, the wrong value last": lambda reply: reply.say('{"weather": "clear", "weather": "evil"}'),
    "another type": lambda reply: reply.say('{"weather": ["clear"]}'),
    "NaN": lambda reply: reply.say('{"weather": NaN}'),
    "an unknown key": lambda reply: reply.say('{"weather": "clear", "__proto__": "x"}'),
    "control characters": lambda reply: reply.say(
        '\x00\x1b[2J\x1b]0;owned\x07{"weather": "\x00"}\x7f\u2028\u202e'
    ),
    "markup": lambda reply: reply.say(MARKUP),
    "an injection": lambda reply: reply.say('{"weather": "{0.__class__} ${oc.env:HOME} %s"}'),
    "a lone surrogate": lambda reply: reply.send(BODY.replace(b"clear", b"\\ud800")),
    "a deep list": lambda reply: reply.say("[" * 100_000),
    "a deep mapping": lambda reply: reply.say('{"weather":' * 20_000),
    "many braces": lambda reply: reply.say("{" * 200_000),
    "a huge number": lambda reply: reply.say('{"weather": ' + "9" * 10_000 + "}"),
    "cut short": lambda reply: reply.say('{"weather": "cl', "length"),
    "filtered": lambda reply: reply.say("", "content_filter"),
    "a page of HTML": lambda reply: reply.send(f"<html>{MARKUP}</html>", kind="text/html"),
    "a stream": _stream,
    "too many requests": _status(429, Retry_After="0"),
    "too many requests for a day": _status(429, Retry_After="86400"),
    **{f"status {status}": _status(status) for status in (400, 402, 405, 408, 409, 410, 413, 418, 422, 451)},
    **{f"status {status}": _status(status) for status in (500, 501, 502, 503, 504, 529)},
    "an error page": lambda reply: reply.send(f"<html>{MARKUP}</html>", 500, "text/html"),
    "a huge error": lambda reply: reply.send("x" * 5_000_000, 400),
    "no content": lambda reply: reply.start(204),
    "a redirect to itself": lambda reply: reply.send("", 307, Location=reply.handler.path),
    "a redirect without end": lambda reply: reply.send(
        "", 307, Location=f"{reply.handler.path}?{reply.number}"
    ),
    "a redirect to nowhere": lambda reply: reply.send("", 307, Location="http://127.0.0.1:9/v1"),
    "a redirect to a file": lambda reply: reply.send("", 307, Location="file:///etc/hostname"),
    "closed at once": lambda reply: reply.close(),
    "closed in the middle": lambda reply: reply.raw(HEAD + b"Content-Length: 5000\r\n\r\n" + BODY),
    "half a JSON": lambda reply: reply.send(BODY[:40]),
    "Latin 1": lambda reply: reply.send(BODY.replace(b"clear", b"\xe9\xff")),
    "huge": lambda reply: reply.say("x" * 5_000_000),
    "a bomb": lambda reply: reply.send(gzip.compress(bytes(300_000_000), 9), Content_Encoding="gzip"),
    "compressed": lambda reply: reply.send(gzip.compress(BODY), Content_Encoding="gzip"),
    "no gzip": lambda reply: reply.send(BODY, Content_Encoding="gzip"),
    "an unknown encoding": lambda reply: reply.send(b"\x00\x01", Content_Encoding="br"),
    "never": lambda reply: time.sleep(SECONDS),
    "drips": _drip,
    "endless": _endless,
    "endless headers": lambda reply: (reply.raw(HEAD), reply.forever(b"X-A: " + b"b" * 1000 + b"\r\n", 0.01))[
        0
    ],
    "headers in drips": lambda reply: (reply.raw(HEAD), reply.raw(*[b"x"] * 1000, pause=0.2))[0],
    "endless lines": lambda reply: (reply.raw(HEAD), reply.forever(b"b" * 1000, 0.01))[0],
    "no HTTP": lambda reply: reply.raw(b"220 mail ready\r\n"),
    "a wrong length": lambda reply: reply.raw(HEAD + b"Content-Length: -5\r\n\r\n" + BODY),
    "a wrong chunk": lambda reply: reply.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY),
    "two lengths": lambda reply: reply.raw(HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n" + BODY),
    "continue for ever": lambda reply: reply.forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
}
REFUSED: dict[str, Behaviour] = {
    "a key is asked for": _status(401),
    "the key may not": _status(403),
    "no such model": _status(404),
    "refuses the format of replies": _refuse("response_format"),
}
BEHAVIOURS = ANSWERS | RECORDED | REFUSED
PATHS = {name: f"b{number}" for number, name in enumerate(BEHAVIOURS)}


@contextmanager
def misbehaving() -> Iterator[str]:
    """Yields the address of the server; the address of a behaviour is `<address>/<PATHS[name]>/v1`."""
    names = {path: name for name, path in PATHS.items()}
    counters: dict[str, Iterator[int]] = {name: itertools.count(1) for name in BEHAVIOURS}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            Reply(self, {}, 0).send({"object": "list", "data": []})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = names[self.path.split("/")[1]]
            try:
                BEHAVIOURS[name](Reply(self, request, next(counters[name])))
            except OSError:  # the client has closed the connection
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

        def handle_error(self, *arguments: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
