"""The classifiers against torchvision's: sizes, values, weights from files, stems, and where their cells lie."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models._pretrained import records
from medseg.models.densenet import timm_names as densenet_names
from medseg.models.vgg import stretched

torchvision = pytest.importorskip("torchvision")
NAMES = MODELS.names("classification")
WIDTHS = (4, 4, 6, 6, 8)


def build(name: str, in_channels: int = 3, out_channels: int = 2, **arguments: object) -> nn.Module:
    small = {**MODELS[name].facts["small"], **arguments}
    return models.build(name, small, in_channels=in_channels, out_channels=out_channels)


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(images)


class PlainVGG(nn.Module):
    """VGG-19 as torchvision writes it, with its names, narrow."""

    def __init__(self, classes: int = 5, wide: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for (a, b), depth in zip(itertools.pairwise((3, *WIDTHS)), (2, 2, 4, 4, 4), strict=True):
            for channels in (a, *[b] * (depth - 1)):
                layers += [nn.Conv2d(channels, b, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(49 * WIDTHS[-1], wide), nn.ReLU(), nn.Dropout(), nn.Linear(wide, 4096), nn.ReLU()
        )
        self.classifier.append(nn.Dropout()).append(nn.Linear(4096, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(functional.adaptive_avg_pool2d(self.features(images), 7).flatten(1))


def plain_resnet() -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5)


def plain_densenet() -> nn.Module:
    return torchvision.models.DenseNet(4, (1, 2, 2, 1), num_init_features=8, num_classes=5)


#: model -> torchvision's own class, narrow or shallow, the arguments for the same here, and the name of its head
TWINS = {
    "vgg19": (PlainVGG, {"widths": WIDTHS, "classifier_width": 4096}, "classifier.6"),
    "resnet50": (plain_resnet, {"depths": (1, 1, 1, 1), "widths": (64, 128, 256, 512)}, "fc"),
    "densenet121": (plain_densenet, {"growth": 4, "depths": (1, 2, 2, 1)}, "classifier"),
}


def twins(name: str, folder: Path) -> tuple[nn.Module, nn.Module]:
    """torchvision's network with the statistics of a batch, and this one that began from its file of weights."""
    make, arguments, head = TWINS[name]
    torch.manual_seed(3)
    reference = make()
    with torch.no_grad():
        reference.train()(torch.randn(4, 3, 64, 64))
    torch.save(reference.state_dict(), folder / "weights.pth")
    path = str(folder / "weights.pth")
    network = models.build(name, arguments, in_channels=3, out_channels=5, pretrained=path)
    network.head.load_state_dict(reference.get_submodule(head).state_dict())
    return reference.eval(), network


@pytest.mark.parametrize("name", TWINS)
def test_torchvisions_file_of_weights_gives_torchvisions_logits(name: str, tmp_path: Path) -> None:
    reference, network = twins(name, tmp_path)
    (record,) = models.provenance(network)
    assert record["weights"] == MODELS[name].facts["pretrained"][0] and "random" not in record
    for size in ((224, 224), (50, 50), (64, 96)):
        images = torch.randn(1, 3, *size)
        torch.testing.assert_close(logits(network, images), logits(reference, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("vgg19", "vgg19"),
        ("resnet50", "resnet50"),
        ("densenet121", "densenet121"),
        ("efficientnetv2_s", "efficientnet_v2_s"),
    ],
)
def test_as_many_parameters_as_torchvision(name: str, other: str) -> None:
    with torch.device("meta"):
        ours = models.build(name, in_channels=3, out_channels=1000)
        theirs = getattr(torchvision.models, other)()
    shapes = [
        sorted(tuple(p.shape) for p in network.parameters() if p.dim() == 1) for network in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert counts[0] == counts[1] == MODELS[name].facts["published_parameters"]


def test_vgg_sees_each_part_of_a_large_image_and_averages(tmp_path: Path) -> None:
    reference, network = twins("vgg19", tmp_path)
    images = torch.randn(1, 3, 256, 224)
    maps = reference.features(images)
    assert maps.shape[2:] == (8, 7)
    parts = [reference.classifier[:5](maps[:, :, row : row + 7].flatten(1)) for row in (0, 1)]
    expected = reference.classifier[6](torch.stack(parts).mean(0))
    torch.testing.assert_close(logits(network, images), expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (6, 9), (7, 7), (8, 4)])
def test_small_maps_are_stretched_as_by_adaptive_pooling(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size)
    expected = functional.adaptive_avg_pool2d(maps, [max(side, 7) for side in size])
    torch.testing.assert_close(stretched(maps), expected)


