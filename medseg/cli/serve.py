"""``medseg serve``: a page on which a bundle predicts the file that is dropped on it."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.bundle import folder_option
from medseg.cli.options import device_option, threshold_option


@click.command()
@click.argument("name", metavar="BUNDLE")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any that is free."
)
@click.option(
    "--allow-host", "names", multiple=True, metavar="NAME", help="Another host name of the page; repeatable."
)
@device_option
@threshold_option
@click.option(
    "--sliding-window", is_flag=True, help="Cut large images into windows instead of shrinking them."
)
@click.option("--flips", is_flag=True, help="Average over the image and its mirror images.")
@click.option(
    "--repeat",
    "repeats",
    multiple=True,
    metavar="REPEAT",
    help="Weights of a repeat instead of the released ones; of several, the mean.",
)
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=256,
    show_default=True,
    help="Largest file that is taken.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in a browser.")
@folder_option
def serve(
    name: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    device: str,
    threshold: float,
    sliding_window: bool,
    flips: bool,
    repeats: tuple[str, ...],
    max_megabytes: float,
    browse: bool,
    bundles: Path,
) -> None:
    """Serve a page on which BUNDLE predicts one image, DICOM file or NIfTI volume at a time.

    It shows overlay, probabilities and measures, and offers the mask for download; of a bundle that classifies it shows
    the classes. Only this machine can reach it unless --host says otherwise; it keeps no file. Ctrl-C ends it.
    """
    from medseg.bundle.open import find
    from medseg.engine.workflow import check_device
    from medseg.predict.predictor import Predictor, Settings
    from medseg.serve.app import Service, build_app
    from medseg.serve.server import address, bind, is_loopback, names_of, run
    from medseg.serve.upload import Limits

    check_device(device)
    bundle = find(name, bundles)
    place = bind(host, port)
    with place:
        settings = Settings(device, threshold, flips=flips, sliding_window=sliding_window)
        predictor = Predictor.of(bundle, settings, repeats)
        service = Service(bundle, predictor, Limits(megabytes=max_megabytes))
        try:
            if not is_loopback(host):
                click.echo(
                    "warning: there is no authentication: everyone who reaches this address can use it",
                    err=True,
                )
            url = address(host, place)
            click.echo(f"{bundle.name} on {url} (Ctrl-C ends)")
            if browse:
                click.launch(url)
            run(build_app(service, (*names, *names_of(host))), place, service.worker.stop)
        finally:
            service.close()
    click.echo("ended; nothing was kept")
