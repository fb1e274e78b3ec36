"""How a run was split and augmented, as far as the names in a results table say so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.augmentations.protocol import PROTOCOLS, parse_augment

if TYPE_CHECKING:
    import pandas as pd

#: columns that :func:`with_protocols` adds: the augmentation without its protocol, the protocol, the split's name
BASE, PROTOCOL, SPLIT = "base_augment", "protocol", "base_split"
LEAKING, UNGROUPED = "leaking", "-ungrouped"


def protocol_name(augment: str) -> str:
    """What a protocol is called in tables: ``online``, ``offline``, ``leaking``, empty where nothing is augmented.

    >>> protocol_name("filter-offline"), protocol_name("filter"), protocol_name("vanilla")
    ('offline', 'online', '')
    """
    base, protocol = parse_augment(augment)
    return "" if base == "vanilla" else PROTOCOLS[protocol] or protocol


def base_split(split: str) -> str:
    """A split's name without the digest that a leaking run's split has.

    >>> base_split("holdout-leaking-0123456789abcdef"), base_split("kfold5-ungrouped")
    ('holdout', 'kfold5-ungrouped')
    """
    return re.sub(r"-leaking-[0-9a-f]+$", "", split)


def with_protocols(table: pd.DataFrame) -> pd.DataFrame:
    """A normalised table with the columns ``base_augment``, ``protocol`` and ``base_split``.

    Where a table says nothing of augmentation, nothing is augmented.
    """
    known = "augment" in table.columns
    augment = table["augment"].where(table["augment"] != "", "vanilla") if known else "vanilla"
    split = table["split"] if "split" in table.columns else ""
    table = table.assign(**{BASE: augment, PROTOCOL: augment, SPLIT: split})
    names = {name: parse_augment(name)[0] for name in table[BASE].unique()}
    said = {name: protocol_name(name) for name in table[PROTOCOL].unique()}
    splits = {name: base_split(name) for name in table[SPLIT].unique()}
    return table.assign(
        **{BASE: table[BASE].map(names), PROTOCOL: table[PROTOCOL].map(said), SPLIT: table[SPLIT].map(splits)}
    )
