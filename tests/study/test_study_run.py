"""From a study to its results in one process; the runs themselves are a line of text where they do not matter."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medseg.data import arrays
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.engine import tracking
from medseg.errors import MedsegError
from medseg.study import attempt as attempt_module
from medseg.study import key, prepare, run, table, worker
from medseg.study.entry import Row
from medseg.study.folder import StudyFolder
from medseg.study.ledger import Ledger
from medseg.study.run import RunOptions, absolute_uri, run_study
from medseg.study.spec import Study
from medseg.study.watch import seconds_left, summary

AXES: dict[str, tuple[Any, ...]] = {
    "dataset": ("discs",),
    "model": ("unet",),
    "loss": ("dice", "bce"),
    "preprocess": ((),),
    "augment": ("vanilla",),
    "repeat": (0, 1),
}
FIXED = {"image_size": 32, "epochs": 2, "learning_rate": 1e-2, "model_arguments": {"widths": [4, 8]}}
OPTIONS = RunOptions(tracking_uri="", quiet=True)
HEADER = "dataset,model,loss,preprocess,augment,split,repeat,case,group,dice\n"


def study(**changes: Any) -> Study:
    axes = {**AXES, **changes.pop("axes", {})}
    return Study("tiny", axes, fixed={**FIXED, **changes.pop("fixed", {})}, **changes)


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, where engines are a worker in this process."""
    monkeypatch.setattr(
        run, "launch", lambda engine, folder, options, watch: worker.work(folder.root, device="cpu")
    )
    return workspace


