"""The ordered pipeline of preprocessing that data preparation, training and prediction share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from medseg.errors import MedsegError, unknown
from medseg.transforms import TRANSFORMS
from medseg.transforms._checks import whole_pair
from medseg.transforms.geometry import Geometry, Size
from medseg.transforms.normalize import check_channels, full_range
from medseg.transforms.picture import Picture
from medseg.transforms.resize import Resize

Step = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Steps:
    """Preprocessing in order: steps on the picture as read, one to the network's size, steps behind it.

    The normalisation is only named: arrays keep what is before it, and ``normalize.normalized`` makes it on the
    device, after augmentation.

    Args:
        before: steps before the spatial one.
        spatial: the step that makes the network's size.
        after: steps at the network's size.
        normalization: name of the normalisation; none leaves images in 0..1.
        settings: name and all arguments of each step but the normalisation, in order.
    """

    before: tuple[Step, ...]
    spatial: Resize
    after: tuple[Step, ...]
    normalization: str | None
    settings: tuple[tuple[str, dict[str, Any]], ...]

    def geometry(self, size: Size) -> Geometry:
        """How an image of height and width ``size`` comes to lie in the network's frame."""
        return self.spatial.geometry(size)

    @overload
    def apply(self, picture: Picture, mask: np.ndarray) -> tuple[Picture, np.ndarray]: ...

    @overload
    def apply(self, picture: Picture, mask: None = None) -> tuple[Picture, None]: ...

    def apply(self, picture: Picture, mask: np.ndarray | None = None) -> tuple[Picture, np.ndarray | None]:
        """The picture and its mask as arrays keep them: of the network's size, before the normalisation.

        Args:
            picture: as read.
            mask: ``uint8``, of the picture's height and width.

        Returns:
            the picture ``(C, h, w)``, ``uint8`` or ``uint16`` of full range or float32 in 0..1, and the mask
            ``(h, w)``.

        Raises:
            MedsegError: the mask is of another size, or a step cannot be applied to this picture.
        """
        size: Size = picture.values.shape[1:]
        if mask is not None and mask.shape != size:
            raise MedsegError(f"the mask is {mask.shape}, its image {size} (height, width); they must agree")
        steps: tuple[Step, ...] = (*self.before, self.spatial, *self.after)
        for step in steps:
            picture = step(picture)
        return full_range(picture), None if mask is None else self.geometry(size).mask(mask)

    def restore(self, prediction: np.ndarray, size: Size) -> np.ndarray:
        """A prediction at the input's own size and place.

        Args:
            prediction: probabilities (float) or masks (``uint8`` or bool) of the network's size.
            size: height and width of the input.

        Shape:
            ``(K, h, w)`` to ``(K, H, W)``, float32 or uint8.
        """
        return self.geometry((size[0], size[1])).restore(prediction)

    def record(self) -> dict[str, Any]:
        """All that the arrays depend on, for JSON: each step with its arguments and the version of its formula."""
        return {
            "image_size": list(self.spatial.size),
            "steps": [
                {
                    "name": name,
                    "version": TRANSFORMS[name].facts.get("version", 1),
                    "arguments": _plain(given),
                }
                for name, given in self.settings
            ],
        }

    def check_channels(self, channels: int) -> None:
        """Refuse a number of channels that the normalisation is not for.

        Raises:
            MedsegError: it is not.
        """
        check_channels(self.normalization, channels)


def build_steps(
    names: Sequence[str],
    arguments: Mapping[str, Mapping[str, Any]] | None,
    image_size: Size,
) -> Steps:
    """Build the steps of a preprocess list.

    Where no step is spatial, ``resize`` (stretch) follows the others, before the normalisation.

    Args:
        names: of registered transforms, in order.
        arguments: of the steps, by name; those of a step that is listed twice are for both.
        image_size: height and width of the network's input, in pixels.

    Raises:
        MedsegError: a name or an argument is unknown or wrong, arguments are given for a step that is not listed,
            there are several spatial steps, or a normalisation that is not the last step.
    """
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not listed or not all(isinstance(name, str) for name in names):
        raise MedsegError(f"preprocess must be a list of names; it is {names!r}")
    arguments = {} if arguments is None else arguments
    spatial, normalization = _check_order(names)
    names = [name for name in names if name != normalization]
    _check_arguments([*names, *([normalization] if normalization else [])], arguments)
    if spatial is None:
        names, spatial = [*names, "resize"], "resize"
    size = whole_pair("preprocess", "image_size", image_size)
    given = {name: dict(arguments.get(name) or {}) for name in names}
    steps = [TRANSFORMS.build(n, given[n], **({"size": size} if n == spatial else {})) for n in names]
    if normalization:
        TRANSFORMS.build(normalization, arguments.get(normalization))
    settings = tuple((n, _complete(n, given[n])) for n in names)
    at = names.index(spatial)
    return Steps(tuple(steps[:at]), steps[at], tuple(steps[at + 1 :]), normalization, settings)


def _check_order(names: Sequence[str]) -> tuple[str | None, str | None]:
    """The spatial step and the normalisation of a list, where it has them."""
    spatial = [name for name in names if TRANSFORMS[name].facts.get("spatial")]
    last = [name for name in names if TRANSFORMS[name].facts.get("normalization")]
    if len(spatial) > 1:
        raise MedsegError(f"preprocess: {' and '.join(spatial)} both change the size; keep one of them")
    if len(last) > 1:
        raise MedsegError(f"preprocess: {' and '.join(last)} both normalise; keep one of them")
    if last and names[-1] != last[0]:
        raise MedsegError(f"preprocess: {last[0]} must stand last, behind {names[-1]}")
    return next(iter(spatial), None), next(iter(last), None)


def _check_arguments(names: Sequence[str], arguments: Mapping[str, Any]) -> None:
    if not isinstance(arguments, Mapping):
        raise MedsegError(f"arguments of preprocess must be given by step; got {arguments!r}")
    for name, given in arguments.items():
        if name not in names:
            raise MedsegError(
                f"preprocess: arguments are given for {name!r}, which is not among the steps {list(names)}"
            )
        if given is not None and not isinstance(given, Mapping):
            raise MedsegError(f"arguments of transform {name!r} must be given by name; got {given!r}")
        entry = TRANSFORMS[name]
        takes = [p for p in inspect.signature(entry.build).parameters if not _is_given_size(entry.facts, p)]
        for argument in given or {}:
            if _is_given_size(entry.facts, argument):
                raise MedsegError(
                    f"transform {name!r} takes its size from image_size; remove the argument size"
                )
            if argument not in takes:
                raise unknown(f"{name} argument", argument, takes)


def _is_given_size(facts: Mapping[str, Any], argument: str) -> bool:
    return bool(facts.get("spatial")) and argument == "size"


def _complete(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a step with its defaults, less the size."""
    parameters = inspect.signature(TRANSFORMS[name].build).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {**defaults, **given}


def _plain(value: Any) -> Any:
    """Tuples as lists and numpy's numbers as Python's, so that equal settings have equal JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
