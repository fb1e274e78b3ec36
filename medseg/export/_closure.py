"""The modules of medseg that a few of them need, copied as a package of another name.

A labelling server has no medseg, so an exported bundle carries the part that reads, preprocesses and fine-tunes. The
copy's name holds a hash of its content: bundles of different releases of medseg live on one server side by side.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import medseg
from medseg import __version__
from medseg.errors import MedsegError

HERE = Path(medseg.__file__).parent
#: the record of a copy: where it came from, and the SHA-256 of each of its files
MANIFEST = "MANIFEST.json"
#: the first line of a copied file
NOTE = f"# Copied from medseg {__version__} under the Apache License 2.0; see {MANIFEST} beside it.\n"


def needed(roots: Iterable[str]) -> dict[str, Path]:
    """The modules that some modules import, wherever in their code, and the packages that these lie in.

    Imports that only type checkers follow are left out.

    Args:
        roots: dotted names of modules of medseg; of a package all its public modules are meant.

    Returns:
        the file of each module, by dotted name, in alphabetical order.
    """
    found: dict[str, Path] = {}
    waiting = [name for root in roots for name in _with_modules(root)]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting += _imported(path)
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return dict(sorted(found.items()))


def copy_modules(modules: dict[str, Path], folder: Path) -> str:
    """Copy modules as a package below a folder, with a manifest of hashes.

    Args:
        modules: as ``needed`` gives them.
        folder: in which the package is made.

    Returns:
        the package's name.

    Raises:
        MedsegError: a module imports medseg in a way that cannot be renamed.
    """
    whole = hashlib.sha256()
    for name, path in modules.items():
        whole.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    package = f"medseg_{whole.hexdigest()[:10]}"
    hashes = {}
    for path in modules.values():
        relative = path.relative_to(HERE)
        copy = folder / package / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(NOTE + _renamed(path, package), encoding="utf-8")
        hashes[relative.as_posix()] = hashlib.sha256(copy.read_bytes()).hexdigest()
    record = {"copied_from": "medseg", "version": __version__, "licence": "Apache-2.0", "sha256": hashes}
    (folder / package / MANIFEST).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return package


def demand_unchanged(package: Path) -> None:
    """Refuse a copied package whose files are not those of its manifest.

    Raises:
        MedsegError: a file was changed, added or taken away.
    """
    wanted = json.loads((package / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    seen = {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in package.rglob("*.py")
    }
    wrong = sorted(name for name in {*wanted, *seen} if wanted.get(name) != seen.get(name))
    if wrong:
        raise MedsegError(f"{package}: not as it was exported: {', '.join(wrong)}; export the bundle again")


def _file(name: str) -> Path | None:
    """The file of a module of medseg, or nothing where the name is of something else in one."""
    base = HERE.joinpath(*name.split(".")[1:])
    return next(
        (path for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file()), None
    )


def _with_modules(root: str) -> Iterator[str]:
    yield root
    path = _file(root)
    if path is not None and path.name == "__init__.py":
        yield from (f"{root}.{p.stem}" for p in path.parent.glob("*.py") if not p.stem.startswith("_"))


def _imports(path: Path) -> Iterator[ast.ImportFrom]:
    """The imports of medseg in a file, less those under ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "medseg" for alias in node.names):
            raise MedsegError(f"{path}: line {node.lineno} must import from medseg by name to be copied")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medseg":
            yield node
        waiting += ast.iter_child_nodes(node)


def _imported(path: Path) -> list[str]:
    found = []
    for node in _imports(path):
        found += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _renamed(path: Path, package: str) -> str:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medseg":
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace("from medseg", f"from {package}", 1)
    return "".join(lines)
