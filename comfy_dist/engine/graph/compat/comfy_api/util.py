"""`comfy_api.util`: an older name of `comfy_api.latest.Types`."""

from comfy_api.latest._util import VideoCodec, VideoComponents, VideoContainer

__all__ = ["VideoCodec", "VideoComponents", "VideoContainer"]
