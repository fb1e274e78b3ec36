"""The Ray engine: what a task takes, and a whole study on a cluster of this machine that loses a worker and a node."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.errors import MedsegError
from medseg.study.entry import Row
from medseg.study.folder import StudyFolder
from medseg.study.grid import cells
from medseg.study.key import code_fingerprint
from medseg.study.launch import LaunchOptions, launch, ray_task
from medseg.study.launch.ray_task import Share, share_of
from medseg.study.ledger import Ledger
from medseg.study.prepare import prepare_all
from medseg.study.run import RunOptions, enter
from medseg.study.spec import Study, read_study
from medseg.study.worker import work

#: a node's store and what it listens on: enough for tasks that pass names
NODE = {"object_store_memory": 80 * 2**20}


@pytest.mark.parametrize(
    ("options", "resources", "share"),
    [
        ({}, {"CPU": 8.0}, Share(2, 0.0)),
        ({}, {"CPU": 8.0, "GPU": 2.0}, Share(2, 1.0)),
        ({"per_gpu": 4}, {"CPU": 8.0, "GPU": 1.0}, Share(2, 0.25)),
        ({"per_gpu": 3}, {"CPU": 8.0, "GPU": 1.0}, Share(2, 0.3333)),
        ({"device": "cpu"}, {"CPU": 8.0, "GPU": 2.0}, Share(2, 0.0)),
        ({"device": "cuda"}, {"CPU": 8.0, "GPU": 2.0}, Share(2, 1.0)),
    ],
)
def test_what_a_task_takes_of_a_cluster(options, resources, share):
    assert share_of(LaunchOptions(**options), 2, resources) == share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "the Ray cluster has no GPU"),
        ({"device": "cuda:1"}, "Ray chooses the GPU itself"),
        ({"per_gpu": 0}, "per_gpu is 0"),
    ],
)
def test_what_no_cluster_can_give(options, message):
    with pytest.raises(MedsegError, match=message):
        share_of(LaunchOptions(**options), 1, {"CPU": 8.0})


@pytest.mark.parametrize(
    ("share", "resources", "number"),
    [
        (Share(2), {"CPU": 5.0}, 2),
        (Share(2), {"GPU": 1.0}, 0),
        (Share(1, 0.25), {"CPU": 16.0, "GPU": 2.0}, 8),
        (Share(1, 0.3333), {"CPU": 16.0, "GPU": 1.0}, 3),
        (Share(1, 0.25), {"CPU": 3.0, "GPU": 2.0}, 3),
        (Share(1, 1.0), {"CPU": 3.0}, 0),
    ],
)
def test_how_many_tasks_a_node_carries(share: Share, resources, number: int):
    assert share.fit(resources) == number


def test_a_node_says_what_it_lacks(study_folder: StudyFolder, tmp_path: Path):
    host, code = socket.gethostname(), code_fingerprint()
    away = StudyFolder(tmp_path / "away")
    assert f"{away.root} is not there on {host}" in ray_task.run_one(str(away.root), "k0", False, code)
    assert "prepared is not there" in ray_task.lacks(study_folder, code)
    (tmp_path / "prepared").mkdir()
    assert f"another version (code {code}, not c0)" in ray_task.lacks(study_folder, "c0")
    assert ray_task.lacks(study_folder, code) == ""


@pytest.mark.parametrize(
    ("lent", "visible", "device"),
    [([1], None, "cuda:1"), ([3], "2,3", "cuda:1"), (["2"], "2,3", "cuda:0"), ([0], "", "cuda:0")],
)
def test_the_gpu_that_ray_lent_as_torch_counts(monkeypatch, lent, visible, device):
    import ray

    monkeypatch.setattr(ray, "get_gpu_ids", lambda: lent)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert ray_task.lent_gpu() == device


def test_without_ray_the_extra_is_named(study_folder: StudyFolder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MedsegError, match=r"pip install 'medseg\[ray\]'"):
        launch("ray", study_folder, LaunchOptions(), lambda: None)


def test_an_address_where_nobody_is(study_folder: StudyFolder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(MedsegError, match=f"Ray at {address}: .*refused.*give the address"):
        launch("ray", study_folder, LaunchOptions(address=address), lambda: None)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A head without CPUs and two nodes with one each, all on this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    # a lost node is noticed soon, a slow one is not taken for lost
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
    quick |= {"health_check_timeout_ms": 30000, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick, **NODE}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        made.nodes = [made.add_node(num_cpus=1, **NODE) for _ in range(2)]
        yield made
    finally:
        made.shutdown()


def a_study(workspace: Path, epochs: int) -> Study:
    path = workspace / "tiny.yaml"
    path.write_text(
        "study: tiny\n"
        "axes: {dataset: [discs], model: [unet], loss: [dice, bce], repeat: 2}\n"
        f"fixed: {{image_size: [32, 32], epochs: {epochs}, learning_rate: 1e-2, patience: 100,"
        " model_arguments: {widths: [4, 8]}}\n"
    )
    return read_study(path)


def entered(workspace: Path, study: Study, studies: str) -> StudyFolder:
    """The study's folder with everything ready for an engine."""
    options = RunOptions(studies=workspace / studies, prepared=workspace / "prepared", tracking_uri="")
    folder = StudyFolder(options.studies / study.name)
    planned = cells(study)
    facts = prepare_all(planned, study.split, options.prepared, {}, lambda _: None)
    enter(folder, study, planned, facts, options)
    return folder


