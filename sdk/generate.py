"""Writes the models and calls of the Python and the TypeScript client from the API's document.

    python3 sdk/generate.py           writes them
    python3 sdk/generate.py --check   says which are not as the document is, and exits with 1

Needs Python 3.11 and nothing else.
"""

import json
import re
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent
DOCUMENT = SDK.parent / "host/daemon/openapi.json"
MADE = "Made by sdk/generate.py from host/daemon/openapi.json: change those."
WIDTH = 112

# Streams of events are not one answer: the clients have their own way.
BY_HAND = {"events", "job_events"}
# What may be sent again when nobody knows whether it arrived, beyond what HTTP says of its methods.
REPEATABLE = {
    "cancel_job",
    "drain_host",
    "move_job",
    "pause_host",
    "pause_job",
    "pause_queue",
    "pause_schedule",
    "resume_host",
    "resume_job",
    "resume_queue",
    "resume_schedule",
    "signal_job",
}
# Names that Python keeps for itself.
PYTHON_WORDS = {"from", "import", "global", "class", "in", "is", "with", "async", "await", "lambda", "not", "or"}
HEADERS = {"Idempotency-Key": "idempotency_key", "X-Correlation-Id": "correlation_id"}


def words(text):
    """A description on one line."""
    return " ".join(text.split())


def wrapped(text, indent, first="", rest=""):
    """A text in lines of at most WIDTH."""
    lines, line = [], indent + first
    empty = line
    for word in text.split():
        if line is not empty and len(line) + len(word) + 1 > WIDTH:
            lines.append(line)
            line = empty = indent + rest
        line += word if line is empty or line.endswith(" ") and line == indent + first else " " + word
    return lines + [line]


class Python:
    scalars = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "None"}
    unknown, anything = "Any", "dict[str, Any]"

    @staticmethod
    def listed(item):
        return f"list[{item}]"

    @staticmethod
    def mapped(item):
        return f"dict[str, {item}]"

    @staticmethod
    def literal(values):
        return f"Literal[{', '.join(json.dumps(value) for value in values)}]"


class TypeScript:
    scalars = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}
    unknown, anything = "unknown", "Record<string, unknown>"

    @staticmethod
    def listed(item):
        return f"Array<{item}>"

    @staticmethod
    def mapped(item):
        return f"Record<string, {item}>"

    @staticmethod
    def literal(values):
        return " | ".join(json.dumps(value) for value in values)


def shape(schema, language):
    """The type of a schema."""

    def union(parts):
        # `null` last, each once.
        parts = sorted(dict.fromkeys(parts), key=lambda part: part == language.scalars["null"])
        return language.unknown if language.unknown in parts else " | ".join(parts)

    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "enum" in schema:
        return language.literal(schema["enum"])
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return union(shape(part, language) for part in schema[key])
    if "allOf" in schema:
        return shape(schema["allOf"][0], language)
    kind = schema.get("type")
    if isinstance(kind, list):
        return union(shape({**schema, "type": one}, language) for one in kind)
    if kind == "array":
        return language.listed(shape(schema.get("items", {}), language))
    if kind == "object":
        more = schema.get("additionalProperties")
        return language.mapped(shape(more, language)) if isinstance(more, dict) and more else language.anything
    return language.scalars.get(kind, language.unknown)


def fields(schema):
    """Own fields of an object with what they extend: (names of bases, [(name, schema, required)])."""
    bases, own = [], []
    for part in schema.get("allOf", [schema]):
        if "$ref" in part:
            bases.append(part["$ref"].rsplit("/", 1)[1])
        required = set(part.get("required", []))
        own += [(name, field, name in required) for name, field in part.get("properties", {}).items()]
    return bases, own


def is_object(schema):
    return "properties" in schema or "allOf" in schema


class Call:
    """One operation of the API."""

    def __init__(self, path, method, operation):
        self.path, self.method, self.name = path, method.upper(), operation["operationId"]
        self.description = words(operation.get("summary") or operation.get("description") or self.name)
        parameters = operation.get("parameters", [])
        self.in_path = [one["name"] for one in parameters if one["in"] == "path"]
        self.query = [one for one in parameters if one["in"] == "query"]
        self.headers = [one["name"] for one in parameters if one["name"] in HEADERS]
        self.body = self.content_type = None
        for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
            self.content_type, self.body = content_type, content.get("schema", {})
        self.answer, self.kind = None, "none"
        for status, response in operation["responses"].items():
            for content_type, content in response.get("content", {}).items():
                if status.startswith("2"):
                    self.kind = "json" if content_type == "application/json" else "text"
                    self.answer = content.get("schema", {}) if self.kind == "json" else {"type": "string"}
        self.keyed = "Idempotency-Key" in self.headers
        self.repeatable = self.method in ("GET", "PUT", "DELETE") or self.name in REPEATABLE


