"""The network outside of the cluster, as nodes and webhooks reach it.

Whoever submits a prompt chooses the address, and must not reach the networks behind this machine. A stock ComfyUI
loads it too: standard library and aiohttp only.
"""
