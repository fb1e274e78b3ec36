"""Bundles from elsewhere are read, told and refused, and nothing of theirs ever runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.bundle.admission import admit
from medseg.bundle.archive import MANIFEST, files_of, json_configs, with_manifest, write_zip
from medseg.bundle.executable import Executable, config_executables, parse
from medseg.bundle.inspection import Inspection, inspect, weight_fact
from medseg.bundle.network import build_network, read_recipe
from medseg.bundle.open import CONFIGS, Bundle
from medseg.bundle.package import opened
from medseg.errors import MedsegError

SENTINEL = "medseg_sentinel_was_written"


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every hostile part below would leave a file here; none may."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert not list(tmp_path.rglob(f"*{SENTINEL}*"))
    assert "hostile_module" not in sys.modules


@pytest.fixture
def trained(bundle: Bundle) -> Bundle:
    network = build_network(read_recipe(bundle), None)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


def packed(
    bundle: Bundle, path: Path, change: Callable[[dict[str, bytes]], object] = lambda files: None
) -> Path:
    """A zip with a manifest that is right for what a stranger made of the files."""
    files = files_of(bundle)
    files |= json_configs(files)
    change(files)
    write_zip(with_manifest(files, bundle.name), bundle.name, path)
    return path


def looked_at(path: Path) -> Inspection:
    with opened(path) as package:
        return inspect(package)


def write() -> str:
    return f"$open('{SENTINEL}', 'w')"


def edited(name: str, old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        assert old.encode() in files[name]
        files[name] = files[name].replace(old.encode(), new.encode())
        if name in ("configs/train.yaml", "configs/inference.yaml"):
            files.update(json_configs(files))

    return change


def test_own_bundles_run_nothing_but_the_template(trained: Bundle, tmp_path: Path) -> None:
    found = looked_at(packed(trained, tmp_path / "a.zip"))
    assert found.faults == () and found.foreign == () and len(found.executables) > 100
    assert {fact.manifest for fact in found.files if fact.path != MANIFEST} == {"as told"}
    kinds = {(one.kind, one.whose) for one in found.executables}
    assert {
        ("component", "medseg"),
        ("component", "MONAI"),
        ("component", "PyTorch"),
        ("expression", "medseg"),
    } <= kinds
    assert found.knobs["model_name"] == "unet" and found.knobs["image_size"] == [32, 32]
    assert found.provenance["experiment loss"] == "dice_bce"


def test_weights_are_counted(trained: Bundle) -> None:
    state = torch.load(trained.root / "models" / "model.pt", weights_only=True)
    fact = weight_fact(trained.root / "models" / "model.pt")
    assert fact is not None and fact.finite and fact.reason == ""
    assert fact.tensors == len(state) and fact.parameters == sum(v.numel() for v in state.values())
    assert "float32" in fact.dtypes
    assert weight_fact(trained.root / "none.pt") is None


HOSTILE = {
    "expression": edited("configs/inference.yaml", "$@evaluator.run()", write()),
    "import": edited("configs/inference.yaml", "initialize:", "initialize:\n- $import hostile_module"),
    "component": edited(
        "configs/inference.yaml", "_target_: SimpleInferer", "_target_: hostile_module.Inferer"
    ),
    "a name that looks right": edited(
        "configs/inference.yaml", "_target_: SimpleInferer", "_target_: monai.utils.module.os.system"
    ),
    "argument": edited("configs/train.yaml", "seed: 42", f"seed: 42\nown: {write()}"),
    "reader by name": edited(
        "configs/inference.yaml", "dtype: null", "dtype: null, own: hostile_module.Reader"
    ),
    "knob": edited("configs/inference.yaml", "channels: 1", f"channels: {write()}"),
    "component below a knob": edited(
        "configs/train.yaml", "loss_arguments: {}", "loss_arguments: {x: {_target_: hostile_module.run}}"
    ),
    "macro": edited("configs/train.yaml", "loss_arguments: {}", "loss_arguments: {x: '%hostile.yaml::run'}"),
    "metadata": edited("configs/metadata.json", '"description": "', f'"description": "{write()} '),
    "logging": edited("configs/logging.conf", "args=(sys.stdout,)", f"args=(open('{SENTINEL}', 'w'),)"),
    "code": lambda files: files.update({"scripts/__init__.py": f"open('{SENTINEL}', 'w')".encode()}),
    "config": lambda files: files.update({"configs/extra.yaml": f"run: {write()}\n".encode()}),
    "left out": edited("configs/inference.yaml", "  map_location: '@device'\n", ""),
}


@pytest.mark.parametrize("part", HOSTILE)
def test_hostile_parts_are_told_and_refused(part: str, trained: Bundle, tmp_path: Path) -> None:
    (tmp_path / "hostile_module.py").write_text(f"open('{SENTINEL}', 'w')")
    path = packed(trained, tmp_path / "a.zip", HOSTILE[part])
    found = looked_at(path)
    assert found.foreign
    with pytest.raises(MedsegError, match="beside medseg's own template.*|is an expression") as caught:
        admit(path, tmp_path / "bundles")
    assert "nothing was run" in str(caught.value)
    assert not (tmp_path / "bundles").exists()


class Runs:
    """Unpickling writes the sentinel."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {SENTINEL}",))


