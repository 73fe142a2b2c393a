"""Strings, regular expressions, values, and what is only shown."""

from __future__ import annotations

from tests.nodes.making import Case, case

LINES = "  The Quick\tbrown\nfox JUMPS\n\nover 13 lazy dogs, straße İ ﬁn.  "

STRINGS = [
    *(
        case("StringConcatenate", label, string_a=first, string_b=second, delimiter=delimiter)
        for label, first, second, delimiter in (
            ("plain", "a", "b", ""),
            ("lines", "a\n", "\nb", " | "),
            ("empty", "", "", ","),
        )
    ),
    *(
        case("StringSubstring", f"{start}-{end}", string=LINES, start=start, end=end)
        for start, end in ((0, 5), (3, -4), (-6, -1), (9, 3), (0, 999), (-999, 2), (5, 5))
    ),
    *(
        case("StringLength", label, string=string)
        for label, string in (("lines", LINES), ("empty", ""), ("one", "🙂"))
    ),
    *(
        case("CaseConverter", mode.replace(" ", "-"), string=LINES, mode=mode)
        for mode in ("UPPERCASE", "lowercase", "Capitalize", "Title Case")
    ),
    *(
        case("StringTrim", f"{mode}-{label}", string=string, mode=mode)
        for mode in ("Both", "Left", "Right")
        for label, string in (("lines", LINES), ("blank", " \t\n"), ("wide", "\u2003a\u00a0"))
    ),
    *(
        case("StringReplace", label, string=LINES, find=find, replace=replace)
        for label, find, replace in (
            ("words", "o", "0"),
            ("nothing", "absent", "x"),
            ("empty", "", "-"),
            ("away", "lazy ", ""),
        )
    ),
    *(
        case("StringContains", f"{label}-{sensitive}", string=LINES, substring=substring, case_sensitive=sensitive)
        for sensitive in (True, False)
        for label, substring in (
            ("same", "Quick"),
            ("other", "qUICK"),
            ("absent", "cat"),
            ("empty", ""),
            ("dot", "i̇"),
        )
    ),
    *(
        case(
            "StringCompare",
            f"{mode}-{label}-{sensitive}",
            string_a=a,
            string_b=b,
            mode=mode,
            case_sensitive=sensitive,
        )
        for mode in ("Starts With", "Ends With", "Equal")
        for sensitive in (True, False)
        for label, a, b in (
            ("same", "abc", "abc"),
            ("case", "aBc", "Abc"),
            ("start", "abc", "A"),
            ("end", "abc", "bC"),
            ("empty", "abc", ""),
        )
    ),
]

PATTERNS = (
    ("word", r"[a-z]+"),
    ("group", r"(\w)(\w+)"),
    ("one-group", r"o(.)"),
    ("either", r"(fox)|(dogs)"),
    ("lines", r"^\w.*$"),
    ("dot", r"brown.fox"),
    ("absent", r"cat"),
    ("empty", r""),
    ("broken", r"(a"),
    ("too-much", r"a{99999999999}"),
)

SWITCHES = ((True, False, False), (False, True, False), (True, False, True))

REGEX = [
    *(
        case(
            "RegexMatch",
            f"{label}-{number}",
            string=LINES,
            regex_pattern=pattern,
            case_insensitive=switches[0],
            multiline=switches[1],
            dotall=switches[2],
        )
        for label, pattern in PATTERNS
        for number, switches in enumerate(SWITCHES)
        if label != "too-much"
    ),
    *(
        case(
            "RegexExtract",
            f"{label}-{mode}-{index}",
            string=LINES,
            regex_pattern=pattern,
            mode=mode,
            case_insensitive=index != 0,
            multiline=index != 1,
            dotall=index == 2,
            group_index=index,
        )
        for label, pattern in PATTERNS
        for mode in ("First Match", "All Matches", "First Group", "All Groups")
        for index in (0, 1, 2)
        if label not in ("too-much", "either")
    ),
    # A first group that took no part is no text; of several, ComfyUI cannot join it.
    *(
        case(
            "RegexExtract",
            f"either-{mode}-{index}",
            string=LINES,
            regex_pattern="(fox)|(dogs)",
            mode=mode,
            case_insensitive=True,
            multiline=False,
            dotall=False,
            group_index=index,
        )
        for mode, index in (("First Match", 1), ("All Matches", 1), ("First Group", 1), ("First Group", 2))
    ),
    *(
        case(
            "RegexReplace",
            f"{label}-{count}",
            string=LINES,
            regex_pattern=pattern,
            replace=replace,
            case_insensitive=count != 2,
            multiline=count == 1,
            dotall=count == 1,
            count=count,
        )
        for count in (0, 1, 2)
        for label, pattern, replace in (
            ("word", r"[a-z]+", "x"),
            ("groups", r"(\w)(\w+)", r"\2\1"),
            ("named", r"(?P<digits>\d+)", r"<\g<digits>>"),
            ("empty", r"", "-"),
            ("broken", r"(a", "x"),
            ("no-group", r"a", r"\3"),
            ("no-name", r"a", r"\g<x>"),
        )
    ),
    case("RegexReplace", "defaults", string=LINES, regex_pattern="the|FOX", replace=""),
]

VALUES = [
    case("PrimitiveString", "text", value="a\nb"),
    case("PrimitiveStringMultiline", "text", value="a\nb"),
    case("PrimitiveInt", "least", value=-(2**63) + 1),
    case("PrimitiveFloat", "fraction", value=0.1),
    *(case("PrimitiveBoolean", str(value), value=value) for value in (True, False)),
    *(
        case("PreviewAny", label, source=source)
        for label, source in (
            ("text", "a\nb"),
            ("int", 3),
            ("float", 0.1),
            ("bool", True),
            ("none", None),
            ("list", [1, "ü", None]),
            ("dict", {"a": [1.5], "b": {}}),
        )
    ),
]

SHOWN = [
    case(node, label, model_file="mesh/a.glb", **more)
    for node in ("Preview3D", "Preview3DAnimation")
    for label, more in (("plain", {}), ("camera", {"camera_info": {"position": {"x": 1.5}}}))
]

CASES: list[Case] = [*STRINGS, *REGEX, *VALUES, *SHOWN]
