"""Metrics whose published definition differs from torchmetrics'. One class per protocol."""
