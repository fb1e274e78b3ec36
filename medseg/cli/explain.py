"""``medseg explain``: where in its images a bundle's network finds the evidence for its masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.bundle import folder_option, parse_settings
from medseg.cli.options import device_option, threshold_option
from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    from medseg.bundle.open import Bundle


@click.command()
@click.argument("name", metavar="BUNDLE")
@click.argument("inputs", metavar="INPUT...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of maps/, overlays/ and explanations.csv.",
)
# the names of medseg.explain.METHODS, which help must not import
@click.option(
    "--method",
    default="gradcam",
    show_default=True,
    help="gradcam, gradcampp, hirescam, layercam or occlusion.",
)
@click.option("--layer", default="", help="Submodule whose maps are looked at.  [default: the model's own]")
@click.option("--list-layers", is_flag=True, help="List the submodules that give maps, and stop.")
@click.option(
    "--region",
    default="predicted",
    show_default=True,
    help="predicted, whole, lesion:K (the K-th largest predicted), or mask:FILE (or a folder of masks by name).",
)
@click.option("--label", default="", help="Name or number of the label.  [default: the first]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Argument of the method, as size=24."
)
@click.option(
    "--repeat", help="Repeat whose weights are taken, such as 0.  [default: those of models/model.pt]"
)
@threshold_option
@click.option("--no-series", is_flag=True, help="Take each file of a DICOM series by itself.")
@device_option
@folder_option
@format_option
def explain(
    name: str,
    inputs: tuple[Path, ...],
    out: Path | None,
    method: str,
    layer: str,
    list_layers: bool,
    region: str,
    label: str,
    settings: tuple[str, ...],
    repeat: str | None,
    threshold: float,
    no_series: bool,
    device: str,
    bundles: Path,
    fmt: str,
) -> None:
    """Show where in each INPUT the network of BUNDLE finds the evidence for what it segments.

    An INPUT is an image, a DICOM file, a NIfTI volume or a folder of them. For each image, slice or frame there is a
    map (float32, 0 to 1, at the input's own size), an overlay with the outline of the predicted mask, and a row of
    explanations.csv. A bad file is listed with its reason while the others go on; then the command exits with 1.

    \b
    medseg explain kvasir_seg__unet__dice images/ -o explained
    medseg explain kvasir_seg__unet__dice polyp.jpg -o explained --method hirescam --region lesion:1
    medseg explain kvasir_seg__unet__dice --list-layers
    """
    from medseg.bundle.open import find

    bundle = find(name, bundles)
    if list_layers:
        _list_layers(bundle, fmt)
        return
    if not inputs or out is None:
        raise click.UsageError("give INPUT... and -o FOLDER, or --list-layers")
    from medseg.engine.workflow import check_device
    from medseg.explain.regions import Region

    check_device(device)
    question = {
        "method": method,
        "layer": layer,
        "region": Region.parse(region),
        "label": label,
        "arguments": parse_settings(settings),
    }
    rows = _explain(
        bundle, question, {"device": device, "threshold": threshold}, repeat, inputs, out, no_series
    )
    _tell(rows, out, fmt)
    if any(row["outcome"] == "failed" for row in rows):
        raise SystemExit(1)


def _explain(
    bundle: Bundle,
    question: dict[str, Any],
    settings: dict[str, Any],
    repeat: str | None,
    inputs: tuple[Path, ...],
    out: Path,
    no_series: bool,
) -> list[dict[str, object]]:
    from medseg.cli.progress import progress_bar
    from medseg.explain.cases import explain_all
    from medseg.explain.explainer import Explainer, Question
    from medseg.predict.predictor import Settings

    explainer = Explainer.of(bundle, Question(**question), Settings(**settings), repeat)
    with progress_bar("explaining") as progress:
        return explain_all(explainer, inputs, out, progress, series=not no_series)


def _tell(rows: list[dict[str, object]], out: Path, fmt: str) -> None:
    import pandas as pd

    from medseg.explain.cases import COLUMNS

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if fmt == "table":  # what is the same in all rows stands in the title
        same = [name for name in ("method", "layer", "label", "region") if len(rows)]
        title = ", ".join(f"{name} {rows[0][name]}" for name in same if rows[0][name])
        kept = ["file", "frame", "largest_activation", "energy_in_mask", "outcome", "reason"]
        emit(frame[kept].dropna(axis="columns", how="all"), fmt, title)
        click.echo(f"maps, overlays and explanations.csv: {out}")
    else:
        emit(frame, fmt)


def _list_layers(bundle: Bundle, fmt: str) -> None:
    """The submodules that give maps, in the order in which they are run; no weights are needed."""
    import pandas as pd

    from medseg.bundle.network import build_network, read_recipe
    from medseg.explain.layers import map_layers
    from medseg.models import MODELS

    recipe = read_recipe(bundle)
    layers = map_layers(build_network(recipe, None), recipe.channels, recipe.image_size)
    default = MODELS[recipe.model].facts["cam_layer"]
    rows = [
        {
            "layer": layer.name,
            "channels": layer.channels,
            "height": layer.size[0],
            "width": layer.size[1],
            "step_px": layer.step,
            "default": "yes" if layer.name == default else "",
        }
        for layer in layers.values()
    ]
    emit(pd.DataFrame(rows), fmt, f"Layers of {recipe.model} that give maps")
