"""Autoencoder and BiFlowNet give the numbers recorded from the release of 3D MedDiffusion."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import recorded_latent
import torch
from recorded import load, tensor

from prdit_core.checkpoints.releases.latent.names import (
    AUTOENCODER,
    BIFLOWNET,
    discriminator_state,
    renamed,
)
from prdit_core.models.families import parameter_count
from prdit_core.models.latent import losses
from prdit_core.models.latent.biflownet import BiFlowNet, resolution_of
from prdit_core.models.latent.config import AutoencoderConfig, BiFlowConfig
from prdit_core.models.latent.discriminator import Discriminator
from prdit_core.models.latent.intra import split
from prdit_core.models.latent.patch_volume import PatchVolume
from prdit_core.models.latent.quantiser import Quantiser, as_vectors
from prdit_core.models.sinusoids import sinusoids
from prdit_core.schedule import VPCosineSchedule
from prdit_core.training.families.latent.fit import fit

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

RATIOS = ["4x", "8x"]


def close(found: Tensor, expected: np.ndarray, atol: float = 2e-5) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol)


# ---------------------------------------------------------------------------------------------
# Autoencoder


@pytest.mark.parametrize("ratio", RATIOS)
@torch.inference_mode()
def test_patches_are_encoded_quantised_and_decoded_as_recorded(ratio: str, parity: Path) -> None:
    numbers = load(parity / f"med_ae_{ratio}.npz")
    model = recorded_latent.autoencoder(numbers)
    z = model.encode(tensor(numbers["patch/x"]))
    quantised = model.quantiser(z)
    close(model.encoder(tensor(numbers["patch/x"])), numbers["patch/enc"])
    close(z, numbers["patch/pre"])
    close(quantised.z, numbers["patch/quant"])
    close(model.after(quantised.z), numbers["patch/post"])
    close(quantised.commitment.mean(), numbers["patch/commitment_loss"])
    close(quantised.perplexity, numbers["patch/perplexity"], atol=1e-4)
    close(model.decode(z), numbers["patch/dec"], atol=5e-5)
    np.testing.assert_array_equal(quantised.indices, numbers["patch/indices"])


@pytest.mark.parametrize("ratio", RATIOS)
@torch.inference_mode()
def test_every_level_is_as_recorded(ratio: str, parity: Path) -> None:
    numbers = load(parity / f"med_ae_{ratio}.npz")
    model = recorded_latent.autoencoder(numbers)
    begins = {"enc_feat": tensor(numbers["patch/x"]), "dec_feat": tensor(numbers["patch/post"])}
    for side, part in (("enc_feat", model.encoder), ("dec_feat", model.decoder)):
        x = part.first(begins[side][:1])
        close(x[0], np.squeeze(numbers[f"patch/{side}/conv_first"]))
        if side == "dec_feat":
            x = _middle(part, x, numbers, side)
        for number, level in enumerate(part.levels):
            x = level[1](level[0](x))
            close(x[0], np.squeeze(numbers[f"patch/{side}/level{number}_res2"]), atol=5e-5)
            if len(level) == 3:
                x = level[2](x)
                close(x[0], np.squeeze(numbers[f"patch/{side}/level{number}_out"]), atol=5e-5)
        if side == "enc_feat":
            _middle(part, x, numbers, side)


def _middle(part: Any, x: Tensor, numbers: dict[str, Any], side: str) -> Tensor:
    for name, module in zip(("mid_res1", "mid_attn", "mid_res2"), part.middle, strict=True):
        x = module(x)
        close(x[0], np.squeeze(numbers[f"patch/{side}/{name}"]), atol=5e-5)
    return x


def trained(config: BiFlowConfig) -> int:
    with torch.device("meta"):
        model = BiFlowNet(config)
    return sum(weight.numel() for weight in model.parameters())


def test_the_published_networks_have_the_published_sizes() -> None:
    for ratio, parts in ((4, 3_928_184 + 4_557_313), (8, 15_836_696 + 18_982_081)):
        assert parameter_count(AutoencoderConfig(ratio=ratio)) == parts + 2 * 72
    with torch.device("meta"):
        discriminator = Discriminator(1, 32)
    assert sum(weight.numel() for weight in discriminator.parameters()) == 2_772_321
    names = recorded_latent.named(*"abcdefg")
    table = {1: 36_864, 2: 4_608}
    for patch, count in ((1, 157_654_880), (2, 157_773_824)):
        config = BiFlowConfig(classes=names, null=False, patch=patch)
        assert trained(config) == count - table[patch]


# ---------------------------------------------------------------------------------------------
# Discriminator and losses


@pytest.mark.parametrize("mode", ["train", "eval"])
@torch.no_grad()
def test_the_discriminator_is_as_recorded(mode: str, parity: Path) -> None:
    weights, numbers = load(parity / "med_ae_4x.npz"), load(parity / "med_ae_train.npz")
    model = recorded_latent.discriminator(weights).train(mode == "train")
    found = model(tensor(weights["patch/x"]))
    for number, activation in enumerate(found):
        close(activation, numbers[f"disc/{mode}/feat{number}"])
    close(found[-1], numbers[f"disc/{mode}/logits"])


def test_the_generator_step_is_as_recorded(parity: Path) -> None:
    weights, numbers = load(parity / "med_ae_4x.npz"), load(parity / "med_ae_train.npz")
    model = recorded_latent.autoencoder(weights)
    critic = recorded_latent.discriminator(weights).train()
    x = tensor(numbers["step/x"])
    quantised = model.quantiser(model.encode(x))
    decoded = model.decoder(model.after(quantised.z))
    fake, real = critic(decoded), critic(x)
    parts = {
        "recon_loss": losses.reconstruction(x, decoded),
        "commitment_loss": quantised.commitment,
        "adv_loss": losses.adversarial(fake[-1]),
        "fm_loss": losses.feature_matching(fake, real),
    }
    for name, part in parts.items():
        close(part.mean(), numbers[f"step/g/{name}"])
    total = torch.stack(list(parts.values())).sum(0).mean()
    close(total, numbers["step/g/total_without_perceptual"], atol=1e-4)
    total.backward()
    _gradients(model, critic, numbers, "step/g")


def test_the_discriminator_step_is_as_recorded(parity: Path) -> None:
    weights, numbers = load(parity / "med_ae_4x.npz"), load(parity / "med_ae_train.npz")
    model = recorded_latent.autoencoder(weights)
    critic = recorded_latent.discriminator(weights).train()
    x = tensor(numbers["step/x"])
    with torch.no_grad():
        decoded = model.decoder(model.after(model.quantiser(model.encode(x)).z))
    real = critic(x)
    loss = losses.hinge(real[-1], critic(decoded)[-1]).mean()
    close(loss, numbers["step/d/disc_loss"])
    loss.backward()
    _gradients(model, critic, numbers, "step/d")


def _gradients(model: Any, critic: Any, numbers: dict[str, Any], step: str) -> None:
    """Norms of all gradients, those of biases before a batch normalisation being 0."""
    owned = dict(model.named_parameters()) | dict(critic.named_parameters())
    for name, expected in zip(
        map(str, numbers[f"{step}/grad_keys"]), numbers[f"{step}/grad_norms"], strict=True
    ):
        (ours,) = discriminator_state({name: torch.zeros(0)}) or [renamed(name, AUTOENCODER)]
        gradient = owned[ours].grad
        assert gradient is not None, name
        np.testing.assert_allclose(gradient.norm().item(), expected, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# Codebook


def quantiser_of(numbers: dict[str, Any], state: str) -> Quantiser:
    codes = numbers[f"{state}/embeddings"]
    found = Quantiser(*codes.shape)
    found.load_state_dict(
        {
            "embeddings": tensor(codes),
            "counts": tensor(numbers[f"{state}/N"]),
            "sums": tensor(numbers[f"{state}/z_avg"]),
            "initialised": torch.tensor(True),
        }
    )
    return found


def check_codes(found: Quantiser, numbers: dict[str, Any], state: str) -> None:
    close(found.embeddings, numbers[f"{state}/embeddings"], atol=1e-6)
    close(found.counts, numbers[f"{state}/N"], atol=1e-5)
    close(found.sums, numbers[f"{state}/z_avg"], atol=1e-5)


def test_codes_move_and_dead_ones_are_drawn_anew_as_recorded(parity: Path) -> None:
    numbers = load(parity / "med_ae_train.npz")
    z, order = tensor(numbers["step/z"]), tensor(numbers["step/perm_codebook"]).long()
    found = quantiser_of(numbers, "codebook/before")
    indices = found(z).indices
    dead = found.update(z, indices, order)
    assert dead == int(numbers["codebook/dead_after"].sum()) == 33
    check_codes(found, numbers, "codebook/after")
    kept = quantiser_of(numbers, "codebook/before")
    kept.update(z, indices, None)
    close(kept.embeddings, numbers["codebook/no_restart/embeddings"], atol=1e-6)


def test_looking_up_never_moves_codes(parity: Path) -> None:
    """Defects 1 and 2: neither a mode nor a load makes them move, or begin anew."""
    numbers = load(parity / "med_ae_train.npz")
    found, z = quantiser_of(numbers, "codebook/before"), tensor(numbers["step/z"])
    before = {name: value.clone() for name, value in found.state_dict().items()}
    for mode in (True, False, True):
        found.train(mode)(z)
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())
    back = Quantiser(*found.embeddings.shape)
    assert not back.initialised
    back.load_state_dict(found.state_dict())
    assert back.initialised
    moved = np.abs(numbers["codebook/after/embeddings"] - before["embeddings"].numpy()).max()
    assert moved > 0.1  # what a forward in training mode does in the release


def test_the_first_batch_makes_the_codes(parity: Path) -> None:
    numbers = load(parity / "med_ae_train.npz")
    found, z = quantiser_of(numbers, "codebook/before"), tensor(numbers["step/z"])
    order = tensor(numbers["codebook/init/perm_init"]).long()
    found.initialised.fill_(False)
    found.initialise(z, order)
    assert found.initialised and torch.equal(found.counts, torch.ones(64))
    assert torch.equal(found.embeddings, as_vectors(z)[order][:64])
    again = tensor(numbers["codebook/init/perm_restart"]).long()
    found.update(z, found(z).indices, again)
    close(found.embeddings, numbers["codebook/init/after/embeddings"], atol=1e-6)


def test_few_vectors_are_repeated_with_noise(parity: Path) -> None:
    numbers = load(parity / "med_ae_train.npz")
    found, z = quantiser_of(numbers, "codebook/before"), tensor(numbers["codebook/tile/z"])
    order = tensor(numbers["codebook/tile/perm"]).long()
    noise = tensor(numbers["codebook/tile/unit_noise"])
    found.update(z, found(z).indices, order, noise)
    check_codes(found, numbers, "codebook/tile/after")
    with pytest.raises(ValueError, match="8 vectors for 64 codes"):
        found.candidates(z, order)


# ---------------------------------------------------------------------------------------------
# Codec


@pytest.mark.parametrize("ratio", RATIOS)
def test_volumes_are_encoded_by_patches_and_decoded_at_once(ratio: str, parity: Path) -> None:
    numbers = load(parity / f"med_ae_{ratio}.npz")
    codec = PatchVolume(recorded_latent.autoencoder(numbers))
    z = codec.encode(tensor(numbers["vol/x"]))
    assert codec.grid(numbers["vol/x"].shape[2:]) == tuple(z.shape[2:])
    close(z, numbers["vol/scaled"], atol=1e-4)
    close(codec.unscaled(z), numbers["vol/latent"])
    close(
        codec.encode(tensor(numbers["vol2/x"])),
        codec.scaled(tensor(numbers["vol2/latent"])).numpy(),
        atol=1e-4,
    )
    close(codec.decode(z), numbers["vol/joint_dec"], atol=5e-5)
    assert np.abs(codec.decode(z).numpy() - numbers["vol/patchwise_dec"]).max() > 0.1
    close(codec.decode(tensor(numbers["gen/latent"])), numbers["gen/image"], atol=5e-5)


def test_a_sampler_s_clamp_loses_nothing_of_what_volumes_hold(parity: Path) -> None:
    """Defect 10: by the release's scale 8 of 100 latents lie where no sampler comes, unseen."""
    numbers = load(parity / "med_ae_4x.npz")
    model, x = recorded_latent.autoencoder(numbers), tensor(numbers["vol/x"])
    codec, source = PatchVolume(model), SimpleNamespace(names=("one",), read=lambda _: x[0].numpy())

    def clamped() -> tuple[float, float]:
        """Share of the latents that is clipped, and how far that moves the volume."""
        z = codec.encode(x)
        moved = codec.decode(z.clamp(-1, 1)) - codec.decode(z)
        return float((z.abs() > 1).float().mean()), float(moved.square().mean().sqrt())

    share, moved = clamped()  # low and high are the release's, of all channels together
    assert share > 0.08 and moved > 0.3
    record = fit(model, source)  # type: ignore[arg-type]
    share, moved = clamped()
    assert share == pytest.approx(record["latents"]["clipped"], abs=1e-5) and share < 0.01
    assert moved < 0.01


