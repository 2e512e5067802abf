"""An import is whole, checked and reported, or it changes nothing."""

import sys
import types
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch import nn

from zoo.checkpoints import Official, Rule, convert, import_state, load_weights, provenance, save
from zoo.core.errors import CheckpointError
from zoo.core.reading import read_tensors
from zoo.module import ZooModule

RULES = (
    Rule(r"^encoder\.", "backbone."),
    Rule(r"^fc\.", "head."),
    Rule("^proto$", "prototypes", transform=lambda w: w.T),
    Rule(r"^aux\.", drop=True),
    Rule(r"^ema\.", drop=True, optional=True),
)


class Toy(nn.Module):
    official = Official(rules=RULES, version=2)

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, num_classes)
        self.register_buffer("prototypes", torch.zeros(num_classes, 5))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def published(num_classes: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint of the toy under its authors' names."""
    draw = torch.Generator().manual_seed(seed)
    state = Toy(num_classes).state_dict()
    state = {k: torch.randn(v.shape, generator=draw) if v.is_floating_point() else v + 7 for k, v in state.items()}
    state["mask"] = Toy().mask
    state["proto"] = state.pop("prototypes").T
    theirs = {k.replace("backbone.", "encoder.").replace("head.", "fc."): v for k, v in state.items()}
    return {**theirs, "aux.weight": torch.ones(2)}


def snapshot(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_unchanged(model, before):
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.fixture
def model():
    return Toy()


@pytest.fixture
def official_file(tmp_path):
    path = tmp_path / "toy.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in published().items()}, "epoch": 9}, path)
    return path


def assert_loaded(model, tensors):
    assert torch.equal(model.backbone[0].weight, tensors["encoder.0.weight"])
    assert torch.equal(model.backbone[1].running_var, tensors["encoder.1.running_var"])
    assert torch.equal(model.prototypes, tensors["proto"].T)
    assert model.backbone[1].num_batches_tracked == 7


# -- all or nothing --------------------------------------------------------------------------------------------------


def test_a_whole_checkpoint_is_loaded_and_counted(model):
    report = import_state(model, published(), RULES)
    assert_loaded(model, published())
    assert len(report.matched) == len(model.state_dict())
    assert (report.missing, report.unexpected, report.mis_shaped, report.casts) == ((), (), {}, {})
    assert report.dropped == ("aux.weight",)
    assert [rule.pattern for rule in report.idle] == [r"^ema\."]
    assert report.changed


DEFECTS = {
    r"1 missing \(head\.bias\)": lambda t: t.pop("fc.bias"),
    r"2 missing \(head\.weight, head\.bias\).*--allow-missing 'head\.\*'": lambda t: [
        t.pop("fc.bias"),
        t.pop("fc.weight"),
        t.update({"fc.scale": torch.ones(1)}),
    ],
    r"1 missing \(backbone\.1\.running_mean\)": lambda t: t.pop("encoder.1.running_mean"),
    r"1 missing \(backbone\.1\.num_b.*--allow-missing 'backbone\.1\.num_b": lambda t: t.pop(
        "encoder.1.num_batches_tracked"
    ),
    r"1 unexpected \(gate\)": lambda t: t.update(gate=torch.ones(1)),
    r"1 unexpected \(scratch\)": lambda t: t.update(scratch=torch.ones(2)),
    r"1 of another shape \(head\.bias \[4\] → \[3\]\).*--allow-missing 'head\.bias'": lambda t: t.update(
        {"fc.bias": torch.ones(4)}
    ),
    r"1 not finite \(prototypes\)": lambda t: t["proto"].fill_(torch.nan),
    r"2 not finite \(mask, head\.weight\)": lambda t: [t["fc.weight"][0].fill_(torch.inf), t["mask"].fill_(torch.nan)],
    r"1 of another kind of number \(backbone\.1\.num_batches_tracked float32 → int64\)": lambda t: t.update(
        {"encoder.1.num_batches_tracked": torch.tensor(0.5)}
    ),
    r"1 of another kind of number \(head\.bias complex64 → float32\)": lambda t: t.update(
        {"fc.bias": torch.ones(3, dtype=torch.complex64)}
    ),
    r"1 not finite \(head\.bias\)": lambda t: t.update({"fc.bias": torch.full((3,), 1e300, dtype=torch.float64)}),
    r"Rule\('\^proto\$', 'prototypes'\) matches no key": lambda t: t.pop("proto"),
}


@pytest.mark.parametrize("message", DEFECTS)
def test_a_refused_import_says_why_and_changes_nothing(model, message):
    tensors, before = published(), snapshot(model)
    DEFECTS[message](tensors)
    with pytest.raises(CheckpointError, match=message):
        import_state(model, tensors, RULES, source="toy.pth")
    assert_unchanged(model, before)


def test_the_message_names_file_model_counts_and_way_out(model):
    tensors = published()
    del tensors["fc.bias"]
    with pytest.raises(CheckpointError) as refused:
        import_state(model, tensors, RULES, source="toy.pth")
    assert str(refused.value) == (
        "toy.pth does not fit Toy: 1 missing (head.bias); 10 tensors would fit. Nothing was loaded. "
        "To keep the model's own values there: --allow-missing 'head.bias'."
    )


def test_the_suggested_pattern_allows_nothing_that_the_file_has(model):
    tensors = published()
    del tensors["encoder.0.bias"], tensors["encoder.1.bias"]
    with pytest.raises(CheckpointError, match=r"--allow-missing 'backbone\.0\.bias'"):
        import_state(model, tensors, RULES)


def test_what_may_be_missing_keeps_the_models_values(model):
    tensors, before = published(), snapshot(model)
    del tensors["fc.bias"]
    report = import_state(model, tensors, RULES, allow_missing=["head.*"])
    assert report.missing == report.allowed == ("head.bias",)
    assert torch.equal(model.head.bias, before["head.bias"])
    assert torch.equal(model.head.weight, tensors["fc.weight"])


def test_another_number_of_classes_is_fine_tuned_by_allowing_the_head_to_be_missing():
    model, tensors = Toy(num_classes=8), published(num_classes=3)
    before = snapshot(model)
    with pytest.raises(CheckpointError, match="3 of another shape"):
        import_state(model, tensors, RULES)
    report = import_state(model, tensors, RULES, allow_missing=["head.*", "prototypes"])
    assert set(report.missing) == {"head.weight", "head.bias", "prototypes"}
    assert torch.equal(model.head.weight, before["head.weight"])
    assert torch.equal(model.backbone[0].weight, tensors["encoder.0.weight"])
    assert "of another shape 3 (prototypes [3, 5] → [8, 5], head.weight [3, 5] → [8, 5], " in str(report)


def test_a_pattern_that_matches_nothing_is_an_error_with_near_misses(model):
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=r"--allow-missing 'haed\.\*' matches no tensor.*Did you mean head\.\*"):
        import_state(model, published(), RULES, allow_missing=["haed.*"])
    assert_unchanged(model, before)


def test_casts_are_reported(model):
    tensors = published()
    tensors["fc.bias"] = tensors["fc.bias"].half()
    report = import_state(model, tensors, RULES)
    assert report.casts == {"head.bias": (torch.float16, torch.float32)}
    assert model.head.bias.dtype == torch.float32
    assert "cast 1 (float16 → float32)" in str(report)


def test_an_import_that_changes_nothing_warns(model):
    import_state(model, published(), RULES)
    report = import_state(model, published(), RULES)
    assert not report.changed
    assert "warning: no tensor differs" in str(report)


def test_rules_may_be_a_function_where_one_tensor_becomes_several():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)

    def split(tensors):
        query, key = tensors["qk"].chunk(2)
        return {"query.weight": query, "key.weight": key}

    model, both = Attention(), torch.randn(4, 2)
    import_state(model, {"module.qk": both}, split)
    assert torch.equal(model.key.weight, both[2:])
    with pytest.raises(CheckpointError, match=r"it: its tensors are not those .*'qk'"):
        import_state(model, {"other": both}, split, source="it")


