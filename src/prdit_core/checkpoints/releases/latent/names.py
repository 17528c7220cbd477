"""Names of the release's weights, and ours for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

# Applied in order, each to the whole name.
AUTOENCODER = (
    (r"conv_first", "first"),
    (r"conv_blocks\.(\d+)\.res1", r"levels.\1.0"),
    (r"conv_blocks\.(\d+)\.res2", r"levels.\1.1"),
    (r"conv_blocks\.(\d+)\.(down|up\.conv_trans)", r"levels.\1.2"),
    (r"mid_block\.res1", "middle.0"),
    (r"mid_block\.attn", "middle.1"),
    (r"mid_block\.res2", "middle.2"),
    (r"final_block", "end"),
    (r"resConv", "skip"),
    (r"to_(qkv|out)", r"\1"),
    (r"^pre_vq_conv", "before"),
    (r"^post_vq_conv", "after"),
    (r"^codebook\.embeddings", "quantiser.embeddings"),
    (r"^codebook\.N", "quantiser.counts"),
    (r"^codebook\.z_avg", "quantiser.sums"),
)
DISCRIMINATOR = "volume_discriminator."
PERCEPTUAL = "perceptual_loss."
BIFLOWNET = (
    (r"^pos_embed", "intra.positions"),
    (r"^init_conv", "first"),
    (r"^time_mlp\.1", "conditions.time.0"),
    (r"^time_mlp\.3", "conditions.time.2"),
    (r"^cond_emb", "conditions.classes"),
    (r"^res_mlp", "conditions.resolution"),
    (r"^x_embedder\.proj", "intra.embedding"),
    (r"^IntraPatchFlow_(in|out)put\.(\d+)\.0", r"intra.\1puts.\2"),
    (r"^IntraPatchFlow_(in|out)put\.(\d+)\.1", r"intra.\1put_heads.\2"),
    (r"^IntraPatchFlow_mid\.0", "intra.middle"),
    (r"skip_linear", "skip"),
    (r"attn\.qkv", "qkv"),
    (r"attn\.proj", "out"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.2"),
    (r"adaLN_modulation\.1", "modulation.linear"),
    (r"^(downs|ups)\.(\d+)\.0\.", r"\1.\2.block1."),
    (r"^(downs|ups)\.(\d+)\.1\.", r"\1.\2.attention1."),
    (r"^(downs|ups)\.(\d+)\.2\.", r"\1.\2.block2."),
    (r"^(downs|ups)\.(\d+)\.3\.", r"\1.\2.attention2."),
    (r"^(downs|ups)\.(\d+)\.4\.", r"\1.\2.resample."),
    (r"\bmlp\.1\.", "modulation."),
    (r"(block\d)\.proj", r"\1.conv"),
    (r"res_conv", "skip"),
    (r"fn\.norm\.gamma", "norm.gain"),
    (r"fn\.fn\.to_(qkv|out)", r"\1"),
    (r"^mid_block(\d)", r"middle\1"),
    (r"^mid_spatial_attn", "middle_attention"),
    (r"^final_conv\.0", "end"),
    (r"^final_conv\.1", "out"),
)


def autoencoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our `Autoencoder` out of the release's; its other networks are left out.

    Latents are scaled by the smallest and the largest number of the codebook, as the release
    does; it has no linear preview, which is left flat.
    """
    others = (DISCRIMINATOR, PERCEPTUAL)
    renamed_state = {
        renamed(name, AUTOENCODER): weight
        for name, weight in state.items()
        if not name.startswith(others)
    }
    codes = renamed_state["quantiser.embeddings"]
    channels, size = renamed_state["encoder.first.weight"].shape[1], codes.shape[1]
    return renamed_state | {
        "quantiser.initialised": torch.ones(()),
        "low": codes.min().expand(size),
        "high": codes.max().expand(size),
        "picture": torch.zeros(channels, size),
        "picture_bias": torch.zeros(channels),
    }


def discriminator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our `Discriminator` out of the release's."""
    start = DISCRIMINATOR + "model"
    return {
        "layers." + name.removeprefix(start): weight
        for name, weight in state.items()
        if name.startswith(start)
    }


def biflownet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our `BiFlowNet` out of the release's."""
    renamed_state = {renamed(name, BIFLOWNET): weight for name, weight in state.items()}
    return {
        name: weight.flatten() if name.endswith("norm.gain") else weight
        for name, weight in renamed_state.items()
    }


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    """A name after all rules."""
    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name
