"""``medseg bundle export``, ``import`` and ``inspect`` at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.cli import main
from medseg.cli.exchange import TARGETS
from medseg.export import EXPORTERS

NAME = "discs__unet__dice"


@pytest.fixture
def trained(workspace: Path) -> Bundle:
    """A bundle of the workspace's discs with random weights, in ``bundles/``."""
    settings = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
    bundle = compose(Choice("discs", "unet", "dice"), Path("bundles"), settings, prepared=Path("prepared"))
    network = build_network(read_recipe(bundle), None)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


@pytest.fixture
def without_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI's own loader takes seconds to start; the tests of export ask it."""
    monkeypatch.setattr("medseg.export.archive.answers_of_monai", lambda *given: [])


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bundle", *arguments])


def test_targets_are_the_exporters() -> None:
    assert list(TARGETS) == EXPORTERS.names()


def test_export_checks_on_the_data_sets_images(trained: Bundle) -> None:
    done = call("export", NAME, "--to", "torchscript", "-o", "out/net.ts", "--format", "json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.output)
    assert (row["target"], row["path"], row["inputs"]) == ("torchscript", "out/net.ts", 24)
    assert row["source"] == "real images" and row["mask pixels differing"] == 0
    assert row["max probability diff"] <= row["tolerance"] == 1e-4
    assert Path("out/net.ts").is_file() and [p.name for p in Path("out").iterdir()] == ["net.ts"]


def test_export_tells_when_images_are_synthetic(trained: Bundle) -> None:
    done = call("export", NAME, "--to", "torchscript", "-o", "net.ts", "--prepared", "none")
    assert done.exit_code == 0 and "synthetic images" in done.stdout
    assert "give real ones with --inputs" in done.stderr


def test_a_failed_check_exits_1_and_keeps_nothing(trained: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.export import torchscript
    from medseg.export.check import Difference

    def far(*given: Any) -> Any:
        from medseg.export.check import Check

        return Check("torchscript", given[1], 24, "real images", Difference(0.25, 0.125, 3.0), given[6])

    monkeypatch.setattr(torchscript, "checked", far)
    done = call("export", NAME, "--to", "torchscript", "-o", "net.ts")
    assert done.exit_code == 1 and not Path("net.ts").exists()
    assert "differs from PyTorch by 0.25 in a probability and in 12.500% of the mask pixels" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--to", "onnx", "--script"), "--script is of --to zip, not of onnx"),
        (("--to", "zip", "--half"), "--half is of --to tensorrt, not of zip"),
        (("--to", "zip", "--repeat", "7"), "no weights at repeats/7/model.pt"),
        (("--to", "zip", "--inputs", "none.png"), "none.png: no such file or folder"),
    ],
)
def test_mistakes_are_told_in_one_line(trained: Bundle, arguments: tuple[str, ...], reason: str) -> None:
    done = call("export", NAME, *arguments, "-o", "out.x")
    assert done.exit_code == 2 and reason in done.stderr and done.stderr.count("\n") == 1
    assert not Path("out.x").exists()


def test_zip_goes_out_and_comes_in(trained: Bundle, without_monai: None) -> None:
    assert call("export", NAME, "--to", "zip", "-o", "a.zip", "--inputs", "source/images").exit_code == 0
    done = call("import", "a.zip", "--bundles", "others")
    assert done.exit_code == 0 and Path(done.output.strip()) == Path("others", NAME).resolve()
    assert (Path("others") / NAME / "models" / "model.pt").is_file()
    again = call("import", "a.zip", "--bundles", "others")
    assert again.exit_code == 2 and "exists; remove it" in again.stderr


def test_foreign_parts_are_listed_and_taken_on_trust(trained: Bundle, without_monai: None) -> None:
    path = trained.config("inference")
    path.write_text(path.read_text().replace("$@evaluator.run()", "$print('hello')"))
    assert call("export", NAME, "--to", "zip", "-o", "a.zip").exit_code == 0
    refused = call("import", "a.zip", "--bundles", "others")
    assert (
        refused.exit_code == 2
        and "configs/inference.yaml: run::0 expression $print('hello')" in refused.stderr
    )
    told = call("inspect", "a.zip", "--format", "json")
    assert told.exit_code == 0 and "hello" in told.output
    taken = call("import", "a.zip", "--bundles", "others", "--trust")
    assert taken.exit_code == 0 and "1 part(s) are not of medseg's template" in taken.stderr


def test_inspect_tells_all_in_json(trained: Bundle) -> None:
    done = call("inspect", NAME, "--format", "json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["name"] == NAME and told["faults"] == []
    assert all(one["of_template"] for one in told["executables"])
    assert told["weights"]["finite"] and told["knobs"]["image_size"] == [32, 32]
    assert {one["path"] for one in told["files"]} >= {"models/model.pt", "configs/train.yaml"}


def test_inspect_tells_people(trained: Bundle) -> None:
    done = call("inspect", NAME)
    assert "are of medseg's own template, 0 not" in done.output and "all finite" in done.output
    assert "SimpleInferer" not in done.output
    everything = call("inspect", NAME, "--all")
    assert "imports and calls SimpleInferer" in everything.output
    (trained.root / "models" / "model.pt").write_bytes(b"broken")
    broken = call("inspect", NAME)
    assert broken.exit_code == 1 and "cannot be read as plain tensors" in broken.output


def test_what_a_terminal_would_obey_or_hide_is_spelt_out(trained: Bundle) -> None:
    """A foreign part must not clear the screen, conceal itself or change the direction of the text."""
    path = trained.config("inference")
    path.write_text(path.read_text() + '"\\e[2Kown\\u202e": "$\\e[8m1 \\\\[/x]"\n')
    for fmt in ("table", "md"):
        told = call("inspect", NAME, "--format", fmt).output
        assert "\x1b" not in told and "\u202e" not in told
        assert "\\x1b[2Kown\\u202e" in told and "$\\x1b[8m1 \\[/x]" in told
    refused = call("import", str(trained.root), "--bundles", "others", "--trust")
    assert "\x1b" not in refused.output + refused.stderr


def test_inspect_of_nothing(workspace: Path) -> None:
    done = call("inspect", "none")
    assert done.exit_code == 2 and "unknown bundle 'none'" in done.stderr
