"""`make bench`: compare this library with `ray.workflow` of Ray 2.47 and with plain Ray tasks, in alternation.

Prints the steps per second (median of the rounds), the ratios of each pair of subjects, and the storage requests per
step that MinIO counted. It asserts no times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import shapes
from minio import Minio

from dev import paths
from dev.minio_server import MinioServer

METRICS_REFRESH = 11.0
"""Seconds after which MinIO has refreshed its count of requests."""

RAY_247 = ["ray[default]==2.47.1", "pyarrow==19.0.1", "setuptools<80"]


@dataclass
class Subject:
    """A process that is measured.

    Attributes:
        seconds: the durations of its runs, by shape.
    """

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_DEDUP_LOGS": "0", **self.env},
        )
        self._read("ready")

    def time(self, shape: str) -> float:
        assert self._process.stdin is not None, "started with a pipe"
        self._process.stdin.write(f"{shape} {shapes.SHAPES[shape]}\n")
        self._process.stdin.flush()
        return float(self._read("seconds").split()[1])

    def stop(self) -> None:
        assert self._process.stdin is not None, "started with a pipe"
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self, word: str) -> str:
        assert self._process.stdout is not None, "started with a pipe"
        for line in self._process.stdout:
            if line.startswith(word):
                return line
        raise SystemExit(f"{self.name} ended with status {self._process.wait()} before it printed {word!r}")


def old_ray() -> Path:
    """Return the Python of an environment with Ray 2.47. Create the environment if it does not exist."""
    home = paths.cache() / "ray-2.47"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        log("creating an environment with Ray 2.47")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *RAY_247], check=True)
        (home / "complete").touch()
    return python


def requests_served(server: MinioServer) -> float:
    """Return the number of S3 requests that the server counted so far."""
    with urllib.request.urlopen(f"{server.endpoint}/minio/v2/metrics/cluster", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("minio_s3_requests_total{"))


def requests_per_step(server: MinioServer, subject: Subject, shape: str) -> float:
    """Return the storage requests per step of one run. Waits, because the server refreshes its count rarely."""
    time.sleep(METRICS_REFRESH)
    before = requests_served(server)
    subject.time(shape)
    time.sleep(METRICS_REFRESH)
    return (requests_served(server) - before) / shapes.steps_of(shape)


def log(text: str) -> None:
    """Print a line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, MinioServer() as server:
        host = server.endpoint.removeprefix("http://")
        client = Minio(host, server.access_key, server.secret_key, secure=False, region="us-east-1")
        client.make_bucket("bench")
        keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        ours = [sys.executable, str(HERE / "subject_ours.py")]
        subjects = [
            Subject("rayworkflow, folder", [*ours, f"{folder}/ours"]),
            Subject(
                "rayworkflow, MinIO", [*ours, f"s3://bench/runs?endpoint={server.endpoint}&region=us-east-1"], keys
            ),
            Subject(
                "ray.workflow 2.47, folder", [str(old_ray()), str(HERE / "subject_ray_workflow.py"), f"{folder}/ray"]
            ),
            Subject("raw Ray tasks", [sys.executable, str(HERE / "subject_raw_ray.py")]),
        ]
        for subject in subjects:
            log(f"starting {subject.name}")
            subject.start()
            for shape in shapes.SHAPES:
                subject.time(shape)
        for number in range(rounds):
            log(f"round {number + 1} of {rounds}")
            for shape in shapes.SHAPES:
                for subject in subjects:
                    subject.seconds.setdefault(shape, []).append(subject.time(shape))
        log("counting requests")
        served = {shape: requests_per_step(server, subjects[1], shape) for shape in shapes.SHAPES}
        for subject in subjects:
            subject.stop()
    report(subjects, served)


def report(subjects: list[Subject], served: dict[str, float]) -> None:
    """Print the rates, then the ratios with their spread, then the requests."""
    print(f"\n{'steps per second, median':<44}" + "".join(f"{shape:>12}" for shape in shapes.SHAPES))
    for subject in subjects:
        rates = [shapes.steps_of(shape) / statistics.median(subject.seconds[shape]) for shape in shapes.SHAPES]
        print(f"{subject.name:<44}" + "".join(f"{rate:>12.0f}" for rate in rates))
    print("\nratio of rates, median of the rounds (minimum to maximum)")
    for one in subjects[:2]:
        for other in subjects[2:]:
            row = f"{one.name} : {other.name}"
            for shape in shapes.SHAPES:
                pairs = sorted(b / a for a, b in zip(one.seconds[shape], other.seconds[shape], strict=True))
                row += f"\n    {shape:<10}{statistics.median(pairs):8.2f}  ({pairs[0]:.2f} to {pairs[-1]:.2f})"
            print(row)
    print("\nstorage requests per step, counted by MinIO: ", end="")
    print(", ".join(f"{shape} {count:.2f}" for shape, count in served.items()))


if __name__ == "__main__":
    main()
