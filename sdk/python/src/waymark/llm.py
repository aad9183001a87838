"""Answers of a language model that the operator grants (`waymark:llm`).

    from waymark import llm

    verdict = llm.ask(Verdict, section, system="Is this a risk? One sentence.")

Address and key stay in the host, which also keeps answers for a while: a step that runs again after a crash asks the
same again and pays nothing. Ask few questions in a step, and emit or keep their answers before the next.

Under test a function stands in for the model: `with llm.answering(lambda request: '"yes"'):`. Without one every call
fails as `not-configured`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, Union

from ._capability import INSIDE, CapabilityError, Err, code, interface, standing_in
from ._shape import ShapeError, read, schema
from ._step import RetryAfter, Transient

_chat = interface("waymark_llm", "chat")

Shape = TypeVar("Shape")


@dataclass(frozen=True)
class Message:
    """What somebody said."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """What is asked."""

    messages: Sequence[Message]
    """What was said so far, at least one message."""
    model: str | None = None
    """One of the models that the operator allows [default: the grant's own]."""
    max_tokens: int | None = None
    """Longest answer [default: the grant's own]."""
    temperature: float | None = None
    """0 to 2 [default: 0]."""
    seed: int | None = None
    """Asks for the same answer each time, where the provider can do that."""
    schema: dict[str, Any] | None = None
    """JSON Schema that the answer fits; :func:`ask` fills it in."""
    fresh: bool = False
    """Neither read the host's cache nor write it."""


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    content: str
    """The model's text; with a schema, JSON text that fits it."""
    model: str = "test"
    prompt_tokens: int = 0
    """Tokens that were paid for; 0 from the cache."""
    completion_tokens: int = 0
    cost_micros: int = 0
    """What they cost, in millionths of the operator's currency."""
    cached: bool = False
    """Nothing was asked or paid."""
    repaired: bool = False
    """The first answer did not fit the schema."""
    truncated: bool = False
    """The answer ended because it was too long."""


class Error(CapabilityError):
    """Why there is no answer. `code` is `not-configured`, `bad-request`, `over-budget`, `bad-answer`, `refused`, `limited` or
    `unavailable`; only the last two may pass."""

    about = "language model"
    absent = "not-configured"


class Limited(Error, RetryAfter):
    """A limit on calls leaves no room now."""


class Unavailable(Error, Transient):
    """The provider did not answer in time, or failed."""


def error(code: str, message: str, seconds: float = 0.0) -> Error:
    """The error of this code."""
    kinds: dict[str, type[Error]] = {"limited": Limited, "unavailable": Unavailable}
    return kinds.get(code, Error)(code, message, seconds)


Model = Callable[[Request], Union[str, Answer]]
Question = Union[str, Request]

_model: ContextVar[Model | None] = ContextVar("model", default=None)


def answering(model: Model) -> AbstractContextManager[None]:
    """For tests: questions are answered by this function, which may raise :class:`Error`."""
    return standing_in(_model, model)


def request(question: Question, *, system: str | None = None, **options: Any) -> Request:
    """A request of one question, with an instruction before it. Options are those of :class:`Request`."""
    made = question if isinstance(question, Request) else Request((Message("user", question),))
    if system is not None:
        made = replace(made, messages=(Message("system", system), *made.messages))
    return replace(made, **options)


def complete(question: Question, *, system: str | None = None, **options: Any) -> Answer:
    """One answer. Immediate. Raises :class:`Error`."""
    answer = complete_all([question], system=system, **options)[0]
    if isinstance(answer, Error):
        raise answer
    return answer


def complete_all(
    questions: Iterable[Question], *, system: str | None = None, **options: Any
) -> list[Answer | Error]:
    """Many answers, which the host asks for in parallel; one or an error for each question, in their order. At most 1,000.
    Immediate."""
    requests = [request(question, system=system, **options) for question in questions]
    return _asked(requests) if INSIDE else [_stood_in(one) for one in requests]


def ask(shape: type[Shape], question: Question, *, system: str | None = None, **options: Any) -> Shape:
    """One answer as a value of a type. Immediate. Raises :class:`Error`."""
    value = ask_all(shape, [question], system=system, **options)[0]
    if isinstance(value, Error):
        raise value
    return value


def ask_all(
    shape: type[Shape], questions: Iterable[Question], *, system: str | None = None, **options: Any
) -> list[Shape | Error]:
    """Many answers as values of a type, which the host makes sure they fit; a value or an error for each question. Immediate."""
    answers = complete_all(questions, system=system, schema=schema(shape), **options)
    return [answer if isinstance(answer, Error) else _typed(shape, answer) for answer in answers]


def _typed(shape: type[Shape], answer: Answer) -> Shape | Error:
    try:
        value: Shape = read(shape, json.loads(answer.content))
    except (ShapeError, json.JSONDecodeError) as wrong:
        return error("bad-answer", f"the answer does not fit its type: {wrong}")
    return value


def _stood_in(request: Request) -> Answer | Error:
    model = _model.get()
    if model is None:
        return error("not-configured", "no model: give one to waymark.llm.answering")
    try:
        answer = model(request)
    except Error as refused:
        return refused
    return answer if isinstance(answer, Answer) else Answer(answer)


def _asked(requests: list[Request]) -> list[Answer | Error]:
    def sent(request: Request) -> Any:
        return _chat.Request(
            [
                _chat.Message(getattr(_chat.Role, message.role.upper()), message.content)
                for message in request.messages
            ],
            request.model,
            request.max_tokens,
            request.temperature,
            request.seed,
            None if request.schema is None else json.dumps(request.schema),
            request.fresh,
        )

    def told(failure: Any) -> Error:
        ms, why = failure.value if isinstance(failure.value, tuple) else (0, failure.value)
        return error(code(failure), why, ms / 1000)

    return [
        told(result.value) if isinstance(result, Err) else Answer(**vars(result.value))
        for result in _chat.complete_many([sent(request) for request in requests])
    ]
