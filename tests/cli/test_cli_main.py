"""``medseg`` itself: help, versions, errors in one line, and nothing heavy imported for a page of help."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from medseg import __version__
from medseg.cli import COMMANDS, main
from medseg.cli.output import FORMATS, emit, markdown, text
from medseg.errors import MedsegError

HEAVY = ("torch", "monai", "pandas", "numpy", "mlflow", "ignite", "matplotlib", "rich", "yaml")


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands(main))


def imported_by(*arguments: str) -> set[str]:
    """The heavy packages that a command line imports."""
    code = f"import sys; from medseg.cli import main; main({list(arguments)!r}, standalone_mode=False)"
    code += f"; print(*(set(sys.modules) & set({HEAVY!r})), sep=',', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(filter(None, done.stderr.strip().split(",")))


@pytest.mark.parametrize("arguments", [["--help"], ["bundle", "run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(*arguments) == set()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert ALL[path].get_short_help_str()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_says_what_it_does(path: tuple[str, ...]) -> None:
    assert [p.name for p in ALL[path].params if isinstance(p, click.Option) and not p.help] == []


def test_the_first_page_says_what_each_command_does() -> None:
    output = CliRunner().invoke(main, ["-h"]).output
    for name, (_, _, line) in COMMANDS.items():
        assert f"{name} " in output
        assert line in output


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.strip() == f"medseg, version {__version__}"


def test_an_unknown_command_is_a_mistake() -> None:
    result = CliRunner().invoke(main, ["bundel"])
    assert result.exit_code == 2
    assert "bundel" in result.stderr


def test_an_error_is_one_line_and_a_traceback_with_debug() -> None:
    plain = CliRunner().invoke(main, ["bundle", "create", "nonsense"])
    assert plain.exit_code == 2
    assert plain.stdout == ""
    assert len(plain.stderr.splitlines()) == 1
    assert plain.stderr.startswith("error: 'nonsense' is no bundle name")
    debug = CliRunner().invoke(main, ["--debug", "bundle", "create", "nonsense"])
    assert isinstance(debug.exception, MedsegError)
    assert debug.exit_code != 0


def test_debug_shows_the_traceback_in_a_terminal() -> None:
    code = "from medseg.cli import main; main()"
    command = [sys.executable, "-c", code, "--debug", "bundle", "create", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "MedsegError: 'nonsense' is no bundle name" in done.stderr


def test_a_defect_is_not_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.bundle.choice import Choice

    def broken(name: str) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Choice, "parse", broken)
    result = CliRunner().invoke(main, ["bundle", "create", "a__b__c"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_cells_as_text() -> None:
    assert [text(v) for v in (0.5, 1.0, 0.123456, 0.0, -1.8e-5, 3, None, float("nan"), "a", 1.5e9)] == [
        "0.5",
        "1",
        "0.1235",
        "0",
        "-1.8e-05",
        "3",
        "",
        "",
        "a",
        "1.5e+09",
    ]


def test_awkward_cells_survive_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    import io
    import json

    import pandas as pd

    frame = pd.DataFrame({"name": ["a|b", "[red]x[/red]", 'say "hi", you'], "value": [0.5, None, 2.0]})
    printed = {}
    for fmt in FORMATS:
        emit(frame, fmt)
        printed[fmt] = capsys.readouterr().out
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(printed["csv"])), frame)
    assert json.loads(printed["json"]) == [
        {"name": "a|b", "value": 0.5},
        {"name": "[red]x[/red]", "value": None},
        {"name": 'say "hi", you', "value": 2.0},
    ]
    assert "[red]x[/red]" in printed["table"]
    assert "a\\|b" in printed["md"]
    assert len(markdown(frame).splitlines()) == 5


def test_an_empty_table_is_empty_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    import pandas as pd

    printed = {}
    for fmt in FORMATS:
        emit(pd.DataFrame([], columns=["a", "b"]), fmt)
        printed[fmt] = capsys.readouterr().out
    assert json.loads(printed["json"]) == []
    assert printed["csv"] == "a,b\n"
    assert len(printed["md"].splitlines()) == 2
