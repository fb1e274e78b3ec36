"""One pass through a network that keeps a layer's maps and the score's gradient for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.visualize.class_activation_maps import GradCAM, ModelWithHooks
from torch import Tensor, nn

from medseg.errors import MedsegError

Score = Callable[[Tensor], Tensor]


class Probe(ModelWithHooks):
    """MONAI's ``ModelWithHooks`` for networks as they are: frozen, with in-place layers, channels-last.

    The pass goes on from a copy of the layer's maps that is cut off from what lies before them. So their gradient is
    had where nothing before them learns, costs no pass back through the encoder, and is not harmed by a layer that
    changes its input in place. Nothing stays in the network: no hook, no gradient, no changed setting.

    Args:
        network: in evaluation mode.
        layer: the name of a submodule.

    Raises:
        MedsegError: there is no such submodule.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__(network, ())  # registers no hook of MONAI's, which would stay
        self.layer = layer
        self.module = _submodule(network, layer)

    def __call__(
        self, x: Tensor, class_idx: Any = None, retain_graph: bool = False, **_: Any
    ) -> tuple[Tensor, tuple[Tensor], tuple[Tensor]]:
        """The logits, the maps and the score's gradient for them, both ``(N, C, h, w)`` float32.

        Args:
            x: images ``(N, C, H, W)``.
            class_idx: the score; MONAI's methods hand on what stands here.
            retain_graph: not used; the graph is of one pass.

        Raises:
            MedsegError: the layer is not run, is run several times, or gives no maps.
        """
        seen: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            seen.append(self._maps(output))
            return seen[-1].clone()

        hook = self.module.register_forward_hook(keep)
        try:
            with torch.enable_grad():
                logits = self.model(x)
        finally:
            hook.remove()
        if len(seen) != 1:
            raise MedsegError(
                f"layer {self.layer!r} is run {len(seen)} times in one pass; choose one that is run once"
            )
        # Grad-CAM++ weighs by exp(score), one factor for all cells, which overflows for a sum over pixels
        self.score = torch.zeros(len(x), device=x.device)
        gradient = self._gradient(class_idx(logits), seen[0])
        return logits.detach(), (seen[0].detach().float().contiguous(),), (gradient.float().contiguous(),)

    def _maps(self, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() != 4:
            seen = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise MedsegError(f"layer {self.layer!r} gives {seen}, no maps (N, C, h, w); see --list-layers")
        return output.detach().requires_grad_()

    @staticmethod
    def _gradient(score: Tensor, maps: Tensor) -> Tensor:
        if not score.requires_grad:  # nothing of the layer reaches the score
            return torch.zeros_like(maps)
        (gradient,) = torch.autograd.grad(score.sum(), maps, allow_unused=True)
        return torch.zeros_like(maps) if gradient is None else gradient


class ProbedCam(GradCAM):
    """MONAI's Grad-CAM over a probe; its subclasses weigh the same maps in their own way.

    Args:
        network: in evaluation mode.
        layer: the name of a submodule.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        probe: Any = Probe(network, layer)  # MONAI takes its own wrapper too, but declares a module
        super().__init__(probe, layer)


def _submodule(network: nn.Module, layer: str) -> nn.Module:
    from medseg.explain.layers import unknown_layer

    modules = dict(network.named_modules())
    if not layer or layer not in modules:
        raise unknown_layer(layer, [name for name in modules if name])
    return modules[layer]
