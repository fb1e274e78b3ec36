"""What every component promises, tested over the registries: to register a component is to have it tested."""

from __future__ import annotations

import inspect
import io
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg import losses, metrics, models
from medseg.augmentations import AUGMENTATIONS
from medseg.data.datasets import DATASETS
from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.metrics import METRICS
from medseg.models import MODELS
from medseg.registry import Entry, Registry

ROOMS = (LOSSES, METRICS, MODELS, AUGMENTATIONS, DATASETS)
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


def small(entry: Entry, in_channels: int = 3, out_channels: int = 1) -> tuple[nn.Module, int]:
    """The model, narrow where its factory allows, and the side of images to try it with."""
    torch.manual_seed(0)
    arguments: dict[str, object] = {"in_channels": in_channels, "out_channels": out_channels}
    if "widths" in inspect.signature(entry.build).parameters:
        return entry.build(**arguments, widths=(4, 8, 16)), 32
    return entry.build(**arguments), max(64, entry.facts["divisor"])


def outputs(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    result = network(images)
    return result if isinstance(result, tuple) else (result,)


def training_loss(network: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """The loss of all outputs, with the same values dropped each time."""
    torch.manual_seed(1)
    loss = losses.WeightedOutputs(losses.build("dice_bce"), weights=models.output_weights(network))
    return loss(outputs(network, images), target)


@pytest.fixture(params=MODEL_NAMES)
def entry(request: pytest.FixtureRequest) -> Entry:
    return MODELS[request.param]


def test_model_states_its_facts(entry: Entry) -> None:
    with torch.device("meta"):
        network = entry.build(in_channels=3, out_channels=1)
    assert network.divisor == entry.facts["divisor"]
    assert isinstance(network.get_submodule(entry.facts["cam_layer"]), nn.Module)
    assert entry.facts["paper"] and entry.facts["licence"]
    assert entry.facts["deep_supervision"] == (len(models.output_weights(network)) > 1)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("out_channels", [1, 3])
def test_model_gives_logits_of_the_inputs_size(entry: Entry, in_channels: int, out_channels: int) -> None:
    network, side = small(entry, in_channels, out_channels)
    logits = network.eval()(torch.randn(2, in_channels, side, 2 * side))
    assert logits.shape == (2, out_channels, side, 2 * side)
    assert logits.dtype == torch.float32 and logits.isfinite().all()
    assert logits.min() < 0 < logits.max(), "logits, not probabilities"


def test_model_in_training_gives_its_outputs_at_full_size_and_every_parameter_a_gradient(
    entry: Entry,
) -> None:
    network, side = small(entry)
    images, target = torch.randn(2, 3, side, side), torch.randint(0, 2, (2, 1, side, side))
    maps = outputs(network.train(), images)
    assert len(maps) == len(models.output_weights(network))
    assert all(logits.shape == (2, 1, side, side) for logits in maps)
    training_loss(network, images, target).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"


def test_one_step_lowers_the_loss(entry: Entry) -> None:
    network, side = small(entry)
    network.train()
    images, target = torch.randn(4, 3, side, side), torch.randint(0, 2, (4, 1, side, side))
    before = training_loss(network, images, target)
    before.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in network.parameters() if p.grad is not None))
    torch.optim.SGD(network.parameters(), lr=0.01 / norm).step()
    assert training_loss(network, images, target).item() < before.item()


def test_model_trains_on_a_batch_of_one(entry: Entry) -> None:
    network, side = small(entry)
    network.train()
    training_loss(network, torch.randn(1, 3, side, side), torch.zeros(1, 1, side, side)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_model_in_evaluation_is_deterministic_and_judges_each_image_alone(entry: Entry) -> None:
    network, side = small(entry)
    network.eval()
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        logits = network(images)
        torch.testing.assert_close(network(images), logits, rtol=0, atol=0)
        torch.testing.assert_close(network(images[1:2]), logits[1:2], rtol=1e-4, atol=1e-4)


def test_model_state_round_trip(entry: Entry) -> None:
    network, side = small(entry)
    images = torch.randn(2, 3, side, side)
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
    network, side = small(entry)
    network.eval()
    images = torch.randn(2, 3, side, side)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # torch advises torch.export
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = network(images)
        traced = torch.jit.trace(network, images)
        torch.testing.assert_close(traced(images), expected, rtol=0, atol=1e-4)
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(network), file)
        file.seek(0)
        scripted = torch.jit.load(file)
        torch.testing.assert_close(scripted(images), expected, rtol=0, atol=1e-4)
        larger = torch.randn(1, 3, side, 2 * side)
        torch.testing.assert_close(scripted(larger), network(larger), rtol=0, atol=1e-4)


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
