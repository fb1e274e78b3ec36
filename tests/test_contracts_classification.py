"""What every component for classification promises, tested over the registries as those for segmentation are."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import json
import math
import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medseg import losses, models
from medseg.errors import MedsegError
from medseg.losses import LOSSES
from medseg.models import MODELS
from medseg.registry import Entry

# losses

LOSS_NAMES = LOSSES.names("classification")


def loss_of(name: str, classes: int) -> nn.Module:
    """A loss with its default arguments, for classes of unequal frequency."""
    return losses.build_for(name, {}, range(2, 2 + classes))


def confident(target: Tensor, logit: float) -> Tensor:
    return (target.float() * 2 - 1) * logit


@pytest.fixture(params=[2, 3, 7], ids=lambda k: f"K{k}")
def hard(request: pytest.FixtureRequest) -> Tensor:
    """One-hot rows ``(8, K)``, with an image of every class."""
    return F.one_hot(torch.arange(8) % request.param, request.param).to(torch.uint8)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_states_its_facts(name: str) -> None:
    facts = LOSSES[name].facts
    assert facts["activation"] in ("softmax", "sigmoid") and facts.get("needs") in (None, "counts")
    assert isinstance(facts["multilabel"], bool) and isinstance(facts["soft"], bool)
    # a softmax cannot say that two findings are there, or none
    assert facts["multilabel"] == (facts["activation"] == "sigmoid")
    assert facts["paper"].startswith(("arXiv:", "10."))


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_is_a_finite_scalar_with_a_finite_gradient(name: str, hard: Tensor) -> None:
    torch.manual_seed(0)
    logits = torch.randn(hard.shape, requires_grad=True)
    loss = loss_of(name, hard.shape[1])(logits, hard)
    assert loss.shape == () and loss.dtype == torch.float32
    assert math.isfinite(loss.item()) and loss.item() > 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all() and (gradient != 0).any()
    torch.testing.assert_close(loss_of(name, hard.shape[1])(logits, hard.float()), loss)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_of_the_right_class_is_lower(name: str, hard: Tensor) -> None:
    loss = loss_of(name, hard.shape[1])
    order = [loss(confident(hard, logit), hard).item() for logit in (2.0, 1.0, 0.0, -1.0, -9.0)]
    assert order == sorted(order) and len(set(order)) == 5


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_gradient_descent_turns_each_image_towards_its_class(name: str, hard: Tensor) -> None:
    logits = torch.zeros(hard.shape, requires_grad=True)
    loss_of(name, hard.shape[1])(logits, hard).backward()
    assert logits.grad is not None
    assert (logits.grad[hard == 1] < 0).all() and (logits.grad[hard == 0] > 0).all()


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_of_extreme_logits(name: str, hard: Tensor) -> None:
    loss = loss_of(name, hard.shape[1])
    for sign in (1e4, -1e4):
        logits = confident(hard, sign).requires_grad_()
        value = loss(logits, hard)
        value.backward()
        assert math.isfinite(value.item())
        assert logits.grad is not None and logits.grad.isfinite().all()
    right = loss(confident(hard, 1e4), hard).item()
    assert right > 0 if name.startswith("smoothed") else right == 0


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_gradient_by_finite_differences(name: str, hard: Tensor) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(hard.shape, dtype=torch.float64) * 2).requires_grad_()
    loss = loss_of(name, hard.shape[1])
    targets = [hard]
    if LOSSES[name].facts["soft"]:
        targets.append(torch.rand(hard.shape, dtype=torch.float64).softmax(1))
    for target in targets:
        assert loss(logits, target).dtype == torch.float64
        assert torch.autograd.gradcheck(lambda x, y=target: loss(x, y), logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_computes_in_float32(name: str, dtype: torch.dtype, hard: Tensor) -> None:
    big = hard.repeat(512, 1)
    logits = (torch.randn(big.shape) * 4).to(dtype).requires_grad_()
    loss = loss_of(name, hard.shape[1])
    exact = loss(logits.double(), big).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, big)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_treats_all_images_and_classes_alike(name: str, hard: Tensor) -> None:
    torch.manual_seed(0)
    classes = hard.shape[1]
    logits, counts = torch.randn(hard.shape, dtype=torch.float64), list(range(2, 2 + classes))
    images, order = torch.randperm(len(hard)), torch.randperm(classes)
    expected = losses.build_for(name, {}, counts)(logits, hard)
    turned = losses.build_for(name, {}, [counts[k] for k in order])
    torch.testing.assert_close(turned(logits[images][:, order], hard[images][:, order]), expected)


@pytest.mark.parametrize("name", [n for n in LOSS_NAMES if LOSSES[n].facts["soft"]])
def test_loss_is_linear_in_its_target(name: str, hard: Tensor) -> None:
    torch.manual_seed(0)
    logits, other = torch.randn(hard.shape, dtype=torch.float64), hard.roll(1, 0)
    loss = loss_of(name, hard.shape[1])
    mixed = loss(logits, 0.3 * hard.double() + 0.7 * other.double())
    torch.testing.assert_close(mixed, 0.3 * loss(logits, hard) + 0.7 * loss(logits, other))


@pytest.mark.parametrize("name", [n for n in LOSS_NAMES if LOSSES[n].facts["multilabel"]])
def test_loss_of_several_findings_and_of_none(name: str) -> None:
    target = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 1]], dtype=torch.uint8)
    loss = loss_of(name, 3)
    logits = torch.zeros(3, 3, requires_grad=True)
    loss(logits, target).backward()
    assert logits.grad is not None and (logits.grad.sign() == -confident(target, 1.0)).all()
    assert loss(confident(target, 1e4), target).item() == 0


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_takes_the_one_output_of_a_classifier(name: str, hard: Tensor) -> None:
    logits, loss = torch.randn(hard.shape), loss_of(name, hard.shape[1])
    torch.testing.assert_close(losses.WeightedOutputs(loss)(logits, hard), loss(logits, hard))


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_loss_refuses_targets_of_another_shape(name: str) -> None:
    loss = loss_of(name, 3)
    for shape in ((2,), (2, 2), (3, 3), (2, 3, 1, 1)):
        logits = torch.zeros(2, 3, 1, 1) if len(shape) == 4 else torch.zeros(2, 3)
        with pytest.raises(MedsegError, match=rf"{name}.* of the same shape \(N, K\); got \(2, 3"):
            loss(logits, torch.zeros(shape))


# models

MODEL_NAMES = MODELS.names("classification")
SIDE = 64


@functools.cache
def prototype(name: str, in_channels: int, out_channels: int, stem: str) -> nn.Module:
    """The small version of a model; tests work on copies."""
    torch.manual_seed(0)
    arguments = {"in_channels": in_channels, "out_channels": out_channels, **MODELS[name].facts["small"]}
    return MODELS[name].build(stem=stem, **arguments)


def small(entry: Entry, in_channels: int = 3, out_channels: int = 2, stem: str = "standard") -> nn.Module:
    """The small version of a model as it starts."""
    network = copy.deepcopy(prototype(entry.name, in_channels, out_channels, stem))
    torch.manual_seed(0)
    return network


def trained(entry: Entry, in_channels: int = 3, out_channels: int = 2, stem: str = "standard") -> nn.Module:
    """The small version for evaluation, with the running statistics of a batch."""
    network = small(entry, in_channels, out_channels, stem)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics become those of the one batch
    with torch.no_grad():
        network.train()(torch.randn(4, in_channels, SIDE, SIDE))
    return network.eval()


@functools.cache
def published(name: str, out_channels: int = 2) -> nn.Module:
    """A model with its default arguments, for colour images, without memory for its weights."""
    with torch.device("meta"):
        return models.build(name, in_channels=3, out_channels=out_channels).eval()


def work(network: nn.Module) -> tuple[int, float]:
    """Parameters, and multiply-accumulates for one colour image of 224 x 224."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() / 2


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Without torch's advice to leave TorchScript, and its notes on what a trace fixes."""
    with warnings.catch_warnings(), torch.no_grad():
        for category in (FutureWarning, DeprecationWarning):
            message = r".*(torch\.jit|TorchScript|torch\.export|The feature will be removed)"
            warnings.filterwarnings("ignore", message, category)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        yield


