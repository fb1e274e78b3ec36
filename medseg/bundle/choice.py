"""A choice of components, and the bundle name that says it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medseg.augmentations.protocol import with_protocol
from medseg.errors import MedsegError

SEPARATOR = "__"


@dataclass(frozen=True)
class Choice:
    """What one experiment is made of; the key of its runs everywhere.

    Args:
        dataset: name of a data set, registered or indexed by the user.
        model: name of a model.
        loss: name of a loss.
        augment: names of augmentations joined by ``-``, with ``-offline`` or ``-leaking`` behind them for another
            protocol than augmenting anew in each epoch (see ``medseg.augmentations.protocol``).
        preprocess: names of transforms, in the order in which they are applied.
    """

    dataset: str
    model: str
    loss: str
    augment: str = "vanilla"
    preprocess: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The bundle's folder name: ``dataset__model__loss[__augment[__preprocess]]``.

        >>> Choice("kvasir_seg", "unet", "dice").name
        'kvasir_seg__unet__dice'
        >>> Choice("kvasir_seg", "unet", "dice", preprocess=("clahe", "median")).name
        'kvasir_seg__unet__dice__vanilla__clahe-median'
        """
        parts = [self.dataset, self.model, self.loss]
        if self.augment != "vanilla" or self.preprocess:
            parts.append(self.augment)
        if self.preprocess:
            parts.append("-".join(self.preprocess))
        return SEPARATOR.join(parts)

    @classmethod
    def parse(cls, name: str) -> Choice:
        """The choice that a bundle name says.

        Raises:
            MedsegError: the name has no such form.
        """
        parts = name.split(SEPARATOR)
        if not 3 <= len(parts) <= 5 or not all(parts):
            raise MedsegError(
                f"{name!r} is no bundle name: write dataset__model__loss, such as kvasir_seg__unet__dice,"
                " with __augment and __preprocess behind it if wanted"
            )
        dataset, model, loss, augment, preprocess = (
            (*parts, "vanilla", "")[:5] if len(parts) < 4 else (*parts, "")[:5]
        )
        return cls(dataset, model, loss, augment, tuple(preprocess.split("-")) if preprocess else ())

    def under(self, protocol: str) -> Choice:
        """The choice with its augmentation under a protocol of ``medseg.augmentations.protocol``.

        Raises:
            MedsegError: there is nothing to augment, or the name says another protocol.
        """
        return self if protocol == "online" else replace(self, augment=with_protocol(self.augment, protocol))

    def facts(self) -> dict[str, str]:
        """The choice as the columns of a results table."""
        return {
            "dataset": self.dataset,
            "model": self.model,
            "loss": self.loss,
            "preprocess": "-".join(self.preprocess),
            "augment": self.augment,
        }
