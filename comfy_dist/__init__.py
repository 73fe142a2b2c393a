"""Any number of machines as one ComfyUI."""

__version__ = "0.1.0"
