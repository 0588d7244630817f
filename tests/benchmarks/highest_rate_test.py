"""The search for the highest rate, on servers whose latency is a formula."""

import math

import pytest

from benchmarks.highest_rate import Confirmation, Search


def latency(rate, capacity):
    """p99 of an M/M/1 queue, in milliseconds: its time in the system is exponential."""
    return math.inf if rate >= capacity else 1e3 * math.log(100) / (capacity - rate)


@pytest.mark.parametrize("capacity", [60.0, 150.0, 900.0])
@pytest.mark.parametrize("limit", [100.0, 250.0])
def test_the_highest_rate_within_the_limit_is_found(capacity, limit):
    search, windows = Search(limit, 30.0, precision=0.05), 0
    while not search.done:
        rate = search.take_rate()
        search.tell(rate, latency(rate, capacity))
        windows += 1
    expected = capacity - 1e3 * math.log(100) / limit
    if expected < 1:
        assert search.good == 0
    else:
        assert expected / 1.05 <= search.good <= expected
    assert windows < 20


def test_one_search_learns_from_the_windows_of_another():
    one, other = Search(100.0, 30.0), Search(250.0, 30.0)
    while not one.done:
        rate = one.take_rate()
        for each in (one, other):
            each.tell(rate, latency(rate, 200.0))
    assert other.good >= one.good
    assert other.take_rate() > one.good


def test_a_server_that_bears_nothing_ends_the_search():
    search = Search(100.0, 30.0, least=2.0)
    while not search.done:
        search.tell(search.take_rate(), math.inf)
    assert search.good == 0.0


def test_an_outcome_outside_of_the_bracket_changes_nothing():
    search = Search(100.0, 30.0)
    search.tell(30.0, 50.0)
    search.tell(60.0, 500.0)
    search.tell(20.0, 500.0)  # a window that something else disturbed
    search.tell(70.0, 50.0)
    assert search.good == 30.0
    assert search.take_rate() == pytest.approx(math.sqrt(30 * 60))


def test_a_search_ends_where_no_rate_fails():
    search, windows = Search(100.0, 30.0, most=5), 0
    while not search.done:
        search.tell(search.take_rate(), 1.0)
        windows += 1
    assert windows == 5
    assert search.good == pytest.approx(30 * 1.6**4)


def test_a_rate_goes_down_until_it_holds():
    confirmation = Confirmation(100.0, 50.0)
    confirmation.tell(101.0)
    assert not confirmation.done
    assert confirmation.rate == pytest.approx(47.0)
    confirmation.tell(99.0)
    assert confirmation.done
    assert confirmation.rate == pytest.approx(47.0)


def test_a_rate_that_never_holds_is_none():
    confirmation = Confirmation(100.0, 50.0, most=2)
    for _ in range(2):
        confirmation.tell(math.inf)
    assert confirmation.done
    assert confirmation.rate == 0.0


def test_nothing_found_needs_no_confirmation():
    assert Confirmation(100.0, 0.0).done
