from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from medseg.data.datasets.cvc_clinicdb import SEQUENCE_ENDS
from medseg.data.index_file import Index, IndexedSample
from medseg.data.partition import partition, strata
from medseg.data.spec import PARTS, Label
from medseg.data.splits import make_splits, parse_split_name, split_name
from medseg.data.splits_file import read_splits, write_splits
from medseg.errors import MedsegError


def sample(
    number: int, group: str = "", fraction: float = 0.1, part: str | None = None, picture: str = ""
) -> IndexedSample:
    case = f"c{number}"
    return IndexedSample(
        case,
        f"images/{case}.png",
        (f"masks/{case}.png",),
        group or case,
        part,
        8,
        8,
        fraction,
        content=f"content {case}",
        pixels=picture or f"picture {case}",
        stamps=((1, 1), (1, 1)),
    )


def index(samples: list[IndexedSample], name: str = "toy") -> Index:
    return Index(name, name, Path("/data"), 3, "uint8", (Label("lesion"),), "", "", 0, tuple(samples))


def cases(items: list[dict]) -> list[str]:
    return [item["case"] for item in items]


def sizes(repeat: dict) -> list[int]:
    return [len(repeat[part]) for part in PARTS]


VIDEOS = np.diff([0, *SEQUENCE_ENDS])
CVC = index(
    [sample(i, f"v{v}", fraction=0.01 + 0.001 * (i % 90)) for i, v in enumerate(np.repeat(range(29), VIDEOS))]
)
SINGLES = index([sample(i, fraction=0 if i % 10 == 0 else i / 100) for i in range(100)])


def test_lesion_sizes_are_four_classes():
    fractions = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert strata([sample(i, fraction=f) for i, f in enumerate(fractions)]) == [0, 1, 1, 2, 2, 3, 3]
    assert strata([sample(0, fraction=0), sample(1, fraction=0)]) == [0, 0]


def test_categories_are_spread_as_sizes_are():
    kinds = ("benign", "malignant", "normal")
    samples = [
        replace(sample(i, fraction=0 if i % 3 == 2 else 0.1 + i / 1000), category=kinds[i % 3])
        for i in range(90)
    ]
    # two categories in three sizes each, and the normal images
    assert len(set(strata(samples))) == 7
    alike = [strata(samples)[i] == strata(samples)[0] for i in range(90)]
    assert {samples[i].category for i in range(90) if alike[i]} == {"benign"}
    for part, share in zip(partition(samples, (0.6, 0.2, 0.2), 0, "toy"), (0.6, 0.2, 0.2), strict=True):
        assert Counter(s.category for s in part) == dict.fromkeys(kinds, pytest.approx(30 * share))


def test_a_category_alone_is_a_stratum():
    samples = [replace(sample(i, fraction=0), category="ab"[i % 2]) for i in range(4)]
    assert strata(samples) == [0, 1, 0, 1]
    assert strata([replace(s, category=None) for s in samples]) == [0, 0, 0, 0]


def test_holdout_is_sixty_twenty_twenty_and_complete():
    made = make_splits(SINGLES)
    assert len(made.repeats) == 5
    for repeat in made.repeats:
        assert sizes(repeat) == [60, 20, 20]
        assert sorted(c for part in PARTS for c in cases(repeat[part])) == sorted(f"c{i}" for i in range(100))


def test_every_part_has_its_share_of_every_size():
    classes = dict(zip((s.case for s in SINGLES.samples), strata(SINGLES.samples), strict=True))
    for repeat in make_splits(SINGLES).repeats:
        for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
            found = Counter(classes[case] for case in cases(repeat[part]))
            # 10 empty ones and three classes of 30
            assert all(abs(found[k] - share * (10 if k == 0 else 30)) <= 1 for k in range(4))


def test_few_big_groups_stay_whole_and_come_near_the_shares():
    for kind in ("holdout", "kfold"):
        for repeat in make_splits(CVC, kind, repeats=20).repeats:
            videos = [{item["group"] for item in repeat[part]} for part in PARTS]
            assert not (videos[0] & videos[1] or videos[0] & videos[2] or videos[1] & videos[2])
            for found, share in zip(sizes(repeat), (0.6, 0.2, 0.2), strict=True):
                assert abs(found / 612 - share) <= 0.03


def test_every_video_is_tested_now_and_then():
    tested = Counter(
        item["group"]
        for r in make_splits(CVC, repeats=100).repeats
        for item in {i["group"]: i for i in r["testing"]}.values()
    )
    assert len(tested) == 29
    # a fifth of 100 each, if every video were as likely as the other
    assert min(tested.values()) >= 8
    assert max(tested.values()) <= 40


