"""How an augmentation's name says when it happens."""

from __future__ import annotations

import pytest

from medseg.augmentations.protocol import leaks, parse_augment, protocol_of, with_protocol
from medseg.errors import MedsegError


@pytest.mark.parametrize(
    ("augment", "names", "protocol"),
    [
        ("vanilla", "vanilla", "online"),
        ("filter", "filter", "online"),
        ("filter-offline", "filter", "split-then-augment"),
        ("rotation-noise-leaking", "rotation-noise", "augment-then-split"),
        ("rotation-noise", "rotation-noise", "online"),
    ],
)
def test_names_say_their_protocol(augment: str, names: str, protocol: str) -> None:
    assert parse_augment(augment) == (names, protocol)
    assert protocol_of(augment) == protocol
    assert leaks(augment) == (protocol == "augment-then-split")
    assert with_protocol(names, protocol) == augment
    assert with_protocol(augment, protocol) == augment


def test_what_cannot_be_said_is_refused() -> None:
    with pytest.raises(MedsegError, match="vanilla makes no copies: protocol split-then-augment"):
        with_protocol("vanilla", "split-then-augment")
    with pytest.raises(MedsegError, match="'filter-offline' says split-then-augment already"):
        with_protocol("filter-offline", "augment-then-split")
    with pytest.raises(MedsegError, match="unknown protocol 'offline'"):
        with_protocol("filter", "offline")
