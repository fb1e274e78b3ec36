from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.data import arrays
from medseg.data.batches import PreparedPart
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.data.prepared import BatchSampler, loader, prepare
from medseg.data.splits import make_splits
from medseg.data.splits_file import split_path, write_splits
from medseg.errors import MedsegError
from medseg.transforms import TRANSFORMS


@pytest.fixture
def mine(lesions, own, tmp_path) -> Path:
    """A folder of prepared data sets with an indexed one of 24 images."""
    write_index(build_index("mine", lesions(24), **own), index_path("mine", tmp_path / "prepared"))
    return tmp_path / "prepared"


def test_arrays_hold_the_pixels_in_the_order_of_the_index(mine):
    made = prepare("mine", None, mine, image_size=16)
    assert (made.images.shape, made.images.dtype) == ((24, 3, 16, 16), np.uint8)
    assert (made.targets.shape, made.targets.dtype) == ((24, 1, 16, 16), np.uint8)
    assert isinstance(made.images, np.memmap)
    assert not made.images.flags.writeable
    assert made.channels == 3
    assert [label.name for label in made.labels] == ["lesion"]
    for i in (0, 9, 23):
        pixels = np.asarray(Image.open(made.index.root / "images" / f"{made.cases[i]}.png"))
        assert np.array_equal(made.images[i], pixels.transpose(2, 0, 1))
        assert made.targets[i].sum() == 4 * (1 + i % 15)
    assert made.groups[9] == "p2"


def test_size_and_channels_are_settings_of_their_own(mine):
    made = prepare("mine", None, mine, image_size=(8, 12), channels=1)
    assert made.images.shape == (24, 1, 8, 12)
    assert made.targets.shape == (24, 1, 8, 12)
    assert set(np.unique(made.targets)) == {0, 1}
    keys = {
        prepare("mine", None, mine, image_size=s, channels=c).fingerprint for s in (8, 16) for c in (1, 3)
    }
    assert len(keys) == 4


def test_masks_that_are_read_in_another_way_make_other_arrays(tmp_path, own, save):
    levels = np.zeros((8, 8), np.uint8)
    levels[:2], levels[4:] = 1, 2
    for i in range(5):
        save(tmp_path / f"s/images/p{i}_0.png", np.full((8, 8), i, np.uint8))
        save(tmp_path / f"s/masks/p{i}_0.png", levels)
    areas = []
    for value in (1, 2, 1):
        made = build_index("map", tmp_path / "s", **own, channels=1, mask_value=value)
        write_index(made, index_path("map", tmp_path / "prepared"))
        areas.append(int(prepare("map", None, tmp_path / "prepared", image_size=8).targets[0].sum()))
    assert areas == [16, 32, 16]


def test_arrays_are_made_once_and_shared(mine, monkeypatch):
    first = prepare("mine", None, mine, image_size=16)
    monkeypatch.setattr(arrays, "_build_arrays", lambda *_: pytest.fail("built again"))
    again = prepare("mine", None, mine, image_size=16, repeat=3, split="kfold4")
    assert again.folder == first.folder
    assert again.split_fingerprint != first.split_fingerprint


def test_sixteen_bit_images_stay_so(tmp_path, own, save):
    for i in range(5):
        save(tmp_path / f"s/images/p{i}_0.png", np.full((8, 8), 40000 + i, np.uint16))
        save(tmp_path / f"s/masks/p{i}_0.png", np.eye(8, dtype=np.uint8))
    write_index(
        build_index("deep", tmp_path / "s", **own, channels=1), index_path("deep", tmp_path / "prepared")
    )
    made = prepare("deep", None, tmp_path / "prepared", image_size=4)
    assert made.images.dtype == np.uint16
    assert made.images[2].tolist() == np.full((1, 4, 4), 40002).tolist()
    batch = made.part("training")[[0, 1]]
    assert batch["image"].dtype == torch.uint16
    assert batch["image"].float().min() >= 40000


def test_parts_follow_the_split_and_give_batches(mine):
    made = prepare("mine", None, mine, image_size=16, repeat=2)
    items = made.splits.items(2)
    place = {case: i for i, case in enumerate(made.cases)}
    seen = []
    for name in ("training", "validation", "testing"):
        part = made.part(name)
        assert part.cases == [item["case"] for item in items[name]]
        assert part.groups == [item["group"] for item in items[name]]
        seen += part.cases
        where = [place[case] for case in part.cases]
        batch = part[[1, 0]]
        assert (batch["image"].dtype, batch["label"].dtype) == (torch.uint8, torch.uint8)
        assert np.array_equal(batch["image"].numpy(), made.images[[where[1], where[0]]])
        assert np.array_equal(batch["label"].numpy(), made.targets[[where[1], where[0]]])
        assert torch.equal(part[1]["image"], batch["image"][0])
        assert part[1]["label"].shape == (1, 16, 16)
    assert sorted(seen) == sorted(made.cases)
    with pytest.raises(MedsegError, match="unknown part 'train'. Known: training, validation, testing"):
        made.part("train")


