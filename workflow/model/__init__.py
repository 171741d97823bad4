"""Pure: records, fold, graph, ids, failure rules. No I/O, no Ray, no clock, no randomness."""
