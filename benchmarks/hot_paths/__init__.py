"""What runs in every step beside its naive form: equal results, and how many times faster.

    python -m benchmarks.hot_paths [--small] [NAME …]

Times are medians on this machine; only their ratio means anything elsewhere. A pair is added by a function that makes
its inputs: see :func:`benchmarks.hot_paths.general.class_queue_push`.
"""

from benchmarks.hot_paths import binaural, general, label_noise, prototypes, volumes
from benchmarks.hot_paths.frame import PAIRS, Pair, compare, main

__all__ = ["PAIRS", "Pair", "binaural", "compare", "general", "label_noise", "main", "prototypes", "volumes"]
