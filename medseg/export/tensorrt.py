"""TensorRT: an engine for one kind of NVIDIA GPU, built where such a GPU and TensorRT are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.bundle.network import Recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export import EXPORTERS
from medseg.export._network import answer_shape, checked, said_of, trained
from medseg.export.check import Check
from medseg.export.onnx import write_onnx

if TYPE_CHECKING:
    import torch

#: images at once: the least, the usual and the most that the engine takes
BATCHES = (1, 4, 16)


@EXPORTERS.register(
    "tensorrt",
    form="file",
    suffix=".engine",
    tolerance=1e-3,
    needs={
        "tensorrt": "pip install tensorrt, on a machine with an NVIDIA GPU",
        "onnx": "pip install 'medseg[onnx]'",
    },
)
def tensorrt(
    bundle: Bundle,
    out: Path,
    inputs: Sequence[Path],
    *,
    tolerance: float,
    repeat: str | None = None,
    half: bool = False,
) -> Check:
    """One TensorRT engine for the GPU and the TensorRT of this machine; it runs on no other.

    Args:
        bundle: a trained bundle.
        out: the file to write.
        inputs: image files to check on.
        tolerance: largest difference of a probability that passes.
        repeat: whose weights are taken.
        half: allow float16 inside, which is quicker and less exact; give a larger tolerance too.
    """
    import torch

    demand_gpu()
    recipe, network = trained(bundle, repeat)
    graph = out.with_name(f"{out.name}.onnx")
    write_onnx(network, recipe, graph, said_of(bundle, recipe))
    out.write_bytes(build_engine(graph.read_bytes(), recipe, half))
    graph.unlink()
    notes = [f"for {torch.cuda.get_device_name()}, {_version()}", f"batches of {BATCHES[0]} to {BATCHES[-1]}"]
    run = engine_runner(out, recipe)
    return checked("tensorrt", out, network, run, recipe, inputs, tolerance, notes)


def demand_gpu() -> None:
    """Refuse where there is no CUDA GPU.

    Raises:
        MedsegError: PyTorch finds none.
    """
    import torch

    if not torch.cuda.is_available():
        raise MedsegError(
            "--to tensorrt needs a CUDA GPU, and PyTorch finds none; export where the engine will run"
        )


def build_engine(graph: bytes, recipe: Recipe, half: bool = False) -> bytes:
    """Build a serialised engine from an ONNX file.

    Args:
        graph: the ONNX file's bytes.
        recipe: of the bundle, for the shapes.
        half: allow float16 inside.

    Raises:
        MedsegError: TensorRT cannot read the network or build it; its own words are given.
    """
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # networks of TensorRT 10 always have an explicit batch, and the flag is gone there
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reasons = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise MedsegError(f"{_version()} cannot read the network ({reasons[:300]})")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # its ten bits are no match for PyTorch's float32
    if half:
        config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((size, recipe.channels, *recipe.image_size) for size in BATCHES))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise MedsegError(f"{_version()} cannot build the network for this GPU; see what it printed above")
    return bytes(plan)


def engine_runner(path: Path, recipe: Recipe) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that runs a written engine on the GPU, images in, logits out.

    Raises:
        MedsegError: the engine does not load.
    """
    import tensorrt as trt
    import torch

    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine: Any = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise MedsegError(f"{path.name}: {_version()} cannot load the engine it wrote")
    context = engine.create_execution_context()

    def run(images: torch.Tensor) -> torch.Tensor:
        given = images.cuda().contiguous()
        logits = torch.empty(len(given), *answer_shape(recipe), device=given.device)
        context.set_input_shape("image", tuple(given.shape))
        context.set_tensor_address("image", given.data_ptr())
        context.set_tensor_address("pred", logits.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise MedsegError(f"{path.name}: {_version()} cannot run the engine it wrote")
        stream.synchronize()
        return logits

    return run


def _version() -> str:
    import tensorrt as trt

    return f"TensorRT {trt.__version__}"
