"""ColonFormer: the published counts, UPerNet's decoder against plain functions, and the refinement's order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medseg import models
from medseg.errors import MedsegError
from medseg.models._axial import AxisAttention
from medseg.models.colonformer import UPerHead, averages

TINY = {"backbone": "mit_b0.imagenet", "channels": 16}


def build(**arguments: object) -> nn.Module:
    return models.build("colonformer", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def stirred(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, with statistics and gammas other than those it starts with."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                nn.init.uniform_(values, 0.2, 2)
        if isinstance(layer, AxisAttention):
            nn.init.constant_(layer.gamma, 0.7)
    return network.eval()


def stretch(maps: Tensor, factor: float) -> Tensor:
    return functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("arguments", "parameters", "macs"),
    [
        ({}, 52_944_528, 9_502_357_216),
        ({"backbone": "mit_b2.imagenet"}, 33_068_688, 6_631_788_256),
        ({"backbone": "mit_b1.imagenet"}, 22_023_824, 5_036_141_280),
    ],
)
def test_published_counts(arguments: dict, parameters: int, macs: int) -> None:
    with torch.device("meta"):
        network = build(**arguments).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 224, 224))
    assert count(network) == parameters
    # pooling 512 maps of 7 x 7 to b x b as two matrix products, which the authors' pooling does uncounted
    pooling = sum(512 * (b * 7 * 7 + b * 7 * b) for b in (1, 2, 3, 6))
    assert counter.get_total_flops() == 2 * (macs + pooling)


@pytest.mark.parametrize("side", [1, 2, 5, 6, 7, 11])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_averages_are_adaptive_pooling(side: int, bins: int) -> None:
    maps = torch.randn(2, 3, side, 7)
    pooled = averages(side, bins, maps) @ maps @ averages(7, bins, maps).transpose(0, 1)
    torch.testing.assert_close(pooled, functional.adaptive_avg_pool2d(maps, bins))


def normal(state: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    weight = state[f"{name}.0.weight"]
    maps = functional.conv2d(maps, weight, padding=weight.shape[-1] // 2)
    mean, variance = state[f"{name}.1.running_mean"], state[f"{name}.1.running_var"]
    return functional.batch_norm(
        maps, mean, variance, state[f"{name}.1.weight"], state[f"{name}.1.bias"]
    ).relu()


def test_the_decoder_is_upernets() -> None:
    torch.manual_seed(0)
    decoder = stirred(UPerHead((2, 3, 5, 7), 4, 2, dropout=0.5))
    s = decoder.state_dict()
    c1, c2, c3, c4 = (
        torch.randn(2, c, 7 * 2**i, 5 * 2**i) for c, i in zip((2, 3, 5, 7), (3, 2, 1, 0), strict=True)
    )
    pooled = [c4]
    for index, bins in enumerate((1, 2, 3, 6)):
        maps = normal(s, f"pooling.projections.{index}", functional.adaptive_avg_pool2d(c4, bins))
        pooled.append(functional.interpolate(maps, size=(7, 5), mode="bilinear", align_corners=False))
    p4 = normal(s, "pooling.bottleneck", torch.cat(pooled, 1))
    p3 = normal(s, "laterals.2", c3) + stretch(p4, 2)
    p2 = normal(s, "laterals.1", c2) + stretch(p3, 2)
    p1 = normal(s, "laterals.0", c1) + stretch(p2, 2)
    maps = [
        normal(s, "convolutions.0", p1),
        stretch(normal(s, "convolutions.1", p2), 2),
        stretch(normal(s, "convolutions.2", p3), 4),
        stretch(p4, 8),
    ]
    joined = normal(s, "bottleneck", torch.cat(maps, 1))
    expected = functional.conv2d(joined, s["head.weight"], s["head.bias"])
    torch.testing.assert_close(decoder([c1, c2, c3, c4]), expected, rtol=1e-4, atol=1e-4)


def test_dropout_drops_whole_channels_before_the_head() -> None:
    decoder = stirred(UPerHead((2, 3, 5, 7), 4, 1, dropout=0.5))
    decoder.dropout.train()
    seen: list[Tensor] = []
    decoder.head.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    decoder([torch.randn(8, c, 2**i, 2**i) for c, i in zip((2, 3, 5, 7), (4, 3, 2, 1), strict=True)])
    kept = (seen[0] != 0).flatten(2).float().mean(2)
    assert (kept == 0).any() and (kept > 0).any()
    assert [layer.p for layer in build(**TINY).modules() if isinstance(layer, nn.Dropout2d)] == [0.1]


def test_refinement_has_the_backbones_widths_and_adds_the_context() -> None:
    with torch.device("meta"):
        network = build(**TINY)
    modules = (network.refinement2, network.refinement3, network.refinement4)
    assert [module.context.projection[2].out_channels for module in modules] == [64, 160, 256]
    assert all(module.residual for module in modules)
    last = network.refinement2.convolutions[2]
    assert [type(layer) for layer in last] == [nn.Conv2d, nn.BatchNorm2d, nn.PReLU]


def test_outputs_are_the_refinements_from_the_last_on_and_the_global_map() -> None:
    torch.manual_seed(0)
    network = stirred(build(**TINY, out_channels=2))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        levels = network.backbone(images)
        everywhere = network.decoder(levels)
        map4 = network.refinement4(levels[3], stretch(everywhere, 0.125))
        map3 = network.refinement3(levels[2], stretch(map4, 2))
        map2 = network.refinement2(levels[1], stretch(map3, 2))
        assert [logits.shape[3] for logits in (map2, map3, map4, everywhere)] == [12, 6, 3, 24]
        network.training = True  # the children stay in evaluation mode
        outputs = network(images)
        assert models.output_weights(network) == {(0,): 1.0, (1,): 1.0, (2,): 1.0, (3,): 1.0}
        for result, logits, factor in zip(
            outputs, (map2, map3, map4, everywhere), (8, 16, 32, 4), strict=True
        ):
            torch.testing.assert_close(result, stretch(logits, factor))
        network.training = False
        assert network(images).equal(outputs[0])


def test_the_choice_of_axes_changes_the_logits_and_not_the_parameters() -> None:
    torch.manual_seed(0)
    paper, code = stirred(build(**TINY)), build(**TINY, attention_axes="code").eval()
    code.load_state_dict(paper.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(paper(images), code(images))


def test_one_image_alone_cannot_be_normalised_in_training() -> None:
    network, image = build(**TINY).train(), torch.zeros(1, 3, 64, 64)
    with pytest.raises(MedsegError, match="colonformer cannot train on a batch of one image, .* two or more"):
        network(image)
    assert network.eval()(image).shape == (1, 1, 64, 64)
    assert models.MODELS["colonformer"].facts["batch_of_one"] is False


def test_the_backbone_drops_its_last_block_one_time_in_ten() -> None:
    with torch.device("meta"):
        network = build(**TINY)
    chances = [layer.drop_prob for layer in network.modules() if type(layer).__name__ == "DropPath"]
    assert chances == sorted(chances) and chances[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"backbone": "pvt_v2_b2.in1k"},
            "model 'colonformer': backbone must be mit_b0.imagenet to mit_b5.imagenet; got 'pvt_v2_b2.in1k'",
        ),
        ({"channels": 0}, "model 'colonformer': channels must be a number above 0; got 0"),
        ({"dropout": 1.0}, "model 'colonformer': dropout must be at least 0 and below 1; got 1.0"),
        ({"attention_axes": "h"}, "model 'colonformer': attention_axes must be 'paper' or 'code'; got 'h'"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        build(**arguments)


def test_sizes_it_cannot_take() -> None:
    with pytest.raises(MedsegError, match="colonformer needs sides divisible by 32; got 72x64"):
        build(**TINY)(torch.zeros(1, 3, 72, 64))
