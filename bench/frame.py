"""What every benchmark does before and after it measures: refuse where it can't, and remove what it made."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tools import PROJECT, say


def parsed(
    parser: argparse.ArgumentParser, leftovers: Callable[[], list[str]], *, toolchain: bool = True
) -> argparse.Namespace:
    """Return the words of the command line; exit with 2 and the remedy where nothing can be measured.

    leftovers returns the names of what an earlier run left; every benchmark can remove it with
    --clean. Without toolchain the benchmark makes .venv itself.
    """
    parser.add_argument("--clean", action="store_true", help="only remove what a killed run left")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error(f"root is needed; type: sudo {parser.prog}")
    if toolchain and not (PROJECT / ".venv/complete").exists():
        parser.error("the toolchain is not there yet; type: ./run.sh -0 images")
    if not options.clean and (left := leftovers()):
        parser.error(f"{left[0]} exists: another run's. If none runs now: {parser.prog} --clean")
    return options


def framed(name: str, measure: Callable[[], int], clean: Callable[[], None]) -> int:
    """Measure between two looks at the load; return its status, 1 for what failed, 130 after an interruption."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    print(f"{os.cpu_count()} CPUs, load average {load()}, {time.strftime('%Y-%m-%d %H:%M')}")
    try:
        return measure()
    except (RuntimeError, subprocess.TimeoutExpired) as problem:
        print(f"{name}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(f"\nLoad average at the end: {load()}")
        clean()


def load() -> str:
    """Return the machine's load averages of 1, 5 and 15 minutes."""
    return ", ".join(f"{one:.1f}" for one in os.getloadavg())
