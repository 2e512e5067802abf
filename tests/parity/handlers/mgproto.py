"""MGProto's cases."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import losses.classification as classification
import losses.embedding as embedding_losses
import zoo.methods.mgproto.em as em
import zoo.methods.mgproto.network as network
import zoo.methods.mgproto.official as official
import zoo.metrics.object_mask as object_mask
import zoo.metrics.ood as ood
import zoo.metrics.part_hits as part_hits
import zoo.tasks.projection as projection
from tests.parity import harness
from tests.parity.harness import Case, handles
from zoo.checkpoints import import_state
from zoo.methods.mgproto.module import MGProto
from zoo.networks.feature_map import BACKBONES
from zoo.state import ClassQueue, GaussianMixture

NETWORK = "zoo.methods.mgproto.network"
DENSITY = f"{NETWORK}.MGProtoNet.log_density"
JOINT = "zoo.state.GaussianMixture.log_joint"


def module(case: Case, **settings: Any) -> MGProto:
    """Our module of a case's settings, with the published state."""
    config = case.config
    num_classes, (count, dim, _, _) = config["num_classes"], config["prototype_shape"]
    model = MGProto(
        num_classes=num_classes,
        backbone=config["base_architecture"],
        upsample=config.get("upsample", False),
        prototypes=count // num_classes,
        dim=dim,
        embed_dim=config["sz_embedding"],
        mine_level=config["mine_K"],
        queue_size=config["mem_capacity"],
        **settings,
    )
    import_state(model, case.state, MGProto.official.rules, source=case.name)
    return model.eval()


def batch_of(labels: list[int]) -> dict[str, Any]:
    return {"label": torch.tensor(labels), "index": torch.arange(len(labels)), "id": [str(n) for n in labels]}


def mixture_of(case: Case) -> GaussianMixture:
    """The mixture of a case without a network."""
    means = case.state["prototype_means"]
    mixture = GaussianMixture(*means.shape)
    mixture.means.copy_(means)
    variances = torch.full_like(means, network.FIXED_VARIANCE)
    if "sigma01" in case.inputs:  # by the case's steps: sigma = 0.3 + 0.3 * sigma01
        variances = (0.3 + 0.3 * case.inputs["sigma01"]).square()
    mixture.variances.copy_(variances)
    mixture.priors.copy_(official.own_block(case.state["last_layer.weight"]))
    return mixture


def own_layer(priors: Tensor) -> Tensor:
    return torch.block_diag(*priors[:, None])


@torch.no_grad()
def forward_eval(case: Case) -> dict[str, Any]:
    model = module(case)
    net = model.network
    features = net.backbone(case.inputs["image"])
    unit = net.unit_features(features)
    log_density = net.log_density(unit)
    maps = log_density.flatten(2).mT.unflatten(2, unit.shape[2:])
    log_likelihood = model.logits(case.inputs["image"])
    return {
        "log_p_x_given_c": log_likelihood,
        "log_p_all_levels": network.best_levels(log_density, net.mixture.priors, model.mine_level),
        "embedding": net.embed(features),
        "features_sub": features,
        "unit_features_sub": unit[:, ::4] if "slice" not in case.outputs["unit_features_sub"] else unit,
        "density_sub": maps[:, ::3].exp(),
        "p_x": ood.likelihood(log_likelihood),
    }


for backbone in (*BACKBONES, "resnet50_upsample"):
    handles(
        "mgproto",
        f"forward_eval_{backbone}",
        uses=(f"{NETWORK}.class_log_likelihood", f"{NETWORK}.best_levels", DENSITY, "zoo.metrics.ood.likelihood"),
    )(forward_eval)


