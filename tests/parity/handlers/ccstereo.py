"""CCStereo's cases and those of Mono2Binaural, with which it compares; their data and metrics are another module's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import datamodules.binaural.frames as cutting
import datamodules.binaural.windows as windows
import losses.spectrogram as spectrogram
import losses.triplet as triplet
import zoo.metrics.binaural as metrics
import zoo.networks.binaural as binaural
import zoo.networks.mask_unet as mask_unet
from tests.parity.handlers.ccstereo_data import measured, statistics
from tests.parity.harness import Case, handles
from zoo.checkpoints import import_state
from zoo.checkpoints.rules import apply_rules
from zoo.methods.baselines.binaural import Mono2Binaural, MonoMono
from zoo.methods.ccstereo.module import CCStereo
from zoo.methods.ccstereo.network import AVAD
from zoo.methods.ccstereo.official import AVAD_RULES
from zoo.networks.stft import STFT

PRODUCT = "zoo.networks.mask_unet.complex_product"
SEEN, HEARD = "zoo.methods.ccstereo.visual.VisualNet.forward", "zoo.methods.ccstereo.network.AudioNet.forward"


def with_stats(found: Mapping[str, Tensor]) -> dict[str, Any]:
    """Each result and its statistics."""
    return {key: value for name, tensor in found.items() for key, value in statistics(name, tensor).items()}


def stft_settings(config: Mapping[str, Any]) -> dict[str, int]:
    return {key: config[key] for key in ("n_fft", "hop_length", "win_length")}


def ccstereo(case: Case, **settings: Any) -> CCStereo:
    """The model of a case, with its published weights."""
    frames = next(value for name, value in case.inputs.items() if name.startswith("frame"))
    model = CCStereo(
        backbone=f"resnet{case.config.get('backbone', 18)}",
        width=16 * case.config["dim_scale"],
        window=case.config["samples"] / case.config["sample_rate"],
        frame_size=tuple(frames.shape[-2:]),
        **stft_settings(case.config),
        **settings,
    )
    import_state(model, case.state, model.official.rules)
    return model


def published_parameters(case: Case, model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's parameters by their published names."""
    sources = apply_rules(case.state, model.official.rules).sources
    return {sources[name]: parameter for name, parameter in model.named_parameters()}


def norms(case: Case, tensors: Mapping[str, Tensor | None]) -> Tensor:
    """L2 norms in the order of the case; 0 for what this project leaves out because it is never used."""
    found = [tensors.get(name) for name in case.facts["grad_names"]]
    return torch.stack([torch.tensor(0.0) if x is None else x.norm() for x in found])


@handles("ccstereo", "avad", uses=("zoo.methods.ccstereo.network.AVAD.forward",))
def avad(case: Case) -> dict[str, Any]:
    config, visual = case.config, case.inputs["v"].clone().requires_grad_()
    layer = AVAD(config["norm_nc"], config["audio_size"], config["vision_channel"], config["v_seq"], config["ks"])
    import_state(layer, case.state, AVAD_RULES)
    x = case.inputs["x"].clone().requires_grad_()
    with torch.no_grad():
        out_eval = layer.eval()(x, visual)
    out = layer.train()(x, visual)
    (out * case.inputs["probe"]).sum().backward()
    sources = apply_rules(case.state, AVAD_RULES).sources
    gradients = {sources[name]: parameter.grad for name, parameter in layer.named_parameters()}
    return {
        "out_eval": out_eval,
        "out_train": out,
        "grad_x": x.grad,
        "grad_v": visual.grad,
        "grad_norms": norms(case, gradients),
        "running_mean": layer.norm.running_mean,
        "running_var": layer.norm.running_var,
    }


@handles("ccstereo", "scl_loss", uses=("losses.triplet.triplet_info_nce",))
def scl_loss(case: Case) -> dict[str, Any]:
    rows = [case.inputs[name].clone().requires_grad_() for name in ("anchor", "positive", "negative")]
    loss = triplet.triplet_info_nce(*rows, temperature=case.config["temperature"])
    loss.backward()
    anchor, positive, negative = (row.grad for row in rows)
    return {"loss": loss[None], "grad_anchor": anchor, "grad_positive": positive, "grad_negative": negative}


