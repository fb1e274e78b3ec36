"""``medseg explain``: where in its images a bundle's network finds the evidence for its masks or classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.bundle import folder_option, parse_settings
from medseg.cli.options import device_option, threshold_option
from medseg.cli.output import emit, format_option

if TYPE_CHECKING:
    from medseg.bundle.open import Bundle
    from medseg.explain.cases import AnyExplainer

#: the columns of explanations.csv that a terminal has room for
SHOWN = (
    *("file", "frame", "label", "probability", "predicted", "largest_activation", "energy_in_mask"),
    *("pointing_game", "box_iou", "outcome", "reason"),
)


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
@click.option(
    "--label",
    default="",
    help="Name or number of the label or class.  [default: the first label; of each image the likeliest class]",
)
@click.option(
    "--share",
    type=float,
    help="Classifiers: the box holds what is above this share of the map's maximum.  [default: 0.2]",
)
@click.option(
    "--masks",
    default="",
    metavar="PATTERN",
    help="Classifiers: compare maps with masks, such as '{stem}_mask*', from the image's folder.",
)
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
    share: float | None,
    masks: str,
    settings: tuple[str, ...],
    repeat: str | None,
    threshold: float,
    no_series: bool,
    device: str,
    bundles: Path,
    fmt: str,
) -> None:
    """Show where in each INPUT the network of BUNDLE finds the evidence for what it segments, or for its class.

    An INPUT is an image, a DICOM file, a NIfTI volume or a folder of them. For each image, slice or frame there is a
    map (float32, 0 to 1, at the input's own size), an overlay with the outline of the predicted mask or of the box that
    a classifier's map marks, and a row of explanations.csv. A bad file is listed with its reason while the others go
    on; then the command exits with 1.

    \b
    medseg explain kvasir_seg__unet__dice images/ -o explained
    medseg explain kvasir_seg__unet__dice polyp.jpg -o explained --method hirescam --region lesion:1
    medseg explain kvasir_seg__unet__dice --list-layers
    medseg explain busi_class__resnet50__cross_entropy malignant/ -o explained --masks '{stem}_mask*'
    """
    from medseg.bundle.open import find

    bundle = find(name, bundles)
    if list_layers:
        _list_layers(bundle, fmt)
        return
    if not inputs or out is None:
        raise click.UsageError("give INPUT... and -o FOLDER, or --list-layers")
    from medseg.engine.workflow import check_device

    check_device(device)
    asked = {"method": method, "layer": layer, "label": label, "arguments": parse_settings(settings)}
    explainer = _explainer(
        bundle, asked, region, share, masks, {"device": device, "threshold": threshold}, repeat
    )
    rows = _explain(explainer, inputs, out, no_series, masks)
    _tell(rows, explainer, out, fmt)
    if any(row["outcome"] == "failed" for row in rows):
        raise SystemExit(1)


def _explainer(
    bundle: Bundle,
    asked: dict[str, Any],
    region: str,
    share: float | None,
    masks: str,
    settings: dict[str, Any],
    repeat: str | None,
) -> AnyExplainer:
    """What explains the bundle, once the options are found to have a meaning for its task."""
    from medseg.bundle.network import read_recipe
    from medseg.explain.classes import ClassExplainer, ClassQuestion
    from medseg.explain.explainer import Explainer, Question
    from medseg.explain.localization import SHARE
    from medseg.explain.regions import Region
    from medseg.predict.settings import Settings

    if read_recipe(bundle).task != "classification":
        if share is not None or masks:
            raise click.UsageError("--share and --masks are for classifiers; this bundle segments")
        question = Question(**asked, region=Region.parse(region))
        return Explainer.of(bundle, question, Settings(**settings), repeat)
    if region != "predicted":
        raise click.UsageError("--region is for masks; this bundle classifies whole images (see --label)")
    share = SHARE if share is None else share
    return ClassExplainer.of(bundle, ClassQuestion(**asked, share=share), Settings(**settings), repeat)


def _explain(
    explainer: AnyExplainer, inputs: tuple[Path, ...], out: Path, no_series: bool, masks: str
) -> list[dict[str, object]]:
    from medseg.cli.progress import progress_bar
    from medseg.explain.cases import explain_all

    with progress_bar("explaining") as progress:
        return explain_all(explainer, inputs, out, progress, series=not no_series, masks=masks)


def _tell(rows: list[dict[str, object]], explainer: AnyExplainer, out: Path, fmt: str) -> None:
    import pandas as pd

    from medseg.explain.localization import summary

    frame = pd.DataFrame(rows, columns=list(explainer.columns))
    if fmt == "table":  # what is the same in all rows stands in the title
        title = ", ".join(f"{name} {value}" for name, value in explainer.asked().items() if value)
        kept = [name for name in SHOWN if name in frame and (name != "label" or frame[name].nunique() > 1)]
        emit(frame[kept].dropna(axis="columns", how="all"), fmt, title)
        agreement = summary(rows)
        if agreement:
            click.echo(agreement)
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
