"""Serves the page of a review to browsers on this machine."""

import json
import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .answers import AnswerStore, parse_answer
from .items import Review
from .page import describe_label, render_page

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

HOST = "127.0.0.1"
ANSWER_BYTES = 4_000  # at most
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(review: Review, port: int, announce: Callable[[str], None]) -> None:
    """Serves the page until the process is stopped.

    Its address has a secret part, which stays the same when the review is served again. `announce` is called
    with the address once connections are accepted. Raises a UserError for a port that cannot be used.
    """
    import uvicorn

    token = _read_token(review.path / "token")
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}): choose another, as in job.port={port + 1}"
            ) from error
        listening.listen()
        announce(f"http://{HOST}:{listening.getsockname()[1]}/{token}/")
        config = uvicorn.Config(make_app(review, token), log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def make_app(review: Review, token: str) -> "Starlette":
    """Returns the application; every address begins with the token."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    answers, page = AnswerStore.of(review), render_page(review)

    def number_of(request: Request) -> int:
        number: int = request.path_params["number"]
        if number >= len(review.items):
            raise HTTPException(404)
        return number

    def show_page(request: Request) -> Response:
        return HTMLResponse(page)

    def send_image(request: Request) -> Response:
        files = {"original": review.original_file, "shown": review.shown_file}
        if request.path_params["side"] not in files:
            raise HTTPException(404)
        file = files[request.path_params["side"]](number_of(request))
        if not file.exists():
            raise HTTPException(404, f"{file.name} is missing in the run folder")
        # its time and its tag would tell a real image, which is older
        return Response(file.read_bytes(), media_type="image/png")

    def send_label(request: Request) -> Response:
        return JSONResponse(describe_label(review, number_of(request)))

    def send_state(request: Request) -> Response:
        of_rater = answers.all(request.query_params.get("rater", ""))
        return JSONResponse([asdict(answer) for answer in of_rater])

    async def keep_answer(request: Request) -> Response:
        answer = parse_answer(await _read_json(request), len(review.items))
        answers.put([answer])  # on the disk when it returns
        return JSONResponse({"saved": answer.item})

    def refuse(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 400)

    routes = [
        Route("/{token}/", show_page),
        Route("/{token}/image/{number:int}/{side}", send_image),
        Route("/{token}/label/{number:int}", send_label),
        Route("/{token}/state", send_state),
        Route("/{token}/answer", keep_answer, methods=["POST"]),
    ]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False),
        Middleware(_Guard, token=token),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={UserError: refuse})


class _Guard:
    """Refuses addresses without the token, and gives every reply its headers."""

    def __init__(self, app: Any, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import MutableHeaders
        from starlette.responses import PlainTextResponse

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        given = scope["path"].split("/")[1] if scope["path"].startswith("/") else ""
        is_right = secrets.compare_digest(given.encode(), self.token.encode())
        app = self.app if is_right else PlainTextResponse("Not Found", 404)
        await app(scope, receive, send_with_headers)


async def _read_json(request: "Request") -> dict[str, Any]:
    """Returns the object in a request; raises a UserError for anything else, and for one that is too long."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > ANSWER_BYTES:
            raise UserError(f"an answer has at most {ANSWER_BYTES} bytes")
    try:
        values = json.loads(content)
    except ValueError as error:
        raise UserError(f"an answer is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError("an answer is a JSON object")
    return values


def _read_token(path: Path) -> str:
    """Returns the secret part of the address, which only this user can read; makes it when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        token = path.read_text(encoding="ascii").strip()
        if re.fullmatch(r"[\w-]{20,}", token):
            return token
        path.unlink()
        return _read_token(path)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        token = secrets.token_urlsafe(24)
        file.write(token)
    return token
