"""Finding and reading bundles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medseg.bundle.open import Bundle, bundles_in, find, is_bundle, running_root
from medseg.errors import MedsegError


def empty_bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}", encoding="utf-8")
    return folder


def test_found_by_name_and_by_folder(original: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = original.root.parent
    assert find(original.name, folder) == original
    assert find(str(original.root), Path("nowhere")) == original
    monkeypatch.chdir(original.root)
    assert find(".", Path("nowhere")) == original


def test_an_unknown_bundle_is_answered_with_the_nearest(original: Bundle) -> None:
    with pytest.raises(MedsegError, match="Did you mean 'discs__unet__dice_bce'"):
        find("discs__unet__dice_bec", original.root.parent)


def test_an_absent_folder_of_bundles(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"unknown bundle 'x'. Known: none"):
        find("x", tmp_path / "none")


def test_listing_passes_over_what_is_no_bundle(tmp_path: Path) -> None:
    for name in ("b", "a"):
        empty_bundle(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("x", encoding="utf-8")
    assert [b.name for b in bundles_in(tmp_path)] == ["a", "b"]
    assert not is_bundle(tmp_path / "notes")


def test_expressions_stay_text(bundle: Bundle) -> None:
    assert bundle.read("train")["network_def"]["name"] == "@model_name"
    assert bundle.read("train")["device"].startswith("$torch.device(")


def test_finished_repeats_are_those_with_cases(bundle: Bundle) -> None:
    for name in ("10", "2", "official-0", "old"):
        (bundle.root / "repeats" / name).mkdir(parents=True)
        (bundle.root / "repeats" / name / "cases.csv").write_text("", encoding="utf-8")
    bundle.run_folder(3).mkdir()
    assert bundle.finished() == ["2", "10", "official-0"]


def test_each_repeat_of_each_split_has_its_own_folder(bundle: Bundle) -> None:
    folders = [bundle.run_folder(0), bundle.run_folder(1), bundle.run_folder(0, "official")]
    assert [f.name for f in folders] == ["0", "1", "official-0"]
    assert {f.parent for f in folders} == {bundle.root / "repeats"}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metadata.json", b"{", "metadata.json: not valid JSON"),
        ("metadata.json", b"[]", "metadata.json: holds no JSON object"),
        ("metadata.json", b"\xff", "metadata.json: not valid JSON"),
        ("train.yaml", b"a: [", "train.yaml: not valid YAML .*line 1"),
        ("train.yaml", b"- a", "train.yaml: holds no mapping"),
        ("train.yaml", b"", "train.yaml: holds no mapping"),
        ("train.yaml", b"a: \xff", "train.yaml: not valid YAML"),
        ("train.yaml", b"a: !!python/object/apply:os.getcwd []", "train.yaml: not valid YAML"),
    ],
)
def test_broken_files_are_named(bundle: Bundle, file: str, content: bytes, message: str) -> None:
    (bundle.root / "configs" / file).write_bytes(content)
    with pytest.raises(MedsegError, match=message) as caught:
        _ = bundle.metadata if file.endswith("json") else bundle.read("train")
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="no bundle here"):
        _ = Bundle(tmp_path).metadata
    with pytest.raises(MedsegError, match=r"train.yaml: no such file"):
        Bundle(tmp_path).read("train")


def test_the_running_bundle_is_the_one_monai_put_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, running = empty_bundle(tmp_path / "here"), empty_bundle(tmp_path / "running")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(here), str(running)])
    assert running_root() == str(running)
    monkeypatch.setattr(sys, "path", [str(here)])
    assert running_root() == str(here)


def test_no_running_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MedsegError, match="pass --bundle_root FOLDER"):
        running_root()
