"""The networks of the benchmarks with noisy labels, up to the features that their heads see."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from zoo.core.errors import RecipeError
from zoo.core.extras import require
from zoo.core.names import unknown
from zoo.networks.cifar_resnet import BasicBlock, CifarResNet, PreActBlock

PUBLISHED_WIDTH = 64


class VGG19BN(nn.Module):
    """torchvision's VGG-19 with BatchNorm up to the last hidden layer; dropout after both hidden layers.

    Args:
        width: channels of the first convolutions; all others scale with it.
    """

    def __init__(self, width: int = PUBLISHED_WIDTH) -> None:
        super().__init__()
        vgg = require("torchvision.models.vgg", "vision")
        plan = [size if size == "M" else size * width // PUBLISHED_WIDTH for size in vgg.cfgs["E"]]
        self.dim = 4096 * width // PUBLISHED_WIDTH
        self.features, self.avgpool = vgg.make_layers(plan, batch_norm=True), nn.AdaptiveAvgPool2d(7)
        hidden = [(plan[-2] * 49, self.dim), (self.dim, self.dim)]
        layers = [layer for sizes in hidden for layer in (nn.Linear(*sizes), nn.ReLU(), nn.Dropout())]
        self.classifier = nn.Sequential(*layers)
        for module in self.modules():  # as torchvision's, with the wanted widths
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(image)).flatten(1))


def _resnet50(width: int) -> nn.Module:
    resnet = require("timm.models.resnet", "vision")
    channels = tuple(width * 2**stage for stage in range(4))
    made = resnet.ResNet(resnet.Bottleneck, (3, 4, 6, 3), num_classes=0, channels=channels)
    made.dim = made.num_features
    return made


def _inception_resnet_v2(width: int) -> nn.Module:
    if width != PUBLISHED_WIDTH:
        raise RecipeError(f"inception_resnet_v2 has one width; leave model.width at {PUBLISHED_WIDTH}, not {width}.")
    made = require("timm", "vision").create_model("inception_resnet_v2", num_classes=0)
    made.dim = made.num_features
    return made


BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "resnet34": lambda width: CifarResNet(BasicBlock, (3, 4, 6, 3), width),
    "preact_resnet18": lambda width: CifarResNet(PreActBlock, (2, 2, 2, 2), width),
    "vgg19_bn": VGG19BN,
    "resnet50": _resnet50,
    "inception_resnet_v2": _inception_resnet_v2,
}


def backbone(name: str, width: int = PUBLISHED_WIDTH) -> nn.Module:
    """A network from normalised images [B, 3, H, W] to features [B, `dim`].

    Args:
        name: `resnet34` and `preact_resnet18` for small images (CIFAR), `vgg19_bn` (Animal-10N), `resnet50`
            (Clothing1M), `inception_resnet_v2` (mini-WebVision, which has images of 299).
        width: channels of the first stage; the published networks have 64.

    Raises:
        UnknownNameError: if there is no such network.
        RecipeError: for a width that it cannot have.
        MissingExtraError: without torchvision or timm, where they are needed.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    if width < 1:
        raise RecipeError(f"model.width is {width}; it must be at least 1.")
    return BACKBONES[name](width)
