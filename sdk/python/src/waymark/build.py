"""Makes a component of a job type: `python -m waymark.build --wit DIR --out FILE [MODULE]`.

A component imports the contract, and of the capabilities those whose modules its sources import by name (`waymark.llm` and
its like): one that is imported must be granted, so what is not used must not be.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

INTERFACES = {
    "config": ["wasi:config/store@0.2.0-rc.1"],
    "http": ["wasi:http/outgoing-handler@0.2.1"],
    "kv": ["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/atomics@0.2.0-draft"],
    "llm": ["waymark:llm/chat@0.1.0"],
    "sql": ["waymark:sql/query@0.1.0"],
}
"""What each module of a capability imports."""

WORLD = "plugin"


def capabilities(folder: Path, module: str) -> list[str]:
    """Modules of capabilities that a module imports, or one beside it that it imports, in their order."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = [module]
    while ahead:
        name = ahead.pop()
        if name in seen or name.partition(".")[0] == "waymark":
            continue
        seen.add(name)
        path = folder.joinpath(*name.split("."))
        source = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
        if source is None:
            continue
        package = name.split(".") if source.name == "__init__.py" else name.split(".")[:-1]
        for node in ast.walk(ast.parse(source.read_bytes(), str(source))):
            ahead += _imported(node, package)
        found |= {name.split(".")[1] for name in ahead if name.startswith("waymark.")} & set(INTERFACES)
    return sorted(found)


def _imported(node: ast.AST, package: list[str]) -> list[str]:
    """Names of all modules that a statement may import; `package` is that of its own module."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        inside = [*base, *(node.module or "").split(".")] if node.module else base
        # What is imported from a package may be a module of it.
        names = [".".join(inside), *(".".join([*inside, alias.name]) for alias in node.names)]
    else:
        return []
    # A module is imported with all packages above it.
    parts = [name.split(".") for name in names if name]
    return [".".join(part[: end + 1]) for part in parts for end in range(len(part))]


def world(used: list[str]) -> str:
    """The world of a component that uses these capabilities."""
    imports = "".join(f"  import {name};\n" for one in used for name in INTERFACES[one])
    return f"package waymark:task@0.1.0;\n\nworld {WORLD} {{\n  include task;\n{imports}}}\n"


def build(wit: Path, out: Path, module: str = "job", folder: Path = Path(".")) -> None:
    """Makes the component.

    Args:
        wit: folder of the contract, with the capabilities below `deps`.
        out: file to write.
        module: what holds the job type.
        folder: where it is.

    Raises subprocess.CalledProcessError where componentize-py fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        own = Path(temporary) / "wit"
        shutil.copytree(wit, own)
        (own / "world.wit").write_text(world(capabilities(folder, module)))
        tool = Path(sysconfig.get_path("scripts")) / "componentize-py"
        command = [str(tool) if tool.exists() else "componentize-py", "-d", str(own), "-w", WORLD]
        command += ["componentize", "-p", str(folder), module, "-o", str(out)]
        subprocess.run(command, check=True)


def main() -> int:
    """What the command line asks for. Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m waymark.build", description="Makes a component of a job type.")
    parser.add_argument("--wit", type=Path, required=True, help="folder of the contract")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("module", nargs="?", default="job", help="what holds the job type [default: job]")
    given = parser.parse_args()
    try:
        build(given.wit, given.out, given.module)
    except subprocess.CalledProcessError as failed:
        return failed.returncode
    except FileNotFoundError as missing:
        print(f"componentize-py cannot be started: {missing}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