def calls(document):
    found = [
        Call(path, method, operation) for path, methods in document["paths"].items() for method, operation in methods.items()
    ]
    return sorted((call for call in found if call.name not in BY_HAND), key=lambda call: call.name)


def python_models(schemas):
    lines = [f'"""Shapes of what the API takes and answers. {MADE}"""', ""]
    lines += ["from __future__ import annotations", "", "from typing import Any, Literal, NotRequired, TypedDict, Union"]
    for name, schema in sorted(schemas.items(), key=lambda item: (bool(fields(item[1])[0]), item[0])):
        lines += ["", ""]
        if not is_object(schema):
            lines += [f"{name} = {shape(schema, Python)}", f'"""{words(schema.get("description", name))}"""']
            continue
        bases, own = fields(schema)
        names = [field for field, _, _ in own]
        about = words(schema.get("description", name))
        if any(field in PYTHON_WORDS for field in names):
            lines += [f"{name} = TypedDict(", f'    "{name}",', "    {"]
            for field, part, required in own:
                typed = shape(part, Python)
                lines.append(f'        "{field}": {json.dumps(typed if required else f"NotRequired[{typed}]")},')
            lines += ["    },", ")", f'"""{about}"""']
            continue
        lines += [f"class {name}({', '.join(bases) or 'TypedDict'}):"]
        lines += wrapped(f'{about}"""', "    ", '"""')
        for field, part, required in own:
            typed = shape(part, Python)
            lines += ["", f"    {field}: {typed if required else f'NotRequired[{typed}]'}"]
            if part.get("description"):
                lines += wrapped(f'{words(part["description"])}"""', "    ", '"""')
    return "\n".join(lines).replace(", Union\n", "\n") + "\n"


def python_name(name):
    return f"{name}_" if name in PYTHON_WORDS else name


def python_call(call, asynchronous):
    models = re.compile(r"\b([A-Z][A-Za-z]+)\b")

    def typed(schema):
        plain = {"Any", "None", "Literal"}
        return models.sub(lambda found: found[0] if found[0] in plain else f"models.{found[0]}", shape(schema, Python))

    binary = call.content_type == "application/wasm"
    arguments = ["self", *(f"{python_name(name)}: str" for name in call.in_path)]
    if call.body is not None:
        arguments.append("body: bytes" if binary else f"body: {typed(call.body)}")
    keywords = [f"{python_name(one['name'])}: {typed(one['schema']).removesuffix(' | None')} | None = None" for one in call.query]
    keywords += [f"{HEADERS[name]}: str | None = None" for name in call.headers]
    if keywords:
        arguments += ["*", *keywords]
    answer = {"none": "None", "text": "str"}.get(call.kind) or typed(call.answer)
    path = re.sub(r"\{(\w+)\}", lambda found: "{quote(" + python_name(found[1]) + ', safe="")}', call.path)
    sent = [f'"{call.method}"', f'{"f" if "{" in path else ""}{json.dumps(path)}' if "quote(" not in path else f"f'{path}'"]
    if call.query:
        sent.append("params={" + ", ".join(f'"{one["name"]}": {python_name(one["name"])}' for one in call.query) + "}")
    if call.headers:
        sent.append("headers={" + ", ".join(f'"{name}": {HEADERS[name]}' for name in call.headers) + "}")
    if call.body is not None:
        sent.append("content=body" if binary else "json=body")
    sent += [f'answer="{call.kind}"'] if call.kind != "json" else []
    sent += ["repeatable=True"] if call.repeatable else []
    sent += ["keyed=True"] if call.keyed else []
    word, wait = ("async def", "await ") if asynchronous else ("def", "")
    lines = [f"    {word} {call.name}("]
    lines += [f"        {argument}," for argument in arguments]
    lines += [f"    ) -> {answer}:", *wrapped(f'{call.description}"""', "        ", '"""')]
    target = f"answer: {answer} = {wait}self._call(" if call.kind != "none" else f"{wait}self._call("
    lines += [f"        {target}", *(f"            {one}," for one in sent), "        )"]
    return lines + (["        return answer"] if call.kind != "none" else [])


def python_calls(found):
    lines = [f'"""One method for each call of the API. {MADE}"""', "", "from __future__ import annotations", ""]
    lines += ["from typing import Any, Literal", "from urllib.parse import quote", "", "from . import models"]
    for asynchronous, name, word, about in (
        (False, "Calls", "def", "Each call of the API."),
        (True, "AsyncCalls", "async def", "Each call of the API, for asyncio."),
    ):
        lines += ["", "", f"class {name}:", f'    """{about}"""', ""]
        lines += [f"    {word} _call(self, method: str, path: str, **more: Any) -> Any:", "        raise NotImplementedError"]
        for call in found:
            lines += ["", *python_call(call, asynchronous)]
    return "\n".join(lines) + "\n"


