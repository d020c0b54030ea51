"""`tamis metadata`: lists of metadata entries, built and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from flows.explained import explained, fail

app = typer.Typer(help="Lists of metadata entries: what MetaCLIP balances by.", no_args_is_help=True)


def _tagged(values: list[str] | None) -> list[tuple[str | None, Path]]:
    """`de=FILE` or `FILE`."""
    found: list[tuple[str | None, Path]] = []
    for value in values or []:
        tag, mark, path = value.partition("=")
        found.append((tag, Path(path)) if mark and tag.isalpha() and len(tag) <= 8 else (None, Path(value)))
    return found


@app.command()
def build(
    output: Annotated[Path, typer.Option("-o", "--output", help="The list to write (.parquet).")],
    base: Annotated[
        list[str] | None, typer.Option("--base", help="A list to begin with: a file, or worldwide.")
    ] = None,
    wordnet: Annotated[
        list[str] | None,
        typer.Option("--wordnet", help="[LANG=]PATH: WordNet's folder, an OMW .tab file, a WN-LMF .xml[.gz|.xz]."),
    ] = None,
    plain: Annotated[list[str] | None, typer.Option("--list", help="LANG=FILE: one entry a line.")] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="[LANG=]FILE: texts whose words and pairs are counted; lines or Parquet."),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of a Parquet corpus with the texts.")] = "text",
    language_column: Annotated[str | None, typer.Option(help="Column of a Parquet corpus with the languages.")] = None,
    page_views: Annotated[
        list[Path] | None, typer.Option("--page-views", help="Wikimedia page views (domain title views), summed.")
    ] = None,
    languages: Annotated[str | None, typer.Option(help="Only these, such as en,de,ja.")] = None,
    numbers: Annotated[bool, typer.Option(help="The numbers 0 to 99 in every language.")] = True,
    min_count: Annotated[int, typer.Option(help="Occurrences of a word.")] = 100,
    word_share: Annotated[float, typer.Option(help="Part of these words, the most frequent first.")] = 1.0,
    max_words: Annotated[int, typer.Option(help="Words of a language.")] = 251_465,
    min_pair_count: Annotated[int, typer.Option(help="Occurrences of a pair of words.")] = 10,
    min_pmi: Annotated[float, typer.Option(help="Pointwise mutual information of a pair, in bits.")] = 6.0,
    max_pairs: Annotated[int, typer.Option(help="Pairs of a language.")] = 100_646,
    min_views: Annotated[int, typer.Option(help="Views of a title.")] = 70,
    max_titles: Annotated[int, typer.Option(help="Titles of a language.")] = 61_235,
    licence: Annotated[
        list[str] | None, typer.Option("--licence", help="FILENAME=LICENCE, recorded where the file does not say it.")
    ] = None,
) -> None:
    """Build a list from wordnets, corpora, page views and plain lists; counts, sources and licences are recorded."""
    from curation.metadata.build import BuildOptions
    from curation.metadata.build import build as make
    from curation.metadata_lists import save

    if output.suffix != ".parquet":
        raise typer.BadParameter(f"{output}: the ending must be .parquet", param_hint="--output")
    lists = [(tag, path) for tag, path in _tagged(plain) if tag is not None]
    if len(lists) != len(plain or []):
        raise typer.BadParameter("a list needs its language: LANG=FILE", param_hint="--list")
    with explained():
        try:
            options = BuildOptions(
                numbers=numbers,
                base=base or [],
                wordnets=_tagged(wordnet),
                lists=lists,
                corpora=_tagged(corpus),
                text_column=text_column,
                language_column=language_column,
                page_views=page_views or [],
                languages=languages.split(",") if languages else [],
                min_count=min_count,
                word_share=word_share,
                max_words=max_words,
                min_pair_count=min_pair_count,
                min_pmi=min_pmi,
                max_pairs=max_pairs,
                min_views=min_views,
                max_titles=max_titles,
                licences=dict(each.split("=", 1) for each in licence or [] if "=" in each),
            )
            metadata = make(options, lambda line: print(line, flush=True))
        except ValidationError:
            raise
        except (ValueError, FileNotFoundError) as error:
            fail(str(error), 2)
        save(metadata, output)
        print(f"{metadata.table.num_rows:,} entries in {len(metadata.languages)} languages: {output}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A list: a file or folder, or the name of a packaged one.")] = "worldwide",
) -> None:
    """What a list holds: entries of each language, sources, licences."""
    from curation.metadata_lists import load_metadata

    with explained():
        try:
            metadata = load_metadata(name)
        except (ValueError, FileNotFoundError) as error:
            fail(str(error), 2)
    print(f"{metadata.table.num_rows:,} entries in {len(metadata.languages)} languages")
    print("  " + ", ".join(f"{tag} {len(ids):,}" for tag, ids in metadata.languages.items()))
    for source in metadata.about["sources"]:
        print(f"{source['name']}: {source['entries']:,} entries; licence: {source['licence']}")
