"""ResNets for small images, as papers on noisy labels have them: 3×3 stem, no max-pool."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    """What both kinds of block hold; keys as in torchvision, whose ResNets have no such stem."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm_first: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs if norm_first else outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, stride, bias=False)]
            self.downsample = nn.Sequential(*projection, *([] if norm_first else [nn.BatchNorm2d(outputs)]))


class BasicBlock(_Block):
    """Convolution, norm, ReLU, convolution, norm; the input is added, then ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride, norm_first=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.downsample(x))


class PreActBlock(_Block):
    """Norm and ReLU before each convolution. The activated input is what is added, also where its shape stays.

    So the code that DivideMix and its successors share has it; He et al. add the input itself there.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + self.downsample(activated)


class CifarResNet(nn.Module):
    """Four stages of blocks after a 3×3 convolution, and the mean over pixels: no norm after the last block.

    Args:
        block: kind of block.
        depths: blocks per stage.
        width: channels of the stem and of the first stage; each later stage has twice as many at half the size.
    """

    def __init__(self, block: type[_Block], depths: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, depth in enumerate(depths):
            outputs = width * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (depth - 1)
            blocks = [block(inputs if place == 0 else outputs, outputs, stride) for place, stride in enumerate(strides)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.stages = len(depths)
        self.dim = inputs

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] to features [B, D]."""
        x = F.relu(self.bn1(self.conv1(image)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return F.avg_pool2d(x, x.shape[2:]).flatten(1)
