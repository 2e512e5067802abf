"""Checkpoints of the released LCKD code to this project's keys. None were published; the code writes `final.pth`.

ShaSpec's and MCKD's have the same encoder and decoder under the same keys, so theirs are taken too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.checkpoints import Rule, apply_rules

RULES = (
    Rule(r"^shared_enc\.", "network.shared_encoder."),
    Rule(r"^shared_dec\.", "network.decoder."),
    # ShaSpec's alone:
    Rule(r"^(flair|t1|t1ce|t2)_enc\.", drop=True, optional=True),
    Rule(r"^(compos_layer|dom_classifier)\.", drop=True, optional=True),
    # MCKD's alone, or of self attention, which no recipe uses:
    Rule(r"^(kd_weights|multihead_attn)\.", drop=True, optional=True),
)


def rules(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of the file's. It does not hold who was elected: as in the released code, the first modality teaches
    until the next election."""
    ours = apply_rules(tensors, RULES).tensors
    regions = len(ours["network.decoder.cls_conv.0.weight"])
    inputs, features = (
        ours[f"network.{key}.weight"] for key in ("decoder.transposeconv_stage3", "shared_encoder.asppreduce.0")
    )
    modalities = len(inputs) // len(features)
    return ours | {"teachers": torch.arange(modalities) == 0, "votes": torch.zeros(regions, modalities)}
