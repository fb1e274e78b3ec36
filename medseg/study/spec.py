"""The study file, read and checked as far as that needs no data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.choice import Choice
from medseg.bundle.settings import Settings, settings_from
from medseg.errors import MedsegError, unknown

if TYPE_CHECKING:
    from medseg.study.document import Document, Place

#: the factors of a study with the levels that they have where the file says nothing; None: it must
AXES: dict[str, tuple[Any, ...] | None] = {
    "dataset": None,
    "model": None,
    "loss": None,
    "preprocess": ((),),
    "augment": ("vanilla",),
    "repeat": (0,),
}
KEYS = ("study", "axes", "split", "fixed", "settings", "skip", "retries", "threads", "keep_weights")
KEEP = ("all", "best", "none")
NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
DATASET = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


@dataclass(frozen=True)
class Cell:
    """One run of a study: one repeat of one bundle.

    Args:
        choice: what the bundle is made of.
        repeat: of the split, from 0.
        settings: how it trains.
    """

    choice: Choice
    repeat: int
    settings: Settings

    @property
    def name(self) -> str:
        """What people call the run: ``<bundle>/<repeat>``."""
        return f"{self.choice.name}/{self.repeat}"


@dataclass(frozen=True)
class Study:
    """A study file.

    Args:
        name: the study's, also that of its folder and MLflow experiment.
        axes: levels of ``dataset model loss preprocess augment repeat``; those of ``preprocess`` are tuples of steps.
        fixed: settings of every run (see ``medseg.bundle.settings.Settings``).
        rules: settings of some runs: ``{"where": {axis: levels}, "set": {setting: value}}``, later ones win.
        skip: cells left out: mappings axis -> levels, all of which must match.
        split: name of the split that the repeats are of.
        retries: how often a failed run is tried again.
        threads: CPU threads of one run; part of what makes its numbers, so not left to the machine.
        keep_weights: ``all``, ``best`` (only the best repeat of each bundle) or ``none``.
        text: the file as it was read.
    """

    name: str
    axes: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any] = field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()
    skip: tuple[dict[str, Any], ...] = ()
    split: str = "holdout"
    retries: int = 2
    threads: int = 1
    keep_weights: str = "all"
    text: str = ""


def read_study(path: Path, *, names: bool = True) -> Study:
    """Read and check a study file.

    Args:
        path: the file.
        names: look up the names of models, losses and the like; without, nothing heavy is imported.

    Raises:
        MedsegError: it is missing, no YAML, or a key, name or value in it is wrong; all mistakes are listed with
            their lines.
    """
    from medseg.study.document import read_yaml

    document = read_yaml(path)
    study = _Reader(document).study()
    if names:
        from medseg.study.names import check_names

        check_names(document, study)
    document.raise_faults()
    return study


def shown(level: object) -> str:
    """A level as people write it: the steps of a preprocessing joined by ``-``, ``none`` for no step."""
    return ("-".join(map(str, level)) or "none") if isinstance(level, tuple) else str(level)


class _Reader:
    """Turns a YAML document into a study, noting every mistake on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.fault = document.fault
        self.content = document.content

    def study(self) -> Study:
        for key in self.content:
            if key not in KEYS:
                self.fault((key,), unknown("key", key, KEYS))
        # what follows compares with the levels of axes, and would only repeat what is wrong with them
        axes = self._axes()
        self.document.raise_faults()
        fixed = self._settings(("fixed",), self.content.get("fixed"))
        study = Study(
            name=self._text("study", NAME, "a-z, 0-9 and single '-' or '_', as in losses_small"),
            axes=axes,
            fixed=fixed,
            rules=self._rules(axes),
            skip=self._skips(axes),
            split=self._text("split", NAME, "the name of a split such as holdout or kfold5", "holdout"),
            retries=self._number("retries", 2, least=0),
            threads=self._number("threads", 1, least=1),
            keep_weights=self._keep_weights(),
            text=self.document.text,
        )
        if not self.document.faults:
            self._check_matches(study)
        return study

    def _text(self, key: str, pattern: re.Pattern[str], form: str, usual: str | None = None) -> str:
        value = self.content.get(key, usual)
        if value is None:
            self.fault((key,), f"is missing; give {form}")
        elif not isinstance(value, str):
            self.fault((key,), _no_name(value))
        elif not pattern.fullmatch(value):
            self.fault((key,), f"{value!r} will not do as the name of a folder; use {form}")
        return str(value)

    def _number(self, key: str, usual: int, least: int) -> int:
        value = self.content.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fault((key,), f"{value!r}: give a whole number, {least} or more")
            return usual
        return value

    def _keep_weights(self) -> str:
        value = self.content.get("keep_weights", "all")
        if value not in KEEP:
            self.fault(("keep_weights",), unknown("choice", value, KEEP))
        return str(value)

    def _axes(self) -> dict[str, tuple[Any, ...]]:
        given = self._mapping(("axes",), self.content.get("axes"))
        if given is None:
            return {}
        for name in given:
            if name not in AXES:
                self.fault(("axes", name), unknown("axis", name, AXES))
        axes = {name: self._axis(name, levels) for name, levels in given.items() if name in AXES}
        for name, usual in AXES.items():
            if name not in axes and usual is None:
                self.fault(("axes",), f"the axis {name} is missing; name at least one {name}")
            axes.setdefault(name, usual or ())
        return axes

    def _axis(self, name: str, given: Any) -> tuple[Any, ...]:
        place = ("axes", name)
        if name == "repeat" and isinstance(given, int) and not isinstance(given, bool):
            if given < 1:
                self.fault(place, f"{given}: give the number of repeats, 1 or more, or a list such as [0, 2]")
            return tuple(range(given))
        levels: list[Any] = []
        for number, item in enumerate(given if isinstance(given, list) else [given]):
            try:
                level = as_level(name, item)
            except MedsegError as error:
                self.fault((*place, number), error)
                continue
            if level in levels:
                self.fault((*place, number), f"{shown(level)} is there twice; keep one")
            levels.append(level)
        if not levels and given == []:
            self.fault(place, "has no level; give at least one, or leave the axis out")
        return tuple(levels)

    def _mapping(self, place: Place, given: Any) -> dict[Any, Any] | None:
        if isinstance(given, dict):
            return given
        was = "is missing" if given is None else f"is {given!r}"
        self.fault(place, f"{was}; a mapping of names to values is needed")
        return None

    def _listed(self, key: str) -> list[Any]:
        given = self.content.get(key)
        if given is not None and not isinstance(given, list):
            self.fault((key,), f"is {given!r}; a list is needed, each item behind a '-'")
            return []
        return given or []

    def _settings(self, place: Place, given: Any) -> dict[str, Any]:
        """Settings as given, each of which would do by itself."""
        values = self._mapping(place, {} if given is None and place == ("fixed",) else given) or {}
        for name, value in values.items():
            try:
                settings_from({name: value})
            except MedsegError as error:
                self.fault((*place, name), error)
        return dict(values)

    def _rules(self, axes: dict[str, tuple[Any, ...]]) -> tuple[dict[str, Any], ...]:
        rules = []
        for number, given in enumerate(self._listed("settings")):
            place = ("settings", number)
            rule = self._mapping(place, given)
            if rule is None:
                continue
            for key in rule:
                if key not in ("where", "set"):
                    self.fault((*place, key), unknown("key", key, ("where", "set")))
            where = self._where((*place, "where"), rule.get("where"), axes)
            if "repeat" in where:
                self.fault(
                    (*place, "where", "repeat"), "all repeats of a bundle have its settings; leave it out"
                )
            rules.append({"where": where, "set": self._settings((*place, "set"), rule.get("set"))})
        return tuple(rules)

    def _skips(self, axes: dict[str, tuple[Any, ...]]) -> tuple[dict[str, Any], ...]:
        return tuple(self._where(("skip", n), given, axes) for n, given in enumerate(self._listed("skip")))

    def _where(
        self, place: Place, given: Any, axes: dict[str, tuple[Any, ...]]
    ) -> dict[str, tuple[Any, ...]]:
        """Conditions as axis -> levels, each of which the axis has."""
        conditions = self._mapping(place, given)
        if conditions == {}:
            self.fault(place, "is empty and would hold for every run; name an axis and its levels")
        where = {}
        for name, wanted in (conditions or {}).items():
            if name not in AXES:
                self.fault((*place, name), unknown("axis", name, AXES))
                continue
            where[name] = tuple(self._known((*place, name), name, wanted, axes))
        return where

    def _known(self, place: Place, axis: str, wanted: Any, axes: dict[str, tuple[Any, ...]]) -> list[Any]:
        levels = []
        for item in wanted if isinstance(wanted, list) else [wanted]:
            try:
                level = as_level(axis, item)
                if level not in axes[axis]:
                    raise unknown(f"level of the axis {axis}", shown(level), map(shown, axes[axis]))
                levels.append(level)
            except MedsegError as error:
                self.fault(place, error)
        return levels

    def _check_matches(self, study: Study) -> None:
        """Note skips and rules that hold for no run, and a study of which nothing is left."""
        from medseg.study.grid import combinations, matches

        every = list(combinations(study.axes))
        for number, where in enumerate(study.skip):
            if not any(matches(where, levels) for levels in every):
                self.fault(("skip", number), "matches no run of the axes")
        left = [levels for levels in every if not any(matches(where, levels) for where in study.skip)]
        if not left:
            self.fault(("skip",), "leaves no run of the study")
        for number, rule in enumerate(study.rules):
            if left and not any(matches(rule["where"], levels) for levels in left):
                self.fault(("settings", number, "where"), "matches no run that is not skipped")


