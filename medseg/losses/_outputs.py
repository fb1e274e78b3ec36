"""One loss over all outputs of a deeply supervised network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.errors import MedsegError


class WeightedOutputs(nn.Module):
    r"""The weighted sum of a loss over a network's outputs; a single tensor is taken as it is.

    .. math:: \sum_i w_i \, L(z_i, y)

    MONAI's ``DeepSupervisionLoss`` falls back to the weights 1, 1/2, 1/4 ... where too few are given, and makes the
    host wait for the GPU in every step.

    Args:
        loss: any loss of this room.
        weights: the published weight of each output, see ``medseg.models.output_weights``.

    Shape:
        outputs one tensor ``(N, K, H, W)`` or a tuple of them, target ``(N, K, H, W)``, result scalar.

    Raises:
        MedsegError: there are not as many outputs as weights.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        self.loss = loss
        self.weights = tuple(float(weight) for weight in weights)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return self.loss(outputs, target)
        if len(outputs) != len(self.weights):
            raise MedsegError(
                f"the network gives {len(outputs)} outputs, but there are {len(self.weights)} weights"
            )
        values = [
            weight * self.loss(output, target) for weight, output in zip(self.weights, outputs, strict=True)
        ]
        return sum(values[1:], values[0])
