"""Nodes. Also loaded inside a stock ComfyUI: import only torch, numpy, PIL, aiohttp and pydantic here."""
