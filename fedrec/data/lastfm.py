"""Reader of Last.fm (HetRec 2011): the artists that each user listened to, and how often.

The tags are left out: users gave them, so they are as private as the listening. So are the friendships, each of which
is private data of two people; `fedrec.social.edges` reads them for a simulation. Source: Cantador, Brusilovsky, Kuflik
(https://grouplens.org/datasets/hetrec-2011/).
"""

from pathlib import Path

import polars as pl

from fedrec.data.events import typed_events
from fedrec.data.ids import ids
from fedrec.data.log import Log
from fedrec.data.tables import need, need_columns, read_delimited


def read_lastfm(folder: Path) -> Log:
    """Read `user_artists.dat` (the number of plays is the rating) and `artists.dat`. The log has no order."""
    need(folder, "user_artists.dat", "artists.dat")
    plays, artists = (read_delimited(folder / name, "\t") for name in ("user_artists.dat", "artists.dat"))
    need_columns(plays, folder / "user_artists.dat", "userID", "artistID", "weight")
    need_columns(artists, folder / "artists.dat", "id", "name")
    plays = plays.rename({"userID": "user_id", "artistID": "item_id", "weight": "rating"})
    items = pl.DataFrame([ids(artists["id"], folder / "artists.dat").alias("item"), artists["name"].alias("title")])
    return Log(str(folder), typed_events(plays, folder / "user_artists.dat"), items=items)