# -- the one door ----------------------------------------------------------------------------------------------------


def test_a_published_file_comes_in_by_the_models_rules(model, official_file):
    report = load_weights(model, official_file)
    assert_loaded(model, published())
    assert report.sha256 == read_tensors(official_file).sha256
    assert str(report).splitlines() == [
        f"{official_file} (torch zip, under 'state_dict') → Toy",
        f"  sha256 {report.sha256}",
        "  matched 11",
        "  dropped 1 (module.aux.weight)",
        r"  rules without a match 1 (Rule('^ema\\.'))",
    ]


def test_the_report_names_other_state_dicts_of_the_file(model, tmp_path):
    torch.save({"model": published(), "model_ema": published(seed=1)}, tmp_path / "a.pth")
    assert "the file also holds model_ema" in str(load_weights(model, tmp_path / "a.pth"))


def test_the_methods_key_chooses_the_container(model, tmp_path, monkeypatch):
    torch.save({"voxel": published(seed=1), "range": published(seed=2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="several state dicts"):
        load_weights(model, tmp_path / "a.pth")
    monkeypatch.setattr(Toy, "official", Official(RULES, version=1, key="range"))
    load_weights(model, tmp_path / "a.pth")
    assert_loaded(model, published(seed=2))


def test_our_own_file_comes_in_without_rules(model, tmp_path):
    import_state(model, published(), RULES)
    save(tmp_path / "ours.safetensors", model.state_dict(), metadata={"method": "toy"})
    other = Toy()
    load_weights(other, str(tmp_path / "ours.safetensors"))
    assert_unchanged(other, model.state_dict())


class ToyMethod(ZooModule):
    task = "toy"

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Linear(width, 2)
        self.register_buffer("queue", torch.randn(5))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())


def test_the_checkpoint_of_a_training_run_comes_in_without_rules(tmp_path):
    trained, fresh = ToyMethod(), ToyMethod()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(trained)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    report = load_weights(fresh, tmp_path / "last.ckpt")
    assert report.matched == ("queue", "network.weight", "network.bias")
    assert torch.equal(fresh.queue, trained.queue)
    wider = ToyMethod(width=3)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(network.weight \[2, 2\] → \[2, 3\]\)"):
        load_weights(wider, tmp_path / "last.ckpt")


def test_a_model_without_rules_takes_no_published_file(official_file):
    model = ToyMethod()
    with pytest.raises(CheckpointError, match=r"ToyMethod has no rules for published checkpoints. It takes the .ckpt"):
        load_weights(model, official_file)


def test_a_missing_file_is_told(model, tmp_path):
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"Did you mean best\.ckpt"):
        load_weights(model, tmp_path / "bset.ckpt")


