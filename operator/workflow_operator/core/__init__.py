"""The operator's pure core: values in, values out. No client, no clock, no kopf."""
