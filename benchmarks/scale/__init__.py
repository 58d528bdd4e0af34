"""A day of ten thousand cameras on a cluster of boxes that fail: is what `afterimage plan` says enough? docs/scale.md.

Placement and admission are the server's own; costs are those of a measured box. Everything else is in `kinds`.
"""
