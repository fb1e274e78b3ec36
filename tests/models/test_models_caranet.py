"""CaraNet: the published counts, the CFP module, axial attention, the partial decoder, and the refinement."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from medseg import models
from medseg.errors import MedsegError
from medseg.models._axial import (
    AxialAttention,
    AxialReverseAttention,
    AxisAttention,
    ChannelwiseFeaturePyramid,
)
from medseg.models.caranet import PartialDecoder

SMALL = "resnet18.a1_in1k"


def build(**arguments: object) -> nn.Module:
    return models.build("caranet", **{"in_channels": 3, "out_channels": 1, **arguments})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def stirred(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, with statistics, slopes and gammas other than those it starts with."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                nn.init.uniform_(values, 0.2, 2)
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -1, 1)
        if isinstance(layer, AxisAttention):
            nn.init.constant_(layer.gamma, 0.7)
    return network.eval()


def stretch(maps: Tensor, factor: float, align_corners: bool = False) -> Tensor:
    return functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=align_corners)


def test_published_counts() -> None:
    with torch.device("meta"):
        network = build().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 224, 224))
    assert count(network) == 44_593_560
    assert counter.get_total_flops() == 2 * 8_729_378_224
    # the authors' backbone has a classifier besides, which they never use
    assert count(network) + 1000 * 2048 + 1000 == 46_642_560


def test_parameters_of_the_head_by_hand() -> None:
    with torch.device("meta"):
        network = build(backbone=SMALL, out_channels=2)
    # widths 128, 256, 512 -> 32, with two numbers of normalisation and a slope per channel
    reductions = (128 + 256 + 512) * 32 * 9 + 3 * 3 * 32
    decoder = 9 * (4 * 32**2 + 2 * 64**2 + 2 * 96**2) + 96 * 2 + 2
    channel = 9 * (8 + 2 + 4) + 3 * (2 + 2 + 4)
    # inside a CFP module: 32 -> 8, four channels of 8 -> 2 -> 2 -> 4 in two groups, 32 -> 32
    pyramid = 3 * 32 + (9 * 32 * 8 + 3 * 8) + 4 * channel + 3 * 32 + 32 * 32
    attention = 10 * 32**2 + 2 * (2 * 32 * 4 + 32**2 + 1)
    convolutions = 2 * (9 * 32 * 32 + 3 * 32) + 9 * 32 * 2 + 3 * 2
    head = reductions + decoder + 3 * (pyramid + attention + convolutions)
    assert count(network) - count(network.backbone) == head


def test_normalisation_has_the_authors_epsilon() -> None:
    with torch.device("meta"):
        network = build(backbone=SMALL)
    parts = [part for name, part in network.named_children() if name != "backbone"]
    normalisations = [
        layer for part in parts for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)
    ]
    assert len(normalisations) == 3 + 3 * (2 + 1 + 4 * 3 + 3)
    assert {layer.eps for layer in normalisations} == {1e-3}


def prelu_norm(state: dict[str, Tensor], norm: str, slope: str, maps: Tensor) -> Tensor:
    weight, bias = state[f"{norm}.weight"], state[f"{norm}.bias"]
    mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    maps = functional.batch_norm(maps, mean, variance, weight, bias, eps=1e-3)
    return functional.prelu(maps, state[f"{slope}.weight"])


def block(state: dict[str, Tensor], name: str, maps: Tensor, dilation: int = 1, groups: int = 1) -> Tensor:
    weight = state[f"{name}.0.weight"]
    maps = functional.conv2d(maps, weight, padding=dilation, dilation=dilation, groups=groups)
    return prelu_norm(state, f"{name}.1", f"{name}.2", maps)


def test_the_cfp_module_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    module = stirred(ChannelwiseFeaturePyramid(32))
    state = module.state_dict()
    maps = torch.randn(2, 32, 12, 14)
    reduced = block(state, "reduction.2", prelu_norm(state, "reduction.0", "reduction.1", maps))
    assert reduced.shape[1] == 8
    outputs = []
    for index, dilation in enumerate((1, 3, 5, 9)):
        first = block(state, f"channels.{index}.first", reduced, dilation, 2)
        second = block(state, f"channels.{index}.second", first, dilation, 2)
        third = block(state, f"channels.{index}.third", second, dilation, 2)
        outputs.append(torch.cat([first, second, third], 1))
    a, b, c, d = outputs
    joined = torch.cat([a, a + b, a + b + c, a + b + c + d], 1)
    activated = prelu_norm(state, "projection.0", "projection.1", joined)
    expected = functional.conv2d(activated, state["projection.2.weight"]) + maps
    torch.testing.assert_close(module(maps), expected, rtol=1e-4, atol=1e-4)


def test_attention_between_columns_and_between_rows() -> None:
    torch.manual_seed(0)
    columns, rows = stirred(AxisAttention(16, "width")), AxisAttention(16, "height")
    rows.load_state_dict(columns.state_dict())
    maps = torch.randn(2, 16, 5, 7)
    q, k, v = (
        torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], maps)
        for layer in (columns.query, columns.key, columns.value)
    )
    assert q.shape[1] == k.shape[1] == 2
    # a sigmoid of plain products, summed over channels and the other axis
    between = torch.sigmoid(torch.einsum("nchi,nchj->nij", q, k))
    expected = 0.7 * torch.einsum("nij,nchj->nchi", between, v) + maps
    torch.testing.assert_close(columns(maps), expected)
    between = torch.sigmoid(torch.einsum("nciw,ncjw->nij", q, k))
    expected = 0.7 * torch.einsum("nij,ncjw->nciw", between, v) + maps
    torch.testing.assert_close(rows(maps), expected)


def test_attention_starts_as_the_identity_and_its_queries_at_rest() -> None:
    module = AxisAttention(16, "height")
    maps = torch.randn(2, 16, 5, 7)
    result = module(maps)
    assert result.equal(maps)
    result.square().sum().backward()
    assert module.gamma.grad.abs() > 0
    for layer in (module.query, module.key, module.value):
        assert layer.weight.grad.equal(torch.zeros_like(layer.weight))


def test_on_square_maps_the_codes_attention_between_rows_is_between_columns() -> None:
    torch.manual_seed(0)
    paper, code = stirred(AxialAttention(16, "paper")), stirred(AxialAttention(16, "code"))
    code.load_state_dict(paper.state_dict())
    maps = torch.randn(2, 16, 6, 6)
    columns = AxisAttention(16, "width")
    columns.load_state_dict(paper.height.state_dict())
    torch.testing.assert_close(code.height(maps), columns(maps))
    assert not torch.allclose(code(maps), paper(maps), atol=0.1)
    turned = paper.height(maps.transpose(2, 3)).transpose(2, 3)
    torch.testing.assert_close(turned, columns(maps))
    torch.testing.assert_close(paper(maps), paper.width(paper.height(paper.convolutions(maps))))


def test_the_codes_attention_on_other_maps_takes_pieces_of_rows_and_can_be_scripted() -> None:
    torch.manual_seed(0)
    module = stirred(AxisAttention(8, "reshape"))
    maps = torch.randn(1, 8, 2, 3)
    q, k, v = (layer(maps).view(1, -1, 2) for layer in (module.query, module.key, module.value))
    between = torch.sigmoid(torch.einsum("nfi,nfj->nij", q, k))
    expected = 0.7 * torch.einsum("nij,nfj->nfi", between, v).reshape(1, 8, 2, 3) + maps
    torch.testing.assert_close(module(maps), expected)
    with warnings.catch_warnings():  # newer versions of torch advise torch.export
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(module)
    torch.testing.assert_close(scripted(maps), expected)


def test_the_partial_decoder_is_plain_products_of_levels() -> None:
    torch.manual_seed(0)
    decoder = PartialDecoder(4, 2)
    s = decoder.state_dict()
    x2, x3, x4 = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 4, 6), torch.randn(2, 4, 2, 3)

    def conv(name: str, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, s[f"{name}.weight"], padding=1)

    def up(maps: Tensor) -> Tensor:
        return stretch(maps, 2, align_corners=True)

    product3 = conv("up4_3", up(x4)) * x3
    product2 = conv("up4_2", up(up(x4))) * conv("up3_2", up(x3)) * x2
    joined3 = conv("concat3", torch.cat([product3, conv("up4_concat", up(x4))], 1))
    joined2 = conv("concat2", torch.cat([product2, conv("up3_concat", up(joined3))], 1))
    expected = functional.conv2d(conv("fusion", joined2), s["head.weight"], s["head.bias"])
    torch.testing.assert_close(decoder(x2, x3, x4), expected)
    assert [name for name in s if not name.endswith("weight")] == ["head.bias"]


@pytest.mark.parametrize("residual", [False, True])
def test_refinement_looks_at_the_background_of_the_coarser_map(residual: bool) -> None:
    torch.manual_seed(0)
    module = stirred(AxialReverseAttention(32, 1, residual=residual))
    features, coarser = torch.randn(2, 32, 6, 8), torch.randn(2, 1, 6, 8)
    context = module.context(features)
    attended = module.attention(context) + (context if residual else 0)
    correction = attended * (1 - torch.sigmoid(coarser))
    for index in range(3):
        correction = block(module.state_dict(), f"convolutions.{index}", correction)
    torch.testing.assert_close(module(features, coarser), correction + coarser, rtol=1e-4, atol=1e-4)


def test_where_the_coarser_map_is_sure_of_the_lesion_features_change_nothing() -> None:
    torch.manual_seed(0)
    module = stirred(AxialReverseAttention(32, 1))
    sure = torch.full((1, 1, 6, 6), 200.0)
    first, second = (module(torch.randn(1, 32, 6, 6), sure) for _ in range(2))
    torch.testing.assert_close(first, second)
    first, second = (module(torch.randn(1, 32, 6, 6), -sure) for _ in range(2))
    assert not torch.allclose(first, second)


def test_with_several_classes_the_background_is_the_first() -> None:
    module = AxialReverseAttention(32, 3)
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).view(1, 3, 1, 1)
    torch.testing.assert_close(module.background(logits).squeeze(), torch.tensor(0.2))


def test_outputs_are_the_refinements_from_the_last_on_and_the_global_map() -> None:
    torch.manual_seed(0)
    network = stirred(build(backbone=SMALL, out_channels=2))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        levels = network.backbone(images)[-3:]
        x2, x3, x4 = (reduce(level) for reduce, level in zip(network.reductions, levels, strict=True))
        everywhere = network.decoder(x2, x3, x4)
        map4 = network.refinement4(x4, stretch(everywhere, 0.25))
        map3 = network.refinement3(x3, stretch(map4, 2))
        map2 = network.refinement2(x2, stretch(map3, 2))
        assert [logits.shape[3] for logits in (map2, map3, map4, everywhere)] == [12, 6, 3, 12]
        network.training = True  # the children stay in evaluation mode
        outputs = network(images)
        assert models.output_weights(network) == {(0,): 1.0, (1,): 1.0, (2,): 1.0, (3,): 1.0}
        for result, logits, factor in zip(
            outputs, (map2, map3, map4, everywhere), (8, 16, 32, 8), strict=True
        ):
            torch.testing.assert_close(result, stretch(logits, factor))
        network.training = False
        assert network(images).equal(outputs[0])


def test_the_choice_of_axes_changes_the_logits_and_not_the_parameters() -> None:
    torch.manual_seed(0)
    paper, code = stirred(build(backbone=SMALL)), build(backbone=SMALL, attention_axes="code").eval()
    code.load_state_dict(paper.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(paper(images), code(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"attention_axes": "rows"},
            "model 'caranet': attention_axes must be 'paper' or 'code'; got 'rows'",
        ),
        ({"backbone": "mit_b0.imagenet"}, "'caranet': backbone must be timm's .*got 'mit_b0.imagenet'"),
        (
            {"backbone": "vit_tiny_patch16_224"},
            "with levels at 1/8, 1/16 and 1/32; got 'vit_tiny_patch16_224'",
        ),
        ({"backbone": "res2net102"}, "caranet: timm has no backbone 'res2net102'"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(MedsegError, match=message):
        build(**arguments)


def test_sizes_it_cannot_take() -> None:
    with pytest.raises(MedsegError, match="caranet needs sides divisible by 32; got 64x72"):
        build(backbone=SMALL)(torch.zeros(1, 3, 64, 72))
