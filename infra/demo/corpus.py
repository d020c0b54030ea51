"""Build the demo's crawl: a link table, the files behind the links, and how a server answers for each link.

    python infra/demo/corpus.py OUT                      # the Tux Paint stamps (Debian package, downloaded once)
    python infra/demo/corpus.py OUT --synthetic 400      # drawn pictures: no download
    python infra/demo/corpus.py OUT --dirt web           # captions as bad as unfiltered crawls have them; or none

writes
    OUT/links.parquet           what a pipeline sees: one row per (picture, language)
                                url, caption, language (BCP 47), category, split (train | val), audio_url
    OUT/routes.json             {path: {file, type, status, location, headers, short, cut}}, for server.py
    OUT/files/                  the bodies, named by content
    OUT/truth.parquet           what was done to each URL, for tests: url, label, picture, copy_of (a URL or null)
    OUT/truth_captions.parquet  the damaged captions: url, language, label, caption (the true one)
    OUT/corpus.json             the stamp: arguments and counts; written last

URLs are opaque: nothing can be told from them. Every choice is a keyed hash, so that the same arguments give the same
bytes. routes.json does not know the port: only links.parquet holds the base URL.
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import dirt
from crawl import LINKS, SEED, TRUTH, TRUTH_CAPTIONS, Crawl, copy_route, damaged_route, write_json, write_table
from keyed import pick, ranked, unit
from package import PackageError, fetch
from picture import Picture
from pictures import draw_pictures
from stamps import read_stamps

CORPUS_VERSION = 1  # raise it where the same arguments give other bytes: what was built before is built again
BASE_URL = "http://127.0.0.1:8071"  # server.py listens there unless told otherwise
VAL_SHARE = 0.1
# Taken first where --limit-languages asks for few; the others follow in the order of their tags.
FIRST_LANGUAGES = (
    "en",
    "de",
    "fr",
    "es",
    "ru",
    "ja",
    "zh",
    "zh-CN",
    "it",
    "nl",
    "pt",
    "pl",
    "ko",
    "hi",
    "tr",
    "uk",
    "el",
)

URL_LABELS = ("clean", *dirt.DAMAGE_SHARES, *dirt.COPY_SHARES)


def split_of(families: set[str], share: float = VAL_SHARE) -> dict[str, str]:
    """{family: train | val}; share: of val. By the family's own hash, so that more pictures do not move it; of two or
    more families at least one is in val."""
    rank = {family: unit(SEED, "split", family) for family in families}
    lowest = min(rank, key=lambda family: rank[family])
    return {
        family: "val" if place < share or (family == lowest and len(rank) > 1) else "train"
        for family, place in rank.items()
    }


def limit(pictures: list[Picture], num_pictures: int | None, num_languages: int | None) -> list[Picture]:
    """A sample of the pictures and of the languages; pictures left without a caption go."""
    if num_pictures is not None:
        chosen = set(ranked((picture.name for picture in pictures), SEED, "limit")[:num_pictures])
        pictures = [picture for picture in pictures if picture.name in chosen]
    tags = {tag for picture in pictures for tag in picture.captions}
    order = [tag for tag in FIRST_LANGUAGES if tag in tags] + sorted(tags - set(FIRST_LANGUAGES))
    keep = set(order[:num_languages])
    return [
        dataclasses.replace(
            picture,
            captions={tag: text for tag, text in sorted(picture.captions.items()) if tag in keep},
            audio={tag: path for tag, path in sorted(picture.audio.items()) if tag in keep},
        )
        for picture in pictures
        if keep & set(picture.captions)
    ]


def add_links(crawl: Crawl, pictures: list[Picture]) -> None:
    """Rows for all pictures and copies, with what was done to each URL; captions are still whole."""
    split = split_of({picture.family for picture in pictures})
    is_dirty = crawl.level != "none"
    damage = dirt.damage_of((picture.name for picture in pictures), SEED) if is_dirty else {}
    by_name = {picture.name: picture for picture in pictures}
    url_of = {
        picture.name: crawl.base_url + damaged_route(crawl, picture, damage.get(picture.name, "clean"))
        for picture in pictures
    }
    listed = [(url_of[picture.name], damage.get(picture.name, "clean"), picture, None) for picture in pictures]
    clean = [name for name in by_name if name not in damage]
    near = [name for name in clean if dirt.smallest_side_px(by_name[name].data) >= dirt.NEAR_COPY_MIN_SIDE_PX]
    copies = [
        (crawl.base_url + copy_route(crawl, by_name[name], label), label, by_name[name], url_of[name])
        for label, name in (dirt.copies_of(clean, near, len(pictures), SEED) if is_dirty else ())
    ]
    audio = {
        (picture.name, tag): crawl.base_url
        + crawl.route("audio", picture.name, tag, file=crawl.store_file(path), type=f"audio/{path.suffix[1:]}")
        for picture in pictures
        for tag, path in picture.audio.items()
    }
    for url, label, picture, original in [*listed, *copies]:
        crawl.truth.append({"url": url, "label": label, "picture": picture.name, "copy_of": original})
        for tag, caption in picture.captions.items():
            spoken = audio.get((picture.name, tag))
            row = (url, caption, tag, picture.category, split[picture.family], spoken)
            crawl.links.append(dict(zip(LINKS.names, row, strict=True)))


def damage_captions(crawl: Crawl, pictures: list[Picture]) -> None:
    """Damage some captions of undamaged pictures: a row has at most one defect.

    A swapped caption is that of another family's picture, in the same language and on the same side of the split.
    """
    family = {picture.name: picture.family for picture in pictures}
    name_of = {entry["url"]: str(entry["picture"]) for entry in crawl.truth}
    clean = {entry["url"] for entry in crawl.truth if entry["label"] == "clean"}
    rows = {f"{name_of[row['url']]}|{row['language']}": row for row in crawl.links if row["url"] in clean}
    captions: dict[tuple[str | None, str | None], set[tuple[str, str]]] = defaultdict(set)
    for row in crawl.links:
        captions[row["language"], row["split"]].add((str(row["caption"]), family[name_of[row["url"]]]))
    for key, label in dirt.caption_damage_of(rows, len(crawl.links), SEED, crawl.level).items():
        row, caption = rows[key], str(rows[key]["caption"])
        if label == "swapped":
            own = family[name_of[row["url"]]]
            pool = captions[row["language"], row["split"]]
            others = sorted({text for text, whose in pool if whose != own and text != caption})
            if not others:  # no other picture speaks this language
                continue
            row["caption"] = pick(others, SEED, "swap", key)
        else:
            row["caption"] = dirt.damaged_caption(label, caption, key)
        truth = (row["url"], row["language"], label, caption)
        crawl.damaged.append(dict(zip(TRUTH_CAPTIONS.names, truth, strict=True)))


def summary(crawl: Crawl, pictures: list[Picture]) -> dict[str, object]:
    """Counts for the stamp and for the screen."""
    urls = Counter(str(entry["label"]) for entry in crawl.truth)
    label_of = {entry["url"]: str(entry["label"]) for entry in crawl.truth}
    rows = Counter(label_of[row["url"]] for row in crawl.links)
    return {
        "pictures": len(pictures),
        "languages": len({row["language"] for row in crawl.links}),
        "rows": len(crawl.links),
        "rows_val": sum(row["split"] == "val" for row in crawl.links),
        "rows_with_audio": sum(row["audio_url"] is not None for row in crawl.links),
        "urls": len(crawl.truth),
        "urls_by_label": {label: urls[label] for label in URL_LABELS},
        "rows_by_label": {label: rows[label] for label in URL_LABELS},
        "captions_by_label": dict(sorted(Counter(str(entry["label"]) for entry in crawl.damaged).items())),
    }


def build(
    out: Path,
    *,
    base_url: str = BASE_URL,
    synthetic: int | None = None,
    package: Path | None = None,
    limit_pictures: int | None = None,
    limit_languages: int | None = None,
    level: str = "light",
) -> dict[str, object]:
    """Build the corpus in `out`, unless the same one is there, and return its counts and whether it was `reused`.
    Raises PackageError where the pictures cannot be had, ValueError for a limit below 1."""
    if any(n is not None and n < 1 for n in (synthetic, limit_pictures, limit_languages)):
        raise ValueError("a corpus needs at least one picture and one language")
    base_url = base_url.rstrip("/")
    arguments = {
        "version": CORPUS_VERSION,
        "base_url": base_url,
        "synthetic": synthetic,
        "limit_pictures": limit_pictures,
        "limit_languages": limit_languages,
        **({} if level == "light" else {"dirt": level}),
    }
    stamp = out / "corpus.json"
    if stamp.exists():
        built: dict[str, object] = json.loads(stamp.read_text(encoding="utf-8"))
        if built.pop("arguments") == arguments:
            return built | {"reused": True}
        stamp.unlink()
    source = draw_pictures(synthetic, SEED) if synthetic else read_stamps(fetch(out, package))
    pictures = limit(source, limit_pictures, limit_languages)
    crawl = Crawl(out, base_url, level)
    add_links(crawl, pictures)
    damage_captions(crawl, pictures)
    write_table(out / "links.parquet", crawl.links, LINKS)
    write_table(out / "truth.parquet", crawl.truth, TRUTH)
    write_table(out / "truth_captions.parquet", crawl.damaged, TRUTH_CAPTIONS)
    write_json(out / "routes.json", {"routes": crawl.routes})
    counts = summary(crawl, pictures)
    write_json(stamp, counts | {"arguments": arguments})
    return counts | {"reused": False}


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the demo's crawl: links, files and routes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--base-url", default=BASE_URL, help="what the links begin with (default %(default)s)")
    parser.add_argument("--synthetic", type=int, metavar="N", help="draw N pictures instead of getting the package")
    parser.add_argument("--package", type=Path, metavar="FILE.deb", help="the package, where it is already here")
    parser.add_argument("--limit-pictures", type=int, metavar="N")
    parser.add_argument("--limit-languages", type=int, metavar="N", help="English is the first")
    parser.add_argument("--dirt", dest="level", choices=dirt.LEVELS, default="light", help="(default %(default)s)")
    args = parser.parse_args()
    try:
        counts = build(**vars(args))
    except (PackageError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.out}: {counts['rows']} links, {counts['urls']} URLs, {counts['languages']} languages", end="")
    print(" (already there)" if counts["reused"] else "")
    for name in ("urls_by_label", "captions_by_label"):
        print(f"  {name}: {json.dumps(counts[name])}")


if __name__ == "__main__":
    main()
