"""A sound bundle has no fault; each planted fault is named with its file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.bundle.open import Bundle
from medseg.bundle.verify import Fault, component_fault, references, verify, walk

METADATA, TRAIN, INFERENCE = "configs/metadata.json", "configs/train.yaml", "configs/inference.yaml"


def plant(bundle: Bundle, file: str, change: Callable[[Any], object]) -> Bundle:
    """The bundle, read anew, with one file's content changed in place."""
    path = bundle.root / file
    content = json.loads(path.read_text()) if file.endswith("json") else yaml.safe_load(path.read_text())
    change(content)
    path.write_text(
        json.dumps(content) if file.endswith("json") else yaml.safe_dump(content), encoding="utf-8"
    )
    return Bundle(bundle.root)


def put(key: str, value: Any) -> Callable[[Any], object]:
    """Set a value by its key; list positions are numbers."""

    def change(content: Any) -> None:
        *path, last = [int(part) if part.isdigit() else part for part in key.split("::")]
        for part in path:
            content = content[part]
        content[last] = value

    return change


def drop(key: str) -> Callable[[Any], object]:
    def change(content: Any) -> None:
        *path, last = key.split("::")
        for part in path:
            content = content[part]
        del content[last]

    return change


def overlay(key: str, value: Any) -> Callable[[Any], object]:
    return lambda content: content.update({key: value})


def only(faults: list[Fault]) -> Fault:
    assert len(faults) == 1, faults
    return faults[0]


def test_a_sound_bundle_has_no_fault(original: Bundle) -> None:
    assert verify(original) == []


