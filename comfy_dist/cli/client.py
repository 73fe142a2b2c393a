"""`comfyui-client`: runs workflows on a server and shows what it does."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_dist import __version__
from comfy_dist.errors import ComfyDistError, UsageError
from comfy_dist.settings import (
    BarSettings,
    ComfyuiClientSettings,
    HistorySettings,
    MessageSettings,
    Parser,
    ResultSettings,
    RunSettings,
    ServerSettings,
    add_options,
    fail,
    made,
    revealed,
)

if TYPE_CHECKING:
    from comfy_dist.client.server import Server

PROG = "comfyui-client"
DESCRIPTION = """Runs workflows on a ComfyUI server, comfy_dist's or any other, and shows its queue.

Each command has its own --help."""
EPILOG = """examples:
  comfyui-client run picture.json --output .          a workflow saved by ComfyUI's page, or a picture it made
  comfyui-client run picture.json --set 3.seed=7 --set "Positive prompt.text=a boat" --repeat 4
  comfyui-client --server http://gpu-box:8188 queue

Exit codes: 0 all well, 1 a prompt failed or was cancelled, 2 bad usage, 3 server unreachable,
4 not signed in or not allowed.
Options with a COMFYUI_ variable are also keys of the YAML file."""

#: What `history` may be asked for.
_SEARCH = (
    ("--query", "WORDS", "those with these words in their nodes' classes, titles and texts, ids or files"),
    ("--status", "STATUS", "success, error or cancelled; several with commas"),
    ("--worker", "WORKER", "what the worker of this name or id executed"),
)
#: What one call asks for, which is no setting.
_CALL = ("command", "as_json", "files", "edits", "ids", "id", "worker", "action", "all_", "query", "status", "svg")
#: What --help of a command says below its options.
_EPILOGS = {
    "trace": """The picture has a lane for the prompt and one for each rank that took part in it, with the
