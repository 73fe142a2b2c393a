"""`comfy_execution.progress`: telling of a node's progress."""

from __future__ import annotations

from typing import Any, TypeAlias

from PIL import Image

from comfy_dist.engine.graph import running
from comfy_dist.engine.graph.compat import ask_in_vain
from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt

#: Format, picture, longest side.
PreviewImageTuple: TypeAlias = tuple[str, Image.Image, int | None]


class ProgressRegistry:
    """The progress of the prompt that runs."""

    @property
    def prompt_id(self) -> str:
        prompt = running.running_prompt()
        return prompt.id if prompt is not None else ""

    @property
    def dynprompt(self) -> DynamicPrompt:
        prompt = running.running_prompt()
        return prompt.prompt if prompt is not None else DynamicPrompt({})

    def update_progress(
        self, node_id: str, value: float, max_value: float, image: PreviewImageTuple | None = None
    ) -> None:
        """A node is at `value` of `max_value`. Raises when the prompt is interrupted."""
        running.report_progress(value, max_value, image, node_id)

    def __getattr__(self, name: str) -> Any:
        return ask_in_vain(f"comfy_execution.progress.ProgressRegistry.{name}")


_registry = ProgressRegistry()


def get_progress_state() -> ProgressRegistry:
    return _registry