@pytest.mark.parametrize("form", ["torch", "pickle", "legacy"])
def test_weights_that_run_code_are_told_and_refused(form: str, trained: Bundle, tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    if form == "pickle":
        weights.write_bytes(pickle.dumps(Runs()))
    else:
        torch.save({"x": Runs()}, weights, _use_new_zipfile_serialization=form == "torch")
    path = packed(
        trained, tmp_path / "a.zip", lambda files: files.update({"models/model.pt": weights.read_bytes()})
    )
    (fault,) = looked_at(path).faults
    assert fault.file == "models/model.pt" and "cannot be read as plain tensors" in fault.reason
    for trust in (False, True):
        with pytest.raises(MedsegError, match=r"models/model.pt: it cannot be read as plain tensors"):
            admit(path, tmp_path / "bundles", trust=trust)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"x": torch.tensor([float("nan")])}, "holds values that are not finite"),
        ([torch.zeros(2)], "holds no plain mapping of names to tensors"),
        ({"x": 3}, "holds no plain mapping of names to tensors"),
        ({}, "holds no plain mapping of names to tensors"),
        ({"x": torch.zeros(1).expand(10**12)}, "holds tensors that are not stored whole"),
        ({"x": torch.eye(3).to_sparse()}, "holds tensors that are not stored whole"),
    ],
)
def test_weights_that_are_none(state: object, reason: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pt")
    fact = weight_fact(tmp_path / "model.pt")
    assert fact is not None and fact.reason.startswith(reason)


def test_weights_that_are_a_bomb(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(10**6)}, tmp_path / "plain.pt")
    assert weight_fact(tmp_path / "plain.pt").reason == ""  # type: ignore[union-attr]
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", 8) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    fact = weight_fact(tmp_path / "bomb.pt")
    assert fact is not None and fact.reason.startswith("unpacks to far more than its size")