def test_repeats_differ_and_do_not_depend_on_their_number_but_on_the_seed():
    five, two = make_splits(SINGLES, repeats=5), make_splits(SINGLES, repeats=2)
    assert five.repeats[:2] == two.repeats
    assert five.repeats[0] != five.repeats[1]
    assert make_splits(SINGLES, seed=43).repeats[0] != five.repeats[0]
    assert make_splits(SINGLES).fingerprint == five.fingerprint != two.fingerprint


def test_fractions_are_kept():
    assert sizes(make_splits(SINGLES, fractions=(0.8, 0.1, 0.1)).repeats[0]) == [80, 10, 10]


def test_ungrouped_is_a_plain_permutation():
    made = make_splits(CVC, ungrouped=True)
    assert (made.name, made.grouped) == ("holdout-ungrouped", False)
    for repeat in made.repeats:
        assert sizes(repeat) == [367, 123, 122]
        assert {i["group"] for i in repeat["training"]} & {i["group"] for i in repeat["testing"]}
    order = np.random.default_rng((42, 0)).permutation(612)
    assert cases(made.repeats[0]["training"]) == [f"c{i}" for i in sorted(order[:367])]


def test_folds_test_every_case_once():
    made = make_splits(SINGLES, "kfold", folds=4)
    assert (made.name, len(made.repeats)) == ("kfold4", 4)
    tested = [case for repeat in made.repeats for case in cases(repeat["testing"])]
    assert sorted(tested) == sorted(s.case for s in SINGLES.samples)
    # a quarter of the 75 that are not tested validates, as 0.2 / 0.8
    assert {tuple(sizes(repeat)) for repeat in made.repeats} <= {(56, 19, 25), (57, 18, 25)}


def parts(*numbers: int) -> Index:
    named = [part for part, n in zip(PARTS, numbers, strict=True) for _ in range(n)]
    return index([sample(i, part=part) for i, part in enumerate(named)])


def test_official_parts_are_kept():
    repeat = make_splits(parts(6, 2, 3), "official", repeats=2).repeats[1]
    assert [cases(repeat[part]) for part in PARTS] == [
        ["c0", "c1", "c2", "c3", "c4", "c5"],
        ["c6", "c7"],
        ["c8", "c9", "c10"],
    ]


def test_official_validation_is_drawn_from_training_where_there_is_none():
    first, second = make_splits(parts(20, 0, 4), "official", repeats=2).repeats
    assert sizes(first) == [15, 5, 4]
    assert first["testing"] == second["testing"]
    assert first["validation"] != second["validation"]


def test_official_validation_is_the_test_where_there_is_no_other():
    repeat = make_splits(parts(20, 4, 0), "official").repeats[0]
    assert cases(repeat["testing"]) == ["c20", "c21", "c22", "c23"]
    assert sizes(repeat) == [15, 5, 4]


def test_an_official_duplicate_of_a_test_case_does_not_train():
    samples = [sample(i, part="training") for i in range(8)]
    samples += [sample(8, "c3", part="testing"), sample(9, "c4", part="validation")]
    made = make_splits(index(samples), "official", repeats=1)
    assert "c3" not in cases(made.repeats[0]["training"])
    assert [item["case"] for item in made.left_out] == ["c3", "c4"]
    literal = make_splits(index(samples), "official", repeats=1, ungrouped=True)
    assert "c3" in cases(literal.repeats[0]["training"])


def test_no_official_parts():
    with pytest.raises(MedsegError, match="toy has no official training and test part"):
        make_splits(SINGLES, "official")


def test_external_tests_on_all_of_the_other_set_and_trains_on_no_picture_of_it():
    other = index([sample(i, picture="picture c7" if i == 2 else f"other {i}") for i in range(5)], "other")
    made = make_splits(SINGLES, "external", test_index=other)
    assert (made.name, made.test_dataset) == ("external-other", "other")
    repeat = made.repeats[0]
    assert cases(repeat["testing"]) == ["c0", "c1", "c2", "c3", "c4"]
    assert {item["dataset"] for item in repeat["testing"]} == {"other"}
    assert sizes(repeat) == [74, 25, 5]
    assert made.left_out == (
        {"case": "c7", "image": "images/c7.png", "reason": "the same picture as c2 of other"},
    )
    assert "c7" not in cases(repeat["training"]) + cases(repeat["validation"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "loocv"}, "unknown split kind 'loocv'. Known: holdout, kfold, official, external"),
        ({"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"fractions": (0.8, 0.2, 0.0)}, "three shares above 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"kind": "kfold", "folds": 2}, "at least 3"),
        ({"kind": "external"}, "--test-on"),
        ({"kind": "external", "test_index": SINGLES}, "needs another data set, not itself"),
    ],
)
def test_wrong_arguments_say_so(arguments, message):
    with pytest.raises(MedsegError, match=message):
        make_splits(SINGLES, **arguments)


