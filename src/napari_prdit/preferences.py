"""What the user chose on this plugin's page of napari's Preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PLUGIN = "napari-prdit"
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class Preferences(BaseModel):
    """The page; its defaults are those of the manifest.

    Attributes
    ----------
    checkpoint_folder, runs_folder : where models and trainings are looked for; they need not exist
    preview_rate : at most so many pictures a second while a volume emerges
    device : "auto", "cpu", "cuda" or "mps"
    replay_megabytes : memory for going back in time
    show_advanced : whether settings for those who know them are shown
    """

    model_config = ConfigDict(frozen=True, validate_default=True)

    checkpoint_folder: Folder = Path("~/PRDiT/checkpoints")
    runs_folder: Folder = Path("~/PRDiT/runs")
    preview_rate: float = Field(10.0, gt=0)
    device: str = "auto"
    replay_megabytes: int = Field(512, gt=0)
    show_advanced: bool = False


def preferences() -> Preferences:
    """As they are set now; an emptied field counts as untouched."""
    page = _page()
    chosen = {} if page is None else page.model_dump()
    return Preferences.model_validate({k: v for k, v in chosen.items() if v != ""})


def remember_advanced(shown: bool) -> None:
    """Show them, or not, the next time too."""
    page = _page()
    if page is not None:
        page.show_advanced = shown


def _page() -> Any:
    """What napari holds; None before napari 0.9, or if the plugin is not registered there."""
    try:
        from napari.settings import get_plugin_settings

        return get_plugin_settings(PLUGIN).prdit
    except (ImportError, KeyError):
        return None