def test_densenets_of_old_files_have_other_names() -> None:
    old = {
        "features.denseblock1.denselayer2.norm.1.weight": 0,
        "features.denseblock1.denselayer2.conv.2.weight": 1,
        "features.norm5.weight": 2,
        "features.transition1.norm.weight": 3,
    }
    assert list(densenet_names(old)) == [
        "features.denseblock1.denselayer2.norm1.weight",
        "features.denseblock1.denselayer2.conv2.weight",
        "features.norm5.weight",
        "features.transition1.norm.weight",
    ]


@pytest.mark.parametrize(
    ("name", "standard", "small"),
    [
        ("vgg19", (3, 3), (6, 6)),  # before the last pooling, of which the standard stem has one more
        ("resnet50", (2, 2), (7, 7)),
        ("densenet121", (1, 1), (6, 6)),
        ("efficientnetv2_s", (2, 2), (4, 4)),
    ],
)
def test_small_stem_leaves_more_of_a_tile_of_50_pixels(
    name: str, standard: Sequence[int], small: Sequence[int]
) -> None:
    for stem, size in (("standard", standard), ("small", small)):
        network, seen = build(name, stem=stem).eval(), []
        layer = network.get_submodule(MODELS[name].facts["cam_layer"])
        layer.register_forward_hook(lambda *call, seen=seen: seen.append(tuple(call[2].shape[2:])))
        logits(network, torch.randn(1, 3, 50, 50))
        assert seen == [tuple(size)], stem


