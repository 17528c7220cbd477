"""Distances of sets of volumes that benchmarks share: simple, fixed, and needing no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import prdit_core

if TYPE_CHECKING:
    from pathlib import Path

COMPONENTS = 24


def volumes_of(data: prdit_core.PreparedData) -> np.ndarray:
    return np.stack([data.volume(case).astype(np.float32) for case in data.cases])


def phantoms(folder: Path, count: int, seed: int, size: int) -> np.ndarray:
    prdit_core.phantoms(count, size=size, seed=seed, out=folder, workers=2)
    return volumes_of(prdit_core.PreparedData.open(folder))


def gradient(hu: np.ndarray) -> np.ndarray:
    return np.sqrt(sum(g**2 for g in np.gradient(hu, axis=(1, 2, 3))))


def pooled(hu: np.ndarray) -> np.ndarray:
    count, edge = hu.shape[0], hu.shape[1] // 8
    return hu.reshape(count, 8, edge, 8, edge, 8, edge).mean((2, 4, 6)).reshape(count, -1)


def raw_features(hu: np.ndarray) -> np.ndarray:
    return np.concatenate([pooled(hu), pooled(gradient(hu))], axis=1) / 1400


class Features:
    """Principal components of the training volumes' pooled intensity and gradient."""

    def __init__(self, training: np.ndarray) -> None:
        raw = raw_features(training)
        self.mean = raw.mean(0)
        _, scales, axes = np.linalg.svd(raw - self.mean, full_matrices=False)
        scales = scales[:COMPONENTS] / np.sqrt(len(raw))
        self.axes = axes[:COMPONENTS].T / scales

    def __call__(self, hu: np.ndarray) -> np.ndarray:
        return (raw_features(hu) - self.mean) @ self.axes


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two sets of features taken as normal distributions, float64."""
    means, covariances = [s.mean(0) for s in (a, b)], [np.cov(s, rowvar=False) for s in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    spread = np.trace(covariances[0] + covariances[1]) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(np.sum((means[0] - means[1]) ** 2) + spread)


def high_frequencies(hu: np.ndarray) -> float:
    """Share of spectral energy above half the Nyquist frequency."""
    power = np.abs(np.fft.fftn(hu - hu.mean((1, 2, 3), keepdims=True), axes=(1, 2, 3))) ** 2
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(hu.shape[1])] * 3)))
    return float(power[:, radius > 0.25].sum() / power.sum())


def nearest(hu: np.ndarray, training: np.ndarray) -> np.ndarray:
    """RMSE in HU of each volume to its nearest training volume."""
    flat, known = hu.reshape(len(hu), -1), training.reshape(len(training), -1)
    squares = (flat**2).sum(1)[:, None] + (known**2).sum(1) - 2 * flat @ known.T
    return np.sqrt(np.clip(squares, 0, None).min(1) / flat.shape[1])
