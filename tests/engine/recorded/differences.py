"""Where ours deliberately answers otherwise than a stock ComfyUI: {case: (why, what only ours says)}."""

from __future__ import annotations

VALIDATIONS: dict[str, tuple[str, str]] = {
    "no prompt": ("the sentence says what is missing", "the body has no key `prompt`"),
    "two outputs bad": (
        "a slot that is not there is a bad link, not an IndexError",
        "TestSink) has 0 outputs, no slot 0",
    ),
    "link to nowhere": ("a node that is not there is a bad link, not a KeyError", "first: no node '9'"),
    "no such slot": ("a slot that is not there is a bad link, not an IndexError", "has 1 outputs, no slot 4"),
    "no inputs": ("a node without inputs needs no empty object", '"number"'),
    "cycle": ("the stock refuses without a word; ours names the nodes", "Dependency cycle: 2 → 1 → 2"),
}

EXECUTIONS: dict[str, tuple[str, str]] = {
    "expansion without result": (
        "nodes may expand into output nodes alone; who is linked to the result gets None",
        '"outputs": {"2.0.0.1": {"text": ["shown"]}, "3": {"text": ["None"]}}',
    ),
    "expansion into a cycle": (
        "names the nodes; and the stock reports success in its history",
        "Dependency cycle detected among",
    ),
    "expansion into an unknown class": (
        "a sentence for a KeyError",
        "expands into NoSuchNode, which does not exist",
    ),
    "async error": ("the stock leaves the inputs of async nodes out", '"current_inputs": {"value": ["x"]}'),
    "target behind another output": (
        "the stock shows outputs nobody asked for, where their inputs equal another's",
        '"outputs": {"1": {"text": ["o"]}, "2": {"text": ["o"]}}',
    ),
    "shown in the middle": (
        "the stock's history repeats what an earlier prompt showed and this one did not",
        '"outputs": {"3": {"text": ["asideb"]}}',
    ),
    "ids changed": ("the stock's meta names the node of the earlier prompt", '"meta": {"6": {"node_id": "6"'),
    "returns uneven": ("the stock drops outputs without a word", "2 outputs for one item of its inputs and 3"),
    "returns none": ("says what a node must return", "returned nothing; it must return a tuple of its 3 outputs"),
    "returns number": ("says what a node must return", "returned a value of type int"),
    "returns text": ("the stock takes the characters for the outputs", "returned a value of type str"),
    "returns bad ui": ("says what a node must return", "ui is of type list; it must be a dict"),
    "returns bad expand": ("says what a node must return", "expand is of type list; it must be a dict"),
    "returns bad node": ("says what a node must return", "expands into a node new that is no node"),
    "shows text": ("the stock takes a text for a list of characters", '"shown": ["abc"]'),
}
