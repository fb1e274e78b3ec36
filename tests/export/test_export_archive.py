"""zip and hub-folder: whole bundles that leave, without what is private, and that medseg and MONAI take."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from medseg.bundle.admission import admit
from medseg.bundle.archive import files_of, json_configs, with_manifest, write_zip
from medseg.bundle.open import Bundle
from medseg.bundle.verify import verify
from medseg.errors import MedsegError
from medseg.export.delivery import export

PRIVATE = ("jane_doe", "dr-who", "scanner-room-3")


@pytest.fixture(scope="module")
def file(made: Bundle, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    check = export("zip", made, tmp_path_factory.mktemp("zip"), images)
    assert check.inputs == 3 and check.difference.probabilities == 0
    assert check.notes == ("loaded by 'medseg bundle import' and by monai.bundle.load",)
    return check.path


@pytest.fixture(scope="module")
def hub(made: Bundle, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    check = export("hub-folder", made, tmp_path_factory.mktemp("hub") / "polyps", images)
    assert check.difference.probabilities < 1e-6 and "nothing was uploaded" in check.notes
    return check.path


def test_zip_has_one_folder_and_its_hashes(file: Path, made: Bundle) -> None:
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert {name.split("/")[0] for name in content} == {made.name}
    manifest = json.loads(content.pop(f"{made.name}/MANIFEST.json"))
    assert manifest["files"] == {
        name.removeprefix(f"{made.name}/"): {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in content.items()
    }
    assert {"configs/inference.json", "configs/metadata.json", "models/model.pt", "LICENSE"} <= set(
        manifest["files"]
    )


def test_what_is_private_stays(file: Path, hub: Path, made: Bundle) -> None:
    data = file.read_bytes() + b"".join(path.read_bytes() for path in hub.rglob("*") if path.is_file())
    assert not any(
        text.encode() in data for text in (*PRIVATE, str(made.root.parent), str(Path.home()) + "/")
    )
    with zipfile.ZipFile(file) as archive:
        record = json.loads(archive.read(f"{made.name}/models/model.json"))
        assert not any("repeats" in name for name in archive.namelist())
    assert record["tags"] == {"data_fingerprint": "abc", "cases_testing": "12", "torch_version": "2.15"}
    assert record["facts"] == {"dataset": "busi_benign", "model": "unet"}


def test_equal_bundles_are_equal_bytes(file: Path, made: Bundle, tmp_path: Path) -> None:
    imported, inspection = admit(file, tmp_path / "bundles")
    assert not inspection.foreign and verify(imported) == []
    files = files_of(imported)
    write_zip(
        with_manifest(files | json_configs(files), imported.name), imported.name, tmp_path / "again.zip"
    )
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()
    assert sorted(
        p.relative_to(imported.root).as_posix() for p in imported.root.rglob("*") if p.is_file()
    ) == sorted(
        p.relative_to(made.root).as_posix()
        for p in made.root.rglob("*")
        if p.is_file() and "repeats" not in p.parts
    )


def test_monai_downloads_it(file: Path, made: Bundle, tmp_path: Path) -> None:
    from monai.bundle import download

    download(name=made.name, url=file.as_uri(), bundle_dir=tmp_path, progress=False)
    assert (tmp_path / made.name / "configs" / "inference.json").is_file()
    state = torch.load(tmp_path / made.name / "models" / "model.pt", weights_only=True)
    assert state.keys() == torch.load(made.root / "models" / "model.pt", weights_only=True).keys()


def test_hub_folder_has_a_card_that_the_hub_reads(hub: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(hub / "README.md")
    assert card.data.library_name == "monai" and card.data.license == "other"
    results = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert results == {"dice": 0.5}  # a mean that is no number is left out
    assert 'load("polyps"' in card.text and "over 12 cases" in card.text
    assert {p.name for p in (hub / "models").iterdir()} == {"model.pt", "model.ts", "model.json"}
    assert admit(hub, hub.parent / "bundles")[0].name == "polyps"


def test_leaking_is_told_on_the_card(bundle: Bundle) -> None:
    from medseg.bundle.network import read_recipe
    from medseg.export.hub import card

    text = card(bundle, read_recipe(bundle), {"test": {"dice": 1}, "tags": {"leaking": "true"}}, "b")
    assert "COPIES WERE TRAINED ON" in text and "never saw" not in text
    assert "The bundle tells none." in card(bundle, read_recipe(bundle), {}, "b")


def test_local_weights_keep_their_name_alone(bundle: Bundle) -> None:
    path = bundle.config("train")
    path.write_text(path.read_text().replace("pretrained: false", "pretrained: /home/jane/secret/net.pt"))
    content = files_of(bundle)["configs/train.yaml"]
    assert yaml.safe_load(content)["pretrained"] == "net.pt"
    assert b"jane" not in content


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("configs/train.yaml", "\nown: /mnt/scans/ward7\n"),
        ("configs/train.yaml", "\n# as in /home/jane/notes\n"),
        ("docs/README.md", "\nfrom /home/jane/scans\n"),
    ],
)
def test_other_local_paths_are_refused(bundle: Bundle, name: str, text: str) -> None:
    path = bundle.root / name
    path.write_text(path.read_text() + text)
    with pytest.raises(MedsegError, match=f"{name}.* the local path '/.*(ward7|jane)"):
        files_of(bundle)


@pytest.mark.parametrize("address", ["sqlite:////data/ward7.db", "https://jane:secret@ward7.example.org/"])
def test_addresses_of_ones_own_are_refused(bundle: Bundle, address: str) -> None:
    path = bundle.config("train")
    assert "sqlite:///mlruns/mlflow.db" in path.read_text()
    path.write_text(path.read_text().replace("sqlite:///mlruns/mlflow.db", address))
    with pytest.raises(MedsegError, match=r"configs/train.yaml: tracking_uri holds the local path"):
        files_of(bundle)


def test_a_changed_bundle_is_exported_and_said_to_need_trust(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.export.archive.answers_of_monai", lambda *given: [])  # looked at above
    path = bundle.config("inference")
    path.write_text(path.read_text().replace("batch_size: 1}", "batch_size: 2}"))
    check = export("zip", bundle, tmp_path / "a.zip")
    assert "1 part(s) are not of this medseg's template" in check.notes[-1]
