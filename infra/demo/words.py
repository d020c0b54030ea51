"""The captions of the drawn pictures: what is seen, said in nine languages with the agreement each of them asks for.

A caption names the shape's colour, its size unless medium, and the background unless transparent:
"a large red circle on a white background", "un grand cercle rouge sur fond blanc",
"большой красный круг на белом фоне".
"""

from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "arrow", "moon")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "grey", "white")
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Subject:
    """What is drawn. background: a colour, or None where the picture is transparent around the shape."""

    colour: str
    shape: str
    size: str
    background: str | None


def _words(keys: tuple[str, ...], text: str) -> dict[str, str]:
    """{key: word} from one word a key, separated by spaces."""
    return dict(zip(keys, text.split(), strict=True))


def _table(keys: tuple[str, ...], text: str) -> dict[str, list[str]]:
    """{key: forms}, as _words; the forms of a word are separated by slashes."""
    return {key: entry.split("/") for key, entry in _words(keys, text).items()}


# Nouns: word/gender (Dutch: m for de, n for het). Adjectives: masculine/feminine (Dutch: with het/with de).
DE_NOUN = _table(SHAPES, "Kreis/m Quadrat/n Dreieck/n Stern/m Herz/n Ring/m Kreuz/n Raute/f Pfeil/m Mond/m")
DE_COLOUR = _words(COLOURS, "rot grün blau gelb orangefarben violett rosafarben braun schwarz grau weiß")
DE_ENDING = {"m": "er", "f": "e", "n": "es"}
DE_SIZE = {"small": "klein", "large": "groß"}
FR_NOUN = _table(SHAPES, "cercle/m carré/m triangle/m étoile/f cœur/m anneau/m croix/f losange/m flèche/f lune/f")
FR_COLOUR = _table(
    COLOURS,
    "rouge/rouge vert/verte bleu/bleue jaune/jaune orange/orange violet/violette rose/rose brun/brune noir/noire "
    "gris/grise blanc/blanche",
)
FR_SIZE = {"small": ("petit ", "petite "), "medium": ("", ""), "large": ("grand ", "grande ")}
ES_NOUN = _table(
    SHAPES, "círculo/m cuadrado/m triángulo/m estrella/f corazón/m anillo/m cruz/f rombo/m flecha/f luna/f"
)
ES_COLOUR = _table(
    COLOURS,
    "rojo/roja verde/verde azul/azul amarillo/amarilla naranja/naranja morado/morada rosa/rosa marrón/marrón "
    "negro/negra gris/gris blanco/blanca",
)
ES_SIZE = {"small": (" pequeño", " pequeña"), "medium": ("", ""), "large": (" grande", " grande")}
IT_NOUN = _table(SHAPES, "cerchio/m quadrato/m triangolo/m stella/f cuore/m anello/m croce/f rombo/m freccia/f luna/f")
IT_COLOUR = _table(
    COLOURS,
    "rosso/rossa verde/verde blu/blu giallo/gialla arancione/arancione viola/viola rosa/rosa marrone/marrone "
    "nero/nera grigio/grigia bianco/bianca",
)
IT_SIZE = {"small": ("piccolo ", "piccola "), "medium": ("", ""), "large": ("grande ", "grande ")}
NL_NOUN = _table(SHAPES, "cirkel/m vierkant/n driehoek/m ster/m hart/n ring/m kruis/n ruit/m pijl/m maan/m")
NL_COLOUR = _table(
    COLOURS,
    "rood/rode groen/groene blauw/blauwe geel/gele oranje/oranje paars/paarse roze/roze bruin/bruine zwart/zwarte "
    "grijs/grijze wit/witte",
)
NL_SIZE = {"small": ("klein ", "kleine "), "medium": ("", ""), "large": ("groot ", "grote ")}
RU_NOUN = _table(SHAPES, "круг/m квадрат/m треугольник/m звезда/f сердце/n кольцо/n крест/m ромб/m стрелка/f луна/f")
RU_STEM = _words(COLOURS, "красн зелён син жёлт оранжев фиолетов розов коричнев чёрн сер бел")
RU_ENDING = {"m": "ый", "f": "ая", "n": "ое", "at": "ом"}
RU_SOFT_ENDING = {"m": "ий", "f": "яя", "n": "ее", "at": "ем"}  # синий
RU_SIZE = {
    "small": {"m": "маленький ", "f": "маленькая ", "n": "маленькое "},
    "medium": {"m": "", "f": "", "n": ""},
    "large": {"m": "большой ", "f": "большая ", "n": "большое "},
}
JA_NOUN = _words(SHAPES, "円 正方形 三角形 星 ハート 輪 十字 ひし形 矢印 月")
JA_COLOUR = _words(COLOURS, "赤い 緑色の 青い 黄色い オレンジ色の 紫色の ピンク色の 茶色の 黒い 灰色の 白い")
JA_SIZE = {"small": "小さな", "medium": "", "large": "大きな"}
ZH_NOUN = _words(SHAPES, "圆形 正方形 三角形 星星 心形 圆环 十字 菱形 箭头 月亮")
ZH_COLOUR = _words(COLOURS, "红色 绿色 蓝色 黄色 橙色 紫色 粉色 棕色 黑色 灰色 白色")
ZH_SIZE = {"small": "小的", "medium": "", "large": "大的"}


