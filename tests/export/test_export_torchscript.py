"""TorchScript: the same answers in a process without medseg, trainable, and nothing of this machine inside."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg.bundle.network import Recipe, build_network, read_recipe
from medseg.bundle.open import Bundle
from medseg.errors import MedsegError
from medseg.export.delivery import export
from medseg.export.torchscript import quiet, write_torchscript
from medseg.models import MODELS, build

ALONE = """
import sys
sys.modules["medseg"] = None  # importing it fails from here on
import numpy as np, torch
network = torch.jit.load(sys.argv[1]).eval()
images = torch.from_numpy(np.load(sys.argv[2]))
with torch.inference_mode():
    for number, batch in enumerate((images[:1], images, images.to(memory_format=torch.channels_last))):
        np.save(f"{sys.argv[3]}{number}.npy", network(batch).numpy())
assert not [name for name in sys.modules if name.startswith("medseg.")]
"""


@pytest.fixture(scope="module")
def script(made: Bundle, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    check = export("torchscript", made, tmp_path_factory.mktemp("ts") / "net.ts", images)
    assert check.inputs == 3 and check.source == "real images" and check.notes == ("scripted",)
    assert check.difference.probabilities <= 1e-6
    return check.path


def test_answers_without_medseg(script: Path, reference: torch.nn.Module, tmp_path: Path) -> None:
    batch = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "images.npy", batch.numpy())
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(script), str(tmp_path / "images.npy"), "out"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    with torch.inference_mode():
        for number, given in enumerate((batch[:1], batch, batch)):
            answered = np.load(tmp_path / f"out{number}.npy")
            np.testing.assert_allclose(answered, reference(given).numpy(), atol=1e-5)


def test_takes_other_sizes_and_can_be_trained(script: Path, reference: torch.nn.Module) -> None:
    with quiet():
        network = torch.jit.load(script)
    assert not network.training  # as it was written
    larger = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(larger), reference(larger), rtol=0, atol=1e-5)
    before = [p.detach().clone() for p in network.parameters()]
    assert before and all(p.requires_grad for p in network.parameters())
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.rand(2, 3, 32, 32)).mean().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_dropout_works_in_training_alone(script: Path) -> None:
    with quiet():
        network = torch.jit.load(script)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.eval()(images), network(images))
        assert not torch.equal(network.train()(images), network(images))


def test_monai_reads_its_metadata(script: Path) -> None:
    from monai.data import load_net_with_metadata

    with quiet():
        _, metadata, _ = load_net_with_metadata(script)
    assert metadata["name"] == "busi_benign__unet__dice"
    assert metadata["medseg"]["labels"] == ["benign lesion"]
    assert metadata["medseg"]["input"] == "image, float32 (N, 3, 32, 32)"
    assert metadata["medseg"]["activation"] == "sigmoid"


def test_holds_no_path_of_this_machine(script: Path, made: Bundle) -> None:
    with zipfile.ZipFile(script) as archive:
        assert archive.testzip() is None
        content = {name: archive.read(name) for name in archive.namelist()}
    assert not any(name.endswith(".debug_pkl") for name in content)
    here = [str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), str(made.root.parent)]
    for name, data in content.items():
        assert not any(path.encode() in data for path in here), name


def test_a_model_that_cannot_be_scripted_is_traced(
    made: Bundle, reference: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS["unet"].facts, "scriptable", False)
    note = write_torchscript(reference, read_recipe(made), tmp_path / "a.ts", {})
    assert note.startswith("traced: only images of the bundle's size")
    batch = torch.rand(5, 3, 32, 32)
    with quiet(), torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "a.ts")(batch), reference(batch))


def test_what_cannot_be_scripted_is_told(made: Bundle, tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, images):  # type: ignore[no-untyped-def]
            return eval("images")

    with pytest.raises(MedsegError, match="unet cannot become TorchScript"):
        write_torchscript(Odd(), read_recipe(made), tmp_path / "a.ts", {})


def test_weights_of_a_network_with_frozen_stages_are_scripted(tmp_path: Path) -> None:
    small = MODELS["fcn"].facts["small"]
    frozen = build("fcn", small, in_channels=3, out_channels=1, frozen_stages=2).eval()
    torch.save(frozen.state_dict(), tmp_path / "model.pt")
    recipe = Recipe("fcn", small, 3, 1, (64, 64), (), {}, ())
    write_torchscript(build_network(recipe, tmp_path / "model.pt"), recipe, tmp_path / "a.ts", {})
    batch = torch.rand(1, 3, 64, 64)
    with quiet(), torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "a.ts")(batch), frozen(batch))


def test_real_images(made: Bundle, shared_data: Path, tmp_path: Path) -> None:
    from medseg.export.examples import images_at, spread

    found = images_at([shared_data / "original" / "busi"])
    check = export("torchscript", made, tmp_path, spread(found, 4))
    assert check.path == tmp_path / "busi_benign__unet__dice.ts"
    assert check.inputs == 4 and check.difference.pixels == 0
    extra = {"metadata.json": ""}
    with quiet():
        torch.jit.load(check.path, _extra_files=extra)
    assert json.loads(extra["metadata.json"])["task"] == "Segmentation of benign lesion in 2D images"
    assert Image.open(found[0]).size[0] > 32