@handles("ccstereo", "losses", uses=(
    "losses.spectrogram.spectrogram_mse", "losses.spectrogram.spectrogram_envelope",
    "losses.spectrogram.spectrogram_phase", "zoo.networks.binaural.both_ears",
    "zoo.metrics.binaural.amplitude_distance",
))  # fmt: skip
def loss_terms(case: Case) -> dict[str, Any]:
    settings, ignore_below = stft_settings(case.config), case.config["ignore_below"]
    stft, reflecting = STFT(**settings, pad_mode=case.config["pad_mode"]), STFT(**settings, pad_mode="reflect")
    target, stereo = 0.5 * case.inputs["gt"], 0.1 * case.inputs["reals"]
    predicted = (0.5 * case.inputs["pred"]).requires_grad_()
    mono = stereo.sum(1, keepdim=True)
    ears = binaural.both_ears(mono, stft.inverse(predicted, case.config["samples"])[:, None])
    phase = partial(spectrogram.spectrogram_phase, ignore_below=ignore_below)
    values = [
        spectrogram.spectrogram_mse(predicted, target),
        spectrogram.spectrogram_envelope(predicted, target),
        phase(reflecting(ears), reflecting(stereo)),
    ]
    gradients = [torch.autograd.grad(value, predicted, retain_graph=True)[0] for value in values]
    found = with_stats({"grad_amp": gradients[1], "stereo": ears.detach()})
    return found | {
        "values": torch.stack(values),
        "grad_norms": torch.stack([gradient.norm() for gradient in gradients]),
        "amp_wav": metrics.amplitude_distance(ears, stereo, reflecting).mean()[None] / ears.shape[1],
        "wav_l2": spectrogram.spectrogram_mse(ears, stereo)[None],
        "spec_phase": phase(predicted, target)[None],
    }


def whole_network(case: Case) -> dict[str, Any]:
    model = ccstereo(case).eval()
    with torch.no_grad():
        mix = model.stft(0.2 * case.inputs["mono"][:, 0])
        visual = model.see(case.inputs["frame"])
        mask = model.audio(mix, visual)
    predicted = mask_unet.complex_product(mix, mask)
    return with_stats({"mix_spec": mix, "visual_feature": visual, "mask_prediction": mask, "pred_diff_spec": predicted})


for family in ("model_eval", "model_eval_r50"):
    handles("ccstereo", family, uses=("zoo.networks.stft.STFT.forward", SEEN, HEARD, PRODUCT))(whole_network)


@handles("ccstereo", "model_train", uses=(
    SEEN, "zoo.methods.ccstereo.network.AudioNet.contrasted", "losses.triplet.triplet_info_nce", PRODUCT
))  # fmt: skip
def model_train(case: Case) -> dict[str, Any]:
    model = ccstereo(case).train()
    with torch.no_grad():
        mix = model.stft(0.2 * case.inputs["mono"][:, 0])
        seen, before = model.see(case.inputs["frame"]), model.see(case.inputs["prev_frame"])
        mask, rows = model.audio.contrasted(mix, seen, before, case.inputs["perm"])
        loss = triplet.triplet_info_nce(*rows, temperature=case.config["temperature"])
    found = with_stats({"mask_prediction": mask, "pred_diff_spec": mask_unet.complex_product(mix, mask)})
    state, renamed = model.state_dict(), apply_rules(case.state, model.official.rules)
    ours = {source: key for key, source in renamed.sources.items()}
    for name, how in case.outputs.items():
        if name.startswith("after/"):
            value = state[ours[name.removeprefix("after/")]].reshape(-1)
            every = re.search(r"every (\d+)th entry", how["meaning"])
            found[name] = value[:: int(every.group(1))] if every else value
    return found | {"ssl_loss": loss[None]}