@pytest.mark.parametrize("file", ["LICENSE", "docs/README.md", "configs/logging.conf", METADATA, INFERENCE])
def test_a_missing_file(bundle: Bundle, file: str) -> None:
    (bundle.root / file).unlink()
    assert only(verify(bundle)) == Fault(file, "", "file is missing")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (METADATA, b'{"version": ', "not valid JSON"),
        (METADATA, b"[1]", "holds no JSON object"),
        (TRAIN, b"train: {", "not valid YAML"),
        (TRAIN, b"loss: \xe9", "not valid YAML"),
        ("configs/evaluate.yaml", b"run: [\n- a", "not valid YAML"),
        ("configs/multi_gpu_train.yaml", b"just text", "holds no mapping"),
    ],
)
def test_a_broken_file_is_one_fault(bundle: Bundle, file: str, content: bytes, reason: str) -> None:
    (bundle.root / file).write_bytes(content)
    fault = only(verify(bundle))
    assert (fault.file, fault.key) == (file, "")
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (drop("version"), "", "'version' is a required property"),
        (drop("network_data_format::outputs"), "network_data_format", "'outputs' is a required"),
        (put("version", []), "version", "is not of type 'string'"),
        (put("version", "9.9"), "changelog", "does not list version '9.9'"),
        (put("changelog", 3), "changelog", "is not of type 'object'"),
        (
            put("network_data_format::inputs::image::num_channels", "one"),
            "network_data_format::inputs::image::num_channels",
            "is not of type 'integer'",
        ),
        (
            lambda m: m["network_data_format"]["inputs"].update(
                scan=m["network_data_format"]["inputs"].pop("image")
            ),
            "network_data_format::inputs::image",
            "is missing",
        ),
        (
            put("network_data_format::outputs::pred::spatial_shape", ["*", "*"]),
            "network_data_format::outputs::pred",
            "two numbers of pixels",
        ),
        (
            put("network_data_format::outputs::pred::spatial_shape", [16, 32]),
            "network_data_format::outputs::pred",
            "promises (1, 1, 16, 32), but the network gives (1, 1, 32, 32)",
        ),
        (
            put("network_data_format::outputs::pred::num_channels", 2),
            "network_data_format::outputs::pred",
            "promises (1, 2, 32, 32), but the network gives (1, 1, 32, 32)",
        ),
        (
            put("network_data_format::inputs::image::num_channels", 3),
            "network_data_format::inputs::image",
            "a forward pass on (1, 3, 32, 32) fails",
        ),
        (
            put("network_data_format::inputs::image::spatial_shape", [33, 32]),
            "network_data_format::inputs::image",
            "unet needs sides divisible by 2",
        ),
    ],
)
def test_faults_of_the_metadata(bundle: Bundle, change, key: str, reason: str) -> None:
    fault = only(verify(plant(bundle, METADATA, change)))
    assert (fault.file, fault.key) == (METADATA, key)
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("file", "change", "key", "reason"),
    [
        (
            TRAIN,
            put("loss::_target_", "medseg.losses.biuld"),
            "loss",
            "'medseg.losses.biuld' cannot be found",
        ),
        (TRAIN, put("train::inferer::_target_", "SimplInferer"), "train::inferer", "cannot be found"),
        (
            TRAIN,
            put("train::handlers::0::_target_", "no.such.Module"),
            "train::handlers::0",
            "cannot be found",
        ),
        (TRAIN, put("optimizer::momentum", 1), "optimizer", "takes no argument momentum"),
        (TRAIN, drop("train::trainer::max_epochs"), "train::trainer::max_epochs", "is missing"),
        (TRAIN, drop("validate::evaluator"), "validate::evaluator", "is missing"),
        (TRAIN, put("train::trainer::network", "@netwrok"), "train::trainer::network", "refers to @netwrok"),
        (TRAIN, put("run_dir", "$@bundle_rot + '/x'"), "run_dir", "refers to @bundle_rot"),
        (TRAIN, put("model_name", "unett"), "model_name", "unknown model 'unett'. Did you mean 'unet'"),
        (TRAIN, put("loss_name", "dise"), "loss_name", "unknown loss 'dise'. Did you mean 'dice'"),
        (TRAIN, put("augment_name", []), "augment_name", "unknown augment"),
        (TRAIN, put("preprocess", ["clahee"]), "preprocess", "unknown transform 'clahee'"),
        (TRAIN, put("preprocess", 3), "preprocess", "unknown transform 3"),
        (INFERENCE, put("model_name", "unett"), "model_name", "unknown model 'unett'"),
        (INFERENCE, put("channels", 3), "channels", "is 3, but 1 in configs/train.yaml"),
        (INFERENCE, drop("postprocessing"), "postprocessing", "is missing"),
        (
            INFERENCE,
            put("preprocessing::transforms::2::image_sise", 3),
            "preprocessing::transforms::2",
            "image_sise",
        ),
        (
            "configs/evaluate.yaml",
            overlay("validate::datasett", 1),
            "validate::datasett",
            "overrides nothing",
        ),
        ("configs/evaluate.yaml", overlay("validate::dataset", "@sampels"), "validate::dataset", "@sampels"),
        ("configs/multi_gpu_train.yaml", put("network::modul", 1), "network", "takes no argument modul"),
    ],
)
def test_faults_of_the_configs(bundle: Bundle, file: str, change, key: str, reason: str) -> None:
    faults = verify(plant(bundle, file, change))
    assert [f for f in faults if (f.file, f.key) == (file, key) and reason in f.reason], faults


def test_arguments_the_components_refuse_are_found_by_building_them(bundle: Bundle) -> None:
    faults = verify(plant(bundle, TRAIN, put("loss_arguments", {"alpha": 3})))
    assert only(faults).key == "loss"
    assert "dice_bce" in only(faults).reason


def test_a_missing_argument() -> None:
    assert component_fault({"_target_": "SupervisedTrainer", "max_epochs": 3}) is not None
    assert "needs the argument device" in str(
        component_fault({"_target_": "SupervisedTrainer", "max_epochs": 3})
    )
    assert component_fault({"_target_": "SimpleInferer"}) is None
    assert component_fault({"_target_": "medseg.losses.build", "_mode_": "callable"}) is None


def test_a_module_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_an_extra.py").write_text("import not_installed_here", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    reason = component_fault({"_target_": "needs_an_extra.Handler"})
    assert reason is not None
    assert "cannot be imported" in reason
    assert "not_installed_here" in reason


