"""Measurements against other engines, behind `afterimage bench`. Nothing else of the service imports this."""
