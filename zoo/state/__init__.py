"""What training remembers beside weights: buffers, so saved and resumed exactly; gathered, so equal on all ranks."""

from zoo.core.label_memory import LabelMemory
from zoo.state.feature_queue import ClassQueue
from zoo.state.gaussian_mixture import GaussianMixture

__all__ = ["ClassQueue", "GaussianMixture", "LabelMemory"]
