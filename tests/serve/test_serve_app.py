"""The addresses: one file in; numbers, pictures and masks out; nothing left."""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
import threading
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from skimage.measure import label as components
from starlette.testclient import TestClient

from medseg.data.nifti import read_labels
from medseg.data.sample import Label
from medseg.predict.predictor import Predictor
from medseg.serve.app import Service, build_app
from medseg.serve.pictures import encode

PICTURES = ["mask.png", "overlay.png", "probability.png"]
DICOM = Path(pydicom.data.__file__).parent / "test_files"


def pixels(reply) -> np.ndarray:
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(reply.content)))


def result(served, sent, name: str, **query) -> np.ndarray:
    return pixels(served.client.get(f"/api/results/{sent['id']}/{name}", params=query))


def two_labels() -> np.ndarray:
    """Where the labels of ``squares`` lie, by hand."""
    mask = np.zeros((20, 30), np.uint8)
    mask[1:4, 1:5] = 1
    mask[5:7, 10:14] = mask[7:9, 14:18] = mask[15:17, 20:22] = 2
    return mask


def test_the_bundle_is_described(served):
    told = served.client.get("/api/bundle").json()
    assert told["name"] == "discs__unet__dice_bce"
    assert [label["name"] for label in told["labels"]] == ["pale", "bright"]
    assert [label["number"] for label in told["labels"]] == [1, 2]
    assert (told["channels"], told["image_size"], told["max_bytes"]) == (1, [32, 32], 256_000_000)
    assert "Research use only" in told["note"]


def test_measures_are_those_drawn_by_hand(served, make_png):
    told = served.post(make_png()).json()
    (frame,) = told["frames"]
    assert (frame["height"], frame["width"], frame["spacing"]) == (20, 30, None)
    pale, bright = frame["measures"]
    assert (pale["label"], pale["area_px"], pale["area_mm2"], pale["lesions"]) == (1, 12, None, 1)
    # two squares that touch at a corner, and one apart
    assert (bright["label"], bright["area_px"], bright["lesions"]) == (2, 20, 2)
    assert (pale["mean_probability"], bright["mean_probability"]) == pytest.approx((0.6, 0.9))
    # -(0.6 log2 0.6 + 0.4 log2 0.4) and -(0.9 log2 0.9 + 0.1 log2 0.1)
    assert (pale["uncertainty"], bright["uncertainty"]) == pytest.approx((0.97095, 0.46900), abs=1e-4)
    assert told["files"] == PICTURES
    assert told["notes"] == []


def test_an_image_without_a_lesion(served, make_png):
    told = served.post(make_png(np.zeros((8, 8), np.uint8))).json()
    for measures in told["frames"][0]["measures"]:
        assert (measures["area_px"], measures["lesions"], measures["mean_probability"]) == (0, 0, None)
    assert not result(served, told, "mask.png").any()


def test_pictures_show_image_masks_and_probabilities(served, make_png, squares):
    told = served.post(make_png()).json()
    mask = two_labels()
    assert (result(served, told, "displayed.png") == squares).all()
    assert (result(served, told, "mask.png") == mask).all()
    for label, value in ((1, 0.6), (2, 0.9)):
        grey = result(served, told, "probability.png", label=label)
        assert (grey == np.where(mask == label, round(value * 255), 0)).all()
        layer = result(served, told, "probability.png", label=label, coloured=1)
        assert layer.shape == (20, 30, 4)
        assert (layer[..., 3] == grey).all()
    drawn = result(served, told, "overlay.png")
    changed = (drawn != squares[..., None]).any(2)
    assert (changed == (mask > 0)).all()
    for label in (1, 2):
        alone = result(served, told, "overlay.png", labels=str(label))
        assert ((alone != squares[..., None]).any(2) == (mask == label)).all()
    assert (result(served, told, "overlay.png", labels="") == squares).all()


def test_the_colours_of_probabilities_are_those_of_inferno(served, make_png):
    import matplotlib

    told = served.post(make_png()).json()
    layer = result(served, told, "probability.png", label=2, coloured=1)
    wanted = np.array(matplotlib.colormaps["inferno"](230 / 255)[:3]) * 255
    assert np.abs(layer[5, 10, :3] - wanted).max() < 4


