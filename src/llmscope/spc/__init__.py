"""The statistics: control charts, rules, baselines, episodes. Pure: no I/O, no clock, no logging."""
