"""Loading weights into a model: all of them, checked first, or none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.checkpoints.files import is_ours, save
from zoo.checkpoints.report import ImportReport
from zoo.checkpoints.rules import Renamed, Rule, apply_rules, strip_wrappers
from zoo.core.errors import CheckpointError
from zoo.core.names import did_you_mean
from zoo.core.reading import Container, read_metadata, read_tensors

Rules = Sequence[Rule] | Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Official:
    """How a method's published checkpoints are read; a model class has it as `official`.

    Args:
        rules: the table; or, where a table cannot say it (one tensor becomes several), a function from the file's
            tensors, without wrappers' prefixes, to ours.
        version: raised with every change of the rules; kept with what they made.
        key: the file's entry that holds the state dict; `None` looks for it.
    """

    rules: Rules
    version: int
    key: str | None = None


def import_state(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    rules: Rules | None,
    *,
    allow_missing: Sequence[str] = (),
    source: str = "the checkpoint",
) -> ImportReport:
    """Load tensors into a model, in place; a refused import changes nothing.

    Every parameter and persistent buffer must get a tensor of its shape, also where it is training state, and every
    tensor must be used. Dtypes are cast where that keeps the numbers' kind.

    Args:
        model: on any device.
        tensors: by the file's keys.
        rules: to our keys; `None` if they are ours already.
        allow_missing: patterns (`head.*`) of our keys that may keep the model's values if the file lacks them or has
            them in another shape.
        source: what messages call the checkpoint.

    Raises:
        CheckpointError: if the tensors do not fit, a rule does not, or a pattern matches none of our keys.
    """
    report, state = _check(model, Container(dict(tensors), "", ""), rules, allow_missing, source)
    model.load_state_dict(state, strict=False)
    return report


def load_weights(model: nn.Module, path: str | Path, *, allow_missing: Sequence[str] = ()) -> ImportReport:
    """Load a checkpoint file into a model: ours as it is, a published one by the rules of the model's class.

    Ours are what `zoo import` wrote and the `.ckpt` files of our training runs.

    Args:
        model: changed in place, or not at all.
        path: a file, or a hub id (`hf://owner/name`; `owner/name` if there is no such file), whose `model.safetensors`
            is downloaded.
        allow_missing: as of :func:`import_state`.

    Raises:
        CheckpointError: if the file cannot be read or does not fit.
    """
    file = _local(path)
    official = None if _is_ours(file) else _official(model)
    container = read_tensors(file, key=official.key if official else None)
    rules = official.rules if official else _without_training_memory(model, container.tensors)
    report, state = _check(model, container, rules, allow_missing, str(path))
    model.load_state_dict(state, strict=False)
    return report


def convert(
    model: nn.Module,
    source: str | Path,
    out: str | Path,
    *,
    method: str,
    allow_missing: Sequence[str] = (),
    licence: str = "unknown",
) -> ImportReport:
    """Write a published checkpoint as one of ours.

    The file holds what the source held: keys that are allowed to be missing are not made up.

    Args:
        model: what the checkpoint must fit; not changed.
        source: a file or hub id, as of :func:`load_weights`.
        out: the file to write, which must not exist.
        method: the method's name, for the file's provenance.
        allow_missing: as of :func:`import_state`.
        licence: the checkpoint's, for the file's provenance.

    Raises:
        CheckpointError: if the source cannot be read or does not fit, or `out` cannot be written; it then is not there.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out} would hold safetensors: give it a name that ends in .safetensors.")
    if out.exists():
        raise CheckpointError(f"{out} exists: delete it or choose another name.")
    official = _official(model)
    path = _local(source)
    container = read_tensors(path, key=official.key)
    report, state = _check(model, container, official.rules, allow_missing, str(source))
    save(
        out,
        state,
        metadata={
            "method": method,
            "rules_version": str(official.version),
            "source_name": path.name if path == Path(source) else f"hf://{_hub_id(source)}",
            "source_sha256": container.sha256,
            "licence": licence,
        },
    )
    return report