worker's name. A rank waits for a worker that takes it, executes chunks of the batch and moves their
data, which goes on beside the execution of the next. Point at a bar to read what it is and how long it
took. The nodes of a rank are by its own clock. Prompts that no rank took part in, and those of a stock
ComfyUI, have one lane.

  comfyui-client trace 3f0c9a52-7d1e-4b66-9a0b-2f5d8c1e7a43 -o fan-out.svg"""
}
_COMMON = (ServerSettings, MessageSettings)
_COMMANDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "run": ("submit workflows, wait for them, save what they make", (RunSettings, ResultSettings, BarSettings)),
    "queue": ("show what runs and waits", ()),
    "history": ("show what ended", (HistorySettings,)),
    "workers": ("show the live workers and what they do", ()),
    "interrupt": ("stop everything that runs; what waits stays", ()),
    "cancel": ("cancel prompts, running or waiting", ()),
    "pause": ("let the cluster or one worker finish what runs and take no more", ()),
    "resume": ("end that pause", ()),
    "drain": ("let one worker finish what it runs, then leave", ()),
    "dead": ("show, retry or drop what was given up or could not be read", ()),
    "trace": ("draw where the time of a prompt went: its wait, its transfers and what each rank executed", ()),
    "watch": ("wait for a prompt that was submitted elsewhere", (ResultSettings, BarSettings)),
}


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        given = vars(parser().parse_args(arguments))
        call = {name: given.pop(name, None) for name in _CALL}
        settings, _ = made(ComfyuiClientSettings, given)
        code = _run(settings, argparse.Namespace(**call))
    except ComfyDistError as error:
        if verbose:
            raise
        fail(PROG, error)
    except KeyboardInterrupt:
        code = 1
    except BrokenPipeError:  # `… | head`
        sys.stderr.close()
        code = 1
    raise SystemExit(code)


def parser() -> Parser:
    """The command line. What one call asks for (files, ids, --set, --json) is no setting."""
    whole = Parser(
        prog=PROG,
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"comfy_dist {__version__}")
    _json_flag(whole)
    add_options(whole, ComfyuiClientSettings, _COMMON)
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (sentence, groups) in _COMMANDS.items():
        one = commands.add_parser(
            name,
            help=sentence,
            description=f"{sentence[:1].upper()}{sentence[1:]}.",
            epilog=_EPILOGS.get(name),
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "run":
            one.add_argument(
                "files",
                nargs="+",
                metavar="FILE",
                help="API or UI format, JSON or a picture that ComfyUI saved; - for stdin",
            )
            one.add_argument(
                "--set",
                action="append",
                dest="edits",
                metavar="NODE.INPUT=VALUE",
                help="set an input; NODE is an id or a title, VALUE is JSON or text; may be given again",
            )
        elif name == "history":
            for flag, value, sentence in _SEARCH:
                one.add_argument(flag, metavar=value, help=sentence)
        elif name == "cancel":
            one.add_argument("ids", nargs="+", metavar="ID", help="a prompt's id, as queue shows it")
        elif name == "trace":
            one.add_argument("id", metavar="ID", help="the id of a prompt that has ended, as history shows it")
            one.add_argument(
                "-o", dest="svg", metavar="FILE", default="trace.svg", help="the picture, an SVG; - for stdout"
            )
        elif name == "watch":
            one.add_argument("id", metavar="ID", help="a prompt's id, as queue shows it")
        elif name in ("pause", "resume"):
            sentence = "a worker's name, which holds over its restart, or its id; without, the whole cluster"
            one.add_argument("worker", nargs="?", metavar="WORKER", help=sentence)
        elif name == "drain":
            one.add_argument("worker", metavar="WORKER", help="a worker's id or name, as workers shows it")
        elif name == "dead":
            one.add_argument(
                "action", choices=("list", "retry", "drop"), help="list them, submit them again, forget them"
            )
            one.add_argument("ids", nargs="*", metavar="ID", help="which ones, as list shows them")
            one.add_argument("--all", action="store_true", dest="all_", help="retry or drop all of them")
        _json_flag(one)
        add_options(one, ComfyuiClientSettings, (*groups, *_COMMON))
    return whole


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON for other programs")


def _run(settings: ComfyuiClientSettings, call: argparse.Namespace) -> int:
    import asyncio

    async def start() -> int:
        from comfy_dist.cli.signals import on_stop
        from comfy_dist.client.server import Server

        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            task.cancel()

        on_stop(stop)
        async with Server(settings.server, _token(settings)) as server:
            return await _command(server, settings, call)

    try:
        return asyncio.run(start())
    except asyncio.CancelledError:
        return 1


def _token(settings: ComfyuiClientSettings) -> str | None:
    if settings.token is None:
        return None
    token = revealed(settings.token, "--token")
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError("--token cannot be sent: it must be printable ASCII without line ends.")
    return token


async def _command(server: Server, settings: ComfyuiClientSettings, call: argparse.Namespace) -> int:
    match call.command:
        case "run":
            return await _workflows(server, settings, call)
        case "watch":
            return await _watch(server, settings, call)
        case "cancel":
            return await _cancel(server, call)
        case "interrupt":
            return await _interrupt(server, call)
        case "queue":
            queue = await server.get("/queue")
            _print(queue) if call.as_json else _tables().show_queue(queue)
        case "history":
            history = await server.get("/history", **await _asked(server, settings, call))
            _print(history) if call.as_json else _tables().show_history(history)
        case "workers":
            await _workers(server, call)
        case "trace":
            await _trace(server, call)
        case "dead" if call.action == "list":
            await _dead(server, call)
        case _:
            return await _operate(server, call)
    return 0


async def _workflows(server: Server, settings: ComfyuiClientSettings, call: argparse.Namespace) -> int:
    from comfy_dist.client.asked_edits import parse
    from comfy_dist.client.run import Order, run

    if settings.each and settings.participation is not None:
        raise UsageError("--each runs the whole of it on every worker; --participation means nothing beside it.")
    distributed = {"workers": list(settings.workers), "participation": settings.participation}
    order = Order(
        files=call.files,
        edits=[parse(text) for text in call.edits or ()],
        repeat=settings.repeat,
        seed_step=settings.seed_step,
        distributed={key: value for key, value in distributed.items() if value},
        each=settings.each,
        output=settings.output,
        show_bars=settings.progress,
    )
    submissions = await run(server, order, quiet=bool(call.as_json))
    if call.as_json:
        _print([submission.as_json() for submission in submissions])
    return 0 if all(submission.succeeded for submission in submissions) else 1


async def _watch(server: Server, settings: ComfyuiClientSettings, call: argparse.Namespace) -> int:
    from comfy_dist.client.bars import Bars
    from comfy_dist.client.run import told
    from comfy_dist.client.waiting import Status
    from comfy_dist.client.watch import watch

    with Bars(shown=settings.progress) as bars:
        outcome, saved = await watch(server, call.id, bars, settings.output)
    if call.as_json:
        _print({"prompt_id": call.id, "status": outcome.status, "error": outcome.reason or None, "saved": saved})
    else:
        sys.stdout.writelines(f"{line}\n" for line in told(call.id, outcome, 0, saved))
    return 0 if outcome.status is Status.SUCCEEDED else 1


async def _cancel(server: Server, call: argparse.Namespace) -> int:
    from comfy_dist.client.cancelling import cancel, queued

    running, pending = await queued(server)
    live = [id_ for id_ in call.ids if id_ in running or id_ in pending]
    unknown = [id_ for id_ in call.ids if id_ not in live]
    await cancel(server, live)
    if call.as_json:
        _print({"cancelled": live, "not_queued": unknown})
    else:
        sys.stdout.writelines(f"{id_}: cancelled\n" for id_ in live)
        sys.stdout.writelines(f"{id_}: neither runs nor waits\n" for id_ in unknown)
    return 1 if unknown else 0


async def _interrupt(server: Server, call: argparse.Namespace) -> int:
    from comfy_dist.client.cancelling import queued

    running, _ = await queued(server)
    await server.post("/interrupt", {})
    if call.as_json:
        _print({"interrupted": running})
    else:
        sys.stdout.writelines(f"{id_}: interrupted\n" for id_ in running)
        sys.stdout.write("" if running else "Nothing runs.\n")
    return 0


async def _asked(
    server: Server, settings: ComfyuiClientSettings, call: argparse.Namespace
) -> dict[str, str | int]:
    """The query of GET /history."""
    from comfy_dist.client.operating import ask_cluster

    search = {name: value for name in ("query", "status", "worker") if (value := getattr(call, name))}
    if search:
        # A stock ComfyUI, which has none of this, would show everything.
        await ask_cluster(server, "/distributed/workers")
    return {"max_items": settings.max_items, **search}


async def _workers(server: Server, call: argparse.Namespace) -> None:
    from comfy_dist.client.operating import ask_cluster

    answer = await ask_cluster(server, "/distributed/workers")
    if call.as_json:
        _print(answer["workers"])
    else:
        _tables().show_workers(answer["workers"], await server.get("/queue"))


async def _trace(server: Server, call: argparse.Namespace) -> None:
    from comfy_dist.client.trace import draw, trace

    found = await trace(server, call.id)
    to_stdout = call.svg == "-"
    draw(found, None if to_stdout else Path(call.svg))
    if call.as_json and not to_stdout:
        _print(found.as_json())
    elif not to_stdout:
        _tables().show_trace(found)
        sys.stdout.write(f"{call.svg}\n")


async def _dead(server: Server, call: argparse.Namespace) -> None:
    from comfy_dist.client.operating import ask_cluster

    answer = await ask_cluster(server, "/distributed/dead")
    _print(answer) if call.as_json else _tables().show_dead(answer)


async def _operate(server: Server, call: argparse.Namespace) -> int:
    from comfy_dist.client import operating

    match call.command:
        case "pause":
            done = await operating.pause(server, call.worker)
        case "resume":
            done = await operating.resume(server, call.worker)
        case "drain":
            done = await operating.drain(server, call.worker)
        case _:
            done = await operating.settle(server, call.action, call.ids or (), all_=bool(call.all_))
    if call.as_json:
        _print(done.answer)
    else:
        sys.stdout.writelines(f"{line}\n" for line in done.lines)
    return 0 if done.well else 1


def _tables() -> Any:
    from comfy_dist.client import tables

    return tables


def _print(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
