"""Audits: on idle time, frames of streams are computed densely too, and thresholds follow what that shows.

`cache.audit` has the arithmetic, docs/audits.md the promises.
"""
