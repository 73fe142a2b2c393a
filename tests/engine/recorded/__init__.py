"""What a stock ComfyUI answers and sends, recorded, so that ours can be compared without one."""
