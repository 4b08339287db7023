"""The words of the command line."""

import argparse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

DESCRIPTION: Final = """\
One photo and one sentence in, one short MP4 out: the command of a Stillreel service.

The service is at STILLREEL_URL, or else on this machine; the key is STILLREEL_KEY, where there is
one. Results are tables on a terminal, and JSON in a pipe or with --json.
"""
EXITS: Final = "exit status: 0 done, 1 failed or refused, 2 not understood, 130 interrupted"

NUMBERS: Final = (
    ("--width", int, "pixels"),
    ("--height", int, "pixels"),
    ("--num-frames", int, "how many frames"),
    ("--fps", int, "frames per second"),
    ("--num-inference-steps", int, "steps of the sampler; --steps is the same"),
    ("--guidance-scale", float, "how closely the prompt is followed"),
    ("--seed", int, "the same seed gives the same clip"),
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stillreel",
        description=DESCRIPTION,
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_submit(commands)
    _add_batch(commands)
    _add_jobs(commands)
    _add_models(commands)
    _add_keys(commands)
    completion = commands.add_parser("completion", help="print the completion for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


# The library's own name for the type that add_subparsers returns.
Commands = argparse._SubParsersAction


def _command(
    commands: "Commands[argparse.ArgumentParser]", name: str, does: str
) -> argparse.ArgumentParser:
    added = commands.add_parser(
        name, help=does, description=does[0].upper() + does[1:] + ".", allow_abbrev=False
    )
    added.add_argument("--url", help="the service, in place of STILLREEL_URL")
    added.add_argument("--json", action="store_true", help="print JSON on a terminal too")
    return added


def _add_submit(commands: "Commands[argparse.ArgumentParser]") -> None:
    submit = _command(commands, "submit", "make one clip of one photo, and save it")
    submit.add_argument("photo", help="a file, or a URL that the service fetches")
    submit.add_argument("prompt", nargs="?", default="", help="what moves, in one sentence")
    submit.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="by default in this folder, named like the photo",
    )
    submit.add_argument(
        "--no-wait", action="store_true", help="print the job and leave; `watch` follows it"
    )
    _add_fields(submit)


def _add_batch(commands: "Commands[argparse.ArgumentParser]") -> None:
    batch = _command(
        commands, "batch", "make a clip of each photo in a folder; a second run skips what is done"
    )
    batch.add_argument("folder", type=Path, metavar="FOLDER")
    batch.add_argument("--prompt", required=True, help="what moves, in one sentence")
    batch.add_argument(
        "--glob", help="which files, such as '*.jpg' or '**/*.png'; by default all photos"
    )
    batch.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the folder for clips; by default FOLDER/clips",
    )
    batch.add_argument(
        "--in-flight", type=int, default=4, metavar="N", help="jobs at once (default 4, most 64)"
    )
    batch.add_argument(
        "--replace", action="store_true", help="replace clips that were made with other settings"
    )
    _add_fields(batch)


def _add_jobs(commands: "Commands[argparse.ArgumentParser]") -> None:
    watch = _command(commands, "watch", "follow a job to its end, or all jobs")
    watch.add_argument(
        "job", nargs="?", metavar="JOB", help="by default all your jobs, until Ctrl-C"
    )
    listed = _command(commands, "list", "list your jobs, the newest first")
    listed.add_argument("--limit", type=int, default=20, help="at most so many (default 20)")
    listed.add_argument(
        "--status", choices=("queued", "running", "succeeded", "failed", "canceled")
    )
    listed.add_argument("--model")
    _add_metadata(listed)
    cancel = _command(commands, "cancel", "end jobs for good")
    cancel.add_argument("jobs", nargs="+", metavar="JOB")
    download = _command(commands, "download", "save the clip of a job")
    download.add_argument("job", metavar="JOB")
    download.add_argument("-o", "--output", type=Path, metavar="FILE", help="else JOB.mp4, here")
    download.add_argument(
        "--variant", choices=("video", "poster", "gif", "spritesheet"), default="video"
    )


def _add_models(commands: "Commands[argparse.ArgumentParser]") -> None:
    _command(commands, "models", "list the models, the default first")
    estimate = _command(commands, "estimate", "say when a clip would be ready, before you submit")
    estimate.add_argument("model_asked", nargs="?", metavar="MODEL", help="else the default")
    _add_fields(estimate, is_render_only=True)


def _add_keys(commands: "Commands[argparse.ArgumentParser]") -> None:
    keys = commands.add_parser("keys", help="make, list, rotate and revoke API keys; for admins")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    _command(actions, "list", "list all keys")
    create = _command(actions, "create", "make a key, and show it only this once")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--admin", action="store_true", help="one that manages keys")
    create.add_argument("--max-queued", type=int, metavar="N")
    create.add_argument("--max-running", type=int, metavar="N")
    rotate = _command(actions, "rotate", "draw a new secret for a key, and show it only this once")
    rotate.add_argument("key", metavar="KEY_ID")
    rotate.add_argument("--overlap-hours", type=float, default=0.0, metavar="HOURS")
    revoke = _command(actions, "revoke", "end a key for good")
    revoke.add_argument("key", metavar="KEY_ID")


def _add_fields(parser: argparse.ArgumentParser, *, is_render_only: bool = False) -> None:
    fields = parser.add_argument_group(
        "the clip", "a field that you leave out has the model's default"
    )
    if not is_render_only:
        fields.add_argument("--model")
        fields.add_argument("--negative-prompt", metavar="TEXT")
        fields.add_argument("--priority", choices=("low", "normal", "high"))
        fields.add_argument(
            "--outputs",
            action="append",
            choices=("poster", "gif", "spritesheet"),
            help="more files; may be given again",
        )
        _add_metadata(fields)
    fields.add_argument("--resolution", help="the short side: 256p, 512p, 768p or 1024p")
    fields.add_argument("--fit", help="crop or pad")
    fields.add_argument("--quality", help="draft, standard or high")
    for name, kind, does in NUMBERS:
        names = (name, "--steps") if name == "--num-inference-steps" else (name,)
        fields.add_argument(*names, type=kind, metavar="N", help=does)
    fields.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any other field of the API; the value is JSON or text",
    )


def _add_metadata(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a pair of your own; may be given again",
    )


def _version() -> str:
    try:
        return f"stillreel {version('stillreel')}"
    except PackageNotFoundError:
        return "stillreel (not installed)"