def test_weights_of_another_network(trained: Bundle, tmp_path: Path) -> None:
    path = packed(
        trained, tmp_path / "a.zip", edited("configs/inference.yaml", "widths: [4, 8]", "widths: [4, 16]")
    )
    with pytest.raises(
        MedsegError, match=r"models/model.pt does not fit unet: .* is \(.*and the network's is"
    ):
        admit(path, tmp_path / "bundles")
    huge = edited("configs/inference.yaml", "widths: [4, 8]", "widths: [4, 9000000]")
    with pytest.raises(MedsegError, match="does not fit unet"):  # terabytes, were it built
        admit(packed(trained, tmp_path / "b.zip", huge), tmp_path / "bundles")
    odd = edited("configs/inference.yaml", "widths: [4, 8]", "widths: [a, 8]")
    with pytest.raises(MedsegError, match="its unet cannot be built"):
        admit(packed(trained, tmp_path / "d.zip", odd), tmp_path / "bundles")
    unknown = edited("configs/inference.yaml", "model_name: unet", "model_name: hostile_module")
    with pytest.raises(MedsegError, match="unknown model 'hostile_module'"):
        admit(packed(trained, tmp_path / "c.zip", unknown), tmp_path / "bundles")


def test_trust_takes_foreign_parts_but_still_runs_none(trained: Bundle, tmp_path: Path) -> None:
    path = packed(trained, tmp_path / "a.zip", HOSTILE["code"])
    taken, inspection = admit(path, tmp_path / "bundles", trust=True)
    assert (taken.root / "scripts" / "__init__.py").is_file() and len(inspection.foreign) == 1


def test_hashes_against_the_manifest(trained: Bundle, tmp_path: Path) -> None:
    files = with_manifest(files_of(trained), trained.name)
    altered = {**files, "LICENSE": b"all rights reserved"}
    write_zip(altered, trained.name, tmp_path / "a.zip")
    with pytest.raises(MedsegError, match="LICENSE: it differs from its SHA-256 in the manifest"):
        admit(tmp_path / "a.zip", tmp_path / "bundles", trust=True)
    write_zip({**files, "docs/more.md": b"x"}, trained.name, tmp_path / "b.zip")
    with pytest.raises(MedsegError, match=r"docs/more.md: it is not in the manifest"):
        admit(tmp_path / "b.zip", tmp_path / "bundles", trust=True)
    write_zip({k: v for k, v in files.items() if k != "docs/README.md"}, trained.name, tmp_path / "c.zip")
    with pytest.raises(MedsegError, match=r"docs/README.md: it is in the manifest and missing"):
        admit(tmp_path / "c.zip", tmp_path / "bundles", trust=True)
    write_zip(files, "other_name", tmp_path / "d.zip")
    with pytest.raises(MedsegError, match=r"MANIFEST.json: bundle is 'discs__.*', but the folder is called"):
        admit(tmp_path / "d.zip", tmp_path / "bundles", trust=True)


def test_a_manifest_that_lists_nothing(trained: Bundle, tmp_path: Path) -> None:
    files = with_manifest(files_of(trained), trained.name)
    for change, reason in (
        ({"files": {}}, "files lists none"),
        ({"format": 2}, "format is 2; this medseg reads 1"),
    ):
        manifest = {**json.loads(files[MANIFEST]), **change}
        write_zip({**files, MANIFEST: json.dumps(manifest).encode()}, trained.name, tmp_path / "a.zip")
        with pytest.raises(MedsegError, match=f"{MANIFEST}: {reason}"):
            admit(tmp_path / "a.zip", tmp_path / "bundles", trust=True)


def test_no_manifest_asks_for_trust(trained: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.root, tmp_path / "sent" / trained.name)
    with pytest.raises(MedsegError, match="has no MANIFEST.json, so that its files cannot be checked"):
        admit(folder, tmp_path / "bundles")
    assert admit(folder, tmp_path / "bundles", trust=True)[0].name == trained.name


def test_nothing_is_overwritten_and_nothing_is_left(
    trained: Bundle, tmp_path: Path, monkeypatch: Any
) -> None:
    path = packed(trained, tmp_path / "a.zip")
    taken, _ = admit(path, tmp_path / "bundles")
    with pytest.raises(MedsegError, match="exists; remove it, or import into another --bundles folder"):
        admit(path, tmp_path / "bundles")
    assert not (taken.root / MANIFEST).exists() and not (taken.root / "configs" / "train.json").exists()
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == [trained.name]

    def full(*given: object, **more: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="no space"):
        admit(path, tmp_path / "others")
    assert list((tmp_path / "others").iterdir()) == []


