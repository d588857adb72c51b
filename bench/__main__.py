"""``python -m bench SUBCOMMAND``: one module per subcommand."""

import argparse
import signal
import sys
from pathlib import Path

from . import (
    dispatch,
    idle,
    interference,
    latency,
    report,
    report_command,
    rivals,
    runs,
    scale,
    soak,
    starvation,
)

_COMMANDS = {
    "latency": latency,
    "rivals": rivals,
    "interference": interference,
    "idle": idle,
    "dispatch": dispatch,
    "starvation": starvation,
    "soak": soak,
    "scale": scale,
    "report": report_command,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What callbacks cost.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        described = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=described.splitlines()[0],
            description=described,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--quick", action="store_true", help="faster, with wider intervals")
        command.add_argument("--seed", type=int, default=1, help="of what is random (default 1)")
        command.add_argument("--json", type=Path, metavar="FILE", help="write what is found here")
        command.set_defaults(commands=tuple(_COMMANDS))
        module.add_arguments(command)
    args = parser.parse_args()
    # A plain SIGTERM would skip the clean-up that ends the servers, and a shell
    # that starts this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    print(report.machine(), flush=True)
    try:
        with runs.recorded(args.command, args) as run:
            for table in _COMMANDS[args.command].run(args):
                run.tables.append(table)
                print("\n" + table.render(), flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
