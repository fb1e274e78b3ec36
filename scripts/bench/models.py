"""Time and memory of the models, against another library's network of the same kind where there is one.

    python scripts/bench/models.py [--models unet fcn] [--rounds 7] [--size 224] [--batch 8] [--json FILE]

- forward: the logits of one batch, in evaluation mode and without gradients;
- training: forward and backward of one batch in training mode, all outputs, without an optimiser.

Each model has a process of its own, in which its memory is measured first and then both networks' times, in turn; the
other library's memory is measured in a second process. Times are medians of processor time on one thread, or of wall
time on a GPU, where both networks lie channels-last. Memory is the peak over what there was before the network was
built. A ratio above 1 says how many times medseg's time the other takes in the same round. Both must give logits of
the same shapes, or the model is left out and the bench ends with an error.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.engine.device import place
from medseg.errors import MedsegError
from medseg.models import MODELS

PARTS = ("forward", "training")
STATUS = Path("/proc/self/status")


def monai_unet() -> nn.Module:
    """U-Net of the same widths; its last step up keeps 128 channels where the paper halves them."""
    from monai.networks.nets import BasicUNet

    widths = (64, 128, 256, 512, 1024, 64)
    return BasicUNet(2, 3, 1, widths, act=("relu", {"inplace": True}), norm="batch", upsample="deconv")


def monai_unetplusplus() -> nn.Module:
    """UNet++ of the same widths, but with batch normalisation and without dropout."""
    from monai.networks.nets import BasicUNetPlusPlus

    widths = (32, 64, 128, 256, 512, 32)
    return BasicUNetPlusPlus(2, 3, 1, widths, True, act="relu", norm="batch", upsample="deconv")


def torchvision_deeplabv3() -> nn.Module:
    """The same network."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=1, aux_loss=None)


def smp_deeplabv3plus() -> nn.Module:
    """DeepLabV3+ with the rates of the paper, but fewer normalisations in its separable convolutions."""
    from segmentation_models_pytorch import DeepLabV3Plus

    return DeepLabV3Plus("resnet50", encoder_weights=None, decoder_atrous_rates=(6, 12, 18))


def torchvision_classifier(name: str) -> nn.Module:
    """The same network; of EfficientNetV2 with another padding."""
    import torchvision

    return torchvision.models.get_model(name, num_classes=2)


#: model -> the other library's name for it, and how to build it
EQUIVALENTS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "deeplabv3": ("torchvision deeplabv3_resnet50", torchvision_deeplabv3),
    "deeplabv3plus": ("smp DeepLabV3Plus", smp_deeplabv3plus),
    "unet": ("MONAI BasicUNet", monai_unet),
    "unetplusplus": ("MONAI BasicUNetPlusPlus", monai_unetplusplus),
    **{
        model: (f"torchvision {name}", partial(torchvision_classifier, name))
        for model, name in {
            "densenet121": "densenet121",
            "efficientnetv2_s": "efficientnet_v2_s",
            "resnet50": "resnet50",
            "vgg19": "vgg19",
        }.items()
    },
}


def builder(model: str, way: str, small: bool) -> Callable[[], nn.Module]:
    """What builds medseg's model, with the default arguments or small, or the other library's."""
    if way != "medseg":
        return EQUIVALENTS[model][1]
    entry = MODELS[model]
    channels = {"in_channels": 3, "out_channels": answers(model)}
    return lambda: entry.build(**channels, **(entry.facts["small"] if small else {}))


def answers(model: str) -> int:
    """How many channels or classes the logits have that are timed: one, of a classifier two."""
    return 2 if model in MODELS.names("classification") else 1


def outputs(result: Any) -> list[Tensor]:
    """The logits of any library's network, which gives a tensor, a sequence or a dictionary."""
    if isinstance(result, Mapping):
        return [result["out"]]
    return [result] if isinstance(result, Tensor) else list(result)


