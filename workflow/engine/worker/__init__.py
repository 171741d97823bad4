"""The worker processes: they execute attempts of steps and listen for events, and store large values as blobs."""