@pytest.mark.parametrize(("name", "key"), [("resnet50", "conv1"), ("densenet121", "features.conv0")])
def test_first_convolution_of_another_shape_begins_at_random_and_says_so(
    name: str, key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    source = build(name)
    torch.save(source.backbone.state_dict(), tmp_path / "w.pth")
    arguments = {**MODELS[name].facts["small"], "stem": "small"}
    begin = {"in_channels": 3, "out_channels": 2, "pretrained": str(tmp_path / "w.pth")}
    torch.manual_seed(1)
    with caplog.at_level(logging.WARNING):
        network = models.build(name, arguments, **begin)
    weights = MODELS[name].facts["pretrained"][0]
    assert f"{name}: {key}.weight begins at random, since {weights} has another layer there" in caplog.text
    (record,) = models.provenance(network)
    assert record["random"] == f"{key}.weight" and record["source"] == "file w.pth"
    state, published = network.backbone.state_dict(), source.backbone.state_dict()
    assert state[f"{key}.weight"].shape[2:] == (3, 3)
    assert all(torch.equal(value, published[k]) for k, value in state.items() if k != f"{key}.weight")
    torch.manual_seed(1)
    again = models.build(name, arguments, in_channels=3, out_channels=2)
    torch.testing.assert_close(state[f"{key}.weight"], again.backbone.state_dict()[f"{key}.weight"])
    message = f"frozen_stages=1: {key}.weight of {name} begins at random and must learn; use stem=standard"
    with pytest.raises(MedsegError, match=message):
        models.build(name, arguments, **begin, frozen_stages=1)
    frozen = models.build(name, arguments, in_channels=3, out_channels=2, frozen_stages=1)
    assert not frozen.backbone.get_submodule(key).weight.requires_grad  # as when trained weights come later


@pytest.mark.parametrize("name", ["vgg19", "efficientnetv2_s"])
def test_small_stem_without_another_shape_begins_from_all_weights(name: str, tmp_path: Path) -> None:
    source = build(name)
    torch.save(source.backbone.state_dict(), tmp_path / "w.pth")
    network = models.build(
        name,
        {**MODELS[name].facts["small"], "stem": "small"},
        in_channels=3,
        out_channels=2,
        pretrained=str(tmp_path / "w.pth"),
    )
    assert "random" not in records(network)[0]
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, source.backbone.state_dict()[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_head_of_a_file_is_left_out_and_grey_sums_the_colours(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = build(name)
    head = {"vgg19": "head.fc", "resnet50": "fc"}.get(name, "classifier")
    state = {**source.backbone.state_dict(), f"{head}.weight": torch.ones(1000, 4096)}
    torch.save(state, tmp_path / "w.pth")
    begin = {"out_channels": 7, "pretrained": str(tmp_path / "w.pth")}
    grey, colour = (
        models.build(name, MODELS[name].facts["small"], in_channels=channels, **begin) for channels in (1, 3)
    )
    assert grey.head.weight.shape[0] == 7
    colour.head.load_state_dict(grey.head.state_dict())
    image = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(
        logits(grey, image), logits(colour, image.expand(2, 3, 64, 64)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_file_of_another_network_is_refused(name: str, tmp_path: Path) -> None:
    key = build(name).backbone.state_dict()
    last = [k for k in key if k.endswith("weight")][-1]
    torch.save({k: v for k, v in key.items() if k != last}, tmp_path / "w.pth")
    message = f"{name}: w.pth does not hold {MODELS[name].facts['pretrained'][0]}: it lacks {last}"
    with pytest.raises(MedsegError, match=re.escape(message)):
        models.build(
            name,
            MODELS[name].facts["small"],
            in_channels=3,
            out_channels=2,
            pretrained=str(tmp_path / "w.pth"),
        )


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_before_the_head_and_in_training_alone(name: str) -> None:
    def zeros(dropout: float, training: bool) -> float:
        torch.manual_seed(0)
        network, seen = build(name, dropout=dropout).train(training), []
        network.head.register_forward_hook(lambda *call: seen.append(call[1][0]))
        network(torch.rand(16, 3, 64, 64))
        return (seen[0] == 0).float().mean().item()

    kept = zeros(0.0, True)
    assert zeros(0.5, False) == zeros(0.0, False)
    assert zeros(0.5, True) == pytest.approx(kept + (1 - kept) * 0.5, abs=0.06)


def test_stochastic_depth_leaves_blocks_out_in_training_alone() -> None:
    images = torch.randn(4, 3, 64, 64)
    network = build("efficientnetv2_s", dropout=0, stochastic_depth=0.9, depth=0.3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0  # one pass must not change the next
    assert not torch.equal(network(images), network(images))
    assert torch.equal(logits(network, images), logits(network, images))
    still = build("efficientnetv2_s", dropout=0, stochastic_depth=0, depth=0.3)
    for layer in still.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0
    assert torch.equal(still(images), still(images))


def even(network: nn.Module) -> nn.Module:
    """The network with filters that are the same everywhere, of which each cell sees its field evenly."""
    for layer in network.eval().modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for name, part in layer.named_children():
            if isinstance(part, nn.MaxPool2d):  # which would see but one of equal values
                setattr(layer, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding))
            elif name == "se":  # which sees the whole image
                setattr(layer, name, nn.Identity())
    return network.double()


@pytest.mark.parametrize("stem", ["standard", "small"])
@pytest.mark.parametrize("side", [256, 258, 257, 269])
@pytest.mark.parametrize("name", ["resnet50", "efficientnetv2_s"])
def test_first_cell_lies_where_the_model_says(name: str, side: int, stem: str) -> None:
    network = even(build(name, 1, stem=stem, **({"depth": 0.01} if name != "resnet50" else {})))
    seen: list[Tensor] = []
    network.get_submodule(MODELS[name].facts["cam_layer"]).register_forward_hook(lambda *c: seen.append(c[2]))
    images = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    network(images)
    row, column = (cells // 2 for cells in seen[0].shape[2:])
    (gradient,) = torch.autograd.grad(seen[0][0, :, row, column].sum(), images)
    gradient = gradient[0, 0]
    step = 2 ** round(torch.tensor(side / seen[0].shape[2]).log2().item())
    centre = (gradient.sum(1) * torch.arange(side)).sum() / gradient.sum()
    assert centre.item() - row * step == pytest.approx(network.cam_origin((side, side)), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet50", {"stem": "tiny"}, "model 'resnet50': stem must be standard or small; got 'tiny'"),
        ("vgg19", {"dropout": 1.0}, "model 'vgg19': dropout must be at least 0 and below 1; got 1.0"),
        ("vgg19", {"widths": [4, 4]}, r"model 'vgg19': widths must be 5 numbers above 0; got \[4, 4\]"),
        ("vgg19", {"classifier_width": 0}, r"classifier_width must be 1 numbers? above 0; got \[0\]"),
        ("resnet50", {"depths": [1, 0, 1, 1]}, r"depths must be 4 numbers above 0; got \[1, 0, 1, 1\]"),
        ("resnet50", {"widths": [8]}, r"widths must be 4 numbers above 0; got \[8\]"),
        ("densenet121", {"growth": -1}, r"growth must be 1 numbers? above 0; got \[-1\]"),
        ("densenet121", {"depths": []}, r"depths must be 4 numbers above 0; got \[\]"),
        ("efficientnetv2_s", {"width": 0}, "width and depth must be above 0; got 0 and 0.1"),
        (
            "efficientnetv2_s",
            {"stochastic_depth": 1},
            "stochastic_depth must be at least 0 and below 1; got 1",
        ),
    ],
)
def test_arguments_that_are_not_usable(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(name, **arguments)
