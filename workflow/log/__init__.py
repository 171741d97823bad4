"""The durable log of a run: keys, segments, claim and fence, snapshots, blobs, names. Needs no Ray."""
