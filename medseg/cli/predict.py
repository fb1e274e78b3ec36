"""``medseg predict``: a trained bundle on images of every kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from medseg.cli.bundle import folder_option
from medseg.cli.options import device_option, threshold_option


@click.command()
@click.argument("bundle")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of predictions.csv, masks/ and overlays/.",
)
@folder_option
@click.option(
    "--repeat",
    "repeats",
    multiple=True,
    metavar="NAME",
    help="A repeat instead of the released weights; given several times, their probabilities are averaged.",
)
@click.option("--ensemble", is_flag=True, help="Average all finished repeats.")
@click.option("--flips", is_flag=True, help="Average over the image and its three mirror images.")
@click.option(
    "--sliding-window",
    is_flag=True,
    help="Cut large images into windows of the network's size instead of shrinking them to it.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.25,
    show_default=True,
    help="Of windows.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0, 16, min_open=True),
    default=1.0,
    show_default=True,
    help="Stretch images by this before windows are cut.",
)
@threshold_option
@click.option(
    "--min-area",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Leave out lesions of fewer pixels.",
)
@click.option(
    "--masks",
    # the names of medseg.predict.masks.KINDS, which help must not import
    type=click.Choice(["auto", "png", "nifti", "dicom-seg"]),
    default="auto",
    show_default=True,
    help="Kind of masks; auto is PNG for images, NIfTI for NIfTI, DICOM SEG for DICOM.",
)
@click.option("--probabilities", is_flag=True, help="Write probabilities too, as .npz arrays.")
@click.option(
    "--overlay/--no-overlay",
    default=None,
    help="Draw masks, or write classes, into pictures; by default of masks alone.",
)
@click.option("--no-series", is_flag=True, help="Take every DICOM file by itself.")
@device_option
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Images, or windows, at once; halved where the GPU lacks memory.",
)
@click.option("--no-amp", is_flag=True, help="Single instead of mixed precision on a GPU.")
@click.option("--overwrite", is_flag=True, help="Forget what OUT holds.")
@click.pass_context
def predict(
    ctx: click.Context, bundle: str, inputs: tuple[Path, ...], out: Path, bundles: Path, **given: Any
) -> None:
    """Predict the images of every INPUT with BUNDLE, a name or a folder.

    An INPUT is an image (PNG, JPEG, TIFF, ...), a DICOM file of one frame or many, a NIfTI volume, or a folder of
    any of them; the slices of a DICOM series become one volume. Masks have the input's own size and place. A bundle
    that classifies writes a row of classes and probabilities per image, slice or frame, and no masks.

    A file that cannot be predicted is listed with its reason while the others go on; then the command exits with 1.
    Given again, a command that was stopped goes on where it was.

    \b
    medseg predict kvasir_seg__unet__dice frames/ -o polyps
    medseg predict busi__unet__dice scan.dcm series/ -o out --flips
    medseg predict busi_class__resnet50__cross_entropy images/ -o classes
    """
    from medseg.bundle.open import find
    from medseg.cli.progress import progress_bar
    from medseg.engine.workflow import check_device
    from medseg.errors import MedsegError
    from medseg.predict.options import Options
    from medseg.predict.predict import predict as predict_all
    from medseg.predict.settings import Settings

    found = find(bundle, bundles)
    check_device(given["device"])
    repeats = given["repeats"]
    if given["ensemble"]:
        if repeats:
            raise click.UsageError("give only one of --repeat and --ensemble")
        repeats = tuple(found.finished())
        if not repeats:
            raise MedsegError(f"{found.name}: no finished repeat for --ensemble; leave it out, or train some")
    settings = Settings(
        given["device"],
        given["threshold"],
        given["batch_size"],
        given["flips"],
        given["sliding_window"],
        given["overlap"],
        given["scale"],
        given["min_area"],
        not given["no_amp"],
    )
    options = Options(
        given["masks"], given["probabilities"], given["overlay"], not given["no_series"], given["overwrite"]
    )
    try:
        with progress_bar("predicting") as progress:
            rows = predict_all(found, inputs, out, settings, repeats, options, progress)
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command goes on, what is done is in {out}", err=True)
        ctx.exit(130)
    _report(rows, out)
    ctx.exit(1 if any(row["outcome"] == "failed" for row in rows) else 0)


def _report(rows: list[dict[str, Any]], out: Path) -> None:
    """Print what failed, and how much was predicted."""
    import pandas as pd

    from medseg.cli.output import emit

    failed = [row for row in rows if row["outcome"] == "failed"]
    if failed:
        emit(pd.DataFrame(failed, columns=["file", "reason"]), "table", "Failed")
    images = len({(row["file"], row["frame"]) for row in rows if row["outcome"] == "predicted"})
    classes = Counter(row["predicted"] or "none" for row in rows if "predicted" in row)
    if classes:
        told = pd.DataFrame(classes.most_common(), columns=["class", "images"])
        emit(told, "table", "Predicted")
    click.echo(f"{images} image(s) predicted, {len(failed)} failed: {out / 'predictions.csv'}")
