"""The dictionary transform in MONAI's own machinery: Compose, DataLoader, evaluator, Invertd."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, set_track_meta
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, Invertd, Transposed

from medseg import transforms
from medseg.engine.device import prepare_batch
from medseg.errors import MedsegError
from medseg.transforms import Preprocessd
from medseg.transforms.normalize import NAMES
from medseg.transforms.picture import Picture, Window
from medseg.transforms.steps import build_steps

SIZE = (37, 52)
SPATIAL = ["resize", "resize_pad", "resize_crop"]


def hounsfield(channels: int = 1) -> Picture:
    values = np.random.default_rng(4).integers(-1024, 3072, (channels, *SIZE)).astype(np.int16)
    table = (0.0, np.array([0, 100, 255], np.uint16), 255.0)
    return Picture(values, -1024, 3071, True, (Window(40, 400, "SOFT", "SIGMOID"),), (table,))


def read(picture: Picture, type_: torch.dtype | None = None) -> MetaTensor:
    """The picture as a reader of MONAI gives it."""
    return MetaTensor(
        torch.from_numpy(picture.values), dtype=type_, meta={**picture.meta(), "filename_or_obj": "a.dcm"}
    )


@pytest.fixture
def untracked() -> Iterator[None]:
    set_track_meta(False)
    yield
    set_track_meta(True)


def test_meta_tells_all_of_a_picture():
    given = hounsfield()
    again = Picture.from_meta(given.values, given.meta())
    assert again.windows == given.windows
    assert (again.low, again.high, again.inverted) == (-1024, 3071, True)
    assert all(np.array_equal(a, b) for a, b in zip(again.lut[0], given.lut[0], strict=True))
    # MONAI's readers give floats unless told otherwise
    floats = Picture.from_meta(given.values.astype(np.float32), given.meta())
    assert floats.values.dtype == np.int16
    assert (floats.values == given.values).all()


def test_pixels_without_meta_have_the_range_of_their_type():
    assert Picture.from_meta(np.zeros((1, 2, 2), np.uint16), {}).high == 65535
    assert Picture.from_meta(np.ones((1, 2, 2)), {}).high == 1
    with pytest.raises(MedsegError, match=r"float pixels of 0 to 255 leave 0..1; load integers as they are"):
        Picture.from_meta(np.array([[[0, 255]]], np.float32), {})
    with pytest.raises(MedsegError, match="pixels of type int16 need their range to be given"):
        Picture.from_meta(np.zeros((1, 2, 2), np.int16), {})


@pytest.mark.parametrize("normalization", [None, *NAMES])
@pytest.mark.parametrize("names", [[], ["window", "median", "resize_pad"], ["clahe", "resize_crop"]])
def test_the_network_sees_what_training_sees(names, normalization):
    names = [*names, *([normalization] if normalization else [])]
    steps = build_steps(names, {}, (24, 32))
    stored = steps.apply(hounsfield(3))[0].stored()
    batch = {"image": torch.from_numpy(stored)[None], "label": torch.zeros(1)}
    trained, _ = prepare_batch(batch, torch.device("cpu"), normalization=steps.normalization)
    done = Preprocessd("image", names, {}, (24, 32))({"image": read(hounsfield(3))})["image"]
    assert done.dtype == torch.float32
    assert done.numpy().tobytes() == trained[0].numpy().tobytes()


def test_float_loading_changes_nothing():
    transform = Preprocessd("image", ["window"], {}, (24, 32))
    exact = transform({"image": read(hounsfield())})["image"]
    floats = transform({"image": read(hounsfield(), torch.float32)})["image"]
    assert torch.equal(exact, floats)


def test_meta_data_is_kept_but_for_what_no_longer_holds():
    given = read(hounsfield())
    done = Preprocessd("image", [], {}, (24, 32))({"image": given, "case": "a"})
    assert done["case"] == "a"
    assert done["image"].meta["filename_or_obj"] == "a.dcm"
    assert not [key for key in done["image"].meta if str(key).startswith("picture_")]
    assert "picture_low" in given.meta
    assert [o["class"] for o in done["image"].applied_operations] == ["Preprocessd"]
    assert given.applied_operations == []


def test_the_affine_follows_the_centres_of_pixels():
    done = Preprocessd("image", ["resize_pad"], {}, (26, 26))({"image": read(hounsfield())})["image"]
    # scaled to 19 x 26 and laid from row 3 on: row 3's centre lies at 37 / 19 * 0.5 - 0.5
    first = done.affine.numpy() @ [3, 0, 0, 1]
    assert first[:2] == pytest.approx([37 / 38 - 0.5, 0.5])
    assert (done.affine.numpy() @ [21, 25, 0, 1])[:2] == pytest.approx([37 - 37 / 38 - 0.5, 50.5])


@pytest.mark.parametrize("spatial", SPATIAL)
def test_an_evaluator_brings_predictions_back(spatial):
    preprocessing = Compose(
        [Transposed("image", [0, 2, 1]), Preprocessd("image", ["window", spatial], {}, (24, 33))]
    )
    network = torch.nn.Conv2d(1, 2, 1)
    post = Compose([Invertd("pred", preprocessing, "image", nearest_interp=False, to_tensor=True)])
    given = hounsfield()
    image = read(given.having(np.ascontiguousarray(given.values.swapaxes(1, 2))))
    kept: list[dict] = []

    class Keep:
        def attach(self, engine: SupervisedEvaluator) -> None:
            from ignite.engine import Events

            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: kept.extend(e.state.output))

    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(
            Dataset([{"image": image}, {"image": image}], preprocessing), batch_size=2
        ),
        network=network,
        postprocessing=post,
        val_handlers=[Keep()],
    ).run()
    assert len(kept) == 2
    steps = build_steps(["window", spatial], {}, (24, 33))
    with torch.no_grad():
        soft = network(kept[0]["image"].as_tensor()[None])[0].numpy()
    expected = steps.restore(soft, SIZE).swapaxes(1, 2)
    for item in kept:
        assert item["pred"].shape == (2, SIZE[1], SIZE[0])
        np.testing.assert_allclose(item["pred"].numpy(), expected, atol=1e-6)
        assert item["pred"].meta["filename_or_obj"] == "a.dcm"
        assert item["pred"].affine.numpy() == pytest.approx(np.eye(4))
        assert item["pred"].applied_operations == []


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.bool])
def test_predictions_of_any_type_come_back(spatial, kind):
    preprocessing = Preprocessd("image", [spatial], {}, (24, 33))
    item = preprocessing({"image": read(hounsfield())})
    pred = (item["image"].as_tensor() > 0.5).to(kind)
    item["pred"] = MetaTensor(pred, meta=item["image"].meta)
    back = Invertd("pred", preprocessing, "image")(item)["pred"]
    given = pred.float().numpy() if kind.is_floating_point else pred.numpy()
    assert np.array_equal(back.numpy(), build_steps([spatial], {}, (24, 33)).restore(given, SIZE))


def test_without_tracked_meta_data_images_are_the_same_and_predictions_are_not_lost(untracked):
    values = hounsfield().values.astype(np.uint8)
    preprocessing = Compose([Preprocessd("image", ["clahe"], {}, (24, 33))])
    dataset = Dataset([{"image": torch.from_numpy(values)}, {"image": values}], preprocessing)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert not isinstance(batch["image"], MetaTensor)
    expected = build_steps(["clahe"], {}, (24, 33)).apply(Picture.of(values))[0].stored()
    assert all(
        np.array_equal(image, expected.astype(np.float32) * np.float32(1 / 255))
        for image in batch["image"].numpy()
    )
    item = decollate_batch(batch)[0] | {"pred": torch.zeros(1, 24, 33)}
    with pytest.warns(UserWarning, match="transform info of `image` is not available"):
        Invertd("pred", preprocessing, "image")(item)
    with pytest.raises(
        MedsegError, match="'image' cannot go back to its own size: .* keep meta-data tracked"
    ):
        Preprocessd("image", ["clahe"], {}, (24, 33)).inverse(item)


def test_masks_come_back_whole_and_by_nearest_neighbour():
    preprocessing = Preprocessd("image", ["resize_pad"], {}, (24, 33))
    item = preprocessing({"image": read(hounsfield())})
    item["pred"] = MetaTensor((item["image"] > 0.3).to(torch.uint8), meta=item["image"].meta)
    back = Invertd("pred", preprocessing, "image")(item)["pred"]
    assert back.dtype == torch.uint8
    assert set(back.unique().tolist()) == {0, 1}


def test_the_inverse_alone_brings_the_image_back():
    preprocessing = Preprocessd("image", ["resize_pad"], {}, (48, 64))
    done = preprocessing({"image": read(hounsfield())})
    back = preprocessing.inverse(done)["image"]
    assert tuple(back.shape) == (1, *SIZE)
    assert back.affine.numpy() == pytest.approx(np.eye(4))


def test_missing_keys_are_left_out_where_allowed():
    assert Preprocessd("image", [], {}, (8, 8), allow_missing_keys=True)({"other": 1}) == {"other": 1}
    with pytest.raises(KeyError, match="image"):
        Preprocessd("image", [], {}, (8, 8))({"other": 1})


def test_wrong_lists_are_refused_when_it_is_built():
    with pytest.raises(MedsegError, match="unknown transform 'claheh'"):
        Preprocessd("image", ["claheh"], {}, (8, 8))


def test_listing_the_steps_imports_nothing_heavy():
    import subprocess

    code = (
        "import sys; from medseg.transforms import TRANSFORMS; [e.summary for e in TRANSFORMS]\n"
        "heavy = {'torch', 'monai', 'cv2', 'skimage', 'scipy', 'pydicom'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Preprocessed'"):
        transforms.Preprocessed
