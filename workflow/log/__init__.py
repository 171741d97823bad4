"""The durable log of a run: keys, segments, claims, snapshots, blobs, registry and index. Does not need Ray."""
