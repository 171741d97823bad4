"""`make demo`: the main job end to end: a Workflow whose cluster is killed in the middle finishes on a new one."""
