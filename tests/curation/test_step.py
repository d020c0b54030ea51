"""Keys: equal for equal steps, different once anything that matters differs."""

import pickle
import subprocess
import sys
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SerializeAsAny, ValidationError

from curation.step import Step, canonical, digest, suggest


class Base(Step):
    pass


class Blur(Base):
    radius: int = 1


class Sharpen(Base):
    amount: int = 1


class Holder(Step):
    inner: SerializeAsAny[Base]
    path: str = ""
    not_in_key: ClassVar[frozenset[str]] = frozenset({"path"})


class Versioned(Step):
    version = 2


def test_nested_fields_of_a_subclass_are_in_the_key() -> None:
    keys = {Holder(inner=Blur(radius=1)).key(), Holder(inner=Blur(radius=2)).key(), Holder(inner=Sharpen()).key()}
    assert len(keys) == 3


def test_fields_that_cannot_matter_are_not_in_the_key() -> None:
    assert Holder(inner=Blur(), path="/a").key() == Holder(inner=Blur(), path="/b").key()


def test_version_is_in_the_key() -> None:
    class Versioned(Step):
        version: ClassVar[int] = 3

    Versioned.__qualname__ = "Versioned"
    assert Versioned().key() != globals()["Versioned"]().key()


def test_key_survives_pickling_and_other_processes() -> None:
    step = Holder(inner=Blur(radius=3))
    assert pickle.loads(pickle.dumps(step)).key() == step.key()  # noqa: S301
    code = "from curation.policy import Rule; print(Rule(rule='a', keep='x > 1').key())"
    keys = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(keys) == 1


def test_unknown_field_names_the_valid_ones() -> None:
    with pytest.raises(ValidationError, match="did you mean 'radius'"):
        Blur.model_validate({"raduis": 3})


def test_values_without_a_canonical_form_are_refused() -> None:
    with pytest.raises(TypeError, match="no canonical form"):
        digest(object())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_equal_values_have_equal_digests(value: object) -> None:
    assert digest(value) == digest(value)
    assert canonical(value) == canonical(value)


@given(st.lists(st.text()), st.lists(st.text()))
def test_different_lists_have_different_digests(a: list[str], b: list[str]) -> None:
    assert (digest(a) == digest(b)) == (a == b)


def test_plain_models_are_told_apart_by_class() -> None:
    class A(BaseModel):
        x: int = 1

    class B(BaseModel):
        x: int = 1

    assert digest(A()) != digest(B())


def test_suggest() -> None:
    assert suggest("keeep", ["keep", "by"]).startswith("did you mean 'keep'? valid: by, keep")
