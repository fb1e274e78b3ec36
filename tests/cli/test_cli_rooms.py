"""``medseg losses``, ``metrics`` and ``models``."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from medseg.cli import main
from medseg.losses import LOSSES
from medseg.metrics import METRICS
from medseg.metrics.classification import CLASS_METRICS
from medseg.models import MODELS
from medseg.registry import Entry


def listed(command: str) -> dict[str, dict]:
    result = CliRunner().invoke(main, [command, "--format", "json"])
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.output)}


def test_metrics_of_both_tasks_are_listed() -> None:
    rows = json.loads(CliRunner().invoke(main, ["metrics", "--format", "json"]).output)
    for task, room in (("segmentation", METRICS), ("classification", CLASS_METRICS)):
        found = {row["name"]: row for row in rows if row["task"] == task}
        assert list(found) == room.names()
        for entry in room:
            facts = {key: found[entry.name][key] for key in ("summary", "better", "unit", "needs")}
            assert facts == {
                "summary": entry.summary,
                **{k: entry.facts[k] for k in ("better", "unit", "needs")},
            }


@pytest.mark.parametrize(("command", "room"), [("losses", LOSSES), ("models", MODELS)])
def test_every_component_is_listed_with_its_facts(command: str, room) -> None:
    rows = listed(command)
    assert list(rows) == room.names()
    for entry in room:
        assert rows[entry.name]["summary"] == entry.summary
        assert set(entry.facts) <= set(rows[entry.name])


def test_the_facts() -> None:
    assert listed("metrics")["hd95"]["better"] == "lower"
    assert listed("losses")["iou_focal"]["parts"] == "iou + focal"


def test_models_have_exact_numbers_for_machines() -> None:
    unet = listed("models")["unet"]
    assert (unet["parameters"], unet["published_parameters"], unet["divisor"]) == (31_037_633, 31_037_633, 16)
    assert unet["macs"] == 36_878_155_776
    assert unet["small"] == "{widths: [4, 8, 16]}", "as --set model_arguments takes it"


def test_numbers_of_models_stay_whole_where_another_model_lacks_one(two_models: dict) -> None:
    rows = json.loads(ran("models", "--format", "json"))
    assert [row["published_macs"] for row in rows] == [123_456_789_000, None]
    first, second = ran("models", "--format", "csv").splitlines()[1:]
    assert ",123456789000," in first and "123456789000" not in second


def ran(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Two models in the room, the second without published figures, that raise if they are built."""

    def build(in_channels: int, out_channels: int) -> None:
        """A model of a test (arXiv:1234.56789)."""
        raise AssertionError("a table needs no network")

    facts = {
        "parameters": 1_234_567,
        "macs": 123_456_789_000,
        "published_macs": 123_456_789_000,
        "backbone": "PVTv2-B2",
        "pretrained": ("a.in1k", "b.in1k"),
        "paper": "arXiv:1234.56789",
        "licence": "written from the paper; the authors' code has no licence, and this note is longer than a line",
    }
    plain = {"parameters": 999, "macs": 49_000_000, "paper": "none", "licence": "free"}
    entries = {
        "first": Entry("first", build, "segmentation", facts),
        "second": Entry("second", build, "", plain),
    }
    monkeypatch.setattr(MODELS, "_entries", entries)
    return facts


def test_the_table_of_models_has_round_numbers_and_the_licences_below(two_models: dict) -> None:
    table, _, below = ran("models").partition("Licences:\n")
    assert re.search(r"first +│ +1\.2 M +│ +123\.5 G +│ PVTv2-B2 +│ arXiv:1234\.56789", table)
    assert re.search(r"second +│ +0\.001 M +│ +0\.05 G +│ +│ none", table)
    assert two_models["licence"] not in table
    assert " ".join(below.split()) == f"first: {two_models['licence']} second: free"


def test_a_licence_is_named_once_for_all_its_models(two_models: dict) -> None:
    MODELS["second"].facts["licence"] = two_models["licence"]
    assert f"first, second: {two_models['licence']}" in " ".join(ran("models").split())


def test_the_table_of_models_as_markdown_has_the_licence_in_its_row(two_models: dict) -> None:
    first = ran("models", "--format", "md").splitlines()[2]
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "first",
        "1.2 M",
        "123.5 G",
        "PVTv2-B2",
        "arXiv:1234.56789",
        two_models["licence"],
    ]


def test_the_table_of_models_fits_a_terminal_of_80_columns() -> None:
    from medseg.cli.rooms import overview

    frame = overview(MODELS)
    widest = {column: max(len(column), frame[column].str.len().max()) for column in frame}
    # what cannot be folded, a border for each column, and at least one backbone and the number of a paper
    assert sum(widest[c] for c in ("name", "params", "MACs")) + 5 * 3 + 1 + 16 + 16 <= 80


def test_listing_models_loads_no_library_of_backbones() -> None:
    code = (
        "import sys; from medseg.cli import main; main(['models'], standalone_mode=False);"
        "print('loaded', *{'timm', 'torchvision', 'segmentation_models_pytorch'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded"]


@pytest.mark.parametrize("fmt", ["table", "csv", "md"])
def test_other_formats(fmt: str) -> None:
    result = CliRunner().invoke(main, ["losses", "--format", fmt])
    assert result.exit_code == 0
    assert all(name in result.output for name in LOSSES.names())
