"""The examples in ``bundles/`` are what ``bundle create`` gives today, one per data set, and sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle, bundles_in
from medseg.bundle.verify import verify
from medseg.data.datasets import DATASETS

FOLDER = Path(__file__).resolve().parents[2] / "bundles"
EXAMPLES = bundles_in(FOLDER)
#: what training adds
GENERATED = ("models", "repeats", "predictions")


def content(root: Path) -> dict[str, str]:
    files = (p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0] not in GENERATED)
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in files}


def test_there_is_one_for_every_data_set() -> None:
    assert {Choice.parse(b.name).dataset for b in EXAMPLES} >= set(DATASETS.names())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda b: b.name)
def test_create_gives_exactly_the_example(example: Bundle, tmp_path: Path) -> None:
    made = content(compose(Choice.parse(example.name), tmp_path, prepared=tmp_path).root)
    kept = content(example.root)
    assert sorted(made) == sorted(kept)
    for file, text in made.items():
        assert text == kept[file], (
            f"{example.name}/{file}: remake it with 'medseg bundle create {example.name}'"
        )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda b: b.name)
def test_the_example_is_sound(example: Bundle) -> None:
    assert verify(example, execute=False) == []


def test_the_network_of_an_example_keeps_its_promise() -> None:
    smallest = min(
        EXAMPLES, key=lambda b: b.metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    )
    assert verify(smallest, execute=True) == []