def as_level(axis: str, given: Any) -> Any:
    """A level of an axis as studies keep it.

    Raises:
        MedsegError: it is of the wrong type, or no name.
    """
    return _LEVELS.get(axis, _name)(given)


def _name(given: Any) -> str:
    if not isinstance(given, str):
        raise MedsegError(_no_name(given))
    if not given.strip():
        raise MedsegError("is an empty name")
    return given.strip()


def _no_name(value: Any) -> str:
    if isinstance(value, bool):
        return f"is read as {value!r}: YAML takes yes, no, on and off for truth values; put a name in quotes"
    if isinstance(value, (list, dict)) or value is None:
        return f"is {value!r}, where one name is needed"
    return f"is read as {value!r}, which is no text; put a name in quotes"


def _dataset(given: Any) -> str:
    name = _name(given)
    if not DATASET.fullmatch(name):
        raise MedsegError(f"data set name {name!r}: use a-z, 0-9 and single underscores, as in kvasir_seg")
    return name


def _preprocess(given: Any) -> tuple[str, ...]:
    if given in (None, "", "none"):
        return ()
    steps = given if isinstance(given, list) else _name(given).split("-")
    return tuple(_name(step) for step in steps)


def _augment(given: Any) -> str:
    if given is None or given == "none":
        return "vanilla"
    return "-".join(_name(part) for part in given) if isinstance(given, list) and given else _name(given)


def _repeat(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise MedsegError(
            f"{given!r}: give repeats as whole numbers from 0, or how many there are (repeat: 3)"
        )
    return given


_LEVELS: dict[str, Callable[[Any], Any]] = {
    "dataset": _dataset,
    "preprocess": _preprocess,
    "augment": _augment,
    "repeat": _repeat,
}