def test_the_mask_of_one_label_is_black_and_white(serve, make_png):
    served = serve(labels=(Label("bright"),))
    told = served.post(make_png()).json()
    assert (result(served, told, "mask.png") == (two_labels() > 0) * 255).all()
    reply = served.client.get(f"/api/results/{told['id']}/mask.png")
    assert reply.headers["content-disposition"] == "attachment"


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_stay_what_they_are(channels):
    random = np.random.default_rng(0).integers(0, 256, (9, 7, channels)).astype(np.uint8)
    with Image.open(io.BytesIO(encode(random))) as image:
        assert (np.asarray(image) == random).all()
        assert image.info == {}


@pytest.mark.parametrize("name", ["MR_small.dcm", "CT_small.dcm", "SC_rgb_rle.dcm", "examples_ybr_color.dcm"])
def test_dicom_segmentations_are_read_by_highdicom(served, name):
    source = pydicom.dcmread(DICOM / name)
    told = served.post((DICOM / name).read_bytes(), name).json()
    frames = int(source.get("NumberOfFrames", 1))
    assert len(told["frames"]) == frames
    assert told["files"] == ["mask.dcm", *PICTURES], told["notes"]
    reply = served.client.get(f"/api/results/{told['id']}/mask.dcm")
    assert reply.headers["content-type"] == "application/dicom"
    seg = highdicom.seg.segread(io.BytesIO(reply.content))
    assert seg.PatientID == source.PatientID
    assert [seg.get_segment_description(k).segment_label for k in (1, 2)] == ["pale", "bright"]
    found = (
        seg.get_pixels_by_source_frame(
            source.SOPInstanceUID,
            list(range(1, frames + 1)),
            combine_segments=True,
            ignore_spatial_locations=True,
        )
        if frames > 1
        else seg.get_pixels_by_source_instance(
            [source.SOPInstanceUID], combine_segments=True, ignore_spatial_locations=True
        )
    )
    for number in range(frames):
        mask = result(served, told, "mask.png", frame=number)
        assert (found[number] == mask).all()
        areas = [one["area_px"] for one in told["frames"][number]["measures"]]
        assert areas == [int((mask == label).sum()) for label in (1, 2)]


def test_areas_of_dicom_are_in_square_millimetres(served):
    source = pydicom.dcmread(DICOM / "MR_small.dcm")
    row, column = map(float, source.PixelSpacing)
    (frame,) = served.post((DICOM / "MR_small.dcm").read_bytes()).json()["frames"]
    assert frame["spacing"] == {"row": row, "column": column, "plane": "patient"}
    for measures in frame["measures"]:
        assert measures["area_px"] > 0
        assert measures["area_mm2"] == pytest.approx(measures["area_px"] * row * column)


@pytest.mark.parametrize("packed", [False, True])
def test_volumes_come_back_in_their_own_orientation(served, tmp_path, packed):
    random = np.random.default_rng(0).integers(0, 256, (7, 6, 5)).astype(np.uint8)
    # columns of the array run to the back, rows to the left, slices down
    affine = np.array([[0, 2.0, 0, 1], [3, 0, 0, 2], [0, 0, -4, 3], [0, 0, 0, 1]])
    content = nibabel.Nifti1Image(random, affine).to_bytes()
    told = served.post(gzip.compress(content) if packed else content).json()
    assert told["files"] == ["mask.nii.gz", *PICTURES]
    assert len(told["frames"]) == 5
    assert {(one["height"], one["width"]) for one in told["frames"]} == {(7, 6)}
    assert told["frames"][0]["spacing"] == {"row": 3.0, "column": 2.0, "plane": "volume"}
    reply = served.client.get(f"/api/results/{told['id']}/mask.nii.gz")
    written = nibabel.Nifti1Image.from_bytes(gzip.decompress(reply.content))
    assert np.allclose(written.affine, affine)
    wanted = (random >= 100) * 1 + (random >= 200) * 1
    assert (np.asarray(written.dataobj) == wanted).all()
    (tmp_path / "mask.nii.gz").write_bytes(reply.content)
    for number in range(5):
        assert (
            result(served, told, "mask.png", frame=number) == read_labels(tmp_path / "mask.nii.gz", number)
        ).all()