def results(folder: StudyFolder) -> dict[str, bytes]:
    found = sorted(folder.bundles.glob("*/repeats/*/cases.csv"))
    return {str(path.relative_to(folder.bundles)): path.read_bytes() for path in found}


class Misfortune:
    """Kills a worker in the middle of its first run, and later a whole node in the middle of another one's."""

    def __init__(self, folder: StudyFolder, cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.ledger = Ledger(folder.ledger)
        self.killed: list[str] = []

    def __call__(self) -> None:
        if len(self.killed) == 2:
            return
        for row in self.ledger.rows(state="running"):
            if row.key not in self.killed and self._epochs(row) >= 3:
                if self.killed:
                    self._lose_node_of(row)
                else:
                    os.kill(row.process.pid, signal.SIGKILL)
                self.killed.append(row.key)
                return

    def _epochs(self, row: Row) -> int:
        curves = self.folder.run_folder(row.name.rpartition("/")[0], row.repeat, row.split) / "curves.csv"
        return len(curves.read_text().splitlines()) - 1 if curves.is_file() else 0

    def _lose_node_of(self, row: Row) -> None:
        raylet = parent_of(row.process.pid)
        (node,) = [n for n in self.cluster.nodes if n.all_processes["raylet"][0].process.pid == raylet]
        os.kill(raylet, signal.SIGKILL)
        os.kill(row.process.pid, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_study_that_loses_a_worker_and_a_node_is_done_once_with_the_same_numbers(workspace: Path, cluster):
    study = a_study(workspace, epochs=15)
    plain = entered(workspace, study, "plain")
    work(plain.root, device="cpu")
    folder = entered(workspace, study, "ray")
    misfortune = Misfortune(folder, cluster)
    launch("ray", folder, LaunchOptions(address=cluster.address), misfortune)
    ledger = Ledger(folder.ledger)
    assert [row.state for row in ledger.rows()] == ["done"] * 4
    outcomes = {key: [a.outcome for a in ledger.attempts(key)] for key in misfortune.killed}
    assert list(outcomes.values()) == [["died", "done"]] * 2
    assert sorted(a.outcome for a in ledger.attempts()) == ["died"] * 2 + ["done"] * 4
    assert results(folder) == results(plain) and len(results(folder)) == 4
    # what workers say stands in the study's own logs, and each process took more than one run
    done = [a.owner for a in ledger.attempts() if a.outcome == "done"]
    assert {path.stem for path in folder.logs.glob("*.log")} == {a.owner for a in ledger.attempts()}
    assert len(set(done)) < len(done)
