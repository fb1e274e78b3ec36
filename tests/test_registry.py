"""The registry: what is found, what is refused, and in which words."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.errors import MedsegError
from medseg.registry import Registry


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A package of three components in two files, and a private file that must not be imported."""
    files = {
        "__init__.py": """
            from medseg.registry import Registry
            SHAPES = Registry("shape", __name__)
            """,
        "round.py": '''
            from shapes_room import SHAPES

            @SHAPES.register("disc", sides=0)
            def disc(radius, centre=(0, 0)):
                """A disc, filled
                to its edge.

                More words.
                """
                return ("disc", radius, centre)

            @SHAPES.register("ball", task="classification", sides=0)
            class Ball:
                """A ball."""
            ''',
        "flat.py": '''
            from shapes_room import SHAPES

            @SHAPES.register("square", sides=4)
            def square():
                """A square."""
                return "square"
            ''',
        "_private.py": "raise RuntimeError('a private file was imported')",
    }
    package = tmp_path / "shapes_room"
    package.mkdir()
    for name, text in files.items():
        (package / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    from shapes_room import SHAPES  # type: ignore[import-not-found]

    yield SHAPES
    for name in [n for n in sys.modules if n.split(".")[0] == "shapes_room"]:
        del sys.modules[name]


def test_a_new_file_is_enough(room: Registry) -> None:
    assert room.names() == ["ball", "disc", "square"]
    assert room.names("segmentation") == ["disc", "square"]
    assert room.names("classification") == ["ball"]
    assert [entry.name for entry in room] == room.names()


def test_nothing_is_imported_before_first_use(room: Registry) -> None:
    assert "shapes_room.round" not in sys.modules
    assert "disc" in room
    assert "shapes_room.round" in sys.modules


def test_facts_and_documentation_travel_with_the_component(room: Registry) -> None:
    entry = room["disc"]
    assert (entry.name, entry.task, entry.facts) == ("disc", "segmentation", {"sides": 0})
    assert entry.summary == "A disc, filled to its edge."
    assert entry.doc.endswith("More words.")


def test_build(room: Registry) -> None:
    assert room.build("disc", radius=2) == ("disc", 2, (0, 0))
    assert type(room.build("ball")).__name__ == "Ball"


def test_unknown_names_answer_with_the_nearest(room: Registry) -> None:
    with pytest.raises(
        MedsegError, match=r"unknown shape 'disk'\. Did you mean 'disc'\? Known: ball, disc, square"
    ):
        room["disk"]
    with pytest.raises(MedsegError, match=r"unknown shape 'zzz'\. Known: ball, disc, square"):
        room.build("zzz")
    assert "disk" not in room


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "shape 'disc': missing a required argument: 'radius'; it takes radius, centre"),
        (
            {"radius": 1, "edge": 2},
            "shape 'disc': got an unexpected keyword argument 'edge'; it takes radius, centre",
        ),
    ],
)
def test_wrong_arguments(room: Registry, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        room.build("disc", **arguments)


def test_an_error_inside_a_component_is_not_taken_for_the_users(room: Registry) -> None:
    @room.register("broken")
    def broken() -> None:
        """A component with a defect."""
        len(None)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="NoneType"):
        room.build("broken")


def test_a_name_is_registered_once(room: Registry) -> None:
    assert "disc" in room
    with pytest.raises(ValueError, match="shape 'disc' is registered twice"):
        room.register("disc")(lambda: None)