def test_missing_files_and_copies_that_say_something_else(trained: Bundle, tmp_path: Path) -> None:
    path = packed(trained, tmp_path / "a.zip", lambda files: files.pop("configs/evaluate.yaml"))
    with pytest.raises(MedsegError, match=r"configs/evaluate.yaml: is missing"):
        admit(path, tmp_path / "bundles")

    def differ(files: dict[str, bytes]) -> None:
        content = json.loads(files["configs/inference.json"])
        files["configs/inference.json"] = json.dumps({**content, "image_size": [64, 64]}).encode()

    with pytest.raises(MedsegError, match=r"configs/inference.json differs from configs/inference.yaml"):
        admit(packed(trained, tmp_path / "b.zip", differ), tmp_path / "bundles")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: [*x, *x]", "anchors and aliases are not taken"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("a: {b: 1, b: 2}", "the key 'b' is there twice"),
        ("a: !!python/object/apply:os.system ['touch x']", "the tag '.*os.system' is not taken"),
        ("a: !!pairs [b: {_target_: os.system}]", "the tag '.*pairs' is not taken"),
        ("a: !!set {$b}", "the tag '.*set' is not taken"),
        ("%TAG ! tag:yaml.org,2002:\n---\na: !omap [b: 1]", "the tag '.*omap' is not taken"),
        ("<<: {_target_: os.system}", "a key is no text"),
        ("1: 2\n0x1: 3", "a key is no text"),
        ("a: " + "[" * 70 + "]" * 70, "nests more than 64 deep"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("- 1", "holds no mapping"),
        ("a: [", "not a plain config"),
        ("a: " + "[" * 5000, "not a plain config"),
        ("a: \udc80", "not a plain config"),
    ],
)
def test_configs_that_are_not_plain(text: str, reason: str) -> None:
    with pytest.raises(MedsegError, match=reason):
        parse(text.encode("utf-8", "surrogateescape"), "configs/train.yaml")


def test_metadata_without_end(trained: Bundle, tmp_path: Path) -> None:
    deep = lambda files: files.update({"configs/metadata.json": b'{"a": ' + b"[" * 100_000})  # noqa: E731
    (fault,) = looked_at(packed(trained, tmp_path / "a.zip", deep)).faults
    assert fault.file == "configs/metadata.json" and "not a plain config" in fault.reason
    large = lambda files: files.update({"configs/metadata.json": b" " * (2**20 + 1)})  # noqa: E731
    with pytest.raises(MedsegError, match=r"metadata.json: its 1048577 bytes are too many for a config"):
        looked_at(packed(trained, tmp_path / "b.zip", large))


def test_a_config_of_many_keys_is_soon_read() -> None:
    """Comparing each key with each other would take minutes for a file of this size."""
    many = json.dumps({str(number): 0 for number in range(60_000)}).encode()
    assert len(parse(many, "configs/metadata.json")) == 60_000


def test_torchscript_is_told_and_stays_behind(trained: Bundle, tmp_path: Path) -> None:
    path = packed(
        trained, tmp_path / "a.zip", lambda files: files.update({"models/model.ts": b"whatever it does"})
    )
    (script,) = looked_at(path).foreign
    assert (script.file, script.kind, script.whose) == ("models/model.ts", "script", "foreign")
    for trust in (False, True):
        taken, _ = admit(path, tmp_path / f"bundles{trust}", trust=trust)
        assert [p.name for p in (taken.root / "models").iterdir()] == ["model.pt"]


