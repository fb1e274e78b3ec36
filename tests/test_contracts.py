"""What every component promises, tested over the registries: to register a component is to have it tested."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medseg import losses, metrics, models
from medseg.augmentations import AUGMENTATIONS
from medseg.data.datasets import DATASETS
from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.metrics import METRICS
from medseg.metrics.classification import CLASS_METRICS
from medseg.models import MODELS
from medseg.registry import Entry, Registry

ROOMS = (LOSSES, METRICS, CLASS_METRICS, MODELS, AUGMENTATIONS, DATASETS)
COMPONENTS = [pytest.param(room, name, id=f"{room.kind}-{name}") for room in ROOMS for name in room.names()]
LOSS_NAMES = LOSSES.names("segmentation")
MODEL_NAMES = MODELS.names("segmentation")
METRIC_NAMES = METRICS.names("segmentation")


def one_hot(classes: Tensor, channels: int) -> Tensor:
    """A mask of that many channels from classes ``(N, H, W)``; of one channel, where the class is not 0."""
    if channels == 1:
        return (classes > 0)[:, None].to(torch.uint8)
    return F.one_hot(classes % channels, channels).movedim(-1, 1).to(torch.uint8)


@pytest.mark.parametrize(("room", "name"), COMPONENTS)
def test_a_component_says_in_one_sentence_what_it_is(room: Registry, name: str) -> None:
    first = room[name].doc.splitlines()[0]
    assert first[0].isupper() and first.endswith("."), f"{room.kind} {name}: {first!r} is no sentence"
    assert name.islower() and name.isidentifier()


@pytest.mark.parametrize(("room", "name"), COMPONENTS)
def test_a_component_names_its_arguments(room: Registry, name: str) -> None:
    kinds = {p.kind for p in inspect.signature(room[name].build).parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


# losses


@pytest.fixture(params=[1, 2, 3], ids=lambda k: f"K{k}")
def labelled(request: pytest.FixtureRequest) -> Tensor:
    """A target with an image of every class, and one of background alone."""
    torch.manual_seed(0)
    classes = torch.randint(0, 3, (3, 8, 8))
    classes[0] = 0
    return one_hot(classes, request.param)


def confident(target: Tensor, logit: float) -> Tensor:
    return (target.float() * 2 - 1) * logit


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_is_a_finite_scalar_with_a_finite_gradient(name: str, labelled: Tensor) -> None:
    logits = torch.randn(labelled.shape, requires_grad=True)
    loss = losses.build(name)(logits, labelled)
    assert loss.shape == () and loss.dtype == torch.float32
    assert math.isfinite(loss.item()) and loss.item() > 0
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all() and (logits.grad != 0).any()
    torch.testing.assert_close(losses.build(name)(logits, labelled.float()), loss)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_of_the_right_answer_is_lower(name: str, labelled: Tensor) -> None:
    loss = losses.build(name)
    order = [loss(confident(labelled, logit), labelled).item() for logit in (9.0, 1.0, 0.0, -1.0, -9.0)]
    assert order == sorted(order) and order[0] < 0.1 * order[2] and len(set(order)) == 5


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_gradient_descent_turns_each_pixel_towards_the_truth(name: str, labelled: Tensor) -> None:
    logits = torch.zeros(labelled.shape, requires_grad=True)
    losses.build(name)(logits, labelled).backward()
    assert logits.grad is not None
    right = (logits.grad * confident(labelled, 1.0)).sum((2, 3))
    assert (right < 0).all()


@pytest.mark.parametrize("fill", [0, 1])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_is_finite_for_empty_and_full_masks(name: str, logit: float, fill: int) -> None:
    target = torch.full((2, 1, 8, 8), fill, dtype=torch.uint8)
    logits = torch.full(target.shape, logit, requires_grad=True)
    loss = losses.build(name)(logits, target)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    if confident(target, 1e4).equal(logits):
        assert loss.item() == 0


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_of_extreme_logits_of_several_channels(name: str) -> None:
    target = one_hot(torch.arange(3).expand(2, 3, 3), 3)
    for sign in (1e4, -1e4):
        logits = confident(target, sign).requires_grad_()
        loss = losses.build(name)(logits, target)
        loss.backward()
        assert math.isfinite(loss.item())
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
    assert losses.build(name)(confident(target, 1e4), target).item() == 0


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_gradient_by_finite_differences(name: str, labelled: Tensor) -> None:
    target = labelled[:2, :, :3, :3]
    logits = (torch.randn(target.shape, dtype=torch.float64) * 2).requires_grad_()
    loss = losses.build(name)
    assert loss(logits, target).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_computes_in_float32(name: str, dtype: torch.dtype, labelled: Tensor) -> None:
    big = labelled.repeat(1, 1, 32, 32)
    logits = (torch.randn(big.shape) * 4).to(dtype).requires_grad_()
    loss = losses.build(name)
    exact = loss(logits.double(), big).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, big)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-6)
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_takes_several_outputs_through_monai(name: str, labelled: Tensor) -> None:
    outputs = tuple(torch.randn(labelled.shape) for _ in range(3))
    loss = losses.build(name)
    wrapped = losses.WeightedOutputs(loss, weights=[1.0, 0.5, 2.0])
    expected = loss(outputs[0], labelled) + 0.5 * loss(outputs[1], labelled) + 2 * loss(outputs[2], labelled)
    torch.testing.assert_close(wrapped(outputs, labelled), expected)
    torch.testing.assert_close(wrapped(outputs[0], labelled), loss(outputs[0], labelled))


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_refuses_a_target_of_another_shape(name: str) -> None:
    with pytest.raises(MedsegError, match=r"got \(2, 1, 4, 4\) and \(2, 4, 4\)"):
        losses.build(name)(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


# metrics


def case_masks() -> tuple[Tensor, Tensor]:
    """Prediction and reference: right, wrong, both empty, a false alarm, a miss, and one by chance."""
    torch.manual_seed(0)
    lesion = torch.zeros(16, 16, dtype=torch.bool)
    lesion[4:9, 5:12] = True
    nothing, chance = torch.zeros_like(lesion), torch.rand(16, 16) > 0.5
    prediction = torch.stack((lesion, ~lesion, nothing, lesion, nothing, chance))
    target = torch.stack((lesion, lesion, nothing, nothing, lesion, lesion))
    return prediction[:, None], target[:, None]


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_metric_states_its_facts(name: str) -> None:
    facts = METRICS[name].facts
    assert facts["better"] in ("higher", "lower")
    assert facts["unit"] in ("", "px")
    assert facts["needs"] in ("counts", "masks")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", METRIC_NAMES)
def test_metric_gives_one_value_per_case_within_its_range(name: str, channels: int) -> None:
    prediction, target = (one_hot(mask[:, 0].long(), channels) for mask in case_masks())
    values = metrics.per_case(prediction, target, [name])[name]
    best, worst = (1, 0) if METRICS[name].facts["better"] == "higher" else (0, math.hypot(16, 16))
    assert values.shape == (6,) and values.dtype == np.float64
    assert np.isfinite(values).all()
    assert values.min() >= min(best, worst) and values.max() <= max(best, worst)
    assert values[0] == best and values[2] == best


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_metric_of_the_right_answer_is_best(name: str) -> None:
    value = metrics.per_case(*case_masks(), [name])[name]
    sign = 1 if METRICS[name].facts["better"] == "higher" else -1
    assert (sign * value[0] >= sign * value).all() and sign * value[0] > sign * value[1]


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_metric_of_a_case_does_not_depend_on_the_others(name: str) -> None:
    prediction, target = case_masks()
    together = metrics.per_case(prediction, target, [name])[name]
    alone = [
        metrics.per_case(p[None], t[None], [name])[name][0] for p, t in zip(prediction, target, strict=True)
    ]
    np.testing.assert_array_equal(together, alone)


# models


def fitting(side: int, divisor: int) -> int:
    """The next size that a model takes."""
    return -(-side // divisor) * divisor


@functools.cache
def prototype(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """The small version of a model; tests work on copies, which are made quicker than networks."""
    torch.manual_seed(0)
    arguments = {"in_channels": in_channels, "out_channels": out_channels, **MODELS[name].facts["small"]}
    return MODELS[name].build(**arguments)


def small(entry: Entry, in_channels: int = 3, out_channels: int = 1) -> tuple[nn.Module, int]:
    """The small version of a model as it starts, and the side of images to try it with."""
    network = copy.deepcopy(prototype(entry.name, in_channels, out_channels))
    torch.manual_seed(0)
    return network, fitting(33, network.divisor)


@functools.cache
def experienced(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """The small version with the running statistics of a batch, without which logits of many blocks explode.

    One whose published start gives zeros has drawn weights in their place.
    """
    network, side = small(MODELS[name], in_channels, out_channels)
    if MODELS[name].facts.get("starts_at_zero"):
        for parameter in network.parameters():
            if parameter.requires_grad and parameter.dim() > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics become those of the one batch
    with torch.no_grad():
        network.train()(torch.randn(4, in_channels, side, side))
    return network.eval()


def trained(entry: Entry, in_channels: int = 3, out_channels: int = 1) -> tuple[nn.Module, int]:
    """The small version of a model for evaluation, and the side of images to try it with."""
    network = copy.deepcopy(experienced(entry.name, in_channels, out_channels))
    torch.manual_seed(0)
    return network, fitting(33, network.divisor)


def exact(network: nn.Module, images: Tensor) -> Tensor:
    """The logits in double precision."""
    with torch.no_grad():
        return copy.deepcopy(network).double()(images.double())


@functools.cache
def published(name: str) -> nn.Module:
    """A model with its default arguments, for colour images and one class, without memory for its weights."""
    with torch.device("meta"):
        return MODELS[name].build(in_channels=3, out_channels=1).eval()


def outputs(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    result = network(images)
    return result if isinstance(result, tuple) else (result,)


def training_loss(network: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """The loss of all outputs, with the same values dropped each time."""
    torch.manual_seed(1)
    loss = losses.WeightedOutputs(losses.build("dice_bce"), weights=models.output_weights(network))
    return loss(outputs(network, images), target)


def check_gradients(network: nn.Module, doc: str) -> None:
    """Every parameter has a finite gradient; one that never learns is known to the docstring."""
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            assert "frozen" in doc, f"{name} does not learn, and the docstring does not say so"
            continue
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Without torch's advice to leave TorchScript, and its notes on what a trace fixes or does not fold."""
    with warnings.catch_warnings(), torch.no_grad():
        for category in (FutureWarning, DeprecationWarning):
            message = r".*(torch\.jit|TorchScript|torch\.export|The feature will be removed)"
            warnings.filterwarnings("ignore", message, category)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        yield


