"""Cases that show the same picture, and the groups that they unite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from medseg.data.address import natural_key
from medseg.data.index_file import IndexedSample


def find_duplicates(samples: Iterable[IndexedSample]) -> tuple[tuple[str, ...], ...]:
    """Sets of cases whose decoded images are exactly equal."""
    cases: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        cases[sample.pixels].append(sample.case)
    return tuple(tuple(names) for names in cases.values() if len(names) > 1)


def united(group_of: Mapping[str, str], duplicates: Iterable[Iterable[str]]) -> dict[str, str]:
    """The group of each case when the groups of duplicates are one, under the first one's name in natural order.

    Args:
        group_of: case -> group.
        duplicates: sets of cases that show the same picture.
    """
    top = {group: group for group in group_of.values()}

    def first(group: str) -> str:
        while top[group] != group:
            group = top[group]
        return group

    for cases in duplicates:
        groups = sorted({first(group_of[case]) for case in cases}, key=natural_key)
        top.update(dict.fromkeys(groups, groups[0]))
    return {case: first(group) for case, group in group_of.items()}
