"""A bundle that has learnt to outline discs, in seconds, and pictures of discs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from medseg.bundle.choice import Choice
from medseg.bundle.compose import compose
from medseg.bundle.network import read_recipe
from medseg.bundle.open import Bundle
from medseg.bundle.settings import Settings
from medseg.data.index import build_index
from medseg.data.index_file import index_path, write_index
from medseg.losses import build as build_loss
from medseg.models import build

SIDE = 32


def disc(seed: int, size: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A bright noisy disc on dark ground, ``(H, W)`` uint8, and its mask."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    row, column = draw.uniform(0.25, 0.75, 2)
    mask = (y - row) ** 2 + (x - column) ** 2 < draw.uniform(0.12, 0.22) ** 2
    image = np.clip(draw.normal(60 + 110 * mask, 20), 0, 255).astype(np.uint8)
    return image, mask


def trained(network: nn.Module, steps: int = 60) -> nn.Module:
    """Train a network of one channel on discs."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    loss = build_loss("dice_bce")
    pairs = [disc(seed) for seed in range(16)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs]))[:, None].float() / 255
    masks = torch.from_numpy(np.stack([mask for _, mask in pairs]))[:, None].float()
    network.train()
    for step in range(steps):
        part = slice(0, 8) if step % 2 else slice(8, 16)
        optimizer.zero_grad()
        loss(network(images[part]), masks[part]).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A trained bundle of discs; no test may change it."""
    folder = tmp_path_factory.mktemp("explained")
    for name in ("images", "masks"):
        (folder / "source" / name).mkdir(parents=True)
    for seed in range(8):
        image, mask = disc(seed)
        Image.fromarray(image).save(folder / "source" / "images" / f"p{seed}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "source" / "masks" / f"p{seed}.png")
    index = build_index(
        "discs", folder / "source", images="images/*.png", masks="masks/{stem}.png", channels=1
    )
    write_index(index, index_path("discs", folder / "prepared"))
    settings = Settings(image_size=(SIDE, SIDE), model_arguments={"widths": [4, 8, 16]})
    bundle = compose(
        Choice("discs", "unet", "dice_bce"), folder / "bundles", settings, prepared=folder / "prepared"
    )
    recipe = read_recipe(bundle)
    network = trained(build(recipe.model, recipe.model_arguments, in_channels=1, out_channels=1))
    (bundle.root / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), bundle.root / "models" / "model.pt")
    return bundle


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    """A disc that the bundle has not seen, of another size than the network's."""
    path = tmp_path / "disc.png"
    Image.fromarray(disc(100, 48)[0]).save(path)
    return path


class Linear(nn.Module):
    """Maps that are the image's channels, and logits that are their weighted sum: all gradients are known.

    Args:
        weights: of the channels.
    """

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.head = nn.Conv2d(len(weights), 1, 1, bias=False)
        self.head.weight.data = torch.tensor(weights).reshape(1, -1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


@pytest.fixture
def linear() -> type[Linear]:
    return Linear
