"""The app for MONAI Label as files: what is copied, what is told, what is refused, and that it runs without medseg."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from medseg.bundle.network import read_recipe
from medseg.bundle.open import Bundle
from medseg.data.images import FileFault, read_picture
from medseg.errors import MedsegError
from medseg.export import _rehearsal
from medseg.export._closure import MANIFEST, copy_modules, demand_unchanged, needed
from medseg.export._network import trained
from medseg.export.delivery import export
from medseg.export.monailabel import opencv_steps, served_name, write_app
from medseg.predict.predictor import Predictor


@pytest.fixture(scope="module")
def app(made: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app of the shared bundle as it is written; its check is a test of its own."""
    out = tmp_path_factory.mktemp("exported") / "app"
    write_app(made, *trained(made), out)
    return out


def test_an_export_passes_its_own_check_on_real_images(
    made: Bundle, images: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "app"
    # a relative path, as people give it: the check runs in another folder
    check = export("monailabel", made, Path(os.path.relpath(out)), images)
    assert (check.path.resolve(), check.inputs, check.source) == (out.resolve(), 3, "real images")
    assert check.difference.pixels == 0
    assert check.difference.probabilities < 1e-6
    assert "one epoch of training changed" in check.notes[0]
    assert sorted(path.name for path in out.iterdir()) == ["LICENSE", "README.md", "main.py", "model"]
    assert not list(out.rglob("__pycache__"))


@pytest.fixture(scope="module")
def served(app: Path) -> Path:
    return app / "model" / "busi_benign__unet__dice"


def test_the_bundle_holds_what_a_server_looks_for(made: Bundle, served: Path) -> None:
    state = torch.load(served / "models" / "model.pt", weights_only=True)
    script = torch.jit.load(served / "models" / "network.ts").state_dict()
    original = torch.load(made.root / "models" / "model.pt", weights_only=True)
    assert set(state) == set(script) == set(original)
    assert all(torch.equal(state[name], original[name]) for name in original)
    # of several *.pt MONAI Label would serve the one with the shortest name
    assert [path.name for path in (served / "models").glob("*.pt")] == ["model.pt"]
    metadata = json.loads((served / "configs" / "metadata.json").read_text())
    assert next(iter(metadata["network_data_format"]["inputs"])) == "image"
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "background", "1": "benign lesion"}
    assert pred["spatial_shape"] == [32, 32]
    inference = yaml.safe_load((served / "configs" / "inference.yaml").read_text())
    assert {"network_def", "preprocessing", "inferer", "postprocessing"} <= set(inference)
    train = yaml.safe_load((served / "configs" / "train.yaml").read_text())
    assert train["loss_name"] == "dice"
    assert train["network"] == "$@network_def.to(@device)"


def test_nothing_of_patients_or_of_this_machine_leaves(made: Bundle, app: Path, served: Path) -> None:
    assert not (served / "repeats").exists()
    secrets = (
        b"patient_jane_doe",
        b"scanner-room-3",
        b"dr-who",
        str(made.root).encode(),
        str(Path.cwd()).encode(),
    )
    for path in app.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in secrets if word in content], path
    assert not list(app.rglob("__pycache__"))


def test_every_copied_file_is_in_the_manifest(app: Path, served: Path, tmp_path: Path) -> None:
    [package] = served.glob("medseg_*")
    manifest = json.loads((package / MANIFEST).read_text())
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    assert set(files) == set(manifest["sha256"])
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest["sha256"][name]
        assert "Apache License 2.0" in path.read_text().splitlines()[0]
    demand_unchanged(package)
    (package / "errors.py").write_text("raise SystemExit")
    try:
        with pytest.raises(MedsegError, match=r"not as it was exported: errors\.py"):
            demand_unchanged(package)
    finally:
        copy_modules(needed(["medseg.errors"]), tmp_path)
        [fresh] = tmp_path.glob("medseg_*")
        (package / "errors.py").write_bytes((fresh / "errors.py").read_bytes())
    demand_unchanged(package)


