"""CIPL's cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import losses.multi_label as multi_label
import zoo.methods.cipl.network as network
import zoo.metrics.findings as findings
import zoo.metrics.localisation as localisation
import zoo.tasks.projection as projection
from tests.parity.harness import Case, handles
from zoo.checkpoints import import_state
from zoo.methods.cipl.module import CIPL, JOINT, LAST_LAYER

NETWORK = "zoo.methods.cipl.network"
CLASSIFY = f"{NETWORK}.PrototypeClassifier.classify"
DISTANCES = f"{NETWORK}.squared_distances"
UPDATE = f"{NETWORK}.CIPLNet.update_teacher"
LOSSES = tuple(
    f"losses.{name}"
    for name in (
        "multi_label.finding_or_normal",
        "multi_label.label_cluster_cost",
        "multi_label.separation",
        "mean_teacher.map_cosine",
        "mean_teacher.prediction_gram",
    )
)
RELEASED = [{"name": "released", "drop_last_finding": True}]


def module(case: Case, **settings: Any) -> CIPL:
    """Our module of a case's settings, with the published state; images of cases are normalised already."""
    config = case.config
    num_classes, (count, dim, _, _) = config["num_classes"], config["prototype_shape"]
    rates = config.get("adam", {})
    named = {"features": "backbone_lr", "add_on_layers": "add_on_lr", "prototype_vectors": "prototype_lr"}
    named |= {"last_layer": "last_layer_lr"}
    model = CIPL(
        num_classes=num_classes,
        backbone=config["base_architecture"],
        prototypes=count // num_classes,
        dim=dim,
        momentum=config.get("ema_momentum", 0.999),
        **{named[name]: rate for name, rate in rates.items() if name in named},
        **settings,
    )
    import_state(model, case.state, CIPL.official.rules, source=case.name)
    model.network.teacher_began.fill_(config.get("ema_initialised", False))
    model.front_end = torch.nn.Identity()
    return model.eval()


def labels_of(drawn: Tensor) -> Tensor:
    """By the cases' steps: below 0.3 present, the last column where nothing is."""
    found = (drawn < 0.3).float()
    return torch.cat([found, (found.sum(1, keepdim=True) == 0).float()], 1)


def like(value: Tensor, case: Case, name: str) -> Tensor:
    """`value` [N, M, ...], cut to every n-th of M where the case stores so and does not write it down."""
    how = case.outputs[name]
    return value if "slice" in how else value[:, :: round(value.shape[1] / how["shape"][1])]


def weighed(model: CIPL, terms: dict[str, Tensor]) -> Tensor:
    return sum(model.losses.weights[slot].at(0, 0) * term for slot, term in terms.items())


class Watched:
    """What functions of the network gave while terms were computed."""

    def __init__(self, model: CIPL) -> None:
        self.logits: list[Tensor] = []
        self.distances: list[Tensor] = []
        for net in (model.network.student, model.network.teacher):
            net.classify = self._keep(net.classify, self.logits)
            net.distances = self._keep(net.distances, self.distances)

    @staticmethod
    def _keep(function: Any, kept: list[Tensor]) -> Any:
        def call(x: Tensor) -> Tensor:
            kept.append(function(x))
            return kept[-1]

        return call


def reported(model: CIPL, terms: dict[str, Tensor], distances: Tensor, labels: Tensor) -> dict[str, Any]:
    """Terms as the cases group them."""
    total = weighed(model, terms)
    separation = multi_label.separation(distances, labels)
    found = {"loss_cluster_sep_total": torch.stack([terms["cluster"], separation, total]).detach()}
    if "maps" not in terms:
        return found | {"loss_ce": terms["task"].detach()[None], "total": total}
    return found | {
        "loss_ce_co_pred": torch.stack([terms[n] for n in ("task", "co_attention", "predictions")]).detach(),
        "loss_inte": torch.stack([terms["maps"].detach(), torch.tensor(0.0)]),
        "total": total,
    }


def maps(model: CIPL, distances: Tensor, side: int) -> Tensor:
    return model._maps(model.network.student.similarity(distances), (side, side))