@pytest.fixture(params=MODEL_NAMES)
def entry(request: pytest.FixtureRequest) -> Entry:
    return MODELS[request.param]


def test_listing_the_models_imports_no_library_of_backbones() -> None:
    code = (
        "import sys; from medseg.models import MODELS; assert MODELS.names();"
        "print(*{'timm', 'torchvision', 'segmentation_models_pytorch', 'monai'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_model_states_its_facts(entry: Entry) -> None:
    facts = entry.facts
    assert json.loads(json.dumps(facts)), "facts are plain values"
    assert set(facts) >= {"cam_layer", "small", "parameters", "macs"}
    assert all(isinstance(facts[name], bool) for name in ("deep_supervision", "scriptable"))
    assert facts["paper"].startswith(("arXiv:", "doi:", "none")) and facts["licence"]
    network = published(entry.name)
    assert network.divisor == facts["divisor"]
    assert facts["deep_supervision"] == (models.output_weights(network) != {(0,): 1.0})


def test_model_has_the_size_and_work_that_it_states(entry: Entry) -> None:
    network = published(entry.name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    assert sum(p.numel() for p in network.parameters()) == entry.facts["parameters"]
    assert counter.get_total_flops() / 2 == pytest.approx(entry.facts["macs"], rel=0.01)


def test_model_agrees_with_the_authors_or_says_why_not(entry: Entry) -> None:
    facts = entry.facts
    if facts["paper"].startswith("none"):
        pytest.skip("there is no published network to agree with")
    same = {
        "parameters": facts["parameters"] == pytest.approx(facts["published_parameters"], rel=0.005),
        "macs": facts["macs"] == pytest.approx(facts["published_macs"], rel=0.01),
    }
    if "deviates" in facts:
        assert not all(same.values()), "it agrees, and need not say why not"
    else:
        assert all(same.values()), f"{same}; a fact 'deviates' says why, where there is a reason"


def test_pretrained_weights_are_known_to_their_library(entry: Entry) -> None:
    takes = "pretrained" in inspect.signature(entry.build).parameters
    names = entry.facts.get("pretrained", ())
    assert bool(names) == takes
    assert "backbone" in entry.facts or not names
    for name in names:
        backbone, _, tag = name.partition(".")
        if name.startswith("mit_"):
            encoders = pytest.importorskip("segmentation_models_pytorch").encoders.encoders
            assert tag in encoders[backbone]["pretrained_settings"]
        else:
            known = pytest.importorskip("timm").get_pretrained_cfg(name)
            assert known is not None and known.has_weights and known.tag == tag


def test_stages_of_a_backbone_are_all_its_parts(entry: Entry) -> None:
    network, _ = small(entry)
    backbones = [m for m in network.modules() if isinstance(getattr(m, "stages", None), tuple)]
    assert bool(backbones) == bool(entry.facts.get("pretrained"))
    for backbone in backbones:
        parts = [part for stage in backbone.stages for part in stage]
        assert len(set(parts)) == len(parts) and all(backbone.stages)
        for name, _ in backbone.named_parameters():
            assert sum(name.startswith(f"{part}.") for part in parts) == 1, f"{name} is in no stage, or two"


def test_cam_layer_gives_maps_that_the_logits_depend_on(entry: Entry) -> None:
    network, side = trained(entry)
    maps: list[Tensor] = []
    network.get_submodule(entry.facts["cam_layer"]).register_forward_hook(lambda *call: maps.append(call[2]))
    logits = network(torch.randn(2, 3, side, side))
    assert maps[-1].dim() == 4 and len(maps[-1]) == 2 and min(maps[-1].shape[2:]) > 1
    (gradient,) = torch.autograd.grad(logits.sum(), maps[-1])
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 3), (3, 1)])
def test_model_gives_logits_of_the_inputs_size(entry: Entry, in_channels: int, out_channels: int) -> None:
    network, _ = trained(entry, in_channels, out_channels)
    height, width = fitting(51, network.divisor), fitting(70, network.divisor)
    with torch.no_grad():
        logits = network(torch.randn(2, in_channels, height, width))
    assert logits.shape == (2, out_channels, height, width)
    assert logits.dtype == torch.float32 and logits.isfinite().all()
    # a single channel may well have the same sign everywhere before training
    assert out_channels == 1 or logits.min() < 0 < logits.max(), "logits, not probabilities"