def test_a_rest_beside_whole_patches_is_padded_with_air_and_cropped(parity: Path) -> None:
    """Defect 6: the release drops it without a word."""
    codec = PatchVolume(recorded_latent.autoencoder(load(parity / "med_ae_4x.npz")))
    x = torch.rand(1, 1, 16, 24, 19, generator=torch.Generator().manual_seed(1))
    air = torch.full((1, 1, 16, 32, 32), -1.0)
    air[:, :, :, :24, :19] = x
    z = codec.encode(x)
    assert codec.padded((16, 24, 19)) == (16, 32, 32) and codec.grid((16, 24, 19)) == (4, 8, 8)
    assert torch.equal(z, codec.encode(air)) and z.shape == (1, 8, 4, 8, 8)
    naive = codec.encode(x[:, :, :16, :16, :16])
    assert naive.shape == (1, 8, 4, 4, 4)  # what is left where the rest is dropped
    own = codec.of((16, 24, 19))
    assert torch.equal(own.decode(z), codec.decode(z)[:, :, :16, :24, :19])
    assert own.preview(z).shape == own.decode(z).shape == x.shape
    with pytest.raises(ValueError, match=r"not those of \(16, 24, 19\)"):
        own.decode(naive)
    with pytest.raises(ValueError, match="whole patches of 16 voxels"):
        codec.module.config.grid((16, 24, 19))  # for what cannot pad


