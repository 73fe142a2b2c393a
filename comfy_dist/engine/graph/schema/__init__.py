"""ComfyUI's newer node schema: nodes that describe themselves with io.Schema.

`node.ComfyNode` is what such nodes derive from, `contract.older_contract` what the executor sees of them. Packs
import all of it as `comfy_api.latest.io`.
"""
