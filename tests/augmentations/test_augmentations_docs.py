"""What the pages about augmentation show is true."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from medseg.augmentations import AUGMENTATIONS, build, build_augments
from medseg.registry import Entry

DOCS = Path(__file__).resolve().parents[2] / "docs"


def shown(page: str, language: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    (block,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return block


def run(code: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run a page's file as if it lay in the room."""
    module = ModuleType("medseg.augmentations.shown")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # a file of its own must not inherit this one's future imports
    exec(compile(code, "page", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def test_the_augmentation_of_the_page_works(
    monkeypatch: pytest.MonkeyPatch, picture: Callable[..., np.ndarray], kind: type
) -> None:
    known = dict(AUGMENTATIONS._entries) if AUGMENTATIONS.names() else {}
    monkeypatch.setattr(AUGMENTATIONS, "_entries", dict(known))
    run(shown("extending/add_an_augmentation.md", "python"), monkeypatch)
    (name,) = set(AUGMENTATIONS.names()) - set(known)
    (augment,) = build(name, strength=1)
    negative = augment.change(picture(3, kind), augment.draw(np.random.default_rng(0), picture(3, kind)))
    white = 1 if kind is np.float32 else np.iinfo(kind).max
    assert negative.dtype == kind
    np.testing.assert_allclose(negative, white - picture(3, kind), rtol=1e-6)


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    space = run(shown("augmentation.md", "python"), monkeypatch)
    assert [name for name, _, _ in space["grown"]] == [a.name for a in space["augments"]]  # type: ignore[attr-defined]


def test_the_settings_are_accepted() -> None:
    settings = yaml.safe_load(shown("augmentation.md", "yaml"))
    augments = {a.name: a for a in build_augments(settings["augment_name"], settings["augment_arguments"])}
    assert augments["rotation"] == build("rotation", prob=0.5, angle=(-15, 15))[0]
    assert augments["gaussian_blur"] == build("gaussian_blur", sigma=1.5)[0]


def test_every_parameter_is_in_the_table() -> None:
    text = (DOCS / "augmentation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*)$", text, re.MULTILINE)
    named = {name: rest for names, rest in rows for name in re.findall(r"`(\w+)`", names)}

    def parameters(entry: Entry) -> set[str]:
        code = entry.build.__code__
        return set(code.co_varnames[: code.co_argcount]) - {"prob"}

    for entry in AUGMENTATIONS:
        assert parameters(entry) <= set(re.findall(r"`(\w+)`", named[entry.name])), entry.name
        for member in entry.facts.get("members", ()):
            assert entry.name == "all" or f"`{member}`" in named[entry.name]
