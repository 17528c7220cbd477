"""Reconstruct with an operator of one's own: of a scan, every second slice is missing."""

import torch
import typer
from torch import Tensor

import prdit_core
from prdit_core.data.phantoms import make_phantom
from prdit_core.inverse.consistency import LeastSquares
from prdit_core.inverse.operators.contract import LinearOperator
from prdit_core.inverse.operators.mask import mask_of


class EvenSlices(LinearOperator):
    """What stays, and its exact transpose: back to its place, with nothing in between."""

    def _measure(self, x: Tensor) -> Tensor:
        return x[:, :, ::2].flatten(2)

    def _spread(self, y: Tensor) -> Tensor:
        some = y.unflatten(2, (-1, *self.domain_shape[1:]))
        return torch.stack([some, torch.zeros_like(some)], dim=3).flatten(2, 3)


def main(size: int = 32, steps: int = 20, seed: int = 0) -> None:
    prior = prdit_core.load("demo").at_size(size)
    scan = make_phantom(5, 19, spacing_mm=prior.geometry.spacing_mm[0]).volume.voxels_hu
    x = torch.from_numpy(prior.intensity.to_model(scan)).float()[None, None]
    known = torch.arange(size)[:, None, None].expand(x.shape[2:]) % 2 == 0
    spec = mask_of(known.numpy())  # shapes, as JSON; an own kind has a Spec of its own
    operator = EvenSlices(spec, x.dtype)
    edit = LeastSquares(operator, operator(x), iterations=1)
    config = prdit_core.SamplingConfig(steps=steps, sampler="increment", k=2.0)
    *_, last = prdit_core.generate_steps(prior, config, seed=seed, edit=edit)
    error = (last.x0 - x)[0, 0].abs() * prior.intensity.hu_per_unit
    print(f"measured {error[::2].mean():.1f} HU, imagined {error[1::2].mean():.1f} HU away")


if __name__ == "__main__":
    typer.run(main)
