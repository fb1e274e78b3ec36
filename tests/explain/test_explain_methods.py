"""The methods: numbers by hand, what they see and what not, and networks as they come."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import monai.visualize
import pytest
import torch
from torch import Tensor, nn

from medseg.bundle.network import build_network, read_recipe, weights_of
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.explain import METHODS, build
from medseg.explain.explainer import classifier_map, raw_map
from medseg.explain.scores import ClassScore, RegionScore

FIRST = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
SECOND = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
IMAGE = torch.stack([FIRST, SECOND])[None]
DIAGONAL = torch.eye(2, dtype=torch.bool)
CAMS = ("gradcam", "gradcampp", "hirescam", "layercam")


def mapped(
    name: str, network: nn.Module, score: Callable[[Tensor], Tensor], images: Tensor = IMAGE
) -> Tensor:
    return build(name, network=network.eval(), layer="features").compute_map(images, score)[0, 0]


# the gradient is the channel's weight on the diagonal, and 0 beside it
@pytest.mark.parametrize(
    ("name", "weights", "wanted"),
    [
        # weights times 2/4: 0.25 FIRST - 0.5 SECOND
        ("gradcam", (0.5, -1.0), [[0.25, 0.0], [0.75, 0.0]]),
        ("gradcam", (0.5, 1.0), [[0.25, 1.0], [0.75, 2.5]]),
        # 2 * 0.5 / (2 + 0.5 * 10) = 1/7 of FIRST; nothing of SECOND, or 2 * 1 / (2 + 1 * 4) = 1/3
        ("gradcampp", (0.5, -1.0), [[1 / 7, 2 / 7], [3 / 7, 4 / 7]]),
        ("gradcampp", (0.5, 1.0), [[1 / 7, 2 / 7 + 1 / 3], [3 / 7, 4 / 7 + 1]]),
        # 0.5 FIRST - SECOND on the diagonal: 0.5 and 2 - 3
        ("hirescam", (0.5, -1.0), [[0.5, 0.0], [0.0, 0.0]]),
        ("hirescam", (0.5, 1.0), [[0.5, 0.0], [0.0, 5.0]]),
        # the negative gradient of SECOND does not count
        ("layercam", (0.5, -1.0), [[0.5, 0.0], [0.0, 2.0]]),
        ("layercam", (0.5, 1.0), [[0.5, 0.0], [0.0, 5.0]]),
    ],
)
def test_map_of_a_linear_network_by_hand(
    linear: type[nn.Module], name: str, weights: tuple[float, float], wanted: list[list[float]]
) -> None:
    found = mapped(name, linear(*weights), RegionScore(0, DIAGONAL))
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_gradcam_is_monais_where_the_score_is_a_class(classifier: nn.Module) -> None:
    images = torch.rand(1, 2, 6, 6, requires_grad=True)  # else torch warns of MONAI's hook
    wanted = monai.visualize.GradCAM(copy.deepcopy(classifier), "features").compute_map(images, class_idx=1)
    assert wanted.any()
    found = mapped("gradcam", classifier, ClassScore(1), images)
    torch.testing.assert_close(found, wanted[0, 0].detach())


class Classifier(nn.Module):
    """Maps, their mean over the image, and one linear layer: the network of CAM."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.features[0].weight.copy_(torch.eye(2)[..., None, None])
            self.features[0].bias.zero_()
            self.head.weight.copy_(torch.tensor([[-1.0, 0.0], [2.0, 4.0]]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


@pytest.fixture
def classifier() -> nn.Module:
    return Classifier().eval()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # the gradients are 2/4 and 4/4 everywhere
        ("gradcam", 0.5 * FIRST + SECOND),
        ("hirescam", 0.5 * FIRST + SECOND),
        ("layercam", 0.5 * FIRST + SECOND),
        # 4 * 0.5 / (2 + 0.5 * 10) and 4 * 1 / (2 + 1 * 4)
        ("gradcampp", 2 / 7 * FIRST + 2 / 3 * SECOND),
    ],
)
def test_map_of_a_classifier_by_hand(classifier: nn.Module, name: str, wanted: Tensor) -> None:
    torch.testing.assert_close(mapped(name, classifier, ClassScore(1)), wanted)
    torch.testing.assert_close(mapped(name, classifier, ClassScore()), wanted)  # the likelier of the two
    assert not mapped(name, classifier, ClassScore(0)).any()  # nothing speaks for the other class
    heat = classifier_map(classifier, IMAGE, name, "features", 1)
    torch.testing.assert_close(heat, wanted / wanted.max())


def test_a_classifier_of_one_channel_has_its_logit_as_score() -> None:
    logits = torch.tensor([[3.0], [-2.0]])
    assert ClassScore(0)(logits).tolist() == ClassScore()(logits).tolist() == [3.0, -2.0]


