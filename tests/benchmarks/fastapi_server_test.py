"""The peer's batching, with a model that is a function: no FastAPI, no PyTorch."""

import asyncio

import pytest

from benchmarks.fastapi_server import Batcher, rows_together


def asked(batcher, *requests):
    """What some requests get that come at once; an exception is one of the answers."""

    async def ask():
        running = asyncio.create_task(batcher.run())
        found = await asyncio.gather(*map(batcher.ask, requests), return_exceptions=True)
        running.cancel()
        return found

    return asyncio.run(ask())


def test_waiting_requests_share_a_batch_and_get_their_own_answers():
    batches = []

    def answer(texts):
        batches.append(list(texts))
        for places in rows_together([len(text) for text in texts], 2):
            yield places, [texts[place].upper() for place in places]

    requests = [["ccc", "a"], ["bb"], ["dddd"], ["e"]]
    assert asked(Batcher(answer, 3), *requests) == [["CCC", "A"], ["BB"], ["DDDD"], ["E"]]
    assert [len(batch) for batch in batches] == [3, 2]


def test_a_failure_is_told_to_those_it_meets_and_the_next_are_answered():
    def answer(texts):
        if "bad" in texts:
            raise ValueError("no")
        yield list(range(len(texts))), texts

    one, two, three = asked(Batcher(answer, 1), ["bad"], ["good"], ["fine"])
    assert isinstance(one, ValueError)
    assert (two, three) == (["good"], ["fine"])


def test_rows_of_like_length_are_padded_together():
    assert rows_together([5, 1, 4, 2, 3], 2) == [[1, 3], [4, 2], [0]]
    assert rows_together([], 8) == []


@pytest.mark.parametrize("most", [1, 3, 100])
def test_every_row_is_in_one_batch(most):
    lengths = [7, 3, 3, 9, 1, 4]
    places = [place for batch in rows_together(lengths, most) for place in batch]
    assert sorted(places) == list(range(6))
