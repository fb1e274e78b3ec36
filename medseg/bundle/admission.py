"""Taking a bundle in from elsewhere: checked whole, then put in place at once, and nothing of it run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from medseg.bundle.archive import AS_JSON, MANIFEST, WRAPPING
from medseg.bundle.describe import activation
from medseg.bundle.executable import TASKS, Executable, parse
from medseg.bundle.inspection import Inspection, inspect
from medseg.bundle.network import Recipe, read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.package import Package, opened
from medseg.bundle.settings import CLASS_KNOBS
from medseg.bundle.verify import NEEDED
from medseg.data.faults import FileFault
from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.models import MODELS, build

#: foreign parts that an error lists
SHOWN = 8


def admit(source: Path, bundles: Path, *, trust: bool = False) -> tuple[Bundle, Inspection]:
    """Put a bundle from a zip or folder into a folder of bundles, whole or not at all.

    Checked are its paths, its files against the manifest's SHA-256, that what a bundle needs is there, that configs
    are plain YAML and JSON, that its weights are plain finite tensors that fit the network it names, and that it runs
    nothing but medseg's own template. Nothing in it is executed or imported.

    Args:
        source: the zip or folder.
        bundles: where bundles are kept.
        trust: take it although it would run what is not of medseg's template, or has no manifest.

    Raises:
        MedsegError: what is wrong with it, or that a bundle of its name is there.
    """
    with opened(source) as package:
        target = bundles / package.name
        if target.exists():
            raise MedsegError(f"{target} exists; remove it, or import into another --bundles folder")
        inspection = inspect(package)
        _demand_sound(inspection)
        if not trust:
            _demand_own(inspection)
        _demand_loadable(package)
        _place(package, bundles, target, everything=trust)
    return Bundle(target.resolve()), inspection


def _demand_sound(inspection: Inspection) -> None:
    here = {fact.path for fact in inspection.files}
    faults = [f"{fault.file}: {fault.key or 'it'} {fault.reason}" for fault in inspection.faults]
    faults += [f"{name}: is missing" for name in (*NEEDED, "models/model.pt") if name not in here]
    if faults:
        raise FileFault(inspection.source, "; ".join(faults[:SHOWN]), "ask its sender for a sound one")


def _demand_own(inspection: Inspection) -> None:
    """Refuse what would run and is not of medseg's template, and what cannot be checked."""
    if not any(fact.path == MANIFEST for fact in inspection.files):
        raise FileFault(
            inspection.source,
            f"has no {MANIFEST}, so that its files cannot be checked",
            "ask for one made by 'medseg bundle export', or give --trust",
        )
    foreign = inspection.to_trust
    if foreign:
        shown = "\n  ".join(map(told, foreign[:SHOWN]))
        more = len(foreign) - SHOWN
        raise MedsegError(
            f"{inspection.source}: would run, or decide what runs, beside medseg's own template:\n  {shown}"
            + (f"\n  and {more} more" if more > 0 else "")
            + "\nnothing was run; look at all of it with 'medseg bundle inspect', and give --trust to take it"
        )


def told(one: Executable) -> str:
    """One executable part as a line of text."""
    where = f"{one.file}: {one.key}" if one.key else one.file
    text = " ".join(one.text.split())[:100]
    return f"{where} {one.kind} {text}".rstrip()


def _demand_loadable(package: Package) -> None:
    """Refuse a bundle whose recipe cannot be read, or whose weights do not fit the network it names."""
    import torch

    bundle = Bundle(package.root)
    recipe = read_recipe(bundle)
    recipe.steps().check_channels(recipe.channels)
    for reason in _task_faults(bundle, recipe):
        raise FileFault(package.source, reason, "ask its sender for a sound one")
    classifies = recipe.task == "classification"
    if len(recipe.labels) != (recipe.classes if classifies else max(recipe.classes - 1, 1)):
        raise FileFault(
            package.source,
            f"its metadata names {len(recipe.labels)} {'class(es)' if classifies else 'label(s)'}, "
            f"and its network answers {recipe.classes} channel(s)",
            "ask its sender for a sound one",
        )
    try:
        with torch.device("meta"):  # shapes alone: a config that asks for a huge network costs nothing
            network = build(
                recipe.model, recipe.model_arguments, in_channels=recipe.channels, out_channels=recipe.classes
            )
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())[:160]
        raise FileFault(
            package.source, f"its {recipe.model} cannot be built ({reason})", "ask its sender for a sound one"
        ) from None
    state = torch.load(package.root / "models/model.pt", map_location="cpu", weights_only=True)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {str(name): tuple(value.shape) for name, value in state.items()}
    wrong = sorted(set(expected.items()) ^ set(given.items()))
    if wrong:
        name = wrong[0][0]
        raise FileFault(
            package.source,
            f"models/model.pt does not fit {recipe.model}: {name} is {given.get(name, 'missing')}, "
            f"and the network's is {expected.get(name, 'missing')}",
            "ask its sender for the weights of this bundle",
        )
    for name in AS_JSON:
        _demand_same(package, name)


def _task_faults(bundle: Bundle, recipe: Recipe) -> Iterator[str]:
    """Where configs, metadata, model and loss are not of one task, or read logits otherwise than the loss made them."""
    train = bundle.read("train")
    own = bundle.metadata.get("medseg")
    told = own if isinstance(own, dict) else {}
    loss = str(train.get("loss_name"))
    said = {
        "its metadata's task": told.get("task", TASKS[0]),
        f"the task of {recipe.model}": MODELS[recipe.model].task,
    }
    if loss in LOSSES:
        said[f"the task of {loss}"] = LOSSES[loss].task
    for what, found in said.items():
        if found != recipe.task:
            yield f"{what} is {found!r}, and {recipe.task!r} by its inference config"
    if recipe.task == TASKS[0]:
        return
    for key in CLASS_KNOBS:
        if train.get(key) != getattr(recipe, key):
            yield f"{key} is {train.get(key)!r} in its train config, and {getattr(recipe, key)!r} in that of inference"
    several = told.get("multilabel")
    if not isinstance(several, bool) or several is not recipe.multilabel:
        yield f"its metadata's multilabel is {several!r}, and {recipe.multilabel!r} by its inference config"
    if loss in LOSSES.names(recipe.task):
        wanted = activation(loss, bool(recipe.multilabel))
        if recipe.activation != wanted:
            yield f"its activation is {recipe.activation!r}, and that of {loss} is {wanted!r}"
        if recipe.multilabel and not LOSSES[loss].facts["multilabel"]:
            yield f"{loss} trains no set of several classes per image"


def _demand_same(package: Package, name: str) -> None:
    """Refuse a config whose JSON copy, which MONAI's loader reads, says something else."""
    copy, own = f"configs/{name}.json", f"configs/{name}.yaml"
    if copy not in package.files:
        return
    read = {file: parse((package.root / file).read_bytes(), file) for file in (copy, own)}
    if read[copy] != read[own]:
        raise FileFault(package.source, f"{copy} differs from {own}", "ask its sender for a sound one")


def _place(package: Package, bundles: Path, target: Path, *, everything: bool) -> None:
    from medseg.bundle.executable import KNOWN_FILES

    kept = [name for name in package.files if name not in WRAPPING and not name.startswith("repeats/")]
    kept = [name for name in kept if everything or name in KNOWN_FILES]
    bundles.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=bundles, prefix=f".{package.name}."))
    try:
        for name in kept:
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package.root / name, path, follow_symlinks=False)
        staging.chmod(0o755)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
