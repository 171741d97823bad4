"""The stages of `make demo`. It changes the cluster only with the tools of a user: helm and kubectl."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Final

from dev import cluster, images, paths, release
from dev.console import SetupError, print_line, stage
from dev.demo import trip
from dev.demo.scenario import Scenario
from dev.demo.validation import Observations, problems
from dev.kube import Kube
from workflow.errors import WorkflowError
from workflow.view import as_text

KILL_AFTER: Final = 5
"""The number of committed steps after which the demo kills the head."""


def main() -> int:
    """Run the demo and return 0 if it passed, else 1."""
    began = time.monotonic()
    try:
        kube = Kube(cluster.up())
        image = images.ray()
        release.install(kube, trip.NAMESPACE)
        with release.storage(kube) as storage:
            with stage("clean up after an earlier demo"):
                trip.clean(kube, storage)
            with stage("kubectl apply -k examples/trip"):
                trip.apply(kube, storage, image)
            scenario = Scenario(kube, storage)
            scenario.run(KILL_AFTER)
            observed = Observations(
                view=scenario.last_view(),
                starts=trip.start_counts(storage),
                result=json.loads(scenario.status.get("result", "null")),
                expected=json.loads((paths.ROOT / "examples" / "trip" / "receipt.json").read_text()),
                clusters=scenario.clusters,
            )
    except (SetupError, WorkflowError) as error:
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1
    print_line(f"\n{as_text(observed.view)}\n\nresult: {json.dumps(observed.result)}")
    print_line(f"starts of each step, counted by the steps themselves: {_formatted(observed.starts)}")
    print_line(f"the demo took {time.monotonic() - began:.0f} s")
    found = problems(observed)
    if found:
        print("demo failed:\n" + "\n".join(f"  {problem}" for problem in found), file=sys.stderr)
        return 1
    print_line(f"demo passed: {len(observed.view.steps)} steps, {scenario.summary()}, no committed step ran again")
    return 0


def _formatted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
