"""Keys that act for a dock while one of its layers is selected.

napari ignores key bindings of manifests. Those of a single layer come before its own and go with
it; others, such as the modes of a Labels layer, stay as they are. Fields of a dock take the keys
that are typed in them, all others reach the selected layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari.layers import Layer


def bind_keys(layer: Layer, acts: Mapping[str, Callable[[], object]]) -> None:
    """Let keys, such as "1", "Space" or "Left", act while this layer is selected."""
    for key, act in acts.items():
        layer.bind_key(key, _for_layer(act), overwrite=True)


def release_keys(layer: Layer, keys: Iterable[str]) -> None:
    """Give the keys back to napari."""
    for key in keys:
        layer.bind_key(key, None)


def _for_layer(act: Callable[[], object]) -> Callable[[Layer], None]:
    """As napari calls it; it asks for a function with a name."""

    def acted(_layer: Layer) -> None:
        act()

    return acted
