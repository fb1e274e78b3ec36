"""FAT-Net: the published parameter count, its two backbones, the feature adaptation and the sums on the way up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg import models
from medseg.errors import MedsegError
from medseg.models import MODELS
from medseg.models.fatnet import FeatureAdaptation, TransformerBranch, decoder, transformer_branch

SMALL = MODELS["fatnet"].facts["small"]


def build(**arguments: Any) -> Any:
    torch.manual_seed(0)
    return models.build("fatnet", **{"in_channels": 3, "out_channels": 1, **SMALL, **arguments})


@pytest.fixture(scope="module")
def published() -> Any:
    with torch.device("meta"):
        return MODELS["fatnet"].build(in_channels=3, out_channels=1)


def count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def test_published_parameter_counts(published: Any) -> None:
    assert count(published.convolutional) == 21_284_672
    assert count(published.transformer) == 5_486_016
    # the authors' fourth decoder, which nothing uses
    unused = count(decoder(64, 64))
    assert unused == 4_640
    assert count(published) + unused == 28_758_657
    with torch.device("meta"):
        apart = MODELS["fatnet"].build(in_channels=3, out_channels=1, shared_adaptation=False)
    assert count(apart) + unused == 30_112_257


def test_the_convolutional_branch_is_a_resnet_without_pooling() -> None:
    torchvision = pytest.importorskip("torchvision")
    network = build(convolutional="resnet18.tv_in1k").convolutional
    other = torchvision.models.resnet18(weights=None)
    other.maxpool, other.fc = nn.Identity(), nn.Identity()
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 64)
    maps = network.eval()(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 16, 32), (128, 8, 16), (256, 4, 8), (512, 2, 4)]
    torch.testing.assert_close(maps[-1].mean((2, 3)), other.eval()(images), rtol=1e-4, atol=1e-4)


def test_no_normalisation_of_the_resnet_starts_at_zero() -> None:
    norms = [layer for layer in build().convolutional.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) > 8 and all(norm.weight.eq(1).all() for norm in norms)


@pytest.fixture(scope="module")
def branch() -> Any:
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    whole = vision_transformer.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=8, depth=5, num_heads=2, num_classes=2
    )
    return TransformerBranch(whole).eval()


def plain_block(tokens: Tensor, block: Any) -> Tensor:
    """A block of a vision transformer of 8 channels and 2 heads."""
    n, length, _ = tokens.shape
    normed = functional.layer_norm(tokens, (8,), block.norm1.weight, block.norm1.bias, 1e-6)
    query, key, value = (
        part.view(n, length, 2, 4).transpose(1, 2) for part in block.attn.qkv(normed).chunk(3, 2)
    )
    weights = torch.softmax(query @ key.mT / 4**0.5, -1)
    tokens = tokens + block.attn.proj((weights @ value).transpose(1, 2).reshape(n, length, 8))
    normed = functional.layer_norm(tokens, (8,), block.norm2.weight, block.norm2.bias, 1e-6)
    return tokens + block.mlp.fc2(functional.gelu(block.mlp.fc1(normed)))


def test_the_transformer_branch_is_patches_and_blocks_alone(branch: Any) -> None:
    images = torch.randn(2, 3, 48, 64)
    patches = images.unfold(2, 16, 16).unfold(3, 16, 16)  # (N, C, rows, columns, 16, 16)
    kernel = branch.patch_embed.proj
    tokens = torch.einsum("ncrsij,dcij->nrsd", patches, kernel.weight).reshape(2, 12, 8) + kernel.bias
    for block in branch.blocks:
        tokens = plain_block(tokens, block)
    expected = tokens.view(2, 3, 4, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(branch(images), expected, rtol=1e-4, atol=1e-4)
    assert {name.partition(".")[0] for name in branch.state_dict()} == {"patch_embed", "blocks"}


def test_the_transformer_branch_does_not_know_where_a_patch_lies(branch: Any) -> None:
    images = torch.randn(1, 3, 32, 32)
    swapped = torch.cat((images[..., 16:], images[..., :16]), 3)
    torch.testing.assert_close(branch(swapped), branch(images).flip(3), rtol=1e-4, atol=1e-5)


def test_stages_of_the_transformer_are_four_of_equal_length(branch: Any, published: Any) -> None:
    stages = published.transformer.stages
    assert stages[0] == ("patch_embed", "blocks.0", "blocks.1", "blocks.2")
    assert stages[1:] == tuple(tuple(f"blocks.{i}" for i in range(s, s + 3)) for s in (3, 6, 9))
    assert [len(stage) for stage in branch.stages] == [3, 1, 1, 1]
    assert len(published.convolutional.stages) == 4


@pytest.mark.parametrize("shared", [True, False])
def test_feature_adaptation(shared: bool) -> None:
    torch.manual_seed(0)
    part = FeatureAdaptation(4, 3, shared)
    assert count(part) == (1 if shared else 3) * (4 * 4 * 9 + 4 + 4 * 4 + 4)
    maps = expected = torch.randn(2, 4, 6, 6)
    for index in range(3):
        wide, narrow = (parts[0 if shared else index] for parts in (part.wide, part.narrow))
        first = functional.conv2d(expected, wide.weight, wide.bias, padding=1).clamp(min=0)
        expected = first + functional.conv2d(expected, narrow.weight, narrow.bias).clamp(min=0)
    torch.testing.assert_close(part(maps), expected)


def watch(network: Any, *names: str) -> dict[str, tuple[Tensor, Any]]:
    """What the named parts are given and what they give."""
    seen: dict[str, Any] = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _, given, result, name=name: seen.update({name: (given[0], result)})
        )
    return seen


PARTS = ("convolutional", "transformer", "bridge", "attention", "fusion", "head")
LEVELS = ("adaptation1", "adaptation2", "adaptation3", "decoder4", "decoder3", "decoder2")


def test_both_branches_are_weighed_together() -> None:
    network = build().eval()
    seen = watch(network, *PARTS, *LEVELS)
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        network(images)
    assert seen["bridge"][0] is seen["transformer"][1]
    both, weighed = seen["attention"]
    torch.testing.assert_close(both, torch.cat((seen["convolutional"][1][3], seen["bridge"][1]), 1))
    squeeze, excite = network.attention.fc1, network.attention.fc2
    assert squeeze.bias is None and excite.bias is None
    assert squeeze.in_channels == 16 * squeeze.out_channels
    inner = torch.relu(both.mean((2, 3)) @ squeeze.weight[:, :, 0, 0].T)
    gate = torch.sigmoid(inner @ excite.weight[:, :, 0, 0].T)
    torch.testing.assert_close(weighed, both * gate[:, :, None, None])
    assert seen["fusion"][0] is weighed and seen["decoder4"][0] is seen["fusion"][1]


def test_adapted_maps_are_added_on_the_way_up() -> None:
    network = build().eval()
    seen = watch(network, *PARTS, *LEVELS)
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 48))
    fine = seen["convolutional"][1]
    for level, below in ((3, "decoder3"), (2, "decoder2"), (1, "head")):
        given, adapted = seen[f"adaptation{level}"]
        assert given is fine[level - 1]
        torch.testing.assert_close(seen[below][0], seen[f"decoder{level + 1}"][1] + adapted)
    rounds = [part.rounds for part in (network.adaptation1, network.adaptation2, network.adaptation3)]
    assert rounds == [6, 4, 2]


def test_decoder_doubles_the_sides_through_a_quarter_of_the_channels() -> None:
    part = decoder(16, 6)
    assert part(torch.randn(2, 16, 3, 5)).shape == (2, 6, 6, 10)
    layers = [layer for layer in part if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in layers] == [
        (16, 4, 1),
        (4, 4, 3),
        (4, 6, 1),
    ]
    assert all(layer.bias is not None for layer in layers)


def normalised_relu(maps: Tensor, norm: Any) -> Tensor:
    return functional.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


def test_every_convolution_of_the_decoder_is_normalised_and_activated() -> None:
    torch.manual_seed(0)
    part: Any = decoder(16, 6).eval()
    for norm in (part[1], part[4], part[7]):
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(values, 0.2, 2)
    maps = torch.randn(2, 16, 3, 5)
    narrow = normalised_relu(functional.conv2d(maps, part[0].weight, part[0].bias), part[1])
    # as many zeros between the pixels as double the sides, and an ordinary 3x3 convolution by the turned kernel
    apart = torch.zeros(2, 4, 6, 10)
    apart[..., ::2, ::2] = narrow
    kernel = part[3].weight.flip(2, 3).transpose(0, 1)
    large = functional.conv2d(apart, kernel, part[3].bias, padding=1)
    expected = functional.conv2d(normalised_relu(large, part[4]), part[6].weight, part[6].bias)
    torch.testing.assert_close(part(maps), normalised_relu(expected, part[7]), rtol=1e-4, atol=1e-5)


def test_the_head_doubles_the_sides_and_activates_all_but_the_logits() -> None:
    network = build(out_channels=2).eval()
    up, _, middle, _, last = network.head
    maps = torch.randn(1, up.in_channels, 4, 6)
    large = functional.conv_transpose2d(maps, up.weight, up.bias, stride=2, padding=1).clamp(min=0)
    assert large.shape == (1, 32, 8, 12)
    inner = functional.conv2d(large, middle.weight, middle.bias, padding=1).clamp(min=0)
    expected = functional.conv2d(inner, last.weight, last.bias, padding=1)
    torch.testing.assert_close(network.head(maps), expected)
    assert expected.min() < 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    """A folder with weights of both small backbones, as timm publishes them."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    place = tmp_path_factory.mktemp("weights")
    states = {}
    for weights in SMALL.values():
        states[weights] = timm.create_model(weights.partition(".")[0]).state_dict()
        torch.save(states[weights], place / f"{weights}.pth")
    return place, states


