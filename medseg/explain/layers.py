"""Which submodules of a network give maps, and how the cells of their maps lie on the image."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import MedsegError

#: by how many pixels the second image is wider, from which the step of a layer's cells is known
WIDER = 256


@dataclass(frozen=True)
class Layer:
    """A submodule that gives maps ``(N, C, h, w)``.

    Args:
        name: of the submodule.
        channels: of its maps.
        size: height and width of its maps, in cells.
        step: pixels of the image from one cell to the next.
        origin: the pixel, from 0, on which the first cell's centre lies, in both directions; None where the field of
            the maps is centred on the image.
    """

    name: str
    channels: int
    size: tuple[int, int]
    step: float
    origin: float | None = None

    def spread(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """A raw map on the image's pixels, bilinearly, cell upon the place that it sees.

        Most fields have the image's extent. One of a network that pads the image, as FCN by 100 pixels, is larger:
        what lies beside the image is cut off.

        Args:
            raw: ``(1, 1, h, w)``.
            size: height and width of the image.

        Shape:
            ``(1, 1, *size)``.
        """
        wide = [max(1, round(cells * self.step)) for cells in raw.shape[2:]]
        spread = functional.interpolate(raw, size=wide, mode="bilinear", align_corners=False)
        for axis, (own, side) in enumerate(zip(wide, size, strict=True), 2):
            centred = (side - own) / 2
            start = round(centred if self.origin is None else self.origin - (self.step - 1) / 2)
            spread = _placed(spread, axis, start, side)
        return spread


def _placed(spread: Tensor, axis: int, start: int, side: int) -> Tensor:
    """The part from 0 to ``side`` of what begins at ``start``; the rim goes on where there is nothing."""
    places = torch.arange(side, device=spread.device) - start
    return spread.index_select(axis, places.clamp(0, spread.shape[axis] - 1))


def map_layers(network: nn.Module, channels: int, size: tuple[int, int]) -> dict[str, Layer]:
    """The submodules that give maps, in the order in which they are run.

    The network is run on two blank images, of which one is wider. A layer counts if it is run once, and gives four
    dimensions of which the last alone grows with the width: tokens, attention weights, channels-last maps and pooled
    values do not.

    Args:
        network: in evaluation mode.
        channels: of the image.
        size: height and width of the image, in pixels.
    """
    height, width = size
    divisor = int(getattr(network, "divisor", 1))
    more = -(-WIDER // divisor) * divisor
    usual = _shapes(network, channels, (height, width))
    try:
        wider = _shapes(network, channels, (height, width + more))
    except (RuntimeError, MedsegError):  # such as a classifier that takes one size
        wider = {}
    found = {}
    for name, shape in usual.items():
        if len(shape) != 4 or min(shape[2:]) < 2:
            continue
        step = width / shape[3]
        if wider:
            other = wider.get(name, ())
            if other[:-1] != shape[:-1] or other[3] <= shape[3]:
                continue
            step = more / (other[3] - shape[3])
        found[name] = Layer(name, shape[1], (shape[2], shape[3]), step)
    return found


def _shapes(network: nn.Module, channels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shape that each submodule gives, of those that are run once."""
    like = next(network.parameters(), torch.empty(0))
    shapes: dict[str, list[tuple[int, ...]]] = {}
    with _watched(network, shapes), torch.inference_mode():
        network(torch.zeros(1, channels, *size, device=like.device))
    return {name: seen[0] for name, seen in shapes.items() if len(seen) == 1}


@contextmanager
def _watched(network: nn.Module, shapes: dict[str, list[tuple[int, ...]]]) -> Iterator[None]:
    def watch(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes.setdefault(name, []).append(tuple(output.shape) if isinstance(output, Tensor) else ())

        return keep

    hooks = [module.register_forward_hook(watch(name)) for name, module in network.named_modules() if name]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def choose_layer(
    network: nn.Module, channels: int, size: tuple[int, int], name: str, origin: float | None = None
) -> Layer:
    """The layer of a name.

    Args:
        network: in evaluation mode.
        channels: of the image.
        size: height and width of the image, in pixels.
        name: of the submodule.
        origin: where its first cell lies, if that is known; see ``Layer``.

    Raises:
        MedsegError: there is no such submodule, or it gives no maps.
    """
    layers = map_layers(network, channels, size)
    if name in layers:
        found = layers[name]
        return Layer(found.name, found.channels, found.size, found.step, origin)
    if name in dict(network.named_modules()):
        hint = _nearest(name, layers)
        shape = _shapes(network, channels, size).get(name, ())
        if len(shape) == 4 and min(shape[2:]) == 1:
            seen, own = (" x ".join(map(str, one)) for one in (shape[2:], size))
            raise MedsegError(
                f"layer {name!r} gives maps of {seen} cells for images of {own} pixels, which tell no place; look at "
                f"an earlier layer, or train with a stem for small images or larger ones.{hint}"
            )
        raise MedsegError(
            f"layer {name!r} gives no maps (N, C, h, w) in one run of it, but tokens, pooled values or nothing.{hint}"
        )
    raise unknown_layer(name, layers)


def unknown_layer(name: str, known: Iterable[str]) -> MedsegError:
    """The error for a layer that does not exist, with the nearest names that do."""
    return MedsegError(f"unknown layer {name!r}.{_nearest(name, known)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{hint} List them with --list-layers"
