"""What `comfyui-client` does, for any server that speaks ComfyUI's API. Imports neither torch nor the services."""
