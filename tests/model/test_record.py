"""Record: what the description of a model is made of."""

import pickle

import pytest

from fastbilstm.record import Record


class Point(Record):
    """Two required fields, a default, and a default that must not be shared."""

    x: int
    y: int
    name: str = "p"
    options: dict = {}

    def check(self):
        if self.x < 0:
            raise ValueError("x is negative")


def test_fields_in_order_by_name_and_by_default():
    point = Point(1, y=2)
    assert (point.x, point.y, point.name, point.options) == (1, 2, "p", {})
    assert repr(point) == "Point(x=1, y=2, name='p', options={})"
    assert point == Point(y=2, x=1) != Point(1, 3)
    assert point != (1, 2, "p", {})


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        ((1,), {}, "needs 'y'"),
        ((1, 2), {"y": 3}, "'y' is given twice"),
        ((1, 2), {"z": 3}, "'z' is no field"),
        ((1, 2, "p", {}, 5), {}, "takes 4 values; got 5"),
    ],
)
def test_wrong_fields(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        Point(*args, **kwargs)


def test_does_not_change():
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="replace"):
        point.x = 3
    with pytest.raises(AttributeError, match="replace"):
        del point.x
    assert point.replace(x=3) == Point(3, 2)
    with pytest.raises(ValueError, match="negative"):
        point.replace(x=-1)


def test_defaults_are_not_shared():
    point = Point(1, 2)
    point.options["a"] = 1
    assert Point(1, 2).options == {}


def test_pickle_and_hash():
    assert pickle.loads(pickle.dumps(Point(1, 2))) == Point(1, 2)

    class Key(Record):
        a: int

    assert len({Key(1), Key(1), Key(2)}) == 2
