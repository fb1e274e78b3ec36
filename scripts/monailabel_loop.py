"""The loop of model-assisted labelling, over HTTP on a real MONAI Label server, with the true masks as corrections.

A core bundle is exported and served; it labels new images; these are corrected (their true masks become final labels);
the server fine-tunes; and images that neither training has seen tell how much less there is to correct. The images that
the core was tested on tell what it forgot.

    python scripts/monailabel_loop.py BUNDLE --prepared prepared --new busi_malignant --data FOLDER -o OUT
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from medseg.bundle.open import Bundle
from medseg.data.index_file import Index, IndexedSample, index_path, read_index
from medseg.data.reading import read_sample
from medseg.data.splits_file import read_splits, split_path
from medseg.data.store import open_index
from medseg.export.delivery import export

#: seconds that the server may take to answer, or to train
PATIENCE = 3600


def main() -> None:
    given = _arguments()
    out = given.out
    out.mkdir(parents=True)
    bundle = Bundle(given.bundle.resolve())
    core = read_index(index_path(bundle.metadata["medseg"]["dataset"], given.prepared))
    new = open_index(given.new, given.data, out / "prepared")
    labelled, judged = _chosen(new, core, given)
    tested = _of_core("core", core, given.prepared, "testing", given.judged)
    rehearsed = _of_core("old", core, given.prepared, "training", given.rehearse)
    app, studies = out / "app", out / "studies"
    laid = (*labelled, *judged, *tested, *rehearsed)
    truth = {name: _lay(studies, name, index, sample) for name, index, sample in laid}
    check = export("monailabel", bundle, app, [core.root / sample.image for _, _, sample in tested[:4]])
    print(f"exported; on {check.inputs} images {check.difference.pixels:.3%} of the mask pixels differ")
    with Served(app, studies) as server:
        groups = {"labelled": labelled, "judged": judged, "forgetting": tested}
        names = {group: [name for name, _, _ in cases] for group, cases in groups.items()}
        before = {name: _compared(server.mask(name), truth[name]) for name in truth}
        for name, _, _ in (*labelled, *rehearsed):
            server.put_label(name, truth[name])
        began = time.monotonic()
        record = server.train(
            max_epochs=given.epochs,
            learning_rate=given.learning_rate,
            batch_size=given.batch_size,
            val_split=0.2,
        )
        seconds = time.monotonic() - began
        after = {name: _compared(server.mask(name), truth[name]) for name in truth}
    _write_cases(out / "cases.csv", names, before, after)
    _draw(out / "loop.png", names, before, after)
    report = {"training": record, "seconds_of_training": round(seconds), "groups": {}}
    for group, cases in names.items():
        report["groups"][group] = _summary([before[n] for n in cases], [after[n] for n in cases])
    (out / "loop.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print(report)


class Served:
    """A MONAI Label server on an exported app and a folder of images."""

    def __init__(self, app: Path, studies: Path) -> None:
        self.app, self.studies = app, studies
        self.model = next((app / "model").iterdir()).name
        self.client = httpx.Client(timeout=PATIENCE)

    def __enter__(self) -> Served:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        script = Path(__file__).resolve().with_name("monailabel")
        environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
        with (self.app.parent / "server.log").open("w") as log:
            self.process = subprocess.Popen(
                ["bash", str(script), "--port", str(port), str(self.app), str(self.studies)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        for _ in range(600):
            try:
                self.client.get(f"{self.address}/info/")
                return self
            except httpx.TransportError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.5)
        raise SystemExit(f"the server did not start; see {self.app.parent / 'server.log'}")

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(60)

    def mask(self, name: str) -> np.ndarray:
        """The proposed mask of an image, bool."""
        answer = self.client.post(
            f"{self.address}/infer/{self.model}",
            params={"image": name, "output": "image"},
            data={"params": "{}"},
        )
        answer.raise_for_status()
        return np.asarray(Image.open(io.BytesIO(answer.content))) > 0

    def put_label(self, name: str, mask: np.ndarray) -> None:
        """Save a final label."""
        file = io.BytesIO()
        Image.fromarray((mask * 255).astype(np.uint8)).save(file, "png")
        self.client.put(
            f"{self.address}/datastore/label",
            params={"image": name, "tag": "final"},
            files={"label": (f"{name}.png", file.getvalue())},
        ).raise_for_status()

    def train(self, **request: Any) -> dict[str, Any]:
        """Fine-tune in the background and wait; what the server says of it."""
        answer = self.client.post(f"{self.address}/train/{self.model}", json=request)
        answer.raise_for_status()
        task = {"status": "SUBMITTED"}
        while task["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(1)
            task = self.client.get(f"{self.address}/train/").json()
        if task["status"] != "DONE":
            raise SystemExit(f"training failed: {task['details'][-3:]}")
        return self.client.get(f"{self.address}/info/").json()["train_stats"][self.model]


Case = tuple[str, Index, IndexedSample]


def _chosen(new: Index, core: Index, given: argparse.Namespace) -> tuple[list[Case], list[Case]]:
    """New images to label and others to judge by, drawn at random; none that the core's data set holds."""
    seen = {sample.pixels for sample in core.samples}
    free = [s for s in new.samples if s.pixels not in seen and s.case not in given.leave_out]
    order = np.random.default_rng(given.seed).permutation(len(free))[: given.labelled + given.judged]
    cases = [(f"new{k:03d}", new, free[int(k)]) for k in order]
    return cases[: given.labelled], cases[given.labelled :]


