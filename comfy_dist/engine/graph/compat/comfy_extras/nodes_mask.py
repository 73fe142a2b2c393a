"""`comfy_extras.nodes_mask`: its node classes, as far as we have them."""

from comfy_dist.engine.graph.compat._classes import classes_of

globals().update(classes_of("comfy_extras.nodes_mask"))
