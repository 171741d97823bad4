"""The stages of `make demo`. What it does to the cluster it does as a user would: helm, kubectl apply, kubectl."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

from dev import cluster, images, paths, release
from dev.console import SetupError, say, stage
from dev.demo import trip
from dev.demo.story import Story
from dev.demo.verdict import Evidence, problems
from dev.kube import Kube
from workflow.errors import WorkflowError
from workflow.view import as_text

KILL_AFTER: Final = 5


def main() -> int:
    """Show it; 0 where everything was as promised."""
    began = time.monotonic()
    try:
        kube = Kube(cluster.up())
        image = images.ray()
        release.install(kube, trip.NAMESPACE)
        with release.storage(kube) as storage:
            with stage("clean up what an earlier demo left"):
                trip.clean(kube, storage)
            with stage("kubectl apply -k examples/trip"):
                trip.apply(kube, storage, image)
            story = Story(kube, storage)
            story.tell(KILL_AFTER)
            found = Evidence(
                view=story.seen(),
                marks=trip.marks(storage),
                result=story.status.get("result"),
                expected=json.loads((paths.ROOT / "examples" / "trip" / "receipt.json").read_text()),
                clusters=story.clusters,
            )
    except (SetupError, WorkflowError) as failed:
        print(f"\ndemo failed: {failed}", file=sys.stderr)
        return 1
    say(f"\n{as_text(found.view)}\n\nresult: {json.dumps(found.result)}")
    say(f"marks outside the library: {_told(found.marks)}")
    say(f"the demo took {time.monotonic() - began:.0f} s")
    wrong = problems(found)
    if wrong:
        print("demo failed:\n" + "\n".join(f"  {each}" for each in wrong), file=sys.stderr)
        return 1
    say(f"demo passed: {len(found.view.steps)} steps, {story.summary()}, no committed step ran again")
    return 0


def _told(marks: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(marks.items()))


if __name__ == "__main__":
    sys.exit(main())