def test_a_part_on_the_cpu_stays_memory_mapped(mine):
    part = prepare("mine", None, mine, image_size=16).part("training", device="cpu")
    assert isinstance(part.images, np.memmap)


def test_a_resident_part_gives_the_same_batches(mine, monkeypatch):
    part = prepare("mine", None, mine, image_size=16).part("training")
    monkeypatch.setattr("medseg.data.batches._free_bytes", lambda device: 2 * len(part) * 4 * 256)
    resident = part.resident("meta")
    assert (resident.device.type, resident.images.shape) == ("meta", (len(part), 3, 16, 16))
    monkeypatch.setattr("medseg.data.batches._free_bytes", lambda device: 2 * len(part) * 4 * 256 - 1)
    assert part.resident("meta") is part
    tensors = [torch.from_numpy(np.array(a[part.positions])) for a in (part.images, part.targets)]
    held = PreparedPart(*tensors, np.arange(len(part)), part.cases, part.groups)
    for item in ([2, 0, 1], 3):
        assert all(torch.equal(held[item][key], part[item][key]) for key in ("image", "label"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_part_moves_whole_to_the_gpu(mine):
    part = prepare("mine", None, mine, image_size=16).part("training")
    resident = part.resident("cuda")
    assert resident.device.type == "cuda"
    for there, here in zip(loader(resident, 4, shuffle=True), loader(part, 4, shuffle=True), strict=True):
        assert there["image"].device.type == "cuda"
        assert all(torch.equal(there[key].cpu(), here[key]) for key in here)


def test_unusual_settings_are_refused(mine):
    for arguments, message in (
        ({"image_size": 0}, "image_size is 0 x 0"),
        ({"channels": 4}, "channels is 4"),
        ({"preprocess": ["claheh"]}, "unknown transform 'claheh'"),
        ({"preprocess": ["resize", "resize_pad"]}, "resize and resize_pad both change the size"),
        ({"split": "mine"}, "split 'mine': neither made"),
        ({"repeat": 9}, "has repeats 0 to 4, not 9"),
    ):
        with pytest.raises(MedsegError, match=message):
            prepare("mine", None, mine, **{"image_size": 16, **arguments})


def test_preprocessing_is_applied_before_resizing_and_makes_other_arrays(mine, monkeypatch):
    TRANSFORMS.names()
    monkeypatch.setattr(TRANSFORMS, "_entries", dict(TRANSFORMS._entries))
    TRANSFORMS.register("inverted")(lambda: lambda picture: picture.having(255 - picture.values))
    plain = prepare("mine", None, mine, image_size=16)
    inverted = prepare("mine", None, mine, image_size=16, preprocess=["inverted"])
    assert np.array_equal(inverted.images, 255 - plain.images)
    assert inverted.fingerprint != plain.fingerprint


def test_unknown_and_unindexed_data_sets(tmp_path):
    with pytest.raises(MedsegError, match="kvasir_seg: not indexed in .*; say where its folder is"):
        prepare("kvasir_seg", None, tmp_path)
    with pytest.raises(MedsegError, match="unknown data set 'mine'.* medseg data index mine --data"):
        prepare("mine", tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_external_split_leaves_shared_pictures_out(mine, lesions, own, save):
    top = lesions(6, folder="other")
    for path in (top / "images").glob("*.png"):
        if path.stem != "p0_2":
            save(path, 255 - np.asarray(Image.open(path)))
    write_index(build_index("other", top, **own), index_path("other", mine))
    made = prepare("mine", None, mine, "external-other", image_size=16)
    assert [item["case"] for item in made.splits.left_out] == ["p0_2"]
    assert made.external is not None
    assert len(made.part("training")) + len(made.part("validation")) == 23
    assert made.part("testing").cases == made.external.cases
    assert np.array_equal(made.part("testing")[3]["image"].numpy(), made.external.images[3])


def test_a_split_of_older_images_is_refused(mine, lesions, own):
    prepare("mine", None, mine, image_size=16)
    lesions(25)
    with pytest.raises(MedsegError, match="1 files came after the index was made"):
        prepare("mine", None, mine, image_size=16)
    index = build_index("mine", mine.parent / "lesions", **own)
    write_index(index, index_path("mine", mine))
    with pytest.raises(MedsegError, match=r"holdout.json: made from another index of mine"):
        prepare("mine", None, mine, image_size=16)
    write_splits(make_splits(index), split_path("mine", mine, "holdout"))
    assert len(prepare("mine", None, mine, image_size=16).images) == 25


def test_a_build_that_fails_leaves_nothing_and_a_killed_one_is_cleared(mine, monkeypatch):
    def fail(*_):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(arrays, "_decoded", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            prepare("mine", None, mine, image_size=16)
    assert list((mine / "mine/arrays").iterdir()) == []
    (mine / "mine/arrays/.building-killed").mkdir()
    made = prepare("mine", None, mine, image_size=16)
    assert [path.name for path in (mine / "mine/arrays").iterdir()] == [made.fingerprint]


def test_broken_arrays_say_what_to_delete(mine):
    made = prepare("mine", None, mine, image_size=16)
    (made.folder / "images.npy").write_bytes(b"")
    with pytest.raises(MedsegError, match="prepared arrays are broken .* delete the folder"):
        prepare("mine", None, mine, image_size=16)


def test_cases_json_tells_what_the_arrays_are(mine):
    made = prepare("mine", None, mine, image_size=(8, 16))
    document = json.loads((made.folder / "cases.json").read_text())
    assert document["cases"] == made.cases
    assert document["preprocess"]["image_size"] == [8, 16]
    assert document["index"] == made.index.fingerprint


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The cases that were decoded, in the order of their names."""
    read: list[str] = []
    usual = arrays.read_sample

    def counted(index, sample, channels):
        read.append(sample.case)
        return usual(index, sample, channels)

    monkeypatch.setattr(arrays, "read_sample", counted)
    return read


def indexed_again(folder: Path, own: dict, prepared: Path) -> None:
    write_index(build_index("mine", folder, **own), index_path("mine", prepared))
    shutil.rmtree(prepared / "mine" / "splits")


def test_of_a_changed_data_set_only_the_changed_files_are_decoded(mine, own, decoded):
    before = prepare("mine", None, mine, image_size=16)
    assert sorted(decoded) == sorted(before.cases)
    images, masks, root = np.array(before.images), np.array(before.targets), before.index.root
    decoded.clear()
    for number, kind in ((0, "images"), (5, "images"), (9, "masks")):
        file = root / kind / f"{before.cases[number]}.png"
        Image.fromarray(np.asarray(Image.open(file))[::-1].copy()).save(file)
    (root / "images" / f"{before.cases[3]}.png").unlink()
    (root / "masks" / f"{before.cases[3]}.png").unlink()
    indexed_again(root, own, mine)

    after = prepare("mine", None, mine, image_size=16)
    changed = [before.cases[number] for number in (0, 5, 9)]
    assert sorted(decoded) == sorted(changed)
    assert before.folder.is_dir()
    assert after.folder != before.folder
    for i, case in enumerate(after.cases):
        j = before.cases.index(case)
        same = np.array_equal(after.images[i], images[j]) and np.array_equal(after.targets[i], masks[j])
        assert same == (case not in changed)
    assert len(after.images) == 23


def test_another_setting_decodes_every_file_of_its_data_set_anew(mine, lesions, own, decoded):
    write_index(build_index("other", lesions(12), **own), index_path("other", mine))
    for name in ("mine", "other"):
        prepare(name, None, mine, image_size=16)
    decoded.clear()
    prepare("mine", None, mine, image_size=8)
    assert len(decoded) == 24
    prepare("mine", None, mine, image_size=16, channels=1)
    prepare("mine", None, mine, image_size=16, preprocess=["median"])
    assert len(decoded) == 3 * 24
    prepare("other", None, mine, image_size=16)
    assert len(decoded) == 3 * 24


@pytest.mark.parametrize("harm", ["sources", "images.npy", "cases.json"])
def test_older_arrays_that_say_too_little_or_are_broken_are_not_taken_from(mine, own, decoded, harm):
    before = prepare("mine", None, mine, image_size=16)
    if harm == "sources":
        record = json.loads((before.folder / "cases.json").read_text())
        del record["sources"]
        (before.folder / "cases.json").write_text(json.dumps(record))
    else:
        (before.folder / harm).write_bytes((before.folder / harm).read_bytes()[:70])
    (before.index.root / "images" / f"{before.cases[3]}.png").unlink()
    (before.index.root / "masks" / f"{before.cases[3]}.png").unlink()
    indexed_again(before.index.root, own, mine)
    decoded.clear()
    assert len(prepare("mine", None, mine, image_size=16).images) == 23
    assert len(decoded) == 23


def test_the_phantom_is_drawn_again_when_its_pictures_are_lost(tmp_path):
    first = prepare("phantom", None, tmp_path, image_size=32)
    shutil.rmtree(tmp_path / "phantom/source")
    again = prepare("phantom", None, tmp_path, image_size=32, repeat=1)
    assert (again.folder, again.split_fingerprint) == (first.folder, first.split_fingerprint)


def test_two_processes_at_once_build_one(tmp_path):
    code = (
        "import sys; from medseg.data.prepared import prepare\n"
        "made = prepare('phantom', None, sys.argv[1], image_size=32)\n"
        "print(made.fingerprint, made.split_fingerprint, int(made.images.sum()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(answers) == 1
    assert len(list((tmp_path / "phantom/arrays").iterdir())) == 1


def test_batches_cover_every_index_once():
    sampler = BatchSampler(10, 4, shuffle=True, seed=3)
    batches = list(sampler)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert len(sampler) == 3
    assert sorted(sum(batches, [])) == list(range(10))
    assert list(BatchSampler(5, 2)) == [[0, 1], [2, 3], [4]]
    assert [len(batch) for batch in BatchSampler(10, 4, drop_last=True)] == [4, 4]


@pytest.mark.parametrize(
    ("size", "batch_size", "lengths"),
    [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (5, 1, [1] * 5), (1, 4, [1]), (5, 4, [5])],
)
def test_when_shuffling_no_sample_is_left_over_alone(size: int, batch_size: int, lengths: list[int]) -> None:
    sampler = BatchSampler(size, batch_size, shuffle=True)
    batches = list(sampler)
    assert [len(batch) for batch in batches] == lengths and len(sampler) == len(lengths)
    assert sorted(index for batch in batches for index in batch) == list(range(size))
    dropped = BatchSampler(9, 4, shuffle=True, drop_last=True)
    assert [len(batch) for batch in dropped] == [4, 4]


def test_the_order_is_a_function_of_seed_and_epoch():
    def orders(seed: int, epochs: list[int]) -> list[list[list[int]]]:
        sampler = BatchSampler(50, 8, shuffle=True, seed=seed)
        return [(sampler.set_epoch(epoch), list(sampler))[1] for epoch in epochs]

    assert orders(1, [0, 1, 2]) == orders(1, [2, 1, 0])[::-1]
    assert orders(1, [0]) != orders(1, [1])
    assert orders(1, [0]) != orders(2, [0])
    sampler = BatchSampler(50, 8, shuffle=True, seed=1)
    assert list(sampler) == list(sampler)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_share_the_samples(world):
    training = [BatchSampler(10, 2, shuffle=True, rank=r, world_size=world) for r in range(world)]
    assert len({len(list(sampler)) for sampler in training}) == 1
    drawn = [i for sampler in training for batch in sampler for i in batch]
    assert set(drawn) == set(range(10))
    assert len(drawn) == -(-10 // world) * world
    validation = [BatchSampler(10, 2, rank=r, world_size=world) for r in range(world)]
    assert sorted(i for sampler in validation for batch in sampler for i in batch) == list(range(10))


def test_a_number_of_workers_below_none_is_refused(mine):
    with pytest.raises(MedsegError, match="workers is -1; give 0 or more"):
        loader(prepare("mine", None, mine, image_size=16).part("training"), 4, workers=-1)


def test_wrong_batches_say_so():
    for arguments, message in (
        ({"size": 0, "batch_size": 1}, "0 samples"),
        ({"size": 4, "batch_size": 0}, "batch_size is 0"),
        ({"size": 4, "batch_size": 2, "rank": 2, "world_size": 2}, "rank is 2 of world size 2"),
        ({"size": 4, "batch_size": 5, "drop_last": True}, "no batch of 5: process 0 of 1 has 4 samples"),
    ):
        with pytest.raises(MedsegError, match=message):
            BatchSampler(**arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_gives_whole_batches(mine, workers):
    part = prepare("mine", None, mine, image_size=16).part("training")
    batches = loader(part, 4, shuffle=True, seed=7, workers=workers)
    order = sum(BatchSampler(len(part), 4, shuffle=True, seed=7), [])
    assert len(batches) == -(-len(part) // 4)
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, part[order]["image"])
    batches.sampler.set_epoch(1)
    assert not torch.equal(torch.cat([batch["image"] for batch in batches]), images)
