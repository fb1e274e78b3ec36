"""ONNX: valid by the format's own checker, any batch under ONNX Runtime, nothing of this machine inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.bundle.network import read_recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import onnx as exporting
from medseg.export.check import Mismatch
from medseg.export.delivery import export
from medseg.export.onnx import write_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BOTH = ("dynamo", "traced")


@pytest.fixture(scope="module")
def file(made: Bundle, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    check = export("onnx", made, tmp_path_factory.mktemp("onnx") / "net.onnx", images)
    assert check.inputs == 3 and check.source == "real images" and check.difference.probabilities < 1e-5
    return check.path


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_any_batch_gives_pytorchs_answers(file: Path, reference: torch.nn.Module, batch: int) -> None:
    given = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    (logits,) = session(file).run(["pred"], {"image": given.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, reference(given).numpy(), atol=1e-5)


def test_names_and_shapes(file: Path) -> None:
    (image,), (pred,) = session(file).get_inputs(), session(file).get_outputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(float)", [3, 32, 32])
    assert (pred.name, pred.shape[1:]) == ("pred", [1, 32, 32])
    assert isinstance(image.shape[0], str)  # a name and no number: any batch


def test_says_what_it_is_and_nothing_of_this_machine(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert next(o.version for o in model.opset_import if o.domain == "") >= 17
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["name"] == "busi_benign__unet__dice"
    assert json.loads(told["medseg"])["activation"] == "sigmoid"
    data = file.read_bytes()
    here = [str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), "stack_trace"]
    assert not any(text.encode() in data for text in here)


def test_older_exporter_gives_the_same(made: Bundle, reference: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    assert write_onnx(reference, read_recipe(made), path, {"name": "x"}, "traced") == "traced"
    batch = torch.rand(5, 3, 32, 32)
    (logits,) = session(path).run(["pred"], {"image": batch.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, reference(batch).numpy(), atol=1e-5)
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


def test_a_file_that_onnx_runtime_cannot_run_falls_back_too(
    made: Bundle, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.write_onnx

    def broken(network: object, recipe: object, path: Path, metadata: object, exporter: str = "auto") -> str:
        if exporter == "traced":
            return real(network, recipe, path, metadata, exporter)
        path.write_bytes(b"no graph")
        return exporter

    monkeypatch.setattr(exporting, "write_onnx", broken)
    monkeypatch.setattr(exporting, "_exporters", lambda exporter: ("dynamo", "traced"))
    check = export("onnx", made, tmp_path / "a.onnx", images)
    assert check.notes[0] == "traced; opset 17"
    monkeypatch.setattr(exporting, "_exporters", lambda exporter: ("dynamo",))
    with pytest.raises(MedsegError, match="ONNX Runtime cannot run the written network"):
        export("onnx", made, tmp_path / "b.onnx", images)


def test_falls_back_to_the_older_exporter_and_names_both_faults(
    made: Bundle, reference: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: object, recipe: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no such operator")

    recipe = read_recipe(made)
    monkeypatch.setitem(exporting._WRITERS, "dynamo", broken)
    monkeypatch.setattr(exporting, "_exporters", lambda exporter: ("dynamo", "traced"))
    assert write_onnx(reference, recipe, tmp_path / "a.onnx", {}) == "traced"
    monkeypatch.setitem(exporting._WRITERS, "traced", broken)
    with pytest.raises(
        MedsegError, match=r"unet cannot become ONNX \(dynamo: no such operator; traced: no such"
    ):
        write_onnx(reference, recipe, tmp_path / "b.onnx", {})
    assert not (tmp_path / "b.onnx").exists()


def test_falls_back_where_the_answers_differ(
    made: Bundle, reference: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: torch.nn.Module, recipe: object, path: Path) -> None:
        exporting._write_traced(torch.nn.Sequential(network, torch.nn.Tanh()).eval(), read_recipe(made), path)

    monkeypatch.setitem(exporting._WRITERS, "dynamo", wrong)
    monkeypatch.setattr(exporting, "_exporters", lambda given: BOTH if given == "auto" else (given,))
    check = export("onnx", made, tmp_path / "a.onnx")
    assert check.passed and check.notes[0] == "traced; opset 17"
    monkeypatch.setitem(exporting._WRITERS, "traced", wrong)
    with pytest.raises(Mismatch, match="onnx: the written b.onnx differs from PyTorch"):
        export("onnx", made, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_unknown_exporter(made: Bundle, reference: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="exporter is 'new'; give auto, dynamo or traced"):
        write_onnx(reference, read_recipe(made), tmp_path / "a.onnx", {}, "new")
