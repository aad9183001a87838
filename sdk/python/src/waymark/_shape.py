"""Types of Python as JSON: their schema (draft 2020-12), and values written and read by them.

Understood are `None`, `bool`, `int`, `float`, `str`, `Any`, `list[T]`, `tuple[T, ...]`, `tuple[A, B]`, `dict[str, T]`,
unions, `Literal`, enumerations of strings or numbers, dataclasses, and `Annotated[T, Field(...)]`, whose words are
added to the schema. A class with `to_json`, `from_json` and `json_schema` has its own way.

Sets are refused, because their order differs between two runs of a step; so are numbers that JSON does not have.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

SCALARS: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


class Field:
    """Words of JSON Schema about a value, such as `Field(minimum=1, description="Steps to the end.")`.

    They tell a caller, and the host refuses inputs by them; `start` need not check again.
    """

    def __init__(self, **words: Any) -> None:
        self.words = words


class ShapeError(Exception):
    """A value or a type that does not fit. `path` is a JSON Pointer to the place."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


def schema(shape: Any) -> dict[str, Any]:
    """The JSON Schema of a type, with the dataclasses it names under `$defs`.

    Raises ShapeError where a part of the type is none that JSON can have.
    """
    definitions: dict[str, Any] = {}
    known: dict[type, str] = {}
    document = _schema(shape, definitions, known)
    # A dataclass at the top is written there, unless it names itself.
    reference = document.get("$ref", "")
    if set(document) == {"$ref"} and not _names(definitions, reference):
        document = definitions.pop(reference.removeprefix("#/$defs/"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document,
        **({"$defs": definitions} if definitions else {}),
    }


def _names(value: Any, reference: str) -> bool:
    if isinstance(value, dict):
        return value.get("$ref") == reference or any(_names(part, reference) for part in value.values())
    return isinstance(value, list) and any(_names(part, reference) for part in value)


def _schema(shape: Any, definitions: dict[str, Any], known: dict[type, str]) -> dict[str, Any]:
    def inner(part: Any) -> dict[str, Any]:
        return _schema(part, definitions, known)

    origin, arguments = get_origin(shape), get_args(shape)
    if origin is typing.Annotated:
        added: dict[str, Any] = {}
        for word in arguments[1:]:
            if isinstance(word, Field):
                added |= word.words
        return {**inner(arguments[0]), **added}
    own = getattr(origin or shape, "json_schema", None)
    if shape is Any or shape is object:
        return {}
    if shape in SCALARS:
        return {"type": SCALARS[shape]}
    if shape is None or shape is type(None):
        return {"type": "null"}
    if callable(own):
        made: dict[str, Any] = own(*(inner(argument) for argument in arguments))
        return made
    if origin in (Union, types.UnionType):
        return {"anyOf": [inner(part) for part in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list or shape is list:
        return {"type": "array", "items": inner(arguments[0]) if arguments else {}}
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": inner(arguments[0])}
        parts = [inner(part) for part in arguments]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if origin is dict or shape is dict:
        if arguments and arguments[0] is not str:
            raise ShapeError("", f"{shape} has keys that are no text: JSON has no others")
        return {"type": "object", "additionalProperties": inner(arguments[1]) if arguments else {}}
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return {"enum": [member.value for member in shape]}
    if isinstance(shape, type) and dataclasses.is_dataclass(shape):
        if shape not in known:
            name, number = shape.__name__, 2
            while name in known.values():
                name, number = f"{shape.__name__}{number}", number + 1
            known[shape] = name
            definitions[name] = {}
            definitions[name] |= _object(shape, inner)
        return {"$ref": f"#/$defs/{known[shape]}"}
    raise ShapeError("", f"{shape!r} cannot be written as JSON: use dataclasses, lists and dictionaries of plain values")


def _object(shape: type, inner: typing.Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    hints = typing.get_type_hints(shape, include_extras=True)
    properties, required = {}, []
    for field in _fields(shape):
        properties[field.name] = inner(hints[field.name])
        if _has_default(field):
            default = field.default
            if isinstance(default, (bool, int, float, str)) and not isinstance(default, enum.Enum):
                properties[field.name] = {**properties[field.name], "default": default}
        else:
            required.append(field.name)
    document: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        document["required"] = required
    # Without a docstring, a dataclass has one that is its signature.
    words = shape.__doc__ or ""
    if words and not words.startswith(f"{shape.__name__}("):
        document["description"] = " ".join(words.split("\n\n")[0].split())
    return document


def _fields(shape: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(shape) if field.init]


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def write(value: Any, path: str = "") -> Any:
    """A value as what `json.dumps` takes.

    Raises ShapeError, with the place, where JSON has no such value.
    """
    if isinstance(value, enum.Enum):
        return write(value.value, path)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ShapeError(path, f"{value} is no number that JSON has")
        return value
    own = getattr(value, "to_json", None)
    if callable(own):
        return write(own(), path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: write(getattr(value, field.name), f"{path}/{field.name}") for field in _fields(value)}
    if isinstance(value, (list, tuple)):
        return [write(item, f"{path}/{index}") for index, item in enumerate(value)]
    if isinstance(value, dict):
        written = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ShapeError(path, f"the key {key!r} is no text: JSON has no others")
            written[key] = write(item, f"{path}/{key}")
        return written
    raise ShapeError(path, f"a {type(value).__name__} cannot be written as JSON")


def read(shape: Any, value: Any, path: str = "") -> Any:
    """What `json.loads` gave, as a value of a type. Unknown fields of a dataclass are refused.

    Raises ShapeError, with the place, where it does not fit.
    """
    origin, arguments = get_origin(shape), get_args(shape)

    def wrong(expected: str) -> ShapeError:
        text = repr(value)
        return ShapeError(path, f"{text if len(text) <= 60 else text[:57] + '...'} is not {expected}")

    if shape is Any or shape is object:
        return value
    if origin is typing.Annotated:
        return read(arguments[0], value, path)
    own = getattr(origin or shape, "from_json", None)
    if callable(own):
        return own(value, lambda index, item, place: read(arguments[index] if arguments else Any, item, place), path)
    if shape is None or shape is type(None):
        if value is not None:
            raise wrong("null")
        return None
    if shape is bool or shape is str:
        if not isinstance(value, shape):
            raise wrong("true or false" if shape is bool else "text")
        return value
    if shape is int or shape is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong("a number")
        if shape is float:
            return float(value)
        # JSON Schema takes 2.0 for an integer too.
        if isinstance(value, float) and not value.is_integer():
            raise wrong("a whole number")
        return int(value)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, path, wrong)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise wrong("one of " + ", ".join(map(repr, arguments)))
        return value
    if origin in (list, tuple) or shape is list:
        if not isinstance(value, list):
            raise wrong("a list")
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            if len(value) != len(arguments):
                raise wrong(f"a list of {len(arguments)}")
            return tuple(read(part, item, f"{path}/{at}") for at, (part, item) in enumerate(zip(arguments, value)))
        part = arguments[0] if arguments else Any
        items = [read(part, item, f"{path}/{at}") for at, item in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if origin is dict or shape is dict:
        if not isinstance(value, dict):
            raise wrong("an object")
        part = arguments[1] if arguments else Any
        return {key: read(part, item, f"{path}/{key}") for key, item in value.items()}
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        try:
            return shape(value)
        except ValueError:
            raise wrong("one of " + ", ".join(repr(member.value) for member in shape)) from None
    if isinstance(shape, type) and dataclasses.is_dataclass(shape):
        return _dataclass(shape, value, path, wrong)
    raise ShapeError(path, f"{shape!r} cannot be read from JSON")


def _one_of(parts: tuple[Any, ...], value: Any, path: str, wrong: typing.Callable[[str], ShapeError]) -> Any:
    complaints = []
    # A whole number is a float too: the exact type goes first, so that what was written is what is read.
    for part in sorted(parts, key=lambda part: type(value) is not part):
        try:
            return read(part, value, path)
        except ShapeError as complaint:
            complaints.append(complaint)
    # The one that got furthest says most.
    furthest = max(complaints, key=lambda complaint: len(complaint.path))
    raise furthest if len(furthest.path) > len(path) else wrong("of a type that is allowed here")


def _dataclass(shape: type, value: Any, path: str, wrong: typing.Callable[[str], ShapeError]) -> Any:
    if not isinstance(value, dict):
        raise wrong("an object")
    hints = typing.get_type_hints(shape, include_extras=True)
    fields = _fields(shape)
    unknown = value.keys() - {field.name for field in fields}
    if unknown:
        raise ShapeError(f"{path}/{min(unknown)}", "there is no such field")
    arguments = {}
    for field in fields:
        if field.name in value:
            arguments[field.name] = read(hints[field.name], value[field.name], f"{path}/{field.name}")
        elif not _has_default(field):
            raise ShapeError(f"{path}/{field.name}", "the field is missing")
    try:
        return shape(**arguments)
    except (TypeError, ValueError) as error:
        # A `__post_init__` that checks more than types can.
        raise ShapeError(path, str(error)) from error
