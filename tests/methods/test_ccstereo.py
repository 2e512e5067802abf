"""CCStereo and its baselines: what they compute, that they learn, resume and agree over ranks."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.hot_paths import compare
from datamodules.batch import check_batch
from datamodules.binaural.fairplay import FAIRPlay
from tests.support import binaural
from tests.support.probes import state
from tests.support.runs import Run, train, uncut_and_resumed
from zoo.cli import main
from zoo.core.errors import DataError, RecipeError
from zoo.methods.baselines.binaural import Mono2Binaural, MonoMono
from zoo.methods.ccstereo.module import CCStereo
from zoo.methods.ccstereo.network import AVAD, Fusion
from zoo.metrics.binaural import STFTDistance
from zoo.networks.binaural import scale_to_rms
from zoo.tasks.binaural_audio import BinauralAudioModule

MODELS = {"ccstereo": binaural.ccstereo, "mono2binaural": binaural.mono2binaural}


def loss_of(model: nn.Module, batch: dict) -> torch.Tensor:
    """The weighted loss of a training step, without a trainer."""
    stereo, frames = model.segment(batch)
    if not isinstance(model, CCStereo):
        return model.error(stereo, model.see(frames[:, -1]))
    seen, before = model.see(frames[:, 1]), model.see(frames[:, 0])
    terms = model.terms(stereo, seen, before, torch.randperm(seen[0, 0].numel(), generator=torch.Generator()))
    return sum(model.losses.weights[slot].at(0, 0) * term for slot, term in terms.items())


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name):
    model = MODELS[name]().train()
    loss_of(model, binaural.training_batch()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("case", ["silence", "one sample", "one silent ear"])
def test_odd_batches_have_a_loss_and_gradients(name, case):
    batch = binaural.training_batch(1 if case == "one sample" else 2)
    batch["stereo"][:, : {"silence": 2, "one sample": 0, "one silent ear": 1}[case]] = 0
    model = MODELS[name]().train()
    loss = loss_of(model, batch)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_step_in_bfloat16_is_within_two_percent(name):
    model, batch = MODELS[name]().train(), binaural.training_batch()
    exact = loss_of(copy.deepcopy(model), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(model, batch)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(exact.detach()), rel=0.02)


@pytest.mark.parametrize("name", [*MODELS, "mono_mono"])
@pytest.mark.parametrize("samples", [14_000, 10_080, 9_000, 300])
def test_clips_of_any_length_come_out_as_long_and_mix_down_to_what_went_in(name, samples):
    model = MonoMono() if name == "mono_mono" else MODELS[name]()
    batch = binaural.clip_batch(samples)
    with torch.no_grad():
        found = model.eval()(batch)
    assert found.shape == (1, 2, samples)
    torch.testing.assert_close(found.sum(1), batch["modalities"]["audio"], atol=1e-5, rtol=1e-4)
    assert torch.equal(found[:, 0], found[:, 1]) == (name == "mono_mono")


@pytest.mark.parametrize("name", MODELS)
def test_silence_stays_silent(name):
    batch = binaural.clip_batch()
    batch["modalities"]["audio"].zero_()
    with torch.no_grad():
        assert MODELS[name]().eval()(batch).abs().max() == 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_windows_together_are_windows_one_by_one(name, chunk_size):
    model, batch = MODELS[name](chunk_size=chunk_size).eval(), binaural.clip_batch(20_000, count=2)
    check_batch(batch, "binaural_audio")
    with torch.no_grad():
        found = model(batch)
        for clip in range(2):
            total, times = torch.zeros(2, 2 * 20_000), torch.zeros(2 * 20_000)
            for start, place in zip(batch["window_start"][clip], batch["window_frame"][clip], strict=True):
                own = slice(int(start), int(start) + model.window)
                window = torch.nn.functional.pad(batch["modalities"]["audio"][clip], (0, 20_000))[own]
                mono = 0.2 * window / window.square().mean().sqrt()
                frame = model.frames(batch)[clip, place]
                difference = model.hear(mono[None], model.see(frame[None]))[0]
                ears = torch.stack([mono + difference, mono - difference]) / 2
                total[:, own] += ears * window.square().mean().sqrt() / 0.2
                times[own] += 1
            expected = (total / times.clamp_min(1))[:, :20_000]
            torch.testing.assert_close(found[clip], expected, atol=1e-6, rtol=1e-3)


def test_each_frame_is_looked_at_once(monkeypatch):
    model, batch, seen = binaural.ccstereo().eval(), binaural.clip_batch(40_000), []
    see = model.see
    monkeypatch.setattr(model, "see", lambda frames: seen.append(len(frames)) or see(frames))
    with torch.no_grad():
        model(batch)
    assert sum(seen) == 3 < len(batch["window_start"][0])


def test_evaluation_is_one_and_a_half_times_as_fast_as_window_by_window():
    assert max(compare("binaural_clip", small=True, seconds=0.2).ratio for _ in range(2)) >= 1.5


@pytest.mark.parametrize("absent", ["video", "audio"])
def test_an_absent_modality_is_not_looked_at(absent):
    model, batch = binaural.ccstereo().eval(), binaural.clip_batch()
    batch["present"][absent][:] = False
    with torch.no_grad():
        found = model(batch)
        batch["modalities"][absent].fill_(torch.nan)
        torch.testing.assert_close(model(batch), found)
    assert found.isfinite().all()


def test_attention_without_positions_would_not_see_a_shuffle():
    """What the contrastive term relies on: it is the positions' embeddings that tell one order from another."""
    fusion = Fusion(16, 6, 5).eval()
    audio, visual = torch.randn(2, 16, 3, 2), torch.randn(2, 16, 1, 5)
    shuffled = visual[..., [2, 0, 1, 4, 3]]
    with torch.no_grad():
        assert not torch.allclose(fusion(audio, visual), fusion(audio, shuffled), atol=1e-4)
        fusion.visual_position.zero_()
        torch.testing.assert_close(fusion(audio, visual), fusion(audio, shuffled), atol=1e-5, rtol=1e-4)


