"""A study file: what it may say, and how every mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import MedsegError
from medseg.study.spec import Study, as_level, read_study, shown

BASE = """study: losses_small
axes:
  dataset: [kvasir_seg, cvc_clinicdb]
  model: [unet, ducknet]
  loss: [iou, dice]
  preprocess: [none, clahe, [window, clahe]]
  augment: [vanilla, rotation-noise-offline]
  repeat: 3
split: kfold5
fixed: {image_size: 64, learning_rate: 1e-3}
settings:
- where: {model: unet}
  set: {model_arguments: {widths: [8, 16, 32]}}
skip:
- {model: ducknet, augment: [vanilla]}
retries: 0
threads: 2
keep_weights: best
"""
SHORT = """study: s
axes:
  dataset: phantom
  model: unet
  loss: dice
"""


def read(tmp_path: Path, text: str) -> Study:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return read_study(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(MedsegError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_everything_that_a_file_may_say(tmp_path: Path) -> None:
    study = read(tmp_path, BASE)
    assert study == Study(
        name="losses_small",
        axes={
            "dataset": ("kvasir_seg", "cvc_clinicdb"),
            "model": ("unet", "ducknet"),
            "loss": ("iou", "dice"),
            "preprocess": ((), ("clahe",), ("window", "clahe")),
            "augment": ("vanilla", "rotation-noise-offline"),
            "repeat": (0, 1, 2),
        },
        fixed={"image_size": 64, "learning_rate": 0.001},
        rules=({"where": {"model": ("unet",)}, "set": {"model_arguments": {"widths": [8, 16, 32]}}},),
        skip=({"model": ("ducknet",), "augment": ("vanilla",)},),
        split="kfold5",
        retries=0,
        threads=2,
        keep_weights="best",
        text=BASE,
    )


def test_what_may_be_left_out(tmp_path: Path) -> None:
    study = read(tmp_path, SHORT)
    assert (study.axes["preprocess"], study.axes["augment"], study.axes["repeat"]) == (
        ((),),
        ("vanilla",),
        (0,),
    )
    assert (study.split, study.retries, study.threads, study.keep_weights) == ("holdout", 2, 1, "all")
    assert (study.fixed, study.rules, study.skip) == ({}, (), ())


def test_repeats_may_be_listed(tmp_path: Path) -> None:
    assert read(tmp_path, f"{SHORT}  repeat: [4, 2]\n").axes["repeat"] == (4, 2)


@pytest.mark.parametrize("given", [None, "none", "", []])
def test_no_preprocessing_in_all_spellings(given: object) -> None:
    assert as_level("preprocess", given) == ()


def test_steps_in_order_in_both_spellings() -> None:
    assert as_level("preprocess", "window-clahe") == as_level("preprocess", ["window", "clahe"])
    assert as_level("preprocess", ["clahe", "window"]) == ("clahe", "window")
    assert as_level("augment", ["rotation", "noise"]) == "rotation-noise"


@given(st.lists(st.from_regex(r"[a-z]{1,4}(_[a-z]{1,3})?", fullmatch=True), max_size=4))
def test_a_level_as_shown_is_read_as_the_same(steps: list[str]) -> None:
    level = as_level("preprocess", steps)
    if level != ("none",):
        assert as_level("preprocess", shown(level)) == level


def test_the_order_of_keys_means_nothing(tmp_path: Path) -> None:
    turned = dict(reversed(yaml.safe_load(BASE).items()))
    turned["fixed"]["learning_rate"] = 0.001
    study = read(tmp_path, yaml.safe_dump(turned, sort_keys=False))
    first = read(tmp_path, BASE)
    assert {**vars(study), "text": ""} == {**vars(first), "text": ""}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("retries: 0", "retrys: 0", "line 16, retrys: unknown key 'retrys'. Did you mean 'retries'?"),
        ("  loss: [iou", "  los: [iou", "line 5, axes: los: unknown axis 'los'. Did you mean 'loss'?"),
        ("  loss: [iou, dice]\n", "", "axes: the axis loss is missing"),
        ("[iou, dice]", "[iou, dise]", "line 5, axes: loss: unknown loss 'dise'. Did you mean 'dice'?"),
        ("[unet, ducknet]", "[unett, ducknet]", "unknown level of the axis model 'unet'"),
        ("[window, clahe]", "[windw, clahe]", "line 6, axes: preprocess: unknown transform 'windw'. Did you mean"),
        ("noise-offline", "nois-offline", "line 7, axes: augment: unknown augmentation 'nois'. Did you mean"),
        ("[vanilla, rot", "[vanilla-offline, vanilla, rot", "vanilla makes no copies"),
        ("[kvasir_seg", "[Kvasir-SEG", "line 3, axes: dataset: data set name 'Kvasir-SEG': use a-z"),
        ("image_size: 64", "image_sise: 64", "line 10, fixed: image_sise: unknown setting 'image_sise'. Did you"),
        ("image_size: 64", "image_size: big", "line 10, fixed: image_size: image_size='big': give one number"),
        ("1e-3", "1e-x", "learning_rate='1e-x': give a number"),
        ("set: {model_arg", "set: {model_args", "line 13, settings: set: model_args"),
        ("- where: {model: unet}", "- were: {model: unet}", "settings: were: unknown key 'were'. Did you mean 'where'"),
        ("where: {model: unet}", "where: {model: emcad}", "line 12, settings: where: model: unknown level of the axis"),
        ("where: {model: unet}", "where: {}", "is empty and would hold for every run"),
        ("where: {model: unet}", "where: {repeat: 0}", "repeat: all repeats of a bundle have its settings"),
        ("[vanilla]}", "[filter]}", "line 15, skip: augment: unknown level of the axis augment 'filter'"),
        ("ducknet, augment: [vanilla]", "ducknet, agument: [vanilla]", "unknown axis 'agument'. Did you mean 'augm"),
        ("[iou, dice]", "[iou, dice, iou]", "line 5, axes: loss: iou is there twice"),
        ("[none, clahe", "[none, '', clahe", "none is there twice"),
        ("[iou, dice]", "[]", "line 5, axes: loss: has no level"),
        ("[iou, dice]", "[no, dice]", "is read as False: YAML takes yes, no, on and off for truth values"),
        ("[iou, dice]", "[17, dice]", "is read as 17, which is no text; put a name in quotes"),
        ("[iou, dice]", "[[iou], dice]", "is ['iou'], where one name is needed"),
        ("[iou, dice]", "{iou: 1}", "where one name is needed"),
        ("[iou, dice]", "['', dice]", "is an empty name"),
        ("repeat: 3", "repeat: 0", "line 8, axes: repeat: 0: give the number of repeats, 1 or more"),
        ("repeat: 3", "repeat: [0, 0]", "0 is there twice"),
        ("repeat: 3", "repeat: 2.5", "2.5: give repeats as whole numbers from 0"),
        ("repeat: 3", "repeat: [-1]", "-1: give repeats as whole numbers from 0"),
        ("repeat: 3", "repeat: yes", "True: give repeats as whole numbers from 0"),
        ("study: losses_small", "study: Losses/small", "line 1, study: 'Losses/small' will not do as the name of a fol"),
        ("study: losses_small", "study: on", "line 1, study: is read as True"),
        ("study: losses_small\n", "", "study: is missing"),
        ("split: kfold5", "split: ../x", "line 9, split: '../x' will not do"),
        ("retries: 0", "retries: -1", "line 16, retries: -1: give a whole number, 0 or more"),
        ("threads: 2", "threads: 0", "line 17, threads: 0: give a whole number, 1 or more"),
        ("threads: 2", "threads: true", "threads: True: give a whole number"),
        ("keep_weights: best", "keep_weights: bets", "unknown choice 'bets'. Did you mean 'best'?"),
        ("retries: 0", "retries: 0\nretries: 1", "line 17, retries: stands twice"),
        ("  loss: [iou, dice]", "  loss: [iou, dice]\n  loss: [bce]", "line 6, axes: loss: stands twice"),
        ("skip:\n- {", "skip: {a: {", "not valid YAML"),
        ("skip:\n- {model: ducknet, augment: [vanilla]}", "skip: 3", "skip: is 3; a list is needed"),
        ("- {model: ducknet, augment: [vanilla]}", "- ducknet", "skip: is 'ducknet'; a mapping"),
        ("- {model: ducknet, augment: [vanilla]}", "- {model: [unet, ducknet]}", "skip: leaves no run of the study"),
        ("augment: [vanilla]}", "augment: []}", "line 15, skip: matches no run of the axes"),
        ("fixed: {image", "fixed: {preprocess_arguments: {median: {}}, image", "'median'. Known: clahe, window"),
        ("fixed: {image", "fixed: {augment_arguments: {filter: {}}, image", "'filter'. Known: noise, rotation, vanilla"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in BASE
    told = refused(tmp_path, BASE.replace(old, new, 1))
    assert words in told
    assert told.startswith(f"{tmp_path / 's.yaml'}: ")


def test_a_rule_for_runs_that_are_all_skipped_is_a_mistake(tmp_path: Path) -> None:
    text = BASE.replace("{model: ducknet, augment: [vanilla]}", "{model: unet}")
    assert "line 12, settings: where: matches no run that is not skipped" in refused(tmp_path, text)


def test_a_skip_of_a_combination_needs_all_of_it(tmp_path: Path) -> None:
    """Levels that exist each by itself always meet somewhere, so only unknown ones match nothing."""
    study = read(tmp_path, BASE.replace("augment: [vanilla]}", "repeat: 2}"))
    assert study.skip == ({"model": ("ducknet",), "repeat": (2,)},)
    assert "unknown level of the axis repeat '3'" in refused(
        tmp_path, BASE.replace("augment: [vanilla]}", "repeat: 3}")
    )


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    text = BASE.replace("64", "-1").replace("retries: 0", "retries: x").replace("threads: 2", "threads: 0")
    lines = refused(tmp_path, text).splitlines()
    assert lines[0].endswith("s.yaml: 3 mistakes")
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  line 10, fixed",
        "  line 16, retries",
        "  line 17, threads",
    ]


def test_settings_and_names_are_told_together(tmp_path: Path) -> None:
    told = refused(tmp_path, SHORT.replace("unet", "unett") + "fixed: {preprocess_arguments: 3, epoch: 3}\n")
    assert "3 mistakes" in told
    assert all(word in told for word in ("'unett'", "'epochs'", "preprocess_arguments=3: give a mapping"))


def test_names_are_looked_up_all_at_once(tmp_path: Path) -> None:
    text = SHORT.replace("unet", "unett").replace("dice", "[dise, bec]")
    told = refused(tmp_path, text)
    assert "3 mistakes" in told
    assert all(word in told for word in ("Did you mean 'unet'", "Did you mean 'dice'", "Did you mean 'bce'"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no mapping"),
        ("- 1\n", "holds no mapping"),
        ("a: [", "not valid YAML"),
        ("a: !x b", "not valid YAML"),
        ("a: \0", "not valid YAML"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    text = f"study: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]\n"
    assert "not valid YAML" in refused(tmp_path, text)
    assert not (tmp_path / "made").exists()


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"none\.yaml: no such file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MedsegError, match=r"bytes\.yaml: not readable as text"):
        read_study(tmp_path / "bytes.yaml")


def test_without_names_nothing_heavy_is_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SHORT.replace("unet", "unett"), encoding="utf-8")
    assert read_study(path, names=False).axes["model"] == ("unett",)
