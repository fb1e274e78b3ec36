"""A stock MONAI Label server with an exported bundle, over HTTP: what a viewer does to it.

All requests are steps of one test, in the order in which they change the server: however tests are spread over
processes, one server is started.
"""

from __future__ import annotations

import email
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from medseg.data.images import read_picture
from medseg.predict.predictor import Predictor


def masks_of(predictor: Predictor, path: Path, slices: int = 1) -> np.ndarray:
    """What ``medseg predict`` makes of a file, ``(D, H, W)``."""
    paths = [path.with_name(f"{path.name}#{k}") for k in range(slices)] if slices > 1 else [path]
    return np.stack([one.mask for one in predictor([read_picture(path, 1) for path in paths])])


def read_nrrd(path: Path) -> np.ndarray:
    """The pixels ``(H, W)`` of an uncompressed NRRD file of bytes."""
    head, content = path.read_bytes().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    assert (fields["encoding"], fields["type"]) == ("raw", "unsigned char")
    return np.frombuffer(content, np.uint8).reshape([int(length) for length in fields["sizes"].split()][::-1])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def test_a_stock_server_does_what_viewers_ask(server: Any, predictor: Predictor, tmp_path: Path) -> None:
    info_names_model_labels_and_what_can_be_done(server)
    for name in (
        "grey.png",
        "LOUD.PNG",
        "lossy.jpg",
        "colour.png",
        "palette.png",
        "deep.png",
        "ultrasound.dcm",
    ):
        masks_are_those_of_predict_to_the_pixel(server, predictor, name)
    an_uploaded_file_is_read_by_its_name(server, predictor)
    slicer_gets_nrrd_beside_the_names_of_the_labels(server, predictor, tmp_path)
    outlines_for_cvat_enclose_the_mask(server, predictor)
    the_folder_of_a_dicomweb_store_becomes_nifti(server, predictor, tmp_path)
    a_volume_is_labelled_slice_by_slice_in_its_own_grid(server, predictor, tmp_path)
    what_cannot_be_read_is_an_error_and_no_mask(server)
    a_bad_image_does_not_end_a_batch(server, predictor)
    the_next_image_is_chosen_by_uncertainty(server)
    fine_tuning_from_corrected_labels_changes_what_is_served(server, predictor, tmp_path)
    a_training_from_the_exported_weights_forgets_the_fine_tuned(server)
    training_on_a_wrong_label_names_it_and_leaves_the_weights(server, tmp_path)
    scores_compare_proposals_with_final_labels(server, tmp_path)


def info_names_model_labels_and_what_can_be_done(server: Any) -> None:
    info = server("GET", "/info/").json()
    assert info["models"][server.model]["labels"] == {"lesion": 1}
    assert info["models"][server.model]["dimension"] == 2
    assert info["labels"] == ["lesion"]
    assert info["trainers"][server.model]["config"]["learning_rate"] == pytest.approx(1e-4)
    assert {"random", "first", "epistemic"} <= set(info["strategies"])
    assert {"epistemic", "dice", "sum"} == set(info["scoring"])


def masks_are_those_of_predict_to_the_pixel(server: Any, predictor: Predictor, name: str) -> None:
    answer = server.infer(Path(name).stem)
    assert answer.status_code == 200, answer.text
    # a JPEG gets a PNG back, whose edges are exact
    assert ".png" in answer.headers["content-disposition"]
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    expected = masks_of(predictor, server.images / name)[0]
    assert mask.dtype == np.uint8
    assert 30 < expected.sum() < expected.size / 2
    np.testing.assert_array_equal(mask, expected)


def an_uploaded_file_is_read_by_its_name(server: Any, predictor: Predictor) -> None:
    path = server.images / "ultrasound.dcm"
    with path.open("rb") as file:
        answer = server(
            "POST", f"/infer/{server.model}", params={"output": "image"}, files={"file": (path.name, file)}
        )
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(mask, masks_of(predictor, path)[0])


def slicer_gets_nrrd_beside_the_names_of_the_labels(
    server: Any, predictor: Predictor, tmp_path: Path
) -> None:
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    params = {"params": json.dumps({**asked, "model_filename": ["model.pt"], "device": "cuda"})}
    answer = server("POST", f"/infer/{server.model}", params={"image": "grey"}, data=params)
    kind = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    told, image = email.message_from_bytes(kind + answer.content).get_payload()
    assert json.loads(told.get_payload())["label_names"] == {"lesion": 1}
    (tmp_path / "mask.nrrd").write_bytes(image.get_payload(decode=True))
    expected = masks_of(predictor, server.images / "grey.png")
    np.testing.assert_array_equal(read_nrrd(tmp_path / "mask.nrrd"), expected[0])