def test_avad_without_scale_and_shift_is_batch_norm():
    layer = AVAD(16, (4, 2), 8, 6)
    for convolution in (layer.scale, layer.shift):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    x = torch.randn(3, 16, 4, 2)
    torch.testing.assert_close(layer(x, torch.randn(3, 8, 2, 3)), nn.BatchNorm2d(16, affine=False)(x))


@pytest.mark.parametrize(
    ("settings", "frames", "window"),
    [({"frame_size": (224, 448)}, (7, 14), 64), ({"frame_size": (70, 33)}, (3, 2), 64), ({"window": 1.0}, (2, 2), 101)],
)
def test_tables_follow_frame_size_and_window(settings, frames, window):
    model = binaural.ccstereo(**settings)
    assert model.audio.fusion.visual_position.shape == (frames[0] * frames[1], 8)
    assert model.audio.fusion.audio_position.shape == (8 * (window // 32), 8)
    assert model.audio.decoder.norms[0].audio_position.shape == (1, 16 * 2 * (window // 32), 8)
    batch = binaural.training_batch(2, model.frame_size, model.window)
    assert loss_of(model, batch).isfinite()


def test_published_sizes_are_the_defaults():
    assert sum(p.numel() for p in CCStereo().parameters()) == 17_644_226 - UNUSED


# reduce 128→48 with its BatchNorm; an 8-head attention of width 128; a 1×1 convolution
UNUSED = (128 * 48 + 2 * 48) + (3 * 128 * 128 + 3 * 128 + 128 * 128 + 128) + (128 * 128 + 128)


def test_what_does_not_fit_is_told():
    model = binaural.ccstereo()
    with pytest.raises(DataError, match=r"128×64 pixels, the model's 64×64: make data\.frame_size and model"):
        model.segment(binaural.training_batch(size=(128, 64)))
    with pytest.raises(DataError, match=r"16,000 samples, the model's 10,080: make data\.window and model"):
        model.segment(binaural.training_batch(window=16_000))
    with pytest.raises(RecipeError, match=r"model\.window"):
        binaural.ccstereo(window=0.3)
    with pytest.raises(RecipeError, match=r"model\.chunk_size is 0"):
        binaural.ccstereo(chunk_size=0)


@pytest.mark.parametrize("name", [*MODELS, "mono_mono"])
def test_sound_of_another_rate_is_refused(name):
    model = MonoMono() if name == "mono_mono" else MODELS[name]()
    clip, segments = binaural.clip_batch(), binaural.training_batch()
    for batch in (clip, segments):
        batch["sample_rate"]["audio"] = 44_100
    with pytest.raises(DataError, match=r"44,100 Hz; 16,000 Hz are needed"):
        model(clip)
    if name != "mono_mono":
        with pytest.raises(DataError, match=r"44,100 Hz; 16,000 Hz are needed"):
            model.segment(segments)


def test_training_segments_are_scaled_by_both_ears():
    stereo, _ = binaural.ccstereo().segment(binaural.training_batch())
    torch.testing.assert_close(stereo.square().mean((1, 2)).sqrt(), torch.full((3,), 0.1))


@pytest.mark.parametrize("name", MODELS)
def test_sight_learns_at_a_share_of_the_rate(name):
    model = MODELS[name](scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))
    visual, others = model.configure_optimizers()["optimizer"].param_groups
    assert visual["lr"] == pytest.approx(others["lr"] / 10)
    assert {id(p) for p in visual["params"]} == {id(p) for p in model.visual.parameters()}
    assert len(visual["params"]) + len(others["params"]) == len(list(model.parameters()))


# -- what published evaluations do -----------------------------------------------------------------------------------


def test_published_inference_of_ccstereo_hears_windows_at_half_the_level():
    batch = binaural.clip_batch(20_000)
    (mono, _), (published, _) = (
        binaural.ccstereo(published_inference=switch).windows(batch["modalities"]["audio"], batch)
        for switch in (False, True)
    )
    torch.testing.assert_close(published.square().mean((-2, -1)).sqrt(), torch.full(published.shape[:2], 0.1))
    torch.testing.assert_close(mono, 2 * published)


def test_published_inference_scales_by_both_ears_and_keeps_its_stale_sum():
    batch = binaural.clip_batch(20_000)
    fair, published = (binaural.mono2binaural(published_inference=switch).eval() for switch in (False, True))
    audio = batch["modalities"]["audio"]
    _, normalizer = published.windows(audio, batch)
    _, expected = scale_to_rms(batch["stereo"][:, None, :, :10_080])
    torch.testing.assert_close(normalizer[:, 0], expected[:, 0])
    assert not torch.allclose(fair.windows(audio, batch)[1], normalizer)
    with torch.no_grad():
        sums = [model(batch).sum(1) for model in (fair, published)]
    own = batch["window_start"][0, -1]
    torch.testing.assert_close(sums[0], audio, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sums[1][:, :own], audio[:, :own], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(sums[1][:, own:], audio[:, own:], atol=1e-3)


# -- training --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(binaural.run, tmp_path_factory.mktemp("ccstereo"), epochs=3, monitor="val/stft_distance")


@pytest.mark.slow
@pytest.mark.parametrize(("kill", "workers"), [("mid-epoch", 2), ("last batch", 0), ("epoch end", 0)])
def test_cut_and_resumed_equals_uncut(run, kill, workers):
    assert uncut_and_resumed(run, kill, workers) == []


@pytest.mark.slow
def test_two_ranks_equal_one(run):
    one = replace(run, build=binaural.frozen, folder=run.folder / "one", probe=state)
    two = replace(run, build=binaural.half_batch, folder=run.folder / "two", probe=state, ranks=2)
    (alone,), (first, second) = train(one), train(two)
    for key, value in alone["state"].items():
        assert np.array_equal(first["state"][key], second["state"][key]), key
        np.testing.assert_allclose(first["state"][key], value, atol=1e-5, rtol=1e-3, err_msg=key)
    for key, value in alone["metrics"].items():
        if key.startswith("val/"):
            assert first["metrics"][key] == second["metrics"][key] == pytest.approx(value, rel=1e-4)


# -- the demo --------------------------------------------------------------------------------------------------------

RECIPES = Path(__file__).parents[2] / "recipes"
HOP = 0.315  # seconds: fewer windows than the recipes evaluate


def fitted(name: str, cls: type[BinauralAudioModule]) -> BinauralAudioModule:
    """What a recipe trains in the current folder."""
    main(["fit", "-c", str(RECIPES / f"{name}.yaml"), f"--data.hop={HOP}", "--trainer.check_val_every_n_epoch=12"])
    path = Path("runs", name, "version_0", "checkpoints", "last.ckpt")
    return cls.load_from_checkpoint(path, weights_only=True).eval()


@pytest.mark.slow
def test_ccstereo_learns_its_demo_by_looking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = {
        "ccstereo": fitted("ccstereo/demo", CCStereo),
        "mono2binaural": fitted("baselines/binaural_demo", Mono2Binaural),
        "mono_mono": MonoMono(),
    }
    batches = list(FAIRPlay(demo=340, frame_size=(64, 128), hop=HOP).test_dataloader())
    others = [batch["modalities"]["video"] for batch in (batches[-1], *batches[:-1])]
    distances = {name: STFTDistance() for name in (*models, "other pictures")}
    right = []
    with torch.no_grad():
        for batch, other in zip(batches, others, strict=True):
            predicted = {name: model(batch) for name, model in models.items()}
            sides = [x.square().sum(-1).diff().sign() for x in (batch["stereo"], predicted["ccstereo"])]
            right.append(torch.equal(*sides))
            batch["modalities"]["video"] = other
            predicted["other pictures"] = models["ccstereo"](batch)
            for name, value in predicted.items():
                distances[name].update(value, batch["stereo"])
    found = {name: float(distance.compute()) for name, distance in distances.items()}
    assert found["ccstereo"] <= 0.75 * found["mono_mono"]
    assert found["ccstereo"] <= 1.02 * found["mono2binaural"]
    assert np.mean(right) >= 0.8
    assert found["other pictures"] >= 0.9 * found["mono_mono"]
