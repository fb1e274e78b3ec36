"""``medseg data``: list, index, split and preview data sets."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.data_tables import fault_table, index_table, split_table, tell
from medseg.cli.options import prepared_option, source_option
from medseg.cli.output import emit, format_option
from medseg.cli.preview import preview
from medseg.cli.progress import progress_bar


@click.group()
def data() -> None:
    """List, index, split and preview data sets."""


@data.command("list")
@format_option
def list_datasets(fmt: str) -> None:
    """List the registered data sets: what they show, where to get them, on which terms."""
    import pandas as pd

    from medseg.data.datasets import DATASETS

    rows = [_described(name) for name in DATASETS.names()]
    emit(pd.DataFrame(rows), fmt)


def _described(name: str) -> dict[str, object]:
    from medseg.data.datasets import DATASETS

    spec = DATASETS.build(name)
    return {
        "name": name,
        "title": spec.title,
        "images": spec.expected or None,
        "channels": spec.channels,
        "task": spec.task,
        "labels": ", ".join(label.name for label in spec.labels[:3]) + (", ..." if spec.labels[3:] else ""),
        "licence": spec.licence,
        "download": spec.homepage,
    }


@data.command()
@click.argument("dataset")
@click.option("--data", "folder", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--images", help="Your own data: glob of the images, such as 'a/*.png'.")
@click.option("--masks", help="Your own data: glob of an image's masks, such as 'b/{stem}_mask.png'.")
@click.option("--classes", help="Your own data: glob of the images with their class, such as '{class}/*'.")
@click.option(
    "--table", type=click.Path(path_type=Path), help="Your own data: CSV table with a row for each image."
)
@click.option("--image-column", help="Its column of the images' files.  [default: image]")
@click.option(
    "--class-column",
    "class_columns",
    multiple=True,
    help="Its column of the classes; given several times, columns of 0 and 1.  [default: class]",
)
@click.option("--group-column", help="Its column of the groups.")
@click.option("--part-column", help="Its column of the official parts: train, val or test.")
@click.option("--multilabel", is_flag=True, help="Images may have several classes ('a|b'), or none.")
@click.option("--group", help=r"Your own data: regular expression of the group, such as '(?P<group>p\d+)_'.")
@click.option("--label", help="Your own data: what the masks show.  [default: lesion]")
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    help="Channels to read.  [default: the data set's; own data: 3]",
)
@click.option(
    "--grey-masks/--no-grey-masks",
    default=None,
    help="Cut masks at half of full scale, whatever their values.",
)
@click.option("--mask-value", type=click.IntRange(0), help="The one value that means lesion, for label maps.")
@click.option("--allow-empty/--no-allow-empty", default=None, help="Masks without any lesion are good.")
@click.option("--skip-faulty", is_flag=True, help="Leave faulty pairs out and keep the good ones.")
@prepared_option
@format_option
def index(
    dataset: str,
    folder: Path | None,
    images: str | None,
    masks: str | None,
    classes: str | None,
    table: Path | None,
    image_column: str | None,
    class_columns: tuple[str, ...],
    group_column: str | None,
    part_column: str | None,
    multilabel: bool,
    group: str | None,
    label: str | None,
    channels: str | None,
    grey_masks: bool | None,
    mask_value: int | None,
    allow_empty: bool | None,
    skip_faulty: bool,
    prepared: Path,
    fmt: str,
) -> None:
    """Open every image and mask of DATASET, report all faults at once, and write index.json.

    DATASET is a registered name (see 'medseg data list'), or a name for your own folder: with --images and --masks
    for segmentation, with --classes or --table for classification. Exits with 1, writing nothing, if files are
    faulty and --skip-faulty is not given.
    """
    from medseg.data.class_table import Table
    from medseg.data.index import FaultyFiles, build_index
    from medseg.data.index_file import index_path, write_index
    from medseg.data.store import dataset_lock, source_folder

    own = images or classes or table
    source = folder if folder and own else source_folder(dataset, folder, prepared)
    columns = (image_column, *class_columns, group_column, part_column)
    if table is None and (any(columns) or multilabel):
        raise click.UsageError(
            "the options of columns and --multilabel are about a table; give --table FILE.csv"
        )
    rows = None
    if table is not None:
        named = image_column or "image", class_columns or ("class",)
        rows = Table.found(table, source, *named, group_column, part_column)
    path = index_path(dataset, prepared)
    try:
        with dataset_lock(dataset, prepared), progress_bar(f"reading {dataset}") as progress:
            made = build_index(
                dataset,
                source,
                images=images,
                masks=masks,
                classes=classes,
                table=rows,
                multilabel=multilabel,
                group=group,
                channels=int(channels) if channels else None,
                label=label,
                grey_masks=grey_masks,
                mask_value=mask_value,
                allow_empty=allow_empty,
                skip_faulty=skip_faulty,
                progress=progress,
            )
            write_index(made, path)
    except FaultyFiles as error:
        emit(
            fault_table(error.faults),
            fmt,
            title=f"{dataset}: {error.counted}; nothing written",
        )
        click.echo("mend them, or leave them out with --skip-faulty", err=True)
        raise SystemExit(1) from None
    tell(made)
    emit(index_table(made, path), fmt)


@data.command()
@click.argument("dataset")
@click.option("--kind", default="holdout", show_default=True, help="holdout, kfold, official or external.")
@click.option(
    "--repeats", type=click.IntRange(1), default=5, show_default=True, help="Repeats (kfold: one per fold)."
)
@click.option("--folds", type=click.IntRange(3), default=5, show_default=True, help="Folds of kfold.")
@click.option(
    "--seed", type=click.IntRange(0), default=42, show_default=True, help="Seed of the random draws."
)
@click.option(
    "--fractions", default="0.6,0.2,0.2", show_default=True, help="Shares of training, validation, testing."
)
@click.option(
    "--ungrouped",
    is_flag=True,
    help="Plain random permutation that knows neither groups nor lesion sizes nor classes.",
)
@click.option(
    "--test-on", metavar="DATASET", help="The data set that an external split tests on, indexed before."
)
@click.option("--name", help="Name of the split, if not the usual one.")
@source_option
@prepared_option
@format_option
def split(
    dataset: str,
    kind: str,
    repeats: int,
    folds: int,
    seed: int,
    fractions: str,
    ungrouped: bool,
    test_on: str | None,
    name: str | None,
    folder: Path | None,
    prepared: Path,
    fmt: str,
) -> None:
    """Divide DATASET into training, validation and testing, and write splits/NAME.json.

    Groups (patients, videos, duplicates) stay whole, and lesion sizes or classes are spread alike, unless
    --ungrouped.
    """
    from medseg.data.splits import make_splits
    from medseg.data.splits_file import split_path, write_splits
    from medseg.data.store import dataset_lock, open_index

    with progress_bar(f"reading {dataset}") as progress:
        source = open_index(dataset, folder, prepared, progress)
        other = open_index(test_on, None, prepared, progress) if test_on else None
    made = make_splits(
        source,
        kind,
        repeats=repeats,
        folds=folds,
        seed=seed,
        fractions=parse_fractions(fractions),
        ungrouped=ungrouped,
        test_index=other,
        name=name,
    )
    path = split_path(dataset, prepared, made.name)
    with dataset_lock(dataset, prepared):
        write_splits(made, path)
    for item in made.left_out:
        click.echo(f"note: left out {item['case']}: {item['reason']}", err=True)
    classes = [label.name for label in source.labels] if source.task == "classification" else []
    emit(split_table(made, classes), fmt, title=str(path))


def parse_fractions(text: str) -> tuple[float, float, float]:
    """Three numbers from ``0.6,0.2,0.2``.

    Raises:
        MedsegError: they are not three numbers.
    """
    from medseg.errors import MedsegError

    try:
        training, validation, testing = (float(part) for part in text.split(","))
    except ValueError:
        raise MedsegError(
            f"--fractions {text}: three numbers with commas are needed, as 0.6,0.2,0.2"
        ) from None
    return training, validation, testing


data.add_command(preview)