def _of_core(prefix: str, core: Index, prepared: Path, part: str, most: int) -> list[Case]:
    """Images of a part of the core's own data set: ``testing``, which no training has seen, or ``training``."""
    splits = read_splits(split_path(core.dataset, prepared, "holdout"))
    names = [item["case"] for item in splits.items(0)[part]][:most]
    by_case = {sample.case: sample for sample in core.samples}
    return [(f"{prefix}{k:03d}", core, by_case[name]) for k, name in enumerate(names)]


def _lay(studies: Path, name: str, index: Index, sample: IndexedSample) -> np.ndarray:
    """Put an image into the server's folder; its true mask, bool."""
    studies.mkdir(exist_ok=True)
    source = index.root / sample.image
    shutil.copyfile(source, studies / f"{name}{source.suffix.lower()}")
    return read_sample(index, sample)[1] > 0


def _compared(mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    both = mask.sum() + truth.sum()
    dice = 2 * (mask & truth).sum() / both if both else 1.0
    return {"dice": float(dice), "to_correct": float((mask != truth).mean())}


def _summary(before: list[dict[str, float]], after: list[dict[str, float]]) -> dict[str, Any]:
    """Means, and the change with a 95 % interval by bootstrap over cases."""
    draw = np.random.default_rng(0).integers(0, len(before), (10_000, len(before)))
    found: dict[str, Any] = {"images": len(before)}
    for key in ("dice", "to_correct"):
        old, new = (np.array([case[key] for case in cases]) for cases in (before, after))
        change = new - old
        low, high = np.percentile(change[draw].mean(1), [2.5, 97.5])
        found[key] = {
            "before": old.mean(),
            "after": new.mean(),
            "change": change.mean(),
            "interval": [low, high],
            "better": int((change > 0).sum() if key == "dice" else (change < 0).sum()),
        }
    return found


def _write_cases(
    path: Path, names: dict[str, list[str]], before: dict[str, Any], after: dict[str, Any]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["group", "image", "dice_before", "dice_after", "to_correct_before", "to_correct_after"]
        )
        for group, cases in names.items():
            for name in cases:
                old, new = before[name], after[name]
                table.writerow([group, name, old["dice"], new["dice"], old["to_correct"], new["to_correct"]])


def _draw(path: Path, names: dict[str, list[str]], before: dict, after: dict) -> None:
    """A point per image: its Dice before and after, on a panel per group."""
    from matplotlib.figure import Figure

    titles = {"judged": "new, not seen", "labelled": "new, corrected", "forgetting": "old, not seen"}
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    for axis, (group, title) in zip(figure.subplots(1, 3, sharey=True), titles.items(), strict=True):
        pairs = np.array([(before[name]["dice"], after[name]["dice"]) for name in names[group]])
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        axis.scatter(*pairs.T, s=14, color="#00728f", alpha=0.7)
        axis.set(title=f"{title}: {pairs[:, 0].mean():.3f} to {pairs[:, 1].mean():.3f}", xlabel="Dice before")
        axis.set_aspect("equal")
    figure.axes[0].set_ylabel("Dice after")
    figure.savefig(path, dpi=110)


def _print(report: dict[str, Any]) -> None:
    print(f"training: {json.dumps(report['training'])}, {report['seconds_of_training']} s")
    print(
        "| images | number | Dice before | after | change (95 %) | to correct before | after | change (95 %) |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for group, found in report["groups"].items():
        cells = [group, str(found["images"])]
        for key, form in (("dice", "{:.3f}"), ("to_correct", "{:.2%}")):
            one = found[key]
            interval = " to ".join(form.format(edge) for edge in one["interval"])
            cells += [form.format(one["before"]), form.format(one["after"])]
            cells += [f"{form.format(one['change'])} ({interval})"]
        print("| " + " | ".join(cells) + " |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="the trained core bundle")
    parser.add_argument(
        "--prepared", type=Path, default=Path("prepared"), help="with the core's index and split"
    )
    parser.add_argument("--new", required=True, help="name of the data set of new images")
    parser.add_argument("--data", type=Path, required=True, help="its folder")
    parser.add_argument("--leave-out", nargs="*", default=[], help="cases of it that the core may have seen")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--labelled", type=int, default=60, help="new images that are corrected and trained on"
    )
    parser.add_argument("--judged", type=int, default=60, help="new images that only judge")
    parser.add_argument(
        "--rehearse",
        type=int,
        default=0,
        help="images that the core was trained on, trained on again with the new",
    )
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
