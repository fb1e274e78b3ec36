"""``medseg losses``, ``metrics`` and ``models``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from medseg.cli import main
from medseg.losses import LOSSES
from medseg.metrics import METRICS
from medseg.models import MODELS


def listed(command: str) -> dict[str, dict]:
    result = CliRunner().invoke(main, [command, "--format", "json"])
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.output)}


@pytest.mark.parametrize(("command", "room"), [("losses", LOSSES), ("metrics", METRICS), ("models", MODELS)])
def test_every_component_is_listed_with_its_facts(command: str, room) -> None:
    rows = listed(command)
    assert list(rows) == room.names()
    for entry in room:
        assert rows[entry.name]["summary"] == entry.summary
        assert set(entry.facts) <= set(rows[entry.name])


def test_the_facts() -> None:
    assert listed("metrics")["hd95"]["better"] == "lower"
    assert listed("losses")["iou_focal"]["parts"] == "iou + focal"
    rows = listed("models")
    assert (rows["unet"]["parameters"], rows["unet"]["divisor"]) == (31_037_633, 16)
    assert rows["unetplusplus"]["parameters"] == 9_042_276


@pytest.mark.parametrize("fmt", ["table", "csv", "md"])
def test_other_formats(fmt: str) -> None:
    result = CliRunner().invoke(main, ["losses", "--format", fmt])
    assert result.exit_code == 0
    assert all(name in result.output for name in LOSSES.names())
