"""FCN: the published parameter counts, VGG16, the alignment of its streams, and its start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models.fcn import AT_ONCE, DEPTHS, OFFSETS, POOL_OFFSETS, BilinearUpsampling, paper_names


def build(**arguments: object) -> nn.Module:
    small = {"widths": (4, 4, 4, 6, 8), "classifier_width": 10}
    return models.build("fcn", **{"in_channels": 3, "out_channels": 1, **small, **arguments})


def awake(**arguments: object) -> nn.Module:
    """With scores that do not begin at zero, in evaluation mode."""
    network = build(**arguments).eval()
    for score in (network.score_fr, *network.score_pools):
        nn.init.normal_(score.weight)
        nn.init.normal_(score.bias)
    return network


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        # published: 134,265,699, of which 16 + 16 + 256 are bilinear kernels
        ({}, 134_265_699 - 288),
        # published for 21 classes: 134,489,759; their kernels are of 21 x 21 channels
        ({"out_channels": 21}, 134_489_759 - 288 * 21**2),
        ({"stride": 16}, 134_265_411 - (256 + 1)),
        ({"stride": 32}, 134_265_411 - (256 + 1) - (512 + 1)),
    ],
)
def test_published_parameter_counts(arguments: dict, parameters: int) -> None:
    with torch.device("meta"):
        network = models.build("fcn", **{"in_channels": 3, "out_channels": 1, **arguments})
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_vgg16_is_timms_on_an_image_padded_by_99_more(tmp_path: Path) -> None:
    from timm.models.vgg import VGG

    torch.manual_seed(0)
    widths = (4, 4, 4, 6, 8)
    layers: list = []
    for width, depth in zip(widths, DEPTHS, strict=True):
        layers += [width] * depth + ["M"]
    reference = VGG(layers, num_classes=2).eval()
    torch.save(reference.state_dict(), tmp_path / "vgg16.tv_in1k.pth")
    network = build(widths=widths, classifier_width=4096, pretrained=str(tmp_path)).eval()
    assert models.provenance(network)[0]["weights"] == "vgg16.tv_in1k"
    # 26 + 2 * 99 = 224, of which VGG16 makes a single fc7
    image = torch.randn(2, 3, 26, 26)
    with torch.no_grad():
        expected = reference.forward_features(functional.pad(image, [99] * 4))
        expected = reference.pre_logits(expected)
        fc7 = network.backbone(image)[2]
    assert fc7.shape == (2, 4096, 1, 1)
    torch.testing.assert_close(fc7, expected)


def test_a_fully_connected_layer_of_torchvisions_file_becomes_a_convolution() -> None:
    maps, fc6, fc7 = torch.randn(2, 5, 7, 7), torch.randn(6, 5 * 49), torch.randn(4, 6)
    state = paper_names(
        {"classifier.0.weight": fc6, "classifier.3.weight": fc7, "classifier.3.bias": torch.ones(4)}
    )
    assert list(state) == ["fc6.0.weight", "fc7.0.weight", "fc7.0.bias"]
    expected = functional.linear(functional.linear(maps.flatten(1), fc6), fc7)
    result = functional.conv2d(functional.conv2d(maps, state["fc6.0.weight"]), state["fc7.0.weight"])
    torch.testing.assert_close(result.flatten(1), expected, rtol=1e-3, atol=1e-3)


def test_pools_round_up_and_only_the_first_convolution_pads_by_100() -> None:
    network = build()
    # 37 + 198 = 235, then 118, 59, 30, 15, 8 and less 6; 50 + 198 = 248, then 124, 62, 31, 16, 8
    sizes = [maps.shape[2:] for maps in network.backbone(torch.randn(1, 3, 37, 50))]
    assert sizes == [(30, 31), (15, 16), (2, 2)]
    paddings = [layer.padding[0] for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert paddings == [100] + [1] * 12 + [0] * (2 + 3)


def test_offsets_follow_from_the_layers_geometry() -> None:
    # where the first pixel of each map looks at, in pixels of the image: conv1_1 pads 100 and has a side of 3
    centre = [-99.0]
    for level in range(5):
        centre.append(centre[-1] + 2**level / 2)
    pool3, pool4, fc7 = centre[3], centre[4], centre[5] + 3 * 32

    def upsampled(first: float, stride: int, factor: int) -> float:
        # the kernel of 2 * factor pixels has its middle at factor - 1/2
        return first - (factor - 0.5) / factor * stride

    at_16 = upsampled(fc7, 32, 2)
    at_8 = upsampled(at_16, 16, 2)
    assert ((at_16 - pool4) / 16, (at_8 - pool3) / 8) == POOL_OFFSETS
    assert {8: -upsampled(at_8, 8, 8), 16: -upsampled(at_16, 16, 16), 32: -upsampled(fc7, 32, 32)} == OFFSETS


def pass_through(network: nn.Module) -> None:
    """Let every convolution give its input's first channel."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                layer.bias.zero_()
                middle = layer.kernel_size[0] // 2
                layer.weight[0, 0, middle, middle] = 1


