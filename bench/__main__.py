"""``python -m bench SUBCOMMAND``: one module per subcommand."""

import argparse
import signal
import sys

from . import dispatch, idle, latency, report, soak, starvation

_COMMANDS = {
    "latency": latency,
    "idle": idle,
    "dispatch": dispatch,
    "starvation": starvation,
    "soak": soak,
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
        command.add_argument("--quick", action="store_true", help="10 to 30 s, wider intervals")
        command.add_argument("--seed", type=int, default=1, help="of what is random (default 1)")
        module.add_arguments(command)
    args = parser.parse_args()
    # A plain SIGTERM would skip the clean-up that ends the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(report.machine())
    try:
        for table in _COMMANDS[args.command].run(args):
            print("\n" + table.render(), flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