def test_score_of_a_region_is_the_sum_of_its_logits() -> None:
    logits = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert RegionScore(0, DIAGONAL)(logits).tolist() == [0 + 3]
    assert RegionScore(1, DIAGONAL)(logits).tolist() == [4 + 7]
    assert RegionScore(1, ~DIAGONAL)(logits).tolist() == [5 + 6]


@pytest.mark.parametrize(
    ("score", "logits", "words"),
    [
        (RegionScore(0, DIAGONAL), torch.zeros(1, 2), r"gives \(1, 2\), no logits \(N, K, H, W\)"),
        (RegionScore(0, DIAGONAL), torch.zeros(1, 1, 4, 4), r"for a region \(2, 2\)"),
        (RegionScore(2, DIAGONAL), torch.zeros(1, 2, 2, 2), "no channel 2: the network gives 2"),
        (ClassScore(0), torch.zeros(1, 1, 2, 2), r"no logits \(N, K\) of a classifier"),
        (ClassScore(5), torch.zeros(1, 2), "no channel 5: the network gives 2"),
    ],
)
def test_score_refuses_logits_of_another_kind(
    score: Callable[..., Tensor], logits: Tensor, words: str
) -> None:
    with pytest.raises(MedsegError, match=words):
        score(logits)


class Corner(nn.Module):
    """Every logit is the mean brightness of the upper left corner, 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        corner = self.features(images)[:, :, :4, :4].mean((1, 2, 3), keepdim=True)
        return corner.expand(-1, 1, *images.shape[2:])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("hirescam", {}), ("layercam", {}), ("occlusion", {"size": 4, "overlap": 0.0})],
)
def test_a_network_that_looks_at_a_corner_has_its_map_there(name: str, arguments: dict[str, float]) -> None:
    network = Corner().eval()
    nn.init.ones_(network.features[0].weight)
    nn.init.zeros_(network.features[0].bias)
    images = torch.full((1, 1, 16, 16), 0.2)
    images[..., :4, :4] = 1.0
    score = RegionScore(0, torch.ones(16, 16, dtype=torch.bool))
    found = build(name, arguments, network=network, layer="features").compute_map(images, score)[0, 0]
    assert (found[:4, :4] > 0).all()
    found[:4, :4] = 0
    assert not found.any()


def test_gradcam_lights_up_where_the_network_does_not_look() -> None:
    """Its weights are means over the image: what HiResCAM was made for (Draelos & Carin 2020)."""
    network = Corner().eval()
    nn.init.ones_(network.features[0].weight)
    nn.init.zeros_(network.features[0].bias)
    score = RegionScore(0, torch.ones(16, 16, dtype=torch.bool))
    assert mapped("gradcam", network, score, torch.ones(1, 1, 16, 16))[8:, 8:].all()


@pytest.mark.parametrize(("size", "overlap"), [(4, 0.0), (4, 0.5), (5, 0.6)])
def test_occlusion_agrees_with_monai(size: int, overlap: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1)).eval()
    images, score = torch.rand(1, 2, 12, 14), RegionScore(0, torch.rand(12, 14) < 0.5)
    found = build(
        "occlusion", {"size": size, "overlap": overlap, "batch_size": 3}, network=network, layer=""
    ).compute_map(images, score)
    scored = nn.Sequential(network, _Summed(score)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # MONAI 1.6 indexes by lists
        theirs = monai.visualize.OcclusionSensitivity(scored, size, 4, False, "mean_img", overlap, False)
        wanted = scored(images)[..., None, None] - torch.as_tensor(theirs(images)[0])
    torch.testing.assert_close(found, wanted.relu(), atol=1e-5, rtol=1e-5)
    assert 0 < (found > 0).sum() < found.numel()


class _Summed(nn.Module):
    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, logits: Tensor) -> Tensor:
        return self.score(logits)[:, None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "size must be a whole number above 0; it is 0"),
        ({"size": 2.5}, "size must be a whole number"),
        ({"overlap": 1.0}, "overlap must be 0 or more and below 1"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"stride": 2}, "it takes network, layer, size, overlap, batch_size"),
    ],
)
def test_occlusion_refuses_arguments_that_are_not_usable(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(MedsegError, match=words):
        build("occlusion", arguments, network=nn.Identity(), layer="")


def test_occlusion_refuses_a_square_larger_than_the_image(linear: type[nn.Module]) -> None:
    method = build("occlusion", {"size": 3}, network=linear(1.0, 1.0), layer="")
    with pytest.raises(MedsegError, match="a square of 3 pixels does not fit into 2 x 2"):
        method.compute_map(IMAGE, RegionScore(0, DIAGONAL))


def blocks(inplace: bool) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(4, 1, 1),
    ).eval()


SEEN = torch.linspace(-1, 1, 2 * 8 * 8).reshape(1, 2, 8, 8)
ALL = RegionScore(0, torch.ones(8, 8, dtype=torch.bool))


@pytest.mark.parametrize("layer", ["0", "1", "2", "3"])
@pytest.mark.parametrize("name", CAMS)
def test_in_place_layers_change_no_map(name: str, layer: str) -> None:
    plain, inplace = (
        build(name, network=blocks(flag), layer=layer).compute_map(SEEN, ALL) for flag in (False, True)
    )
    torch.testing.assert_close(inplace, plain)


def test_in_place_layers_leave_maps_to_compare() -> None:
    """Of these networks at least one layer has evidence, so that the comparison above compares something."""
    assert all(build(name, network=blocks(True), layer="2").compute_map(SEEN, ALL).any() for name in CAMS)


@pytest.mark.parametrize("name", CAMS)
def test_frozen_and_channels_last_networks_have_the_same_map(name: str) -> None:
    wanted = build(name, network=blocks(True), layer="2").compute_map(SEEN, ALL)
    frozen = blocks(True).requires_grad_(False)
    torch.testing.assert_close(build(name, network=frozen, layer="2").compute_map(SEEN, ALL), wanted)
    last = blocks(True).to(memory_format=torch.channels_last)
    images = SEEN.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(build(name, network=last, layer="2").compute_map(images, ALL), wanted)


@pytest.mark.parametrize("name", METHODS.names())
def test_nothing_stays_in_the_network(name: str) -> None:
    network = blocks(True)
    network[2].requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    arguments = {"size": 4} if name == "occlusion" else {}
    build(name, arguments, network=network, layer="1").compute_map(SEEN, ALL)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for module in network.modules():
        assert not (module._forward_hooks or module._backward_hooks or module._forward_pre_hooks)
        assert not module.training
    assert network[1].inplace and all(p.grad is None for p in network.parameters())
    assert not network[2].weight.requires_grad and network[4].weight.requires_grad


def test_a_layer_that_does_not_reach_the_score_has_no_evidence() -> None:
    network = blocks(False)
    network[4].weight.data.zero_()
    for name in CAMS:
        assert not build(name, network=network, layer="2").compute_map(SEEN, ALL).any()


def test_a_map_that_is_not_finite_is_refused() -> None:
    network = blocks(False)
    network[2].bias.data[0] = float("inf")
    with pytest.raises(MedsegError, match="not finite"):
        raw_map(build("gradcam", network=network, layer="2"), SEEN, ALL)


def test_unknown_method_is_named_with_its_neighbour() -> None:
    with pytest.raises(MedsegError, match=r"unknown method 'grad-cam'. Did you mean 'gradcam'"):
        build("grad-cam", network=nn.Identity(), layer="")


def test_every_method_states_its_facts() -> None:
    assert METHODS.names() == ["gradcam", "gradcampp", "hirescam", "layercam", "occlusion"]
    for entry in METHODS:
        assert entry.facts["paper"].startswith(("arXiv:", "doi:")) and entry.facts["paper"] in entry.doc
        assert entry.facts["needs_gradient"] == entry.facts["needs_layer"] == (entry.name != "occlusion")


@pytest.mark.parametrize("name", CAMS)
def test_random_weights_give_another_map(
    learnt: Bundle, disc_input: tuple[Tensor, Tensor], name: str
) -> None:
    """The sanity check of Adebayo et al. 2018 (arXiv:1810.03292): a map must depend on what was learnt."""
    images, mask = disc_input
    recipe, score = read_recipe(learnt), RegionScore(0, torch.ones_like(mask))
    torch.manual_seed(1)
    networks = [build_network(recipe, weights_of(learnt)), *(build_network(recipe, None) for _ in range(3))]
    maps = [build(name, network=one, layer="decoder.1").compute_map(images, score)[0, 0] for one in networks]
    assert maps[0][mask].sum() > 0.5 * maps[0].sum()  # the disc is a tenth of the image
    for other in maps[1:]:
        assert other.any()
        assert abs(torch.corrcoef(torch.stack([maps[0].flatten(), other.flatten()]))[0, 1]) < 0.6


@pytest.fixture
def disc_input() -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    mask = (y - 10) ** 2 + (x - 20) ** 2 < 36
    torch.manual_seed(1)
    noise = torch.randn(32, 32) * 20 / 255
    return ((60 + 110 * mask.float()) / 255 + noise).clamp(0, 1)[None, None], mask
