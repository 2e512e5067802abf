"""GNL's cases: its networks, prior, losses, noise probability and steps; the baselines that it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import losses.candidate_labels as candidate_labels
import losses.classification as classification
import losses.label_correction as label_correction
import losses.noisy_labels as noisy_labels
import zoo.methods.baselines.noisy as noisy_baselines
import zoo.methods.gnl.noise as noise
import zoo.methods.gnl.prior as prior
import zoo.metrics.batch_accuracy as batch_accuracy
import zoo.metrics.transition as transition
from tests.parity.harness import Case, handles
from zoo.checkpoints import apply_rules, import_state
from zoo.methods.gnl.module import GNL
from zoo.methods.gnl.statistics import PriorStatistics
from zoo.tasks.image_classification import ImageClassificationModule

FORWARD = "zoo.methods.gnl.network.TwoHeadNet.forward"


def imported(case: Case, backbone: str, **settings: Any) -> GNL:
    """The model with the case's state dict, by the rules of published checkpoints."""
    model = GNL(case.config["num_classes"], backbone, **settings)
    import_state(model, case.state, model.official.rules)
    return model


def scaled(images: Tensor) -> Tensor:
    return images * torch.arange(1, len(images) + 1)[:, None, None, None]


# -- networks ------------------------------------------------------------------------------------------------------


def evaluated(case: Case, backbone: str) -> dict[str, Any]:
    model = imported(case, backbone).eval()
    with torch.no_grad():
        logits, noisy = model.networks[0](scaled(case.inputs["images"]))
    return {"logits": logits, "noisy_logits": noisy}


def _evaluates(family: str, backbone: str) -> None:
    handles("gnl", family, uses=(FORWARD,))(partial(evaluated, backbone=backbone))


_evaluates("resnet34_eval", "resnet34")
_evaluates("preact_resnet18_eval", "preact_resnet18")
_evaluates("vgg19bn_eval", "vgg19_bn")
_evaluates("resnet50_clothing_eval", "resnet50")
_evaluates("inception_resnet_v2_eval", "inception_resnet_v2")


def trained(case: Case, backbone: str) -> dict[str, Any]:
    model = imported(case, backbone).train()
    network = model.networks[0]
    logits, noisy = network(scaled(case.inputs["images"]))
    labels = torch.arange(len(logits)) % case.config["num_classes"]
    ce = torch.stack(
        [classification.cross_entropy(row[None], label[None]) for row, label in zip(noisy, labels, strict=True)]
    )
    classification.cross_entropy(noisy, labels).backward()
    ours = our_keys(case.config["grad_names"] + case.config["bn_keys"])
    gradients = {key: p.grad for key, p in network.named_parameters()}
    norms = [
        -1.0 if gradients.get(ours[key]) is None else float(gradients[ours[key]].norm())
        for key in case.config["grad_names"]
    ]
    running = {f"bn{n}": network.get_buffer(ours[key]) for n, key in enumerate(case.config["bn_keys"])}
    return {"logits": logits, "noisy_logits": noisy, "ce": ce, "grad_norms": np.array(norms), **running}


def our_keys(published: list[str]) -> dict[str, str]:
    """Published key to the network's; those that the rules drop are left out of the network, and keep their names."""
    rules = GNL.official.rules
    renamed = apply_rules({key: torch.empty(0) for key in published}, rules)
    ours = {source: key.removeprefix("networks.0.") for key, source in renamed.sources.items()}
    return {key: ours.get(key, key) for key in published}


TRAINS = (FORWARD, "losses.classification.cross_entropy")
handles("gnl", "resnet34_train", uses=TRAINS)(partial(trained, backbone="resnet34"))
handles("gnl", "preact_resnet18_train", uses=TRAINS)(partial(trained, backbone="preact_resnet18"))


# -- prior ---------------------------------------------------------------------------------------------------------


@handles(
    "gnl",
    "prior_update",
    uses=("zoo.methods.gnl.prior.sampling_distribution", "zoo.core.label_memory.LabelMemory.__getitem__"),
)
def prior_update(case: Case) -> dict[str, Any]:
    config = case.config
    memory = prior.TrainingMemory(config["num_samples"], config["num_classes"], networks=1)
    everyone = torch.arange(config["num_samples"])
    found = {}
    for epoch, order in enumerate(case.inputs["order"]):
        logits = config["logit_scale"] * case.inputs[f"logits_e{epoch}"]
        for index in order.split(config["batch"]):
            memory.remember(0, index, logits[index], config["beta"])
        average = memory.averages[0][everyone]
        found[f"latent_e{epoch + 1}"] = average
        found[f"sampling_e{epoch + 1}"] = prior.sampling_distribution(average, config["T"])
    return found


