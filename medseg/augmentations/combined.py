"""Augmentations combined: the group of all, and any names joined by ``-``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medseg.augmentations import AUGMENTATIONS
from medseg.augmentations.augment import PROB, Augment
from medseg.augmentations.filter import FILTERS, filters
from medseg.augmentations.geometric import GEOMETRIC, geometric
from medseg.errors import MedsegError, unknown


@AUGMENTATIONS.register("all", members=(*FILTERS, *GEOMETRIC))
def combined(prob: float = PROB) -> list[Augment]:
    """The transforms of ``filter``, then those of ``geometric``, each with its own chance.

    Filters come first, so that no histogram counts the corners that a rotation leaves empty.

    Args:
        prob: chance of each.
    """
    return [*filters(prob), *geometric(prob)]


def build_augments(
    names: str,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    prob: float | None = None,
) -> list[Augment]:
    """Build the augmentations of single images by name; those of whole batches are left to ``mixing.mixer``.

    Args:
        names: registered names joined by ``-``, such as ``filter`` or ``rotation-gamma-noise``; applied in that
            order.
        arguments: by name; those of a group hold for its members, whose own win.
        prob: chance of each transform; 0.2 if not given. A ``prob`` among the arguments wins.

    Raises:
        MedsegError: a name or argument is unknown or wrong, or a transform comes twice.
    """
    arguments = arguments or {}
    singles: dict[str, dict[str, Any]] = {}
    for name in names.split("-"):
        facts = AUGMENTATIONS[name].facts
        if facts.get("batch"):
            _check_batch(names, name, arguments)
            continue
        own = {} if prob is None else {"prob": prob}
        own |= given(arguments, name)
        members = facts.get("members")
        if members is not None:
            AUGMENTATIONS.build(name, own)  # tells of arguments that a group does not take
        for single in [name] if members is None else members:
            if single in singles:
                raise MedsegError(f"augmentations {names!r} hold {single} twice; name each transform once")
            singles[single] = own if members is None else own | given(arguments, single)
    for name in arguments:
        if name not in (*names.split("-"), *singles):
            raise unknown(f"augmentation of {names!r} with arguments", name, {*names.split("-"), *singles})
    return [augment for name, own in singles.items() for augment in AUGMENTATIONS.build(name, own)]


def _check_batch(names: str, name: str, arguments: Mapping[str, Mapping[str, Any]]) -> None:
    if names.split("-").count(name) > 1:
        raise MedsegError(f"augmentations {names!r} hold {name} twice; name each transform once")
    AUGMENTATIONS.build(name, given(arguments, name))  # tells of wrong arguments


def given(arguments: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The arguments of one augmentation.

    Raises:
        MedsegError: they are no mapping.
    """
    given = arguments.get(name, {})
    if not isinstance(given, Mapping):
        raise MedsegError(
            f"augmentation {name!r}: arguments are {given!r}; a mapping such as prob: 0.5 is needed"
        )
    return dict(given)
