"""Augmenting anew in each epoch, once after splitting, and (leaking) before it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.augmentations import build_augments, copies
from medseg.data import growth
from medseg.data.documents import digest
from medseg.data.prepared import Prepared, loader, prepare
from medseg.data.protocols import protocol_samples, training_part
from medseg.data.splits import make_splits
from medseg.data.splits_file import split_path, write_splits
from medseg.errors import MedsegError


@pytest.fixture
def samples(workspace: Path) -> Prepared:
    """The 24 discs as prepared arrays, 14 of them for training or so."""
    return prepare("discs", None, "prepared", image_size=32)


def batches(part, workers: int, epoch: int) -> list[dict[str, torch.Tensor]]:
    made = loader(part, batch_size=5, shuffle=True, seed=3, workers=workers)
    made.sampler.set_epoch(epoch)
    return list(made)


def test_online_draws_depend_on_seed_epoch_and_sample_alone(samples):
    part = training_part(samples, "all", {"all": {"prob": 0.9}}, seed=3)
    whole = {w: batches(part, w, epoch=2) for w in (0, 1, 2)}
    for other in (whole[1], whole[2]):
        for mine, theirs in zip(whole[0], other, strict=True):
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    another = batches(part, 0, epoch=3)
    assert not torch.equal(whole[0][0]["image"].float(), another[0]["image"].float())
    first = next(iter(loader(part, 5, shuffle=True, seed=3).sampler))
    assert (type(first).__name__, first.epoch) == ("Batch", 0)
    assert torch.equal(part[first]["image"][0], part[first[0]]["image"])


def test_online_keeps_the_pixels_type_and_the_masks_binary(samples):
    part = training_part(samples, "geometric", {"geometric": {"prob": 1.0}}, seed=0)
    batch = part[[0, 1, 2]]
    assert (batch["image"].dtype, batch["image"].shape) == (torch.uint8, (3, 1, 32, 32))
    assert (batch["label"].dtype, set(batch["label"].unique().tolist())) == (torch.uint8, {0, 1})
    assert part.resident("meta") is part


def test_vanilla_changes_nothing(samples):
    part = training_part(samples, "vanilla", seed=0)
    assert torch.equal(part[[0, 1]]["image"], samples.part("training")[[0, 1]]["image"])


def test_offline_grows_the_training_part_fivefold_and_nothing_else(samples):
    plain = samples.part("training")
    part = training_part(samples, "filter-offline", seed=42)
    assert len(part) == 5 * len(plain)
    assert part.cases[:5] == [plain.cases[0], *(f"{plain.cases[0]}~{n}" for n in NAMES)]
    assert part.groups[:5] == [plain.groups[0]] * 5
    grown, kept = part[[0, 5, 10]], plain[[0, 1, 2]]
    assert torch.equal(grown["image"], kept["image"])
    assert torch.equal(part[[1, 2, 3, 4]]["label"], kept["label"][:1].expand(4, -1, -1, -1))
    assert protocol_samples(samples, "filter-offline") is samples
    assert not {case.partition("~")[0] for case in part.cases} & set(samples.part("testing").cases)


NAMES = ("clahe", "gaussian_blur", "equalize", "fancy_pca")


def test_a_copy_depends_on_seed_case_and_transform_alone(samples):
    part = training_part(samples, "geometric-offline", seed=42)
    image, mask = (array.numpy() for array in samples.part("training")[0].values())
    case = int(digest([part.cases[0]])[:12], 16)
    for i, (name, changed, moved) in enumerate(
        copies(build_augments("geometric", {}), image, mask, (42, case)), 1
    ):
        assert part.cases[i].endswith(f"~{name}")
        assert np.array_equal(part[i]["image"].numpy(), changed)
        assert np.array_equal(part[i]["label"].numpy(), moved)
    other = training_part(samples, "geometric-offline", seed=7)
    assert not torch.equal(other[[1]]["image"], part[[1]]["image"])


def test_growth_is_made_once_and_whole(samples, monkeypatch):
    first = training_part(samples, "filter-offline", seed=1)
    monkeypatch.setattr(growth.Growth, "_fill", lambda *_: pytest.fail("grown again"))
    again = training_part(samples, "filter-offline", seed=1)
    assert again.cases == first.cases
    with pytest.raises(pytest.fail.Exception, match="grown again"):
        training_part(samples, "filter-offline", seed=2)
    assert [p.name for p in (samples.folder / "grown").iterdir()] == [Path(first.images.filename).parent.name]


def test_leaking_puts_copies_of_one_image_on_both_sides(samples):
    leaky = protocol_samples(samples, "filter-leaking", seed=42)
    assert len(leaky.cases) == 5 * 24
    parts = {name: leaky.part(name) for name in ("training", "validation", "testing")}
    assert sum(len(part) for part in parts.values()) == 120
    assert len(parts["testing"]) == 24
    origins = {name: {case.partition("~")[0] for case in part.cases} for name, part in parts.items()}
    assert origins["training"] & origins["testing"]
    assert training_part(leaky, "filter-leaking", seed=42).cases == parts["training"].cases
    assert leaky.fingerprint != samples.fingerprint
    assert leaky.split_fingerprint != samples.split_fingerprint
    again = protocol_samples(samples, "filter-leaking", seed=42)
    assert again.part("testing").cases == parts["testing"].cases
    other = protocol_samples(
        prepare("discs", None, "prepared", image_size=32, repeat=1), "filter-leaking", seed=42
    )
    assert other.part("testing").cases != parts["testing"].cases
    (file,) = Path("prepared/discs/splits").glob("holdout-leaking-*.json")
    assert json.loads(file.read_text())["grouped"] is False


def test_leaking_splits_at_random_or_not_at_all(samples):
    with pytest.raises(MedsegError, match="'filter-leaking' splits at random; split official does not"):
        from dataclasses import replace

        official = replace(samples, splits=replace(samples.splits, kind="official", name="official"))
        protocol_samples(official, "filter-leaking")


def test_leaking_splits_by_the_shares_seed_and_repeats_of_the_split_it_replaces(samples):
    def parts(split: str, repeat: int = 0) -> dict[str, list[str]]:
        leaky = protocol_samples(
            prepare("discs", None, "prepared", split=split, repeat=repeat, image_size=32), "noise-leaking"
        )
        return {name: leaky.part(name).cases for name in ("training", "validation", "testing")}

    def write(**changes) -> None:
        made = make_splits(
            samples.index, "holdout", **{"fractions": (0.5, 0.25, 0.25), "repeats": 7} | changes
        )
        write_splits(made, split_path("discs", Path("prepared"), made.name))

    write(name="own")
    assert {name: len(cases) for name, cases in parts("own", 6).items()} == {
        "training": 24,
        "validation": 12,
        "testing": 12,
    }
    before = parts("own")
    write(name="own", seed=7)  # the same name, made again
    assert parts("own") != before
    write(name="own")
    assert parts("own") == before
    folds = [parts("kfold3", k)["testing"] for k in range(3)]
    assert sorted(case for fold in folds for case in fold) == sorted(
        f"{case}{copy}" for case in samples.cases for copy in ("", "~noise")
    )


def test_vanilla_has_nothing_to_grow_by(samples):
    with pytest.raises(MedsegError, match="'vanilla' makes no copies"):
        training_part(samples, "vanilla-offline")
    with pytest.raises(MedsegError, match="'vanilla' makes no copies"):
        protocol_samples(samples, "vanilla-leaking")


def test_broken_copies_say_what_to_delete(samples):
    training_part(samples, "noise-offline")
    (file,) = samples.folder.glob("grown/*/images.npy")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(MedsegError, match="grown.* arrays are broken .* delete the folder"):
        training_part(samples, "noise-offline")


def test_workers_start_although_opencv_has_threads(samples):
    import cv2

    cv2.setNumThreads(4)
    large = np.zeros((2048, 2048), np.uint8)
    cv2.GaussianBlur(large, (0, 0), 5)  # makes OpenCV start them
    part = training_part(samples, "filter", {"filter": {"prob": 1.0}}, seed=0)
    assert len(batches(part, workers=1, epoch=1)) == -(-len(part) // 5)