@handles(
    "gnl",
    "uncertainty_sampling",
    uses=tuple(f"zoo.methods.gnl.prior.{name}" for name in ("coverage", "uncertainty_count", "draw_uncertainty")),
)
def uncertainty_sampling(case: Case) -> dict[str, Any]:
    """Numbers come from our functions; the published draws are replayed and given to them as keys."""
    classes, probability = case.config["num_classes"], case.inputs["noise_prob"].double()
    for name, value in case.config["fixed"].items():
        probability[int(name.partition("[")[2].rstrip("]"))] = value
    covered = prior.coverage(classes, case.inputs["labels"], case.inputs["sampled"])
    count = prior.uncertainty_count(probability, covered, leave_out=1)

    rng = np.random.RandomState(0)
    mask = prior.draw_uncertainty(covered, count, replayed_keys(covered, count.tolist(), rng))
    rng = np.random.RandomState(0)
    warmup: list[int] = []

    def numbers() -> Iterator[int]:  # the published code draws a sample's number, then its classes
        for _ in covered:
            warmup.append(rng.randint(0, classes - 2))
            yield warmup[-1]

    warmup_keys = replayed_keys(covered, numbers(), rng)
    warmup_mask = prior.draw_uncertainty(covered, torch.tensor(warmup), warmup_keys)
    generator = torch.Generator().manual_seed(0)
    draws = [prior.draw_uncertainty(covered, count, torch.rand(covered.shape, generator=generator)) for _ in range(400)]
    return {
        "count": count,
        "mask": mask.float(),
        "count_warmup": np.array(warmup),
        "mask_warmup": warmup_mask.float(),
        "prior": prior.candidate_prior(covered | mask),
        "mean_mask": torch.stack(draws).float().mean(0),
    }


def replayed_keys(covered: Tensor, counts: Iterable[int], rng: np.random.RandomState) -> Tensor:
    """Keys that make our draw take the classes that the published code draws, sample by sample."""
    keys = torch.ones(covered.shape)
    for row, (taken, number) in enumerate(zip(covered.numpy(), counts, strict=True)):
        drawn = rng.choice(len(taken), number, replace=False, p=~taken / (~taken).sum())
        keys[row, torch.from_numpy(drawn)] = 0
    return keys


@handles("gnl", "noise_probability_gmm", uses=("zoo.methods.gnl.noise.fit_losses",))
def noise_probability_gmm(case: Case) -> dict[str, Any]:
    u, n = case.inputs["u"], case.inputs["n"]
    wanted = torch.where(u < case.config["noisy_fraction"], 3 + 0.8 * n, 0.4 + 0.25 * n.abs()).clamp_min(1e-3)
    logits = torch.stack([torch.zeros_like(wanted), wanted.expm1().log()], 1)
    values = F.cross_entropy(logits, torch.zeros(len(u), dtype=torch.long), reduction="none")
    mixture = noise.fit_losses(values)
    return {
        "losses": values,
        "noise_prob": mixture.noise_probability,
        "means": mixture.means,
        "weights": mixture.weights,
        "variances": mixture.variances,
    }


# -- loss and steps ------------------------------------------------------------------------------------------------


def loss_terms(case: Case) -> dict[str, Any]:
    config, inputs = case.config, case.inputs
    model = GNL(config["num_classes"], "preact_resnet18", width=1, direction=config["goal"])
    logits = (config["logit_scale"] * inputs["logits"]).requires_grad_()
    noisy = (config["logit_scale"] * inputs["noisy_logits"]).requires_grad_()
    covered = prior.coverage(config["num_classes"], inputs["labels"], inputs["sampled"])
    rows = prior.candidate_prior(covered | inputs["negatives"].bool())
    batch = {"label": inputs["labels"], "index": torch.arange(len(logits))}
    terms = model.terms(logits, noisy, batch, rows)
    total = sum(terms.values())
    both = torch.autograd.grad(total, [logits, noisy], retain_graph=True)
    (of_prior,) = torch.autograd.grad(terms["prior"], logits, retain_graph=True)
    (of_posterior,) = torch.autograd.grad(terms["posterior"], noisy)
    return {
        "terms": torch.stack([terms["noisy"], terms["prior"], terms["posterior"], total]),
        "dtotal_dlogits": both[0],
        "dtotal_dnoisy": both[1],
        "dprior_dlogits": of_prior,
        "dreg_dnoisy": of_posterior,
        "q": candidate_labels.class_posterior(logits.log_softmax(1), rows).exp(),
        "prior_rows": rows,
    }