def _english(s: Subject) -> str:
    words = " ".join(word for word in (s.size if s.size != "medium" else "", s.colour, s.shape) if word)
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words}" + (f" on a {s.background} background" if s.background else "")


def _german(s: Subject) -> str:
    noun, gender = DE_NOUN[s.shape]
    ending = DE_ENDING[gender]
    size = DE_SIZE[s.size] + ending + " " if s.size != "medium" else ""
    at = f" auf {DE_COLOUR[s.background]}em Hintergrund" if s.background else ""
    return f"{'eine' if gender == 'f' else 'ein'} {size}{DE_COLOUR[s.colour]}{ending} {noun}{at}"


def _french(s: Subject) -> str:
    noun, gender = FR_NOUN[s.shape]
    form = gender == "f"
    at = f" sur fond {FR_COLOUR[s.background][0]}" if s.background else ""
    return f"{'une' if form else 'un'} {FR_SIZE[s.size][form]}{noun} {FR_COLOUR[s.colour][form]}{at}"


def _spanish(s: Subject) -> str:
    noun, gender = ES_NOUN[s.shape]
    form = gender == "f"
    at = f" sobre fondo {ES_COLOUR[s.background][0]}" if s.background else ""
    return f"{'una' if form else 'un'} {noun} {ES_COLOUR[s.colour][form]}{ES_SIZE[s.size][form]}{at}"


def _italian(s: Subject) -> str:
    noun, gender = IT_NOUN[s.shape]
    form = gender == "f"
    at = f" su sfondo {IT_COLOUR[s.background][0]}" if s.background else ""
    # uno before s and a consonant is not needed: no first word here begins so
    return f"{'una' if form else 'un'} {IT_SIZE[s.size][form]}{noun} {IT_COLOUR[s.colour][form]}{at}"


def _dutch(s: Subject) -> str:
    noun, gender = NL_NOUN[s.shape]
    inflected = gender != "n"
    at = f" op een {NL_COLOUR[s.background][1]} achtergrond" if s.background else ""
    return f"een {NL_SIZE[s.size][inflected]}{NL_COLOUR[s.colour][inflected]} {noun}{at}"


def _russian(s: Subject) -> str:
    def adjective(colour: str, form: str) -> str:
        return RU_STEM[colour] + (RU_SOFT_ENDING if colour == "blue" else RU_ENDING)[form]

    noun, gender = RU_NOUN[s.shape]
    at = f" на {adjective(s.background, 'at')} фоне" if s.background else ""
    return f"{RU_SIZE[s.size][gender]}{adjective(s.colour, gender)} {noun}{at}"


def _japanese(s: Subject) -> str:
    at = f"{JA_COLOUR[s.background]}背景の" if s.background else ""
    return f"{at}{JA_SIZE[s.size]}{JA_COLOUR[s.colour]}{JA_NOUN[s.shape]}"


def _chinese(s: Subject) -> str:
    at = f"{ZH_COLOUR[s.background]}背景上的" if s.background else ""
    return f"{at}{ZH_SIZE[s.size]}{ZH_COLOUR[s.colour]}{ZH_NOUN[s.shape]}"


CAPTION_OF = {
    "en": _english,
    "de": _german,
    "fr": _french,
    "es": _spanish,
    "it": _italian,
    "nl": _dutch,
    "ru": _russian,
    "ja": _japanese,
    "zh": _chinese,
}


def captions(subject: Subject) -> dict[str, str]:
    """{BCP 47 tag: caption} in every language here."""
    return {tag: say(subject) for tag, say in CAPTION_OF.items()}