@handles("ccstereo", "train3", uses=(
    "zoo.methods.ccstereo.module.CCStereo.terms", SEEN, "zoo.networks.binaural.scale_to_rms"
))  # fmt: skip
def train3(case: Case) -> dict[str, Any]:
    config = case.config
    decay = float(re.search(r"weight_decay (\S+)", config["optimizer"]).group(1))
    power, steps = re.search(r"power ([\d.]+), total_iters (\d+)", config["scheduler"]).groups()
    model = ccstereo(
        case,
        optimizer=partial(torch.optim.Adam, lr=config["lr_audio"], weight_decay=decay),
        scheduler=partial(torch.optim.lr_scheduler.PolynomialLR, total_iters=int(steps), power=float(power)),
        visual_lr_share=config["lr_visual"] / config["lr_audio"],
        losses={
            slot: {"weight": config["weights"][theirs]}
            for slot, theirs in (("mse", "mse"), ("amplitude", "amp"), ("phase", "phase"), ("contrast", "ssl"))
        },
    ).train()
    made = model.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    parameters = published_parameters(case, model)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    rows: dict[str, list[Tensor]] = {}
    for step in range(sum(name.startswith("reals_") for name in case.inputs)):
        stereo, _ = binaural.scale_to_rms(case.inputs[f"reals_{step}"])
        previous, current = case.inputs[f"frames_{step}"].unbind(1)
        seen, seen_before = model.see(current), model.see(previous)
        terms = model.terms(stereo, seen, seen_before, case.inputs[f"perm_{step}"])
        weighted = {slot: model.losses.weights[slot].at(0, 0) * term for slot, term in terms.items()}
        loss = sum(weighted.values())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = norms(case, {name: parameter.grad for name, parameter in parameters.items()})
        optimizer.step()
        scheduler.step()
        rates = torch.tensor([group["lr"] for group in optimizer.param_groups])
        for name, value in {"loss": loss, **weighted, "lr": rates}.items():
            rows.setdefault(name, []).append(value.detach())
    found = {name: torch.stack(values) for name, values in rows.items()}
    theirs = {"mse": "mse_loss", "amplitude": "amp_loss", "phase": "phase_wav_loss", "contrast": "ssl_loss"}
    moved = {name: parameter.detach() - before[name] for name, parameter in parameters.items()}
    return {theirs.get(name, name): value for name, value in found.items()} | {
        "grad_norms": gradients,
        "param_delta": norms(case, moved),
    }


def mono2binaural(case: Case, frame_size: tuple[int, int], **settings: Any) -> Mono2Binaural:
    model = Mono2Binaural(
        backbone="resnet18",
        width=case.config["ngf"],
        window=case.config["samples"] / case.config["sample_rate"],
        frame_size=frame_size,
        pad_mode=case.config["pad_mode"],
        **stft_settings(case.config),
        **settings,
    )
    import_state(model, case.state, model.official.rules)
    return model


M2B = "zoo.methods.baselines.binaural"


@handles("ccstereo", "m2b_model_eval", uses=(
    "zoo.networks.stft.STFT.forward", "zoo.networks.frame_encoder.FrameEncoder.forward", f"{M2B}.TiledUNet.forward",
    f"{M2B}.Mono2Binaural.predicted", f"{M2B}.Mono2Binaural.error", "zoo.networks.binaural.scale_to_rms",
))  # fmt: skip
def m2b_model_eval(case: Case) -> dict[str, Any]:
    frame = case.inputs["frame"]
    model = mono2binaural(case, tuple(frame.shape[-2:])).eval()
    stereo, _ = binaural.scale_to_rms(case.inputs["stereo"])
    with torch.no_grad():
        mix, visual = model.stft(stereo.sum(1)), model.see(frame)
        found = {
            "mix_spec": mix,
            "visual_feature": visual,
            "mask_prediction": model.audio(mix, visual),
            "pred_diff_spec": model.predicted(mix, visual),
        }
        return with_stats(found) | {"mse": model.error(stereo, visual)[None]}


@handles("ccstereo", "m2b_train3", uses=(f"{M2B}.Mono2Binaural.error", "zoo.networks.binaural.scale_to_rms"))
def m2b_train3(case: Case) -> dict[str, Any]:
    config = case.config
    decay = float(re.search(r"weight_decay (\S+)", config["optimizer"]).group(1))
    model = mono2binaural(
        case,
        tuple(case.inputs["frame_0"].shape[-2:]),
        optimizer=partial(torch.optim.Adam, lr=config["lr_audio"], weight_decay=decay),
        visual_lr_share=config["lr_visual"] / config["lr_audio"],
    ).train()
    optimizer = model.configure_optimizers()["optimizer"]
    rows = []
    for step in range(sum(name.startswith("stereo_") for name in case.inputs)):
        stereo, _ = binaural.scale_to_rms(case.inputs[f"stereo_{step}"])
        loss = model.error(stereo, model.see(case.inputs[f"frame_{step}"]))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            parameters = published_parameters(case, model)
            gradients = norms(case, {name: parameter.grad for name, parameter in parameters.items()})
        optimizer.step()
        rows.append(loss.detach())
    return {"loss": torch.stack(rows), "grad_norms": gradients}


