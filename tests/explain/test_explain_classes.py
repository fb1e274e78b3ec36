"""Explanations of classifiers: the class that is asked, its map at the picture's size, region, box, and table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from medseg.bundle.network import Recipe, read_recipe
from medseg.bundle.open import Bundle
from medseg.data.sample import Label
from medseg.errors import MedsegError
from medseg.explain import build
from medseg.explain.cases import explain_all
from medseg.explain.classes import ClassExplainer, ClassQuestion
from medseg.explain.explainer import Explainer, Question, classifier_map
from medseg.explain.layers import choose_layer
from medseg.explain.localization import MEASURES, box_around
from medseg.explain.scores import ClassScore
from medseg.models import MODELS
from medseg.predict.predictor import Predictor
from medseg.transforms.picture import Picture

SIDE = 32


class Brightness(nn.Module):
    """Maps of what is bright and what is dark, their means, and logits of ``disc`` and ``empty``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 4, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.features[0].weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None] / 16)
            self.features[0].bias.copy_(torch.tensor([-0.45, 0.45]))
            self.head.weight.copy_(torch.tensor([[200.0, -1.0], [-200.0, 1.0]]))
            self.head.bias.copy_(torch.tensor([-0.1, 0.1]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


@pytest.fixture
def recipe() -> Recipe:
    labels = (Label("disc"), Label("empty"))
    return Recipe(
        "resnet50", {}, 1, 2, (SIDE, SIDE), (), {}, labels, task="classification", activation="softmax"
    )


@pytest.fixture
def predictor(recipe: Recipe) -> Predictor:
    return Predictor(recipe, [Brightness().eval()])


def explainer(
    predictor: Predictor, label: str = "", method: str = "gradcam", share: float = 0.2
) -> ClassExplainer:
    layer = "" if method == "occlusion" else "features"
    arguments = {"size": 8} if method == "occlusion" else {}
    return ClassExplainer(predictor, ClassQuestion(method, layer, label, share, arguments))


def scene(*places: tuple[int, int], size: tuple[int, int] = (64, 96)) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs of a radius of 9 pixels on noisy dark ground, ``(H, W)`` uint8, and their mask."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for row, column in places:
        mask |= (y - row) ** 2 + (x - column) ** 2 < 9**2
    noise = np.random.default_rng(3).normal(60, 10, size)
    return np.clip(noise + 130 * mask, 0, 255).astype(np.uint8), mask


def test_map_of_the_likeliest_class_lies_on_what_makes_it(predictor: Predictor) -> None:
    image, mask = scene((20, 70))
    answer = explainer(predictor)(Picture.of(image[None]), "", mask)
    assert (answer.channel, answer.predicted) == (0, 0) and answer.probability > 0.5
    assert answer.heat.shape == image.shape and answer.heat.dtype == np.float32
    assert answer.heat.min() >= 0 and answer.heat.max() == 1
    assert answer.box is not None
    centre = answer.box.row + answer.box.height / 2, answer.box.column + answer.box.width / 2
    assert abs(centre[0] - 20) < 3 and abs(centre[1] - 70) < 4
    assert answer.measures["pointing_game"] == 1 and (answer.measures["energy_in_mask"] or 0) > 0.7
    assert answer.measures["mask_share"] == mask.mean()
    assert (answer.measures["box_iou"] or 0) > 0.5 and (answer.measures["region_iou"] or 0) > 0.5
    assert box_around(answer.region) == answer.box


def test_grad_cam_of_pooled_features_is_the_class_activation_map(predictor: Predictor) -> None:
    """The weights of the class times the maps (Zhou et al. 2016), where the mean and a linear layer follow."""
    image, _ = scene((20, 15), size=(SIDE, SIDE))
    one = explainer(predictor, "disc")
    network, prepared = predictor.networks[0], predictor.prepared(Picture.of(image[None]))[None]
    with torch.no_grad():
        maps = network.features(prepared)
        published = torch.relu((network.head.weight[0][:, None, None] * maps[0]).sum(0))
    raw = one.method.compute_map(prepared, ClassScore(0))[0, 0]
    torch.testing.assert_close(raw / raw.max(), published / published.max())
    assert raw.max().item() == pytest.approx(published.max().item() / maps[0, 0].numel(), rel=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "gradcampp", "hirescam", "layercam", "occlusion"])
def test_every_method_finds_the_disc(predictor: Predictor, method: str) -> None:
    image, mask = scene((40, 30))
    answer = explainer(predictor, "disc", method)(Picture.of(image[None]), "", mask)
    assert answer.measures["pointing_game"] == 1
    assert (answer.measures["energy_in_mask"] or 0) > 3 * mask.mean()


def test_class_may_be_chosen_by_name_or_number(predictor: Predictor) -> None:
    image, mask = scene((20, 70))
    picture = Picture.of(image[None])
    by_name, by_number = (explainer(predictor, label)(picture, "", mask) for label in ("empty", "2"))
    assert by_name.channel == by_number.channel == 1 and by_name.predicted == 0
    likeliest = explainer(predictor)(picture)
    assert by_name.probability == pytest.approx(1 - likeliest.probability, abs=1e-6)
    np.testing.assert_array_equal(by_name.heat, by_number.heat)
    assert by_name.heat[mask].mean() < by_name.heat[~mask].mean(), "what is dark speaks for empty"
    assert likeliest.mask is None and likeliest.measures == {}


def test_share_decides_what_the_map_marks(predictor: Predictor) -> None:
    picture = Picture.of(scene((20, 70))[0][None])
    wide, narrow = (explainer(predictor, share=share)(picture) for share in (0.1, 0.9))
    assert (narrow.region & ~wide.region).sum() == 0 and 0 < narrow.region.sum() < wide.region.sum()
    np.testing.assert_array_equal(wide.heat, narrow.heat)


def test_map_without_positive_evidence_is_told(predictor: Predictor) -> None:
    answer = explainer(predictor, "disc")(Picture.of(np.zeros((1, 40, 40), np.uint8)), "", np.eye(40) > 0)
    assert answer.reason.startswith("no positive evidence") and answer.largest == 0
    assert answer.box is None and not answer.region.any() and answer.predicted == 1
    assert [answer.measures[name] for name in MEASURES] == [1 / 40, None, None, None, None]


def test_nothing_of_the_network_is_changed(predictor: Predictor) -> None:
    network = predictor.networks[0]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    explainer(predictor)(Picture.of(scene((20, 70))[0][None]))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())