def test_pretrained_weights_of_both_backbones_come_from_a_folder(folder: Any) -> None:
    place, states = folder
    network = build(pretrained=str(place))
    for branch, weights in (
        (network.convolutional, SMALL["convolutional"]),
        (network.transformer, SMALL["transformer"]),
    ):
        for name, value in branch.named_parameters():
            torch.testing.assert_close(value.data, states[weights][name])
    assert [record["weights"] for record in models.provenance(network)] == list(SMALL.values())
    random = build()
    assert not random.transformer.patch_embed.proj.weight.equal(network.transformer.patch_embed.proj.weight)
    assert models.provenance(random) == []


def test_one_file_cannot_hold_both_backbones(folder: Any) -> None:
    file = folder[0] / f"{SMALL['transformer']}.pth"
    message = "fatnet: pretrained must be a folder, with files for test_resnet.r160_in1k and test_vit.r160_in1k; got"
    with pytest.raises(MedsegError, match=message):
        build(pretrained=str(file))


def test_a_folder_with_one_of_the_two_is_not_enough(folder: Any, tmp_path: Path) -> None:
    name = f"{SMALL['convolutional']}.pth"
    (tmp_path / name).write_bytes((folder[0] / name).read_bytes())
    with pytest.raises(MedsegError, match=r"fatnet: .* has none of test_vit\.r160_in1k"):
        build(pretrained=str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convolutional": "vgg11.tv_in1k"}, "convolutional must be one of timm's ResNets .*'vgg11.tv_in1k'"),
        ({"convolutional": "resnetblur50"}, "with max pooling; got 'resnetblur50'"),
        ({"convolutional": "resnet35"}, "convolutional must be one of timm's ResNets"),
        ({"transformer": "vit_small_patch32_224"}, "vision transformers with 16x16 patches; got 'vit_small"),
        ({"transformer": "test_convnext.r160_in1k"}, "transformer must be one of timm's vision transformers"),
        ({"transformer": "deit"}, "transformer must be one of timm's vision transformers .*'deit'"),
    ],
)
def test_unusable_backbones(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(MedsegError, match=message):
        build(**arguments)


def test_a_branch_adapts_to_the_channels_of_the_image() -> None:
    with torch.device("meta"):
        branch = transformer_branch(SMALL["transformer"], 2, False)
    assert branch(torch.zeros(1, 2, 16, 16, device="meta")).shape == (1, 64, 1, 1)


def test_sizes_it_cannot_take() -> None:
    message = "fatnet needs sides divisible by 16; got 224x250; the nearest are 224x240 and 224x256"
    with pytest.raises(MedsegError, match=message):
        build()(torch.zeros(1, 3, 224, 250))
