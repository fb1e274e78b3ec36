"""One loss over several outputs."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss

from medseg import losses
from medseg.errors import MedsegError
from medseg.losses import WeightedOutputs

TARGET = (torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.uint8)


def logits(seed: int) -> torch.Tensor:
    return torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_outputs_are_weighted_and_summed():
    loss = losses.build("bce")
    first, second = logits(1), logits(2)
    expected = 2 * loss(first, TARGET) + 0.5 * loss(second, TARGET)
    torch.testing.assert_close(WeightedOutputs(loss, [2, 0.5])((first, second), TARGET), expected)


def test_sums_of_logits_are_weighted_too():
    loss = losses.build("dice")
    first, second, third = logits(1), logits(2), logits(3)
    weights = {(0,): 1.0, (2,): 3.0, (0, 1, 2): 0.25}
    expected = loss(first, TARGET) + 3 * loss(third, TARGET) + 0.25 * loss(first + second + third, TARGET)
    torch.testing.assert_close(WeightedOutputs(loss, weights)((first, second, third), TARGET), expected)
    with pytest.raises(MedsegError, match="gives 2 outputs, but there are weights for 3"):
        WeightedOutputs(loss, weights)((first, second), TARGET)


def test_it_agrees_with_monais_where_all_weights_are_given():
    outputs, weights = [logits(k) for k in range(3)], [1.0, 0.5, 2.0]
    theirs = DeepSupervisionLoss(losses.build("dice"), weights=weights)(outputs, TARGET)
    torch.testing.assert_close(WeightedOutputs(losses.build("dice"), weights)(outputs, TARGET), theirs)


def test_a_single_tensor_is_taken_as_it_is():
    loss = losses.build("dice")
    assert WeightedOutputs(loss, [1, 1, 1, 1])(logits(1), TARGET) == loss(logits(1), TARGET)


def test_as_many_outputs_as_weights_are_needed():
    with pytest.raises(MedsegError, match="gives 2 outputs, but there are weights for 1"):
        WeightedOutputs(losses.build("dice"))((logits(1), logits(2)), TARGET)
