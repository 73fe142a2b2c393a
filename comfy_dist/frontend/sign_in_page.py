"""The page on which a person signs in, once: one form, no script."""

from __future__ import annotations

from html import escape

from aiohttp import web

#: Nothing but the form, its style and an empty icon may come from it, and no other site may show it in a frame.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in to ComfyUI</title>
<link rel="icon" href="data:,">
<style>
body {{ background: #202020; color: #ddd; font: 16px/1.5 system-ui, sans-serif; display: grid; min-height: 100vh;
  margin: 0; place-items: center; }}
form {{ width: min(24rem, 90vw); }}
h1 {{ font-size: 1.25rem; font-weight: 600; }}
label {{ display: block; margin-bottom: .25rem; }}
input, button {{ box-sizing: border-box; width: 100%; padding: .6rem .75rem; font: inherit;
  border-radius: .4rem; }}
input {{ border: 1px solid #555; background: #303030; color: inherit; }}
button {{ margin-top: 1rem; border: 0; background: #0b8ce9; color: #fff; cursor: pointer; }}
[role=alert] {{ color: #ff9a8a; }}
</style>
</head>
<body>
{form}
</body>
</html>
"""

_SIGN_IN = """<form method="post" action="{base}login">
<h1>Sign in to ComfyUI</h1>
{alert}
<label for="key">API key or token</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button>
</form>"""

_SIGN_OUT = """<form method="post" action="{base}logout">
<h1>You are signed in{who}</h1>
<p><a href="{base}" style="color: inherit">To the canvas</a></p>
<button>Sign out</button>
</form>"""


def sign_in_page(request: web.Request, status: int = 200, sentence: str = "") -> web.Response:
    """The form, with a sentence about what went wrong."""
    alert = f'<p role="alert">{escape(sentence)}</p>' if sentence else ""
    return _page(_SIGN_IN.format(base=_base(request), alert=alert), status)


def signed_in_page(request: web.Request, user: str | None) -> web.Response:
    return _page(_SIGN_OUT.format(base=_base(request), who=f" as {escape(user)}" if user else ""))


def _base(request: web.Request) -> str:
    """The way from here to /, which a proxy may have under a prefix."""
    return "../" * (request.path.count("/") - 1) or "./"


def _page(form: str, status: int = 200) -> web.Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
    return web.Response(text=_PAGE.format(form=form), content_type="text/html", status=status, headers=headers)
