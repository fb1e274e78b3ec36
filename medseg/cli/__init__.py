"""The command line: one module per noun, loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys

import click

from medseg import __version__
from medseg.errors import MedsegError

#: command -> (module, attribute, one line of help); the help stands here so that listing imports nothing
COMMANDS = {
    "data": ("medseg.cli.data", "data", "List, index, split and preview data sets."),
    "dicom": ("medseg.cli.dicom", "dicom", "List, convert and de-identify DICOM files."),
    "bundle": ("medseg.cli.bundle", "bundle", "Create, train, export, import and inspect MONAI bundles."),
    "study": ("medseg.cli.study", "study", "Run, plan, watch and compare a grid of experiments."),
    "rank": ("medseg.cli.rank", "rank", "Rank losses, models or augmentations from a results table."),
    "report": ("medseg.cli.report", "report", "Write the page of a study or table: answer, figures, cases."),
    "predict": ("medseg.cli.predict", "predict", "Masks, overlays and measures of new images."),
    "explain": (
        "medseg.cli.explain",
        "explain",
        "Show where in images a bundle's network finds its evidence.",
    ),
    "serve": ("medseg.cli.serve", "serve", "Serve a page on which a bundle predicts the file dropped on it."),
    "losses": ("medseg.cli.rooms", "losses", "List the losses."),
    "metrics": ("medseg.cli.rooms", "metrics", "List the metrics."),
    "transforms": ("medseg.cli.rooms", "transforms", "List the preprocessing steps."),
    "augmentations": ("medseg.cli.rooms", "augmentations", "List the augmentations."),
    "models": (
        "medseg.cli.rooms",
        "models",
        "List the models, with size, cost, backbone, paper and licence.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a mistake of the user's becomes one line, or a traceback with ``--debug``."""
        try:
            return super().invoke(ctx)
        except MedsegError as error:
            if ctx.params.get("debug"):
                raise
            from medseg.cli.output import printable

            click.echo(f"error: {printable(str(error))}", err=True)
            ctx.exit(2)
        except BrokenPipeError:
            # the reader (head, less) has gone: nothing more to say to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="medseg")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Which loss, model and augmentation suits these lesion images, and is the difference real?

    \b
    medseg bundle run kvasir_seg__unet__dice --data DIR   train and evaluate one experiment
    medseg rank --of loss --by dataset                    rank what was trained
    """