@handles("mgproto", "head_losses", uses=(f"{NETWORK}.mine", "losses.classification.cross_entropy"))
def head_losses(case: Case) -> dict[str, Any]:
    mixture, labels = mixture_of(case), torch.tensor(case.config["labels"])
    base = 0.6 * mixture.means.mean(1)[labels]
    add_on = (0.08 * case.inputs["feature"] + base[:, :, None, None]).requires_grad_()
    rows = F.normalize(add_on, dim=1).flatten(2).mT
    log_density = mixture.log_density(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
    levels = network.mine(log_density, mixture.priors, labels, case.config["mine_T"]).levels
    losses = [
        classification.cross_entropy(levels[..., 0], labels),
        classification.cross_entropy(levels[..., 1:].movedim(2, 0).flatten(0, 1), labels.repeat(levels.shape[2] - 1)),
    ]
    gradients = [torch.autograd.grad(loss, add_on, retain_graph=True)[0] for loss in losses]
    return {
        "losses": torch.stack(losses),
        "log_p_all_levels": levels,
        "log_density_sub": log_density.flatten(0, 1)[::3],
        "grad_ce": gradients[0],
        "grad_mine": gradients[1],
    }


handles("mgproto", "head_losses_sigma", uses=(f"{NETWORK}.mine", "losses.classification.cross_entropy"))(head_losses)


def aux(proxies: Tensor, config: dict[str, Any]) -> embedding_losses.ProxyAnchor:
    loss = embedding_losses.ProxyAnchor(dim=proxies.shape[1], margin=config["mrg"], scale=config["beta"])
    loss.setup(0, len(proxies))
    with torch.no_grad():
        loss.proxies.copy_(proxies)
    return loss


@handles("mgproto", "proxy_anchor", uses=("losses.embedding.proxy_anchor",))
def proxy_anchor(case: Case) -> dict[str, Any]:
    loss, embedding = aux(case.inputs["proxies"], case.config), case.inputs["embedding"].clone().requires_grad_()
    value = loss(embedding, torch.tensor(case.config["labels"]))
    value.backward()
    gradients = [embedding.grad, loss.proxies.grad]
    return {
        "loss_and_norms": [float(value.detach()), *(float(gradient.norm()) for gradient in gradients)],
        "grad_embedding": gradients[0],
        "grad_proxies": gradients[1],
    }


@handles("mgproto", "memory_bank", uses=("zoo.state.feature_queue.ClassQueue.ordered",))
def memory_bank(case: Case) -> dict[str, Any]:
    config = case.config
    queue = ClassQueue(config["num_classes"], config["capacity_per_class"], config["d"])
    lengths = []
    for number, labels in enumerate(config["labels"]):
        queue.push(case.inputs[f"push{number}"], torch.tensor(labels))
        lengths.append(queue.count.clone())
    rows, valid = queue.ordered(), queue.valid
    return {
        "mem_len_after_each": torch.stack(lengths),
        "bank": rows,
        "pulled_label": torch.arange(len(valid)).repeat_interleave(queue.count),
        "pulled_row_mean": rows.mean(2)[valid],
    }


@handles("mgproto", "em_update", uses=("zoo.methods.mgproto.em.diversity_gradient", JOINT))
def em_update(case: Case) -> dict[str, Any]:
    config, mixture = case.config, mixture_of(case)
    queue = ClassQueue(config["num_classes"], config["capacity_per_class"], config["d"])
    own = mixture.means.take_along_dim(case.inputs["assign"][:, :, None], 1)
    rows = F.normalize(own + 0.09 * case.inputs["bank"], dim=-1)
    for number, features in enumerate(rows):
        count = len(features) - (number not in config["full_classes"])
        queue.push(features[:count], torch.full((count,), number))
    fit = em.PrototypeEM(
        *mixture.means.shape,
        mode="sequential",
        lr=config["adam_lr"],
        loops=config["num_em_loop"],
        smoothing=config["alpha"],
        momentum=config["tau"],
        diversity=config["lamda"],
    )
    found, log_likelihoods = {}, []
    for call, flagged in enumerate(config["flagged_per_call"]):
        fit.touch(torch.tensor(flagged))
        log_likelihoods.append(fit.update(mixture, queue, most=len(flagged)).flatten())
        found |= {f"means_{call}": mixture.means.clone(), f"priors_{call}": mixture.priors.clone()}
    return found | {
        "adam_exp_avg": fit.exp_avg,
        "adam_exp_avg_sq": fit.exp_avg_sq,
        "avg_log_lik": torch.cat(log_likelihoods),
    }


@handles("mgproto", "prune_topM", uses=("zoo.methods.mgproto.em.prune", f"{NETWORK}.class_log_likelihood"))
def prune_top(case: Case) -> dict[str, Any]:
    priors = em.prune(official.own_block(case.state["last_layer.weight"]), case.config["top_M"])
    log_density = case.inputs["activation"].log().unflatten(1, priors.shape)[:, None]
    return {
        "weight_after": own_layer(priors),
        "kept": priors > 0,
        "scores": network.class_log_likelihood(log_density, priors).exp(),
    }


def replayed(case: Case, rows: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """The rows as the published code appends them: of a class with more than its queue holds, it draws some at random.

    The draw was not recorded; it is read from the stored bank, which then has to hold these very rows.
    """
    kept_rows, kept_owners = [], []
    every = harness._index(case.outputs["bank"].get("slice", "[...]"))[1:]
    for number, stored in enumerate(torch.from_numpy(case.stored["bank"])):
        own = rows[owners == number]
        if len(own) > len(stored):
            own = own[torch.cdist(stored, own[every]).argmin(1)]
        kept_rows.append(own)
        kept_owners.append(torch.full((len(own),), number))
    return torch.cat(kept_rows), torch.cat(kept_owners)


@handles(
    "mgproto",
    "train_step_resnet18",
    uses=(f"{NETWORK}.mine", f"{NETWORK}.rows_to_remember", "losses.embedding.proxy_anchor"),
)
def train_step(case: Case) -> dict[str, Any]:
    config = case.config
    model = module(case, train_embedding=True).train()
    model.losses.aux = aux(case.inputs["proxies"], config["proxy_anchor"])
    batch = batch_of(config["labels"])
    terms, unit, location = model.terms(case.inputs["image"], batch)
    model.queue.push(*replayed(case, *network.rows_to_remember(unit, location, batch["label"])))
    model.em.touch(batch["label"])
    total = sum(model.losses.weights[slot].at(0, 0) * term for slot, term in terms.items())
    total.backward()
    own, body = model.network, model.network.backbone.body
    parameters = [
        body.conv1.weight,
        body.bn1.weight,
        body.layer4[1].conv2.weight,
        own.add_on[-2].weight,
        own.add_on[-2].bias,
        own.add_on[-1].weight,
        own.embedding.weight,
        own.embedding.bias,
        model.losses.aux.proxies,
    ]
    # The step above has moved BatchNorm's statistics once; what follows uses the batch's own.
    with torch.no_grad():
        running_mean = body.bn1.running_mean.clone()
        again, embedding = own(case.inputs["image"])
        levels = network.mine(own.log_density(again), own.mixture.priors, batch["label"], model.mine_level).levels
    return {
        "losses": torch.stack([*terms.values(), total]),
        "log_p_all_levels": levels,
        "embedding": embedding,
        "grad_norms": torch.stack([parameter.grad.norm() for parameter in parameters]),
        "bank": model.queue.ordered(),
        "mem_len": model.queue.count,
        "updated": model.em.pending,
        "bn1_running_mean": running_mean,
    }


@handles("mgproto", "trajectory_resnet18", uses=(f"{NETWORK}.mine", "zoo.methods.mgproto.em.diversity_gradient", JOINT))
def trajectory(case: Case) -> dict[str, Any]:
    config = case.config
    adam = config["adam"]
    model = module(
        case,
        em_mode="sequential",
        em_lr=config["prototype_adam"],
        backbone_lr=adam["features"],
        add_on_lr=adam["add_on_layers"],
        proxy_lr=adam["proxies"],
        optimizer=lambda groups: torch.optim.Adam(groups, weight_decay=adam["weight_decay"]),
    ).train()
    full = torch.full_like(model.queue.count, config["mem_capacity"])  # by the case's config: the memory starts full
    model.queue.count.copy_(full)
    model.queue.pointer.zero_()
    model.losses.aux.setup(0, config["num_classes"])
    with torch.no_grad():
        model.losses.aux.proxies.copy_(case.inputs["proxies"])
    optimizer = model.configure_optimizers()
    rows, priors = [], []
    for number, labels in enumerate(config["labels"]):
        batch = batch_of(labels)
        terms, unit, location = model.terms(case.inputs[f"image{number}"], batch)
        model.remember(unit, location, batch["label"])
        total = sum(model.losses.weights[slot].at(0, 0) * term for slot, term in terms.items())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        model.em.update(model.network.mixture, model.queue, most=len(labels))
        rows.append(torch.stack([*terms.values(), total]))
        priors.append(model.network.mixture.priors.clone())
    return {
        "losses": torch.stack(rows),
        "means_final": model.network.mixture.means,
        "priors": torch.stack(priors),
        "bank_sub": model.queue.ordered(),
    }


@handles("mgproto", "push_resnet18", uses=("zoo.tasks.projection.best_patches", "zoo.tasks.projection.project"))
@torch.no_grad()
def push(case: Case) -> dict[str, Any]:
    config = case.config
    model = module(case)
    order = torch.tensor(config["scan_order"])
    offset = case.inputs["offset"].repeat_interleave(8, 1).repeat_interleave(8, 2)
    pixels = (case.inputs["pixels"] // 3 + offset).clamp(0, 255)[order].movedim(-1, 1)
    labels = torch.tensor(config["labels_by_image_id"])[order]
    unit, _ = model.network(model.front_end(pixels / 255))
    log_density = model.network.log_density(unit)
    best = projection.best_patches(log_density, unit, labels)
    chosen = projection.choose(best.activation, labels, config["num_classes"])
    return {
        "means_after": projection.project(model.network.mixture.means, best.features, chosen),
        "source_image": torch.where(chosen >= 0, order[chosen.clamp_min(0)], -1).flatten(),
        "best_density": log_density.amax(1).flatten(1).exp(),
    }


@handles("mgproto", "ood_metric", uses=("zoo.metrics.ood.likelihood", "zoo.metrics.ood.out_of_distribution"))
def ood_metric(case: Case) -> dict[str, Any]:
    known, unknown = ood.likelihood(case.inputs["id"] - 4), ood.likelihood(case.inputs["ood"] - 4.6)
    found = ood.out_of_distribution(known, unknown)
    released = ood.released_fpr95(known, unknown, case.config["num_classes"])
    return {"metrics": [found.threshold, released, found.fpr95, found.auroc]}


def from_centre(cells: int, size: int) -> Tensor:
    """Squared distance of each cell to the middle of the map, in cells."""
    place = torch.arange(cells) - (cells - 1) / 2
    return (place[:, None].square() + place.square()) / size**2


@handles(
    "mgproto",
    "interpretability",
    uses=tuple(
        f"zoo.metrics.part_hits.{name}"
        for name in ("part_hits", "consistency", "class_purity", "patch_hits", "merge_sides", "patch_purity")
    ),
)
def interpretability(case: Case) -> dict[str, Any]:
    config = case.config
    classes, count, images = config["num_classes"], config["prototypes_per_class"], config["images_per_class"]
    size, cells = config["img_size"], config["map"]
    maps = case.inputs["act"].clone()
    maps[:, ::2] += 2 * torch.exp(-from_centre(cells, 1) / (2 * (cells / 5) ** 2))
    noisy = maps + 0.15 * case.inputs["act_noise"]
    parts = torch.cat([case.inputs["part_xy"], case.inputs["visible"][..., None].float()], -1)
    image_size = case.inputs["wh"].flip(-1)

    def own(of_all: Tensor) -> Tensor:
        """[images, C·K, ...] to [C, images per class, K, ...] of the images' own classes."""
        by_class = of_all.unflatten(0, (classes, images)).unflatten(2, (classes, count))
        return torch.stack([by_class[number, :, number] for number in range(classes)])

    def hits(of_all: Tensor, half: int) -> Tensor:
        return own(part_hits.part_hits(part_hits.peaks(of_all, size), parts, image_size, size, half))

    half = config["half_size_consistency"]
    clean, disturbed, narrow = hits(maps, half), hits(noisy, half), hits(maps, config["half_size_purity"])
    visible = (parts[..., 2] > 0).unflatten(0, (classes, images)).sum(1)[:, None].expand(-1, count, -1)
    strongest = own(maps.flatten(2).amax(2))
    consistent = [
        part_hits.consistency(clean.sum(1).flatten(0, 1), visible.flatten(0, 1), threshold).double().mean()
        for threshold in (0.8, 0.5)
    ]
    purity = torch.cat(
        [part_hits.class_purity(*both, config["purity_topK"]) for both in zip(strongest, narrow, strict=True)]
    )
    scores = [*consistent, part_hits.stability(clean, disturbed), purity.mean(), purity.std(correction=0)]
    names = config["part_names"]
    in_patch = part_hits.merge_sides(part_hits.patch_hits(maps, parts, image_size, size), names)
    seen = part_hits.merge_sides(parts[..., 2] > 0, names)
    alive = torch.arange(classes * count) != config["zero_prior_prototype"]
    best = maps.flatten(2).amax(2)
    top = torch.zeros_like(best, dtype=torch.bool).scatter(0, best.topk(config["pip_topk"], dim=0).indices, True)
    return {
        "scores": [100 * float(score) for score in scores],
        "pip_topk": pip(top & alive, in_patch, seen),
        "pip_threshold": pip((best > config["pip_threshold"]) & alive, in_patch, seen),
    }


def pip(counts: Tensor, in_patch: Tensor, seen: Tensor) -> list[float]:
    """The six numbers of a table, from the images that count for each prototype [n, P]."""
    listed = counts.any(0)
    hits, visible = (in_patch & counts[..., None]).sum(0), (seen[:, None] & counts[..., None]).sum(0)
    purest, commonest = part_hits.patch_purity(hits[listed], visible[listed])
    spread = [(value.mean(), value.std(correction=0)) for value in (purest, commonest)]
    return [float(v) for v in (*spread[0], *spread[1], listed.sum(), (purest > 0.5).sum())]


@handles("mgproto", "mask_metrics", uses=("zoo.metrics.object_mask.heat_map", "zoo.metrics.object_mask.on_object"))
def mask_metrics(case: Case) -> dict[str, Any]:
    cells, rows = case.config["map"], []
    given = zip(*(case.inputs[name] for name in ("act", "wh", "centre_xy", "radius")), strict=True)
    for act, (width, height), centre, radius in given:
        maps = 0.4 * act + torch.exp(-squared_distance(cells, cells, centre, cells, cells) / (2 * 0.2**2))
        w, h = int(width), int(height)
        heat = object_mask.heat_map(maps, (h, w))
        rows.append(
            object_mask.on_object(heat, squared_distance(h, w, centre, h, w) < radius**2, case.config["threshold"])
        )
    per_image = torch.tensor([[float(value) for value in row] for row in rows])
    return {"per_image": per_image, "means": per_image.mean(0)}


def squared_distance(rows: int, columns: int, centre: Tensor, height: int, width: int) -> Tensor:
    """Of the middles of cells to a point x, y, all as shares of the size."""
    y, x = (torch.arange(rows) + 0.5) / height, (torch.arange(columns) + 0.5) / width
    return (y - centre[1]).square()[:, None] + (x - centre[0]).square()