@pytest.fixture(params=MODEL_NAMES)
def model(request: pytest.FixtureRequest) -> Entry:
    return MODELS[request.param]


def test_model_states_its_facts(model: Entry) -> None:
    facts = model.facts
    assert json.loads(json.dumps(facts)), "facts are plain values"
    assert facts["scriptable"] is True and facts["deep_supervision"] is False
    assert facts["paper"].startswith("arXiv:") and facts["licence"] and facts["backbone"]
    network = published(model.name)
    assert network.divisor == facts["divisor"] == 1 and network.least_side == 32
    assert models.output_weights(network) == {(0,): 1.0}


def test_model_has_the_size_and_work_that_it_states(model: Entry) -> None:
    parameters, macs = work(published(model.name))
    assert parameters == model.facts["parameters"]
    assert macs == pytest.approx(model.facts["macs"], rel=0.01)
    parameters, macs = work(published(model.name, out_channels=1000))
    assert parameters == model.facts["published_parameters"]
    assert macs == pytest.approx(model.facts["published_macs"], rel=0.01)


def test_pretrained_weights_are_known_to_timm(model: Entry) -> None:
    (name,) = model.facts["pretrained"]
    known = pytest.importorskip("timm").get_pretrained_cfg(name)
    assert known is not None and known.has_weights and known.tag == name.partition(".")[2]
    assert "pretrained" in inspect.signature(model.build).parameters


