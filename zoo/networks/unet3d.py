"""The 3-D residual U-Net of ShaSpec, LCKD and MCKD: an encoder of one-channel volumes and a decoder of several of them.

Convolutions have weights standardised per filter and no bias, norms see one volume and one channel at a time, so that
no volume influences another. Submodules bear the names of the published checkpoints' keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SLOPE = 0.01  # of LeakyReLU


class StandardisedConv3d(nn.Conv3d):
    """Convolution without bias, each filter of the weight having mean 0 and unbiased variance 1; no learnt gain."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int | tuple[int, ...] = 1,
                 padding: int = 0, dilation: int = 1) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight
        for axis in (1, 2, 3, 4):  # one after another: see InstanceNorm3d
            mean = mean.mean(axis, keepdim=True)
        weight = self.weight - mean
        weight = weight / (weight.flatten(1).var(1) + 1e-12).sqrt().view(-1, 1, 1, 1, 1)
        return F.conv3d(x, weight, None, self.stride, self.padding, self.dilation)


class InstanceNorm3d(nn.Module):
    """Affine instance norm without running statistics; a field of one voxel gives the bias.

    PyTorch's `F.instance_norm` refuses such fields, in evaluation too; the published code needs that check edited out
    of PyTorch. The operator below it has no check.

    Float32 training depends on the last bits of every operation (they decide signs of activations, and the norm blows
    up those of the nearly constant fields of zero volumes), and published numbers contain them. So operations are the
    published ones here and in :class:`StandardisedConv3d`, although `group_norm` and `layer_norm` would be faster.

    Args:
        channels: C.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """float [N, C, D, H, W] to the same."""
        no_statistics = (None, None, True, 0.0)
        return torch.instance_norm(x, self.weight, self.bias, *no_statistics, self.eps, torch.backends.cudnn.enabled)


def _activation() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)


def _conv_norm_act(in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = kernel_size // 2 * dilation
    conv = StandardisedConv3d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
    return nn.Sequential(conv, InstanceNorm3d(out_channels), _activation())


class Bottleneck(nn.Module):
    """1×1×1, 3×3×3 with the stride, 1×1×1 convolution to four times the channels, and a shortcut.

    Args:
        channels: of the input.
        planes: channels inside; the output has four times as many.
        stride: of the 3×3×3 convolution.
        project: whether the shortcut is a convolution too, as in the first block of every layer.
    """

    def __init__(self, channels: int, planes: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = StandardisedConv3d(channels, planes, 1), InstanceNorm3d(planes)
        self.conv2, self.norm2 = StandardisedConv3d(planes, planes, 3, stride, 1), InstanceNorm3d(planes)
        self.conv3, self.norm3 = StandardisedConv3d(planes, 4 * planes, 1), InstanceNorm3d(4 * planes)
        self.downsample = nn.Identity()
        if project:
            shortcut = StandardisedConv3d(channels, 4 * planes, 1, stride)
            self.downsample = nn.Sequential(shortcut, InstanceNorm3d(4 * planes))
        self.act = _activation()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        y = self.act(self.norm2(self.conv2(y)))
        return self.act(self.norm3(self.conv3(y)) + self.downsample(x))


class BasicBlock(nn.Module):
    """Two 3×3×3 convolutions and an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = StandardisedConv3d(channels, channels, 3, padding=1), InstanceNorm3d(channels)
        self.conv2, self.norm2 = StandardisedConv3d(channels, channels, 3, padding=1), InstanceNorm3d(channels)
        self.act = _activation()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(y)) + x)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: four dilations and a global branch, concatenated and mixed.

    The global branch is one value per channel, which the norm after the mixing takes away: it adds nothing but its
    columns' share in the standardisation of the mixing weight, and is kept for published checkpoints.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1 = _conv_norm_act(channels, channels)
        self.branch2 = _conv_norm_act(channels, channels, 3, dilation=2)
        self.branch3 = _conv_norm_act(channels, channels, 3, dilation=4)
        self.branch4 = _conv_norm_act(channels, channels, 3, dilation=8)
        self.branch5_conv, self.branch5_norm = StandardisedConv3d(channels, channels, 1), InstanceNorm3d(channels)
        self.act = _activation()
        self.conv_cat = _conv_norm_act(5 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3, 4), keepdim=True)
        pooled = self.act(self.branch5_norm(self.branch5_conv(pooled))).expand_as(x)
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x), pooled]
        return self.conv_cat(torch.cat(branches, 1))


