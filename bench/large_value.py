"""`make large`: pass 1 GiB from one step to another, on a folder and on MinIO. Prints transfer rates and memory.

Then it passes one array of an eighth of that size to 20 steps, on a folder. Prints what was stored, and the times.

Memory is the increase of a process's peak (VmHWM, which is reset before) over its memory before. For the producer and
the consumer it is a multiple of the value's size, and for the manager it is in MiB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from minio import Minio
from run import log

from dev.minio_server import MinioServer
from tests.support.large import Figures, through_steps

MIB = 1 << 20
SHARED_FRACTION = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    size = parser.parse_args().mib * MIB
    with tempfile.TemporaryDirectory() as folder, MinioServer() as server:
        host = server.endpoint.removeprefix("http://")
        client = Minio(host, server.access_key, server.secret_key, secure=False, region="us-east-1")
        client.make_bucket("large")
        url = f"s3://large/runs?endpoint={server.endpoint}&region=us-east-1"
        log("on a folder")
        rows = [("folder", each) for each in through_steps(folder, size)]
        log("on MinIO")
        keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        rows += [("MinIO", each) for each in through_steps(url, size, **keys)]
        log("one array for many steps")
        shared = pass_to_many_steps(folder, size // SHARED_FRACTION)
    report(rows, size)
    report_shared(shared, size // SHARED_FRACTION)


def pass_to_many_steps(folder: str, size: int) -> dict[str, float]:
    """Run `subject_shared.py` with an array of some bytes, and return the figures that it printed."""
    command = [sys.executable, str(HERE / "subject_shared.py"), folder, str(size)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    figures: dict[str, float] = json.loads(next(line for line in printed if line.startswith("{")))
    return figures


def report_shared(figures: dict[str, float], size: int) -> None:
    """Print what was stored for many steps with the same array."""
    print(f"\n20 steps with the same array of {size // MIB} MiB: {figures['stored'] / MIB:.0f} MiB stored")
    print(", ".join(f"{name} {figures[name]:.1f} s" for name in ("step", "run", "execute")))


def report(rows: list[tuple[str, Figures]], size: int) -> None:
    """Print the table."""
    heads = ("store s", "MiB/s", "load s", "MiB/s", "producer x", "consumer x", "manager MiB")
    print(f"\n{size // MIB} MiB{'':<18}" + "".join(f"{head:>13}" for head in heads))
    for place, each in rows:
        figures = (
            f"{each.store_seconds:.1f}",
            f"{size / MIB / each.store_seconds:.0f}",
            f"{each.load_seconds:.1f}",
            f"{size / MIB / each.load_seconds:.0f}",
            f"{each.producer / size:.2f}",
            f"{each.consumer / size:.2f}",
            f"{each.manager / MIB:.1f}",
        )
        print(f"{each.kind + ', ' + place:<26}" + "".join(f"{figure:>13}" for figure in figures))


if __name__ == "__main__":
    main()
