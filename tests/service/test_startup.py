"""The collector waits for a start to be over, and then leaves out what stays, not what is garbage."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from service.startup import pause_collector, resume_collector


class Knot:
    """Refers to itself: garbage that only the collector finds."""

    def __init__(self) -> None:
        self.self = self


def test_garbage_of_the_start_is_collected_and_not_kept() -> None:
    pause_collector()
    try:
        seen = weakref.ref(Knot())
        assert seen() is not None
    finally:
        resume_collector()
    assert seen() is None
    assert gc.isenabled()
    gc.unfreeze()


def test_a_collector_that_runs_is_left_alone() -> None:
    before = gc.get_freeze_count()
    resume_collector()
    assert gc.get_freeze_count() == before


def test_other_commands_than_serve_run_with_the_collector() -> None:
    script = (
        "import gc, sys; from service import cli; sys.argv = ['afterimage', 'models', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\nprint('collects', gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip().endswith("collects True")
