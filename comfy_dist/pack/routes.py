"""Routes that ComfyUI lacks: what its nodes judge by code, and validation without queueing."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

_log = logging.getLogger(__name__)


def add() -> None:
    """Serve them. Raises where this ComfyUI has not what they need."""
    execution, nodes, server = (importlib.import_module(name) for name in ("execution", "nodes", "server"))
    arguments = validation_arguments(execution.validate_prompt)
    routes: web.RouteTableDef = server.PromptServer.instance.routes

    @routes.get("/comfy_dist/about")
    async def about(request: web.Request) -> web.Response:
        by_code = {name: names for name, cls in dict(nodes.NODE_CLASS_MAPPINGS).items() if (names := judged(cls))}
        return web.json_response({"validated_by_code": by_code, "web_directories": dict(nodes.EXTENSION_WEB_DIRS)})

    @routes.post("/comfy_dist/validate")
    async def validate(request: web.Request) -> web.Response:
        asked = await request.json()
        verdict = execution.validate_prompt(**arguments(asked["prompt"], asked.get("targets")))
        valid, error, outputs, node_errors = await verdict if inspect.isawaitable(verdict) else verdict
        body = {
            "valid": bool(valid),
            "error": error or None,
            "outputs": list(outputs) if valid else [],
            "node_errors": node_errors or {},
        }
        return web.json_response(body, dumps=lambda value: json.dumps(value, default=str))


def validation_arguments(function: Callable[..., Any]) -> Callable[[Any, Any], dict[str, Any]]:
    """How to call ComfyUI's validate_prompt, which has taken more from version to version.

    Raises TypeError where it wants what we do not know.
    """
    names = list(inspect.signature(function).parameters)
    meanings = [_meaning(name) for name in names]
    if "prompt" not in meanings or "targets" not in meanings:
        raise TypeError(f"validate_prompt({', '.join(names)}) is another one than known")

    def arguments(prompt: Any, targets: Any) -> dict[str, Any]:
        known = {"id": str(uuid.uuid4()), "prompt": prompt, "targets": targets}
        return {name: known[meaning] for name, meaning in zip(names, meanings, strict=True)}

    return arguments


def _meaning(name: str) -> str:
    if name.startswith("partial"):
        return "targets"
    if name in ("prompt", "prompt_id"):
        return {"prompt": "prompt", "prompt_id": "id"}[name]
    raise TypeError(f"validate_prompt wants {name}, which is not known")


def judged(cls: Any) -> list[str]:
    """The inputs that a class validates by code; "*" among them stands for all, also where that is not known."""
    try:
        return _judged(cls)
    except Exception as error:  # noqa: BLE001 - other people's classes
        _log.warning("What %r judges by code is not known: %s: %s", cls, type(error).__name__, error)
        return ["*"]


def _judged(cls: Any) -> list[str]:
    if hasattr(cls, "GET_BASE_CLASS"):
        # The newer schema: every class inherits a validate_inputs that judges nothing.
        function = cls.validate_inputs
        if function.__func__ is cls.GET_BASE_CLASS().validate_inputs.__func__:
            return []
    else:
        function = getattr(cls, "VALIDATE_INPUTS", None)
        if function is None:
            return []
    parameters = inspect.signature(function).parameters.values()
    return [
        "*" if each.kind is each.VAR_KEYWORD else each.name
        for each in parameters
        if each.kind is not each.VAR_POSITIONAL
    ]