def forward(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits in evaluation mode."""
    with torch.no_grad():
        return outputs(network.eval()(images))


def training(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits in training mode, after a backward pass through all of them."""
    network.zero_grad(set_to_none=True)
    maps = outputs(network.train()(images))
    torch.stack([logits.square().mean() for logits in maps]).sum().backward()
    return [logits.detach() for logits in maps]


def check(model: str, networks: Mapping[str, nn.Module], images: Tensor) -> None:
    """Stop unless all networks give logits of the image's size, or of the classes, and as many in training."""
    counts = {}
    for way, network in networks.items():
        size = () if model in MODELS.names("classification") else tuple(images.shape[2:])
        expected = (len(images), answers(model), *size)
        maps = [*forward(network, images), *(trained := training(network, images))]
        shapes = {tuple(logits.shape) for logits in maps} - {expected}
        if shapes:
            sys.exit(f"{model}: {way} gives logits of the shape {shapes.pop()}, not {expected}")
        counts[way] = len(trained)
    if len(set(counts.values())) > 1:
        sys.exit(f"{model}: numbers of outputs differ: {counts}")


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Processor time, or wall time where a GPU works."""
    if device.type != "cuda":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def one_round(number: int, networks: Mapping[str, nn.Module], images: Tensor) -> dict[str, dict[str, float]]:
    """Seconds of each part and network, once; every round starts with another network."""
    names = list(networks)
    first = number % len(names)
    spent: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for part, run in zip(PARTS, (forward, training), strict=True):
        for way in names[first:] + names[:first]:
            spent[part][way] = seconds(lambda way=way, run=run: run(networks[way], images), images.device)
    return spent


def high_water(device: torch.device) -> int:
    """The most bytes held since the last :func:`lower`, by the GPU's tensors or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():  # Linux's ru_maxrss begins with that of the process that started this one
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def lower(device: torch.device) -> None:
    """Forget the peak so far, which importing may have left, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif STATUS.exists():
        try:
            STATUS.with_name("clear_refs").write_text("5")
        except OSError:
            return


def memory(build: Callable[[], nn.Module], images: Tensor) -> tuple[nn.Module, dict[str, float]]:
    """The network, and its peaks in MiB; the forward pass comes first, since a peak never falls."""
    lower(images.device)
    before = high_water(images.device)
    network = place(build(), images.device)
    peaks = {}
    for part, run in zip(PARTS, (forward, training), strict=True):
        run(network, images)
        peaks[part] = (high_water(images.device) - before) / 2**20
    return network, peaks


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own finds: the memory of one network, and for medseg's the times of all.

    Args:
        job: ``model``, ``way`` and the bench's options.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(job["device"])
    images = torch.rand(job["batch"], 3, job["size"], job["size"], device=device)
    if device.type == "cuda":
        images = images.to(memory_format=torch.channels_last)
    build = builder(job["model"], job["way"], job["small"])
    # the libraries that it imports are not the network's memory
    with torch.device("cpu" if job["way"] == "medseg" else "meta"):
        builder(job["model"], job["way"], small=True)()
    network, peaks = memory(build, images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    found: dict[str, Any] = {"parameters": parameters, "memory": peaks}
    if job["way"] == "medseg":
        networks = {"medseg": network}
        if job["model"] in EQUIVALENTS and not job["small"]:
            label, other = EQUIVALENTS[job["model"]]
            networks[label] = place(other(), device)
        torch.backends.cudnn.benchmark = True
        check(job["model"], networks, images)
        found["rounds"] = [one_round(number, networks, images) for number in range(job["rounds"])]
    return found


def in_own_process(job: Mapping[str, Any]) -> dict[str, Any]:
    """The same in a fresh process.

    Raises:
        MedsegError: it failed.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(dict(job))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"ended with {done.returncode}"]
        raise MedsegError(f"{job['model']} ({job['way']}): {lines[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows(model: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per part and way."""
    job = {**options, "model": model}
    found = {"medseg": in_own_process({**job, "way": "medseg"})}
    rounds = found["medseg"]["rounds"]
    for way in list(rounds[0]["forward"])[1:]:
        found[way] = in_own_process({**job, "way": way})
    table = []
    for part in PARTS:
        for way, facts in found.items():
            ratios = [spent[part][way] / spent[part]["medseg"] for spent in rounds]
            row = {"model": model, "part": part, "way": way, "parameters": facts["parameters"]}
            row["ms"] = 1000 * statistics.median(spent[part][way] for spent in rounds)
            row |= {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
            table.append(row | {"MiB": facts["memory"][part]})
    return table


def main(command: Sequence[str] | None = None) -> None:
    """Measure, print and optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="all by default")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--small", action="store_true", help="the small versions, without other libraries'")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args(command)
    if arguments.job:
        print(json.dumps(measure(arguments.job)))
        return
    if arguments.device == "auto":
        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {name: getattr(arguments, name) for name in ("size", "batch", "rounds", "device", "small")}
    table, failed = [], []
    for model in arguments.models or MODELS.names():
        try:
            found = rows(MODELS[model].name, options)
        except MedsegError as error:
            failed.append(str(error))
            continue
        for row in found:
            spread = f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
            print(
                f"{model:14} {row['part']:8} {row['way']:29} {row['ms']:9.1f} ms {row['ratio']:6.2f} of medseg"
                f" {spread:16} {row['MiB']:8.1f} MiB",
                flush=True,
            )
        table += found
    if arguments.json:
        settings = vars(arguments) | {"json": None, "torch": torch.__version__}
        arguments.json.write_text(json.dumps({"settings": settings, "results": table}, indent=2))
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
