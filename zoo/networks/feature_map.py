"""Published image backbones without their classifier, as the papers on part prototypes use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from zoo.core.errors import CheckpointError
from zoo.core.extras import require
from zoo.core.names import unknown
from zoo.core.reading import read_tensors

IMAGENET = "imagenet"


def _resnet(model: nn.Module) -> None:
    model.maxpool = nn.Identity()


def _densenet(model: nn.Module) -> None:
    model.features.pool0 = nn.Identity()


def _vgg(model: nn.Module) -> None:
    model.features[-1] = nn.Identity()


@dataclass(frozen=True)
class _Backbone:
    """How timm's network becomes the papers' finer one: `change` takes a pooling out; `settings` go to timm."""

    change: Callable[[nn.Module], None]
    settings: dict[str, Any]


def _family(change: Callable[[nn.Module], None], *names: str) -> dict[str, _Backbone]:
    return {name: _Backbone(change, {}) for name in names}


BACKBONES: dict[str, _Backbone] = {
    **_family(_resnet, "resnet18", "resnet34", "resnet101", "resnet152"),
    # The network of the iNaturalist weights that the papers start from has a fourth block in its last stage.
    "resnet50": _Backbone(_resnet, {"layers": (3, 4, 6, 4)}),
    **_family(_densenet, "densenet121", "densenet161", "densenet169", "densenet201"),
    **_family(_vgg, "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
}
NAMES = (*BACKBONES, "small", "small_fine")


class FeatureMap(nn.Module):
    """Images to the map of a backbone's last features.

    The finer map has one pooling step less than the classifier's: ResNets and DenseNets without the stem's max-pool,
    VGGs without the last one, 14×14 for images of 224×224. The other is the classifier's, 16×16 for images of 512×512;
    a DenseNet's is taken before the last normalisation, which CIPL leaves out. For demos, on 64×64: "small" is five
    convolutions that see 63 pixels, 8×8; "small_fine" four that see 26 about the middle of their cell, 16×16.

    Args:
        name: one of :data:`NAMES`.
        pretrained: what :meth:`load_pretrained` loads: "imagenet" (torchvision's first weights, by timm; not for
            the finer resnet50), or the file of a ResNet-50 trained on iNaturalist 2017 (BBN, CVPR 2020); `None`:
            nothing.
        finer: which map.

    Attributes:
        channels: of the map.
    """

    def __init__(self, name: str, pretrained: str | None = None, finer: bool = True) -> None:
        super().__init__()
        if name not in NAMES:
            raise unknown("backbone", name, NAMES)
        self.name = name
        if pretrained == IMAGENET and (name in _DEMO or (name == "resnet50" and finer)):
            raise CheckpointError(f"There are no ImageNet weights for {name}: give pretrained another value.")
        self._pending = pretrained
        if name in _DEMO:
            self.body, self.channels = _DEMO[name](), 96
        else:
            timm, backbone = require("timm", "vision"), BACKBONES[name]
            settings = backbone.settings if finer else {}
            self.body = timm.create_model(name, num_classes=0, global_pool="", **settings)
            if finer:
                backbone.change(self.body)
            elif "densenet" in name:
                self.body.features.norm5 = nn.Identity()
            if "vgg" in name:
                self.body.pre_logits = nn.Identity()
            self.channels = 512 if "vgg" in name else self.body.num_features
        self.register_load_state_dict_post_hook(FeatureMap._settle)

    def forward(self, image: Tensor) -> Tensor:
        """Images [B, 3, H, W], normalised, to features [B, channels, h, w]."""
        return self.body(image)

    def _settle(self, *_: Any) -> None:
        self._pending = None  # weights came from elsewhere

    def load_pretrained(self) -> None:
        """Load the weights that `pretrained` names, unless others were loaded since.

        Raises:
            CheckpointError: if they cannot be had or do not fit.
        """
        if self._pending is None:
            return
        if self._pending == IMAGENET:
            self._load(_imagenet(self.name), f"timm's weights {self.name}.tv_in1k")
        else:
            self._load(_inaturalist(self._pending), self._pending)

    def _load(self, tensors: dict[str, Tensor], source: str) -> None:
        own = self.body.state_dict()
        wrong = [key for key in own if key not in tensors or tensors[key].shape != own[key].shape]
        if wrong:
            raise CheckpointError(
                f"{source} does not fit {self.name}: {len(wrong)} tensors are missing or of another "
                f"shape (first: {wrong[0]})."
            )
        self.body.load_state_dict({key: tensors[key] for key in own})
        self._pending = None


def _imagenet(name: str) -> dict[str, Tensor]:
    timm = require("timm", "vision")
    try:
        return timm.create_model(f"{name}.tv_in1k", pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # of a dozen classes: no network, no such file, no access
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"The ImageNet weights of {name} could not be downloaded ({reason}). Start without them by "
            "--model.pretrained=null, or from a checkpoint by --weights."
        ) from error


def _inaturalist(path: str) -> dict[str, Tensor]:
    """BBN's two branches continue the last stage, as its third and fourth block."""
    prefix = "module.backbone."
    tensors = {key: value for key, value in read_tensors(path).tensors.items() if key.startswith(prefix)}
    renamed = {key.removeprefix(prefix): value for key, value in tensors.items()}
    for branch, block in (("cb_block", "layer4.2"), ("rb_block", "layer4.3")):
        renamed = {key.replace(branch, block): value for key, value in renamed.items()}
    return renamed


def _convolutions(*layers: tuple[int, int, int, int, int]) -> nn.Sequential:
    """From in_channels, out_channels, kernel_size, stride and dilation of each."""
    made: list[nn.Module] = []
    for inputs, outputs, kernel, stride, dilation in layers:
        padding = dilation * ((kernel - 1) // 2)
        made += [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*made[:-1])  # no ReLU in the end: unit features of positive ones would all look alike


_DEMO = {
    "small": partial(
        _convolutions,
        *((3, 32, 3, 2, 1), (32, 64, 3, 2, 1), (64, 96, 3, 2, 1), (96, 96, 3, 1, 2), (96, 96, 3, 1, 1)),
    ),
    # An odd kernel at stride 2 is centred half a pixel before the middle of what a cell stands for.
    "small_fine": partial(_convolutions, *((3, 32, 4, 2, 1), (32, 64, 4, 2, 1), (64, 96, 3, 1, 1), (96, 96, 3, 1, 1))),
}
