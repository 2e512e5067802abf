"""Kinds of losses. A kind is a call signature; every loss of a kind can stand in every slot of that kind.

All losses return a scalar tensor. Shapes: B samples, C classes, M modalities, N points (pixels, tokens), D features.
"""

from __future__ import annotations

KINDS: dict[str, str] = {
    "classification": "(logits [B, C], labels int64 [B], *, index=None int64 [B], epoch=None)",
    "candidate_labels": "(log_p [B, C]: log-probabilities, prior [B, C]: zero for classes that a sample cannot have)",
    "segmentation": "(logits [B, C, ...], target [B, C, ...] in {0, 1})",
    "alignment": "(features [M, B, ...]) of the same samples seen by M modalities",
    "cross_modal_distillation": "(features [M, B, ...], weight [M, M] or [M, M, B] of teacher for student); "
    "no gradient reaches a teacher",
    "distillation": "(student [B, ...], teacher [B, ...]); no gradient reaches the teacher",
    "embedding": "(embeddings [B, D], labels int64 [B])",
    "pixel_contrast": "(features [N, D], labels int64 [N])",
    "spectrogram": "(predicted [..., 2, F, N], target [..., 2, F, N]), real and imaginary parts",
    "triplet": "(anchor [B, D], positive [B, D], negative [B, D])",
    "prototype": "(distances [B, C, K] to prototypes, each by its closest patch, labels int64 [B])",
}