@pytest.mark.parametrize("stem", ["standard", "small"])
def test_stages_of_a_backbone_are_all_its_parts(model: Entry, stem: str) -> None:
    network = small(model, stem=stem)
    (backbone,) = [m for m in network.modules() if isinstance(getattr(m, "stages", None), tuple)]
    parts = [part for stage in backbone.stages for part in stage]
    assert len(backbone.stages) >= 5 and len(set(parts)) == len(parts) and all(backbone.stages)
    for name, _ in backbone.named_parameters():
        assert sum(name.startswith(f"{part}.") for part in parts) == 1, f"{name} is in no stage, or two"
    rest = {id(p) for p in network.parameters()} - {id(p) for p in backbone.parameters()}
    assert rest == {id(network.head.weight), id(network.head.bias)}, "the head alone is no backbone"


def test_stages_stand_in_the_order_of_the_forward_pass(model: Entry) -> None:
    network, seen = small(model).eval(), []
    for number, stage in enumerate(network.backbone.stages):
        for part in stage:
            network.backbone.get_submodule(part).register_forward_hook(
                lambda *_, number=number: seen.append(number)
            )
    network(torch.randn(1, 3, SIDE, SIDE))
    assert seen == sorted(seen) and set(seen) == set(range(len(network.backbone.stages)))


@pytest.mark.parametrize("stem", ["standard", "small"])
def test_cam_layer_gives_maps_that_the_logits_depend_on(model: Entry, stem: str) -> None:
    network, maps = trained(model, stem=stem), []
    network.get_submodule(model.facts["cam_layer"]).register_forward_hook(lambda *call: maps.append(call[2]))
    logits = network(torch.randn(2, 3, SIDE, SIDE))
    assert maps[-1].dim() == 4 and len(maps[-1]) == 2 and min(maps[-1].shape[2:]) > 1
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), maps[-1])
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("stem", ["standard", "small"])
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 2), (3, 5), (2, 3)])
def test_model_gives_logits_for_every_size_from_32_on(
    model: Entry, in_channels: int, out_channels: int, stem: str
) -> None:
    network = trained(model, in_channels, out_channels, stem)
    for height, width in ((32, 32), (50, 50), (64, 33), (113, 96)):
        with torch.no_grad():
            logits = network(torch.randn(2, in_channels, height, width))
        assert logits.shape == (2, out_channels)
        assert logits.dtype == torch.float32 and logits.isfinite().all()