def outlines_for_cvat_enclose_the_mask(server: Any, predictor: Predictor) -> None:
    params = {"params": json.dumps({"output": "json"})}
    answer = server(
        "POST", f"/infer/{server.model}", params={"image": "grey", "output": "json"}, data=params
    ).json()
    [annotation] = answer["annotations"]
    [element] = annotation["annotation"]["elements"]
    assert element["label"] == "lesion"
    mask = masks_of(predictor, server.images / "grey.png")[0] > 0
    drawn = Image.new("1", mask.shape[::-1])
    for contour in element["contours"]:
        ImageDraw.Draw(drawn).polygon([tuple(corner) for corner in contour], fill=1)
    both = (np.asarray(drawn) & mask).sum()
    assert both / (np.asarray(drawn) | mask).sum() > 0.85


def the_folder_of_a_dicomweb_store_becomes_nifti(server: Any, predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    shutil.copy(server.images / "ultrasound.dcm", folder)
    answer = server.infer(str(folder))
    assert answer.status_code == 200, answer.text
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(answer.content)
    expected = masks_of(predictor, server.images / "ultrasound.dcm")
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), expected.transpose(2, 1, 0))


def a_volume_is_labelled_slice_by_slice_in_its_own_grid(
    server: Any, predictor: Predictor, tmp_path: Path
) -> None:
    answer = server.infer("volume")
    assert answer.status_code == 200, answer.text
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(answer.content)
    mask, image = nibabel.load(path), nibabel.load(server.images / "volume.nii.gz")
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
    expected = masks_of(predictor, server.images / "volume.nii.gz", slices=3)
    # by its affine the file runs towards the front and the feet; slices are shown front first and count from the feet
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected.transpose(2, 1, 0)[:, ::-1, ::-1])
    assert expected.any((1, 2)).all()


def what_cannot_be_read_is_an_error_and_no_mask(server: Any) -> None:
    answer = server.infer("broken")
    assert answer.status_code == 422
    assert "broken.png: cannot be read" in answer.json()["detail"]
    assert server.infer("grey").status_code == 200
    unknown = server.infer("no_such_image")
    assert (unknown.status_code, unknown.json()["detail"][:31]) == (422, "there is no image of this name;")


def a_bad_image_does_not_end_a_batch(server: Any, predictor: Predictor) -> None:
    path = f"/batch/infer/{server.model}"
    # the body that MONAI Label takes for a viewer that sends none asks for several GPUs
    done = server("POST", path, params={"images": "unlabeled", "run_sync": True}).json()
    assert "broken.png: cannot be read" in done.pop("broken")["error"]
    assert set(done) == set(server("GET", "/datastore/?output=all").json()["objects"]) - {"broken"}
    proposed = np.asarray(Image.open(server.images / "labels" / "original" / "new4.png"))
    np.testing.assert_array_equal(proposed, masks_of(predictor, server.images / "new4.png")[0])


def the_next_image_is_chosen_by_uncertainty(server: Any) -> None:
    first = server("POST", "/activelearning/first").json()["id"]
    assert first == "LOUD"  # of all names the first, capitals before small letters
    assert server("POST", "/activelearning/random").json()["id"]
    scored = server("POST", "/scoring/epistemic", params={"run_sync": True}, json={"max_workers": 1})
    assert scored.status_code == 200, scored.text
    assert "not scored: " in server.log.read_text()
    store = json.loads((server.images / "datastore_v2.json").read_text())["objects"]
    entropy = {name: one["image"]["info"].get("epistemic_entropy") for name, one in store.items()}
    assert entropy.pop("broken") is None
    assert all(value is not None and 0 < value < np.log(2) for value in entropy.values()), entropy
    chosen = server("POST", "/activelearning/epistemic").json()
    assert chosen["id"] == max(entropy, key=lambda name: entropy[name])


def fine_tuning_from_corrected_labels_changes_what_is_served(
    server: Any, predictor: Predictor, tmp_path: Path
) -> None:
    served, exported = server.bundle / "models" / "model.pt", weights(server.bundle / "models" / "model.pt")
    before = np.asarray(Image.open(io.BytesIO(server.infer("grey").content)))
    # corrected: the lower left, where no disc was ever; as 0/255, 0/1 and one bit
    for number, full in ((0, 255), (1, 1), (2, 255)):
        mask = np.zeros((48, 40), np.uint8)
        mask[24:, :20] = full
        path = tmp_path / f"new{number}.png"
        picture = Image.fromarray(mask)
        (picture.convert("1") if number == 2 else picture).save(path)
        server.put_label(f"new{number}", path)
    task = server.train(max_epochs=15, val_split=0.34, learning_rate=0.02)
    assert task["status"] == "DONE", task["details"]
    record = server("GET", "/info/").json()["train_stats"][server.model]
    assert record["epochs"] == 15
    assert record["validated_images"] == 1
    assert 1 <= record["kept_epoch"] <= 15
    best = record["val_dice_by_epoch"][record["kept_epoch"] - 1]
    assert best == max(record["val_dice_by_epoch"]) > record["val_dice_before"]
    after = weights(served)
    assert set(after) == set(exported)
    assert any(not torch.equal(after[name], exported[name]) for name in after)
    mask = np.asarray(Image.open(io.BytesIO(server.infer("grey").content)))
    assert mask[24:, :20].mean() > 0.5 > before[24:, :20].mean()
    predictor.networks[0].load_state_dict(after)
    np.testing.assert_array_equal(mask, masks_of(predictor, server.images / "grey.png")[0])