def typescript_models(schemas):
    lines = [f"// Shapes of what the API takes and answers. {MADE}"]
    for name, schema in sorted(schemas.items()):
        lines += ["", f"/** {words(schema.get('description', name))} */"]
        if not is_object(schema):
            lines.append(f"export type {name} = {shape(schema, TypeScript)};")
            continue
        bases, own = fields(schema)
        lines.append(f"export interface {name}{' extends ' + ', '.join(bases) if bases else ''} {{")
        for field, part, required in own:
            if part.get("description"):
                lines.append(f"  /** {words(part['description'])} */")
            lines.append(f"  {field}{'' if required else '?'}: {shape(part, TypeScript)};")
        lines.append("}")
    return "\n".join(lines) + "\n"


def camel(name):
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def typescript_call(call):
    models = re.compile(r"\b([A-Z][A-Za-z]+)\b")

    def typed(schema):
        plain = {"Array", "Record"}
        return models.sub(lambda found: found[0] if found[0] in plain else f"models.{found[0]}", shape(schema, TypeScript))

    binary = call.content_type == "application/wasm"
    arguments = [f"{name}: string" for name in call.in_path]
    if call.body is not None:
        arguments.append("body: Uint8Array" if binary else f"body: {typed(call.body)}")
    options = [f"{one['name']}?: {typed(one['schema']).removesuffix(' | null')}" for one in call.query]
    options += [f"{camel(HEADERS[name])}?: string" for name in call.headers]
    options.append("signal?: AbortSignal")
    arguments.append("options: { " + "; ".join(options) + " } = {}")
    answer = {"none": "void", "text": "string"}.get(call.kind) or typed(call.answer)
    path = re.sub(r"\{(\w+)\}", lambda found: "${encodeURIComponent(" + found[1] + ")}", call.path)
    sent = ["signal: options.signal"]
    if call.query:
        sent.append("query: { " + ", ".join(f"{one['name']}: options.{one['name']}" for one in call.query) + " }")
    if call.headers:
        sent.append("headers: { " + ", ".join(f'"{name}": options.{camel(HEADERS[name])}' for name in call.headers) + " }")
    if call.body is not None:
        sent.append("content: body" if binary else "json: body")
    sent += [f'answer: "{call.kind}"'] if call.kind != "json" else []
    sent += ["repeatable: true"] if call.repeatable else []
    sent += ["keyed: true"] if call.keyed else []
    lines = [f"  /** {call.description} */", f"  {camel(call.name)}({', '.join(arguments)}): Promise<{answer}> {{"]
    lines += [f"    return this.call<{answer}>(\"{call.method}\", `{path}`, {{ {', '.join(sent)} }});", "  }"]
    return lines


def typescript_calls(found):
    lines = [f"// One method for each call of the API. {MADE}", "", 'import type * as models from "./models.js";', ""]
    lines += [
        "/** How a request is sent. */",
        "export interface Sent {",
        "  query?: Record<string, string | number | boolean | undefined>;",
        "  headers?: Record<string, string | undefined>;",
        "  json?: unknown;",
        "  content?: Uint8Array;",
        "  /** What is made of the answer; JSON unless said otherwise. */",
        '  answer?: "json" | "text" | "none";',
        "  /** It may be sent again when nobody knows whether it arrived. */",
        "  repeatable?: boolean;",
        "  /** An idempotency key makes it repeatable. */",
        "  keyed?: boolean;",
        "  signal?: AbortSignal | undefined;",
        "}",
        "",
        "/** Each call of the API. */",
        "export abstract class Calls {",
        "  protected abstract call<T>(method: string, path: string, sent: Sent): Promise<T>;",
    ]
    for call in found:
        lines += ["", *typescript_call(call)]
    return "\n".join([*lines, "}"]) + "\n"


def main():
    document = json.loads(DOCUMENT.read_text())
    schemas, found = document["components"]["schemas"], calls(document)
    files = {
        "python/src/waymark/client/models.py": python_models(schemas),
        "python/src/waymark/client/_calls.py": python_calls(found),
        "js/src/client/models.ts": typescript_models(schemas),
        "js/src/client/calls.ts": typescript_calls(found),
    }
    stale = [name for name, text in files.items() if not (SDK / name).is_file() or (SDK / name).read_text() != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"sdk/{name} is not as host/daemon/openapi.json is: run python3 sdk/generate.py")
        return 1 if stale else 0
    for name in stale:
        (SDK / name).parent.mkdir(parents=True, exist_ok=True)
        (SDK / name).write_text(files[name])
        print(f"sdk/{name} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
