from __future__ import annotations

from medseg import augmentations


def test_vanilla_does_nothing():
    assert augmentations.build("vanilla") == []
    assert augmentations.build("vanilla", prob=1.0) == []
