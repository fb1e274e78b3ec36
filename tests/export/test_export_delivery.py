"""Exporting keeps only what passed its check, and leaves nothing else behind."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export.check import Mismatch
from medseg.export.delivery import export
from medseg.export.examples import MOST, images_at, spread


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_exporter_says_what_it_writes() -> None:
    assert {"hub-folder", "onnx", "tensorrt", "torchscript", "zip"} <= set(EXPORTERS.names())
    for entry in EXPORTERS:
        assert entry.facts["form"] in ("file", "folder") and 0 < entry.facts["tolerance"] <= 0.01
        assert bool(entry.facts.get("suffix")) == (entry.facts["form"] == "file")


def test_a_file_that_differs_is_not_kept(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.export import torchscript

    def spoilt(network: torch.nn.Module, *rest: Any) -> str:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.05
        note = original(network, *rest)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05
        return note

    original = torchscript.write_torchscript
    monkeypatch.setattr(torchscript, "write_torchscript", spoilt)
    with pytest.raises(Mismatch, match=r"torchscript: the written net.ts differs from PyTorch .* not kept"):
        export("torchscript", made, tmp_path / "net.ts")
    assert left(tmp_path) == []
    assert export("torchscript", made, tmp_path / "net.ts", tolerance=1.0).tolerance == 1.0
    assert left(tmp_path) == ["net.ts"]


def test_an_exporter_that_fails_leaves_nothing(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.export import torchscript

    def broken(network: object, recipe: object, path: Path, metadata: object) -> str:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torchscript, "write_torchscript", broken)
    with pytest.raises(KeyboardInterrupt):
        export("torchscript", made, tmp_path / "net.ts")
    assert left(tmp_path) == []


def test_nothing_is_overwritten(made: Bundle, tmp_path: Path) -> None:
    (tmp_path / "net.ts").write_text("mine")
    with pytest.raises(MedsegError, match=r"net.ts exists; remove it, or give another place with -o"):
        export("torchscript", made, tmp_path / "net.ts")
    assert (tmp_path / "net.ts").read_text() == "mine"


def test_synthetic_images_are_said_to_be_synthetic(made: Bundle, tmp_path: Path) -> None:
    check = export("torchscript", made, tmp_path / "net.ts")
    assert (check.inputs, check.source) == (4, "synthetic images")


def test_weights_of_a_repeat(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.root / "models" / "model.pt").unlink()
    with pytest.raises(MedsegError, match="no weights at models/model.pt; it has the repeats 0"):
        export("torchscript", bundle, tmp_path / "a.ts")
    assert export("torchscript", bundle, tmp_path / "a.ts", repeat="0").passed


def test_metadata_with_a_local_path_do_not_leave(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.root / "configs" / "metadata.json"
    path.write_text(path.read_text().replace("Research only", "see /home/jane/scans"))
    with pytest.raises(
        MedsegError, match=r"configs/metadata.json: intended_use holds the local path '/home/jane"
    ):
        export("torchscript", bundle, tmp_path / "a.ts")


def test_tensorrt_says_what_is_missing(made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(
            MedsegError, match="needs the package tensorrt, which is not installed; pip install"
        ):
            export("tensorrt", made, tmp_path / "a.engine")
    fake = types.ModuleType("tensorrt")
    fake.__spec__ = importlib.util.spec_from_loader("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MedsegError, match="needs a CUDA GPU, and PyTorch finds none; export where"):
        export("tensorrt", made, tmp_path / "a.engine")
    assert left(tmp_path) == []


@pytest.mark.cuda
def test_tensorrt_engine(made: Bundle, images: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt")
    check = export("tensorrt", made, tmp_path / "a.engine", images)
    assert check.inputs == 3 and check.difference.probabilities < 1e-3


def test_images_are_taken_evenly(tmp_path: Path, images: list[Path]) -> None:
    many = [Path(f"{number}.png") for number in range(100)]
    chosen = spread(many)
    assert len(chosen) == MOST == len(set(chosen)) and chosen[0] == many[0] and chosen[-1] == many[-1]
    assert spread(many[:MOST]) == many[:MOST]
    assert images_at([images[0].parent]) == images
    with pytest.raises(MedsegError, match="no such file or folder"):
        images_at([tmp_path / "none"])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MedsegError, match="holds no image"):
        images_at([tmp_path])
