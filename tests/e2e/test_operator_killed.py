"""The operator is killed without a word in every phase of one Workflow, and another takes its place each time.

Nothing is done twice and nothing is forgotten: what was decided stands in the status, in the cluster and in the log.
"""

from __future__ import annotations

from tests.e2e.place import BOOT_SECONDS, FLOWS, Place
from tests.e2e.stories import phases
from workflow_operator.api.status import Phase, WorkflowState

NAME = "tour"
NEXT_LEADER_SECONDS = 60.0
"""Until another pod runs and has waited for the lease of the killed one."""

JOBS = """
import json, os, urllib.request
ask = urllib.request.Request("http://127.0.0.1:8265/api/jobs/")
ask.add_header("Authorization", "Bearer " + os.environ["RAY_AUTH_TOKEN"])
print(" ".join(sorted(job["submission_id"] or "" for job in json.load(urllib.request.urlopen(ask)))))
"""


def test_it_is_killed_in_every_phase(places: dict[str, Place], figures: dict[str, str]) -> None:
    place = places["e2e-tour"]
    place.create(NAME, code="comes-later", recovery={"policy": "Manual"})
    pending = place.until(NAME, _waits_for_code)
    place.release.kill_operator()
    place.code("comes-later", {"flows.py": FLOWS})

    began = place.until_phase(NAME, Phase.PROVISIONING, NEXT_LEADER_SECONDS, after=pending)
    figures["operator killed -> its successor acts"] = f"{began.at - pending.at:.1f} s"
    place.release.kill_operator()

    held = place.until_held(NAME)
    assert held.state.cluster is not None
    assert _submissions(place, held.state.cluster.name) == [f"rwf-{place.uid(NAME)}-1"]
    place.release.kill_operator()
    place.kill_head(held.state.cluster.name)

    resumable = place.until_phase(NAME, Phase.RESUMABLE, NEXT_LEADER_SECONDS, after=held)
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason == "HeadPodLost"
    place.release.kill_operator()
    place.patch(NAME, {"metadata": {"annotations": {"rayworkflow.dev/resume": "now"}}})

    again = place.until(NAME, lambda state: state.epoch == 2, NEXT_LEADER_SECONDS + BOOT_SECONDS, after=resumable)
    assert again.state.cluster is not None
    place.bucket.until_started(place.namespace, NAME, "gate", times=2)
    assert _submissions(place, again.state.cluster.name) == [f"rwf-{place.uid(NAME)}-2"]
    place.patch(NAME, {"spec": {"cancel": True}})
    canceling = place.until_phase(NAME, Phase.CANCELING, after=again)
    place.release.kill_operator()

    done = place.until_phase(NAME, Phase.CANCELED, NEXT_LEADER_SECONDS, after=canceling)
    assert (done.state.attempt, done.state.epoch, done.state.resumes.total) == (2, 2, 1)
    assert place.marks(NAME) == {"one": 1, "two": 1, "three": 1, "gate": 2}
    story = phases(place.stories.of(NAME))
    first, second = [Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING], [Phase.PROVISIONING, Phase.RUNNING]
    assert story == [*first, Phase.RESUMABLE, *second, Phase.CANCELING, Phase.CANCELED]
    place.until_no_cluster(NAME, NEXT_LEADER_SECONDS)


def _waits_for_code(state: WorkflowState) -> bool:
    accepted = state.condition("Accepted")
    return accepted is not None and accepted.reason == "ConfigMapMissing"


def _submissions(place: Place, cluster: str) -> list[str]:
    """Ids of all submissions that a cluster knows."""
    return place.python_in_head(cluster, JOBS).split()
