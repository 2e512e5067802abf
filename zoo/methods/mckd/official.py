"""Checkpoints of the released MCKD code to this project's keys. None were published; the code writes `final.pth`.

LCKD's and ShaSpec's have the same encoder and decoder under the same keys, so theirs are taken too, with
`--allow-missing raw_importance`.
"""

from __future__ import annotations

from zoo.checkpoints import Rule

RULES = (
    Rule(r"^shared_enc\.", "network.shared_encoder."),
    Rule(r"^shared_dec\.", "network.decoder."),
    Rule(r"^kd_weights\.kd_weights$", "raw_importance", optional=True),
    Rule(r"^multihead_attn\.", drop=True, optional=True),  # in every file, though no recipe uses it
    # ShaSpec's alone:
    Rule(r"^(flair|t1|t1ce|t2)_enc\.", drop=True, optional=True),
    Rule(r"^(compos_layer|dom_classifier)\.", drop=True, optional=True),
)