# files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with masks beside them, one without, one whose mask is of another size, and a file that is no image."""
    root = tmp_path / "images"
    root.mkdir()
    for name, places in (("a", [(20, 70)]), ("b", [(40, 30)]), ("none", [])):
        image, mask = scene(*places)
        Image.fromarray(image).save(root / f"{name}.png")
        if places:
            Image.fromarray((mask * 255).astype(np.uint8)).save(root / f"{name}_mask.png")
    Image.fromarray(scene((20, 20))[0]).save(root / "odd.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(root / "odd_mask.png")
    (root / "broken.png").write_bytes(b"no image")
    return root


def test_maps_overlays_and_table_of_a_folder(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = explain_all(explainer(predictor), [folder], out, masks="{stem}_mask.png")
    assert [(Path(str(row["file"])).name, row["outcome"]) for row in rows] == [
        ("a.png", "explained"),
        ("b.png", "explained"),
        ("broken.png", "failed"),
        ("none.png", "explained"),
        ("odd.png", "failed"),
    ]
    with (out / "explanations.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == ClassExplainer.columns
    assert [(row["label"], row["predicted"]) for row in table] == [
        ("disc", "disc"),
        ("disc", "disc"),
        ("", ""),
        ("empty", "empty"),
        ("", ""),
    ]
    assert "odd_mask.png: the mask is 5 x 5" in table[4]["reason"]
    assert [row["pointing_game"] for row in table] == ["1.0", "1.0", "", "", ""]
    assert all(float(row["probability"]) > 0.5 for row in table if row["predicted"])
    region = np.load(out / "maps" / "a.npy") > 0.2
    box = box_around(region)
    told = tuple(int(float(table[0][f"box_{side}"])) for side in ("row", "column", "height", "width"))
    assert box is not None and told == (box.row, box.column, box.height, box.width)
    drawn = np.asarray(Image.open(out / "overlays" / "a.png"))
    assert (drawn[box.row, box.column] == (0, 229, 255)).all()
    green = (drawn == (64, 255, 64)).all(-1)
    assert green.any() and not (green & ~scene((20, 70))[1]).any()


def test_without_masks_they_are_images_like_others(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    rows = explain_all(explainer(predictor, "disc"), [folder], tmp_path / "out")
    assert len(rows) == 8 and all(row["mask_share"] is None for row in rows)
    assert {row["label"] for row in rows} == {"disc"}


# what cannot be asked


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (ClassQuestion("gradcam", "feature"), "unknown layer 'feature'. Did you mean 'features'"),
        (ClassQuestion("gradcam", "head"), "layer 'head' gives no maps"),
        (ClassQuestion("gradcam", "features", "cyst"), "unknown label 'cyst'"),
        (ClassQuestion("gradcam", "features", "3"), "unknown label '3'"),
        (ClassQuestion("gradcam", "features", share=1), "share must be at least 0 and below 1; got 1"),
        (ClassQuestion("occlusion", "features"), "method 'occlusion' looks at no layer"),
    ],
)
def test_question_that_cannot_be_asked_is_refused(
    predictor: Predictor, question: ClassQuestion, words: str
) -> None:
    with pytest.raises(MedsegError, match=words):
        ClassExplainer(predictor, question)


def test_each_task_has_its_own_explainer(predictor: Predictor, learnt: Bundle) -> None:
    with pytest.raises(MedsegError, match="the bundle classifies"):
        Explainer(predictor, Question("gradcam", "features"))
    with pytest.raises(MedsegError, match="the bundle segments"):
        ClassExplainer.of(learnt)
    assert read_recipe(learnt).task == "segmentation"


def test_layer_of_a_single_cell_tells_no_place(recipe: Recipe) -> None:
    model = "densenet121"
    network = MODELS[model].build(in_channels=1, out_channels=2, **MODELS[model].facts["small"]).eval()
    one = Predictor(replace(recipe, model=model, image_size=(50, 50)), [network])
    with pytest.raises(
        MedsegError, match="'backbone.features.norm5' gives maps of 1 x 1 cells for images of 50 x 50 pixels"
    ):
        ClassExplainer(one, ClassQuestion())


# the registered classifiers


@pytest.mark.parametrize("stem", ["standard", "small"])
@pytest.mark.parametrize("name", MODELS.names("classification"))
def test_every_classifier_has_a_map_at_its_layer(name: str, stem: str, recipe: Recipe) -> None:
    torch.manual_seed(0)
    network = MODELS[name].build(in_channels=1, out_channels=3, stem=stem, **MODELS[name].facts["small"])
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(4, 1, 64, 64))
    labels = (Label("a"), Label("b"), Label("c"))
    own = replace(recipe, model=name, image_size=(64, 64), classes=3, labels=labels)
    one = ClassExplainer(Predictor(own, [network.eval()]), ClassQuestion())
    assert one.layer is not None and one.layer.name == MODELS[name].facts["cam_layer"]
    assert one.layer.step in (2, 4, 8, 16, 32) and one.layer.origin == network.cam_origin((64, 64))
    images = torch.randn(1, 1, 64, 64)
    both = [one.method.compute_map(images, lambda y, sign=sign: sign * y[:, 1]) for sign in (1, -1)]
    signed = one.layer.spread(both[0] - both[1], (64, 64))
    assert signed.isfinite().all() and signed.shape == (1, 1, 64, 64)
    assert signed.std() > 1e-6 * signed.abs().max() > 0
    assert (
        build("gradcam", network=network, layer=one.layer.name).compute_map(images, ClassScore(2)).min() >= 0
    )


def test_map_of_a_residual_network_is_laid_on_the_pixels_that_its_cells_see() -> None:
    """A cell of ResNet lies at the first of its 32 pixels, half a cell before their middle."""
    network = (
        MODELS["resnet50"].build(in_channels=1, out_channels=2, **MODELS["resnet50"].facts["small"]).eval()
    )
    layer = choose_layer(network, 1, (128, 128), "backbone.layer4", network.cam_origin((128, 128)))
    raw = torch.zeros(1, 1, 4, 4)
    raw[0, 0, 2, 1] = 1
    spread = layer.spread(raw, (128, 128))[0, 0]
    rows, columns = (spread == spread.max()).nonzero().float().mean(0)
    assert abs(rows - 64) <= 1 and abs(columns - 32) <= 1


def test_map_of_a_classifier_of_ones_own() -> None:
    heat = classifier_map(Brightness().eval(), torch.rand(1, 1, SIDE, SIDE), "layercam", "features", 0)
    assert heat.shape == (SIDE, SIDE) and heat.max() == pytest.approx(1) and heat.min() >= 0
