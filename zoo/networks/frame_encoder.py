"""Video frames to maps of features, by a residual network without its head."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.core.errors import MissingExtraError
from zoo.core.extras import require
from zoo.core.names import unknown

STRIDE = 32


class FrameEncoder(nn.Module):
    """A ResNet of timm, without pooling and classifier.

    Args:
        backbone: timm's name, with the tag of its weights if `pretrained`: `resnet18.tv_in1k` has torchvision's first
            ImageNet weights, which Mono2Binaural and CCStereo start from.
        pretrained: whether to load (and, the first time, to download) these weights.

    Raises:
        UnknownNameError: if timm has no ResNet of that name.
        MissingExtraError: if the weights cannot be downloaded.
    """

    def __init__(self, backbone: str = "resnet18.tv_in1k", pretrained: bool = False) -> None:
        super().__init__()
        timm = require("timm", "vision")
        known = timm.list_models("*resnet*")
        if backbone.partition(".")[0] not in known:
            raise unknown("ResNet of timm", backbone, known)
        try:
            self.layers = timm.create_model(backbone, pretrained=pretrained, num_classes=0, global_pool="")
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise MissingExtraError(
                f"The ImageNet weights of {backbone} could not be had ({reason}). Connect to the internet once, or set "
                "model.pretrained=false."
            ) from error
        self.num_features: int = self.layers.num_features

    def forward(self, frames: Tensor) -> Tensor:
        """Float [B, 3, H, W], normalised as the weights want it, to [B, C, ⌈H/32⌉, ⌈W/32⌉]."""
        return self.layers.forward_features(frames)


def grid(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the map of a frame of this height and width."""
    height, width = frame_size
    return -(-height // STRIDE), -(-width // STRIDE)