TERMS = (
    "zoo.methods.gnl.prior.candidate_prior",
    "zoo.methods.gnl.module.GNL.terms",
    "losses.candidate_labels.class_posterior",
)
handles("gnl", "loss_pxy", uses=(*TERMS, "losses.candidate_labels.log_prior"))(loss_terms)
handles("gnl", "loss_pyx", uses=TERMS)(loss_terms)


def trajectory(case: Case) -> dict[str, Any]:
    """Steps of one network on priors that are given."""
    config, inputs = case.config, case.inputs
    sgd = partial(torch.optim.SGD, lr=config["lr"], momentum=config["momentum"], weight_decay=config["weight_decay"])
    model = imported(case, "resnet34", direction=config["goal"], momentum=config["beta"], optimizer=sgd).train()
    model._make_memory(len(inputs["images"]))
    network, optimizer = model.networks[0], model.configure_optimizers()
    found: dict[str, list[Tensor]] = {"ce": [], "prior": [], "reg": [], "logits": []}
    for step, index in enumerate(torch.arange(len(inputs["images"])).split(config["batch"])[: config["steps"]]):
        mixed = None
        if "mix_lambda" in inputs:
            mixed = (float(inputs["mix_lambda"][step]), inputs["mix_index"][step])
        logits, noisy = network(model.mix(inputs["images"][index], mixed))
        batch = {"label": inputs["labels"][index], "index": index}
        terms = model.terms(logits, noisy, batch, inputs["priors"][step], mixed)
        model.memory.remember(0, index, logits, model.momentum)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        for name, value in zip(found, (*terms.values(), logits), strict=True):
            found[name].append(value.detach())
    return {name: torch.stack(values) for name, values in found.items()} | {
        "latent": model.memory.averages[0].values,
        "linear_weight": network.clean.weight[:, ::16],
        "transition_bias": network.noisy.bias,
        "conv1": network.backbone.conv1.weight.flatten()[::8],
        "bn_mean": network.backbone.bn1.running_mean,
    }


handles("gnl", "trajectory_pxy", uses=("zoo.methods.gnl.module.GNL.terms",))(trajectory)
handles("gnl", "trajectory_pyx", uses=("zoo.methods.gnl.module.GNL.terms",))(trajectory)
handles("gnl", "trajectory_cot_mixup", uses=("zoo.methods.gnl.module.GNL.mix",))(trajectory)


# -- metrics -------------------------------------------------------------------------------------------------------


@handles(
    "gnl",
    "metrics",
    uses=(
        "zoo.methods.gnl.statistics.PriorStatistics.compute",
        "zoo.metrics.batch_accuracy.BatchMeanAccuracy.compute",
    ),
)
def metrics(case: Case) -> dict[str, Any]:
    config, inputs = case.config, case.inputs
    classes, labels = config["num_classes"], inputs["labels"]
    hot = F.one_hot(labels, classes)
    first, second = (inputs[name] + 1.2 * hot for name in ("logits", "logits2"))
    given = torch.where(inputs["noisy"] % 3 == 0, inputs["noisy"], labels)
    exact = [ImageClassificationModule(classes, "none").test_accuracy for _ in range(2)]
    by_batch = [batch_accuracy.BatchMeanAccuracy() for _ in range(2)]
    statistics = PriorStatistics()
    for rows in torch.arange(config["num_samples"]).split(config["batch"]):
        for number, logits in enumerate((first, first + second)):
            exact[number].update(logits[rows], labels[rows])
            by_batch[number].update(logits[rows], labels[rows])
        covered = prior.coverage(classes, inputs["sampled"][rows], given[rows])
        statistics.update(covered, covered | inputs["negatives"][rows].bool(), given[rows], labels[rows])
    return {
        "accuracy": 100 * torch.stack([metric.compute() for metric in exact]),
        "meter_accuracy": 100 * torch.stack([metric.compute() for metric in by_batch]),
        "prior_stats": torch.stack([*statistics.compute().values()]),
    }


@handles(
    "gnl",
    "transition_matrix",
    uses=tuple(
        f"zoo.metrics.transition.{name}" for name in ("soft_transition", "anchor_transition", "transition_error")
    ),
)
def transition_matrix(case: Case) -> dict[str, Any]:
    classes, clean, u = case.config["num_classes"], case.inputs["clean"], case.inputs["u"]
    step = torch.where(u < 0.6, 0, torch.where(u < 0.9, 1, 3))
    given = (clean + step) % classes
    p = (case.inputs["logits"] + 4 * F.one_hot(clean, classes)).softmax(1)
    noisy = (case.inputs["noisy_logits"] + 3 * F.one_hot(given, classes)).softmax(1)
    anchor, soft = transition.anchor_transition(noisy), transition.soft_transition(p, noisy)
    true = transition.row_normalised(transition.label_counts(clean, given, classes))
    errors = [
        transition.transition_error(anchor, true),
        transition.transition_error(soft, true),
        transition.squared_transition_error(soft, true),
    ]
    return {"anchor_T": anchor, "soft_T": soft, "true_T": true, "errors": torch.stack(errors)}


