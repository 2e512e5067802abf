"""Two real cases of BraTS2018's shape go through every verb."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from zoo.cli import main

nibabel = pytest.importorskip("nibabel")
RECIPE = Path(__file__).parents[2] / "recipes/shaspec/brats_demo.yaml"
SIZE = "[32,64,64]"


@pytest.mark.slow
def test_real_cases_fit_test_and_predict(tmp_path, monkeypatch):
    root = Path(os.environ.get("ZOO_TEST_DATA", "/nonexistent")) / "brats"
    if not root.is_dir():
        pytest.skip("ZOO_TEST_DATA names no folder with brats")
    monkeypatch.chdir(tmp_path)
    t1 = {path.parent.name: path for path in root.rglob("*_t1.nii.gz")}
    Path("parts.csv").write_text("case,split\n" + "".join(f"{name},val\n" for name in t1))
    # Both are trained on and tested.
    data = [f"--data.root={root}", "--data.demo=null", "--data.csv=parts.csv", "--data.split_list=train_all"]
    sizes = [f"--data.crop_size={SIZE}", f"--model.window={SIZE}", "--data.cache=cache", "--trainer.max_steps=20"]
    options = ["-c", str(RECIPE), *data, *sizes]
    main(["fit", *options])
    main(["test", *options, "--ckpt_path=last"])
    main(["predict", *options, "--ckpt_path=last"])
    (scores,) = Path("runs").rglob("scores.csv")
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16  # 15 sets and their mean
    assert all(0 <= float(row[f"soft_dice_{region}"]) <= 1 for row in rows for region in ("ET", "WT", "TC"))
    written = {path.name.removesuffix(".nii.gz"): path for path in Path("runs").rglob("predictions/*.nii.gz")}
    assert written.keys() == t1.keys()
    for name, path in written.items():
        ours, theirs = nibabel.load(path), nibabel.load(t1[name])
        assert np.array_equal(ours.affine, theirs.affine)
        assert ours.shape == theirs.shape
        assert set(np.unique(ours.dataobj)) <= {0, 1, 2, 4}
