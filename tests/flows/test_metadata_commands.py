"""The commands `tamis metadata build` and `tamis metadata show`."""

from pathlib import Path

from curation.metadata_lists import load_metadata
from tests.stores import tamis


def test_build_and_show(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("hund\nkatze\n")
    (tmp_path / "texts.txt").write_text("a hot dog stand\n" * 20)
    output = tmp_path / "list.parquet"
    done = tamis(
        "metadata", "build", "-o", output, "--list", f"de={tmp_path / 'names.txt'}", "--corpus",
        f"en={tmp_path / 'texts.txt'}", "--min-count", "10", "--min-pmi", "1", "--licence", "names.txt=CC0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "209 entries in 2 languages" in done.stdout
    assert load_metadata(str(output)).entries("en")[100:] == [
        "a",
        "dog",
        "hot",
        "stand",
        "a hot",
        "dog stand",
        "hot dog",
    ]
    shown = tamis("metadata", "show", output)
    assert "names.txt: 2 entries; licence: CC0" in shown.stdout
    assert "de 102, en 107" in shown.stdout


def test_mistakes_are_told(tmp_path: Path) -> None:
    (tmp_path / "fake.parquet").write_text("no Parquet")
    (tmp_path / "names.txt").write_text("Anna")
    given = ["--list", f"de={tmp_path / 'names.txt'}"]
    for arguments, message in (
        (["-o", "list.txt"], "must be .parquet"),
        (["-o", tmp_path / "x.parquet", "--list", "names.txt"], "LANG=FILE"),
        (["-o", tmp_path / "x.parquet"], "at least one source"),
        (["-o", tmp_path / "x.parquet", "--base", "nothing"], "worldwide"),
        (["-o", tmp_path / "x.parquet", "--base", "worldwide", "--min-count", "0"], "min_count"),
        (["-o", tmp_path / "x.parquet", "--corpus", f"de={tmp_path / 'fake.parquet'}"], "fake.parquet: cannot be read"),
        (["-o", tmp_path / "names.txt" / "x.parquet", *given], "names.txt"),
    ):
        done = tamis("metadata", "build", *arguments)
        assert done.returncode == 2
        assert message in " ".join(done.stderr.replace("│", " ").split()), done.stderr
    assert tamis("metadata", "show", "nothing").returncode == 2
