"""What a bundle's files would run if MONAI opened it: found by reading, without running or importing any of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files as resources
from typing import Any

import yaml

from medseg.bundle.open import CONFIGS
from medseg.bundle.settings import CLASS_KNOBS, SHARED_KNOBS, Settings
from medseg.errors import MedsegError

#: knobs that compose writes above the template, besides the settings
KNOBS = frozenset(
    {"bundle_name", "dataset_name", "loss_name", "augment_name", *SHARED_KNOBS, *CLASS_KNOBS}
    | {setting.name for setting in fields(Settings)}
)
#: how a text begins that MONAI evaluates, resolves or replaces
_LIVE = ("$", "@", "%")
#: how deep a config may nest; medseg's own nest eight deep
MOST_DEPTH = 64

METADATA = "configs/metadata.json"
#: the config whose knob ``task`` says which template a bundle is held against
TELLS_TASK = "configs/inference.yaml"
TASKS = ("segmentation", "classification")
#: the keys that lead to a part of a config
Path_ = tuple[Any, ...]


@dataclass(frozen=True)
class Executable:
    """One place in a bundle's files that runs, or decides what runs.

    Args:
        file: path in the bundle.
        key: in the config, parts joined by ``::``.
        kind: ``expression``, ``component``, ``value`` (another one than the template's), ``logging``, ``script``
            (TorchScript) or ``file``.
        text: as it stands there.
        runs: what it would do, in words.
        whose: ``medseg``, ``MONAI``, ``PyTorch`` or ``foreign``, of what is not of the template by its name alone.
        of_template: medseg's own template has the same at the same place.
    """

    file: str
    key: str
    kind: str
    text: str
    runs: str
    whose: str
    of_template: bool = False


def parse(content: bytes, file: str) -> dict[str, Any]:
    """A YAML or JSON config as plain values, strictly: no tags, anchors or merges, no key twice, no depth without end.

    Raises:
        MedsegError: it is not plain; the reason is named.
    """
    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique) if file.endswith(".json") else _yaml(text)
        _demand_shallow(value)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise MedsegError(f"{file}: not a plain config ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(value, dict):
        raise MedsegError(f"{file}: holds no mapping of keys to values")
    return value


def told_task(config: Mapping[str, Any]) -> str:
    """The task that an inference config says, ``segmentation`` where it says none or one that is not known."""
    task = config.get("task")
    return task if isinstance(task, str) and task in TASKS else TASKS[0]


def executables_of(
    names: tuple[str, ...], read: Callable[[str], bytes], task: str = TASKS[0]
) -> Iterator[Executable]:
    """Everything in a bundle's configs that runs or decides what runs, and every file that could be code.

    Args:
        names: paths of the bundle's files.
        read: gives a file's bytes.
        task: of the bundle, by which its template is known.

    Raises:
        MedsegError: a config is not plain.
    """
    for name in names:
        if name.endswith(".ts"):
            runs = "a TorchScript program, run by whoever loads it; import leaves it out"
            yield Executable(name, "", "script", "", runs, "foreign")
        elif name not in KNOWN_FILES and not name.startswith("repeats/"):
            runs = "nothing of medseg's; Python could import it, as MONAI puts a running bundle's folder on its path"
            yield Executable(name, "", "file", "", runs, "foreign")
        if name.startswith("configs/") and name.endswith((".yaml", ".yml", ".json")):
            yield from config_executables(name, parse(read(name), name), task)
        elif name == "configs/logging.conf":
            yield _logging(read(name))


def config_executables(file: str, config: Mapping[str, Any], task: str = TASKS[0]) -> Iterator[Executable]:
    """What in one config runs, and every value beside the knobs that is not as in medseg's template.

    Such a value counts although it is plain: it is an argument of something that runs, and MONAI imports some
    arguments by their name.
    """
    template = _template(file, task)
    ours = dict(walk(template or {}))
    here = dict(walk(config))
    for path, value in here.items():
        same = path in ours and type(ours[path]) is type(value) and ours[path] == value
        held = template is not None and (path[0] not in KNOBS or path[:1] in ours)
        if isinstance(value, Mapping) and "_target_" in value:
            known = ours.get(path)
            yield _component(file, path, value, isinstance(known, dict) and _target(known) == _target(value))
        elif isinstance(value, (Mapping, list)):
            # what is in them is looked at by itself
            if held and not value and not same:
                yield _changed(file, path, value)
        elif isinstance(value, str) and value.lstrip()[:1] in _LIVE and path[-1] != "_target_":
            yield _expression(file, path, value, same)
        elif held and not same and path[-1] != "_target_":
            yield _changed(file, path, value)
    for path in ours:
        if path not in here and (len(path) == 1 or path[:-1] in here):
            told = "medseg's template has something here"
            yield Executable(file, _key(path), "value", "nothing", told, "foreign")


def walk(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every part of a nested value with the keys that lead to it; the whole itself is left out.

    >>> list(walk({"a": [1, {"b": 2}]}))
    [(('a',), [1, {'b': 2}]), (('a', 0), 1), (('a', 1), {'b': 2}), (('a', 1, 'b'), 2)]
    """
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, inner in items:
        yield (*path, name), inner
        yield from walk(inner, (*path, name))


def _changed(file: str, path: Path_, value: Any) -> Executable:
    told = "another value than medseg's template has, given to what runs there"
    return Executable(file, _key(path), "value", repr(value)[:200], told, "foreign")


def _target(value: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(value.get(key) for key in ("_target_", "_mode_", "_disabled_", "_requires_", "_desc_"))


def _key(path: Path_) -> str:
    return "::".join(map(str, path))


def _expression(file: str, path: Path_, text: str, same: bool) -> Executable:
    if text.lstrip().startswith("$"):
        runs = "Python, evaluated when MONAI resolves the key"
    elif text.lstrip().startswith("@"):
        runs = f"nothing itself; stands for the key {text.strip()[1:]}"
    else:
        runs = f"nothing itself; MONAI puts in what {text.strip()[1:]} says, which may be another file"
    return Executable(file, _key(path), "expression", text, runs, "medseg" if same else "foreign", same)


def _component(file: str, path: Path_, value: Mapping[str, Any], same: bool) -> Executable:
    target = str(value["_target_"])
    arguments = ", ".join(str(name) for name in value if not str(name).startswith("_"))
    runs = f"imports and calls {target} with {arguments or 'no argument'}"
    if value.get("_mode_") == "callable":
        runs = f"imports {target}, to be called later with {arguments or 'what it is given'}"
    return Executable(file, _key(path), "component", target, runs, _owner(target), same)


def _owner(text: str) -> str:
    """Whose a name looks like; no more than a hint, since ``monai.utils.module.os`` looks like MONAI's too."""
    if text.startswith(_LIVE):
        return "foreign"
    for prefix, owner in (("medseg.", "medseg"), ("monai.", "MONAI"), ("torch.", "PyTorch")):
        if text.startswith(prefix):
            return owner
    return "foreign" if "." in text else "MONAI"


def _logging(content: bytes) -> Executable:
    own = (resources("medseg.bundle") / "templates" / "logging.conf").read_bytes()
    same = content.split() == own.split()
    runs = "sets up logging; Python evaluates the arguments of its handlers"
    text = "" if same else content[:200].decode("utf-8", "replace")
    return Executable(
        "configs/logging.conf", "", "logging", text, runs, "medseg" if same else "foreign", same
    )


#: what a bundle of medseg's consists of, on disk and in a package
KNOWN_FILES = frozenset(
    {
        "LICENSE",
        "README.md",
        "MANIFEST.json",
        "docs/README.md",
        "configs/metadata.json",
        "configs/logging.conf",
    }
    | {f"configs/{name}.{form}" for name in CONFIGS for form in ("yaml", "json")}
    | {"models/model.pt", "models/model.ts", "models/model.json"}
)


@cache
def _template(file: str, task: str) -> dict[str, Any] | None:
    """medseg's own text of a config, as plain values; None where it has none, as of metadata, whose values are free."""
    if file == METADATA:
        return None
    name = file.removeprefix("configs/").rpartition(".")[0]
    path = resources("medseg.bundle") / "templates" / task / f"{name}.yaml"
    if name not in CONFIGS or file not in KNOWN_FILES:
        return None
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _demand_shallow(value: Any, left: int = MOST_DEPTH) -> None:
    if not left:
        raise ValueError(f"nests more than {MOST_DEPTH} deep")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        _demand_shallow(part, left - 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _demand_once([key for key, _ in pairs])
    return dict(pairs)


def _demand_once(keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"the key {key!r} is there twice")
        seen.add(key)


class _Plain(yaml.SafeLoader):
    """YAML in which what is read is what is written.

    Without anchors, whose copies could multiply; without tags and merges, whose values are others than they look; and
    without a key twice, of which readers take either.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.YAMLError("anchors and aliases are not taken")
        if event.tag is not None:
            raise yaml.YAMLError(f"the tag {event.tag!r} is not taken")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if not all(key.tag.endswith(":str") for key, _ in node.value):
            raise yaml.YAMLError("a key is no text; write it in quotes")
        _demand_once([key.value for key, _ in node.value])
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    loader = _Plain(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
