"""The scripted network of an exported bundle."""

from __future__ import annotations

import logging
import warnings

import torch

logger = logging.getLogger(__name__)
#: classes of torch whose layers draw at random while they train
DROPOUTS = ("Dropout", "AlphaDropout", "FeatureAlphaDropout")


def load_network(path: str, dropout: float | None = None) -> torch.nn.Module:
    """Load a TorchScript network on the CPU, in evaluation mode; it can still be trained.

    Args:
        path: the file.
        dropout: a share that MONAI Label asks for when it scores uncertainty; a scripted network keeps its own.
    """
    if dropout:
        logger.warning("a scripted network keeps its own dropout; the %s asked for is not used", dropout)
    with warnings.catch_warnings():
        # TorchScript is in maintenance, and needs no model source where it runs
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
        return torch.jit.load(path, map_location="cpu").eval()


def with_dropout(network: torch.nn.Module) -> bool:
    """Let dropout alone draw as in training (Gal and Ghahramani 2016, arXiv:1506.02142); whether there is any.

    Batch normalisation stays with its running statistics, which a network wholly in training mode would change.
    """
    network.eval()
    drawing = [module for module in network.modules() if _class_of(module).startswith(DROPOUTS)]
    for module in drawing:
        module.train()
    return bool(drawing)


def _class_of(module: torch.nn.Module) -> str:
    """The class of a module; scripting keeps only its name."""
    return str(getattr(module, "original_name", type(module).__name__))
