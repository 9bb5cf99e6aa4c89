"""The fingerprint of a step's code: what it imports from this package, without comments, docstrings and layout."""

import ast
import hashlib
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from cmcgns.errors import InputError
from cmcgns.files import read_json, sha256_file, write_json

PACKAGE = "cmcgns"
ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(".cmcgns/code.json")
PARTS = Path(".cmcgns/code")
ENTRY = "cmcgns.step"  # what every job goes through before its own function


def code_of(step: str, also: Iterable[str] = ()) -> str:
    """The fingerprint of all that a job of `step` runs: the entry, the step's module, and `also`.

    Args:
        step: `cmcgns.<module>.<function>`.
        also: modules that the step imports by name only, and data files of the package, such as `reporting/paper_tables.csv`.
    """
    return fingerprint(ENTRY, step.rpartition(".")[0], *also)


@cache
def fingerprint(*parts: str) -> str:
    """16 hex digits over the syntax trees of modules and all that they import from the package, and over data files of it."""
    digest, before = hashlib.sha256(), len(_known())
    for name in sorted(closure(*(part for part in parts if "/" not in part))):
        digest.update(f"{name}\n{_read(name)[0]}\n".encode())
    for name in sorted(part for part in parts if "/" in part):
        digest.update(f"{name}\n{sha256_file(ROOT / name)}\n".encode())
    if len(_known()) != before:
        _remember()
    return digest.hexdigest()[:16]


def keep(code: str, step: str, also: Iterable[str] = ()) -> None:
    """Remember what a fingerprint is made of, so that `changes` can say later what has changed."""
    if not (known := PARTS / f"{code}.json").exists():
        write_json(known, _parts(step, also))


def changes(code: str, step: str, also: Iterable[str] = ()) -> list[str]:
    """The functions, classes and data files that differ between the code with this fingerprint and that on disk, by their names.

    Nothing, if it is not known what that code was made of.
    """
    try:
        before, now = read_json(PARTS / f"{code}.json"), _parts(step, also)
    except InputError:
        return []
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _parts(step: str, also: Iterable[str]) -> dict[str, str]:
    """Name -> hash of whatever `code_of` is made of."""
    found = {part: sha256_file(ROOT / part) for part in also if "/" in part}
    modules = (part for part in also if "/" not in part)
    for module in sorted(closure(ENTRY, step.rpartition(".")[0], *modules)):
        found |= {f"{module}.{name}" if name else module: digest for name, digest in _read(module)[2].items()}
    return found


def whole_package() -> str:
    """A fingerprint of every module and data file of the package."""
    data = (path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return fingerprint(*_modules(), *(f"./{path.relative_to(ROOT)}" for path in sorted(data)))


def closure(*modules: str) -> set[str]:
    """The modules of the package that `modules` import, directly or not, themselves included."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += _imports(name)
    return seen


@cache
def _modules() -> dict[str, str]:
    """name -> file of every module of the package; a job asks for them all, so folders are listed and not each name looked up."""
    found = {}
    for folder, _, files in os.walk(ROOT):
        parts = [PACKAGE, *Path(folder).relative_to(ROOT).parts]
        for file in files:
            if file.endswith(".py"):
                name = parts if file == "__init__.py" else [*parts, file.removesuffix(".py")]
                found[".".join(name)] = f"{folder}/{file}"
    return found


@cache
def _imports(name: str) -> list[str]:
    names = {n for n in _read(name)[1] if n in _modules()}
    packages = {".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 1)}
    return sorted(names | packages)


@cache
def _read(name: str) -> tuple[str, list[str], dict[str, str]]:
    """The hash of a module's normal form, the names of the package that it imports, and the hashes of its parts.

    Parsing the whole package takes two seconds, so both are remembered for a file of this size and time of change.
    """
    file = _modules().get(name)
    if file is None:
        raise InputError(f"the package has no module {name!r}", file=ROOT)
    state = os.stat(file)
    # the form of a tree belongs to the version of Python
    key = f"2 {sys.version_info[0]}.{sys.version_info[1]} {file} {state.st_size} {state.st_mtime_ns}"
    if key not in _known():
        tree = ast.parse(Path(file).read_bytes())
        imported, normal = _imported(tree), _normal(tree)
        parts = {name: _sha256(text) for name, text in _named(tree).items()}
        _known()[key] = (_sha256(normal), imported, parts)
    return _known()[key]


@cache
def _known() -> dict[str, tuple[str, list[str], dict[str, str]]]:
    try:
        known = read_json(CACHE)
    except InputError:
        return {}
    return known if isinstance(known, dict) else {}


def _remember() -> None:
    """Keep what was read for the next call, of each file the last state only."""
    if CACHE.parent.is_dir():
        last = {key.rsplit(" ", 2)[0]: key for key in _known()}
        write_json(CACHE, {key: _known()[key] for key in sorted(last.values())})


def _imported(tree: ast.Module) -> list[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return sorted(name for name in found if name.split(".")[0] == PACKAGE)


def _named(tree: ast.Module) -> dict[str, str]:
    """The parts of a normal form: each function and class by its name, methods by theirs, and the rest under ""."""
    found: dict[str, list[str]] = {}
    for node in tree.body:
        name = getattr(node, "name", "")
        inside = [
            n for n in getattr(node, "body", ()) if isinstance(node, ast.ClassDef) and hasattr(n, "name")
        ]
        for part in inside:
            found.setdefault(f"{name}.{part.name}", []).append(ast.dump(part))
        if inside:
            node.body = [n for n in node.body if n not in inside]
        found.setdefault(name, []).append(ast.dump(node))
    return {name: "".join(texts) for name, texts in found.items()}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _normal(tree: ast.Module) -> str:
    """The syntax tree as text; takes its docstrings out."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree)