def test_model_says_from_which_size_on_it_works(model: Entry) -> None:
    with pytest.raises(MedsegError, match=f"{model.name} needs sides of 32 pixels and more; got 50x31"):
        small(model)(torch.randn(2, 3, 50, 31))


def test_model_gives_logits_and_no_probabilities(model: Entry) -> None:
    network = trained(model, out_channels=4)
    with torch.no_grad():
        network.head.weight.mul_(100)
        logits = network(torch.randn(4, 3, SIDE, SIDE))
    assert logits.min() < 0 and logits.max() > 1


@pytest.mark.parametrize("stem", ["standard", "small"])
def test_every_parameter_has_a_gradient(model: Entry, stem: str) -> None:
    network = small(model, stem=stem).train()
    F.cross_entropy(network(torch.randn(4, 3, SIDE, SIDE)), torch.tensor([0, 1, 0, 1])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"


def test_one_step_lowers_the_loss(model: Entry) -> None:
    network = small(model).train()
    images, classes = torch.randn(4, 3, SIDE, SIDE), torch.tensor([0, 1, 0, 1])

    def loss() -> Tensor:
        torch.manual_seed(1)  # the same values are dropped each time
        return F.cross_entropy(network(images), classes)

    before = loss()
    before.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in network.parameters() if p.grad is not None))
    torch.optim.SGD(network.parameters(), lr=0.001 / norm).step()
    assert loss().item() < before.item()


def test_model_in_evaluation_is_deterministic_and_judges_each_image_alone(model: Entry) -> None:
    network, images = trained(model), torch.randn(3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(network(images), network(images), rtol=0, atol=0)
        precise = copy.deepcopy(network).double()
        torch.testing.assert_close(
            precise(images[1:2].double()), precise(images.double())[1:2], rtol=1e-6, atol=1e-6
        )


def test_seed_decides_how_a_model_begins(model: Entry) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = models.build(model.name, model.facts["small"], in_channels=1, out_channels=2)
        states.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize("stem", ["standard", "small"])
def test_model_state_round_trip(model: Entry, stem: str) -> None:
    network, images, file = trained(model, stem=stem), torch.randn(2, 3, SIDE, SIDE), io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = small(model, stem=stem)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other.load_state_dict(torch.load(file, weights_only=True))
        torch.testing.assert_close(other.eval()(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("stem", ["standard", "small"])
def test_model_in_torchscript(model: Entry, stem: str) -> None:
    network, images, file = trained(model, stem=stem), torch.randn(2, 3, 50, 50), io.BytesIO()
    larger = torch.randn(1, 3, SIDE, 96)
    with exporting(), torch.jit.optimized_execution(False):
        torch.jit.save(torch.jit.script(network), file)
        file.seek(0)
        loaded = torch.jit.load(file)
        for one in (images, larger):
            torch.testing.assert_close(loaded(one), network(one), rtol=0, atol=1e-4)


@pytest.mark.parametrize("stem", ["standard", "small"])
def test_model_in_onnx(model: Entry, stem: str) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    network, images, file = trained(model, stem=stem), torch.randn(3, 3, 50, 50), io.BytesIO()
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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (logits,) = session.run(["logits"], {"images": images[:batch].numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), expected[:batch], rtol=1e-4, atol=1e-4)


def test_frozen_stages_do_not_learn(model: Entry) -> None:
    network = models.build(
        model.name, model.facts["small"], in_channels=3, out_channels=2, frozen_stages=2
    ).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    F.cross_entropy(network(torch.randn(4, 3, SIDE, SIDE)), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()
    still = tuple(f"backbone.{part}." for stage in network.backbone.stages[:2] for part in stage)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(still) for name in moved) and "head.weight" in moved
    assert any(name.startswith("backbone.") for name in moved)
