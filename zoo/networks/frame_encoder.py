"""Video frames to maps of features, by a residual network without its head."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from zoo.core.errors import CheckpointError
from zoo.core.extras import require
from zoo.core.names import unknown

STRIDE = 32


class FrameEncoder(nn.Module):
    """A ResNet of timm, without pooling and classifier.

    Args:
        backbone: timm's name, such as `resnet18`.
        pretrained: what :meth:`load_pretrained` loads: "imagenet" is torchvision's first weights, by timm; `None`:
            nothing.

    Raises:
        UnknownNameError: if timm has no ResNet of that name.
    """

    def __init__(self, backbone: str = "resnet18", pretrained: Literal["imagenet"] | None = None) -> None:
        super().__init__()
        timm = require("timm", "vision")
        known = timm.list_models("*resnet*")
        if backbone not in known:
            raise unknown("ResNet of timm", backbone, known)
        self.backbone = backbone
        self._pending = pretrained
        self.layers = timm.create_model(backbone, num_classes=0, global_pool="")
        self.num_features: int = self.layers.num_features
        self.register_load_state_dict_post_hook(FrameEncoder._settle)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames, float [B, 3, H, W], to [B, C, ⌈H/32⌉, ⌈W/32⌉]."""
        return self.layers.forward_features(frames)

    def _settle(self, *_: Any) -> None:
        self._pending = None  # weights came from elsewhere

    def load_pretrained(self) -> None:
        """Load the weights that `pretrained` names, unless others were loaded since.

        Raises:
            CheckpointError: if they cannot be had.
        """
        if self._pending is None:
            return
        try:
            found = require("timm", "vision").create_model(f"{self.backbone}.tv_in1k", pretrained=True, num_classes=0)
        except Exception as error:  # of a dozen classes: no network, no such file, no access
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(
                f"The ImageNet weights of {self.backbone} could not be downloaded ({reason}). Start without them by "
                "--model.pretrained=null, or from a checkpoint by --weights."
            ) from error
        self.layers.load_state_dict(found.state_dict())
        self._pending = None


def grid(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the map of a frame of this height and width."""
    height, width = frame_size
    return -(-height // STRIDE), -(-width // STRIDE)
