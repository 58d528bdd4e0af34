"""How many boxes a number of streams takes: arithmetic on what was measured of a kind of box (docs/scale.md).

Knows no network and no engine; the figures come from a file that `afterimage bench box` writes (`service.bench.box`).
"""