def test_model_starts_at_zero_where_it_says_so(entry: Entry) -> None:
    network, side = small(entry)
    with torch.no_grad():
        logits = network.eval()(torch.randn(1, 3, side, side))
    assert bool(logits.any()) != entry.facts.get("starts_at_zero", False)


def test_model_in_training_gives_its_outputs_at_full_size_and_every_parameter_a_gradient(
    entry: Entry,
) -> None:
    network, side = small(entry)
    images, target = torch.randn(2, 3, side, side), torch.randint(0, 2, (2, 1, side, side))
    maps = outputs(network.train(), images)
    used = {index for indices in models.output_weights(network) for index in indices}
    assert used == set(range(len(maps)))
    assert all(logits.shape == (2, 1, side, side) for logits in maps)
    training_loss(network, images, target).backward()
    check_gradients(network, entry.doc)


def test_one_step_lowers_the_loss(entry: Entry) -> None:
    network, side = small(entry)
    network.train()
    images, target = torch.randn(4, 3, side, side), torch.randint(0, 2, (4, 1, side, side))
    before = training_loss(network, images, target)
    before.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in network.parameters() if p.grad is not None))
    torch.optim.SGD(network.parameters(), lr=0.001 / norm).step()
    assert training_loss(network, images, target).item() < before.item()


