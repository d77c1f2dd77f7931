"""How programs spell names of columns, ids and a missing value. The standard library alone: devices read it, too."""

import unicodedata
from collections.abc import Sequence

SYNONYMS: dict[str, str] = {
    "user_id": "user uid userid reviewerid customer customerid member memberid account accountid visitor visitorid "
    "session sessionid person personid profile profileid client clientid reader readerid listener patient",
    "item_id": "item iid itemid movie movieid asin parentasin product productid sku article articleid book bookid isbn "
    "song songid track trackid artist artistid business businessid game gameid video videoid news newsid content "
    "contentid doc docid document documentid place placeid location locationid venue venueid recipe recipeid id",
    "rating": "stars score overall value weight preference ratingvalue grade",
    "timestamp": "time ts date datetime createdat created unixtime unixreviewtime eventtime ratedat when moment",
    "title": "name label movietitle itemname productname headline",
}
"""Names that other logs use for a column, in lower case without separators."""

PLAIN = ("", "\\n", "nan", "null", "n/a", "<na>", "#n/a")
"""Marks of a missing value in text and labels, where no real value has this spelling."""
OF_IDS = (*PLAIN, "na", "none")
"""Among ids."""
MARKS = (*OF_IDS, "n.a.", "nil", "-", "--", "?", ".", "unknown", "missing", "undefined", "not available")
"""Among numbers and dates."""


def likely(name: str, columns: Sequence[str]) -> str | None:
    """Return the column whose name other logs use for `name`, or None."""
    plain = {"".join(sign for sign in column.lower() if sign.isalnum()): column for column in reversed(columns)}
    known = [name.replace("_", ""), *SYNONYMS.get(name, "").split()]
    return next((plain[other] for other in known if other in plain), None)


def canonical_id(given: object) -> str:
    """Spell one typed id as the ids of a log are spelled, as text."""
    return unicodedata.normalize("NFC", str(given).strip())
