"""How a Legion workflow is to be executed, as a person writes it."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.cluster.inputs import Inputs
from comfy_dist.nodes.cluster.workflows import user_folder
from comfy_dist.workflows.folder import workflow_file

if TYPE_CHECKING:
    from comfy_dist.calls.legion_configuration import Configuration

log = logging.getLogger(__name__)

CONFIG, CAMPAIGN = "LEGION_CONFIG", "LEGION_CAMPAIGN"


class LegionConfig:
    CATEGORY = "Legion"
    RETURN_TYPES = (CONFIG,)
    RETURN_NAMES = ("legion_config",)
    FUNCTION = "read"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        from comfy_dist.calls.legion_files import template

        text = {"default": template(user_folder()), "multiline": True}
        return {"required": {"config_yaml": ("STRING", text)}}

    @classmethod
    def VALIDATE_INPUTS(cls, config_yaml: str | None = None) -> str | bool:
        """One that comes by a link is looked at when it is there."""
        from comfy_dist.calls.legion_configuration import configuration_of

        try:
            if config_yaml is not None:
                configuration_of(config_yaml)
        except ComfyDistError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, config_yaml: str | None = None) -> str | float:
        """By the workflow's file, which what stands behind this node cannot know; whose it is where several users
        have files is not known here either."""
        from comfy_dist.calls.legion_configuration import configuration_of
        from comfy_dist.calls.legion_files import has_several_users, workflow_name

        user = user_folder()
        try:
            name = "" if config_yaml is None else configuration_of(config_yaml).workflow
            if name and not has_several_users(user):
                saved = workflow_file(user, workflow_name(user, user.parent, name))
                return hashlib.sha256(saved.read_bytes()).hexdigest()
        except (ComfyDistError, OSError) as error:
            log.debug("Whether the workflow has changed is not known: %s", error)
        return float("nan")

    def read(self, config_yaml: str) -> tuple[Configuration]:
        """Raises UnusableConfiguration."""
        from comfy_dist.calls.legion_configuration import configuration_of

        configuration = configuration_of(config_yaml)
        if idle := configuration.idle_keys:
            log.warning("%s in a Legion configuration has no effect.", " and ".join(idle))
        return (configuration,)


NODE_CLASS_MAPPINGS = {"LegionConfig": LegionConfig}
NODE_DISPLAY_NAME_MAPPINGS = {"LegionConfig": "Legion: Configuration"}