ODD = {
    "no mapping": ("configs/metadata.json", {"medseg": 3.5}, None),
    "labels": ("configs/metadata.json", {"medseg": {"labels": [1]}}, "medseg::labels is no list"),
    "a code": (
        "configs/metadata.json",
        {"medseg": {"labels": [{"name": "a", "code": ["1"]}]}},
        "each with a code of three texts",
    ),
    "other labels": (
        "configs/metadata.json",
        {"medseg": {"labels": [{"name": "a"}, {"name": "b"}]}},
        r"names 2 label\(s\), and its network answers 1 channel",
    ),
    "image": (
        "configs/metadata.json",
        {"network_data_format": {"inputs": {"image": "x"}, "outputs": {}}},
        "network_data_format",
    ),
}


@pytest.mark.parametrize("part", ODD)
def test_metadata_of_the_wrong_kind(part: str, trained: Bundle, tmp_path: Path) -> None:
    file, change, reason = ODD[part]

    def odd(files: dict[str, bytes]) -> None:
        files[file] = json.dumps({**json.loads(files[file]), **change}).encode()

    path = packed(trained, tmp_path / "a.zip", odd)
    if reason is None:
        assert admit(path, tmp_path / "bundles")[0].name == trained.name
        return
    with pytest.raises(MedsegError, match=reason):
        admit(path, tmp_path / "bundles")


def test_a_number_without_end_is_refused(trained: Bundle, tmp_path: Path) -> None:
    path = packed(
        trained, tmp_path / "a.zip", edited("configs/inference.yaml", "channels: 1", "channels: .inf")
    )
    with pytest.raises(MedsegError, match="a knob is of the wrong kind"):
        admit(path, tmp_path / "bundles")


def test_weights_too_large_for_the_network(trained: Bundle, tmp_path: Path) -> None:
    """Numbers that are finite in the file's own type, and not in the network's."""
    path = trained.root / "models" / "model.pt"
    state = {name: value.double() for name, value in torch.load(path, weights_only=True).items()}
    next(iter(state.values())).fill_(1e300)
    torch.save(state, path)
    with pytest.raises(MedsegError, match="holds values that are not finite"):
        build_network(read_recipe(trained), path)


def test_json_with_a_key_twice() -> None:
    with pytest.raises(MedsegError, match="the key 'a' is there twice"):
        parse(b'{"a": 1, "a": 2}', "configs/metadata.json")


def found(file: str, config: dict[str, Any]) -> list[tuple[str, str, bool]]:
    told: list[Executable] = list(config_executables(file, config))
    return [(one.key, one.kind, one.of_template) for one in told if one.text != "nothing"]


def test_each_place_is_compared_with_the_template() -> None:
    config = {"channels": 7, "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"}
    assert found("configs/inference.yaml", config) == [("device", "expression", True)]
    config = {"channels": "$7", "device": "$1"}
    assert found("configs/inference.yaml", config) == [
        ("channels", "expression", False),
        ("device", "expression", False),
    ]
    # the same key spelt in one piece is another key, which MONAI would lay over the first
    config = {"evaluator::_target_": "SupervisedEvaluator"}
    assert found("configs/inference.yaml", config) == [("evaluator::_target_", "value", False)]
    assert found("configs/inference.yaml", {"pattern": []}) == [("pattern", "value", False)]
    assert found("configs/inference.yaml", {"pattern": "*.png"}) == [("pattern", "value", False)]
    assert found("configs/metadata.json", {"pattern": "*.png", "x": ["@y"]}) == [
        ("x::0", "expression", False)
    ]


def test_what_it_would_run_is_told_in_words(original: Bundle) -> None:
    told = {e.key: e for e in config_executables("configs/inference.yaml", original.read("inference"))}
    assert told["inferer"].runs == "imports and calls SimpleInferer with no argument"
    assert told["network"].runs == "Python, evaluated when MONAI resolves the key"
    assert told["network_def::name"].runs == "nothing itself; stands for the key model_name"
    for name in CONFIGS:
        config = original.read(name)
        assert all(e.of_template for e in config_executables(f"configs/{name}.yaml", config))