@handles("cipl", "forward_infer_densenet121", uses=(CLASSIFY, DISTANCES, f"{NETWORK}.PrototypeClassifier.similarity"))
@torch.no_grad()
def forward_infer(case: Case) -> dict[str, Any]:
    model, image = module(case), case.inputs["image"]
    student = model.network.student
    backbone = student.neck(student.backbone(image))
    features, activation = model.locate(image)
    logits, _ = model.look(image)
    return {
        "logits": logits,
        "prob": model.probabilities(logits),
        "min_distances": -activation.amax(1).flatten(1),
        "similarity_sub": maps(model, -activation, features.shape[2])[:, ::4],
        "features_sub": features,
        "backbone_sub": backbone,
    }


@handles("cipl", "co_attention", uses=(f"{NETWORK}.co_attention", CLASSIFY, DISTANCES))
def co_attention(case: Case) -> dict[str, Any]:
    first, second = ((0.5 * case.inputs[f"feature{n}"] + 0.25).requires_grad_() for n in (1, 2))
    points, weight = case.state["prototype_vectors"], case.state["last_layer.weight"]
    count = case.config["prototypes_per_class"]
    student = network.PrototypeClassifier("small", None, case.config["num_classes"], count, points.shape[1])
    with torch.no_grad():
        student.prototypes.copy_(points.flatten(1).unflatten(0, (-1, count)))
        student.last_layer.weight.copy_(weight)
    attended = network.co_attention(first, second)
    logits = student.classify(student.distances(torch.cat(attended)).amin(1))
    gradients = torch.autograd.grad((logits * case.inputs["weight"]).sum(), (first, second))
    return {
        "attended1_sub": attended.first,
        "attended2_sub": attended.second,
        "co_logits": logits,
        "grad_feature1_sub": gradients[0],
        "grad_feature2_sub": gradients[1][:, ::16]
        if "slice" not in case.outputs["grad_feature2_sub"]
        else gradients[1],
    }


@handles("cipl", "losses", uses=LOSSES)
def loss_terms(case: Case) -> dict[str, Any]:
    given, config = case.inputs, case.config
    labels = torch.cat([labels_of(given["label1"]), labels_of(given["label2"])])
    both = (labels_of(given["label1"]) * labels_of(given["label2"])).repeat(2, 1)
    logits, co_logits = (2 * given[name] for name in ("logits", "co_logits"))
    distances = (20 * given["min_distances"] + 0.05).unflatten(1, (-1, config["prototypes_per_class"]))
    leaves = [x.clone().requires_grad_() for x in (logits, co_logits, distances, given["sim"])]
    sizes = {"num_classes": config["num_classes"], "backbone": "small", "prototypes": 1, "dim": 4}

    def terms(model: CIPL, logits: Tensor, co_logits: Tensor, distances: Tensor, similarity: Tensor) -> dict:
        compared = model._compared
        return model._classification_terms(logits, distances, labels) | {
            "co_attention": model.losses.co_attention(compared(co_logits), compared(both)),
            "maps": model.losses.maps(similarity, given["sim_ema"]),
            "predictions": model.losses.predictions(compared(logits), compared(2 * given["logits_ema"])),
        }

    model = CIPL(**sizes)
    found = terms(model, *leaves)
    released = terms(CIPL(**sizes, stages=RELEASED), *leaves)
    told = reported(model, found, distances, labels)
    gradients = torch.autograd.grad(told["total"], leaves)
    return told | {
        "losses_released": torch.stack([released[n] for n in ("task", "co_attention", "predictions")]),
        "grad_logits": gradients[0],
        "grad_co_logits": gradients[1],
        "grad_min_distances": gradients[2].flatten(1),
        "grad_sim_sub": gradients[3],
    }


