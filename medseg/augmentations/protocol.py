"""When augmentation happens, and how an augmentation's name says so.

``filter`` is drawn anew in each epoch (online). ``filter-offline`` grows the training part once, after splitting,
by one copy per transform, as the studies do. ``filter-leaking`` does so before splitting: copies of one image lie
on both sides, every score is too good, and it exists to show by how much.
"""

from __future__ import annotations

from medseg.augmentations import AUGMENTATIONS
from medseg.errors import MedsegError, unknown

#: protocol -> how it ends the augmentation's name in bundles, tables and MLflow
PROTOCOLS = {"online": "", "split-then-augment": "offline", "augment-then-split": "leaking"}


def with_protocol(augment: str, protocol: str) -> str:
    """An augmentation's name together with the protocol.

    >>> with_protocol("filter", "augment-then-split")
    'filter-leaking'

    Raises:
        MedsegError: there is nothing that makes copies, or the name says another protocol already.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    names, said = parse_augment(augment)
    ending = PROTOCOLS[protocol]
    if names == "vanilla" and ending:
        raise MedsegError(
            f"vanilla makes no copies: protocol {protocol} needs an augmentation such as filter"
        )
    mixed = batch_members(names) if ending else []
    if mixed:
        raise MedsegError(
            f"{mixed[0]} mixes each training batch anew and makes no copies: protocol {protocol} cannot"
            f" take it; use {names!r} online, or leave {mixed[0]} out"
        )
    if said not in ("online", protocol):
        raise MedsegError(f"augment {augment!r} says {said} already; protocol is {protocol}")
    return f"{names}-{ending}" if ending else names


def parse_augment(augment: str) -> tuple[str, str]:
    """The augmentations' names and the protocol.

    >>> parse_augment("rotation-noise-offline")
    ('rotation-noise', 'split-then-augment')
    >>> parse_augment("filter")
    ('filter', 'online')
    """
    names, _, ending = augment.rpartition("-")
    for protocol, known in PROTOCOLS.items():
        if known and names and ending == known:
            return names, protocol
    return augment, "online"


def protocol_of(augment: str) -> str:
    """The protocol that an augmentation's name says."""
    return parse_augment(augment)[1]


def leaks(augment: str) -> bool:
    """Whether an augmentation's name says that copies of test images were trained on."""
    return protocol_of(augment) == "augment-then-split"


def batch_members(names: str) -> list[str]:
    """The augmentations among ``names``, joined by ``-``, that mix whole batches and change no single image.

    >>> batch_members("mixup-filter")
    ['mixup']
    """
    known = [name for name in names.split("-") if name in AUGMENTATIONS]
    return [name for name in known if AUGMENTATIONS[name].facts.get("batch")]
