"""`comfy_execution.graph`."""

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt
from comfy_dist.engine.graph.failures import DependencyCycleError, NodeInputError, NodeNotFoundError
from comfy_dist.engine.graph.links import ExecutionBlocker

__all__ = ["DependencyCycleError", "DynamicPrompt", "ExecutionBlocker", "NodeInputError", "NodeNotFoundError"]
