"""Classes in arrays, parts and batches: targets, counts, balanced draws, protocols and splits."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import load_decathlon_datalist

from medseg.data.batches import AugmentedPart, Batch, BatchSampler, PreparedPart
from medseg.data.class_table import Table
from medseg.data.index import build_index
from medseg.data.index_file import Index, IndexedSample, index_path, write_index
from medseg.data.partition import spread
from medseg.data.prepared import Prepared, loader, prepare
from medseg.data.protocols import protocol_samples, training_part
from medseg.data.spec import PARTS, Label
from medseg.data.splits import make_splits
from medseg.data.splits_file import split_path, write_splits
from medseg.errors import MedsegError


@pytest.fixture
def samples(tmp_path: Path, save) -> Prepared:
    """30 images of ten patients in three classes: 15 of a, 10 of b, 5 of c."""
    for i in range(30):
        kind = "a" if i < 15 else "b" if i < 25 else "c"
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        save(tmp_path / "tree" / kind / f"p{i // 3}_{i}.png", pixels)
    rules = {"classes": "{class}/*", "group": r"(?P<group>p\d+)_", "channels": 1}
    write_index(build_index("mine", tmp_path / "tree", **rules), index_path("mine", tmp_path / "prepared"))
    return prepare("mine", None, tmp_path / "prepared", image_size=8)


def part_of(classes: np.ndarray) -> PreparedPart:
    number = len(classes)
    images = np.arange(number, dtype=np.uint8).reshape(-1, 1, 1, 1)
    names = [str(i) for i in range(number)]
    return PreparedPart(images, classes, np.arange(number), names, names)


def hot(*numbers: int) -> np.ndarray:
    """One-hot rows: ``hot(3, 1)`` is three of class 0 and one of class 1."""
    return np.repeat(np.eye(len(numbers), dtype=np.uint8), numbers, axis=0)


def test_arrays_hold_the_images_and_the_index_the_classes(samples):
    assert (samples.task, samples.multilabel) == ("classification", False)
    assert (samples.targets.shape, samples.targets.dtype) == ((30, 3), np.uint8)
    assert sorted(file.name for file in samples.folder.iterdir()) == ["cases.json", "images.npy"]
    for case, row in zip(samples.cases, samples.targets, strict=True):
        number = int(case.split("_")[1])
        assert row.tolist() == [number < 15, 15 <= number < 25, number >= 25]


def test_a_batch_has_images_and_rows_of_classes(samples):
    part = samples.part("training")
    batch = part[[2, 0]]
    assert batch["image"].shape == (2, 1, 8, 8)
    assert (batch["label"].shape, batch["label"].dtype) == ((2, 3), torch.uint8)
    assert torch.equal(batch["label"][1], part[0]["label"])
    counts = sum(samples.part(name).class_counts() for name in PARTS)
    assert (counts.tolist(), counts.dtype) == ([15, 10, 5], np.int64)


def test_a_corrected_class_keeps_the_decoded_images(samples, tmp_path, monkeypatch):
    from medseg.data import arrays

    monkeypatch.setattr(arrays, "read_picture", lambda *_: pytest.fail("decoded again"))
    first, *rest = samples.index.samples
    index = replace(samples.index, samples=(replace(first, classes=("c",)), *rest))
    write_index(index, index_path("mine", tmp_path / "prepared"))
    images, targets, folder = arrays.open_arrays(
        index, arrays.Settings(_steps(), 1), tmp_path / "prepared", None
    )
    assert folder != samples.folder
    assert np.array_equal(images, samples.images)
    assert targets[0].tolist() == [0, 0, 1]


def _steps():
    from medseg.transforms.steps import build_steps

    return build_steps((), {}, (8, 8))


def test_masks_have_no_classes_to_count_or_balance(workspace):
    part = prepare("discs", None, "prepared", image_size=32).part("training")
    with pytest.raises(MedsegError, match="have masks, not classes"):
        part.class_counts()
    with pytest.raises(MedsegError, match="have masks, not classes"):
        loader(part, 4, shuffle=True, sampling="balanced")


def drawn(part: PreparedPart, epoch: int = 0, **more) -> list[int]:
    made = loader(part, 4, shuffle=True, seed=5, sampling="balanced", **more)
    made.sampler.set_epoch(epoch)
    return [i for batch in made.sampler for i in batch]


def test_balanced_draws_each_class_equally_often():
    part = part_of(hot(40, 15, 4, 0))
    chosen = drawn(part)
    assert len(chosen) == 59
    of_class = Counter(int(part.targets[i].argmax()) for i in chosen)
    assert sorted(of_class.values()) == [19, 20, 20]
    assert drawn(part) == chosen
    assert drawn(part, epoch=1) != chosen
    # with replacement, from all of a class: over many epochs every sample comes
    assert {i for epoch in range(12) for i in drawn(part, epoch)} == set(range(59))
    natural = [i for batch in loader(part, 4, shuffle=True, seed=5).sampler for i in batch]
    assert sorted(natural) == list(range(59))


def test_balanced_draws_are_shared_by_processes():
    part = part_of(hot(40, 15, 4))
    shares = [drawn(part, rank=rank, world_size=2) for rank in (0, 1)]
    assert [len(share) for share in shares] == [30, 30]
    whole = [i for pair in zip(*shares, strict=True) for i in pair]
    assert Counter(int(part.targets[i].argmax()) for i in whole) == {0: 20, 1: 20, 2: 20}


def test_balanced_draws_of_several_labels_keep_the_images_without_any():
    classes = np.zeros((50, 2), np.uint8)
    classes[:5, 0], classes[3:8, 1] = 1, 1
    chosen = drawn(part_of(classes))
    without = sum(not classes[i].any() for i in chosen)
    assert without in (16, 17)
    assert classes[chosen].sum(axis=0).min() >= 16


def test_balanced_needs_shuffling_and_a_known_name():
    part = part_of(hot(3, 3))
    with pytest.raises(MedsegError, match="draws at random; it needs shuffle"):
        loader(part, 2, sampling="balanced")
    with pytest.raises(MedsegError, match="unknown sampling 'balance'. Did you mean 'balanced'"):
        loader(part, 2, sampling="balance")


def test_a_sample_that_comes_again_is_changed_anew():
    part = part_of(hot(30, 1))

    def noisy(image, mask, rng, key):
        assert mask is None
        return (image + rng.integers(1, 200)).astype(np.uint8), mask

    augmented = AugmentedPart(part, noisy, seed=1)
    chosen, seen = [], []
    for batch in loader(augmented, 5, shuffle=True, seed=2, sampling="balanced"):
        rare = batch["label"][:, 1] == 1
        chosen.append(int(rare.sum()))
        seen += batch["image"][rare].flatten().tolist()
    assert sum(chosen) in (15, 16)
    assert len(set(seen)) > 10
    # the first time it is as in an epoch that draws each sample once
    batch = next(iter(BatchSampler(31, 31, True, seed=2)))
    once = augmented[batch]["image"].flatten()[batch.index(30)]
    assert int(once) in seen
    assert {int(batch["label"].sum()) for batch in loader(augmented, 1)} == {1}


def test_a_batch_keeps_its_epoch_and_turns_on_the_way_to_a_worker():
    batch = pickle.loads(pickle.dumps(Batch([3, 3], 2, [0, 1])))
    assert (batch, batch.epoch, batch.turns) == ([3, 3], 2, [0, 1])


@pytest.mark.parametrize("workers", [0, 2])
def test_online_augmentation_is_the_same_with_workers(samples, workers):
    part = training_part(samples, "filter", {"filter": {"prob": 0.9}}, seed=3)
    made = list(loader(part, 5, shuffle=True, seed=3, workers=workers, sampling="balanced"))
    usual = list(loader(part, 5, shuffle=True, seed=3, workers=0, sampling="balanced"))
    assert all(torch.equal(a[k], b[k]) for a, b in zip(made, usual, strict=True) for k in a)


def test_offline_copies_have_the_class_of_their_original(samples):
    usual = samples.part("training")
    grown = training_part(samples, "filter-offline", seed=3)
    times = len(grown) // len(usual)
    assert times > 1
    assert grown.class_counts().tolist() == (times * usual.class_counts()).tolist()
    for i, case in enumerate(grown.cases):
        original = usual.cases.index(case.split("~")[0])
        assert torch.equal(grown[i]["label"], usual[original]["label"])
    assert torch.equal(grown[0]["image"], usual[0]["image"])


def test_leaking_copies_go_to_any_part_with_their_class(samples):
    leaky = protocol_samples(samples, "filter-leaking", seed=3)
    assert leaky.targets.shape == (len(leaky.cases), 3)
    assert len(leaky.cases) > 30
    number = [int(case.split("~")[0].split("_")[1]) for case in leaky.cases]
    wanted = [[n < 15, 15 <= n < 25, n >= 25] for n in number]
    assert leaky.targets.tolist() == np.array(wanted, int).tolist()
    assert leaky.part("testing")[[0]]["label"].sum() == 1


def toy(classes: list[tuple[str, ...]], groups: list[str], multilabel: bool = False) -> Index:
    made = [
        IndexedSample(f"c{i}", f"{i}.png", (), group, None, 8, 8, 0.0, f"{i}", f"{i}", ((1, 1),), None, own)
        for i, (own, group) in enumerate(zip(classes, groups, strict=True))
    ]
    names = sorted({name for own in classes for name in own})
    labels = tuple(map(Label, names))
    return Index(
        "toy",
        "toy",
        Path("/d"),
        1,
        "uint8",
        labels,
        "",
        "",
        0,
        tuple(made),
        task="classification",
        multilabel=multilabel,
    )


def counts(index: Index, items: list[dict]) -> np.ndarray:
    place = {sample.case: i for i, sample in enumerate(index.samples)}
    return index.targets()[[place[item["case"]] for item in items]].sum(axis=0)


def test_each_label_is_spread_by_itself():
    rows = spread(toy([("x",), ("y", "x"), ()], ["1", "2", "3"], True).samples)
    assert rows.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_rare_labels_reach_every_part_whatever_their_combinations():
    rng = np.random.default_rng(0)
    chance = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02])
    table = rng.random((1200, 8)) < chance
    classes = [tuple(f"f{k}" for k in np.flatnonzero(row)) for row in table]
    index = toy(classes, [f"g{i // 3}" for i in range(1200)], multilabel=True)
    split = make_splits(index, repeats=2)
    for repeat in split.repeats:
        for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
            off = counts(index, repeat[part]) - share * table.sum(axis=0)
            assert np.abs(off).max() <= 2
        groups = [{item["group"] for item in repeat[part]} for part in PARTS]
        assert not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]


def test_one_rare_class_is_not_drowned_by_the_common_ones():
    classes = [("rare",) if i % 40 == 0 else ("common",) for i in range(1000)]
    index = toy(classes, [f"g{i // 5}" for i in range(1000)])
    for repeat in make_splits(index, repeats=3).repeats:
        assert [int(counts(index, repeat[part])[1]) for part in PARTS] == [15, 5, 5]


def test_the_split_is_a_datalist_of_class_numbers(samples, tmp_path):
    splits = make_splits(samples.index, repeats=1)
    path = split_path("mine", tmp_path, "holdout")
    write_splits(splits, path)
    root = samples.index.root
    items = load_decathlon_datalist(str(path), False, "testing_0", base_dir=str(root))
    # a is a folder of the data set as well, and MONAI takes what exists for a path
    assert {item["label"] for item in items} == {0, 1, 2}
    assert all(item["image"] == str(root / "abc"[item["label"]] / f"{item['case']}.png") for item in items)


def test_an_external_test_needs_the_same_classes(samples, tmp_path):
    index = samples.index
    other = replace(index, dataset="other", samples=tuple(replace(s, pixels=s.case) for s in index.samples))
    split = make_splits(index, "external", test_index=other)
    assert len(split.items(0)["testing"]) == 30
    turned = replace(other, labels=other.labels[::-1])
    with pytest.raises(MedsegError, match="an external test needs the same, in the same order"):
        make_splits(index, "external", test_index=turned)
    with pytest.raises(MedsegError, match="other classification with several labels: tasks differ"):
        make_splits(index, "external", test_index=replace(other, multilabel=True))
    with pytest.raises(MedsegError, match="other segmentation: tasks differ"):
        make_splits(index, "external", test_index=replace(other, task="segmentation"))


def test_a_table_trains_with_several_labels(tmp_path, save):
    for i in range(12):
        save(tmp_path / "s" / f"i{i}.png", np.full((8, 8), 20 * i, np.uint8) + np.eye(8, dtype=np.uint8))
    rows = [f"i{i},{'|'.join(n for n, d in (('even', 2), ('third', 3)) if i % d == 0)}" for i in range(12)]
    (tmp_path / "s" / "t.csv").write_text("\n".join(["image,class", *rows]))
    table = Table("t.csv", "image", ("class",))
    index = build_index("own", tmp_path / "s", table=table, multilabel=True, channels=1)
    write_index(index, index_path("own", tmp_path / "p"))
    made = prepare("own", tmp_path / "s", tmp_path / "p", image_size=8)
    assert made.multilabel
    assert made.targets.tolist() == [[int(i % 2 == 0), int(i % 3 == 0)] for i in range(12)]