@pytest.mark.parametrize(
    ("content", "name", "status", "words"),
    [
        (b"", "a.png", 400, "empty"),
        (b"hello", "a.png", 415, "not a file of a kind"),
        (b"\x89PNG\r\n\x1a\nrubbish", "a.png", 422, "not an image"),
        ((DICOM / "rtplan.dcm").read_bytes(), "a.dcm", 422, "holds no image"),
        ((DICOM / "MR_truncated.dcm").read_bytes(), "a.dcm", 422, ""),
    ],
)
def test_bad_files_are_told_in_one_line_and_the_next_is_predicted(
    served, make_png, content, name, status, words
):
    reply = served.post(content, name)
    assert reply.status_code == status
    assert words in reply.json()["error"]
    assert str(served.folder) not in reply.text
    assert served.left() == []
    assert served.post(make_png()).status_code == 200


def test_a_picture_that_ends_early(served, make_png):
    random = np.random.default_rng(0).integers(0, 256, (50, 50)).astype(np.uint8)
    reply = served.post(make_png(random)[:-400])
    assert reply.status_code == 422
    assert "cannot be read" in reply.json()["error"]
    assert served.left() == []


def test_the_body_is_counted_as_it_comes(serve, make_png):
    served = serve(megabytes=0.01)
    assert served.post(make_png()).status_code == 200
    assert served.post(bytes(20_000)).status_code == 413

    def chunks():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(1000):
            chunks.sent += 1
            yield bytes(1000)
        yield b"\r\n--x--\r\n"

    chunks.sent = 0
    calls = served.predictor.calls
    # no announced length: the body comes in chunks
    head = {"content-type": "multipart/form-data; boundary=x"}
    reply = served.client.post("/api/predict", content=chunks(), headers=head)
    assert reply.status_code == 413
    assert "larger than 0.01 MB" in reply.json()["error"]
    assert served.predictor.calls == calls


def test_a_file_that_does_not_arrive_gives_its_place_back(serve, make_png):
    served = serve(waiting=0, seconds=0.05)
    sent: list[dict] = []

    async def never() -> dict:
        await asyncio.sleep(3600)
        return {}

    async def send(message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/predict",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")],
    }
    asyncio.run(served.client.app(scope, never, send))
    assert sent[0]["status"] == 408
    assert b"took too long" in sent[1]["body"]
    assert served.post(make_png()).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"files": {"other": b"x"}},
        {"data": {"file": "text"}},
        {"content": b"x"},
        {"json": {"file": "x"}},
        {"files": [("file", b"x"), ("file", b"y")]},
        {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=y"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
    ],
)
def test_a_request_has_one_file(served, sent):
    reply = served.client.post("/api/predict", **sent)
    assert reply.status_code == 400
    assert list(reply.json()) == ["error"]
    assert served.predictor.calls == 0


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("mask.png?frame=1", 404, "no frame 1; they are 0 to 0"),
        ("mask.png?frame=-1", 404, "no frame -1"),
        ("mask.png?frame=x", 422, "whole numbers"),
        ("probability.png?label=0", 404, "from 1 to 2"),
        ("probability.png?label=3", 404, "from 1 to 2"),
        ("overlay.png?labels=1,3", 404, "from 1 to 2"),
        ("overlay.png?labels=x", 404, "from 1 to 2"),
        ("mask.dcm", 404, "this result has mask.png"),
        ("..%2Fsecret", 404, ""),
    ],
)
def test_what_is_not_there(served, make_png, address, status, words):
    number = served.post(make_png()).json()["id"]
    reply = served.client.get(f"/api/results/{number}/{address}")
    assert reply.status_code == status
    assert words in reply.json()["error"]


def test_results_are_forgotten_when_told_and_in_time(served, make_png):
    first, second = (served.post(make_png()).json()["id"] for _ in range(2))
    assert served.client.delete(f"/api/results/{first}").status_code == 204
    gone = served.client.get(f"/api/results/{first}/mask.png")
    assert (gone.status_code, gone.json()) == (
        404,
        {"error": "this result is no longer kept; send the file again"},
    )
    served.clock += 1799
    assert served.client.get(f"/api/results/{second}/mask.png").status_code == 200
    served.clock += 1801
    assert served.client.get(f"/api/results/{second}/mask.png").status_code == 404


