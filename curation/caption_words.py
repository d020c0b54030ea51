"""Lists of English words that `caption_parser` knows: closed classes, and common words of captions that mislead."""

from __future__ import annotations


def _of(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _of(
    "a an the this that these those some any each every another no his her its their my your our several many few both "
    "all one two three four five six seven eight nine ten eleven twelve dozen hundred"
)
PREPOSITIONS = _of(
    "in on at of for with by from into onto over under above below behind beside besides near between inside outside "
    "around through across along against about like without within upon toward towards before after during next "
    "among amid beneath underneath atop past off up down out per via opposite aboard"
)
CONJUNCTIONS = _of("and or but nor as than while when where if because so then plus & whether that though although")
PRONOUNS = _of(
    "it he she they we you i me him them us who whom whose which what itself himself herself themselves there here "
    "something someone anything anyone everything everyone nothing nobody other others it's that's there's i'm let's"
)
MODALS = _of("do does did can could will would may might must should shall cannot can't don't doesn't won't let please")
"""Before a verb in its base form."""
AUXILIARIES = MODALS | _of("is are was were be been being am has have had isn't aren't gets got get")
"""Before a verb or a noun."""
ADVERBS = _of(
    "very too also just now only not never always really quite still almost nearly often usually together away back "
    "forward again soon later more most less least much even ever yet today highly well up-close close-up"
)
CLOSED = DETERMINERS | PREPOSITIONS | CONJUNCTIONS | PRONOUNS | AUXILIARIES | _of("to")
NO_RELATION = CONJUNCTIONS | PRONOUNS | _of("like of for about per via called")
"""Words between two things that make no relation of them of which the two sides could be exchanged."""
EVEN = _of("and beside besides near with opposite next by among") | {"next to", "standing with", "sitting with"}
"""Relations that hold the other way round as well."""
ADJECTIVES = _of(
    "red orange yellow green blue purple violet pink brown black white grey gray golden silver beige turquoise crimson "
    "big large small little tiny huge giant tall short long wide narrow thick thin fat slim round square flat curved "
    "wooden metal plastic glass stone leather woolen silk paper cotton rubber steel iron brass copper concrete brick "
    "old new young ancient modern antique vintage wet dry open closed empty full broken clean dirty fresh ripe raw "
    "cooked hot cold warm cool soft hard smooth rough sharp loud quiet fast slow bright dark light pale deep shallow "
    "high low heavy strong weak rich poor cute pretty beautiful lovely nice good bad great best better ugly happy sad "
    "mad angry funny silly scary wild tame domestic wooly fluffy furry hairy fuzzy shiny dusty rusty muddy snowy sunny "
    "cloudy rainy windy foggy busy crowded colorful colourful cheerful peaceful striped spotted double single left "
    "right upper lower front rear male female adult baby electric classical classic traditional typical common rare "
    "famous popular local national international american canadian british english french german italian spanish "
    "chinese japanese korean indian african european mexican russian dutch swiss greek roman asian medieval royal "
    "different same various own bare whole half other main special simple plain fancy sleepy hungry tired lazy tasty "
    "delicious sweet sour bitter spicy spiky juicy rotten seedless first second third last early late free safe "
    "dangerous tough military public private wonderful amazing perfect real fake true false asleep awake alone ready "
    "available ready-made handmade homemade big-eared long-haired short-haired"
)
ADJECTIVE_ENDINGS = ("ful", "less", "ous", "ible", "able", "ical")
NOUNS_IN_ADJECTIVE_ENDINGS = _of("table vegetable cable timetable turntable spoonful handful cupful")
VERBS = _of(
    "sits stands runs walks jumps sleeps eats drinks flies swims hangs holds wears rides drives plays looks watches "
    "shows carries pulls pushes throws catches kicks hits reads writes cooks cuts climbs crosses covers contains "
    "leads lies leans rests grows makes takes gives brings keeps leaves moves means resembles says tells comes goes "
    "uses has helps works lives feeds chases follows faces fills floats lands protects captures "
    "sit stand run sleep eat drink fly swim hang hold wear ride drive play look watch carry pull push throw catch "
    "read write climb cross contain lie lean rest grow make take give bring keep move mean say tell come go stop "
    "sat stood ran slept ate drank flew swam hung held wore rode drove lay grew made took gave brought kept came went "
    "seen taken made shown held hung worn driven eaten grown written drawn known called named used"
)
"""Finite forms and irregular participles that follow a noun in captions more often than they are one."""
NOUNS_IN_ING = _of(
    "building painting drawing ring king wing string spring thing ceiling earring evening morning clothing wedding "
    "pudding dumpling duckling gosling sling swing sibling sterling being lightning icing frosting railing awning "
    "flooring siding crossing landing parking shopping dressing stuffing topping filling viking pink herring starling "
    "seedling sapling bowling wiring bedding lettering writing embroidery engraving carving etching housing lining "
    "anything everything nothing something ping bring sing boxing fencing skiing sailing"
)
NOUNS_IN_ED = _of("bed shed seed weed sled reed seaweed bobsled steed breed speed creed flowerbed linseed")
NOUNS = NOUNS_IN_ING | NOUNS_IN_ED
MEASURES = _of(
    "bunch pair head piece slice cup glass bowl plate bottle bag box set lot lots group kind type sort cluster view "
    "picture photo photograph image illustration drawing painting portrait close-up closeup sketch cartoon number "
    "couple row pile stack part side top bottom front back end middle rest collection variety series handful crowd "
    "herd flock pack school team line stand field shot scene kinds types pieces "
    "slices cups rows pairs piles stacks groups bunches photos pictures images views"
)
"""Of these, in `a bunch of grapes`, it is the thing behind `of` that is shown."""
NOT_TAGS = _of(
    "one thing way side top bottom front back left right part end middle time day kind type sort lot bit number "
    "picture photo photograph image illustration close-up closeup view shot scene background foreground name direction "
    "step move edge center centre place example stuff piece it us"
)
PLURALS = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "leaves": "leaf", "loaves": "loaf", "knives": "knife", "wolves": "wolf",
    "wives": "wife", "halves": "half", "shelves": "shelf", "calves": "calf", "scarves": "scarf", "hooves": "hoof",
    "thieves": "thief", "lives": "life", "firemen": "fireman", "policemen": "policeman", "snowmen": "snowman",
    "oxen": "ox", "dice": "die", "cacti": "cactus", "buses": "bus", "gases": "gas", "lenses": "lens",
    "shoes": "shoe", "horses": "horse", "houses": "house", "roses": "rose", "vases": "vase", "noses": "nose",
    "movies": "movie", "cookies": "cookie", "pies": "pie", "ties": "tie", "potatoes": "potato",
    "toes": "toe", "canoes": "canoe", "axes": "axe", "purses": "purse", "nurses": "nurse", "hoses": "hose",
    "zombies": "zombie", "brownies": "brownie", "selfies": "selfie", "goalies": "goalie",
}  # fmt: skip
ONLY_PLURAL = _of(
    "glasses sunglasses scissors pants trousers jeans shorts clothes stairs binoculars tongs pliers headphones pajamas "
    "lens gas bus christmas atlas canvas series species asparagus hummus chess swiss molasses goggles tweezers mars "
    "athens paris texas las claus dreidels tights leggings overalls fireworks news mathematics physics"
)
"""Nouns that keep their s."""
