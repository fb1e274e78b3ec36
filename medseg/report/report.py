"""The report: everything a results table proves, as one page, its figures and its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg import __version__
from medseg.errors import MedsegError
from medseg.ranking.evidence import Evidence
from medseg.ranking.findings import Findings, find
from medseg.ranking.table import usual_metric
from medseg.report import sections
from medseg.report.answer import called
from medseg.report.class_drawings import draw_classes
from medseg.report.class_gallery import draw_class_gallery
from medseg.report.class_tables import Grouped, affordable, class_numbers
from medseg.report.classes import answers_of, grouped
from medseg.report.content import Block, Commands, Page, Paragraph, Picture, Points, Section
from medseg.report.drawings import (
    Album,
    draw_cases,
    draw_class_cases,
    draw_evidence,
    draw_rankings,
    draw_training,
)
from medseg.report.figures.canvas import plural
from medseg.report.gallery import draw_images
from medseg.report.methods import methods
from medseg.report.page import render
from medseg.report.runs import Run, costs, curves, runs_of, without_paths
from medseg.report.source import Source
from medseg.report.task import BESIDE, CLASSIFICATION, of_task, task_of
from medseg.results import atomic_write, write_csv

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Options:
    """What is reported, and how it is judged.

    Args:
        of: the factor whose levels compete.
        metric: the metric that ranks and judges; the task's own if empty, see
            :func:`medseg.ranking.table.usual_metric`.
        better: metric -> ``higher`` or ``lower``, for metrics that neither the table nor medseg knows.
        rope: half width of the region of practical equivalence; the metric's own if None.
        level: of intervals.
        draws: of the bootstrap.
        seed: of the bootstrap.
        fixed_datasets: the data sets are all one wants to know about, not a sample.
        title: of the page; made from the source if empty.
        cases: cases shown of each data set, and worst cases of each contestant.
        images: whether images of cases are shown at all.
        device: where networks run for the images.
        command: the command line that makes the report, as the page tells it.
    """

    of: str = "loss"
    metric: str = ""
    better: Mapping[str, str] = field(default_factory=dict)
    rope: float | None = None
    level: float = 0.95
    draws: int = 2000
    seed: int = 0
    fixed_datasets: bool = False
    title: str = ""
    cases: int = 3
    images: bool = True
    device: str = "auto"
    command: str = "medseg report"


def write_report(
    source: Source, out: Path, options: Options | None = None, say: Callable[[str], None] | None = None
) -> Path:
    """Write ``report.html``, ``figures/*.png``, ``figures/*.svg`` and ``tables/*.csv`` into a folder.

    Each file is written whole or not at all, the page last, so a page never shows what is not there.

    Args:
        source: the table, and what lies beside it.
        out: the folder, made if missing.
        options: what is reported.
        say: is told what goes on, in a few words.

    Returns:
        The page.

    Raises:
        MedsegError: the table cannot be ranked that way, or holds two tasks.
    """
    options, say = options or Options(), say or (lambda _: None)
    if options.cases < 0:
        raise MedsegError(f"cases is {options.cases}; give 0 or more")
    runs = runs_of(source.table, source.bundles) if source.bundles else []
    task = task_of(source.table, runs)
    source = replace(source, table=of_task(source.table, task))
    options = replace(options, metric=options.metric or usual_metric(source.table))
    say("ranking and judging")
    judged = _Judge(source.table, options)
    findings = find(source.table, options.of, None, [options.metric], options.better, judged)
    evidence = {**findings.evidence, **judged.others(findings, BESIDE[task])}
    spent = costs(runs)
    album = Album(out / "figures")
    classified = None
    if task == CLASSIFICATION:
        say("drawing groups anew")
        classified = _classified(album, options, findings, runs)
    say("drawing")
    _draw(album, source, options, findings, evidence, runs, spent, classified, say)
    tables = dict(_tables(source, findings, evidence, spent))
    tables |= classified.tables if classified else {}
    for name, table in tables.items():
        write_csv(table, out / "tables" / f"{name}.csv")
    page = _page(source, options, findings, runs, spent, album, list(tables), classified)
    path = out / "report.html"
    with atomic_write(path) as file:
        file.write(render(page))
    return path


class _Judge:
    """Judges one metric after the other with the same options."""

    def __init__(self, table: pd.DataFrame, options: Options) -> None:
        self.table, self.options = table, options

    def __call__(self, metric: str) -> Evidence:
        from medseg.ranking.judge import judge

        chosen = self.options
        return judge(
            self.table,
            chosen.of,
            metric,
            better=chosen.better,
            rope=chosen.rope if metric == chosen.metric else None,
            level=chosen.level,
            draws=chosen.draws,
            seed=chosen.seed,
            fixed_datasets=chosen.fixed_datasets,
        )

    def others(self, findings: Findings, beside: Sequence[str]) -> dict[str, Evidence]:
        """The evidence of the metrics beside the one that ranks, where it can be had."""
        present = set(self.table["metric"])
        judged: dict[str, Evidence] = {}
        for metric in beside if findings.evidence else ():
            if metric in present and metric not in findings.evidence:
                try:
                    judged[metric] = self(metric)
                except MedsegError:
                    continue
        return judged


@dataclass(frozen=True)
class _Classified:
    """What the runs of a classification answered.

    Args:
        groups: data set -> contestant -> answers of its runs.
        tables: name -> table, for the files.
        draws: of the intervals.
    """

    groups: Grouped
    tables: dict[str, pd.DataFrame]
    draws: int


def _classified(album: Album, options: Options, findings: Findings, runs: list[Run]) -> _Classified:
    answers, faults = answers_of(runs)
    for fault in faults:
        album.leave_out("a run's answers", fault)
    groups = grouped(answers, options.of, _order(options, findings))
    if not groups:
        return _Classified({}, {}, 0)
    draws = affordable(groups, options.draws)
    return _Classified(groups, class_numbers(groups, options.level, draws, options.seed), draws)


def _order(options: Options, findings: Findings) -> list[str]:
    """The contestants, best first."""
    main = findings.evidence.get(options.metric)
    return main.contestants if main else list(findings.first.table["contestant"])


def _draw(
    album: Album,
    source: Source,
    options: Options,
    findings: Findings,
    evidence: Mapping[str, Evidence],
    runs: list[Run],
    spent: pd.DataFrame,
    classified: _Classified | None,
    say: Callable[[str], None],
) -> None:
    main = findings.evidence.get(options.metric)
    order = _order(options, findings)
    draw_rankings(album, findings, evidence)
    draw_evidence(album, main)
    if classified:
        draw_classes(album, classified.groups, classified.tables, options.of)
        draw_class_cases(album, source.table, options.of, options.metric, order)
    else:
        draw_cases(album, source.table, options.of, options.metric, order, _areas(runs))
    draw_training(album, curves(runs), spent, main, options.of, order)
    if not options.images:
        album.leave_out("images of cases", "they were not wanted (--no-images)")
    elif classified:
        draw_class_gallery(album, classified.groups, options.of, source.prepared, options.cases)
    else:
        say("predicting cases")
        draw_images(
            album,
            source.table,
            runs,
            options.of,
            options.metric,
            order,
            source.prepared,
            options.cases,
            options.device,
        )


def _areas(runs: list[Run]) -> dict[str, int] | None:
    """Pixels of an image of each data set, where all its runs agree; else nothing is said of shares of the image."""
    found: dict[str, set[int]] = {}
    for run in runs:
        size = run.record.get("settings", {}).get("image_size")
        area = int(size[0]) * int(size[1]) if isinstance(size, list) and len(size) == 2 else 0
        found.setdefault(run.keys["dataset"], set()).add(area)
    known = {name: areas.pop() for name, areas in found.items() if len(areas) == 1 and 0 not in areas}
    return known if found and len(known) == len(found) else None


def _tables(
    source: Source, findings: Findings, evidence: Mapping[str, Evidence], spent: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name -> table: everything that the page shows, as numbers."""
    for by, ranking in findings.rankings.items():
        yield f"ranking_{by}", ranking.table
        yield f"contests_{by}", ranking.contests
    for metric, one in evidence.items():
        yield f"means_{metric}", one.means
    main = next(iter(findings.evidence.values()), None)
    if main is not None:
        yield "pairs", main.pairs
        yield "places", main.places.rename_axis("contestant").reset_index()
        yield "levels", main.levels
        for by, tests in main.groupings.items():
            yield f"wilcoxon_{by}", tests.wilcoxon
            yield f"bayes_{by}", tests.bayes
    yield "suspicious", _without_paths(findings.first.suspicious)
    yield "missing", _without_paths(findings.first.missing)
    if source.unfinished is not None:
        yield "unfinished", _without_paths(source.unfinished)
    if len(spent):
        yield "costs", spent


def _without_paths(frame: pd.DataFrame) -> pd.DataFrame:
    if "reason" not in frame.columns:
        return frame
    return frame.assign(reason=[without_paths(str(reason)) for reason in frame["reason"]])


def _page(
    source: Source,
    options: Options,
    findings: Findings,
    runs: list[Run],
    spent: pd.DataFrame,
    album: Album,
    tables: list[str],
    classified: _Classified | None,
) -> Page:
    pictures = album.pictures
    main = findings.evidence.get(options.metric)
    parts = [
        sections.answer(findings, options.metric, source, spent),
        sections.what_was_run(source, runs),
        sections.ranking(findings, options.metric, pictures.get("ranking", [])),
        sections.evidence(findings, options.metric, pictures.get("evidence", [])),
        sections.doubts(findings, source),
        *_classes(options, classified, pictures.get("classes", [])),
        Section("cases", "Values per case", tuple(pictures.get("cases", []))),
        Section("training", "Training and cost", tuple(pictures.get("training", []))),
        sections.images(pictures.get("images", []), options.images),
        Section("left-out", "Left out", (Points(tuple(album.left_out)),) if album.left_out else ()),
        Section(
            "methods",
            "Methods",
            (Points(tuple(methods(options.of, options.metric, main, classified is not None))),),
        ),
        _repeat(source, options),
        _files([picture for some in pictures.values() for picture in some], tables),
    ]
    count = len(findings.first.table)
    title = options.title or f"{without_paths(source.name)}: {plural(count, options.of)} compared"
    subtitle = f"By {called(options.metric)}, with intervals, verdicts and what lies behind them."
    footer = f"Made by medseg {__version__}. Research only: medseg and what is trained with it are no medical device."
    return Page(title, subtitle, tuple(part for part in parts if part.blocks), footer)


def _classes(options: Options, classified: _Classified | None, pictures: list[Picture]) -> list[Section]:
    if not classified or not classified.groups:
        return []
    rows = classified.tables["metrics"]
    return [sections.classes(rows, options.of, options.level, classified.draws, pictures)]


def _repeat(source: Source, options: Options) -> Section:
    """The commands, and the study file where there is one."""
    if source.study:
        lines = [f"medseg study run {source.name}.yaml", options.command]
        blocks: list[Block] = [
            Paragraph(f"Save the study file below as {source.name}.yaml; what is done is not run again."),
            Commands("\n".join(lines)),
            Commands(without_paths(source.study.strip())),
        ]
    else:
        blocks = [
            Paragraph("The same table, options and seed give the same page."),
            Commands(options.command),
        ]
    return Section("repeat", "How to repeat it", tuple(blocks))


def _files(pictures: list[Picture], tables: list[str]) -> Section:
    """What lies beside the page."""
    items = (
        "figures/, each as PNG and SVG: " + (", ".join(picture.name for picture in pictures) or "none"),
        "tables/, as CSV: " + ", ".join(tables),
    )
    return Section("files", "Beside this page", (Points(items),))
