"""Exceptions: the table of the library, and what each of them says."""

import pickle

import pytest
import shmslot
from shmslot import _errors, _shmslot


def test_the_table_is_that_of_the_library() -> None:
    capitals = {
        code.name.replace("_", "").lower(): int(code) for code in shmslot.Code
    }
    assert capitals == {name.lower(): number for name, number in _shmslot.CODES.items()}


@pytest.mark.parametrize("code", shmslot.Code)
def test_each_code_has_an_exception_of_its_own(code: shmslot.Code) -> None:
    kind = _errors.class_of(code)
    assert getattr(shmslot, kind.__name__) is kind
    assert kind.__name__ in shmslot.__all__
    others = [_errors.class_of(other) for other in shmslot.Code if other is not code]
    assert not any(issubclass(kind, other) for other in others)
    error = _errors.make(int(code), 2, (1, 2, 3), "what happened; what to do")
    assert isinstance(error, kind)
    assert str(error) == "what happened; what to do"
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert (one.code, one.os_errno, one.numbers) == (code, 2, (1, 2, 3))


def test_an_exception_says_what_and_what_to_do() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        shmslot.Segment.attach("/nowhere/at/all")
    assert isinstance(caught.value, shmslot.NotFound)
    assert "/nowhere/at/all" in str(caught.value)
    assert "; " in str(caught.value)
    assert caught.value.os_errno == caught.value.errno == 2