def test_too_few_groups():
    with pytest.raises(MedsegError, match="2 groups cannot fill 3 parts"):
        make_splits(index([sample(i, f"g{i % 2}") for i in range(20)]))
    with pytest.raises(MedsegError, match="3 groups cannot fill 5 parts"):
        make_splits(index([sample(i, f"g{i % 3}") for i in range(20)]), "kfold")
    with pytest.raises(MedsegError, match="2 images are too few"):
        make_splits(index([sample(0), sample(1)]), ungrouped=True)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 9])
def test_a_handful_of_groups_leaves_no_part_empty(number):
    for repeat in make_splits(index([sample(i) for i in range(number)])).repeats:
        assert min(sizes(repeat)) >= 1


def test_one_giant_group_leaves_no_part_empty():
    samples = [sample(i, "giant" if i < 50 else "") for i in range(54)]
    divided = partition(samples, (0.6, 0.2, 0.2), 0, "toy")
    assert sorted(map(len, divided))[0] >= 1
    assert len(divided[0]) >= 50


@pytest.mark.parametrize("name", ["holdout", "holdout-ungrouped", "kfold7", "official", "kfold5-ungrouped"])
def test_usual_names_stand_for_their_arguments(name):
    arguments = parse_split_name(name)
    assert split_name(**arguments) == name


def test_other_names_stand_for_nothing():
    with pytest.raises(
        MedsegError, match="split 'mine': neither made by 'medseg data split' nor one of holdout"
    ):
        parse_split_name("mine")


def test_the_file_comes_back_and_is_a_monai_datalist(tmp_path):
    two = [
        *SINGLES.samples[:-1],
        IndexedSample(**{**vars(SINGLES.samples[-1]), "masks": ("m/1.png", "m/2.png")}),
    ]
    source = index(two)
    made = make_splits(source)
    path = tmp_path / "holdout.json"
    write_splits(made, path)
    assert read_splits(path, source) == made
    document = json.loads(path.read_text())
    assert document["repeats"] == 5
    assert sum('"case"' in line for line in path.read_text().splitlines()) == 500
    for part in PARTS:
        items = load_decathlon_datalist(str(path), data_list_key=f"{part}_4", base_dir="/data")
        assert [item["case"] for item in items] == cases(made.repeats[4][part])
        for item in items:
            assert item["image"] == f"/data/images/{item['case']}.png"
            double = item["case"] == "c99"
            assert item["label"] == (
                ["/data/m/1.png", "/data/m/2.png"] if double else f"/data/masks/{item['case']}.png"
            )


def test_an_external_file_comes_back(tmp_path):
    other = index([sample(i) for i in range(5)], "other")
    other = index([IndexedSample(**{**vars(s), "pixels": "o" + s.pixels}) for s in other.samples], "other")
    made = make_splits(SINGLES, "external", test_index=other)
    write_splits(made, tmp_path / "e.json")
    # c0 of both sets may be in two parts: they are different cases
    assert read_splits(tmp_path / "e.json", SINGLES, other) == made
    with pytest.raises(MedsegError, match="made from another index of other"):
        read_splits(tmp_path / "e.json", SINGLES, index([sample(1)], "other"))


def test_a_split_of_another_index_or_an_edited_one_is_refused(tmp_path):
    path = tmp_path / "holdout.json"
    write_splits(make_splits(CVC), path)
    with pytest.raises(
        MedsegError, match=r"made from another index of toy .* make it again with 'medseg data split'"
    ):
        read_splits(path, SINGLES)
    document = json.loads(path.read_text())
    for edit, message in (
        (
            lambda d: d["testing_1"].append(d["training_1"][0]),
            r"case c\d+ lies in training_1 and in testing_1",
        ),
        (
            lambda d: d["testing_1"].append({**d["training_1"][0], "case": "new"}),
            r"group v\d+ lies in training_1",
        ),
        (lambda d: d["validation_2"].clear(), "validation_2 is empty"),
        (lambda d: d.pop("training_0"), "not a whole split"),
        (lambda d: d.update(format=0), "another version"),
    ):
        edited = json.loads(json.dumps(document))
        edit(edited)
        path.write_text(json.dumps(edited))
        with pytest.raises(MedsegError, match=message):
            read_splits(path, CVC)


def test_a_repeat_that_does_not_exist():
    with pytest.raises(MedsegError, match="split holdout of toy has repeats 0 to 4, not 5"):
        make_splits(SINGLES).items(5)
