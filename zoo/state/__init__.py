"""What training remembers beside weights: buffers, so saved and resumed exactly; gathered, so equal on all ranks."""

from zoo.state.feature_queue import ClassQueue
from zoo.state.gaussian_mixture import GaussianMixture
from zoo.state.label_memory import LabelMemory

__all__ = ["ClassQueue", "GaussianMixture", "LabelMemory"]