def test_model_trains_on_a_batch_of_one_unless_it_says_otherwise(entry: Entry) -> None:
    network, side = small(entry)
    network.train()
    image, target = torch.randn(1, 3, side, side), torch.zeros(1, 1, side, side)
    if entry.facts.get("batch_of_one", True):
        training_loss(network, image, target).backward()
        check_gradients(network, entry.doc)
    else:
        with pytest.raises((ValueError, MedsegError), match="more than 1 value per channel|batch of one"):
            network(image)


def test_model_in_evaluation_is_deterministic_and_judges_each_image_alone(entry: Entry) -> None:
    network, side = trained(entry)
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(network(images), network(images), rtol=0, atol=0)
    torch.testing.assert_close(exact(network, images[1:2]), exact(network, images)[1:2], rtol=1e-6, atol=1e-6)


def test_model_state_round_trip(entry: Entry) -> None:
    network, side = trained(entry)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        network.train()(images)  # moves the running statistics
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other, _ = small(entry)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other.load_state_dict(torch.load(file, weights_only=True))
        torch.testing.assert_close(other.eval()(images), network.eval()(images), rtol=0, atol=0)


def test_model_in_torchscript(entry: Entry) -> None:
    network, side = trained(entry)
    images = torch.randn(2, 3, side, side)
    scriptable, file = entry.facts["scriptable"], io.BytesIO()
    # torch's optimiser needs seconds for a large graph
    with exporting(), torch.jit.optimized_execution(False):
        torch.jit.save(torch.jit.script(network) if scriptable else torch.jit.trace(network, images), file)
        file.seek(0)
        loaded = torch.jit.load(file)
        torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=1e-4)
        if scriptable:
            larger = torch.randn(1, 3, side, side + network.divisor)
            torch.testing.assert_close(loaded(larger), network(larger), rtol=0, atol=1e-4)


