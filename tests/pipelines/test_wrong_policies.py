"""Policies with a mistake, as somebody would write them: each is refused with its line, place and what is wrong.

Tried through `load_recipe`, as `tamis run` and `plan` do; the last tests go through the commands on a store.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.recipe import load_recipe
from pipelines.yaml_place import RecipeError
from tests.stores import Served, digests, links_file, recipe, rows, run, tamis

HEAD = """name: wrong
source: {columns: {url: url, text: text}}
signals:
  - use: curation.signals.text_hygiene.TextHygiene
  - use: curation.signals.caption_statistics.CaptionStatistics
  - use: curation.signals.probe.Probe
  - use: curation.signals.keyed_draw.KeyedDraw
duplicates: {perceptual: false}
policy:
  - {rule: good, keep: num_words > 1}
"""
LINE = HEAD.count("\n") + 1
WRONG: list[tuple[str, str, str]] = [
    # columns
    ("rule: a, keep: num_word > 3", ".keep", "there is no column 'num_word'; did you mean 'num_words'?"),
    ("rule: a, keep: clip_score > 0.3", ".keep", "there is no column 'clip_score'"),
    ("rule: a, keep: kept", ".keep", "there is no column 'kept'"),
    ("rule: a, keep: bytes is not null", ".keep", "there is no column 'bytes'; did you mean 'size_bytes'?"),
    ("rule: a, keep: texts.num_words > 3", ".keep", "named alone: 'num_words', not 'texts.num_words'"),
    ("rule: a, keep: candidates.num_words > 3", ".keep", "named alone: 'num_words', not 'candidates.num_words'"),
    ("top: t, by: candidates.num_words, fraction: 0.3", ".by", "named alone: 'num_words'"),
    ("quota: q, per: url, at_most: 3, prefer: candidates.num_words", ".prefer", "named alone: 'num_words'"),
    ("top: t, by: clip_image_embedding, fraction: 0.3", ".by", "there is no column 'clip_image_embedding'"),
    ("quota: q, per: url, at_most: 3, prefer: clip_score desc", ".prefer", "there is no column 'clip_score'"),
    ("dedupe: d, prefer: clip_score desc", ".prefer", "there is no column 'clip_score'"),
    ("balance: b, t: 3", ".entries", "there is no column 'entry_ids'"),
    # types
    ("rule: a, keep: num_words", ".keep", "of type INTEGER, not BOOLEAN (value: 'num_words'"),
    ("rule: a, keep: 3", ".keep", "of type INTEGER, not BOOLEAN"),
    ("rule: a, keep: text_clean > 3", ".keep", "Cannot compare values of type VARCHAR"),
    ("rule: a, keep: [num_words > 3]", ".keep", "SQL is written as text"),
    ("rule: a, keep: num_words > $x, at: {x: many}", ".keep", "Could not convert string 'many'"),
    ("rule: a, keep: language_claimed = $x, at: {x: no}", ".keep", "the text 'language_claimed' is compared with true"),
    ("rule: a, keep: \"language_claimed not in ('de', $x)\", at: {x: no}", ".keep", "put such a word in quotes"),
    ("top: t, by: text_clean, fraction: 0.3", ".by", "of type VARCHAR, not NUMBER"),
    ("top: t, by: num_words > 3, fraction: 0.3", ".by", "of type BOOLEAN, not NUMBER"),
    ("weight: w, value: text_clean", ".value", "of type VARCHAR, not NUMBER"),
    ("balance: b, t: 3, by: url, where: num_words", ".where", "of type INTEGER, not BOOLEAN"),
    # nothing there
    ("rule: a, keep: ''", ".keep", "there is no SQL here"),
    ("rule: a, keep: '   '", ".keep", "there is no SQL here"),
    ("rule: a, keep: ", ".keep", "SQL is written as text"),
    ("rule: a", ".keep", "this field is required"),
    ("dedupe: d, prefer: ''", ".prefer", "there is no SQL here"),
    ("", "", "a rule begins with one of the keys rule, top, quota"),
    ("decontaminate: c", ".against", "this field is required"),
    # names and fields
    ("rule: good, keep: num_words > 2", "", "two rules are called 'good'"),
    ("rule: no, keep: num_words > 2", ".rule", "valid string (value: False): a word such as no, yes, on or off"),
    ("rule: A b, keep: num_words > 2", ".rule", "match pattern"),
    ("sieve: s", "", "a rule begins with one of the keys rule, top, quota"),
    ("rule: a, keep: num_words > 3, al: {x: 1}", ".al", "no such field"),
    ("rule: a, top: t, keep: num_words > 3", ".top", "no such field"),
    # thresholds by name
    ("rule: a, keep: num_words > $least", "", "`at` has no 'least'"),
    ("rule: a, keep: num_words > 3, at: {least: 3}", "", "`keep` does not use $least"),
    ("rule: a, keep: num_words > $least, at: {least: }", ".at.least", "a threshold is a number, a text, true or false"),
    ("rule: a, keep: num_words > $least, at: {least: [3]}", ".at.least", "a threshold is a number"),
    ("rule: a, keep: num_words > $least, at: {least: .nan}", "", "a threshold is a finite number"),
    ("rule: a, keep: 'num_words > ?'", ".keep", "nothing takes the place of `?`"),
    ("rule: a, keep: num_words > $1", ".keep", "nothing takes the place of `?` and `$1`"),
    # numbers
    ("top: t, by: num_words", ".fraction", "this field is required"),
    ("top: t, by: num_words, fraction: 0", ".fraction", "greater than 0"),
    ("top: t, by: num_words, fraction: 30", ".fraction", "less than or equal to 1 (value: 30)"),
    ("top: t, by: num_words, fraction: 30%", ".fraction", "valid number"),
    ("top: t, by: num_words, fraction: .nan", ".fraction", "nan"),
    ("top: t, by: num_words, fraction: 0.3, ties: maybe", ".ties", "'break' or 'keep'"),
    ("quota: q, per: url, at_most: 0", ".at_most", "greater than or equal to 1"),
    ("balance: b, by: url", "", "exactly one of `t`, `most` and `exponent`"),
    ("balance: b, t: 3, most: 4, by: url", "", "has t and most"),
    ("balance: b, most: 3", "", "`most` needs `by`"),
    ("balance: b, exponent: 0.5, by: url", "", "`exponent` and `fraction` go together"),
    # more than one row, more than one statement
    ("rule: a, keep: num_words > 3; drop table x", ".keep", 'syntax error at or near ";"'),
    ("rule: a, keep: 'true) or (select true'", ".keep", "it holds a subquery"),
    ("rule: a, keep: 'num_words in (select 3)'", ".keep", "it holds a subquery"),
    ("rule: a, keep: 'exists (from candidates)'", ".keep", "it holds a subquery"),
    ("rule: a, keep: 'num_words > lag(num_words) over ()'", ".keep", "it holds a window; see `top`"),
    ("rule: a, keep: sum(num_words) > 3", ".keep", "cannot contain aggregates"),
    ("rule: a, keep: 'unnest([1, 2]) > 1'", ".keep", "UNNEST not supported"),
    ("rule: a, keep: '*'", ".keep", "several columns at once"),
    ("rule: a, keep: \"columns('.*_px') > 3\"", ".keep", "several columns at once"),
    ("quota: q, per: url, at_most: 3, prefer: num_words desc; drop table x", ".prefer", "syntax error"),
    ("rule: a, keep: \"read_text('/etc/passwd') is not null\"", ".keep", "table function"),
    # another value in another run
    ("rule: a, keep: random() < 0.5", ".keep", "random is not the same in every run; for a random draw compare"),
    ("rule: a, keep: \"now() > '2026-01-01'\"", ".keep", "now is not the same in every run"),
    ("rule: a, keep: \"age(timestamp '2026-01-01') > interval 1 day\"", ".keep", "age is not the same in every run"),
    ("rule: a, keep: ago(interval 1 day) is null", ".keep", "ago is not the same in every run"),
    ("rule: a, keep: \"current_setting('threads') = '1'\"", ".keep", "not the same in every run"),
    ("top: t, by: random(), fraction: 0.3", ".by", "not the same in every run"),
    # syntax
    ("rule: a, keep: num_words > 3 and", ".keep", "keep is not valid SQL: something is missing at its end"),
    ("rule: a, keep: num_words >= all", ".keep", "something is missing at its end"),
    ("rule: a, keep: num_words > 3 /*", ".keep", "unterminated /* comment"),
    ("rule: a, keep: \"text_clean = 'it's'\"", ".keep", "unterminated string literal"),
    ("rule: a, keep: if num_words > 3", ".keep", 'syntax error at or near "num_words"'),
    ("rule: a, keep: nonesuch(num_words)", ".keep", "Function with name nonesuch does not exist"),
    # what is not searched for
    ("dedupe: d, of: texts", "", "say `duplicates: {texts: {similarity: 0.8}}`"),
    ("dedupe: d, of: semantic", "", "the recipe does not look for them"),
    ("decontaminate: c, against: [imagenet]", ".radius", "needs the signal curation.signals.perceptual_hash"),
    ("decontaminate: c, against: [i], radius: , similarity: 0.9", ".embedding", "is no column of embeddings"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "place", "said"), WRONG, ids=[item for item, _, _ in WRONG])
def test_a_wrong_rule_is_named_with_its_place(tmp_path: Path, item: str, place: str, said: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"{HEAD}  - {{{item}}}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    found = str(caught.value)
    assert found.startswith(f"{path}:{LINE}: policy[1]{place}: "), found
    assert said in found
    assert ") as value" not in found  # words that are not the user's
    assert "tamis__" not in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("  - text", ": policy[1]: a rule begins with one of the keys"),
        ("  - 3", ": policy[1]: a rule begins with one of the keys"),
        ("  - ", ": policy[1]: a rule begins with one of the keys"),
        ("  - {rule: a, keep: num_words > 3}\n    at: {x: 3}", f":{LINE + 1}: is not valid YAML: while parsing"),
        ("  - {rule: a, keep: num_words > 3, keep: num_words > 4}", ": keep: this field stands in line"),
    ],
)
def test_what_is_no_rule(tmp_path: Path, item: str, said: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"{HEAD}{item}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert said in str(caught.value)


def test_a_dedupe_where_nothing_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"{HEAD}  - {{dedupe: d}}\n")
    assert load_recipe(path).policy is not None
    path.write_text(f"{HEAD}  - {{dedupe: d}}\n".replace("perceptual: false", "exact: [], perceptual: false"))
    with pytest.raises(RecipeError, match=r"policy\[1\]: d is `of: media`.* say `duplicates: {exact: \[sha256\]}`"):
        load_recipe(path)


def test_what_is_unusual_and_right(tmp_path: Path) -> None:
    path = tmp_path / "right.yaml"
    items = ["rule: all, keep: true", "rule: none, keep: false", "weight: w, value: 1", "weight: v, value: 0.5",
             "quota: q, per: 'url, text', at_most: 3", "rule: commented, keep: num_words > 3 -- $x",
             "rule: named, keep: text_clean <> $what, at: {what: it's}", "dedupe: d, prefer: 'random_order desc'",
             "rule: age, keep: \"age(timestamp '2026-01-02', timestamp '2026-01-01') > interval 1 day\""]  # fmt: skip
    path.write_text(
        HEAD.replace("text: text}", "text: text, extra: [random_order]}") + "".join(f"  - {{{i}}}\n" for i in items)
    )
    policy = load_recipe(path).all_rounds()[0].policy
    assert [item.name for item in policy] == ["downloaded", "good", "all", "none", "w", "v", "q", "commented", "named",
                                              "d", "age"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    root = tmp_path_factory.mktemp("wrong")
    recipe(root / "r.yaml")
    links_file(root / "l.parquet", [(url, f"picture {i}") for i, url in enumerate(served.pictures[:6])])
    run(root / "store", root / "r.yaml", root / "l.parquet")
    return root


@pytest.mark.parametrize(
    ("item", "said"),
    [
        # the binder lets these through, for nothing but the values is wrong
        ("rule: a, keep: 'text_clean::int > 3'", "the rule 'a' cannot be asked of every row: Conversion Error"),
        ("top: t, by: 'text_clean::int', fraction: 0.5", "the rule 't' cannot be asked of every row: Conversion Error"),
        ("quota: q, per: 'text_clean::int', at_most: 1", "the rule 'q' cannot be asked of every row"),
        ("weight: w, value: 'text_clean::int'", "the rule 'w' cannot be asked of every row"),
        ("rule: a, keep: 'width_px * 2000000000 > 3'", "the rule 'a' cannot be asked of every row: Out of Range Error"),
        ("dedupe: d, prefer: 'log(position)'", ""),  # nothing is asked of rows that are in no group
        # and these are found before anything runs
        ("rule: a, keep: num_word > 3", "p.yaml:1: policy[0].keep: there is no column 'num_word'"),
        ("dedupe: d, of: texts", "p.yaml:1: policy[0]: d is `of: texts`, but the last run on this store did not look"),
        ("decontaminate: c, against: [none], radius: ", "has no evaluation set 'none'"),
    ],
)
def test_select_on_a_store(folder: Path, tmp_path: Path, item: str, said: str) -> None:
    (tmp_path / "p.yaml").write_text(f"policy: [{{{item}}}]\n")
    before = digests(folder / "store" / "versions")
    done = tamis("select", folder / "r.yaml", "--store", folder / "store", "--policy", tmp_path / "p.yaml",
                 "--name", "tried")  # fmt: skip
    assert done.returncode == (2 if said else 0), done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "tamis__" not in done.stderr
    assert not said or digests(folder / "store" / "versions") == before


def test_the_rule_that_fails_is_named_not_the_one_that_asks_for_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "policy:\n  - {rule: fine, keep: true}\n  - {rule: fails, keep: 'text_clean::int > 3'}\n"
        "  - {top: best, by: width_px, fraction: 0.5}\n"
    )
    done = tamis("sweep", folder / "store", tmp_path / "p.yaml", "--set", "best.fraction=0.5,1")
    assert done.returncode == 2
    assert "the rule 'fails' cannot be asked" in done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("best.by=width_xp", "best.by = 'width_xp': best.by: there is no column 'width_xp'; did you mean 'width_px'?"),
        ("best.by=random()", "random is not the same in every run"),
        ("best.by=url", "of type VARCHAR, not NUMBER"),
        ("wide.keep=width_px", "wide.keep: it is of type INTEGER, not BOOLEAN"),
        ("wide.keep=true; drop table x", "syntax error"),
        ("best.fraction=0", "greater than 0"),
    ],
)
def test_values_that_a_sweep_cannot_set(folder: Path, tmp_path: Path, setting: str, said: str) -> None:
    (tmp_path / "p.yaml").write_text(
        "policy:\n  - {rule: wide, keep: width_px > 3}\n  - {top: best, by: width_px, fraction: 0.5}\n"
    )
    done = tamis("sweep", folder / "store", tmp_path / "p.yaml", "--set", setting)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["Bad Name", "../x", "", "-x", "a" * 61, "latest"])
def test_a_name_that_no_version_can_have(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "p.yaml").write_text("policy: []\n")
    before = digests(folder)
    done = tamis("select", folder / "r.yaml", "--store", folder / "store", "--policy", tmp_path / "p.yaml",
                 f"--name={name}")  # fmt: skip
    assert done.returncode == 2
    assert "--name" in done.stderr
    assert digests(folder) == before


def test_everything_goes_and_nothing_stays(folder: Path, tmp_path: Path) -> None:
    """A policy that keeps nothing is no mistake: decisions are made, and there is no version to look at."""
    (tmp_path / "p.yaml").write_text("policy: [{rule: none, keep: false}]\n")
    done = tamis("select", folder / "r.yaml", "--store", folder / "store", "--policy", tmp_path / "p.yaml",
                 "--name", "nothing")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = rows(folder / "store", "select count(*) as n, count(*) filter (where kept) as kept from decided")
    assert found == {"n": 6, "kept": 0}
