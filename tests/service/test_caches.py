"""Sessions under a cap: what was used longest ago goes first, what is in use never."""

from __future__ import annotations

import gc
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.caches import CacheFull, Caches

MIB = 1 << 20


class Kept:
    """A holder that notes what was done to it."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.evicted = 0
        self.inside = False

    def evict(self) -> None:
        assert not self.inside, "freed while it was used"
        self.evicted += 1


def use(caches: Caches, holder: Kept) -> None:
    with caches.hold(holder):
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_who_was_used_longest_ago_goes_first() -> None:
    caches = Caches(100, clock=Clock())
    a, b, c, d = (Kept(40) for _ in range(4))
    for holder in (a, b, a, c):
        use(caches, holder)
    assert [holder.evicted for holder in (a, b, c)] == [0, 1, 0]
    assert (caches.held_bytes, caches.evictions) == (80, 1)
    use(caches, d)
    assert [holder.evicted for holder in (a, b, c)] == [1, 1, 0]
    use(caches, b)
    assert (c.evicted, d.evicted, caches.evictions) == (1, 0, 3)


def test_no_more_than_needed_is_freed() -> None:
    caches = Caches(100, clock=Clock())
    small = [Kept(20) for _ in range(5)]
    for holder in small:
        use(caches, holder)
    use(caches, Kept(35))
    assert [holder.evicted for holder in small] == [1, 1, 0, 0, 0]


def test_what_is_used_now_is_never_freed() -> None:
    caches = Caches(100)
    a, b = Kept(60), Kept(60)
    with caches.hold(a):
        with pytest.raises(CacheFull, match=r"expected 0.0 MiB within"), caches.hold(b):
            pytest.fail("there is no room")
        assert a.evicted == 0
    use(caches, b)
    assert a.evicted == 1


def test_what_is_larger_than_the_cap_frees_nobody() -> None:
    caches = Caches(100)
    a = Kept(60)
    use(caches, a)
    with pytest.raises(CacheFull):
        use(caches, Kept(101))
    assert a.evicted == 0


def test_models_count_too() -> None:
    fixed = [0]
    caches = Caches(100, lambda: fixed[0])
    a, b = Kept(40), Kept(40)
    use(caches, a)
    fixed[0] = 50
    use(caches, b)
    assert (a.evicted, caches.held_bytes) == (1, 40)


def test_without_a_cap_and_without_sizes_nothing_is_freed() -> None:
    for caches, size in ((Caches(None), 1 << 40), (Caches(10), 0)):
        holders = [Kept(size) for _ in range(10)]
        for holder in holders:
            use(caches, holder)
        assert sum(holder.evicted for holder in holders) == 0
        assert caches.refuse(size, quiet_s=10) is None


def test_whoever_is_gone_takes_nothing() -> None:
    caches = Caches(100)
    holder = Kept(90)
    use(caches, holder)
    del holder
    gc.collect()
    assert caches.held_bytes == 0


def test_a_new_one_is_refused_where_only_busy_ones_could_be_freed() -> None:
    clock = Clock()
    caches = Caches(100 * MIB, clock=clock)
    a, b = Kept(40 * MIB), Kept(40 * MIB)
    use(caches, a)
    clock.now += 60
    use(caches, b)
    assert caches.refuse(40 * MIB, quiet_s=30) is None, "a was used long ago"
    use(caches, a)
    reason = caches.refuse(40 * MIB, quiet_s=30)
    assert reason is not None
    assert "at most 100.0 MiB" in reason
    assert "got 120.0 MiB" in reason
    assert caches.refuse(40 * MIB, quiet_s=30, spare=[b]) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), max_size=40))
def test_the_cap_holds_after_anything(uses: list[tuple[int, int]]) -> None:
    caches, holders = Caches(100), {}
    for name, size in uses:
        use(caches, holders.setdefault(name, Kept(size)))
        assert caches.held_bytes <= 100


def test_from_many_threads() -> None:
    caches = Caches(100)
    failures: list[BaseException] = []
    holders = [Kept(30) for _ in range(8)]

    def work(holder: Kept) -> None:
        try:
            for _ in range(300):
                try:
                    with caches.hold(holder):
                        holder.inside = True
                        assert caches.held_bytes <= 100
                        holder.inside = False
                except CacheFull:
                    pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(holder,)) for holder in holders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert caches.evictions > 0


def test_sessions_of_some_are_freed_one_after_the_other_unless_they_are_used() -> None:
    caches = Caches(clock=Clock())
    kept, first, second, busy, unknown = (Kept(MIB) for _ in range(5))
    for holder in (kept, first, second):
        use(caches, holder)
    some = [second, first, busy, unknown]
    with caches.hold(busy):
        assert caches.free_one(some)
        assert [holder.evicted for holder in some] == [0, 1, 0, 0]
        assert caches.free_one(some)
        assert not caches.free_one(some)
    assert [holder.evicted for holder in (kept, *some)] == [0, 1, 1, 0, 0]
    assert (caches.held_bytes, caches.evictions) == (2 * MIB, 2)


def test_what_no_frame_has_been_computed_in_is_not_seen_yet() -> None:
    caches, holder = Caches(), Kept(MIB)
    caches.filled(holder)
    with caches.hold(holder):
        assert caches.unfilled_bytes == MIB
    assert caches.unfilled_bytes == MIB
    with caches.hold(holder):
        caches.filled(holder)
        assert caches.unfilled_bytes == 0
    with caches.hold(holder):
        assert caches.unfilled_bytes == 0, "what is filled stays so"
    assert caches.free_one([holder])
    with caches.hold(holder):
        assert caches.unfilled_bytes == MIB, "it is another one now"
