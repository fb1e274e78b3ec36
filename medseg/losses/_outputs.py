"""One loss over all outputs of a deeply supervised network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from medseg.errors import MedsegError


class WeightedOutputs(nn.Module):
    r"""The weighted sum of a loss over a network's outputs; a single tensor is taken as it is.

    .. math:: \sum_S w_S \, L\Bigl(\sum_{i \in S} z_i, y\Bigr)

    Most networks weigh each output alone, so that every set :math:`S` has one member; some also weigh sums of logits.
    MONAI's ``DeepSupervisionLoss`` knows no sums, falls back to the weights 1, 1/2, 1/4 ... where too few are given,
    and makes the host wait for the GPU in every step.

    Args:
        loss: any loss of this room.
        weights: the published weight of each output, or of each set of outputs by their indices, such as
            ``{(0,): 1.0, (1,): 1.0, (0, 1): 0.5}``; see ``medseg.models.output_weights``.

    Shape:
        outputs one tensor ``(N, K, H, W)`` or a tuple of them, target ``(N, K, H, W)``, result scalar.

    Raises:
        MedsegError: there are not as many outputs as the weights speak of.
    """

    def __init__(
        self, loss: nn.Module, weights: Sequence[float] | Mapping[tuple[int, ...], float] = (1.0,)
    ) -> None:
        super().__init__()
        self.loss = loss
        terms = weights if isinstance(weights, Mapping) else {(i,): w for i, w in enumerate(weights)}
        self.terms = {tuple(indices): float(weight) for indices, weight in terms.items()}
        self.count = 1 + max(max(indices) for indices in self.terms)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return self.loss(outputs, target)
        if len(outputs) != self.count:
            raise MedsegError(
                f"the network gives {len(outputs)} outputs, but there are weights for {self.count}"
            )
        values = [
            weight * self.loss(total([outputs[i] for i in indices]), target)
            for indices, weight in self.terms.items()
        ]
        return total(values)


def total(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors."""
    return sum(tensors[1:], tensors[0])
