"""ONNX: one file for ONNX Runtime and whatever else reads the format."""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export._network import answer_shape, checked, said_of, trained
from medseg.export.check import Check, Mismatch

if TYPE_CHECKING:
    import torch

#: versions of the operator set: what each of PyTorch's two exporters writes best
OPSET = {"dynamo": 18, "traced": 17}
#: batches that the written file is also run with
BATCHES = (1, 2, 5)


@EXPORTERS.register(
    "onnx",
    form="file",
    suffix=".onnx",
    tolerance=1e-4,
    needs=dict.fromkeys(("onnx", "onnxruntime"), "pip install 'medseg[onnx]'"),
)
def onnx(
    bundle: Bundle,
    out: Path,
    inputs: Sequence[Path],
    *,
    tolerance: float,
    repeat: str | None = None,
    exporter: str = "auto",
) -> Check:
    """One ONNX file (``image`` to ``pred``, any batch), checked under ONNX Runtime on the CPU.

    Args:
        bundle: a trained bundle.
        out: the file to write.
        inputs: image files to check on.
        tolerance: largest difference of a probability that passes.
        repeat: whose weights are taken.
        exporter: PyTorch's ``dynamo`` or its older ``traced`` one; ``auto`` falls back from the first to the second.
    """
    recipe, network = trained(bundle, repeat)
    ways = _exporters(exporter)
    for way in ways[:-1]:
        try:
            check = _attempt(way, bundle, network, recipe, out, inputs, tolerance)
        except MedsegError:
            continue
        if check.passed:
            return check
    return _attempt(ways[-1], bundle, network, recipe, out, inputs, tolerance)


def _attempt(
    way: str,
    bundle: Bundle,
    network: torch.nn.Module,
    recipe: Recipe,
    out: Path,
    inputs: Sequence[Path],
    tolerance: float,
) -> Check:
    write_onnx(network, recipe, out, said_of(bundle, recipe), way)
    run = onnx_runner(out)
    _demand_batches(run, recipe)
    notes = [f"{way}; opset {OPSET[way]}", f"batches of {', '.join(map(str, BATCHES))} run"]
    return checked("onnx", out, network, run, recipe, inputs, tolerance, notes)


def write_onnx(
    network: torch.nn.Module,
    recipe: Recipe,
    path: Path,
    metadata: Mapping[str, object],
    exporter: str = "auto",
) -> str:
    """Write a network as ONNX, without the paths of this machine that PyTorch puts in, and check it by the format.

    Args:
        network: on the CPU in evaluation mode.
        recipe: of its bundle.
        path: of the file.
        metadata: kept inside under ``medseg``.
        exporter: as for ``onnx``.

    Returns:
        The exporter that wrote it, ``dynamo`` or ``traced``.

    Raises:
        MedsegError: PyTorch cannot export the network.
    """
    import onnx as format_

    errors = {}
    for how in _exporters(exporter):
        try:
            with _quiet():
                _WRITERS[how](network, recipe, path)
                model = format_.load(path)
                _clean(model)
                for key, value in _properties(metadata).items():
                    model.metadata_props.add(key=key, value=value)
                format_.checker.check_model(model, full_check=True)
                format_.save(model, path)
            return how
        except Exception as error:  # both exporters fail in many of their own ways
            errors[how] = " ".join(str(error).split())[:160]
            path.unlink(missing_ok=True)
    reasons = "; ".join(f"{how}: {reason}" for how, reason in errors.items())
    raise MedsegError(f"{recipe.model} cannot become ONNX ({reasons})")


def onnx_runner(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that runs a written file under ONNX Runtime on the CPU, images in, logits out.

    Raises:
        MedsegError: ONNX Runtime cannot load the file, or later, run it.
    """
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with _told():
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> torch.Tensor:
        with _told():
            (logits,) = session.run(["pred"], {"image": images.numpy()})
        return torch.from_numpy(logits)

    return run


@contextmanager
def _told() -> Iterator[None]:
    """ONNX Runtime's errors, which have no common kind, as one of medseg's."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise MedsegError(f"onnx: ONNX Runtime cannot run the written network ({reason})") from error


def _demand_batches(run: Callable[[torch.Tensor], torch.Tensor], recipe: Recipe) -> None:
    import torch

    for size in BATCHES:
        shape = tuple(run(torch.zeros(size, recipe.channels, *recipe.image_size)).shape)
        expected = (size, *answer_shape(recipe))
        if shape != expected:
            raise Mismatch(f"onnx: the written network answers {shape} to a batch of {size}, not {expected}")


def _exporters(exporter: str) -> tuple[str, ...]:
    """The exporters to try, in order; PyTorch before 2.5 has the older one alone."""
    import importlib.util

    import torch

    if exporter not in ("auto", *_WRITERS):
        raise MedsegError(f"exporter is {exporter!r}; give auto, dynamo or traced")
    has_new = "dynamic_shapes" in inspect.signature(torch.onnx.export).parameters
    has_new = has_new and importlib.util.find_spec("onnxscript") is not None
    if exporter == "dynamo" and not has_new:
        raise MedsegError("exporter dynamo needs torch 2.5 and onnxscript: pip install 'medseg[onnx]'")
    return (exporter,) if exporter != "auto" else (("dynamo", "traced") if has_new else ("traced",))


def _write_dynamo(network: torch.nn.Module, recipe: Recipe, path: Path) -> None:
    import torch

    images = torch.zeros(2, recipe.channels, *recipe.image_size)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program: Any = torch.onnx.export(
        network,
        (images,),
        None,
        input_names=["image"],
        output_names=["pred"],
        dynamic_shapes=({0: batch},),
        opset_version=OPSET["dynamo"],
        dynamo=True,
        verbose=False,
    )
    program.save(path, external_data=False)


def _write_traced(network: torch.nn.Module, recipe: Recipe, path: Path) -> None:
    import torch

    plain: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        plain = {"dynamo": False}
    torch.onnx.export(
        network,
        (torch.zeros(2, recipe.channels, *recipe.image_size),),
        str(path),
        input_names=["image"],
        output_names=["pred"],
        dynamic_axes={"image": {0: "batch"}, "pred": {0: "batch"}},
        opset_version=OPSET["traced"],
        **plain,
    )


_WRITERS = {"dynamo": _write_dynamo, "traced": _write_traced}


def _clean(model: Any) -> None:
    """Take out what tells of this machine: stack traces with the paths of source files."""
    model.doc_string = ""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        parts = [graph, *graph.node, *getattr(graph, "initializer", ())]
        parts += [*getattr(graph, "input", ()), *getattr(graph, "output", ()), *graph.value_info]
        for part in parts:
            if hasattr(part, "doc_string"):
                part.doc_string = ""
            if hasattr(part, "metadata_props"):
                del part.metadata_props[:]
        for node in graph.node:
            graphs += [a.g for a in node.attribute if a.HasField("g")]
            graphs += [inner for a in node.attribute for inner in a.graphs]


def _properties(metadata: Mapping[str, object]) -> dict[str, str]:
    """The metadata as ONNX keeps them: text by key."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        for key, value in metadata.items()
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' reports of their own workings; the file is checked instead."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
