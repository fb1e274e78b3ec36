"""``medseg serve``: its options and its mistakes; the server itself is tested in ``tests/serve``."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from medseg.cli.serve import serve
from medseg.errors import MedsegError
from medseg.serve.worker import Worker


def run(*arguments: object):
    return CliRunner().invoke(serve, list(map(str, arguments)))


@pytest.fixture
def trained(workspace: Path, small_settings) -> Path:
    """A bundle with weights of chance."""
    import torch

    from medseg.bundle.choice import Choice
    from medseg.bundle.compose import compose
    from medseg.bundle.network import build_network, read_recipe

    bundle = compose(
        Choice("discs", "unet", "dice"), Path("bundles"), small_settings, prepared=Path("prepared")
    )
    weights = build_network(read_recipe(bundle), None).state_dict()
    for folder in ("models", "repeats/0", "repeats/1"):
        (bundle.root / folder).mkdir(parents=True, exist_ok=True)
        torch.save(weights, bundle.root / folder / "model.pt")
    return bundle.root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What would have been served; the server itself does not start."""
    seen: dict = {}

    def note(app, place, ending) -> None:
        seen["app"], seen["port"] = app, place.getsockname()

    monkeypatch.setattr("medseg.serve.server.run", note)
    monkeypatch.setattr("click.launch", lambda url: seen.update(opened=url))
    return seen


def test_help_says_what_is_kept():
    words = " ".join(run("--help").output.split())
    assert "it keeps no file" in words
    assert "Only this machine can reach it" in words


def test_it_says_where(trained, started):
    result = run(trained.name, "--port", 0, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert started["port"][0] == "127.0.0.1"
    assert result.stdout == (
        f"discs__unet__dice on http://127.0.0.1:{started['port'][1]}/ (Ctrl-C ends)\nended; nothing was kept\n"
    )
    assert result.stderr == ""
    assert "opened" not in started
    assert started["app"].max_bytes == 256_000_000
    assert started["app"].hosts == {"localhost"}


def test_options_reach_the_server(trained, started):
    result = run(
        trained,
        "--port",
        0,
        "--max-megabytes",
        1.5,
        "--allow-host",
        "Scan.example",
        "--open",
        "--repeat",
        0,
        "--repeat",
        1,
    )
    assert result.exit_code == 0, result.output
    assert started["app"].max_bytes == 1_500_000
    assert started["app"].hosts == {"localhost", "scan.example"}
    assert started["opened"] == f"http://127.0.0.1:{started['port'][1]}/"


@pytest.mark.parametrize(
    ("options", "settings", "networks"),
    [
        ((), ("auto", 0.5, False, False), 1),
        (("--device", "cpu"), ("cpu", 0.5, False, False), 1),
        (("--threshold", "0.3"), ("auto", 0.3, False, False), 1),
        (("--flips",), ("auto", 0.5, True, False), 1),
        (("--sliding-window",), ("auto", 0.5, False, True), 1),
        (("--repeat", "0", "--repeat", "1"), ("auto", 0.5, False, False), 2),
    ],
)
def test_options_reach_the_predictor(trained, started, monkeypatch, options, settings, networks):
    from medseg.serve import app

    seen = []
    monkeypatch.setattr(app, "Service", lambda *parts: seen.append(parts) or Closed())
    monkeypatch.setattr(app, "build_app", lambda service, hosts: None)
    result = run(trained, "--port", 0, *options)
    assert result.exit_code == 0, result.output
    predictor = seen[0][1]
    own = predictor.settings
    assert (own.device, own.threshold, own.flips, own.sliding_window) == settings
    assert len(predictor.networks) == networks


class Closed:
    """A service of nothing."""

    worker = Worker(0)

    def close(self) -> None:
        pass


def test_a_host_that_others_reach_is_warned_of(trained, started):
    result = run(trained, "--host", "0.0.0.0", "--port", 0)
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        "warning: there is no authentication: everyone who reaches this address can use it\n"
    )
    assert socket.gethostname().lower() in started["app"].hosts


def test_mistakes_are_one_line(trained, workspace):
    result = run("unknown", "--port", 0)
    assert isinstance(result.exception, MedsegError)
    assert "unknown bundle 'unknown'" in str(result.exception)
    result = run(trained, "--repeat", 7, "--port", 0)
    assert isinstance(result.exception, MedsegError)
    assert "no weights at repeats/7/model.pt" in str(result.exception)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(trained, "--port", taken.getsockname()[1])
    assert isinstance(result.exception, MedsegError)
    assert "is taken; give another one" in str(result.exception)


@pytest.mark.parametrize("options", [("--port", "70000"), ("--max-megabytes", "0"), ("--threshold", "0")])
def test_values_out_of_range(options):
    assert run("any", *options).exit_code == 2