def test_all_faults_are_told_at_once(bundle: Bundle) -> None:
    (bundle.root / "LICENSE").unlink()
    plant(bundle, METADATA, put("task", 3))
    faults = verify(plant(bundle, TRAIN, put("optimizer::momentum", 1)))
    assert [(f.file, f.key) for f in faults] == [("LICENSE", ""), (METADATA, "task"), (TRAIN, "optimizer")]


@pytest.mark.parametrize("key", ["bundle_root", "device", "network_def", "optimizer", "loss"])
def test_without_execute_no_expression_is_evaluated(bundle: Bundle, tmp_path: Path, key: str) -> None:
    touched = tmp_path / "touched"
    planted = plant(bundle, TRAIN, put(key, f"$open({str(touched)!r}, 'w')"))
    assert verify(planted, execute=False) == []
    assert not touched.exists()
    verify(planted, execute=True)
    assert touched.exists() == (key in ("network_def", "optimizer", "loss"))


def test_without_execute_shapes_are_not_looked_at(bundle: Bundle) -> None:
    change = put("network_data_format::outputs::pred::num_channels", 2)
    assert verify(plant(bundle, METADATA, change), execute=False) == []


def test_monai_agrees_on_the_metadata(original: Bundle, bundle: Bundle) -> None:
    from monai.bundle import verify_metadata

    with as_file(files("medseg.bundle") / "schema" / "meta_schema_20240725.json") as schema:
        verify_metadata(meta_file=str(original.root / METADATA), filepath=str(schema))
        plant(bundle, METADATA, drop("task"))
        with pytest.raises(ValueError, match="'task' is a required property"):
            verify_metadata(meta_file=str(bundle.root / METADATA), filepath=str(schema))


@pytest.mark.parametrize("config", [TRAIN, INFERENCE])
def test_monai_agrees_on_shapes(original: Bundle, config: str) -> None:
    from monai.bundle import verify_net_in_out

    files = {"meta_file": str(original.root / METADATA), "config_file": str(original.root / config)}
    verify_net_in_out("network_def", **files, device="cpu")


def test_walk_names_every_value() -> None:
    assert dict(walk({"a": [{"b": 1}], "c": 2}))["a::0::b"] == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@a", ["a"]),
        ("@a::0#b", ["a::0::b"]),
        ("$@a + str(@b::c)", ["a", "b::c"]),
        ("a@b", []),
        ("me@example.org", []),
        ("$print('x')", []),
    ],
)
def test_references(text: str, found: list[str]) -> None:
    assert references(text) == found


@pytest.mark.parametrize(
    ("file", "key", "value", "where", "reason"),
    [
        (TRAIN, "augment_arguments", {"rotatoin": {}}, "augment_name", "rotatoin"),
        (TRAIN, "augment_arguments", {"vanilla": 3}, "augment_name", "arguments are 3"),
        (METADATA, "medseg::leaking", True, "medseg::leaking", "is True, but False by configs/train.yaml"),
        (METADATA, "medseg::loss", "bce", "medseg::loss", "is 'bce', but "),
    ],
)
def test_arguments_and_what_the_metadata_tell(bundle: Bundle, file, key, value, where, reason) -> None:
    fault = only(verify(plant(bundle, file, put(key, value)), execute=False))
    assert (fault.file, fault.key) == (file, where)
    assert reason in fault.reason


def test_wrong_arguments_of_preprocessing(bundle: Bundle) -> None:
    for file in (TRAIN, INFERENCE):
        bundle = plant(bundle, file, put("preprocess_arguments", {"clahe": {"clip": 2}}))
        bundle = plant(bundle, file, put("preprocess", ["clahe"]))
    bundle = plant(bundle, METADATA, put("medseg::preprocess", "clahe"))
    fault = only(verify(bundle, execute=False))
    assert (fault.file, fault.key) == (TRAIN, "preprocess")
    assert "unknown clahe argument 'clip'" in fault.reason


def test_a_config_that_leaks_behind_the_metadata(bundle: Bundle) -> None:
    faults = verify(plant(bundle, TRAIN, put("augment_name", "filter-leaking")), execute=False)
    assert {fault.key for fault in faults} == {"medseg::augment", "medseg::protocol", "medseg::leaking"}
