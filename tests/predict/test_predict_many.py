"""Many inputs into one folder: what is written, what fails, and going on where a command was stopped."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.predict import session as module
from medseg.predict.inputs import Item
from medseg.predict.predict import Options, predict
from medseg.predict.predictor import Predictor, Settings
from medseg.predict.record import COLUMNS

CPU = Settings(device="cpu")


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def expected(bundle: Bundle, file: Path) -> np.ndarray:
    """The mask of one image by the predictor alone."""
    from medseg.data.images import read_picture

    return Predictor.of(bundle, CPU)([read_picture(file, 3)])[0].mask


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_images_get_masks_overlays_and_rows(bundle: Bundle, tmp_path: Path, files):
    first = files.png(tmp_path / "in" / "a.png", 1, (50, 40))
    second = files.png(tmp_path / "in" / "sub" / "a.png", 2)
    told: list[tuple[int, int]] = []
    out = tmp_path / "out"
    rows = predict(
        bundle, [tmp_path / "in"], out, CPU, progress=lambda done, total: told.append((done, total))
    )
    for name, file in (("a", first), ("sub/a", second)):
        mask = np.asarray(Image.open(out / "masks" / f"{name}.png"))
        assert (mask == expected(bundle, file) * 255).all()
        assert np.asarray(Image.open(out / "overlays" / f"{name}.png")).shape == (*mask.shape, 3)
    read = table(out)
    assert tuple(read[0]) == COLUMNS
    assert [(row["file"], row["outcome"], row["mask"]) for row in read] == [
        (str(first), "predicted", "masks/a.png"),
        (str(second), "predicted", "masks/sub/a.png"),
    ]
    assert [row["label"] for row in rows] == ["polyp", "polyp"]
    assert int(read[0]["area_px"]) == expected(bundle, first).sum()
    assert (read[0]["area_mm2"], read[0]["disagreement"]) == ("", "")
    assert told[-1] == (2, 2)


def test_a_bad_file_is_a_row_and_the_rest_goes_on(bundle: Bundle, tmp_path: Path, files):
    for name in ("a", "cut", "z"):
        files.png(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "cut.png").read_bytes()[:300])
    (tmp_path / "in" / "text.jpg").write_text("no image")
    (tmp_path / "in" / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "in" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rubbish")
    out = tmp_path / "out"
    predict(bundle, [tmp_path / "in", tmp_path / "gone.png"], out, CPU)
    outcomes = {Path(row["file"]).name: (row["outcome"], row["reason"]) for row in table(out)}
    assert {name for name, (outcome, _) in outcomes.items() if outcome == "predicted"} == {"a.png", "z.png"}
    assert "truncated" in outcomes["cut.png"][1]
    assert "not an image" in outcomes["text.jpg"][1]
    assert "cannot be read as NIfTI" in outcomes["empty.nii.gz"][1]
    assert "no such file" in outcomes["gone.png"][1]
    assert outcomes["broken.dcm"][0] == "failed"
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a.png", "z.png"]


def test_an_image_on_which_the_network_fails_does_not_take_its_batch_down(
    bundle: Bundle, tmp_path: Path, files, monkeypatch
):
    for number in range(3):
        files.png(tmp_path / "in" / f"{number}.png", number, (40, 30 + number))
    call = Predictor.__call__

    def fails(self: Predictor, pictures: Sequence) -> list:
        if any(picture.values.shape[2] == 31 for picture in pictures):
            raise RuntimeError("cannot do this one")
        return call(self, pictures)

    monkeypatch.setattr(Predictor, "__call__", fails)
    rows = predict(bundle, [tmp_path / "in"], tmp_path / "out", CPU)
    assert [row["outcome"] for row in rows] == ["predicted", "failed", "predicted"]
    assert rows[1]["reason"] == "RuntimeError: cannot do this one"


def test_volumes_keep_shape_affine_and_orientation(bundle: Bundle, tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 200, (20, 24, 5)).astype(np.int16)
    affine = np.array([[-0.5, 0, 0, 7], [0, 0, 2, 8], [0, -0.5, 0, 9], [0, 0, 0, 1]])
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    out = tmp_path / "out"
    rows = predict(bundle, [path], out, CPU, options=Options(probabilities=True))
    mask = nibabel.load(out / "masks" / "v.nii.gz")
    assert (mask.shape, mask.get_data_dtype()) == ((20, 24, 5), np.uint8)
    assert np.array_equal(mask.affine, affine)
    # slices are shown along the second axis, which points downwards
    assert [row["frame"] for row in rows] == list(range(24))
    stored = np.asarray(mask.dataobj)
    assert [row["area_px"] for row in rows] == [int(stored[:, 23 - k].sum()) for k in range(24)]
    assert rows[0]["area_mm2"] == pytest.approx(rows[0]["area_px"] * 0.5 * 2)
    with np.load(out / "probabilities" / "v.npz") as arrays:
        found = arrays["probabilities"]
        assert arrays["labels"].tolist() == ["polyp"]
    assert (found.shape, found.dtype) == ((24, 1, 5, 20), np.float16)
    assert abs(int((found >= 0.5).sum()) - int(stored.sum())) <= 0.01 * found.size


def test_a_series_is_one_segmentation_with_its_slices_in_order(bundle: Bundle, tmp_path: Path, files):
    from medseg.predict.dicom_seg import read_dicom_seg

    written = files.series(tmp_path / "ct", (4, 0, 2), (40, 36))
    out = tmp_path / "out"
    rows = predict(bundle, [tmp_path / "ct"], out, CPU)
    assert [row["file"] for row in rows] == [str(written[k]) for k in (1, 2, 0)]
    assert {row["mask"] for row in rows} == {"masks/ct.dcm"}
    assert {row["spacing"] for row in rows} == {"patient"}
    areas = [row["area_px"] for row in rows]
    assert [int(mask.sum()) for mask in read_dicom_seg(out / "masks" / "ct.dcm")] == areas
    assert [row["area_mm2"] for row in rows] == pytest.approx([area * 0.5 * 0.25 for area in areas])


def test_dicom_masks_can_be_nifti_or_png(bundle: Bundle, tmp_path: Path, files):
    files.series(tmp_path / "ct", (4, 0, 2), (40, 36))
    rows = predict(bundle, [tmp_path / "ct"], tmp_path / "n", CPU, options=Options(masks="nifti"))
    image = nibabel.load(tmp_path / "n" / "masks" / "ct.nii.gz")
    assert [int(np.asarray(image.dataobj)[..., k].sum()) for k in range(3)] == [
        row["area_px"] for row in rows
    ]
    assert np.diag(image.affine).tolist() == [-0.25, -0.5, 2, 1]
    rows = predict(bundle, [tmp_path / "ct"], tmp_path / "p", CPU, options=Options(masks="png"))
    assert [row["mask"] for row in rows] == [f"masks/ct_slices/000{k}.png" for k in range(3)]
    masks = [np.asarray(Image.open(tmp_path / "p" / row["mask"])) for row in rows]
    assert [int((mask == 255).sum()) for mask in masks] == [row["area_px"] for row in rows]


@pytest.mark.parametrize("kind", ["nifti", "dicom-seg"])
def test_a_kind_of_mask_that_does_not_fit_is_told(bundle: Bundle, tmp_path: Path, files, kind):
    (row,) = predict(
        bundle, [files.png(tmp_path / "a.png")], tmp_path / "out", CPU, options=Options(masks=kind)
    )
    assert row["outcome"] == "failed"
    assert "give --masks" in row["reason"]
    with pytest.raises(MedsegError, match="masks must be one of auto, png"):
        Options(masks="jpeg")


def test_a_series_with_a_broken_slice_is_predicted_file_by_file(bundle: Bundle, tmp_path: Path, files):
    written = files.series(tmp_path / "ct", (0, 2, 4), (40, 36))
    written[1].write_bytes(written[1].read_bytes()[:-1000])
    rows = predict(bundle, [tmp_path / "ct"], tmp_path / "out", CPU)
    assert [row["outcome"] for row in rows] == ["predicted", "failed", "predicted"]
    assert all("its series is no volume: 1.dcm " in rows[k]["reason"] for k in (0, 2))
    assert len({row["mask"] for row in rows if "mask" in row}) == 2


def test_a_slice_that_does_not_decode_fails_its_series_and_says_the_way_out(
    bundle: Bundle, tmp_path: Path, files, monkeypatch
):
    from medseg.data.faults import FileFault

    written = files.series(tmp_path / "ct", (0, 2, 4), (40, 36))
    read = Item.read

    def fails(self: Item, frame: int, channels: int):
        if self.place(frame)[0] == written[1]:
            raise FileFault(written[1], "does not decode", "replace it")
        return read(self, frame, channels)

    monkeypatch.setattr(Item, "read", fails)
    told: list[tuple[int, int]] = []
    (row,) = predict(
        bundle,
        [tmp_path / "ct"],
        tmp_path / "out",
        CPU,
        progress=lambda done, total: told.append((done, total)),
    )
    assert row["reason"] == "1.dcm: does not decode; replace it; --no-series predicts the other slices"
    assert told[-1] == (3, 3)
    rows = predict(bundle, [tmp_path / "ct"], tmp_path / "alone", CPU, options=Options(series=False))
    assert [row["outcome"] for row in rows] == ["predicted", "failed", "predicted"]


def test_several_labels_are_numbers_in_the_mask_and_rows_of_the_table(bundle: Bundle, tmp_path: Path, files):
    from medseg.models import build

    config = bundle.config("inference")
    config.write_text(config.read_text().replace("classes: 1", "classes: 3"))
    path = bundle.root / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["medseg"]["labels"] = [{"name": "polyp"}, {"name": "tool"}]
    path.write_text(json.dumps(metadata))
    torch.manual_seed(0)
    network = build("unet", {"widths": [4, 8]}, in_channels=3, out_channels=3)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    rows = predict(bundle, [files.png(tmp_path / "a.png")], tmp_path / "out", Settings("cpu", threshold=0.3))
    assert [row["label"] for row in rows] == ["polyp", "tool"]
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert mask.any()
    assert [row["area_px"] for row in rows] == [int((mask == k).sum()) for k in (1, 2)]


def test_what_is_done_is_kept_and_what_failed_is_tried_again(bundle: Bundle, tmp_path: Path, files):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(3):
        files.png(folder / f"{number}.png", number)
    (folder / "bad.png").write_text("no image")
    first = predict(bundle, [folder], out, CPU)
    before = stamps(out / "masks")
    (out / "masks" / "1.png").unlink()
    files.png(folder / "2.png", 9)
    files.png(folder / "bad.png", 5)
    second = predict(bundle, [folder], out, CPU)
    after = stamps(out / "masks")
    assert after["0.png"] == before["0.png"]
    assert after["2.png"] != before["2.png"]
    assert "1.png" in after
    assert [row["outcome"] for row in first] == [*["predicted"] * 3, "failed"]
    assert [row["outcome"] for row in second] == ["predicted"] * 4
    assert first[:2] == second[:2]
    assert len(table(out)) == 4


class Stopped(BaseException):
    """As Ctrl-C."""


def test_a_stopped_command_goes_on(bundle: Bundle, tmp_path: Path, files):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(6):
        files.png(folder / f"{number}.png", number)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Stopped

    one_by_one = Settings("cpu", batch_size=1)
    with pytest.raises(Stopped):
        predict(bundle, [folder], out, one_by_one, progress=stop)
    assert len(table(out)) == 3
    before = stamps(out / "masks")
    rows = predict(bundle, [folder], out, one_by_one)
    assert len(rows) == len(table(out)) == 6
    assert before.items() <= stamps(out / "masks").items()


def test_predictions_made_otherwise_are_not_mixed(bundle: Bundle, tmp_path: Path, files):
    file, out = files.png(tmp_path / "a.png"), tmp_path / "out"
    predict(bundle, [file], out, CPU)
    with pytest.raises(MedsegError, match=r"made otherwise \(threshold 0.5, now 0.4\); give another folder"):
        predict(bundle, [file], out, Settings("cpu", threshold=0.4))
    with pytest.raises(MedsegError, match="made otherwise .inputs"):
        predict(bundle, [tmp_path], out, CPU)
    again = json.loads((metadata := bundle.root / "configs" / "metadata.json").read_text())
    metadata.write_text(json.dumps({**again, "medseg": {**again["medseg"], "labels": [{"name": "tool"}]}}))
    with pytest.raises(MedsegError, match="made otherwise .labels"):
        predict(Bundle(bundle.root), [file], out, CPU)
    metadata.write_text(json.dumps(again))
    # how fast it goes does not matter
    predict(bundle, [file], out, Settings("cpu", batch_size=1))
    state = torch.load(bundle.root / "models" / "model.pt", weights_only=True)
    torch.save({name: values * 1.5 for name, values in state.items()}, bundle.root / "models" / "model.pt")
    with pytest.raises(MedsegError, match="made otherwise .weights"):
        predict(bundle, [file], out, CPU)
    predict(bundle, [file], out, CPU, options=Options(overwrite=True))
    assert json.loads((out / "predict.json").read_text())["run"]["threshold"] == 0.5


def test_a_broken_record_is_told(bundle: Bundle, tmp_path: Path, files):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predict.json").write_text("{")
    with pytest.raises(MedsegError, match="not a record of predictions"):
        predict(bundle, [files.png(tmp_path / "a.png")], tmp_path / "out", CPU)


def test_a_folder_of_another_run_is_no_input(bundle: Bundle, tmp_path: Path, files):
    files.png(tmp_path / "in" / "a.png")
    for name in ("first", "second"):
        rows = predict(bundle, [tmp_path / "in"], tmp_path / "in" / name, CPU)
        assert [row["mask"] for row in rows] == ["masks/a.png"]


def test_names_that_are_long_or_no_utf_8_are_written(bundle: Bundle, tmp_path: Path, files):
    """The most that disks take are 255 bytes."""
    file = os.fsencode(files.png(tmp_path / "in" / f"{'x' * 251}.png"))
    os.link(file, file.replace(b"x" * 251, b"a\xff"))
    rows = predict(bundle, [tmp_path / "in"], tmp_path / "out", CPU)
    assert [row["outcome"] for row in rows] == ["predicted", "predicted"]
    assert [row["file"] for row in table(tmp_path / "out")] == [
        str(tmp_path / "in" / "a\\udcff.png"),
        os.fsdecode(file),
    ]
    assert all((tmp_path / "out" / row["mask"]).is_file() for row in rows)


def test_another_folder_of_the_same_name_is_not_taken_for_done(
    bundle: Bundle, tmp_path: Path, files, monkeypatch
):
    """Files of equal name, size and time, as unpacked ones may be, from where the command is given again."""
    for number, folder in enumerate(("one", "two")):
        file = files.png(tmp_path / folder / "in" / "a.png", number)
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
        os.utime(file.with_suffix(".bmp"), (0, 0))
    masks = []
    for folder in ("one", "two"):
        monkeypatch.chdir(tmp_path / folder)
        predict(bundle, [Path("in")], tmp_path / "out", CPU)
        masks.append((tmp_path / "out" / "masks" / "a.png").read_bytes())
        expected_mask = expected(bundle, Path("in/a.bmp")) * 255
        assert (np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png")) == expected_mask).all()
    assert masks[0] != masks[1]


def test_outputs_within_the_input_folder_are_no_inputs(bundle: Bundle, tmp_path: Path, files):
    files.png(tmp_path / "in" / "a.png")
    for _ in range(2):
        rows = predict(bundle, [tmp_path / "in"], tmp_path / "in" / "out", CPU)
        assert [row["mask"] for row in rows] == ["masks/a.png"]


def test_large_pictures_do_not_wait_for_a_full_batch(bundle: Bundle, tmp_path: Path, files, monkeypatch):
    monkeypatch.setattr(module, "WAITING", 2 * 40 * 30)
    sizes: list[int] = []
    call = Predictor.__call__
    monkeypatch.setattr(
        Predictor, "__call__", lambda self, pictures: sizes.append(len(pictures)) or call(self, pictures)
    )
    for number in range(5):
        files.png(tmp_path / "in" / f"{number}.png", number)
    predict(bundle, [tmp_path / "in"], tmp_path / "out", CPU, options=Options(overlays=False))
    assert sizes == [2, 2, 1]
    assert not (tmp_path / "out" / "overlays").exists()


def test_no_patient_data_but_names_of_files_leaves_in_tables_and_pictures(
    bundle: Bundle, tmp_path: Path, files
):
    files.dicom(
        tmp_path / "in" / "x.dcm", np.zeros((40, 40)), PatientName="Unique^Name", PatientID="SECRET77"
    )
    predict(
        bundle, [tmp_path / "in"], tmp_path / "out", CPU, options=Options(masks="png", probabilities=True)
    )
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 5
    for path in written:
        content = path.read_bytes()
        assert b"Unique" not in content
        assert b"SECRET77" not in content
