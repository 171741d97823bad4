"""The operator's pure core: functions from values to values, without clients, clock or kopf."""