# -- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository, `someone/toy`."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def download(repo_id, filename):
        asked.append((repo_id, filename))
        if repo_id != "someone/toy":
            raise RuntimeError("404 Client Error\nlong explanation")
        source = Toy()
        import_state(source, published(), RULES)
        save(tmp_path / "downloaded.safetensors", source.state_dict(), metadata={"method": "toy"})
        return str(tmp_path / "downloaded.safetensors")

    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return asked


@pytest.mark.parametrize("name", ["someone/toy", "hf://someone/toy", Path("hf://someone/toy")])
def test_a_hub_id_is_downloaded(model, hub, name):
    report = load_weights(model, name)
    assert hub == [("someone/toy", "model.safetensors")]
    assert_loaded(model, published())
    assert report.source == str(name)


def test_a_conversion_from_the_hub_names_it(model, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "official", Official(rules=(), version=1))
    convert(model, "someone/toy", tmp_path / "toy.safetensors", method="toy")
    assert provenance(tmp_path / "toy.safetensors")["source_name"] == "hf://someone/toy"


def test_a_file_of_that_name_comes_before_the_hub(model, hub, tmp_path):
    (tmp_path / "someone").mkdir()
    torch.save(published(), tmp_path / "someone" / "toy")
    load_weights(model, "someone/toy")
    assert hub == []


@pytest.mark.parametrize("name", ["runs/best.ckpt", "best", "a/b/c", "../toy", "/tmp/toy"])
def test_a_mistyped_path_does_not_ask_the_hub(model, hub, name):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_weights(model, name)
    assert hub == []


def test_what_the_hub_says_is_told_in_one_line(model, hub):
    with pytest.raises(
        CheckpointError, match=r"^nobody/toy is no file here, and its .* from the hub: 404 Client Error$"
    ):
        load_weights(model, "nobody/toy")


def test_without_the_hubs_package_its_command_is_told(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install huggingface_hub$"):
        load_weights(model, "hf://someone/toy")


# -- convert ---------------------------------------------------------------------------------------------------------


def test_a_converted_file_says_where_it_came_from_and_loads_without_rules(model, official_file, tmp_path):
    out, before = tmp_path / "toy.safetensors", snapshot(model)
    report = convert(model, official_file, out, method="toy", licence="CC-BY-4.0")
    assert_unchanged(model, before)
    found = provenance(out)
    del found["multimodal_zoo"]
    assert found == {
        "method": "toy",
        "rules_version": "2",
        "source_name": "toy.pth",
        "source_sha256": report.sha256,
        "licence": "CC-BY-4.0",
    }
    load_weights(model, out)
    assert_loaded(model, published())


def test_converting_twice_gives_the_same_bytes(official_file, tmp_path):
    convert(Toy(), official_file, tmp_path / "a.safetensors", method="toy")
    convert(Toy(), official_file, tmp_path / "b.safetensors", method="toy")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_converted_file_holds_no_made_up_tensors(official_file, tmp_path):
    out, wider = tmp_path / "a.safetensors", Toy(num_classes=8)
    convert(wider, official_file, out, method="toy", allow_missing=["head.*", "prototypes"])
    assert not any(key.startswith("head") for key in read_tensors(out).tensors)
    with pytest.raises(CheckpointError, match="missing"):
        load_weights(wider, out)
    load_weights(wider, out, allow_missing=["head.*", "prototypes"])


def test_a_refused_conversion_writes_nothing(model, tmp_path):
    tensors = published()
    del tensors["fc.bias"]
    torch.save(tensors, tmp_path / "toy.pth")
    with pytest.raises(CheckpointError, match="1 missing"):
        convert(model, tmp_path / "toy.pth", tmp_path / "toy.safetensors", method="toy")
    assert [path.name for path in tmp_path.iterdir()] == ["toy.pth"]


def test_an_existing_file_is_not_overwritten(model, official_file, tmp_path):
    out = tmp_path / "toy.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(CheckpointError, match=r"toy.safetensors exists: delete it or choose another name\."):
        convert(model, official_file, out, method="toy")
    assert out.read_bytes() == b"precious"


def test_the_file_to_write_must_bear_the_formats_name(model, official_file, tmp_path):
    with pytest.raises(CheckpointError, match=r"name that ends in \.safetensors"):
        convert(model, official_file, tmp_path / "toy.pth2", method="toy")
    with pytest.raises(CheckpointError, match="ToyMethod has no rules"):
        convert(ToyMethod(), official_file, tmp_path / "toy.safetensors", method="toy")