# -- whole clips ---------------------------------------------------------------------------------------------------

RENDERING = ("zoo.networks.binaural.cut_windows", "zoo.networks.binaural.overlap_add", "zoo.networks.stft.STFT.inverse")


def recording(case: Case) -> Tensor:
    """Left and right of a case's clip, float [2, T]."""
    first, second = case.inputs["audio"]
    return 0.1 * torch.stack([first, 0.6 * first + 0.4 * second])


def clip(stereo: Tensor, starts: Any, of_window: Any) -> dict[str, Any]:
    """What rendering needs of a batch."""
    places = {"window_start": starts, "window_frame": of_window}
    return {"stereo": stereo[None], **{name: torch.as_tensor(value)[None] for name, value in places.items()}}


@handles("ccstereo", "eval_clip", uses=(
    *RENDERING, SEEN, HEARD, "zoo.methods.ccstereo.module.CCStereo.published_normalizer",
    "datamodules.binaural.windows.regular_starts", "zoo.metrics.binaural.to_full_scale",
))  # fmt: skip
def eval_clip(case: Case) -> dict[str, Any]:
    model = ccstereo(case, published_inference=True).eval()
    stereo, frames = recording(case), case.inputs["frames"]
    hop = int(case.config["hop_fraction"] * case.config["samples"])
    starts = windows.regular_starts(stereo.shape[1], case.config["samples"], hop)
    with torch.no_grad():
        batch = clip(stereo, starts, torch.arange(len(starts)))
        predicted = model.render(stereo.sum(0)[None], frames[None], batch)[0]
    scaled = {"pred": metrics.to_full_scale(predicted), "gt": metrics.to_full_scale(stereo)}
    return with_stats(scaled) | {"metrics": measured(case, predicted, stereo)}


@handles("ccstereo", "m2b_demo_reflect", uses=(
    *RENDERING, f"{M2B}.TiledUNet.forward", f"{M2B}.MonoMono.render", "zoo.networks.frame_encoder.FrameEncoder.forward",
    "datamodules.binaural.windows.flush_starts", "datamodules.binaural.windows.frames_of_a_given_length",
    "datamodules.binaural.frames.squeeze", "zoo.networks.normalise.Normalise.forward",
    "zoo.metrics.binaural.stft_distance", "zoo.metrics.binaural.envelope_distance",
))  # fmt: skip
def m2b_demo(case: Case) -> dict[str, Any]:
    config, stereo = case.config, recording(case)
    model = mono2binaural(case, (224, 448), published_inference=True).eval()
    starts = windows.flush_starts(stereo.shape[1], config["samples"], config["hop"])
    numbers = windows.frames_of_a_given_length(
        starts, stereo.shape[1], config["input_audio_length"], window=config["samples"]
    )
    pictures = [Image.fromarray(pixels) for pixels in case.inputs["frames"].numpy().astype(np.uint8)]
    video = model.normalise(torch.stack([cutting.squeeze(picture, (224, 448)) for picture in pictures]))
    with torch.no_grad():
        sides = [
            judge.render(stereo.sum(0)[None], video[None], clip(stereo, starts, numbers))
            for judge in (model, MonoMono())
        ]
    distances = {
        "stft": partial(metrics.stft_distance, transform=model.stft),
        "env": metrics.envelope_distance,
    }
    scales = {"": lambda x: x, " normalised": metrics.to_full_scale}
    found = {
        f"{name} {distance}{scale}": compare(rescaled(predicted), rescaled(stereo[None]))[0]
        for name, predicted in zip(("pred", "mono-mono"), sides, strict=True)
        for distance, compare in distances.items()
        for scale, rescaled in scales.items()
    }
    return with_stats({"pred": sides[0][0]}) | {
        "frame_numbers": numbers,
        "metrics": torch.stack([found[name] for name in case.facts["metric_names"]]),
    }


handles("ccstereo", "m2b_demo_constant", uses=(
    "zoo.networks.stft.STFT.forward", f"{M2B}.Mono2Binaural.published_normalizer"
))(m2b_demo)  # fmt: skip