def test_windows_overlap_and_cover_a_latent(parity: Path) -> None:
    """Defect 9: every voxel is covered and weights sum to 1: a constant decoder stays constant."""
    model = recorded_latent.autoencoder(load(parity / "med_ae_4x.npz"))
    torch.nn.init.zeros_(model.decoder.end[2].weight)
    codec = PatchVolume(model, decoder_bytes=PatchVolume(model).memory((4, 4, 4)))
    z = torch.randn(1, 8, 4, 12, 9, generator=torch.Generator().manual_seed(1))
    found = codec.decode(z)
    assert found.shape == (1, 1, 16, 48, 36)
    close(found, model.decoder.end[2].bias.detach().expand(found.shape).numpy(), atol=1e-6)


def bordered(z: Tensor) -> Tensor:
    """A decoder that draws its latents, and errs where they end, as zeros around them make it."""
    x = torch.nn.functional.interpolate(z[:, :1], scale_factor=8, mode="trilinear")
    for axis in (2, 3, 4):
        places = torch.arange(x.shape[axis], dtype=x.dtype)
        error = 0.3 * torch.exp(-torch.minimum(places, len(places) - 1 - places) / 4)
        x = x + error.reshape([-1 if one == axis else 1 for one in range(5)])
    return x


def at_borders(x: Tensor, places: list[int]) -> float:
    """Gradient energy along the last axis where windows end, by that elsewhere."""
    energy = x.diff(dim=4).square().mean((0, 1, 2, 3))
    ends = torch.zeros(len(energy), dtype=torch.bool)
    ends[[place - 1 for place in places]] = True
    return float(energy[ends].mean() / energy[~ends].mean())


