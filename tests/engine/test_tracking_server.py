"""One MLflow server for many processes, started as scripts/mlflow/compose.yaml starts it, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pandas as pd
import pytest
import yaml

from medseg.engine import tracking
from medseg.engine.record import RunRecord
from medseg.ranking.tracking import from_mlflow
from medseg.results import write_csv

COMPOSE = Path(__file__).resolve().parents[2] / "scripts" / "mlflow" / "compose.yaml"
SEND = (
    "import sys, pathlib; from medseg.engine.tracking import send;"
    "[send(pathlib.Path(f), sys.argv[1]) for f in sys.argv[2:]]"
)


def compose() -> dict[str, Any]:
    """The compose file as it is without an .env, but for the password."""

    def value(found: re.Match[str]) -> str:
        _, sign, usual = found.groups()
        return "secret" if sign == ":?" else usual

    return yaml.safe_load(re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, COMPOSE.read_text()))


def server_command(port: int, store: str, artifacts: Path) -> list[str]:
    """The server's command in the compose file, with the places of a test."""
    command = " ".join(compose()["services"]["server"]["command"])
    own = {"host": "127.0.0.1", "port": port, "workers": 1, "backend-store-uri": store}
    for name, value in {**own, "artifacts-destination": artifacts}.items():
        command, found = re.subn(rf"--{name}=\S+", f"--{name}={value}", command)
        assert found == 1, f"the compose file says nothing of {name}"
    return [sys.executable, "-m", *command.split()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def a_run(folder: Path, repeat: int, dice: float) -> None:
    """A finished run's files, as the engine leaves them."""
    facts = {
        "dataset": "d",
        "model": "m",
        "loss": "l",
        "preprocess": "",
        "augment": "vanilla",
        "split": "holdout",
    }
    record = RunRecord(str(folder), {**facts, "repeat": repeat}, {"epochs": 3})
    record.start()
    for epoch in (1, 2, 3):
        record.add_epoch(
            {"epoch": epoch, "train_loss": 1 / epoch, "val_dice": 0.1 * epoch, "time": 1000.0 + epoch}
        )
    record.save_curves()
    write_csv(pd.DataFrame({"case": ["001"], "dice": [dice]}), folder / "cases.csv")
    record.update(status="done", test={"dice": dice, "hd95": 3.0}, best_val_dice=0.3, best_epoch=3)


class Postgres:
    """A PostgreSQL server of its own on loopback, with a password; it refuses to run as root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder, self.port = programs, folder, free_port()
        self.user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        (folder / "password").write_text("secret\n")
        self._run(
            "initdb", "-U", "mlflow", "--pwfile", folder / "password", "-A", "scram-sha-256", "--no-sync"
        )
        options = f"-p {self.port} -h 127.0.0.1 -k {folder} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-l", folder / "log", "-o", options)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(part) for part in (self.programs / program, "-D", self.folder / "data", *arguments)]
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **who,
        )
        assert done.returncode == 0, done.stderr.decode()

    def uri(self) -> str:
        """The store of the compose file, here; the password comes from the environment."""
        import psycopg2

        at = {"host": "127.0.0.1", "port": self.port, "user": "mlflow", "password": "secret"}
        connection = psycopg2.connect(dbname="postgres", **at)
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE mlflow")
        connection.close()
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-m", "immediate")


def postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "pg_ctl").exists()), None)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mlflow.db'}"
        return
    pytest.importorskip("psycopg2", reason="no driver of PostgreSQL: pip install 'medseg[postgres]'")
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL here (initdb, pg_ctl); on Debian: apt install postgresql")
    # not below tmp_path, which only its owner may enter
    with tempfile.TemporaryDirectory(prefix="medseg-pg-") as folder:
        database = Postgres(programs, Path(folder))
        try:
            yield database.uri()
        finally:
            database.stop()


@pytest.fixture
def server(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on that database."""
    # what counts here is that nothing is lost, however busy the machine is
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    port = free_port()
    command = server_command(port, store, tmp_path / "files")
    environment = os.environ | {"PGPASSWORD": "secret"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


def status_of(url: str, host: str) -> int:
    try:
        with urlopen(Request(url, headers={"Host": host}), timeout=20) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_four_processes_at_once_lose_nothing_on_a_shared_server(server: str, tmp_path: Path):
    folders = [tmp_path / "bundles" / f"b{number}" / "repeats" / "0" for number in range(8)]
    for number, folder in enumerate(folders):
        a_run(folder, repeat=number, dice=number / 10)
    jobs = [
        subprocess.Popen([sys.executable, "-c", SEND, server, *map(str, folders[k::4])]) for k in range(4)
    ]
    assert [job.wait(timeout=180) for job in jobs] == [0, 0, 0, 0]
    client = tracking.connect(server)
    assert [e.name for e in client.search_experiments() if e.name != "Default"] == ["medseg"]
    runs = client.search_runs([client.get_experiment_by_name("medseg").experiment_id])
    assert sorted(run.data.params["repeat"] for run in runs) == [str(number) for number in range(8)]
    assert {run.info.status for run in runs} == {"FINISHED"}
    # the server keeps the files: the processes know nothing of its folder
    assert len(list((tmp_path / "files").rglob("cases.csv"))) == 8
    (first,) = [run for run in runs if run.data.params["repeat"] == "3"]
    copied = client.download_artifacts(first.info.run_id, "cases.csv", str(tmp_path))
    assert Path(copied).read_bytes() == (folders[3] / "cases.csv").read_bytes()
    assert [m.step for m in client.get_metric_history(first.info.run_id, "val/dice")] == [1, 2, 3]
    table = from_mlflow(server, "medseg")
    dice = table[table["metric"] == "dice"].sort_values("repeat")
    assert list(dice["value"]) == [number / 10 for number in range(8)]
    # nothing is sent twice, and other names of the server are not answered
    assert {row["result"] for row in tracking.sync(tmp_path / "bundles", server)} == {"up to date"}
    port = server.rpartition(":")[2]
    assert status_of(server, f"127.0.0.1:{port}") == 200
    assert status_of(server, "elsewhere.example:5000") == 403
    assert status_of(f"{server}/health", "elsewhere.example:5000") == 200


def test_the_compose_file_keeps_the_database_inside_and_the_server_on_loopback():
    content = compose()
    database, server = content["services"]["database"], content["services"]["server"]
    assert "ports" not in database and database["networks"] == ["inside"]
    assert "--backend-store-uri=postgresql+psycopg2://mlflow@database/mlflow" in server["command"]
    assert content["networks"]["inside"] == {"internal": True}
    assert server["ports"] == ["127.0.0.1:5000:5000"]
    assert database["environment"]["POSTGRES_PASSWORD"] == server["environment"]["PGPASSWORD"] == "secret"
    assert not [part for part in server["command"] if "secret" in part]
    assert server["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert "psycopg2-binary" in server["build"]["dockerfile_inline"]
    named = {volume.partition(":")[0] for service in (database, server) for volume in service["volumes"]}
    assert named == set(content["volumes"])
