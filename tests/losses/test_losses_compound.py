"""Sums of two losses."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from medseg import losses
from medseg.errors import MedsegError

PAIRS = list(combinations(("iou", "dice", "bce", "focal"), 2))


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 1, 8, 8), (torch.rand(3, 1, 8, 8) > 0.6).float()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_is_the_sum_of_its_parts(first: str, second: str, batch: tuple[torch.Tensor, ...]) -> None:
    parts = [losses.build(name)(*batch) for name in (first, second)]
    name = f"{first}_{second}"
    assert losses.LOSSES[name].facts["parts"] == (first, second)
    torch.testing.assert_close(losses.build(name)(*batch), parts[0] + parts[1])
    weighted = losses.build(name, weights=[0.25, 3.0])(*batch)
    torch.testing.assert_close(weighted, 0.25 * parts[0] + 3 * parts[1])


@pytest.mark.parametrize(
    ("part", "arguments"),
    [("iou", {"smooth": 5.0}), ("dice", {"reduction": "batch"}), ("focal", {"gamma": 2.0})],
)
def test_arguments_reach_their_part(part: str, arguments: dict, batch: tuple[torch.Tensor, ...]) -> None:
    for first, second in PAIRS:
        if part in (first, second):
            other = second if part == first else first
            pair = losses.build(f"{first}_{second}", **{part: arguments})(*batch)
            expected = losses.build(part, **arguments)(*batch) + losses.build(other)(*batch)
            torch.testing.assert_close(pair, expected)
            assert not torch.isclose(pair, losses.build(f"{first}_{second}")(*batch))


def test_mistakes_name_the_part() -> None:
    with pytest.raises(MedsegError, match="loss 'focal': gamma must not be negative"):
        losses.build("iou_focal", focal={"gamma": -1})
    with pytest.raises(MedsegError, match=r"loss 'bce': .*smooth"):
        losses.build("dice_bce", bce={"smooth": 1})
    with pytest.raises(MedsegError, match=r"loss 'dice_bce': .*focal"):
        losses.build("dice_bce", focal={})


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0, 1.0), (1.0, -1.0)])
def test_unusable_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(MedsegError, match="takes two weights of 0 or more"):
        losses.build("dice_bce", weights=weights)
