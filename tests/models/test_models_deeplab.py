"""DeepLabV3 and DeepLabV3+: published parameter counts, torchvision's numbers, and the paper's decoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models._blocks import check_batch
from medseg.models.deeplab import ASPP, separable_convolution

BOTH = ("deeplabv3", "deeplabv3plus")


def build(name: str, **arguments: object) -> nn.Module:
    return models.build(name, **{"in_channels": 3, "out_channels": 1, "backbone": "resnet10t", **arguments})


def stir(network: nn.Module) -> nn.Module:
    """Give batch normalisations numbers of their own, as training would."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (layer.bias, layer.running_mean):
                nn.init.normal_(values, std=0.1)
    return network.eval()


def layer(maps: Tensor, sequence: nn.Module, **arguments: int) -> Tensor:
    """A convolution of a few arguments, batch normalisation by its running numbers, and ReLU."""
    convolution, norm, _ = sequence
    maps = functional.conv2d(maps, convolution.weight, **arguments)
    maps = functional.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return maps.relu()


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("deeplabv3", {}, 39_633_729),
        ("deeplabv3", {"backbone": "resnet101.tv_in1k"}, 58_625_857),
        ("deeplabv3", {"auxiliary": True}, 41_993_794),
        # segmentation-models-pytorch has 26,677,585, 45,669,713 and 41,036,865, without the batch normalisations
        # between depthwise and pointwise convolutions: three of 2048 channels, one of 304 and one of 256
        ("deeplabv3plus", {}, 26_677_585 + 2 * (3 * 2048 + 304) + 2 * 256),
        ("deeplabv3plus", {"backbone": "resnet101.tv_in1k"}, 45_669_713 + 13_408),
        ("deeplabv3plus", {"backbone": "xception65.tf_in1k"}, 41_036_865 + 13_408),
    ],
)
def test_published_parameter_counts(name: str, arguments: dict, parameters: int) -> None:
    with torch.device("meta"):
        network = build(name, **{"backbone": "resnet50.tv_in1k", **arguments})
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


# DeepLabV3


def test_deeplabv3_is_torchvisions() -> None:
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    reference = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=2, aux_loss=True)
    network = build("deeplabv3", out_channels=2, backbone="resnet50.tv_in1k", auxiliary=True)
    network.load_state_dict(reference.state_dict())
    for module in (*reference.modules(), *network.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = torch.randn(2, 3, 41, 56)
    with torch.no_grad():
        main, auxiliary = network.train()(images)
        expected = reference.train()(images)
        torch.testing.assert_close(main, expected["out"])
        torch.testing.assert_close(auxiliary, expected["aux"])
        torch.testing.assert_close(network.eval()(images), reference.eval()(images)["out"])


def test_an_auxiliary_head_works_in_training_only() -> None:
    network, images = build("deeplabv3", auxiliary=True), torch.randn(2, 3, 32, 32)
    main, auxiliary = network.train()(images)
    assert main.shape == auxiliary.shape == (2, 1, 32, 32) and not torch.allclose(main, auxiliary)
    assert network.output_weights == (1.0, 0.5)
    assert isinstance(network.eval()(images), Tensor)
    assert build("deeplabv3").output_weights == (1.0,)
    assert isinstance(build("deeplabv3").train()(images), Tensor)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18])])
def test_rates_double_where_the_output_stride_halves(output_stride: int, rates: list[int]) -> None:
    network = build("deeplabv3", output_stride=output_stride)
    found = [
        m.dilation[0] for m in network.classifier.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1
    ]
    assert found == rates
    assert network.backbone(torch.randn(1, 3, 64, 96))[-1].shape[2:] == (
        64 // output_stride,
        96 // output_stride,
    )
    plus = build("deeplabv3plus", output_stride=output_stride)
    assert [atrous[0][0].dilation[0] for atrous in plus.aspp.atrous] == rates
    assert plus.backbone(torch.randn(1, 3, 64, 96))[-1].shape[2:] == (
        64 // output_stride,
        96 // output_stride,
    )


@pytest.mark.parametrize(("name", "default"), [("deeplabv3", 8), ("deeplabv3plus", 16)])
def test_weights_of_one_output_stride_fit_the_other(name: str, default: int) -> None:
    network = stir(build(name))
    assert network.backbone.feature_info.reduction()[-1] == default
    other = build(name, output_stride=24 - default).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(network(images), other(images))


# DeepLabV3+


def test_a_separable_convolution_normalises_and_activates_twice() -> None:
    torch.manual_seed(0)
    block = stir(separable_convolution(4, 6, dilation=2))
    maps = torch.randn(2, 4, 9, 9)
    between = layer(maps, block[0], padding=2, dilation=2, groups=4)
    torch.testing.assert_close(block(maps), layer(between, block[1]))
    assert between.eq(0).any()


def test_aspp_joins_five_branches() -> None:
    torch.manual_seed(0)
    aspp = stir(ASPP(4, (1, 2, 3), 8, dropout=0.1))
    maps = torch.randn(2, 4, 10, 12)
    branches = [layer(maps, aspp.pointwise)]
    for rate, atrous in zip((1, 2, 3), aspp.atrous, strict=True):
        depthwise = layer(maps, atrous[0], padding=rate, dilation=rate, groups=4)
        branches.append(layer(depthwise, atrous[1]))
    mean = layer(maps.mean((2, 3), keepdim=True), aspp.image_pooling[1])
    branches.append(functional.interpolate(mean, size=(10, 12), mode="bilinear", align_corners=True))
    expected = layer(torch.cat(branches, 1), aspp.projection[0])
    torch.testing.assert_close(aspp(maps), expected)
    assert [m.p for m in aspp.modules() if isinstance(m, nn.Dropout)] == [0.1]


