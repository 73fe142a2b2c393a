"""Nodes with every kind of widget, for tests of what the page saves and sends."""


class WidgetsOfAllKinds:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 100}),
                "method": (["first", "second", "fixed"],),
                "text": ("STRING", {"multiline": True, "default": "words"}),
                "number": ("INT", {"default": 1, "control_after_generate": True}),
            },
            "optional": {
                "strength": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.1}),
                "enabled": ("BOOLEAN", {"default": True}),
                "mask": ("MASK",),
            },
        }

    RETURN_TYPES = ("IMAGE", "INT")
    FUNCTION = "run"
    CATEGORY = "testing"

    def run(self, image, seed, **others):
        return (image, seed)


class ForcedInput:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"forced": ("INT", {"forceInput": True}), "value": ("INT", {"default": 1})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "testing"

    def run(self, forced, value):
        return (forced + value,)


NODE_CLASS_MAPPINGS = {"WidgetsOfAllKinds": WidgetsOfAllKinds, "ForcedInput": ForcedInput}
