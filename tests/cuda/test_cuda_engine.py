"""Training on the GPU: layout, precision, optimiser, resident data, no waiting within a step, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ignite.engine import Events
from torch import nn

from medseg.bundle.choice import Choice
from medseg.bundle.compose import Settings, compose
from medseg.bundle.open import Bundle
from medseg.data.prepared import loader, prepare
from medseg.engine import workflow
from medseg.engine.device import amp_dtype, place, prepare_batch
from medseg.engine.handlers import Curves
from medseg.engine.record import read_run
from medseg.engine.workflow import Options
from medseg.losses import WeightedOutputs
from medseg.losses import build as build_loss
from medseg.models import MODELS as MODEL_ROOM
from medseg.models import build as build_model
from medseg.models import output_weights

pytestmark = pytest.mark.cuda

MODELS = tuple(MODEL_ROOM.names("segmentation"))
WIDTHS = {"widths": [8, 16, 32]}


def small(name: str) -> dict[str, Any]:
    """Arguments of a model's small version; the U-Nets' is wide enough to learn something."""
    return WIDTHS if name in ("unet", "unetplusplus") else MODEL_ROOM[name].facts["small"]


def network(name: str) -> nn.Module:
    return build_model(name, small(name), in_channels=1, out_channels=1)


@pytest.fixture
def bundle(workspace: Path) -> Bundle:
    """U-Net on the discs, with the training that each test needs given by overrides."""
    settings = Settings(
        image_size=(32, 32), epochs=8, learning_rate=1e-2, patience=40, model_arguments=WIDTHS
    )
    return compose(Choice("discs", "unet", "dice_bce"), Path("bundles"), settings, prepared=Path("prepared"))


def options(device: torch.device, **overrides: Any) -> Options:
    return Options(tracking_uri="", progress=False, device=str(device), overrides=overrides)


def opened(bundle: Bundle, device: torch.device, **overrides: Any) -> Any:
    """The training config of a bundle, instantiated: a function from a key to what stands there."""
    from monai.bundle import ConfigWorkflow

    config = options(device, **overrides).as_config(bundle)
    flow = ConfigWorkflow([str(bundle.config("train"))], workflow_type="train", logging_file=False, **config)
    flow.initialize()
    return flow.parser.get_parsed_content


# layout and precision


def test_weights_and_activations_are_channels_last(device: torch.device) -> None:
    unet = place(network("unet"), device)
    weights = [
        layer.weight for layer in unet.modules() if isinstance(layer, nn.Conv2d) and layer.in_channels > 1
    ]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    batch = {"image": torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "label": torch.zeros(2, 1, 32, 32)}
    image, _ = prepare_batch(batch, device)
    assert image.device.type == device.type
    assert image.is_contiguous(memory_format=torch.channels_last)
    features = unet.encoder[0](image[:, :1].to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_is_scaled_as_on_the_cpu(device: torch.device) -> None:
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    batch = {"image": image, "label": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)}
    on_gpu, on_cpu = prepare_batch(batch, device)[0], prepare_batch(batch, torch.device("cpu"))[0]
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_cpu(name: str, device: torch.device) -> None:
    model, image = network(name).eval(), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = model(image)
        on_gpu = place(model, device)(image.to(device, memory_format=torch.channels_last)).cpu()
    # before training the logits of a network of many blocks may be millions
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(on_gpu, expected, rtol=1e-3, atol=1e-4 * scale)


def test_bfloat16_is_chosen_where_the_gpu_has_it() -> None:
    has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    assert amp_dtype() == (torch.bfloat16 if has_it else torch.float16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_stays_finite_and_learns(name: str, dtype: torch.dtype, device: torch.device) -> None:
    model = place(network(name), device)
    loss = WeightedOutputs(build_loss("dice_bce"), output_weights(model))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16, init_scale=256.0)
    # squares, which networks with a coarse last map can draw too
    image = torch.rand(8, 1, 2, 2, device=device).repeat_interleave(32, 2).repeat_interleave(32, 3)
    label = (image > 0.6).to(torch.uint8)
    losses = []
    for _ in range(40):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=dtype):
            value = loss(model(image), label)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(value.detach())
    values = torch.stack(losses)
    assert values.isfinite().all()
    assert values[-5:].mean() < 0.9 * values[:5].mean()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


# data


def test_a_resident_part_gives_the_same_batches(workspace: Path, device: torch.device) -> None:
    part = prepare("discs", None, "prepared", image_size=32).part("training")
    resident = part.resident(device)
    assert resident.device.type == device.type
    batches = [list(loader(p, 4, shuffle=True, seed=1, pin_memory=True)) for p in (part, resident)]
    assert len(batches[0]) == len(batches[1]) > 1
    for host, gpu in zip(*batches, strict=True):
        assert host["image"].is_pinned() and gpu["image"].device.type == device.type
        assert all(torch.equal(host[key], gpu[key].cpu()) for key in host)


def test_a_part_that_does_not_fit_stays_on_the_host(
    workspace: Path, device: torch.device, monkeypatch
) -> None:
    part = prepare("discs", None, "prepared", image_size=32).part("training")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 10**9))
    assert part.resident(device) is part


# nothing waits for the GPU


def test_taking_a_resident_batch_does_not_wait_for_the_gpu(workspace: Path, device: torch.device) -> None:
    part = prepare("discs", None, "prepared", image_size=32).part("training").resident(device)
    part[[0, 3, 1]]
    torch.cuda.set_sync_debug_mode("error")
    batch = part[[2, 4, 1]]
    torch.cuda.set_sync_debug_mode("default")
    assert batch["image"].shape == (3, 1, 32, 32)


@pytest.mark.parametrize("model", MODELS)
def test_a_training_step_does_not_wait_for_the_gpu(workspace: Path, device: torch.device, model: str) -> None:
    settings = Settings(image_size=(64, 64), epochs=2, batch_size=4, model_arguments=small(model))
    choice = Choice("discs", model, "dice_bce")
    get = opened(compose(choice, Path("bundles"), settings, prepared=Path("prepared")), device)
    trainer, evaluator = get("train::trainer"), get("validate::evaluator")
    steps = []
    for engine in (trainer, evaluator):
        # first and last of the handlers: in the second epoch nothing between them may wait
        engine.add_event_handler(Events.ITERATION_STARTED, lambda e: _forbid(trainer.state.epoch == 2))
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: (_forbid(False), steps.append(e)))
    trainer.run()
    assert steps.count(trainer) == 2 * len(get("train::dataloader"))
    assert steps.count(evaluator) == 2 * len(get("validate::dataloader"))


def _forbid(waiting: bool) -> None:
    torch.cuda.set_sync_debug_mode("error" if waiting else "default")


# whole runs


def test_the_bundle_trains_with_fused_adam_in_mixed_precision_on_resident_data(
    bundle: Bundle, device
) -> None:
    get = opened(bundle, device, epochs=1)
    trainer, optimizer = get("train::trainer"), get("optimizer")
    kinds = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: kinds.append(e.state.output["pred"].dtype)
    )
    trainer.run()
    assert optimizer.defaults["fused"] is True
    assert all(state["exp_avg"].device.type == device.type for state in optimizer.state.values())
    assert {*kinds} == {amp_dtype()}
    assert get("train::dataset").device.type == device.type


@pytest.mark.parametrize("amp", [True, False])
def test_a_bundle_trains_end_to_end(bundle: Bundle, device: torch.device, amp: bool) -> None:
    folder = workflow.run(bundle, options(device, amp=amp))
    record, curves = read_run(folder), pd.read_csv(folder / "curves.csv")
    assert record["status"] == "done"
    assert record["tags"]["device"] == torch.cuda.get_device_name(device)
    assert curves["train_loss"].iloc[-1] < 0.8 * curves["train_loss"].iloc[0]
    assert record["test"]["dice"] > 0.6  # a disc on noise, after 8 epochs
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert all(weight.device.type == "cpu" for weight in weights.values())
    again = workflow.evaluate(bundle, options(torch.device("cpu"), amp=False))
    dice = pd.read_csv(again / "cases.csv")["dice"].mean()
    assert dice == pytest.approx(record["test"]["dice"], abs=0.03)


def test_a_run_that_broke_off_resumes(bundle: Bundle, device: torch.device, monkeypatch) -> None:
    end = Curves._end

    def breaks_in_epoch_4(self: Curves, engine: Any) -> None:
        if engine.state.epoch == 4:
            raise RuntimeError("the machine went away")
        end(self, engine)

    monkeypatch.setattr(Curves, "_end", breaks_in_epoch_4)
    chosen = options(device, checkpoint_seconds=0)
    with pytest.raises(Exception, match="went away"):
        workflow.run(bundle, chosen)
    monkeypatch.setattr(Curves, "_end", end)
    folder = workflow.run(bundle, chosen, resume=True)
    curves = pd.read_csv(folder / "curves.csv")
    assert curves["epoch"].tolist() == list(range(1, 9))
    assert read_run(folder)["best_val_dice"] == pytest.approx(curves["val_dice"].max())
    assert curves["train_loss"].iloc[3] < curves["train_loss"].iloc[0]


@pytest.mark.parametrize("name", ["normalize", "normalize_signed", "normalize_zscore"])
def test_normalisation_is_the_same_on_both(name: str, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 1, 16, 24), generator=draw, dtype=torch.uint8)
    batch = {"image": image, "label": torch.zeros(3, 1, 16, 24, dtype=torch.uint8)}
    there, here = (prepare_batch(batch, d, normalization=name)[0] for d in (device, torch.device("cpu")))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-5)


def test_an_augmented_run_trains_with_workers_of_its_own(workspace: Path) -> None:
    settings = Settings(image_size=(32, 32), epochs=2, learning_rate=1e-2, model_arguments=WIDTHS)
    choice = Choice("discs", "unet", "dice_bce", "all", ("normalize_signed",))
    made = compose(choice, Path("bundles"), settings, prepared=Path("prepared"))
    folder = workflow.run(made, Options(tracking_uri="", progress=False))
    assert read_run(folder)["status"] == "done"
