"""Where a Legion workflow takes what its Master gives, and gives back. Both are replaced before it is executed."""

from __future__ import annotations

from typing import Any, NoReturn

from comfy_dist.calls.legion_prompts import CHANNELS, ROOT_SLOT, channel_of
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.cluster.inputs import ANY, Inputs

#: Workflows made elsewhere link to it, and it leads nowhere.
_ROOT = {"data_exchange_root": ("STRING", {"default": "", "forceInput": True})}
_SLOTS = [None if slot == ROOT_SLOT else channel_of(slot) for slot in range(len(CHANNELS) + 1)]


class StandsAlone(ComfyDistError):
    """An Importer or Exporter in a workflow that no Master has executed."""


class LegionImporter:
    CATEGORY = "Legion/IO"
    RETURN_TYPES = tuple("STRING" if channel is None else ANY for channel in _SLOTS)
    RETURN_NAMES = tuple("data_exchange_root" if each is None else f"output_{each}" for each in _SLOTS)
    FUNCTION = "take"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "optional": _ROOT}

    def take(self, data_exchange_root: str = "") -> NoReturn:
        raise StandsAlone(
            "A Legion Importer has what a Legion Master gives it. Save this workflow and name it in the Legion "
            "Configuration of another one, with a Master, which is the one to queue."
        )


class LegionExporter:
    CATEGORY = "Legion/IO"
    RETURN_TYPES = ()
    FUNCTION = "give"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "optional": {**_ROOT, **{f"input_{each}": (ANY,) for each in CHANNELS}}}

    def give(self, **_: Any) -> NoReturn:
        raise StandsAlone(
            "A Legion Exporter gives its inputs to a Legion Master. Save this workflow and name it in the Legion "
            "Configuration of another one, with a Master, which is the one to queue."
        )


NODE_CLASS_MAPPINGS = {"LegionImporter": LegionImporter, "LegionExporter": LegionExporter}
NODE_DISPLAY_NAME_MAPPINGS = {"LegionImporter": "Legion: Importer", "LegionExporter": "Legion: Exporter"}
