"""CIPL's cases of labels and sampling weights."""

from __future__ import annotations

from typing import Any

import torch

import datamodules.chestxray14_files as chestxray14_files
import datamodules.multi_label as multi_label
import datamodules.odir as odir
from tests.parity.harness import Case, handles

SAMPLING = ("datamodules.multi_label.multi_hot", "datamodules.multi_label.sample_weights")


@handles("cipl", "nih_labels", uses=(*SAMPLING, "datamodules.chestxray14_files.read_findings"))
def nih_labels(case: Case) -> dict[str, Any]:
    assert list(chestxray14_files.FINDINGS) == case.config["class_order"]
    findings = [chestxray14_files.read_findings(text) for text in case.config["finding_labels"]]
    labels = multi_label.multi_hot(findings, len(chestxray14_files.FINDINGS))
    train = torch.zeros(len(labels), dtype=torch.bool)
    train[case.config["train_rows"]] = True
    weights = {
        f"sample_weight_stage{stage}": multi_label.sample_weights(
            labels[train], torch.tensor(case.config[f"class_weight_stage{stage}"], dtype=torch.float64)
        )
        for stage in (1, 2)
    }
    return {"train_labels": labels[train], "test_labels": labels[~train], **weights}


@handles(
    "cipl",
    "odir_labels",
    uses=(
        "datamodules.multi_label.multi_hot",
        "datamodules.multi_label.class_weights",
        "datamodules.odir.labelled_eyes",
    ),
)
def odir_labels(case: Case) -> dict[str, Any]:
    assert list(odir.CLASSES) == case.config["classes"]
    eyes = odir.labelled_eyes(case.config["rows"])
    labels = multi_label.multi_hot([classes for _, _, classes in eyes], len(odir.CLASSES))
    return {
        "labels": labels,
        "image_row": torch.tensor([row for row, _, _ in eyes]),
        "is_right": torch.tensor([side for _, side, _ in eyes]),
        "raw_class_weight": multi_label.class_weights(labels),
    }