def test_windows_leave_no_seams() -> None:
    """Defect 9: gradients where windows end are those of the whole within 5 %, not 60 times."""
    drawn: Any = SimpleNamespace(
        config=AutoencoderConfig(ratio=8, width=4, groups=2, patch=16),
        decoder=bordered,
        after=lambda z: z,
        quantiser=SimpleNamespace(nearest=lambda z: z),
        low=-torch.ones(8),
        high=torch.ones(8),
    )
    whole = PatchVolume(drawn)
    forced = PatchVolume(drawn, decoder_bytes=whole.memory((8, 8, 8)))
    z = torch.randn(1, 8, 8, 8, 32, generator=torch.Generator().manual_seed(1))
    assert forced.window(z) == (8, 8, 8) and whole.window(z) == (8, 8, 32)
    ends = list(range(32, 256, 32))  # every half window
    right = at_borders(whole.decode(z), ends)
    assert at_borders(forced.decode(z), ends) == pytest.approx(right, rel=0.05)
    naive = torch.cat([whole.decode(part) for part in z.split(8, dim=4)], dim=4)
    assert at_borders(naive, [64, 128, 192]) > 30 * right


@pytest.mark.parametrize(
    ("ratio", "edge", "gib", "window"),
    [
        (8, 32, 40, (32, 32, 32)),
        (8, 32, 5.5, (18, 18, 18)),
        (8, 64, 5.5, None),
        (4, 48, 20, (48, 48, 48)),
        (4, 64, 20, (36, 64, 64)),
    ],
)
def test_windows_are_as_large_as_fits(
    ratio: Literal[4, 8], edge: int, gib: float, window: tuple[int, int, int] | None
) -> None:
    """A decode of 256^3 within 5.5 GiB takes 8 windows of 144^3 that overlap by 32 voxels.

    Defect 9: at 4x the release still has windows of 32 latents, half as far as at 8x.
    """
    published: Any = SimpleNamespace(config=AutoencoderConfig(ratio=ratio))
    codec = PatchVolume(published, decoder_bytes=int(gib * 2**30))
    found = codec.window(torch.empty(1, 8, edge, edge, edge, device="meta"))
    assert codec.memory(found) <= codec.decoder_bytes
    assert window in (found, None) and min(found) > 8
    assert ratio == 8 or min(found) > 32