def test_only_so_many_wait(serve, make_png):
    served = serve(waiting=1)
    first, go = threading.Event(), threading.Event()

    def hold() -> None:
        first.set()
        assert go.wait(60)

    served.predictor.before = hold
    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda: replies.append(served.post(make_png()).status_code)) for _ in range(2)
    ]
    threads[0].start()
    assert first.wait(60)
    threads[1].start()
    while served.service.worker._taken < 2:
        assert threads[1].is_alive()
    full = served.post(make_png())
    assert (full.status_code, full.headers["retry-after"]) == (503, "5")
    # pages and results are answered meanwhile
    assert served.client.get("/api/bundle").status_code == 200
    go.set()
    for thread in threads:
        thread.join()
    assert replies == [200, 200]
    assert served.post(make_png()).status_code == 200


def test_a_defect_is_told_by_its_kind_alone(served, make_png, caplog):
    def fail() -> None:
        raise RuntimeError("of the patient Doe")

    served.predictor.before = fail
    with caplog.at_level(logging.DEBUG):
        reply = served.post(make_png(), name="Doe.png")
    assert reply.status_code == 500
    assert reply.json() == {"error": "the prediction failed (RuntimeError)"}
    assert "RuntimeError" in caplog.text
    assert "Doe" not in caplog.text + reply.text
    assert reply.headers["cache-control"] == "no-store"
    assert served.left() == []


def test_nothing_of_a_file_is_logged_or_kept(served, caplog):
    from medseg.data import nifti
    from medseg.data.dicom import frame

    # what others log of lower levels is not shown
    with caplog.at_level(logging.WARNING):
        served.post((DICOM / "MR_small.dcm").read_bytes(), name="Doe.dcm")
        served.post(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)).to_bytes(), name="Doe.nii")
    assert "Doe" not in caplog.text
    assert pydicom.dcmread(DICOM / "MR_small.dcm").PatientID not in caplog.text
    assert frame._kept.cache_info().currsize == nifti._kept.cache_info().currsize == 0
    assert served.left() == []


def test_a_segmentation_that_cannot_be_written_leaves_the_rest(served, monkeypatch):
    from medseg.errors import MedsegError
    from medseg.predict import dicom_seg

    def refuse(masks, sources, labels, path, *, bundle) -> None:
        raise MedsegError(f"{path}: no segmentation of this")

    monkeypatch.setattr(dicom_seg, "write_dicom_seg", refuse)
    told = served.post((DICOM / "MR_small.dcm").read_bytes()).json()
    assert told["files"] == PICTURES
    assert told["notes"] == ["There is no DICOM SEG file of this mask: mask.dcm: no segmentation of this."]
    assert result(served, told, "mask.png").shape == (64, 64)


def test_a_network_predicts_as_it_does_by_itself(served_bundle, tmp_path, make_png):
    from medseg.data.images import read_picture

    ramp = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (40, 1))
    (tmp_path / "ramp.png").write_bytes(make_png(ramp))
    predictor = Predictor.of(served_bundle)
    wanted = predictor([read_picture(tmp_path / "ramp.png", 1)])[0]
    assert 0 < wanted.mask.sum() < wanted.mask.size
    with TestClient(build_app(Service(served_bundle, predictor)), base_url="http://127.0.0.1") as client:
        told = client.post("/api/predict", files={"file": make_png(ramp)}).json()
        mask = pixels(client.get(f"/api/results/{told['id']}/mask.png"))
        grey = pixels(client.get(f"/api/results/{told['id']}/probability.png"))
    assert (mask == wanted.mask * 255).all()
    assert np.abs(grey / 255 - wanted.probabilities[0]).max() <= 0.5 / 255 + 1e-6
    (measures,) = told["frames"][0]["measures"]
    assert measures["area_px"] == (mask > 0).sum()
    assert measures["lesions"] == components(mask > 0, connectivity=2).max()
