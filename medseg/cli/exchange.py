"""``medseg bundle export``, ``import`` and ``inspect``: bundles that go to other tools, and come from other people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.options import prepared_option
from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.bundle.inspection import Inspection
    from medseg.bundle.open import Bundle

#: the names of medseg.export.EXPORTERS, which help must not import
TARGETS = ("hub-folder", "monailabel", "onnx", "tensorrt", "torchscript", "zip")

folder_option: Callable[[Any], Any] = click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    default=Path("bundles"),
    show_default=True,
    help="Folder of bundles.",
)


@click.command("export")
@click.argument("name")
@click.option("--to", "target", type=click.Choice(TARGETS), required=True, help="What to write.")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="File or folder to write."
)
@click.option(
    "--inputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Images or folders to check on; repeatable.  [default: those of the bundle's data set]",
)
@click.option(
    "--tolerance", type=click.FloatRange(0), help="Largest difference of a probability.  [default: by target]"
)
@click.option("--repeat", help="Repeat whose weights go, such as 0 or official-2.  [default: the released]")
@click.option("--script", is_flag=True, help="zip: put a TorchScript file in too.")
@click.option("--half", is_flag=True, help="tensorrt: allow float16; give --tolerance too.")
@prepared_option
@folder_option
@format_option
def export_(
    name: str,
    target: str,
    out: Path,
    inputs: tuple[Path, ...],
    tolerance: float | None,
    repeat: str | None,
    script: bool,
    half: bool,
    prepared: Path,
    bundles: Path,
    fmt: str,
) -> None:
    """Write bundle NAME for other tools, and check it against PyTorch; nothing is kept that differs.

    torchscript, onnx and tensorrt are one file with the network; zip and hub-folder are the whole bundle; monailabel
    is an app for a MONAI Label server. No patient data, case names or local paths go with any of them.
    """
    import pandas as pd

    from medseg.bundle.open import find
    from medseg.errors import MedsegError
    from medseg.export.check import Mismatch
    from medseg.export.delivery import export
    from medseg.export.examples import images_at, indexed_images

    options = _options(target, {"zip": ("script", script), "tensorrt": ("half", half)})
    bundle = find(name, bundles)
    images = images_at(inputs) if inputs else indexed_images(bundle, prepared)
    try:
        check = export(target, bundle, out, images, tolerance=tolerance, repeat=repeat, **options)
    except Mismatch as error:
        raise SystemExit(_failed(error)) from None
    except OSError as error:
        raise MedsegError(f"{out}: cannot be written ({error})") from None
    emit(pd.DataFrame([check.row()]), fmt) if fmt != "table" else _print(check.row(), bool(images))


def _options(target: str, flags: dict[str, tuple[str, bool]]) -> dict[str, bool]:
    """The flags of the target; one of another target is refused."""
    from medseg.errors import MedsegError

    for owner, (flag, given) in flags.items():
        if given and owner != target:
            raise MedsegError(f"--{flag} is of --to {owner}, not of {target}")
    return {flag: given for owner, (flag, given) in flags.items() if owner == target and given}


def _failed(error: Exception) -> int:
    click.echo(f"error: {error}", err=True)
    return 1


def _print(row: dict[str, Any], real: bool) -> None:
    """A check as lines: one wide row does not fit a terminal."""
    import pandas as pd

    shown = {
        key: f"{value:.3g}" if isinstance(value, float) else value
        for key, value in row.items()
        if value not in (None, "")
    }
    emit(pd.DataFrame(shown.items(), columns=["", "result"]), "table", "Written and checked")
    if not real:
        click.echo("checked on synthetic images alone; give real ones with --inputs", err=True)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True, help="Take it although it would run code that is not medseg's own.")
@folder_option
def import_(source: Path, trust: bool, bundles: Path) -> None:
    """Take in a bundle from SOURCE, a zip or folder that 'medseg bundle export' wrote; nothing of it is run.

    Refused are paths that lead elsewhere, files that differ from the manifest, weights that are more than numbers or
    do not fit, and, without --trust, whatever would run beside medseg's own template.
    """
    from medseg.bundle.admission import admit

    bundle, inspection = admit(source, bundles, trust=trust)
    click.echo(bundle.root)
    if inspection.to_trust:
        click.echo(
            f"taken on trust: {len(inspection.to_trust)} part(s) are not of medseg's template", err=True
        )


@click.command()
@click.argument("name")
@click.option("--all", "everything", is_flag=True, help="List what is of medseg's own template too.")
@folder_option
@format_option
@click.pass_context
def inspect(ctx: click.Context, name: str, everything: bool, bundles: Path, fmt: str) -> None:
    """Tell what bundle NAME, a zip or a folder holds and would run, without running any of it; exit 1 on faults."""
    import json
    from dataclasses import asdict

    from medseg.bundle.inspection import inspect as inspected
    from medseg.bundle.package import opened

    with opened(_source(name, bundles)) as package:
        found = inspected(package)
    if fmt == "json":
        told = {**asdict(found), "source": str(found.source)}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False, default=str))
    else:
        _tell(found, fmt, everything)
    ctx.exit(1 if found.faults else 0)


def _source(name: str, bundles: Path) -> Path:
    """The zip or folder that a name means."""
    from medseg.bundle.open import find

    given = Path(name)
    if given.is_file() or given.is_dir():
        return given
    found: Bundle = find(name, bundles)
    return found.root


def _tell(found: Inspection, fmt: str, everything: bool) -> None:
    """The parts of an inspection as one table each."""
    import pandas as pd

    files = [
        {"file": f.path, "bytes": f.bytes, "sha256": f.sha256[:16], "manifest": f.manifest}
        for f in found.files
    ]
    emit(pd.DataFrame(files), fmt, f"{found.name}: files")
    shown = found.executables if everything else found.foreign
    rows = [
        {"file": e.file, "key": e.key, "kind": e.kind, "text": e.text[:80], "runs": e.runs, "whose": e.whose}
        for e in shown
    ]
    own = len(found.executables) - len(found.foreign)
    click.echo(
        f"\n{own} expression(s) and component(s) are of medseg's own template, {len(found.foreign)} not"
    )
    if rows:
        emit(pd.DataFrame(rows), fmt, "What would run, were the bundle run")
    facts = {**found.knobs, **found.provenance}
    emit(
        pd.DataFrame([(k, str(v)) for k, v in facts.items()], columns=["what", "told"]), fmt, "Told of itself"
    )
    if found.weights:
        _tell_weights(found)
    if found.faults:
        faults = [{"file": f.file, "key": f.key, "fault": f.reason} for f in found.faults]
        emit(pd.DataFrame(faults), fmt, "Faults")


def _tell_weights(found: Inspection) -> None:
    weights = found.weights
    if weights is None or weights.reason:
        return
    click.echo(
        f"weights: {weights.tensors} tensors, {weights.parameters:,} numbers, {', '.join(weights.dtypes)}, all finite"
    )
