"""The types without a widget: their values come by links only."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from comfy_dist.engine.graph.schema.ports import ComfyTypeIO, comfytype

_Values: TypeAlias = dict[str, Any]


def _type(name: str, io_type: str, values: Any = Any, **more: Any) -> type[ComfyTypeIO]:
    """The type `io_type`, known to packs as io.<name>; `more` are names that annotations use."""
    made: type[ComfyTypeIO] = comfytype(io_type)(type(name, (ComfyTypeIO,), {"Type": values, **more}))
    return made


#: Images [B, H, W, C] in 0…1.
Image = _type("Image", "IMAGE", torch.Tensor)
#: Masks [B, H, W] in 0…1.
Mask = _type("Mask", "MASK", torch.Tensor)
#: {"samples": [B, C, H, W], …}
Latent = _type("Latent", "LATENT", _Values, LatentDict=_Values)
#: {"waveform": [B, C, T], "sample_rate": Hz}
Audio = _type("Audio", "AUDIO", _Values, AudioDict=_Values)
Video = _type("Video", "VIDEO")
SVG = _type("SVG", "SVG")
AnyType = _type("AnyType", "*")

_conditions = list[tuple[torch.Tensor, _Values]]
Conditioning = _type("Conditioning", "CONDITIONING", _conditions, CondList=_conditions, PooledDict=_Values)
Sampler = _type("Sampler", "SAMPLER")
Sigmas = _type("Sigmas", "SIGMAS", torch.Tensor)
Noise = _type("Noise", "NOISE", torch.Tensor)
Guider = _type("Guider", "GUIDER")
Clip = _type("Clip", "CLIP")
ControlNet = _type("ControlNet", "CONTROL_NET")
Vae = _type("Vae", "VAE")
Model = _type("Model", "MODEL")
ClipVision = _type("ClipVision", "CLIP_VISION")
ClipVisionOutput = _type("ClipVisionOutput", "CLIP_VISION_OUTPUT")
AudioEncoder = _type("AudioEncoder", "AUDIO_ENCODER")
AudioEncoderOutput = _type("AudioEncoderOutput", "AUDIO_ENCODER_OUTPUT")
StyleModel = _type("StyleModel", "STYLE_MODEL")
Gligen = _type("Gligen", "GLIGEN")
UpscaleModel = _type("UpscaleModel", "UPSCALE_MODEL")
MODEL_PATCH = _type("MODEL_PATCH", "MODEL_PATCH")
LoraModel = _type("LoraModel", "LORA_MODEL", dict[str, torch.Tensor])
LossMap = _type("LossMap", "LOSS_MAP", _Values, LossMapDict=_Values)
Photomaker = _type("Photomaker", "PHOTOMAKER")
Hooks = _type("Hooks", "HOOKS")
HookKeyframes = _type("HookKeyframes", "HOOK_KEYFRAMES")
TimestepsRange = _type("TimestepsRange", "TIMESTEPS_RANGE", tuple[float, float])
LatentOperation = _type("LatentOperation", "LATENT_OPERATION")
WanCameraEmbedding = _type("WanCameraEmbedding", "WAN_CAMERA_EMBEDDING", torch.Tensor)

Voxel = _type("Voxel", "VOXEL")
Mesh = _type("Mesh", "MESH")
Load3DCamera = _type("Load3DCamera", "LOAD3D_CAMERA", _Values, CameraInfo=_Values)
Load3D = _type("Load3D", "LOAD_3D", _Values, Model3DDict=_Values)
Load3DAnimation = _type("Load3DAnimation", "LOAD_3D_ANIMATION", _Values, Model3DDict=_Values)

#: Types that packs share though ComfyUI has no node of them.
Point = _type("Point", "POINT")
FaceAnalysis = _type("FaceAnalysis", "FACE_ANALYSIS")
BBOX = _type("BBOX", "BBOX")
SEGS = _type("SEGS", "SEGS")
FlowControl = _type("FlowControl", "FLOW_CONTROL", tuple[str, Any])
Accumulation = _type("Accumulation", "ACCUMULATION", _Values, AccumulationDict=_Values)
