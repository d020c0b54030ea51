"""Boilerplate patterns: what they must hit, and true captions that they must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.signals.boilerplate import is_boilerplate, is_file_name

FILE_NAMES = """IMG_1234.jpg|DSC01234.JPG|DSC_0042|IMG_20190501_120301|P1010012|PXL_20210101_120000|image001.png
my holiday (3).jpeg|screenshot_12.png|Screenshot 2020-01-02 at 10.11.12|product-123-large
wp-content/uploads/2019/05/cat.jpg|https://example.org/a|www.example.org|/static/img/a|banner_3
red-shoes-1234-300x200|d41d8cd98f00b204e9800998ecf8427e|123e4567-e89b-12d3-a456-426614174000
photo-1519125323398-675f0ddb6308|brochure.pdf|C:\\pictures\\cat.bmp""".replace("\n", "|").split("|")

BOILERPLATE = """click here|Click to enlarge|Click on the image to enlarge|image|An image|untitled|Untitled-1
thumbnail|Photo by admin|Photo by Jane Doe|null|N/A|undefined|640x480|1200 x 800 px|Loading...
Share on Facebook|Follow us on Twitter|Advertisement|Sponsored|Copyright 2009 All rights reserved.
© 2015 Example Ltd|Buy now! Free shipping on all orders|Shop now|logo|Company logo|Site Logo|icon
avatar|No image available|Image not found|image coming soon|placeholder|Alt text|no caption
Read more|Read more about our offers|View larger image|Please enable JavaScript to view this page
We use cookies to improve your experience|Back to top|Add to cart|50% off everything|Previous|Next
search|Profile picture|Facebook|Instagram icon|2009/05/12|1 of 10|...|?|{{title}}|[object Object]
lorem ipsum dolor sit amet|Image credit: NASA|Source: Wikipedia|Posted by admin|page not found
sans titre|Bild 12|Foto 3|Figure 4|Page 12|"Untitled"|404 not found|Sign in|Featured image
loading image|quick view|Out of stock""".replace("\n", "|").split("|")

CAPTIONS = """A logo of a bakery|A screenshot of a spreadsheet program|An image of a dog on a beach
Photo of the old town hall|Arrow|Heart|7|12|A map of Paris|Map|Button|Home|Dog|Sun|Penguin
A picture of my family in 1920|Click beetle on a leaf|Next to the river stands a mill|The number 12
Route 66 sign|Apollo 11 launch|Boeing 747|A share of the pie|Sale of the century: a market stall
Cookies on a plate|Advertisement for soap from 1910, lithograph|Facebook headquarters in Menlo Park
Loading a truck with hay|An undefined shape in fog|The copyright office, Washington
A page of a medieval manuscript|Icon of Saint George, Novgorod school|Null island on a globe|1/2
Searching for shells|Previous owners of the house|Banner year for apples
Photograph by lamplight of a very old woman reading a letter|A. Smith|U.S. flag|St. Louis arch
Mr. and Mrs. Jones|The end.|Empty street|Playing cards|Top of the mountain|1950 Ford
Menu of a restaurant|x|犬|пингвин""".replace("\n", "|").split("|")


@pytest.mark.parametrize("text", FILE_NAMES)
def test_file_names(text: str) -> None:
    assert is_file_name(text)
    assert is_boilerplate(text)


@pytest.mark.parametrize("text", BOILERPLATE)
def test_boilerplate(text: str) -> None:
    assert is_boilerplate(text)


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions(text: str) -> None:
    assert not is_boilerplate(text)
    assert not is_file_name(text)


def test_real_captions_are_left_alone() -> None:
    lines = (Path(__file__).parents[1] / "data" / "tux_captions.tsv").read_text().splitlines()
    captions = [line.split("\t")[1] for line in lines if not line.startswith("#")]
    assert [caption for caption in captions if is_boilerplate(caption) and caption != "Null."] == []


def test_long_texts_cost_no_time() -> None:
    for text in ("a" * 100_000, "a_" * 124, "photo by " * 27, "1 " * 124, ". " * 124, "/a" * 120):
        is_boilerplate(text)
