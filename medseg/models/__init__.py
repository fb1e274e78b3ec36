"""Models: images ``(N, C, H, W)`` float32 in, logits out: ``(N, K, H, W)``, of classifiers ``(N, K)``.

A deeply supervised model gives, in training mode, a tuple of logits, all at the input's size, and in
evaluation mode one tensor. Facts of an entry: ``divisor`` (what both sides must be divisible by, for the
default arguments; a built network has it as an attribute), ``cam_layer`` (the submodule that class-activation
maps look at), ``cam_origin`` (the pixel on which its first cell lies, where padding shifts it off the centre; a network
whose padding depends on the input has it as a method of the input's height and width),
``deep_supervision``, ``scriptable`` (else TorchScript traces it), ``batch_of_one`` (False where training needs two
images), ``backbone`` and ``pretrained`` (the names of its published weights), ``small`` (arguments of a version to try
things with), ``parameters`` and ``macs`` (multiply-accumulates) for one colour image of 224 x 224 and one class (of
classifiers two), ``published_parameters`` and ``published_macs`` (measured on the authors' code; of classifiers for the
1000 classes of ImageNet), ``deviates`` (why those differ, where they do), ``starts_at_zero`` (where the published start
gives logits of zero), ``paper`` and ``licence`` (of the original code; nothing of it is copied).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medseg.errors import MedsegError
from medseg.registry import Registry

MODELS = Registry("model", __name__)


def build(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    pretrained: bool | str = False,
    pretrained_data: str = "",
    frozen_stages: int = 0,
    **more: Any,
) -> Any:
    """Build a model.

    Args:
        name: the registered name.
        arguments: the model's own arguments, as a config holds them.
        pretrained: True begins with the published weights of its backbone, from the hub; a path with those in a local
            file or folder; False with random ones.
        pretrained_data: what a local file of weights was trained on, as its owner declares.
        frozen_stages: how many stages of the backbone, from the image on, do not learn.
        more: ``in_channels``, ``out_channels``, and further arguments; they win.

    Raises:
        MedsegError: the name or an argument is unknown, the model has no pre-trained backbone, or its weights cannot be
            had.
    """
    from medseg.models._pretrained import declare
    from medseg.models.transfer import freeze

    if pretrained is not False:
        check_pretrained(name, pretrained)
        more["pretrained"] = pretrained
    if (arguments or {}).get("pretrained"):
        raise MedsegError(
            "pretrained is a setting of its own: --set pretrained=true, not one of model_arguments"
        )
    network = MODELS.build(name, arguments, **more)
    if pretrained_data and isinstance(pretrained, str):
        declare(network, pretrained_data)
    return freeze(network, frozen_stages, name)


def check_pretrained(name: str, pretrained: object, pretrained_data: str = "") -> None:
    """Raise if a model cannot begin with such weights, or what they were trained on is not the user's to declare.

    Args:
        name: the registered name.
        pretrained: as for ``build``.
        pretrained_data: likewise; only for local weights.

    Raises:
        MedsegError: what is wrong with them.
    """
    if not isinstance(pretrained, (bool, str)) or pretrained == "":
        raise MedsegError(f"pretrained={pretrained!r}: give true, false, or a file or folder of weights")
    if pretrained and not MODELS[name].facts.get("pretrained"):
        raise MedsegError(f"{name} has no pre-trained backbone; use --set pretrained=false")
    if pretrained_data and not isinstance(pretrained, str):
        raise MedsegError(
            f"pretrained_data={pretrained_data!r} tells of local weights; give their file or folder as pretrained too"
        )


def output_weights(network: Any) -> dict[tuple[int, ...], float]:
    """The published weight of each output in the loss, or of sums of outputs, by their indices.

    A network with one output has ``{(0,): 1.0}``.

    Args:
        network: a network of this room, plain or wrapped in ``DistributedDataParallel``.
    """
    weights = getattr(getattr(network, "module", network), "output_weights", (1.0,))
    return dict(weights if isinstance(weights, Mapping) else {(i,): w for i, w in enumerate(weights)})


def provenance(network: Any) -> list[dict[str, str]]:
    """Where the pre-trained weights of a network's backbones came from, one record each; none if they are random.

    Args:
        network: a network of this room, plain or wrapped in ``DistributedDataParallel``.

    Returns:
        ``weights`` (their name), ``source`` (the hub's repository, or the local file's name without its folder),
        ``sha256`` of the file, ``trained_on``, and the ``terms`` of use.
    """
    from medseg.models._pretrained import records

    return [dict(record) for record in records(getattr(network, "module", network))]