# -- baselines -----------------------------------------------------------------------------------------------------


@handles(
    "gnl", "baseline_losses", uses=("losses.noisy_labels.rce", "losses.noisy_labels.nce", "losses.noisy_labels.gce")
)
def baseline_losses(case: Case) -> dict[str, Any]:
    config, labels = case.config, case.inputs["labels"]
    gamma, floor = {"gamma": config["focal_gamma"]}, {"log_floor": config["rce_log_floor"]}
    alpha, beta = config["nce_rce"]
    settings: dict[str, dict[str, float]] = {
        "gce": {"q": config["gce_q"]},
        "sce": dict(zip(("alpha", "beta"), config["sce"], strict=True)),
        "rce": floor,
        "nce_rce": {"alpha": alpha, "beta": beta},
        "nce_mae": {"alpha": alpha, "beta": beta},
        "focal": gamma,
        "nfl_rce": {"alpha": alpha, "beta": beta, **gamma},
    }
    values, gradients = [], []
    for name in config["names"]:
        logits = (3 * case.inputs["logits"]).requires_grad_()
        loss = classification.cross_entropy if name == "ce" else getattr(noisy_labels, name)
        value = loss(logits, labels, **settings.get(name, {}))
        value.backward()
        values.append(value.detach())
        gradients.append(logits.grad)
    return {"values": torch.stack(values), "grads": torch.stack(gradients)}


@handles("gnl", "baseline_elr", uses=("losses.noisy_labels.EarlyLearningRegularisation.forward",))
def baseline_elr(case: Case) -> dict[str, Any]:
    config, index = case.config, 2 * torch.arange(case.config["batch"])
    loss = noisy_labels.EarlyLearningRegularisation(config["beta"], config["lambda"])
    loss.setup(config["num_samples"], config["num_classes"])
    values, gradients = [], []
    for visit in ("logits1", "logits2"):
        logits = (3 * case.inputs[visit]).requires_grad_()
        value = loss(logits, case.inputs["labels"], index=index)
        value.backward()
        values.append(value.detach())
        gradients.append(logits.grad)
    return {"values": torch.stack(values), "grads": torch.stack(gradients), "memory": loss.memory[index]}


@handles(
    "gnl",
    "baseline_transition_losses",
    uses=tuple(f"losses.label_correction.{name}" for name in ("forward_corrected", "backward_corrected", "reweighted")),
)
def baseline_transition_losses(case: Case) -> dict[str, Any]:
    inputs, labels = case.inputs, case.inputs["labels"]
    matrix = (inputs["T_logits"] + 4 * torch.eye(case.config["num_classes"])).softmax(1)
    revision = (0.01 * inputs["dT"]).requires_grad_()
    forms = (
        label_correction.forward_corrected,
        label_correction.backward_corrected,
        label_correction.reweighted,
        partial(label_correction.reweighted, revision=revision),
    )
    values, gradients = [], []
    for form in forms:
        logits = (3 * inputs["logits"]).requires_grad_()
        value = form(logits, labels, matrix)
        value.backward()
        values.append(value.detach())
        gradients.append(logits.grad)
    return {"values": torch.stack(values), "dz": torch.stack(gradients), "dT": revision.grad}


@handles(
    "gnl",
    "baseline_coteaching",
    uses=("zoo.methods.baselines.noisy.small_loss", "zoo.methods.baselines.noisy.exchanged_losses"),
)
def baseline_coteaching(case: Case) -> dict[str, Any]:
    labels, rate = case.inputs["labels"], case.config["forget_rate"]
    both = [(3 * case.inputs[name]).requires_grad_() for name in ("logits1", "logits2")]
    values = noisy_baselines.exchanged_losses(both, labels, rate, classification.cross_entropy, divide_again=True)
    sum(values).backward()
    chosen = [noisy_baselines.small_loss(logits, labels, rate).float() for logits in both]
    return {
        "selected1": chosen[0],
        "selected2": chosen[1],
        "losses": torch.stack([value.detach() for value in values]),
        "grads": torch.stack([logits.grad for logits in both]),
    }
