"""Checkpoints of the released ShaSpec code to this project's keys. None were published; the code writes `final.pth`."""

from __future__ import annotations

from zoo.checkpoints import Rule

RULES = (
    Rule(r"^shared_enc\.", "network.shared_encoder."),
    Rule(r"^flair_enc\.", "network.specific_encoders.0."),
    Rule(r"^t1_enc\.", "network.specific_encoders.1."),
    Rule(r"^t1ce_enc\.", "network.specific_encoders.2."),
    Rule(r"^t2_enc\.", "network.specific_encoders.3."),
    Rule(r"^shared_dec\.", "network.decoder."),
    Rule(r"^compos_layer\.conv\.", "network.fusion."),
    Rule(r"^dom_classifier\.", "network.domain."),
)