class Backbone(nn.Module):
    """A residual network of 3, 4, 6 and 3 bottlenecks, its last layer 5/8 as wide as usual.

    Args:
        width: channels of the stem.
        checkpointing: whether training recomputes the blocks' activations in the backward pass.
    """

    def __init__(self, width: int, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.conv1 = StandardisedConv3d(1, width, 7, stride=(1, 2, 2), padding=3)
        self.norm1 = InstanceNorm3d(width)
        self.act = _activation()
        self.layer1 = self._layer(width, width, blocks=3, stride=1)
        self.layer2 = self._layer(4 * width, 2 * width, blocks=4, stride=2)
        self.layer3 = self._layer(8 * width, 4 * width, blocks=6, stride=2)
        self.layer4 = self._layer(16 * width, 5 * width, blocks=3, stride=2)

    @staticmethod
    def _layer(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(channels, planes, stride, project=True)
        return nn.Sequential(first, *(Bottleneck(4 * planes, planes, 1, project=False) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Volumes [N, 1, D, H, W] to the outputs of the stem and the four layers."""
        stages = [self.act(self.norm1(self.conv1(x)))]
        x = F.max_pool3d(stages[0], 3, stride=2, padding=1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                recompute = self.checkpointing and self.training
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if recompute else block(x)
            stages.append(x)
        return stages


class Encoder3d(nn.Module):
    """Encoder of one-channel volumes (ShaSpec's shared and specific encoders).

    Args:
        width: channels of the stem, w; 64 as published.
        checkpointing: whether training recomputes activations in the backward pass instead of keeping them.
    """

    def __init__(self, width: int = 64, checkpointing: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(width, checkpointing)
        self.asppreduce = _conv_norm_act(20 * width, 4 * width)
        self.aspp = ASPP(4 * width)

    def reduce(self, volumes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Up to the pyramid pooling.

        Args:
            volumes: [N, 1, D, H, W], D a multiple of 16, H and W of 32.

        Returns:
            [N, 4w, D/16, H/32, W/32], and the skips: w channels at [D, H/2, W/2], 4w at [D/2, H/4, W/4], 8w and 16w
            at half of the size before.
        """
        *skips, deepest = self.backbone(volumes)
        return self.asppreduce(deepest), skips

    def forward(self, volumes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Like :meth:`reduce`, with the pyramid pooling."""
        reduced, skips = self.reduce(volumes)
        return self.aspp(reduced), skips


class Decoder3d(nn.Module):
    """Decoder of the features of several volumes, concatenated over channels, to logits of R regions.

    Args:
        volumes: how many, M.
        regions: R.
        width: of the encoders, w.
    """

    def __init__(self, volumes: int, regions: int, width: int = 64) -> None:
        super().__init__()
        inside = [width // 2, width, 2 * width, 4 * width]
        skips = [width, 4 * width, 8 * width, 16 * width]
        for stage, (channels, skip) in enumerate(zip(inside, skips, strict=True)):
            below = inside[stage + 1] if stage < 3 else volumes * 4 * width
            up = nn.ConvTranspose3d(below, channels, 2, stride=2, bias=False)
            self.add_module(f"shortcut_conv{stage}", _conv_norm_act(volumes * skip, channels))
            self.add_module(f"transposeconv_stage{stage}", up)
            self.add_module(f"stage{stage}_de", BasicBlock(channels))
        self.cls_conv = nn.Sequential(nn.Conv3d(inside[0], regions, 1, bias=False))

    def forward(self, features: Tensor, skips: list[Tensor]) -> Tensor:
        """Features [B, M·4w, d, h, w] and skips [B, M·c, …], as encoders give them, to logits [B, R, D, H, W]."""
        x = features
        for stage in (3, 2, 1, 0):
            shortcut = self.get_submodule(f"shortcut_conv{stage}")(skips[stage])
            x = self.get_submodule(f"transposeconv_stage{stage}")(x) + shortcut
            x = self.get_submodule(f"stage{stage}_de")(x)
        return F.interpolate(self.cls_conv(x), scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)


def initialise(network: nn.Module) -> None:
    """Kaiming normal weights by outgoing connections, as published, for all convolutions of a network."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