def test_the_decoder_works_at_a_quarter_of_the_sides() -> None:
    network = stir(build("deeplabv3plus", out_channels=2))
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name in ("aspp", "reduction", "decoder", "decoder.0", "decoder.1", "head"):

        def keep(_: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = name) -> None:
            seen[name] = (inputs[0], output)

        network.get_submodule(name).register_forward_hook(keep)
    logits = network(torch.randn(1, 3, 64, 96))
    assert seen["aspp"][1].shape == (1, 256, 4, 6)
    assert seen["reduction"][0].shape == (1, 64, 16, 24) and seen["reduction"][1].shape == (1, 48, 16, 24)
    assert seen["decoder.0"][0].shape == (1, 304, 16, 24)
    assert seen["decoder.1"][0].shape == seen["decoder.1"][1].shape == (1, 256, 16, 24)
    assert len(network.decoder) == 2
    # both interpolations align the corners: the first and last pixel stay, those between are evenly spaced
    context, low, high = seen["decoder"][0][:, :256], seen["aspp"][1], seen["head"][1]
    for large, small in ((context, low), (logits, high)):
        first = small[:, :, 0]
        place = torch.linspace(0, small.shape[3] - 1, large.shape[3])
        left = place.long().clamp(max=small.shape[3] - 2)
        row = first[..., left] + (place - left) * (first[..., left + 1] - first[..., left])
        torch.testing.assert_close(large[:, :, 0], row)
    torch.testing.assert_close(seen["decoder"][0][:, 256:], seen["reduction"][1])


def test_the_papers_own_backbone() -> None:
    torch.manual_seed(0)
    network = build("deeplabv3plus", backbone="xception41.tf_in1k")
    maps = network.backbone(torch.randn(1, 3, 64, 64))
    assert (maps[network.low_level].shape, maps[-1].shape) == ((1, 256, 16, 16), (1, 2048, 4, 4))
    network(torch.randn(2, 3, 33, 33)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("dropout", "same"), [(0.0, True), (0.5, False)])
def test_dropout(dropout: float, same: bool) -> None:
    network, images = build("deeplabv3plus", dropout=dropout).train(), torch.randn(2, 3, 32, 32)
    assert network(images).equal(network(images)) == same


# both


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("size", [(1, 1), (33, 49), (30, 70)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    logits = build(name, in_channels=1, out_channels=3).eval()(torch.randn(2, 1, *size))
    assert logits.shape == (2, 3, *size) and logits.isfinite().all()


@pytest.mark.parametrize("name", BOTH)
def test_a_batch_of_one_cannot_train(name: str) -> None:
    network, image = build(name).train(), torch.randn(1, 3, 32, 32)
    with pytest.raises(
        MedsegError, match=f"{name} cannot train on a batch of one image, .*; use batches of two"
    ):
        network(image)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 1, 32, 32)
    assert network.eval()(image).shape == (1, 1, 32, 32)


def test_normalisation_over_several_processes_counts_its_images_itself() -> None:
    pooling = build("deeplabv3plus").aspp.image_pooling
    with pytest.raises(MedsegError):
        check_batch("deeplabv3plus", torch.zeros(1, 3, 8, 8), pooling)
    check_batch("deeplabv3plus", torch.zeros(1, 3, 8, 8), nn.SyncBatchNorm.convert_sync_batchnorm(pooling))


@pytest.mark.parametrize("name", BOTH)
def test_residual_blocks_begin_as_torchvisions(name: str) -> None:
    norms = [m for m in build(name).backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.weight.eq(1).all() for norm in norms)


@pytest.mark.parametrize("name", BOTH)
def test_backbone_begins_from_a_file(name: str, tmp_path: Path) -> None:
    import timm

    reference = timm.create_model("resnet10t")
    torch.save(reference.state_dict(), tmp_path / "resnet10t.c3_in1k.pth")
    network = build(name, backbone="resnet10t.c3_in1k", pretrained=str(tmp_path))
    torch.testing.assert_close(network.backbone.layer4[0].conv1.weight, reference.layer4[0].conv1.weight)
    assert [record["weights"] for record in models.provenance(network)] == ["resnet10t.c3_in1k"]
    assert network.backbone.stages[-1] == ("layer4",)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"backbone": "vgg16.tv_in1k"},
            "backbone must be a timm network such as resnet50.tv_in1k or .*'vgg16.tv_in1k'",
        ),
        ({"backbone": "resnet50_clip.openai"}, "got 'resnet50_clip.openai'"),
        ({"output_stride": 32}, "output_stride must be 8 or 16; got 32"),
        ({"pretrained": "nowhere"}, "no file or folder nowhere"),
    ],
)
def test_unusable_arguments(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=f"{name}.*{message}"):
        build(name, **arguments)


def test_unusable_arguments_of_one_of_them() -> None:
    with pytest.raises(
        MedsegError, match="model 'deeplabv3': .* resnet101.tv_in1k; got 'xception65.tf_in1k'"
    ):
        build("deeplabv3", backbone="xception65.tf_in1k")
    with pytest.raises(
        MedsegError, match="model 'deeplabv3plus': dropout must be at least 0 and below 1; got -0.1"
    ):
        build("deeplabv3plus", dropout=-0.1)
