"""fastbilstm.aio.Batcher: the answers of predict, one bad request among others, cancelled ones, the end."""

import asyncio
import threading

import make_files as mf
import numpy as np
import pytest
from cases import CASES

import fastbilstm
from fastbilstm import InputError
from fastbilstm.aio import Batcher

X = np.random.default_rng(1).standard_normal((40, 6, 4)).astype("f4")


class Slow:
    """A model that notes the rows of each batch, and waits for `go` in the first one."""

    def __init__(self, model):
        self.model, self.sizes, self.go = model, [], threading.Event()

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict(self, x, **options):
        self.sizes.append(len(next(iter(x.values())) if isinstance(x, dict) else x))
        assert self.go.wait(20)
        return self.model.predict(x, **options)


def test_answers_are_those_of_predict_whatever_the_order():
    model = mf.floats()
    expected = model.predict(X)

    async def main():
        async with Batcher(model, max_batch=7) as batcher:
            found = await asyncio.gather(*map(batcher.predict, X))
            short = await asyncio.gather(*(batcher.predict(x[: 2 + k % 3]) for k, x in enumerate(X)))
            return found, short

    found, short = asyncio.run(main())
    np.testing.assert_array_equal(np.stack(found), expected)
    for k, y in enumerate(short):
        np.testing.assert_array_equal(y, model.predict(X[k : k + 1, : 2 + k % 3])[0])


def test_requests_gather_while_a_batch_runs():
    slow = Slow(mf.floats())

    async def main():
        async with Batcher(slow, max_batch=8) as batcher:
            first = [asyncio.ensure_future(batcher.predict(x)) for x in X[:3]]
            while not slow.sizes:
                await asyncio.sleep(0.001)
            others = [asyncio.ensure_future(batcher.predict(x)) for x in X[3:22]]
            await asyncio.sleep(0)
            assert not others[0].done()  # the loop is free while the batch is computed
            others[0].cancel()
            slow.go.set()
            await asyncio.gather(*first, *others[1:])

    asyncio.run(main())
    assert slow.sizes == [3, 8, 8, 2]


def test_waiting_ends_when_the_batch_is_full():
    slow = Slow(mf.floats())
    slow.go.set()

    async def main():
        async with Batcher(slow, max_batch=4, wait=30) as batcher:
            await asyncio.wait_for(asyncio.gather(*map(batcher.predict, X[:4])), 20)

    asyncio.run(main())
    assert slow.sizes == [4]


def test_a_bad_request_fails_alone():
    model = mf.floats()

    async def main():
        async with Batcher(model) as batcher:
            rows = [X[0], np.full((6, 4), "a"), X[1], X[2, :, :3]]
            return await asyncio.gather(*map(batcher.predict, rows), return_exceptions=True)

    found = asyncio.run(main())
    np.testing.assert_array_equal(np.stack([found[0], found[2]]), model.predict(X[:2]))
    assert isinstance(found[1], InputError) and isinstance(found[3], InputError)


def test_an_error_that_is_not_ours_reaches_every_caller_and_the_batcher_goes_on():
    slow = Slow(mf.floats())
    slow.go.set()
    slow.predict = lambda x, **options: 1 / 0

    async def main():
        async with Batcher(slow) as batcher:
            failed = await asyncio.gather(*map(batcher.predict, X[:3]), return_exceptions=True)
            del slow.predict
            return failed, await batcher.predict(X[0])

    failed, y = asyncio.run(main())
    assert [type(error) for error in failed] == [ZeroDivisionError] * 3
    np.testing.assert_array_equal(y, slow.model.predict(X[:1])[0])


def parts(y):
    """The arrays of an answer, whatever its structure."""
    if isinstance(y, dict):
        y = list(y.values())
    return [array for part in y for array in parts(part)] if isinstance(y, list) else [y]


def row_of(x, k):
    if isinstance(x, dict):
        return {name: part[k] for name, part in x.items()}
    return [part[k] for part in x] if isinstance(x, list) else x[k]


STRUCTURED = [case for case in CASES if not case.derived and isinstance(case.inputs[0], (list, dict))][::12]


@pytest.mark.parametrize("case", STRUCTURED, ids=lambda case: case.name)
def test_several_inputs_and_outputs(case):
    model, x = fastbilstm.load(**case.load_args()), case.inputs[0]
    if not model._plan.independent:
        pytest.skip("rows depend on each other")
    expected = model.predict(x)
    rows = len(parts(x)[0])

    async def main():
        async with Batcher(model) as batcher:
            return await asyncio.gather(*(batcher.predict(row_of(x, k)) for k in range(rows)))

    found = asyncio.run(main())
    for k, y in enumerate(found):
        assert type(y) is type(expected)
        for mine, whole in zip(parts(y), parts(expected), strict=True):
            np.testing.assert_allclose(mine, whole[k], rtol=1e-5, atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match="rows depend on each other"):
        Batcher(mf.floats(batch=5, stateful=True))
    for options in ({"max_batch": 0}, {"wait": -1}, {"wait": float("nan")}):
        with pytest.raises(ValueError, match="expected at least"):
            Batcher(mf.floats(), **options)

    async def main():
        batcher = Batcher(mf.floats())
        await batcher.close()
        with pytest.raises(RuntimeError, match="closed"):
            await batcher.predict(X[0])

    asyncio.run(main())
