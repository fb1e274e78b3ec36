"""A choice becomes a bundle folder: layout, keys, siblings, refusals."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings, setting_names, settings_from
from medseg.bundle.verify import verify
from medseg.data.index_file import index_path, read_index, write_index
from medseg.errors import MedsegError

CHOICE = Choice("discs", "unet", "dice_bce")
SMALL = Settings(image_size=(32, 32), model_arguments={"widths": [4, 8]})
LAYOUT = [
    "LICENSE",
    "configs/evaluate.yaml",
    "configs/inference.yaml",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/multi_gpu_train.yaml",
    "configs/train.yaml",
    "docs/README.md",
]


def texts(bundle: Bundle) -> dict[str, str]:
    files = (p for p in bundle.root.rglob("*") if p.is_file())
    return {p.relative_to(bundle.root).as_posix(): p.read_text(encoding="utf-8") for p in files}


def changed(old: Bundle, new: Bundle) -> int:
    """Lines that differ between two bundles, over all files."""
    before, after = texts(old), texts(new)
    assert set(before) == set(after)
    lines = [difflib.ndiff(before[f].splitlines(), after[f].splitlines()) for f in before]
    return sum(line.startswith("+ ") for diff in lines for line in diff)


def test_layout_is_the_model_zoos(original: Bundle) -> None:
    assert sorted(texts(original)) == LAYOUT
    assert (original.root / "models").is_dir()
    assert original.root.stat().st_mode & 0o777 == 0o755


def test_keys_that_monai_and_monai_label_look_up(original: Bundle) -> None:
    train, inference = original.read("train"), original.read("inference")
    assert {"bundle_root", "device", "dataset_dir", "network_def", "network", "run", "ckpt_dir"} <= set(train)
    assert {"trainer", "dataset", "inferer", "handlers"} <= set(train["train"])
    assert {"evaluator", "dataset", "inferer", "handlers"} <= set(train["validate"])
    wanted = {"bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "inferer"}
    assert wanted | {"preprocessing", "postprocessing", "handlers", "initialize", "run"} <= set(inference)
    assert inference["displayable_configs"]["result_extension"] == ".png"


def test_every_setting_is_a_line_of_the_config(project: Path, tmp_path: Path) -> None:
    settings = Settings(
        (48, 32),
        7,
        3,
        1e-5,
        5,
        0,
        model_arguments={"widths": [2, 4], "dropout": 0.25},
        loss_arguments={"smooth": 1e-5},
        preprocess_arguments={"gaussian": {"sigma": 2.0}},
        augment_arguments={"filter": {"prob": 0.5}},
    )
    choice = Choice("discs", "unet", "dice", "filter", ("gaussian",))
    made = compose(choice, tmp_path, settings, prepared=project / "prepared")
    train = made.read("train")
    assert "sampling" not in train  # by class, which masks do not have
    assert {k: train[k] for k in setting_names() if k != "sampling"} == {
        "image_size": [48, 32],
        "epochs": 7,
        "batch_size": 3,
        "learning_rate": 1e-5,
        "patience": 5,
        "seed": 0,
        "pretrained": False,
        "pretrained_data": "",
        "frozen_stages": 0,
        "layer_decay": 1.0,
        "model_arguments": {"widths": [2, 4], "dropout": 0.25},
        "loss_arguments": {"smooth": 1e-5},
        "preprocess_arguments": {"gaussian": {"sigma": 2.0}},
        "augment_arguments": {"filter": {"prob": 0.5}},
    }
    assert made.read("inference")["preprocess_arguments"] == {"gaussian": {"sigma": 2.0}}
    assert isinstance(train["learning_rate"], float)
    assert made.read("inference")["image_size"] == [48, 32]
    tensors = made.metadata["network_data_format"]
    assert (
        tensors["inputs"]["image"]["spatial_shape"] == tensors["outputs"]["pred"]["spatial_shape"] == [48, 32]
    )


@pytest.mark.parametrize(
    "choice",
    [
        Choice("kvasir_seg", "unet", "iou_focal"),
        Choice("kvasir_seg", "unetplusplus", "dice_bce"),
        Choice("busi_benign", "unet", "dice_bce"),
    ],
)
def test_siblings_differ_in_few_lines(choice: Choice, tmp_path: Path) -> None:
    first = compose(Choice("kvasir_seg", "unet", "dice_bce"), tmp_path, prepared=tmp_path)
    if choice.dataset == "kvasir_seg":
        assert 0 < changed(first, compose(choice, tmp_path, prepared=tmp_path)) <= 15
    else:
        second = compose(choice, tmp_path, prepared=tmp_path)
        configs = [f for f in LAYOUT if f.endswith("yaml")]
        before, after = texts(first), texts(second)
        assert (
            sum(
                a != b
                for f in configs
                for a, b in zip(before[f].splitlines(), after[f].splitlines(), strict=True)
            )
            <= 5
        )


def test_nothing_of_this_machine_is_in_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, "somebody77")
    made = compose(CHOICE, tmp_path, SMALL, prepared=project / "prepared")
    for file, text in texts(made).items():
        for secret in ("somebody77", str(project), str(tmp_path), f"{Path.home()}/", "/home/", "/tmp/"):
            assert secret not in text, file


def test_metadata_say_what_it_is(original: Bundle) -> None:
    metadata = original.metadata
    assert metadata["version"] in metadata["changelog"]
    labels = [{"name": "lesion", "code": None}]
    assert metadata["medseg"] == {
        **CHOICE.facts(),
        "protocol": "online",
        "leaking": False,
        "labels": labels,
    }
    assert metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 1
    assert list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"]) == ["0", "1"]


@pytest.mark.parametrize(
    ("protocol", "leaking"), [("split-then-augment", False), ("augment-then-split", True)]
)
def test_a_leaking_bundle_says_so(protocol: str, leaking: bool, project: Path, tmp_path: Path) -> None:
    choice = Choice("discs", "unet", "dice", "geometric").under(protocol)
    made = compose(choice, tmp_path, SMALL, prepared=project / "prepared")
    assert made.metadata["medseg"]["protocol"] == protocol
    assert made.metadata["medseg"]["leaking"] is leaking
    assert ("LEAKING" in made.metadata["description"]) is leaking
    assert ("**leaking**" in texts(made)["docs/README.md"]) is leaking
    assert made.read("train")["augment_name"] == choice.augment
    assert verify(made, execute=False) == []


def test_deep_colour_images_are_composed_too(project: Path, tmp_path: Path) -> None:
    index = read_index(index_path("discs", project / "prepared"))
    write_index(
        replace(index, dataset="deep", channels=3, depth="uint16"), index_path("deep", tmp_path / "p")
    )
    made = compose(replace(CHOICE, dataset="deep"), tmp_path, SMALL, prepared=tmp_path / "p")
    assert made.read("train")["channels"] == 3


def test_normalisation_is_told_in_the_metadata(tmp_path: Path) -> None:
    choice = Choice("kvasir_seg", "unet", "dice", preprocess=("clahe", "normalize_imagenet"))
    image = compose(choice, tmp_path, prepared=tmp_path).metadata
    assert image["image_classes"] == "3 channel(s), intensity after clahe and normalize_imagenet"
    assert image["network_data_format"]["inputs"]["image"]["value_range"] == [-3, 3]
    with pytest.raises(MedsegError, match="normalize_imagenet.* 3 channels"):
        compose(replace(choice, dataset="phantom"), tmp_path, prepared=tmp_path)


def test_oldest_versions_are_those_medseg_declares(original: Bundle) -> None:
    from importlib.metadata import requires

    declared = set(requires("medseg") or ())
    assert f"monai>={original.metadata['monai_version']}" in declared
    assert f"torch>={original.metadata['pytorch_version']}" in declared


def test_colour_data_sets_are_read_in_colour(tmp_path: Path) -> None:
    made = compose(Choice("kvasir_seg", "unet", "dice"), tmp_path, prepared=tmp_path)
    assert made.read("inference")["channels"] == 3
    assert made.metadata["network_data_format"]["inputs"]["image"]["num_channels"] == 3


@pytest.mark.parametrize("name", ["2017", "on", "null", "1e5"])
def test_a_data_set_whose_name_looks_like_a_yaml_value(name: str, project: Path, tmp_path: Path) -> None:
    index = read_index(index_path("discs", project / "prepared"))
    write_index(replace(index, dataset=name), index_path(name, tmp_path / "prepared"))
    made = compose(replace(CHOICE, dataset=name), tmp_path, SMALL, prepared=tmp_path / "prepared")
    assert made.read("train")["dataset_name"] == name


@pytest.mark.parametrize(
    ("choice", "settings", "message"),
    [
        (Choice("disc", "unet", "dice"), SMALL, "unknown data set 'disc'. Did you mean 'discs'"),
        (Choice("../discs", "unet", "dice"), SMALL, "unknown data set"),
        (Choice("discs", "unett", "dice"), SMALL, "unknown model 'unett'. Did you mean 'unet'"),
        (Choice("discs", "unet", "dise"), SMALL, "unknown loss 'dise'. Did you mean 'dice'"),
        (
            Choice("discs", "unet", "dice", "vanila"),
            SMALL,
            "unknown augment.* 'vanila'. Did you mean 'vanilla'",
        ),
        (Choice("discs", "unet", "dice", preprocess=("clahee",)), SMALL, "unknown transform 'clahee'"),
        (Choice("discs", "unet", "dice", "filter-clahe"), SMALL, "clahe"),
        (
            Choice("discs", "unet", "dice", preprocess=("normalize", "clahe")),
            SMALL,
            "normalize must stand last",
        ),
        (CHOICE, replace(SMALL, preprocess_arguments={"clahe": {}}), "'clahe', which is not among the steps"),
        (CHOICE, replace(SMALL, augment_arguments={"filter": {"prob": 0.5}}), "filter"),
        (CHOICE, replace(SMALL, model_arguments={"wide": 3}), "model 'unet': .*wide.*it takes"),
        (CHOICE, replace(SMALL, model_arguments={"widths": [0]}), "model 'unet': widths must be"),
        (CHOICE, replace(SMALL, loss_arguments={"alpha": 3}), "loss 'dice_bce': .*alpha.*it takes"),
        (CHOICE, replace(SMALL, image_size=(33, 32)), "divisible by 2; image_size is 33 x 32.* 32 x 32"),
        (CHOICE, Settings(image_size=(250, 40)), "divisible by 16; image_size is 250 x 40.* 256 x "),
    ],
)
def test_refusals_leave_nothing_behind(choice, settings, message: str, project: Path, tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=message) as caught:
        compose(choice, tmp_path / "bundles", settings, prepared=project / "prepared")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundles").exists()


def test_the_divisor_is_that_of_the_model_with_its_widths(project: Path, tmp_path: Path) -> None:
    deep = replace(SMALL, image_size=(24, 24), model_arguments={"widths": [2, 2, 2, 2]})
    assert compose(CHOICE, tmp_path, deep, prepared=project / "prepared").read("train")["image_size"] == [
        24,
        24,
    ]
    deeper = replace(deep, model_arguments={"widths": [2, 2, 2, 2, 2]})
    with pytest.raises(MedsegError, match="divisible by 16"):
        compose(replace(CHOICE, loss="dice"), tmp_path, deeper, prepared=project / "prepared")


def test_a_failure_while_writing_leaves_nothing_behind(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space left"):
        compose(CHOICE, tmp_path, SMALL, prepared=project / "prepared")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_not_touched(project: Path, tmp_path: Path) -> None:
    made = compose(CHOICE, tmp_path, SMALL, prepared=project / "prepared")
    (made.root / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(MedsegError, match=r"discs__unet__dice_bce exists"):
        compose(CHOICE, tmp_path, SMALL, prepared=project / "prepared")
    assert (made.root / "mine.txt").is_file()
    assert [p.name for p in tmp_path.iterdir()] == [made.name]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'. Did you mean 'epochs'"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 2.5}, "epochs=2.5"),
        ({"epochs": True}, "epochs=True"),
        ({"epochs": "many"}, "epochs='many'"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"seed": -1}, "seed=-1"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": True}, "image_size=True"),
        ({"image_size": [32]}, r"image_size=\[32\]"),
        ({"image_size": [32.0, 32]}, "image_size="),
        ({"model_arguments": 3}, "model_arguments=3: give a mapping"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        settings_from(values)


def test_settings_that_can_be() -> None:
    assert settings_from({"pretrained_data": None}).pretrained_data == ""
    assert settings_from({"image_size": 64}).image_size == (64, 64)
    assert settings_from({"image_size": [64, 32]}).image_size == (64, 32)
    assert settings_from({"seed": 0}).seed == 0
    assert settings_from({"learning_rate": 1}).learning_rate == 1
    assert settings_from({}) == Settings()


def test_configs_are_read_by_yaml_as_monai_does(original: Bundle) -> None:
    for path in original.root.glob("configs/*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_readme_says_what_the_network_gets(project: Path, tmp_path: Path) -> None:
    for steps, words in (
        ((), "values 0 to 1 |"),
        (("normalize_zscore",), "normalised by `normalize_zscore` |"),
    ):
        made = compose(
            Choice("discs", "unet", "dice", preprocess=steps), tmp_path, prepared=project / "prepared"
        )
        assert words in texts(made)["docs/README.md"]


def emcad(**changes: object) -> Settings:
    return Settings(image_size=(32, 32), model_arguments={"backbone": "pvt_v2_b0.in1k"}, **changes)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({}, True), ({"pretrained": False}, False), ({"pretrained": "weights"}, "weights")],
)
def test_a_backbone_begins_with_its_published_weights_unless_told(
    project: Path, tmp_path: Path, changes: dict, kept: object
) -> None:
    choice = Choice("discs", "emcad", "dice")
    made = compose(choice, tmp_path, emcad(**changes), prepared=project / "prepared")
    assert made.read("train")["pretrained"] == kept
    assert "pretrained" not in made.read("inference")["network_def"]
    assert verify(made) == [], "which neither downloads nor looks for a file"


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("unet", {"pretrained": True}, "unet has no pre-trained backbone; use --set pretrained=false"),
        ("unet", {"frozen_stages": 1}, "cannot freeze these of unet; it has no backbone with stages"),
        ("unet", {"layer_decay": 0.5}, "no backbone with stages; leave it at 1"),
        ("emcad", {"frozen_stages": 5}, "cannot freeze these of emcad; its backbone has 4 stages"),
        ("unet", {"pretrained_data": "X"}, "pretrained_data='X' tells of local weights; give their file"),
        ("emcad", {"pretrained_data": "X"}, "pretrained_data='X' tells of local weights; give their file"),
        ("emcad", {"layer_decay": 2.0}, "layer_decay=2.0: give a number above 0 and at most 1"),
        ("deeplabv3", {"batch_size": 1}, "deeplabv3 cannot train on batches of one image"),
    ],
)
def test_what_a_model_cannot_do_is_refused(
    project: Path, tmp_path: Path, model: str, changes: dict, message: str
) -> None:
    with pytest.raises(MedsegError, match=message):
        compose(Choice("discs", model, "dice"), tmp_path, Settings(**changes), prepared=project / "prepared")
    assert not list(tmp_path.glob("*__*"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"pretrained": 3}, "pretrained=3: give true, false, or a file or folder of weights"),
        ({"pretrained": ""}, "pretrained='': give true, false"),
        ({"frozen_stages": -1}, r"frozen_stages=-1: give a number \(int\) 0 or more"),
        ({"layer_decay": 0}, r"layer_decay=0: give a number \(float\) above 0"),
    ],
)
def test_settings_of_transfer_learning_are_checked(value: dict, message: str) -> None:
    with pytest.raises(MedsegError, match=message):
        settings_from(value)


@pytest.mark.parametrize(
    ("pretrained", "words"),
    [
        (None, "the published weights of its backbone, `pvt_v2_b2.in1k`"),
        ("weights", "weights of its backbone from a local file"),
        (False, "random weights"),
    ],
)
def test_a_bundle_tells_what_its_network_begins_with_and_needs(
    project: Path, tmp_path: Path, pretrained: object, words: str
) -> None:
    choice = Choice("discs", "emcad", "dice")
    made = compose(choice, tmp_path, emcad(pretrained=pretrained), prepared=project / "prepared")
    assert f"| begins with | {words}" in (made.root / "docs" / "README.md").read_text(encoding="utf-8")
    assert made.metadata["required_packages_version"]["timm"]
    plain = compose(CHOICE, tmp_path, SMALL, prepared=project / "prepared")
    assert "| begins with | random weights |" in (plain.root / "docs" / "README.md").read_text(
        encoding="utf-8"
    )
    assert "timm" not in plain.metadata["required_packages_version"]