def test_the_copy_follows_lazy_imports_and_not_those_of_type_checkers() -> None:
    found = needed(["medseg.data.images"])
    assert {"medseg", "medseg.data", "medseg.data.images"} <= set(found)
    assert {"medseg.data.nifti", "medseg.data.dicom.stored"} <= set(found)  # imported inside functions
    assert "medseg.transforms._dictionary" not in needed(
        ["medseg.transforms.picture", "medseg.transforms"]
    ) or ("_dictionary" in Path(found["medseg.transforms"]).read_text())
    assert not [name for name in found if name.split(".")[1:2] in (["models"], ["cli"], ["bundle"])]


def test_a_copy_imports_only_itself(tmp_path: Path) -> None:
    package = copy_modules(needed(["medseg.transforms"]), tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.modules['medseg'] = None\n"
        f"from {package}.transforms import TRANSFORMS\n"
        "print(len(TRANSFORMS.names()), [m for m in sys.modules if m.split('.')[0] == 'medseg' and sys.modules[m]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    from medseg.transforms import TRANSFORMS

    assert done.stdout.strip() == f"{len(TRANSFORMS.names())} []"


def test_another_content_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = needed(["medseg.errors"])
    first = copy_modules(modules, tmp_path / "a")
    assert copy_modules(modules, tmp_path / "b") == first
    assert copy_modules(needed(["medseg.registry"]), tmp_path / "c") != first


@pytest.mark.parametrize("name", ["clahe", "equalize", "gaussian", "median"])
def test_a_step_that_needs_opencv_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    config = bundle.config("inference")
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, "preprocess": [name]}))
    with pytest.raises(MedsegError, match=f"the preprocessing {name} needs OpenCV"):
        export("monailabel", bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_steps_without_opencv_are_known() -> None:
    assert opencv_steps() == ["clahe", "equalize", "gaussian", "median"]


def test_an_expression_as_loss_is_refused(bundle: Bundle, tmp_path: Path, reference: torch.nn.Module) -> None:
    config = bundle.config("train")
    text = config.read_text()
    assert "loss_name: dice" in text
    config.write_text(text.replace("loss_name: dice", "loss_name: $__import__('os').getcwd()"))
    with pytest.raises(MedsegError, match=r"train\.yaml: loss_name and loss_arguments must be plain values"):
        write_app(bundle, read_recipe(bundle), reference, tmp_path / "out")


def test_weights_that_do_not_fit_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    state = torch.load(bundle.root / "models" / "model.pt", weights_only=True)
    torch.save(
        {f"module.{name}": values for name, values in state.items()}, bundle.root / "models" / "model.pt"
    )
    with pytest.raises(MedsegError, match="cannot be loaded into this network"):
        export("monailabel", bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_do_not_change_the_kind_of_task() -> None:
    assert served_name("busi_benign__unet__dice") == "busi_benign__unet__dice"
    assert served_name("polyp_Detection__unet__dice") == "polyp_Det__unet__dice"
    assert served_name("deepgrow_classification") == "dee_cla"


STOCK = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medseg/monailabel-0.8.5/bin/python"
#: how many levels colour JPEG may be off: decoders round colours, and blow up their halved planes, in their own way
LOSSY = {"examples_ybr_color.dcm": 3}
READ = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
import importlib
images = importlib.import_module(sys.argv[2] + ".data.images")
found = {}
for path in map(Path, json.loads(sys.argv[3])):
    try:
        found[str(path)] = images.read_picture(path, 3).values
    except images.FileFault as fault:
        found[str(path)] = np.array(fault.reason)
np.savez(sys.argv[4], **found)
"""


@pytest.mark.skipif(not STOCK.is_file(), reason="no MONAI Label; scripts/monailabel --prepare makes it")
def test_dicom_is_read_under_pydicom_2_as_under_pydicom_3(served: Path, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    names = (
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "693_J2KR.dcm",
        "JPEG2000.dcm",
        "SC_rgb.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_ybr_full_uncompressed.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "examples_ybr_color.dcm",
        "examples_palette.dcm",
        "rtdose_1frame.dcm",
        "liver_1frame.dcm",
        "image_dfl.dcm",
        "JPEG-LL.dcm",
        "parametric_map_float.dcm",
    )
    paths = [str(path) for path in (get_testdata_file(name, download=False) for name in names) if path]
    assert len(paths) >= 10
    [package] = served.glob("medseg_*")
    command = [STOCK, "-B", "-c", READ, served, package.name, json.dumps(paths), tmp_path / "read.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    agreed, refused = [], []
    with np.load(tmp_path / "read.npz") as found:
        for path in paths:
            name = Path(path).name
            if found[path].dtype.kind == "U":
                refused.append(name)
                continue
            try:
                expected = read_picture(Path(path), 3).values
            except FileFault as fault:
                raise AssertionError(f"{name} is read by pydicom 2 alone: {fault}") from None
            # colour JPEG is decoded by Pillow there and by libjpeg-turbo here
            np.testing.assert_allclose(found[path], expected, atol=LOSSY.get(name, 0), err_msg=name)
            agreed.append(name)
    # for JPEG Lossless a stock server has no decoder, and for JPEG of RGB one that fails: errors, no wrong pictures
    assert set(refused) <= {"JPEG-LL.dcm", "SC_rgb_jpeg_gdcm.dcm"}
    assert len(agreed) >= 9


def test_the_check_runs_in_a_python_without_medseg() -> None:
    """The check's own process cannot import medseg: a bundle that needs it does not pass."""
    stage = Path(sys.modules["medseg.export._closure"].__file__).with_name("_stage.py")  # type: ignore[arg-type]
    code = (
        f"import runpy, sys; stage = runpy.run_path({str(stage)!r}); sys.meta_path.insert(0, stage['Refusal']())\n"
        "for name in ('medseg.errors', 'cv2', 'timm'):\n"
        "    try: __import__(name); print('imported', name)\n"
        "    except ModuleNotFoundError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("is not on a stock MONAI Label server") == 3


IMAGE = Path("image.png")


def test_labels_of_every_form_are_the_same_mask(tmp_path: Path) -> None:
    from medseg.export.labelling.labels import read_label

    mask = np.zeros((6, 5), np.uint8)
    mask[1:3, 2:] = 1
    forms = {"one": mask, "full": mask * 255, "other": mask * 7, "deep": mask.astype(np.uint16) * 65535}
    for name, values in forms.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    Image.fromarray(mask * 255).convert("1").save(tmp_path / "bit.png")
    Image.fromarray(np.repeat(mask[..., None] * 255, 3, 2)).save(tmp_path / "rgb.png")
    for name in (*forms, "bit", "rgb"):
        np.testing.assert_array_equal(
            read_label(tmp_path / f"{name}.png", 1, IMAGE), mask[None], err_msg=name
        )
    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5) * 8).save(tmp_path / "smooth.png")
    with pytest.raises(MedsegError, match=r"smooth\.png: holds 30 grey levels up to 232"):
        read_label(tmp_path / "smooth.png", 1, IMAGE)
    Image.fromarray(mask * 2).save(tmp_path / "second.png")
    np.testing.assert_array_equal(read_label(tmp_path / "second.png", 3, IMAGE), 2 * mask[None])
    Image.fromarray(mask * 3).save(tmp_path / "third.png")
    with pytest.raises(MedsegError, match="holds the label 3; this network has the labels 1 to 2"):
        read_label(tmp_path / "third.png", 3, IMAGE)


def test_a_mask_on_its_side_does_not_pass(
    bundle: Bundle, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def turned(
        served: Path, paths: list[Path], folder: Path
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
        recipe = read_recipe(bundle)
        predictor = Predictor.of(bundle)
        answers = []
        for path in paths:
            picture = read_picture(path, recipe.channels)
            with torch.no_grad():
                soft = predictor.networks[0](predictor.prepared(picture)[None]).sigmoid()[0].numpy()
            answers.append((soft, predictor([picture])[0].mask[::-1]))
        return answers, ""

    monkeypatch.setattr(_rehearsal, "_staged", turned)
    with pytest.raises(MedsegError, match=r"monailabel: \d+ pixels of the mask of 0\.png are not those"):
        export("monailabel", bundle, tmp_path / "out", images)
    assert not (tmp_path / "out").exists()
