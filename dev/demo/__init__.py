"""`make demo`: a Workflow whose Ray head is killed while it runs, and which finishes on a new RayCluster."""