@handles("cipl", "ema_teacher", uses=(UPDATE, CLASSIFY))
@torch.no_grad()
def ema_teacher(case: Case) -> dict[str, Any]:
    model = module(case).train()
    net, logits, after = model.network, [], []

    def call() -> None:
        if model.training:
            net.update_teacher(model.momentum)
        logits.append(net.teacher.classify(net.teacher.distances(net.teacher(case.inputs["image"])).amin(1)))
        after.append(net.teacher.prototypes.flatten(0, 1).clone())

    call()
    net.student.prototypes.mul_(1.5)
    net.student.add_on[0].weight.add_(0.3)
    call()
    add_on = net.teacher.add_on[0].weight[:, :, 0, 0].clone()
    model.eval()
    call()
    first, second = after[:2]
    return {
        "after_first": first,
        "after_second": like(second, case, "after_second"),
        "addon_second": add_on,
        "logits": torch.stack(logits),
    }


def pair(images: list[Tensor], views: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
    first, partner = (
        {"image": image, "second_view": image + 0.2 * view, "label": label}
        for image, view, label in zip(images, views, labels, strict=True)
    )
    return {**first, "partner": partner}


@handles("cipl", "train_forward_pair", uses=(UPDATE, CLASSIFY, f"{NETWORK}.co_attention", *LOSSES))
def train_forward_pair(case: Case) -> dict[str, Any]:
    given = case.inputs
    first, second = labels_of(given["label1"]), labels_of(given["label2"])
    findings_of_second = second[:, :-1].clone()
    findings_of_second[:, ::2] = torch.maximum(findings_of_second[:, ::2], first[:, :-1][:, ::2])
    second = torch.cat([findings_of_second, (findings_of_second.sum(1, keepdim=True) == 0).float()], 1)
    images, views = ([given[f"image{n}{suffix}"] for n in (1, 2)] for suffix in ("", "_aug"))
    batch, labels = pair(images, views, [first, second]), torch.cat([first, second])

    released = module(case, stages=RELEASED).train().pair_terms(batch)
    model = module(case).train()
    model.losses.weights.update(
        {
            slot: type(model.losses.weights[slot])(case.config["loss_weights"][name])
            for slot, name in {
                "task": "crs_ent",
                "cluster": "clst",
                "separation": "sep",
                "co_attention": "cross_att",
                "maps": "inte_align",
                "predictions": "pred_align",
            }.items()
        }
    )
    watched = Watched(model)
    terms = model.pair_terms(batch)
    logits, co_logits, taught = watched.logits
    distances, _, seen = watched.distances
    closest = distances.amin(1)
    told = reported(model, terms, closest, labels)
    told["total"].backward()
    student, teacher = model.network.student, model.network.teacher
    body = student.backbone.body.features
    parameters = [
        body.conv0.weight,
        body.denseblock4.denselayer16.conv2.weight,
        student.neck.weight,
        student.neck.bias,
        student.add_on[0].weight,
        student.add_on[2].weight,
        student.prototypes,
        student.last_layer.weight,
    ]
    side = round(distances.shape[1] ** 0.5)
    similarity, similarity_ema = maps(model, distances, side), maps(model, seen, side)
    return told | {
        "losses_released": torch.stack([released[n] for n in ("task", "co_attention", "predictions")]),
        "logits": logits,
        "co_logits": co_logits,
        "logits_ema": taught,
        "similarity_sub": similarity,
        "similarity_ema_sub": like(similarity_ema, case, "similarity_ema_sub"),
        "min_distances": closest.flatten(1),
        "grad_norms": torch.stack([parameter.grad.norm() for parameter in parameters]),
        "ema_toplayer_bias": teacher.neck.bias,
        "ema_prototypes_sub": teacher.prototypes.flatten(0, 1),
        "bn_mean": body.norm0.running_mean,
        "ema_bn_mean": teacher.backbone.body.features.norm0.running_mean,
    }


def trajectory(case: Case) -> dict[str, Any]:
    pairs, last_layer = "image2_0" in case.inputs, "last_layer" in case.config["adam"]
    model = module(case, optimizer=adam(case)).train()
    watched = Watched(model)
    optimizer = model.configure_optimizers()[LAST_LAYER if last_layer else JOINT]["optimizer"]
    steps: list[dict[str, Any]] = []
    for step in range(sum(name.startswith("image1_") for name in case.inputs)):
        views = (1, 2) if pairs else (1,)
        labels = [labels_of(case.inputs[f"label{n}_{step}"]) for n in views]
        images = [case.inputs[f"image{n}_{step}"] for n in views]
        watched.distances.clear()
        if pairs:
            terms = model.pair_terms(pair(images, [case.inputs[f"aug{n}_{step}"] for n in views], labels))
        else:
            terms = model.single_terms({"image": images[0], "label": labels[0]})
        steps.append(reported(model, terms, watched.distances[0].amin(1), torch.cat(labels)))
        optimizer.zero_grad()
        steps[-1].pop("total").backward()
        optimizer.step()
        if last_layer:
            model.network.student.keep_own_evidence()
    net = model.network
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]} | {
        "prototypes_final_sub": net.student.prototypes.flatten(0, 1),
        "ema_prototypes_sub": net.teacher.prototypes.flatten(0, 1),
        "last_layer_final": net.student.last_layer.weight,
    }


