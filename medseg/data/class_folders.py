"""Classes from folders: ``pneumonia/a.png`` is an image of the class ``pneumonia``."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from medseg.data.address import stem, suffix
from medseg.data.pairing import files_of, glob_regex, grouper
from medseg.data.sample import Sample
from medseg.data.volumes import expanded
from medseg.errors import MedsegError

#: what official parts are called in folders and tables
PART_NAMES = {
    "training": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev"),
    "testing": ("test", "testing", "tst"),
}


def by_folder(
    pattern: str,
    *,
    group: str | Callable[[str], str] | None = None,
    names: Mapping[str, str] | None = None,
    exclude: str | None = None,
) -> Callable[[Path], list[Sample]]:
    """An index function that takes the class of an image from a part of its path.

    Args:
        pattern: glob pattern of the images with ``{class}`` for a folder, or for a part of one name, and perhaps
            ``{part}`` for the folder of the official part, such as ``{part}/{class}/*`` or ``{class}/**/*``.
        group: regular expression with a part named ``group``, searched in the image's path, or a function of the
            image's stem; without it each image, or each volume, is its own group.
        names: folder -> name of its class; folders that are not named are none of the set.
        exclude: glob pattern of files that are no images of the set.

    Raises:
        MedsegError: the pattern lacks ``{class}``, or ``group`` is no such expression.
    """
    expression = re.compile(_expression(pattern) + "$")
    group_of = grouper(group)

    def index(folder: Path) -> list[Sample]:
        # two stars beside each other would mean folders
        files = files_of(folder, re.sub(r"\*?\{(class|part)\}\*?", "*", pattern))
        files = [name for name in files if not exclude or not fnmatch.fnmatch(name, exclude)]
        stems = Counter(map(stem, files))
        samples = []
        for name in files:
            match = expression.match(name)
            if match is None or (names is not None and match["class"] not in names):
                continue
            own = names[match["class"]] if names else match["class"]
            case = case_name(name, stems)
            part = match.groupdict().get("part")
            samples.append(
                Sample(
                    case,
                    name,
                    (),
                    case if group is None else group_of(name),
                    official_part(part, name) if part else None,
                    None,
                    (own,),
                )
            )
        return [piece for sample in samples for piece in expanded(sample, folder)]

    return index


def _expression(pattern: str) -> str:
    if pattern.count("{class}") != 1 or pattern.count("{part}") > 1 or "[" in pattern:
        raise MedsegError(
            f"pattern of classes {pattern!r}: needs {{class}} once, where the class stands, such as '{{class}}/*',"
            " and no '['"
        )
    if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        raise MedsegError(f"pattern {pattern!r}: must be relative to the data folder and stay within it")
    text = glob_regex(pattern)
    return text.replace(r"\{class\}", "(?P<class>[^/]+?)").replace(r"\{part\}", "(?P<part>[^/]+?)")


def case_name(name: str, stems: Mapping[str, int]) -> str:
    """The stem of a file, or its whole path where several files share the stem: ``b/1.png`` is ``b_1``.

    Args:
        name: the file, relative to the data folder.
        stems: how many files have each stem.
    """
    if stems[stem(name)] == 1:
        return stem(name)
    return name[: len(name) - len(suffix(name))].replace("/", "_")


def official_part(word: str, where: str) -> str | None:
    """The part that a folder or a table means by a word; ``None`` for an empty one.

    Raises:
        MedsegError: it means none.
    """
    word = word.strip().lower()
    for part, words in PART_NAMES.items():
        if word in words:
            return part
    if word:
        known = ", ".join(names[0] for names in PART_NAMES.values())
        raise MedsegError(f"{where}: {word!r} is no part of a split; {known} are")
    return None