def a_training_from_the_exported_weights_forgets_the_fine_tuned(server: Any) -> None:
    # in the server's own process, where what one training is told must not reach the next
    for pretrained in (True, False):
        request = {"max_epochs": 1, "val_split": 0, "learning_rate": 1e-30, "pretrained": pretrained}
        answer = server("POST", f"/train/{server.model}", params={"run_sync": True}, json=request)
        assert answer.status_code == 200, answer.text
    trained = weights(server.bundle / "models" / "model.pt")
    exported = torch.jit.load(server.bundle / "models" / "network.ts").state_dict()
    # a pass in training mode moves the running statistics, and nothing else
    assert all(
        torch.allclose(trained[name], values, atol=1e-6)
        for name, values in exported.items()
        if "running" not in name and "tracked" not in name
    )


def training_on_a_wrong_label_names_it_and_leaves_the_weights(server: Any, tmp_path: Path) -> None:
    served = server.bundle / "models" / "model.pt"
    stamp = served.stat().st_mtime_ns
    for number in range(3):
        path = tmp_path / f"new{number}.png"
        Image.fromarray(np.full((10, 10), 255, np.uint8)).save(path)
        server.put_label(f"new{number}", path)
    request = {"max_epochs": 1, "val_split": 0}
    answer = server("POST", f"/train/{server.model}", params={"run_sync": True}, json=request)
    assert answer.status_code == 422
    fault = r"new\d\.png: the label is \(1, 10, 10\), its image new\d\.png is \(1, 48, 40\)"
    assert re.match(rf"none of 3 labelled images can be trained on; .*{fault}", answer.json()["detail"])
    assert len(re.findall(rf"left out of training: .*{fault}", server.log.read_text())) == 3
    assert served.stat().st_mtime_ns == stamp


def scores_compare_proposals_with_final_labels(server: Any, tmp_path: Path) -> None:
    proposed, final = np.zeros((48, 40), np.uint8), np.zeros((48, 40), np.uint8)
    proposed[:10, :10], final[5:15, :10] = 1, 255
    for tag, mask in (("original", proposed), ("final", final)):
        Image.fromarray(mask).save(tmp_path / "new5.png")
        server.put_label("new5", tmp_path / "new5.png", tag)
    (tmp_path / "volume.nii.gz").write_bytes(server.infer("volume").content)
    for tag in ("original", "final"):
        server.put_label("volume", tmp_path / "volume.nii.gz", tag)
    scored = server("POST", "/scoring/dice", params={"run_sync": True}).json()
    assert scored["new5"] == pytest.approx(0.5)
    assert scored["volume"] == 1
    counts = server("POST", "/scoring/sum", params={"run_sync": True}).json()
    assert counts["final/new5"] == {"sum": 100, "slices": 1}
    assert counts["original/new5"] == {"sum": 100, "slices": 1}
    marked = np.asarray(nibabel.load(tmp_path / "volume.nii.gz").dataobj)
    assert counts["final/volume"] == {"sum": marked.sum(), "slices": marked.any((0, 1)).sum()}


STOCK = """
import json, sys, numpy as np
sys.path.insert(0, sys.argv[1])
from PIL import Image, ImageDraw
from main import MyApp
name, images = sys.argv[2], sys.argv[3]
conf = {"models": name, "zoo_source": "ngc", "sam2": "false", "epistemic_model": name}
app = MyApp(sys.argv[1], images, conf)
answer = app.infer({"model": name, "image": "grey", "device": "cpu"})
app.scoring({"method": name, "max_samples": 1, "max_workers": 1})
print("ANSWER", json.dumps({"file": answer["file"], "labels": answer["params"]["label_names"]}))
"""


def test_monai_labels_own_bundle_app_serves_the_bundle(
    stock: Path, app: Path, images: Path, predictor: Predictor, tmp_path: Path
) -> None:
    sample = stock.parents[1] / "monailabel" / "sample-apps" / "monaibundle"
    shutil.copytree(sample, tmp_path / "app", ignore=shutil.ignore_patterns("model", "logs"))
    name = next((app / "model").iterdir()).name
    shutil.copytree(app / "model" / name, tmp_path / "app" / "model" / name)
    (tmp_path / "studies").mkdir()
    shutil.copy(images / "grey.png", tmp_path / "studies")
    done = subprocess.run(
        [stock, "-c", STOCK, tmp_path / "app", name, tmp_path / "studies"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.split("ANSWER ")[1])
    mask = np.asarray(Image.open(answer["file"]))
    state = weights(app / "model" / name / "models" / "model.pt")
    predictor.networks[0].load_state_dict(state)
    np.testing.assert_array_equal(mask, masks_of(predictor, images / "grey.png")[0])
    store = json.loads((tmp_path / "studies" / "datastore_v2.json").read_text())["objects"]
    assert store["grey"]["image"]["info"]["epistemic_entropy"] >= 0