@pytest.mark.parametrize(("stride", "stream"), [(8, 0), (8, 1), (8, 2), (16, 0), (16, 1), (32, 0)])
def test_every_stream_lies_where_the_image_does(stride: int, stream: int) -> None:
    network = build(stride=stride).eval()
    pass_through(network)
    for index, score in enumerate((network.score_fr, *network.score_pools)):
        if index != stream:
            nn.init.zeros_(score.weight)
    rows = torch.arange(200.0)[:, None] + 1
    columns = torch.arange(230.0)[None, :] + 1
    ramp = (rows + 2 * columns).expand(1, 3, -1, -1)
    with torch.no_grad():
        logits = network(ramp)
    # pooling takes the largest value of a square of s pixels, (s - 1) / 2 from its middle, in both directions;
    # bilinear interpolation keeps a ramp as it is
    side = (32, 16, 8)[stream]
    expected = ramp[:, :1] + 3 * (side - 1) / 2
    inner = (slice(None), slice(None), slice(70, -70), slice(70, -70))
    torch.testing.assert_close(logits[inner], expected[inner], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("stride", [2, 8, 16, 32])
def test_upsampling_is_bilinear_interpolation(stride: int) -> None:
    maps = torch.randn(2, 3, 5, 6)
    upsampled = BilinearUpsampling(3, stride)(maps)
    assert upsampled.shape == (2, 3, 6 * stride, 7 * stride)
    expected = functional.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)
    half = stride // 2
    same = upsampled[:, :, half:-half, half:-half]
    # at the borders the one fades to zero and the other does not
    inner = (slice(None), slice(None), slice(half, -half), slice(half, -half))
    torch.testing.assert_close(same[inner], expected[inner])


def test_the_kernel_by_hand_and_that_it_does_not_learn() -> None:
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    network = build(out_channels=2)
    assert network.upscore2.kernel.equal(torch.outer(line, line).expand(2, 1, 4, 4))
    assert not any("upscore" in name for name, _ in network.named_parameters())
    assert "upscore2.kernel" in network.state_dict()


def test_upsampling_mixes_no_classes() -> None:
    maps = torch.zeros(1, 3, 4, 4)
    maps[:, 1] = 1
    assert BilinearUpsampling(3, 2)(maps).amax((0, 2, 3)).tolist() == [0, 1, 0]


def test_all_streams_at_once_are_scaled() -> None:
    torch.manual_seed(0)
    network, scaled = awake(), awake(at_once=True)
    scaled.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 20, 30)
    with torch.no_grad():
        assert not torch.allclose(network(images), scaled(images))
        for score, scale in zip(network.score_pools, AT_ONCE, strict=True):
            score.weight *= scale
        torch.testing.assert_close(network(images), scaled(images))
    assert AT_ONCE == (0.01, 0.0001)


def test_coarser_stages_start_the_finer_ones() -> None:
    coarse, middle = awake(stride=32), awake(stride=16)
    missing, strange = middle.load_state_dict(
        {key: value for key, value in coarse.state_dict().items() if "upscore" not in key}, strict=False
    )
    assert not strange and {key.split(".")[0] for key in missing} == {"score_pools", "upscore2", "upscore"}
    assert [score.in_channels for score in build(stride=8).score_pools] == [6, 4]


def test_the_first_step_moves_the_scores_alone() -> None:
    torch.manual_seed(0)
    network = build()
    logits = network(torch.randn(2, 3, 32, 32))
    assert not logits.any()
    (logits - 1).square().mean().backward()
    moved = {
        name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert moved == {"score_fr", "score_pools"}
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_signal_reaches_fc7_without_weights_of_imagenet() -> None:
    torch.manual_seed(0)
    network = build(widths=(16, 16, 32, 32, 32), classifier_width=64).eval()
    with torch.no_grad():
        fc7 = network.backbone(torch.randn(1, 3, 96, 96))[2]
    assert 0.05 < fc7.std().item() < 20


def test_dropout_follows_fc6_and_fc7_in_training_only() -> None:
    network = build()
    layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)]
    assert layers == ["backbone.fc6.2", "backbone.fc7.2"]
    assert network.backbone.fc6[2].p == network.backbone.fc7[2].p == 0.5
    network, images = awake(), torch.randn(1, 3, 16, 16)
    assert network(images).equal(network(images))
    assert not network.train()(images).equal(network(images))
    calm = awake(dropout=0.0).train()
    assert calm(images).equal(calm(images))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (31, 33), (37, 50), (64, 100)])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_any_size(size: tuple[int, int], stride: int) -> None:
    logits: Tensor = awake(stride=stride, out_channels=2)(torch.randn(1, 3, *size))
    assert logits.shape == (1, 2, *size)
    assert logits.isfinite().all() and logits.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 4}, "model 'fcn': stride must be 8, 16 or 32; got 4"),
        ({"widths": (4, 8)}, r"model 'fcn': widths must be five numbers above 0; got \[4, 8\]"),
        ({"widths": (4, 8, 8, 8, 0)}, r"got \[4, 8, 8, 8, 0\]"),
        ({"classifier_width": 0}, "model 'fcn': classifier_width must be above 0; got 0"),
        ({"dropout": 1.0}, "model 'fcn': dropout must be at least 0 and below 1; got 1.0"),
        ({"pretrained": "nowhere"}, "fcn: no file or folder nowhere; give one that has vgg16.tv_in1k"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(**arguments)