def _without_training_memory(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[Rule, ...]:
    """Rules that leave out what the other run remembered of its samples and this model has no place for."""
    own, memory = model.state_dict().keys(), getattr(model, "training_memory", ())
    strange = [key for key in tensors if key.startswith(memory) and key not in own]
    return tuple(Rule(f"^{re.escape(key)}$", drop=True) for key in strange)


def _official(model: nn.Module) -> Official:
    official = getattr(model, "official", None)
    if official is None:
        raise CheckpointError(
            f"{type(model).__name__} has no rules for published checkpoints. It takes the .ckpt of a training run of "
            "this project, or what zoo import wrote."
        )
    return official


def _is_ours(path: Path) -> bool:
    """Whether the keys are ours already: a file that `zoo import` wrote, or one of our training runs."""
    beside = read_metadata(path)
    return is_ours(beside) or {"pytorch-lightning_version", "zoo"} <= beside.keys()


def _check(
    model: nn.Module, container: Container, rules: Rules | None, allow_missing: Sequence[str], source: str
) -> tuple[ImportReport, dict[str, Tensor]]:
    """Rename, compare with the model, refuse; what it returns can be loaded."""
    try:
        renamed = _rename(container.tensors, rules)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    allowed = _allowed(own, allow_missing)
    shared = [key for key in own if key in renamed.tensors]
    mis_shaped = {
        key: (renamed.tensors[key].shape, own[key].shape)
        for key in shared
        if renamed.tensors[key].shape != own[key].shape
    }
    dtypes = {key: (renamed.tensors[key].dtype, own[key].dtype) for key in shared if key not in mis_shaped}
    wrong_kind = {key: pair for key, pair in dtypes.items() if not torch.can_cast(*pair)}
    state = {key: renamed.tensors[key].to(own[key].dtype) for key in dtypes if key not in wrong_kind}
    missing = tuple(key for key in own if key not in renamed.tensors or (key in mis_shaped and key in allowed))
    report = ImportReport(
        model=type(model).__name__,
        source=source,
        sha256=container.sha256,
        format=container.format,
        container=container.container,
        alternatives=container.alternatives,
        matched=tuple(state),
        missing=missing,
        allowed=tuple(key for key in missing if key in allowed),
        unexpected=tuple(key for key in renamed.tensors if key not in own),
        mis_shaped=mis_shaped,
        wrong_kind=wrong_kind,
        casts={key: (theirs, ours) for key, (theirs, ours) in dtypes.items() if theirs != ours and key in state},
        non_finite=tuple(key for key, value in state.items() if _spoilt(value, own[key])),
        dropped=renamed.dropped,
        idle=renamed.idle,
        changed=any(not torch.equal(value, own[key].cpu()) for key, value in state.items()),  # sync: import
    )
    if reason := report.refusal():
        raise CheckpointError(reason)
    return report, state


def _rename(tensors: dict[str, Tensor], rules: Rules | None) -> Renamed:
    if rules is None:
        return Renamed(tensors, {key: key for key in tensors}, (), ())
    if not callable(rules):
        return apply_rules(tensors, rules)
    try:
        return Renamed(rules(strip_wrappers(tensors)), {}, (), ())
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(f"its tensors are not those that the method's rules are for ({error}).") from error


def _allowed(own: Mapping[str, Tensor], patterns: Sequence[str]) -> set[str]:
    allowed: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = {key for key in own if fnmatchcase(key, pattern)}
        if not matches:
            groups = {f"{key[: at.start()]}.*" for key in own for at in re.finditer(r"\.", key)}
            raise CheckpointError(
                f"--allow-missing '{pattern}' matches no tensor of the model. {did_you_mean(pattern, {*own, *groups})}"
            )
        allowed |= matches
    return allowed


def _spoilt(value: Tensor, own: Tensor) -> bool:
    """Whether it is not finite where the model is; a mask of the model may hold infinities."""
    return bool((~value.isfinite() & own.cpu().isfinite()).any())  # sync: import


# -- the hub ---------------------------------------------------------------------------------------------------------


_SUFFIXES = ("ckpt", "pth", "pt", "pkl", "bin", "tar", "safetensors")


def _local(path: str | Path) -> Path:
    """The file itself, or a download of what a hub id names."""
    name = _hub_id(path)
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and name.rpartition(".")[2] not in _SUFFIXES
    if name != str(path) or (is_id and not Path(path).exists() and not Path(path).parent.exists()):
        return _download(name)
    return Path(path)


def _hub_id(path: str | Path) -> str:
    return re.sub(r"^hf:/+", "", str(path))  # a Path leaves one slash


def _download(name: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise CheckpointError(
            f"{name} is no file here, and to look for it on the hub needs: pip install huggingface_hub"
        ) from None
    try:
        return Path(hf_hub_download(repo_id=name, filename="model.safetensors"))
    except Exception as error:  # of a dozen classes: no network, no such id, no such file, no access
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name} is no file here, and its model.safetensors could not be downloaded from the hub: {reason}"
        ) from error
