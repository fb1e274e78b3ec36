"""MixUp and CutMix: what is mixed, by how much, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medseg.augmentations import AUGMENTATIONS, build, build_augments
from medseg.augmentations.mixing import Mixer, batch_members, mixer
from medseg.augmentations.protocol import with_protocol
from medseg.errors import MedsegError
from medseg.losses import LOSSES, build_for

MIXES = ("mixup", "cutmix")


def mixing(names: str, **arguments: Any) -> Mixer:
    built = mixer(names, {names: arguments} if arguments else None)
    assert isinstance(built, Mixer)
    return built


def batch(count: int = 5, size: tuple[int, int] = (9, 13)) -> tuple[Tensor, Tensor]:
    """Images of noise, each of a class of its own."""
    return torch.rand(count, 3, *size), torch.eye(count, dtype=torch.uint8)


def shares(label: Tensor) -> tuple[Tensor, Tensor]:
    """What each image keeps, and what it has of the one before it."""
    return label.diagonal(), label.roll(-1, 1).diagonal().roll(1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_mixup_is_the_weighted_mean_of_two_images_and_of_their_labels() -> None:
    images, labels = batch()
    for _ in range(5):
        mixed, soft = mixing("mixup", alpha=1)(images, labels)
        share = soft[0, 0].item()
        assert 0 < share < 1
        other = torch.roll(torch.eye(5), 1, 0)
        torch.testing.assert_close(soft, share * torch.eye(5) + (1 - share) * other)
        for i in range(5):
            torch.testing.assert_close(mixed[i], share * images[i] + (1 - share) * images[i - 1])


def test_cutmix_pastes_a_box_and_mixes_labels_by_its_area() -> None:
    count, size = 4, (9, 13)
    images = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 2, *size)
    pasted = set()
    for _ in range(40):
        mixed, soft = mixing("cutmix")(images, torch.eye(count))
        for i in range(count):
            box = mixed[i, 0] != i
            assert torch.equal(mixed[i, 0], mixed[i, 1])
            assert (mixed[i, 0][box] == (i - 1) % count).all()
            rows, columns = box.any(1), box.any(0)
            assert torch.equal(box, rows[:, None] & columns)  # a rectangle
            assert soft[i, i].item() == pytest.approx(1 - box.float().mean().item(), abs=1e-6)
            assert soft[i, i - 1].item() == pytest.approx(box.float().mean().item(), abs=1e-6)
        pasted.add(int(box.sum()))
    assert min(pasted) < 20 and max(pasted) > 60  # of 117 pixels


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_follows_the_beta_distribution(alpha: float) -> None:
    mix = mixing("mixup", alpha=alpha)
    images, labels = torch.zeros(2, 1, 1, 1), torch.eye(2)
    drawn = np.array([mix(images, labels)[1][0, 0].item() for _ in range(1500)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert drawn.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / 1500))
    assert drawn.var() == pytest.approx(variance, rel=0.12)


def test_the_box_shrinks_with_alpha_alone() -> None:
    """Large alpha draws shares near a half; small alpha nearly all or nothing."""
    images, labels = torch.zeros(2, 1, 32, 32), torch.eye(2)

    def spread(alpha: float) -> float:
        torch.manual_seed(0)
        mix = mixing("cutmix", alpha=alpha)
        return float(np.std([mix(images, labels)[1][0, 0].item() for _ in range(300)]))

    assert spread(0.1) > spread(1.0) > spread(20.0)


def test_defaults_are_the_papers() -> None:
    assert (mixing("mixup").mixes[0].alpha, mixing("mixup").mixes[0].prob) == (0.2, 1.0)
    assert (mixing("cutmix").mixes[0].alpha, mixing("cutmix").mixes[0].prob) == (1.0, 1.0)
    for name in MIXES:
        entry = AUGMENTATIONS[name]
        assert entry.task == "classification" and entry.facts["batch"] is True


@pytest.mark.parametrize("name", MIXES)
def test_prob_is_the_chance_of_a_batch(name: str) -> None:
    images, labels = torch.zeros(2, 1, 8, 8), torch.eye(2)

    def changed(prob: float, count: int) -> float:
        mix = mixing(name, prob=prob, alpha=50)  # shares near a half, so that no mixed batch looks unmixed
        return float(np.mean([not torch.equal(mix(images, labels)[1], labels) for _ in range(count)]))

    assert changed(0, 50) == 0 and changed(1, 50) == 1
    assert changed(0.3, 600) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 600))


@pytest.mark.parametrize("name", [*MIXES, "mixup-cutmix"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_rows_still_sum_to_one_and_inputs_stay(name: str, count: int) -> None:
    images, labels = batch(count)
    before = images.clone(), labels.clone()
    mixed, soft = mixing(name)(images, labels)
    assert mixed.shape == images.shape and mixed.dtype == images.dtype
    assert soft.shape == labels.shape and soft.dtype == torch.float32
    torch.testing.assert_close(soft.sum(1), torch.ones(count))
    assert torch.equal(images, before[0]) and torch.equal(labels, before[1])
    double = mixing(name)(images.double(), labels.double())
    assert double[0].dtype == double[1].dtype == torch.float64


@pytest.mark.parametrize("name", [*MIXES, "mixup-cutmix"])
def test_a_batch_of_one_passes_unmixed(name: str) -> None:
    images, labels = batch(1)
    mixed, soft = mixing(name)(images, labels)
    assert mixed is images and soft.tolist() == [[1.0]]


def test_both_in_one_name_are_chosen_batch_by_batch() -> None:
    mix = mixing("mixup-cutmix")
    assert [m.name for m in mix.mixes] == ["mixup", "cutmix"]
    images, labels = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 16, 16), torch.eye(2)
    pasted = [len(mix(images, labels)[0][1].unique()) == 2 for _ in range(400)]
    # CutMix leaves pixels of 0 and 1, except for a box of no or all pixels; MixUp makes one grey of each image
    assert np.mean(pasted) == pytest.approx(0.5, abs=0.12)


def test_several_labels_of_an_image_are_mixed_each_by_itself() -> None:
    labels = torch.tensor([[1, 1, 0], [0, 1, 0]], dtype=torch.uint8)
    _, soft = mixing("mixup", alpha=1)(torch.rand(2, 1, 4, 4), labels)
    share = soft[0, 0].item()
    torch.testing.assert_close(soft, torch.tensor([[share, 1, 0], [1 - share, 1, 0]]))
    assert 0 < share < 1


@pytest.mark.parametrize("name", [n for n in LOSSES.names("classification") if LOSSES[n].facts["soft"]])
@pytest.mark.parametrize("mix", MIXES)
def test_a_mixture_costs_the_mean_of_what_its_images_cost(name: str, mix: str) -> None:
    loss = build_for(name, {}, [3, 1, 2, 4])
    images, labels = batch(4)
    logits = torch.randn(4, 4, dtype=torch.float64)
    _, soft = mixing(mix)(images, labels.double())
    own = soft[0, 0]
    expected = own * loss(logits, labels) + (1 - own) * loss(logits, labels.roll(1, 0))
    torch.testing.assert_close(loss(logits, soft), expected)


def test_torchs_generator_alone_decides() -> None:
    images, labels = batch()
    mix = mixing("mixup-cutmix")

    def drawn(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [part for _ in range(4) for part in mix(images, labels)]

    first = drawn(3)
    np.random.seed(9)
    assert all(map(torch.equal, first, drawn(3)))
    mix = pickle.loads(pickle.dumps(mix))
    assert all(map(torch.equal, first, drawn(3)))
    assert not all(map(torch.equal, first, drawn(4)))


# names


def test_names_without_a_mixture_give_none() -> None:
    for names in ("vanilla", "filter", "rotation-noise", "breast_geometric"):
        assert mixer(names) is None and batch_members(names) == []


def test_a_mixture_stands_beside_transforms_of_single_images() -> None:
    given = {"mixup": {"alpha": 0.4}, "rotation": {"angle": 30}}
    assert [a.name for a in build_augments("mixup-rotation-noise", given)] == ["rotation", "noise"]
    built = mixer("mixup-rotation-noise", given)
    assert isinstance(built, Mixer) and built.mixes == tuple(build("mixup", alpha=0.4))
    assert batch_members("noise-cutmix-mixup") == ["cutmix", "mixup"]
    assert build_augments("mixup") == [] and build_augments("mixup-vanilla") == []


@pytest.mark.parametrize("make", [mixer, build_augments])
@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ("mixup", {"mixup": {"alpha": 0}}, "'mixup': alpha is 0; a number within 0.01 to 100"),
        ("cutmix", {"cutmix": {"alpha": [1, 2]}}, r"'cutmix': alpha is \[1, 2\]"),
        ("cutmix", {"cutmix": {"prob": 1.5}}, "'cutmix': prob is 1.5; a number within 0 to 1"),
        ("mixup", {"mixup": {"beta": 1}}, "'mixup': got an unexpected keyword argument 'beta'; it takes"),
        ("mixup", {"mixup": 0.3}, "'mixup': arguments are 0.3; a mapping"),
        ("mixup", {"cutmix": {}}, "unknown augmentation of 'mixup' with arguments 'cutmix'"),
        ("mixup-noise-mixup", {}, "hold mixup twice"),
        ("mixupp", {}, "unknown augmentation 'mixupp'. Did you mean 'mixup'"),
    ],
)
def test_wrong_names_and_arguments_are_refused(
    make: Any, names: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(MedsegError, match=message):
        make(names, arguments)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.eye(2)),
        (torch.zeros(2, 4, 4), torch.eye(2)),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)),
        (torch.zeros(2, 3, 4, 4), torch.eye(3)),
    ],
)
def test_other_batches_are_refused(image: Tensor, label: Tensor) -> None:
    with pytest.raises(MedsegError, match=r"images \(N, C, H, W\) of floats and targets \(N, K\); got \(2, "):
        mixing("mixup")(image, label)


@pytest.mark.parametrize("protocol", ["split-then-augment", "augment-then-split"])
@pytest.mark.parametrize("augment", ["mixup", "filter-cutmix"])
def test_a_mixture_makes_no_copies(augment: str, protocol: str) -> None:
    name = batch_members(augment)[0]
    with pytest.raises(
        MedsegError, match=f"{name} mixes each training batch anew and makes no copies: protocol {protocol}"
    ):
        with_protocol(augment, protocol)
    assert with_protocol(augment, "online") == augment
