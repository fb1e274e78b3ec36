"""``scripts/monailabel``: its words, and that a build that was broken off is begun anew."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "monailabel"

#: a Python that only notes what it is told to do; installing fails while the file ``broken`` is there
FAKE = """#!/usr/bin/env bash
folder=$(dirname "$0")
while [ ! -f "$folder/calls" ]; do folder=$(dirname "$folder"); done
echo "$*" >> "$folder/calls"
case "$*" in
*"-m venv"*) for last in "$@"; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
*"pip install"*) [ ! -f "$folder/broken" ] || exit 1 ;;
esac
"""


def run(*arguments: object, python: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHON": str(python)} if python else {})}
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    (tmp_path / "calls").touch()
    path = tmp_path / "python"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "arguments", [(), ("app",), ("--port",), ("--sideways", "app", "images"), ("a", "b", "c")]
)
def test_wrong_arguments_tell_the_right_ones(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("scripts/monailabel [--env DIR] [--port 8000] EXPORTED_APP IMAGES_FOLDER\n")
    assert "--prepare" in done.stderr


def test_an_environment_is_made_once_and_again_if_that_was_broken_off(python: Path, tmp_path: Path) -> None:
    calls, env = tmp_path / "calls", tmp_path / "env"
    (tmp_path / "broken").touch()
    assert run("--env", env, "--prepare", python=python).returncode != 0
    assert [path.name for path in env.glob(".medseg-*")] == [".medseg-unfinished"]
    (env / "half").touch()
    (tmp_path / "broken").unlink()
    done = run("--env", env, "--prepare", python=python)
    assert done.returncode == 0, done.stderr
    [stamp] = env.glob(".medseg-*")
    assert stamp.name != ".medseg-unfinished"
    assert not (env / "half").exists()
    assert "monailabel==0.8.5" in calls.read_text()
    assert "torch===2.13.0" in calls.read_text()
    before = calls.read_text()
    assert run("--env", env, "--prepare", python=python).returncode == 0
    assert calls.read_text() == before


def test_a_folder_of_other_things_is_not_removed(python: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    done = run("--env", tmp_path / "home", "--prepare", python=python)
    assert done.returncode == 1
    assert "home holds something else; name an empty or a new folder with --env" in done.stderr
    assert (tmp_path / "home" / "thesis.tex").exists()
    assert not (tmp_path / "calls").read_text()


def test_what_is_no_app_is_refused(python: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    done = run("--env", tmp_path / "env", tmp_path / "bundle", tmp_path / "images", python=python)
    assert done.returncode == 1
    assert "is no exported app: medseg bundle export NAME --to monailabel" in done.stderr
    assert not (tmp_path / "images").exists()


def test_a_port_in_use_is_told_before_anything_is_loaded(python: Path, tmp_path: Path) -> None:
    (tmp_path / "app" / "model" / "one").mkdir(parents=True)
    (tmp_path / "app" / "main.py").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--env", tmp_path / "env", "--port", port, tmp_path / "app", tmp_path / "i", python=python)
    assert done.returncode == 1
    assert done.stderr.endswith(f"port {port} is in use; name another with --port\n")
    assert "monailabel.main" not in (tmp_path / "calls").read_text()


def test_the_server_is_started_offline_on_this_machine_alone(python: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "app" / "model" / name).mkdir(parents=True)
    (tmp_path / "app" / "main.py").touch()
    done = run(
        "--env", tmp_path / "env", "--port", 8123, tmp_path / "app", tmp_path / "images", python=python
    )
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    assert last.startswith("-m monailabel.main start_server")
    for part in ("--host 127.0.0.1", "--port 8123", "models one,two", "zoo_source ngc", "sam2 false"):
        assert part in last
