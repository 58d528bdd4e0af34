"""The commands of `afterimage`, one file each; `service.cli` joins them."""
