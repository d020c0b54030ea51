import re
from pathlib import Path

import pytest

from curation.reasons import Reason, ReasonClass, reason, reason_class

# The stages and the number of their causes; a change here is a change of every ledger's vocabulary.
CAUSES = {"in": 5, "url": 6, "net": 13, "http": 9, "dl": 6, "policy": 12, "img": 15, "av": 13, "text": 8, "lang": 2}
CAUSES |= {"dedup": 6, "score": 4, "balance": 4, "safety": 3, "shard": 2, "sys": 4}


def test_taxonomy_is_complete_and_well_formed() -> None:
    counts: dict[str, int] = {}
    for member in Reason:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", member.value)
        assert member.name == member.value.replace(".", "_").upper()
        assert len(member.meaning) > 5
        counts[member.stage] = counts.get(member.stage, 0) + 1
    assert counts == CAUSES
    assert len({member.value for member in Reason}) == len(list(Reason))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("img.corrupt", ReasonClass.PERMANENT),
        ("net.dns_servfail", ReasonClass.TRANSIENT),
        ("http.rate_limited", ReasonClass.TRANSIENT),
        ("shard.verify_failed", ReasonClass.OPERATOR),
    ],
)
def test_class_of_a_code(code: str, expected: ReasonClass) -> None:
    assert reason_class(code) is expected
    assert reason(code) == code


def test_unknown_code_names_the_valid_ones() -> None:
    with pytest.raises(KeyError, match=r"lang\.typo.*lang\.unknown, lang\.not_wanted"):
        reason_class("lang.typo")
    with pytest.raises(KeyError, match=r"in\.\*.*sys\.\*"):
        reason("nothing")


def test_the_readme_lists_every_code() -> None:
    readme = (Path(__file__).parents[2] / "curation" / "README.md").read_text()
    for code in Reason:
        assert f"| `{code.value}` | {code.cls.value} | {code.meaning} |" in readme, code.value