def adam(case: Case) -> Any:
    return lambda groups: torch.optim.Adam(groups, weight_decay=case.config["adam"].get("weight_decay", 0.0))


for family, further in {
    "trajectory_stage1": (),
    "trajectory_stage2": (UPDATE, *LOSSES[3:4]),
    "trajectory_last_layer": (UPDATE, *LOSSES[3:4]),
}.items():
    handles("cipl", family, uses=(CLASSIFY, *LOSSES[:3], *further))(trajectory)


@handles("cipl", "metrics", uses=("zoo.metrics.findings.finding_scores",))
def metrics(case: Case) -> dict[str, Any]:
    score, noise = (case.inputs[name].numpy() for name in ("score", "noise"))
    label = torch.from_numpy((0.7 * noise + 0.5 * score > 0.75).astype(np.float32))
    found = findings.finding_scores(torch.from_numpy(score.round(2)), label)
    means = [value.mean() for value in found]
    return {"auc": found.auc, "max_f1": found.max_f1, "acc": found.accuracy, "means": torch.stack(means)}


@handles("cipl", "push_densenet121", uses=("zoo.tasks.projection.best_of_classes", DISTANCES))
@torch.no_grad()
def push(case: Case) -> dict[str, Any]:
    model = module(case)
    offset = case.inputs["offset"].repeat_interleave(8, 1).repeat_interleave(8, 2)
    pixels = (case.inputs["pixels"] // 3 + offset).clamp(0, 255).movedim(-1, 1)
    front_end = CIPL(num_classes=2, backbone="small", prototypes=1, dim=4).front_end
    features, activation = model.locate(front_end(pixels / 255))
    has = model.has_class(labels_of(case.inputs["label"]))
    chosen = projection.choose(projection.best_of_classes(activation, has))
    taken, rows = chosen >= 0, chosen.flatten().clamp_min(0)
    patches = projection.patch_features(activation[rows], features[rows], torch.arange(taken.numel()))
    model.replace_prototypes(patches.unflatten(0, taken.shape), taken)
    return {
        "prototypes_after_sub": model.network.student.prototypes.flatten(0, 1),
        "source_image": chosen.flatten(),
        "min_dist": -activation.amax(1).flatten(1),
    }


@handles(
    "cipl",
    "localisation",
    uses=tuple(f"zoo.metrics.localisation.{name}" for name in ("scale_boxes", "map_masks", "box_iou", "share_above")),
)
def localise(case: Case) -> dict[str, Any]:
    config, drawn = case.config, case.inputs["sim"]
    size, cells = config["size"], drawn.shape[-1]
    file_size = torch.full((len(drawn), 2), config["source_size"])
    boxes = localisation.scale_boxes(case.inputs["box_xywh_1024"], file_size, (size, size))
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    place = (torch.arange(cells) + 0.5) / cells * size
    squares = (place - middle[:, :1])[:, None].square() + (place - middle[:, 1:])[:, :, None].square()
    bump = torch.exp(-squares / (2 * (0.18 * size) ** 2))
    maps = (0.5 * drawn + bump[:, None]).mean(1)
    iou = localisation.box_iou(localisation.map_masks(maps, (size, size), config["binarise"]), boxes)
    return {"iou": iou, "accuracy": localisation.share_above(iou, tuple(config["thresholds"]))}
