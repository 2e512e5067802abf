"""State dicts of the published code, and of torchvision, timm and DivideMix, in this project's keys."""

from __future__ import annotations

from zoo.checkpoints import Official, Rule

_NETWORK = (
    Rule(r"^proj\.", drop=True, optional=True),  # of the published PreAct-ResNet-18; nothing uses it
    Rule(r"^classifier\.6\.", "fc.", optional=True),  # torchvision's VGG
    Rule(r"^classifier1\.", "classifier.", optional=True),
    Rule(r"^model_resnet\.", "", optional=True),
    Rule(r"\.shortcut\.", ".downsample.", optional=True),
    Rule(r"^(linear|classifier2|fc1|last_linear|fc|classif)\.", "clean.", optional=True),
    Rule(r"^(transition|fc2)\.", "noisy.", optional=True),
    Rule(r"^(?!clean\.|noisy\.)", "backbone."),
)

OFFICIAL = Official((*_NETWORK, Rule("^", "networks.0.")), version=1)
"""One network. Nothing was published for pairs: their second network has to come from elsewhere."""
