"""Files of the authors' releases: their names, their layout, and what they leave unsaid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prdit_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

# official name -> ours, in the order in which they are tried
_RENAMES = [
    (re.compile(rule), name)
    for rule, name in [
        (r"t_embedder\.mlp\.0\.", "time.shared."),
        (r"t_embedder\.coarse_head\.", "time.local_head."),
        (r"t_embedder\.fine_head\.", "time.global_head."),
        (r"coarse\.mlp_denoise\.mlp1\.", "local.first."),
        (r"coarse\.mlp_denoise\.mlp2\.", "local.second."),
        (r"coarse\.mlp_denoise\.linear_final\.", "local.out."),
        (r"coarse\.mlp_denoise\.adaLN_modulation\.1\.", "local.modulation.linear."),
        (r"fine\.patch_embedder\.(fc1|fc2)\.", r"global_residual.embedding.mlp.\1."),
        (r"fine\.patch_embedder\.(skip|norm)\.", r"global_residual.embedding.\1."),
        (r"fine\.blocks\.(\d+)\.attn\.qkv\.", r"global_residual.blocks.\1.attention.qkv."),
        (r"fine\.blocks\.(\d+)\.attn\.proj\.", r"global_residual.blocks.\1.attention.out."),
        (r"fine\.blocks\.(\d+)\.mlp\.", r"global_residual.blocks.\1.mlp."),
        (
            r"fine\.blocks\.(\d+)\.adaLN_modulation\.1\.",
            r"global_residual.blocks.\1.modulation.linear.",
        ),
        (r"fine\.final_layer\.linear\.", "global_residual.out."),
        (r"fine\.final_layer\.adaLN_modulation\.1\.", "global_residual.modulation.linear."),
    ]
]
# A high-resolution model: its base, and a refiner whose parts are called as a base's are.
# official prefix: (name the rest has in a base, where it lies with us)
_HIGH_RESOLUTION = {
    "base.": ("", ""),
    "t_embedder_sr.": ("t_embedder.", "refiners.0."),
    "sr.": ("coarse.", "refiners.0."),
}
_GATED = [(".fc1_g.", ".gate."), (".fc1_x.", ".value."), (".fc2.", ".out.")]


def is_official(name: str) -> bool:
    """Whether the release's networks, plain or of high resolution, have a weight that begins so."""
    return name.removeprefix("module.").startswith(("t_embedder.", "base.t_embedder."))


def renamed(official: str) -> str:
    """Our name of an official weight.

    Raises
    ------
    CheckpointError
        If the name belongs to no PRDiT network.
    """
    for prefix, (as_in_base, place) in _HIGH_RESOLUTION.items():
        if official.startswith(prefix):
            return place + _of_base(as_in_base + official.removeprefix(prefix))
    return _of_base(official)


def _of_base(official: str) -> str:
    for rule, name in _RENAMES:
        match = rule.match(official)
        if match is not None:
            ours = match.expand(name) + official[match.end() :]
            if ours.startswith(("local.first.", "local.second.")):
                for theirs, our_part in _GATED:
                    ours = ours.replace(theirs, our_part)
            return ours
    raise CheckpointError(
        f"weight {official!r} belongs to no PRDiT network; is this another model?"
    )


def renamed_state(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights under our names; a `module.` prefix of distributed training is dropped.

    Raises
    ------
    CheckpointError
        If they are not those of one PRDiT network, plain or with everything a refined one has.
    """
    state = {name.removeprefix("module."): weight for name, weight in official.items()}
    _check_whole(state)
    return {renamed(name): weight for name, weight in state.items()}


def _check_whole(names: Iterable[str]) -> None:
    """Either all names are those of a high-resolution model, base and refiner, or none is."""
    above = {name: name.startswith(tuple(_HIGH_RESOLUTION)) for name in names}
    if not any(above.values()):
        return
    for prefix in _HIGH_RESOLUTION:
        if not any(name.startswith(prefix) for name in above):
            raise CheckpointError(f"a high-resolution model without any weight {prefix}*")
    other = [name for name, refined in above.items() if not refined]
    if other:
        raise CheckpointError(f"weight {other[0]!r} is no part of a high-resolution model")
