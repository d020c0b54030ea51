"""The command line as somebody types it: exit status, message, and what it leaves alone."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.stores import LOOSE, NETWORKS, Served, digests, links_file, recipe, run_arguments, tamis, tamis_alone

COMMANDS = ["run", "plan", "status", "why", "sql", "train", "eval", "classifier", "report", "verify"]
COMMANDS += ["curve", "select", "diff", "sweep", "seen", "takedown", "noise"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    done = tamis(name, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert name in done.stdout


def test_the_commands_are_listed() -> None:
    done = tamis("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)
    assert tamis("sieve").returncode == 2
    assert tamis_alone("--help").stdout.count("\n") > len(COMMANDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """A recipe, links, and a store that the command line made of them, with what it said."""
    root = tmp_path_factory.mktemp("command")
    recipe(root / "r.yaml")
    links = [(url, f"picture {i} [bold]\\[/]") for i, url in enumerate(served.pictures[:6])]
    links_file(root / "l.parquet", [*links, (f"{served.url}/:cat:", ":smile: and a link")])
    done = tamis_alone(*run_arguments(root / "store", root / "r.yaml", root / "l.parquet"))
    assert done.returncode == 0, done.stderr
    (root / "said.txt").write_text(done.stdout)
    return root


def test_a_run_says_what_it_does_and_ends_with_the_funnel(folder: Path) -> None:
    said = (folder / "said.txt").read_text()
    for stage in ("ingest", "download", "score", "dedupe", "select", "pack"):
        assert f"\n{stage}: " in f"\n{said}"
    assert "nothing lost, nothing doubled" in said
    assert "in the pool" in said
    assert "parts made: " in said


def test_a_second_run_reuses_everything(folder: Path) -> None:
    kept = [digests(folder / "store" / name) for name in ("tables", "versions", "pool")]
    done = tamis(*run_arguments(folder / "store", folder / "r.yaml", folder / "l.parquet"))
    assert done.returncode == 0, done.stderr
    assert "parts made: 0, reused: " in done.stdout
    assert "(reused)" in done.stdout
    assert [digests(folder / "store" / name) for name in ("tables", "versions", "pool")] == kept


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["r.yaml=no.yaml"], "no.yaml: cannot be read: No such file or directory\n"),
        (["l.parquet=no.parquet"], "no.parquet: there is no such file or folder"),
        (["+--columns", "+url:URL"], "valid names: url, text, language, hash, extra, picture"),
        (["+--columns", "+link=URL"], "valid names: url, text, language, hash, extra, picture"),
        (["+--columns", "+text=TEXT"], "has no column 'TEXT'"),
        (["+--columns", "+extra=status"], "has a column 'status' of its own"),
        (["+--columns", "+extra=num_words"], "a signal of the recipe writes 'num_words'"),
        (["+--columns", "+extra=split,extra=split"], "'split' is named twice"),
        (["+--columns", "+sha256=a,md5=b"], "one column of digests at most"),
        (["+--columns", "+url=a,url=b"], "url is given twice"),
        (["+--allow-net", "+127.0.0.0/99"], "127.0.0.0/99"),
        (["+--address", "+somewhere"], "valid are serial, local, auto"),
        (["store=r.yaml"], "neither empty nor a tamis store"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_made(folder: Path, tmp_path: Path, change: list[str], said: str) -> None:
    arguments = run_arguments(tmp_path / "store", folder / "r.yaml", folder / "l.parquet")
    for each in change:
        if each.startswith("+"):
            arguments.append(each[1:])
        else:
            old, new = each.split("=")
            arguments = [str(folder / new) if a.endswith(f"/{old}") else a for a in arguments]
    before = digests(folder)
    done = tamis(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert digests(folder) == before
    assert not (tmp_path / "store" / "tables").exists()


def test_a_recipe_with_a_typo(tmp_path: Path) -> None:
    wrong = recipe(tmp_path / "r.yaml", [*LOOSE, {"rule": "wide", "keep": "widht_px > 3"}])
    for name in ("run", "plan"):
        done = tamis(name, wrong, "--store", tmp_path / "store")
        assert done.returncode == 2
        assert f"{wrong}:" in done.stderr
        assert "widht_px" in done.stderr
    assert not (tmp_path / "store").exists()


def test_a_store_in_use_and_a_store_of_another_version(folder: Path, tmp_path: Path) -> None:
    from pipelines.store import Store

    with Store.open(folder / "store").locked():
        done = tamis_alone(*run_arguments(folder / "store", folder / "r.yaml", folder / "l.parquet"))
        assert done.returncode == 2
        assert "is in use by another run (process" in done.stderr
        assert tamis("sql", folder / "store", "select 1 as one").returncode == 0  # looking is allowed
    (tmp_path / "store.json").write_text(json.dumps({"format": "tamis.store/0"}))
    for name in ("status", "verify", "sql", "report"):
        done = tamis(name, tmp_path, *(["select 1"] if name == "sql" else []))
        assert done.returncode == 2, done.stderr
        assert "written by another version" in done.stderr
    assert "has no store.json" in tamis("status", tmp_path / "nowhere").stderr


def test_plan_runs_nothing_and_knows_of_allowed_networks(folder: Path) -> None:
    before = digests(folder)
    links: list[str | Path] = ["--links", folder / "l.parquet", "--allow-net", *NETWORKS]
    done = tamis("plan", folder / "r.yaml", "--store", folder / "store", *links)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "0 parts" in lines["download"]
    assert "1 parts" in lines["download"]
    assert "0 parts" in lines["score"]
    assert digests(folder) == before


def test_plan_of_an_empty_folder_is_that_of_a_new_store(folder: Path, tmp_path: Path) -> None:
    said = set()
    (tmp_path / "there").mkdir()
    for name in ("there", "not-there"):
        done = tamis("plan", folder / "r.yaml", "--store", tmp_path / name, "--links", folder / "l.parquet")
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    done = tamis("plan", folder / "r.yaml", "--store", folder, "--links", folder / "l.parquet")
    assert "neither empty nor a tamis store" in done.stderr


def test_columns_of_all_tables_are_looked_at_before_the_first_is_read(folder: Path, tmp_path: Path) -> None:
    """Whoever asks for a plan has these names on his mind, and the last table may come after hours of reading."""
    (tmp_path / "other.csv").write_text("address,caption\nu,t\n")
    (tmp_path / "rows.csv").write_text("url,caption,language,split\nhttp://a.example/x.jpg,t,en,train\n")
    links = ["--links", tmp_path / "rows.csv", "--links", tmp_path / "other.csv"]
    for command, more in (("plan", []), ("run", ["--address", "serial"])):
        done = tamis(command, folder / "r.yaml", "--store", tmp_path / "store", *links, *more)
        assert done.returncode == 2
        assert "other.csv: has no column 'url'; valid: address, caption" in done.stderr


def test_rules_and_packing_know_the_columns_of_the_command_line(tmp_path: Path) -> None:
    """Of the recipe alone such a rule has no column, and one that the command line takes away would fail at the end."""
    rules = [*LOOSE, {"rule": "of_split", "keep": "division = 'train'"}]
    made = recipe(tmp_path / "r.yaml", rules, pack={"text_columns": ["division"]})
    (tmp_path / "l.csv").write_text("url,caption,language,division\nhttp://a.example/x.jpg,t,en,train\n")
    plan = ["plan", made, "--store", tmp_path / "store", "--links", tmp_path / "l.csv"]
    assert tamis(*plan, "--columns", "extra=division").returncode == 0
    for columns in ([], ["--columns", "extra=caption"]):
        done = tamis(*plan, *columns)
        assert done.returncode == 2
        assert "there is no column 'division'" in done.stderr


@pytest.mark.parametrize("name", ["video_audio", "openvid_like"])
def test_columns_without_subtitles_for_a_recipe_that_reads_some(tmp_path: Path, name: str) -> None:
    """As the README has it."""
    (tmp_path / "l.csv").write_text("URL,TITLE\nhttp://a.example/x.mp4,t\n")
    made = Path(__file__).parents[1] / "curation" / "recipes" / f"{name}.yaml"
    links = ["--links", tmp_path / "l.csv", "--columns", "url=URL,text=TITLE"]
    done = tamis("plan", made, "--store", tmp_path / "store", *links)
    assert done.returncode == 0, done.stderr


def test_status_why_and_verify(folder: Path, served: Served) -> None:
    done = tamis("status", folder / "store")
    assert done.returncode == 0, done.stderr
    assert all(each in done.stdout for each in ("samples", "downloaded", "small-", "complete"))
    done = tamis("why", folder / "store", served.pictures[0])
    assert done.returncode == 0, done.stderr
    assert "decision: kept" in done.stdout
    assert "[bold]\\[/]" in done.stdout
    done = tamis("why", folder / "store", "http://nowhere.example/")
    assert (done.returncode, done.stdout) == (2, "")
    done = tamis("verify", folder / "store")
    assert done.returncode == 0, done.stderr


def test_sql_shows_what_is_there_as_it_is(folder: Path, tmp_path: Path) -> None:
    store = folder / "store"
    done = tamis("sql", store, "select text, url from ledger order by text")
    assert done.returncode == 0, done.stderr
    assert ":smile: and a link" in done.stdout
    assert "/:cat:" in done.stdout
    assert "picture 0 [bold]\\[/]" in done.stdout
    assert "report/funnel" in tamis("sql", store, "--list").stdout
    assert "in the pool" in tamis("sql", store, "funnel").stdout
    done = tamis("sql", store, "select * from ledger", "-o", tmp_path / "ledger.parquet")
    assert "7 rows in" in done.stdout
    assert pq.read_table(tmp_path / "ledger.parquet").num_rows == 7
    assert tamis("sql", store, "select text from ledger", "-o", tmp_path / "ledger.csv").returncode == 0
    with (tmp_path / "ledger.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 8


def test_results_of_any_kind_are_written(folder: Path, tmp_path: Path) -> None:
    """Two columns of one name, as joins have them, and types that CSV does not know."""
    odd = "interval 1 day as i, [1, 2] as l, {'k': 'v'} as s, null as n, 1.5::decimal(9, 2) as d, '=x' as f"
    for name in ("r.csv", "r.parquet"):
        done = tamis("sql", folder / "store", f"select 1 as a, 2 as a, 3 as a, {odd}", "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert pq.read_schema(tmp_path / "r.parquet").names == ["a", "a_1", "a_2", "i", "l", "s", "n", "d", "f"]
    with (tmp_path / "r.csv").open(newline="") as file:
        assert [row[:3] for row in csv.reader(file)][1] == ["1", "2", "3"]
    assert "a_2" in tamis("sql", folder / "store", "select 1 as a, 2 as a, 3 as a").stdout


def test_bytes_and_times_in_csv(folder: Path, tmp_path: Path) -> None:
    """Not as Python spells them."""
    query = "select '\\xFF\\x3D'::blob as b, [date '2026-01-02'] as l, [1.5::decimal(9, 2)] as d"
    assert tamis("sql", folder / "store", query, "-o", tmp_path / "r.csv").returncode == 0
    with (tmp_path / "r.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["ff3d", '["2026-01-02"]', '["1.50"]']


@pytest.mark.parametrize(
    "words",
    [
        ("sql", "STORE", "select count(*) from range(10000000000) a, range(1000000) b"),
        ("curve", "STORE", "num_words"),
        ("diff", "STORE", "no-such-version"),
        ("sweep", "STORE", "no-such-policy.yaml", "--set", "a.b=1"),
        ("seen", "STORE/models/none", "--step", "1"),
    ],
)
def test_a_wrong_ending_is_told_before_the_work(folder: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = tamis(*(word.replace("STORE", str(folder / "store")) for word in words), "-o", tmp_path / "r.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "r.json: the ending must be .parquet" in done.stderr
    assert (".html" in done.stderr) == (words[0] == "curve")


def test_thresholds_of_whole_numbers_are_whole(folder: Path) -> None:
    lines = tamis("curve", folder / "store", "try_cast(text[9] as int)").stdout.splitlines()
    thresholds = [line.split()[0] for line in lines[1:]]
    assert len(thresholds) > 2
    assert all(each.isdigit() for each in thresholds)


def test_help_shows_its_brackets() -> None:
    assert "[values]" in tamis("sweep", "--help").stdout


@pytest.mark.parametrize("comment", ["-- all of them", "--all", "/* -- */"])
def test_sql_may_begin_with_a_comment(folder: Path, comment: str) -> None:
    done = tamis("sql", folder / "store", f"{comment}\nselect count(*) as texts from ledger")
    assert (done.returncode, done.stdout.split()) == (0, ["texts", "7"])
    assert "No such option" in tamis("sql", folder / "store", "select 1", "--al").stderr


@pytest.mark.parametrize(
    ("query", "said"),
    [("select nonesuch from ledger", "nonesuch"), ("drop view ledger", "only one SELECT"), ("funnle", "report/funnel"),
     ("select * from read_text('/etc/passwd')", "SQL: Permission Error")],
)  # fmt: skip
def test_sql_that_is_refused(folder: Path, query: str, said: str) -> None:
    done = tamis("sql", folder / "store", query)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_names_damage_and_a_damaged_store_gives_no_traceback(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder / "store", tmp_path / "store")
    (media,) = (tmp_path / "store" / "tables" / "media").iterdir()
    media.write_bytes(media.read_bytes()[:-100])
    done = tamis("verify", tmp_path / "store")
    assert done.returncode == 3
    assert media.name in done.stderr
    for name, more in (("status", []), ("why", ["x"])):
        done = tamis(name, tmp_path / "store", *more)
        assert done.returncode in (2, 4)
        assert "Traceback" not in done.stderr
    done = tamis_alone(*run_arguments(tmp_path / "store", folder / "r.yaml", folder / "l.parquet"))
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "tamis verify" in done.stderr


def test_entries_of_a_takedown_that_find_nothing_are_named(folder: Path, tmp_path: Path, served: Served) -> None:
    """A slip of the pen else looks like a picture that is gone: of a list nobody counts."""
    import shutil

    shutil.copytree(folder / "store", tmp_path / "store")
    (tmp_path / "list.txt").write_text("\n".join([f"host{i}.example" for i in range(30)]))
    done = tamis("takedown", tmp_path / "store", served.pictures[0], "exmaple.org", "--list", tmp_path / "list.txt")
    assert done.returncode == 0, done.stderr
    assert "1 media taken down" in done.stdout
    lines = done.stdout.splitlines()
    assert "  exmaple.org: found nothing to take down; what comes later is refused" in lines
    assert sum("found nothing to take down" in line for line in lines) == 20
    assert "  and 11 others found nothing" in lines
    assert not any(line.startswith(f"  {served.pictures[0]}") for line in lines)


def test_training_without_what_it_needs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: x\nsteps: many\n")
    for name, config, more in (("train", "no", ["--address", "serial"]), ("train", "t", []), ("eval", "t", [])):
        done = tamis(name, tmp_path / f"{config}.yaml", "--store", folder / "store", *more)
        assert done.returncode == 2, done.stderr
        assert ".yaml" in done.stderr
        assert "Traceback" not in done.stderr
    done = tamis("seen", tmp_path, "--step", "1")
    assert done.returncode == 2
    assert "is no run: it has no config.json" in done.stderr
