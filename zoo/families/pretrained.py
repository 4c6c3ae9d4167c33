"""torchvision's classifiers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from wire import BadInput
from zoo.families.family import Architecture


@dataclass(frozen=True)
class Torchvision(Architecture):
    """Any of torchvision's classifiers, with weights from a file or trained here.

    Source: torchvision.models, whose documentation cites each network's paper.

    Attributes:
        name: Name of the network, as for ``torchvision.models.get_model``.
        mean: Mean to subtract from each channel; default: ImageNet's.
        std: Standard deviation by which to divide each channel; default: ImageNet's.
    """

    name: str = "resnet18"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise BadInput(f"{self}: mean and std must each have three numbers, and std's must be positive")

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns an untrained module from images, ``(n, 3, h, w)``, to logits, ``(n, classes)``.

        Raises:
            BadInput: There is no such network, or it does not take rows of this shape.
        """
        from zoo.vision import models  # deferred: importing torchvision takes a second

        _check_name(self.name)
        if len(input_shape) != 3 or input_shape[0] != 3:
            raise BadInput(f"torchvision's {self.name} takes images (3, height, width), not rows {input_shape}")
        options = {"aux_logits": False} if self.name == "googlenet" else {}
        options |= {"init_weights": False} if self.name in ("googlenet", "inception_v3") else {}
        network = models.get_model(self.name, weights=None, num_classes=classes, **options).eval()
        module = nn.Sequential(OrderedDict(scaled=_Scaled(self.mean, self.std), network=network))
        if next(module.parameters()).is_meta:  # nothing to compute with
            return module
        try:
            with torch.inference_mode():
                module(torch.zeros(1, *input_shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            fault = str(error).partition("\n")[0]
            raise BadInput(f"torchvision's {self.name} does not take images {input_shape}: {fault}") from None
        return module


class _Scaled(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        for name, numbers in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(numbers).view(3, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scales images, ``(n, 3, h, w)``."""
        return (x - self.mean) / self.std


def imagenet(name: str) -> tuple[str, ...]:
    """Returns the class names of torchvision's own weights for a network.

    Raises:
        BadInput: There is no such network.
    """
    from zoo.vision import models

    _check_name(name)
    return tuple(next(iter(models.get_model_weights(name))).meta["categories"])


def renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames torchvision's weights as in :class:`Torchvision`'s module."""
    return {f"network.{name}": tensor for name, tensor in weights.items()}


def _check_name(name: str) -> None:
    from zoo.vision import models

    known = models.list_models(module=models)
    if name not in known:
        raise BadInput(f"torchvision has no classifier {name!r}; it has {', '.join(known)}")
