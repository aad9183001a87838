"""HTTP requests to where the operator allows (`wasi:http`).

    from waymark import http

    answer = http.post(
        "https://api.example.com/orders",
        json={"id": 7},
        headers={"authorization": "Bearer {{secret:orders}}", "idempotency-key": context.idempotency_key()},
    )

A key that the operator keeps as a secret is written `{{secret:name}}` in the value of a header; the host fills it in, and
only for the hosts that may have it. Redirects are not followed: they are answers with their status.

Under test a function answers: `with http.answering(lambda request: http.Answer(200, body=b"{}")):`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from json import dumps, loads
from typing import Any

from ._capability import INSIDE, CapabilityError, Err, Ok, code, interface, standing_in
from ._step import Transient

_types = interface("wasi_http", "types")
_outgoing_handler = interface("wasi_http", "outgoing_handler")
_streams = interface("wasi_io", "streams")

CHUNK_BYTES = 4096
READ_BYTES = 64 << 10


@dataclass(frozen=True)
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case. Of several headers of a name, the values with commas between them."""
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises json.JSONDecodeError."""
        return loads(self.body)


class Error(CapabilityError):
    """Why there is no answer. `code` is `bad-request`, `denied`, `too-long` or `unavailable`; only the last may pass."""

    about = "HTTP"
    absent = "denied"


class Unavailable(Error, Transient):
    """The other side did not answer, or not in time."""


Web = Callable[[Request], Answer]

_web: ContextVar[Web | None] = ContextVar("web", default=None)


def answering(web: Web) -> AbstractContextManager[None]:
    """For tests: requests are answered by this function, which may raise :class:`Error`."""
    return standing_in(_web, web)


def request(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | str = b"", json: Any = None
) -> Answer:
    """Sends a request and reads the whole answer. Immediate. Raises :class:`Error`; a status is none.

    Args:
        method: `GET` and its like.
        url: `https://host:port/path?query`.
        headers: names and values.
        body: what is sent, text as UTF-8.
        json: sent as JSON in place of a body.
    """
    headers = dict(headers or {})
    if json is not None:
        body = dumps(json)
        headers.setdefault("content-type", "application/json")
    sent = Request(method, url, headers, body.encode() if isinstance(body, str) else body)
    if INSIDE:
        return _sent(sent)
    web = _web.get()
    if web is None:
        raise Error("denied", "no web: give one to waymark.http.answering")
    return web(sent)


def get(url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
    """`GET`, see :func:`request`."""
    return request("GET", url, headers=headers)


def post(
    url: str, *, headers: Mapping[str, str] | None = None, body: bytes | str = b"", json: Any = None
) -> Answer:
    """`POST`, see :func:`request`."""
    return request("POST", url, headers=headers, body=body, json=json)


BAD_REQUEST = {
    "http-request-method-invalid",
    "http-request-uri-invalid",
    "http-request-uri-too-long",
    "http-request-header-section-size",
    "http-request-header-size",
    "configuration-error",
}


def _told(failure: Any) -> Error:
    word = code(failure)
    if word in ("http-request-denied", "destination-ip-prohibited"):
        return Error("denied", f"not allowed: {word}")
    if word in ("http-request-body-size", "http-response-body-size"):
        return Error("too-long", word)
    if word in BAD_REQUEST:
        return Error("bad-request", word)
    return Unavailable("unavailable", f"no answer: {word}")


def _sent(request: Request) -> Answer:
    scheme, separator, rest = request.url.partition("://")
    if not separator:
        raise Error("bad-request", "the address has no scheme")
    end = min((index for index in map(rest.find, "/?#") if index >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:].partition("#")[0]
    schemes = {"http": _types.Scheme_Http, "https": _types.Scheme_Https}
    methods = {
        name: getattr(_types, f"Method_{name.capitalize()}")
        for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
    }
    try:
        headers = _types.Fields.from_list([(name, value.encode()) for name, value in request.headers.items()])
        outgoing = _types.OutgoingRequest(headers)
        outgoing.set_scheme(schemes[scheme]() if scheme in schemes else _types.Scheme_Other(scheme))
        outgoing.set_authority(authority)
        outgoing.set_path_with_query(path if path.startswith("/") else f"/{path}")
        method = methods.get(request.method)
        outgoing.set_method(_types.Method_Other(request.method) if method is None else method())
        body = outgoing.body()
    except Err as refused:
        why = "" if refused.value is None else f": {code(refused.value)}"
        raise Error("bad-request", f"not a request{why}") from refused
    try:
        future = _outgoing_handler.handle(outgoing, None)
        if request.body:
            with body.write() as stream:
                try:
                    for at in range(0, len(request.body), CHUNK_BYTES):
                        stream.blocking_write_and_flush(request.body[at : at + CHUNK_BYTES])
                except Err:
                    # Why nobody reads it any more, the answer says.
                    pass
        try:
            _types.OutgoingBody.finish(body, None)
        except Err:
            pass
        with future.subscribe() as answered:
            answered.block()
        result = future.get()
    except Err as failed:
        raise _told(failed.value) from failed
    result = getattr(result, "value", result)
    result = result.value if isinstance(result, Ok) else result
    if isinstance(result, Err):
        raise _told(result.value)
    return _read(result)


def _read(answer: Any) -> Answer:
    headers: dict[str, str] = {}
    with answer.headers() as fields:
        for name, value in fields.entries():
            name, text = name.lower(), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
    read = bytearray()
    with answer.consume() as body, body.stream() as stream:
        while True:
            try:
                read += stream.blocking_read(READ_BYTES)
            except Err as ended:
                if isinstance(ended.value, _streams.StreamError_Closed):
                    return Answer(answer.status(), headers, bytes(read))
                failure = _types.http_error_code(ended.value.value)
                raise (
                    Unavailable("unavailable", "the answer broke off") if failure is None else _told(failure)
                ) from ended