@pytest.fixture
def quick(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs that take no time: they write one case, and their names are in this list."""
    made: list[str] = []

    def attempt(folder: StudyFolder, options: Any, claim: Any, device: str) -> None:
        cell = claim.cell
        place = folder.run_folder(cell.choice.name, cell.repeat, claim.split)
        attempt_module.fit_repeat(folder, place, claim.key)
        if not (place / "cases.csv").is_file():
            made.append(cell.name)
        facts = {
            **cell.choice.facts(),
            "split": claim.split,
            "repeat": cell.repeat,
            "case": "a",
            "group": "a",
        }
        (place / "cases.csv").write_text(HEADER + ",".join(map(str, [*facts.values(), 0.5])) + "\n")

    monkeypatch.setattr(attempt_module, "attempt", attempt)
    monkeypatch.setattr(worker, "_tidy_up", lambda: None)
    monkeypatch.setattr(run, "check", lambda *_: None)
    return made


@pytest.fixture
def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    usual = arrays.read_sample

    def counted(index: Any, sample: Any, channels: Any) -> Any:
        read.append(sample.case)
        return usual(index, sample, channels)

    monkeypatch.setattr(arrays, "read_sample", counted)
    return read


def states(folder: StudyFolder) -> dict[str, str]:
    return {row.name: row.state for row in Ledger(folder.ledger).rows()}


def test_a_study_from_its_file_to_its_table_and_to_mlflow(here: Path, count_decodes):
    options = replace(OPTIONS, tracking_uri="sqlite:///mlruns/mlflow.db")
    folder = run_study(study(axes={"repeat": (0,)}, text="study: tiny\n"), options)
    assert folder.root == here / "studies" / "tiny"
    assert folder.study_file.read_text() == "study: tiny\n"
    assert states(folder) == {"discs__unet__dice/0": "done", "discs__unet__bce/0": "done"}
    assert len(count_decodes) == 24  # before the first run, and never again
    found = table.study_table(folder.root)
    assert list(found.columns[:9]) == [
        *["dataset", "model", "loss", "preprocess", "augment", "split", "repeat", "case", "group"]
    ]
    assert list(found.columns[-3:]) == ["reference_px", "predicted_px", "prediction"]
    assert list(found["loss"].unique()) == ["dice", "bce"]
    assert table.missing(folder.root).empty
    assert table.notes(folder.root) == []
    client = tracking.connect(absolute_uri(options.tracking_uri))
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    assert {(r.info.run_name, r.info.status) for r in runs} == {
        ("discs unet dice r0", "FINISHED"),
        ("discs unet bce r0", "FINISHED"),
    }


def test_the_same_command_again_runs_what_is_left(quick: list[str]):
    folder = run_study(study(axes={"repeat": (0,)}), OPTIONS)
    run_study(study(axes={"repeat": (0, 1)}), OPTIONS)
    assert quick == [f"discs__unet__{loss}/{repeat}" for repeat in (0, 1) for loss in ("dice", "bce")]
    assert set(states(folder).values()) == {"done"}


def test_another_setting_supersedes_exactly_its_runs_and_its_return_brings_them_back(
    quick: list[str], caplog
):
    folder = run_study(study(), OPTIONS)
    quick.clear()
    rule = {"where": {"loss": ("bce",)}, "set": {"epochs": 3}}
    with caplog.at_level(logging.WARNING, logger="medseg"):
        run_study(study(rules=(rule,)), replace(OPTIONS, quiet=False))
    assert f"2 runs in {folder.root} are of other settings, data or code" in caplog.text
    assert quick == ["discs__unet__bce/0", "discs__unet__bce/1"]
    assert Ledger(folder.ledger).counts()["superseded"] == 2
    assert len(list(folder.superseded.rglob("cases.csv"))) == 2
    assert len(table.study_table(folder.root)) == 4
    for rules in ((), (rule,)):
        run_study(study(rules=rules), OPTIONS)
        assert len(table.study_table(folder.root)) == 4
    assert len(quick) == 2


def test_skipped_runs_leave_the_table_and_come_back_without_being_run(quick: list[str]):
    folder = run_study(study(), OPTIONS)
    quick.clear()
    run_study(study(skip=({"loss": ("bce",)},)), OPTIONS)
    assert list(table.study_table(folder.root)["loss"].unique()) == ["dice"]
    run_study(study(), OPTIONS)
    assert quick == []
    assert len(table.study_table(folder.root)) == 4


@pytest.mark.parametrize(
    "change", [{"retries": 0}, {"threads": 2}, {"keep_weights": "none"}, {"text": "# more\n"}]
)
def test_what_decides_no_number_runs_nothing_again(quick: list[str], change):
    run_study(study(), OPTIONS)
    quick.clear()
    run_study(study(**change), OPTIONS)
    assert quick == []


def test_results_that_are_gone_are_made_again(quick: list[str]):
    folder = run_study(study(), OPTIONS)
    quick.clear()
    place = folder.run_folder("discs__unet__bce", 1, "holdout")
    (place / "cases.csv").unlink()
    with pytest.raises(MedsegError, match=r"cases\.csv: the results of 1 done runs are gone"):
        table.study_table(folder.root)
    run_study(study(), OPTIONS)
    assert quick == ["discs__unet__bce/1"]


def test_a_lost_ledger_is_written_again_from_the_results(quick: list[str]):
    folder = run_study(study(), OPTIONS)
    quick.clear()
    folder.ledger.unlink()
    run_study(study(), OPTIONS)
    assert quick == []
    assert set(states(folder).values()) == {"done"}


@pytest.fixture
def newer_code(quick: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], StudyFolder]:
    """A study done by one version of the code, while another one is installed now."""
    real = key.code_fingerprint()

    def change() -> StudyFolder:
        folder = run_study(study(), OPTIONS)
        quick.clear()
        monkeypatch.setattr(key, "code_fingerprint", lambda: "newer")
        return folder

    assert real != "newer"
    return change


def test_results_of_other_code_stop_the_study_until_something_is_said(newer_code, quick: list[str]):
    folder = newer_code()
    told = r"tiny: 4 done runs are of another version of medseg's code \(\w{12}; now it is newer\): --code keep .*rerun"
    with pytest.raises(MedsegError, match=told):
        run_study(study(), OPTIONS)
    assert set(states(folder).values()) == {"done"}
    assert quick == []


def test_results_of_other_code_are_kept_and_the_table_says_so(newer_code, quick: list[str]):
    folder = newer_code()
    run_study(study(axes={"repeat": (0, 1, 2)}), replace(OPTIONS, code="keep"))
    assert quick == ["discs__unet__dice/2", "discs__unet__bce/2"]
    assert len(table.study_table(folder.root)) == 6
    (note,) = table.notes(folder.root)
    assert note.startswith("the runs are of 2 versions of the code: 4 of ")
    assert note.endswith(", 2 of newer")


def test_results_of_other_code_are_made_again(newer_code, quick: list[str], monkeypatch):
    older = key.code_fingerprint()
    folder = newer_code()
    run_study(study(), replace(OPTIONS, code="rerun"))
    assert len(quick) == 4
    assert len(list(folder.superseded.rglob("cases.csv"))) == 4
    assert table.notes(folder.root) == []
    run_study(study(), OPTIONS)
    assert len(quick) == 4
    monkeypatch.setattr(key, "code_fingerprint", lambda: older)
    run_study(study(), replace(OPTIONS, code="rerun"))
    assert len(quick) == 4  # those of the older version were kept


def test_unfinished_runs_of_other_code_need_no_word(here: Path, quick: list[str], monkeypatch):
    monkeypatch.setattr(run, "launch", lambda *_: None)
    folder = run_study(study(), OPTIONS)
    monkeypatch.setattr(key, "code_fingerprint", lambda: "newer")
    run_study(study(), OPTIONS)
    assert {row.code for row in Ledger(folder.ledger).rows()} == {"newer"}


def test_an_unknown_word_on_code_or_engine_is_refused(here: Path):
    with pytest.raises(MedsegError, match="unknown choice of code 'kepe'. Did you mean 'keep'"):
        run_study(study(), replace(OPTIONS, code="kepe"))
    with pytest.raises(MedsegError, match="unknown engine 'lokal'. Did you mean 'local'"):
        run_study(study(), replace(OPTIONS, engine="lokal"))


def test_failed_runs_are_tried_again_only_when_asked(here: Path, quick: list[str], monkeypatch):
    usual = attempt_module.attempt

    def fail(*_: Any) -> None:
        raise MedsegError("the loss became nan")

    monkeypatch.setattr(attempt_module, "attempt", fail)
    folder = run_study(study(retries=1), OPTIONS)
    assert [len(Ledger(folder.ledger).attempts(row.key)) for row in Ledger(folder.ledger).rows()] == [2] * 4
    assert set(table.missing(folder.root)["reason"]) == {"the loss became nan"}
    assert table.notes(folder.root)[:2] == [
        "4 of 4 runs failed",
        "discs__unet__dice/0 failed: the loss became nan",
    ]
    with pytest.raises(MedsegError, match="no run is done"):
        table.study_table(folder.root)
    monkeypatch.setattr(attempt_module, "attempt", usual)
    run_study(study(retries=1), OPTIONS)
    assert quick == []
    run_study(study(retries=1), replace(OPTIONS, retry_failed=True))
    assert len(quick) == 4


def test_arrays_are_made_before_the_first_run_once_for_each_configuration(quick: list[str], count_decodes):
    rule = {"where": {"loss": ("bce",)}, "set": {"image_size": 16}}
    run_study(study(axes={"preprocess": ((), ("median",))}, rules=(rule,)), OPTIONS)
    assert len(count_decodes) == 4 * 24
    assert len(list(Path("prepared/discs/arrays").iterdir())) == 4


def test_copies_of_offline_augmentation_are_made_before_the_first_run(quick: list[str]):
    run_study(study(axes={"augment": ("rotation-offline",)}), OPTIONS)
    grown = list(Path("prepared/discs/arrays").glob("*/grown/*"))
    assert len(grown) == 2  # those of each repeat's training images


def test_data_sets_that_cannot_be_prepared_are_all_named_before_the_first_run(here: Path, quick: list[str]):
    other = here / "dots"
    shutil.copytree("source", other)
    rules = {"images": "images/*.png", "masks": "masks/{stem}.png", "channels": 1}
    write_index(build_index("dots", other, **rules), index_path("dots", Path("prepared")))
    for folder in ("source", "dots"):
        Path(folder, "images", "p00_0.png").unlink()
    with pytest.raises(
        MedsegError,
        match="2 data sets cannot be prepared\n  discs: images/p00_0.png .*\n  dots: images/p00_0.png is gone",
    ):
        run_study(study(axes={"dataset": ("discs", "dots")}), OPTIONS)
    assert quick == []
    assert not Path("studies").exists()


def test_what_the_system_refuses_is_told_like_other_faults(here: Path, quick: list[str], monkeypatch):
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "prepared/discs/.lock")

    with monkeypatch.context() as patched:
        patched.setattr(prepare, "_samples", refuse)
        with pytest.raises(MedsegError, match=r"^discs: prepared/discs/\.lock: Permission denied$"):
            run_study(study(), OPTIONS)
    Path("studies").write_text("a file where a folder should be")
    with pytest.raises(MedsegError, match="studies/tiny: Not a directory"):
        run_study(study(), OPTIONS)


def test_data_of_a_data_set_that_the_study_has_not_is_a_mistake(quick: list[str]):
    told = "unknown data set of the study 'disks'. Did you mean 'discs'"
    with pytest.raises(MedsegError, match=told):
        run_study(study(), replace(OPTIONS, data={"disks": Path("source")}))
    assert not Path("studies").exists()


def test_a_store_that_is_away_costs_a_warning(quick: list[str], caplog):
    with caplog.at_level(logging.WARNING, logger="medseg"):
        folder = run_study(study(), replace(OPTIONS, tracking_uri="http://127.0.0.1:9"))
    assert set(states(folder).values()) == {"done"}
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in caplog.text


def test_paths_of_workers_do_not_depend_on_where_they_start(quick: list[str], here: Path):
    options = replace(OPTIONS, tracking_uri="sqlite:///mlruns/x.db", data={"discs": Path("source")})
    work_options = run_study(study(), options).read_options()
    assert work_options.prepared == str(here / "prepared")
    assert work_options.data == {"discs": str(here / "source")}
    assert work_options.tracking_uri == f"sqlite:///{here}/mlruns/x.db"
    assert work_options.experiment == "tiny"


def row(state: str, seconds: float, model: str = "unet", began: float | None = None) -> Row:
    fixed = dict.fromkeys(("base", "code", "name", "dataset", "loss", "preprocess", "augment", "split"), "")
    more = {"position": 0, "repeat": 0, "attempts": 1, "failures": 0, "error": "", "owner": "", "host": ""}
    return Row(
        **fixed,
        **more,
        key=f"{state}{seconds}{model}{began}",
        model=model,
        state=state,
        process=None,
        beat=None,
        began=began,
        ended=None,
        seconds=seconds,
        reached=0,
    )


def test_the_time_left_is_that_of_the_models_left_shared_by_the_workers(monkeypatch):
    monkeypatch.setattr("medseg.study.watch.time.time", lambda: 1000.0)
    rows = [row("done", 10), row("done", 20), row("done", 90, "emcad")]
    rows += [row("running", 0, began=995.0), row("running", 0, "emcad", began=990.0)]
    assert seconds_left(rows) == pytest.approx((15 - 5 + 90 - 10) / 2)
    assert seconds_left([*rows, row("waiting", 0, "fcn")]) == pytest.approx((90 + 40) / 2)
    assert seconds_left(rows[:3]) is None
    assert seconds_left(rows[3:]) is None
    assert summary(rows) == "5 runs: 3 done, 2 running, about 45 s to go"
    assert summary([row("failed", 1), row("waiting", 0)]) == "2 runs: 0 done, 1 failed, 1 left"


def test_a_folder_without_a_study_is_named(tmp_path: Path):
    with pytest.raises(MedsegError, match=r"no study here \(ledger.db is missing\)"):
        table.study_table(tmp_path)