# ---------------------------------------------------------------------------------------------
# BiFlowNet

SMALL = ["mini", "T_p1", "T_p2", "T_noncubic", "S_p1", "S4x_p2"]
FULL = [pytest.param(name, marks=pytest.mark.slow) for name in ("full_8x", "full_4x")]


@pytest.mark.slow
@pytest.mark.parametrize("case", [*SMALL, *FULL])
@torch.inference_mode()
def test_biflownet_is_as_recorded(case: str, parity: Path) -> None:
    numbers = load(parity / f"med_biflow_{case}.npz")
    model = recorded_latent.biflownet(numbers)
    x, t, label, resolution = (tensor(numbers[name]) for name in ("x", "t", "y", "res"))
    close(model(x, t, label.long(), resolution), numbers["out"])
    trained = sum(weight.numel() for weight in model.parameters())
    assert model.intra is not None
    assert trained + model.intra.positions.numel() == int(numbers["n_parameters"])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["T_p1", "T_p2", "T_noncubic"])
@torch.inference_mode()
def test_both_flows_are_as_recorded(case: str, parity: Path) -> None:
    """Intermediate tensors of the second sample."""
    numbers = load(parity / f"med_biflow_{case}.npz")
    model = recorded_latent.biflownet(numbers)
    x, t, label, resolution = (tensor(numbers[name]) for name in ("x", "t", "y", "res"))
    close(sinusoids(t, 24), numbers["emb/t_sinusoid"])
    c = model.conditions(t, label.long(), resolution)
    close(c, numbers["emb/cond"])
    blocks = split(x, 4)
    rows = c.repeat_interleave(len(blocks) // len(c), dim=0)
    close(rows[:, ::16], numbers["dit/cond_rows"])
    half = len(blocks) // 2
    close(blocks[half:], numbers["dit/sub_volumes"], atol=0)
    assert model.intra is not None
    close(model.intra.embed(x)[half:], numbers["dit/tokens_plus_pos"])
    for name, found in zip(("in0", "in1", "out0", "out1"), model.intra(x, c), strict=True):
        close(found[1:], numbers[f"maps/{name}"])


def test_a_training_step_of_biflownet_is_as_recorded(parity: Path) -> None:
    numbers = load(parity / "med_diffusion.npz")
    model = recorded_latent.biflownet(load(parity / "med_biflow_mini.npz"))
    x0, noise, t, label, resolution = (
        tensor(numbers[f"train/{name}"]) for name in ("x0", "noise", "t", "y", "res")
    )
    schedule = VPCosineSchedule()
    shares = [(schedule.alpha(i + 1.0), schedule.sigma(i + 1.0)) for i in t.tolist()]
    alpha, sigma = torch.tensor(shares)[..., None, None, None, None].unbind(1)
    loss = (model(alpha * x0 + sigma * noise, t, label.long(), resolution) - noise).abs().mean()
    close(loss, numbers["train/loss_l1"])
    loss.backward()
    owned = dict(model.named_parameters())
    for name, norm in zip(
        map(str, numbers["train/grad_keys"]), numbers["train/grad_norms"], strict=True
    ):
        gradient = owned[renamed(name, BIFLOWNET)].grad
        assert gradient is not None, name
        np.testing.assert_allclose(gradient.norm().item(), norm, rtol=1e-4, atol=1e-7)


@torch.inference_mode()
def test_the_resolution_of_a_batch_is_that_of_its_grid(parity: Path) -> None:
    """Defect 5: for any batch, without a vector given by the caller."""
    numbers = load(parity / "med_biflow_mini.npz")
    model = recorded_latent.biflownet(numbers)
    x, t, label = (tensor(numbers[name]) for name in ("x", "t", "y"))
    assert torch.equal(resolution_of(x), torch.full((2, 3), 0.125))
    both = model(x, t, label.long())
    with pytest.raises(RuntimeError):  # one vector for the batch, as the release gives it
        model(x, t, label.long(), resolution_of(x[:1]))
    for number in range(2):
        one = slice(number, number + 1)
        torch.testing.assert_close(
            model(x[one], t[one], label[one].long()), both[one], rtol=0, atol=1e-5
        )


def test_ablations_are_configurations(parity: Path) -> None:
    """Table IV: without an intra-patch flow its weights are not there, and grids may be others."""
    numbers = load(parity / "med_biflow_mini.npz")
    whole = recorded_latent.biflow_config(numbers)
    alone = whole.model_copy(update={"intra": False})
    assert trained(alone) < trained(whole)
    assert (whole.edge_multiple, alone.edge_multiple) == (4, 2)


@torch.no_grad()
def test_blocks_of_the_u_net_can_stand_in_the_intra_patch_flow(parity: Path) -> None:
    """Table IV: no attention in sub-volumes, and still none sees another one."""
    numbers = load(parity / "med_biflow_mini.npz")
    config = recorded_latent.biflow_config(numbers).model_copy(update={"blocks": "u-net"})
    model = BiFlowNet(config)
    intra = model.intra
    assert intra is not None
    assert not [name for name in intra.state_dict() if "qkv" in name or "mlp" in name]
    x = torch.randn(1, config.channels, 4, 4, 8)
    c = torch.randn(1, 8 * config.width)
    other = x.clone()
    other[..., 4:] += 1
    for one, two in zip(intra(x, c), intra(other, c), strict=True):
        assert one.shape == (1, config.width, 4, 4, 8)
        assert torch.equal(one[..., :4], two[..., :4])
        assert not torch.equal(one[..., 4:], two[..., 4:])