def test_model_in_onnx(entry: Entry) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    network, side = trained(entry)
    images, file = torch.randn(3, 3, side, side), io.BytesIO()
    # torch 2.4 has this exporter alone, and no word for it
    plain = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with exporting():
        torch.onnx.export(
            network,
            (images[:2],),
            file,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            do_constant_folding=False,  # onnxruntime does it too, and quicker
            **plain,
        )
        expected = network(images)
    truth = exact(network, images)
    # deep networks magnify the rounding of float32, torch's as well as that of others
    rounding = (expected - truth).abs().max().item()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads that wait would take the cores of other tests
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (logits,) = session.run(["logits"], {"images": images[:batch].numpy()})
        same = truth[:batch].float()
        torch.testing.assert_close(torch.from_numpy(logits), same, rtol=0, atol=1e-4 + 4 * rounding)


def test_model_says_which_sizes_it_takes(entry: Entry) -> None:
    network, _ = small(entry)
    if network.divisor > 1:
        side = 2 * network.divisor + 1
        low, high = 2 * network.divisor, 3 * network.divisor
        message = (
            f"{entry.name} needs sides divisible by {network.divisor}; got {side}x{side}; "
            f"the nearest are {low}x{low} and {high}x{high}"
        )
        with pytest.raises(MedsegError, match=message):
            network(torch.randn(1, 3, side, side))
