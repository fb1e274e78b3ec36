"""``medseg data preview``: a contact sheet of a data set and an augmentation."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.options import prepared_option, source_option
from medseg.cli.progress import progress_bar


@click.command()
@click.argument("dataset")
@click.option("--augment", default="all", show_default=True, help="Augmentations, joined by '-'.")
@click.option("--preprocess", default="", help="Preprocessing steps before them, joined by '-'.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As of 'bundle create'.")
@click.option("--cases", type=click.IntRange(1), default=4, show_default=True, help="Images to show.")
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True, help="Seed of the transforms.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The picture: .png, .svg or .pdf.  [default: preview-DATASET-AUGMENT.png]",
)
@source_option
@prepared_option
def preview(
    dataset: str,
    augment: str,
    preprocess: str,
    settings: tuple[str, ...],
    cases: int,
    seed: int,
    output: Path | None,
    folder: Path | None,
    prepared: Path,
) -> None:
    """Draw a contact sheet of DATASET: each image beside each transform, the mask outlined.

    \b
    medseg data preview phantom --augment filter
    medseg data preview my_ct --preprocess window --set 'preprocess_arguments={window: {center: 40, width: 400}}'
    """
    from medseg.bundle.settings import settings_from
    from medseg.cli.bundle import parse_settings
    from medseg.data.preview import preview as draw
    from medseg.data.store import open_index
    from medseg.transforms.steps import build_steps

    chosen = settings_from(parse_settings(settings))
    names = preprocess.split("-") if preprocess else []
    steps = build_steps(names, chosen.preprocess_arguments, chosen.image_size)
    with progress_bar(f"reading {dataset}") as progress:
        index = open_index(dataset, folder, prepared, progress)
    path = output or Path(f"preview-{dataset}-{augment}.png")
    draw(index, steps, augment, path, cases=cases, seed=seed, arguments=chosen.augment_arguments)
    click.echo(path)
