"""Sources of public datasets: the publisher's files, checksum, licence and citation. Nothing is mirrored here.

A checksum is listed only if the publisher gives one (GroupLens: `.zip.md5` next to each fixed MovieLens archive).
Without one, the first download is pinned in a file next to the data (`fedrec.data.download`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """One file of a publisher. `checksum` is "md5:..." or "sha256:..." as published, or None."""

    url: str
    checksum: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Source:
    """One dataset of a publisher.

    Attributes:
        megabytes: approximate size of the download; None where unknown.
        licence: summary of the terms; the text itself is at `licence_url`.
    """

    name: str
    about: str
    files: tuple[Remote, ...]
    licence: str
    licence_url: str
    citation: str
    megabytes: float | None = None


_MOVIELENS = "https://files.grouplens.org/datasets/movielens"
_MOVIELENS_LICENCE = (
    "Research use, with acknowledgement. No redistribution and no commercial use without permission of GroupLens; no "
    "statement that the University of Minnesota or GroupLens endorses you; no warranty."
)
_HARPER = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on "
    "Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
_MOVIELENS_SETS = {
    "ml-100k": ("100,000 ratings of 943 people", 5, "0e33842e24a9c977be4e0107933c0723", "ml-100k-README.txt"),
    "ml-1m": ("1 million ratings of 6,040 people", 6, "c4d9eecfca2ab87c1945afe126590906", "ml-1m-README.txt"),
    "ml-10m": ("10 million ratings of 72,000 people", 66, "ce571fd55effeba0271552578f2648bd", "ml-10m-README.html"),
    "ml-20m": ("20 million ratings of 138,000 people", 199, "cd245b17a1ae2cc31bb14903e1204af3", "ml-20m-README.html"),
    "ml-25m": ("25 million ratings of 162,000 people", 262, "6b51fb2759a8657d3bfcbfc42b592ada", "ml-25m-README.html"),
    "ml-32m": ("32 million ratings of 201,000 people", 239, "d472be332d4daa821edc399621853b57", "ml-32m-README.html"),
    "ml-latest-small": ("100,000 ratings, changes over time", 1, None, "ml-latest-small-README.html"),
    "ml-latest": ("33 million ratings, changes over time", 335, None, "ml-latest-README.html"),
}

_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
_AMAZON_CATEGORIES = """
    All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive Baby_Products Beauty_and_Personal_Care
    Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards
    Grocery_and_Gourmet_Food Handmade_Products Health_and_Household Health_and_Personal_Care Home_and_Kitchen
    Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products
    Patio_Lawn_and_Garden Pet_Supplies Software Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement
    Toys_and_Games Video_Games
"""


def _movielens(name: str) -> Source:
    about, megabytes, md5, readme = _MOVIELENS_SETS[name]
    return Source(
        name,
        f"MovieLens: {about}",
        (Remote(f"{_MOVIELENS}/{name}.zip", f"md5:{md5}" if md5 else None),),
        _MOVIELENS_LICENCE,
        f"{_MOVIELENS}/{readme}",
        _HARPER,
        megabytes,
    )


def _amazon(category: str) -> Source:
    return Source(
        f"amazon-2023-{category.lower().replace('_', '-')}",
        f"Amazon reviews 2023, {category}: ratings without text, and the items",
        (
            Remote(f"{_AMAZON}/benchmark/0core/rating_only/{category}.csv.gz"),
            Remote(f"{_AMAZON}/raw/meta_categories/meta_{category}.jsonl.gz"),
        ),
        "Given out for research by the McAuley Lab (UCSD); no licence is stated, and the texts belong to others. Ask "
        "before any other use.",
        "https://amazon-reviews-2023.github.io/",
        "Yupeng Hou, Jiacheng Li, Zhankui He, An Yan, Xiusi Chen, Julian McAuley. 2024. Bridging Language and Items "
        "for Retrieval and Recommendation. arXiv:2403.03952",
    )


_OTHERS = (
    Source(
        "lastfm",
        "Last.fm (HetRec 2011): who listens to which artist, 1,892 people",
        (Remote("https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip"),),
        "Non-commercial use, with acknowledgement of Last.fm and of the HetRec 2011 workshop.",
        "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-readme.txt",
        "Ivan Cantador, Peter Brusilovsky, Tsvi Kuflik. 2011. Second Workshop on Information Heterogeneity and Fusion "
        "in Recommender Systems (HetRec 2011). RecSys 2011",
        3,
    ),
    Source(
        "gowalla",
        "Gowalla (SNAP): 6.4 million check-ins at places",
        (Remote("https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz"),),
        "Given out for research by Stanford's SNAP; no licence is stated. Ask before any other use.",
        "https://snap.stanford.edu/data/loc-gowalla.html",
        "Eunjoon Cho, Seth A. Myers, Jure Leskovec. 2011. Friendship and Mobility: User Movement in Location-Based "
        "Social Networks. KDD 2011",
        100,
    ),
)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (*map(_movielens, _MOVIELENS_SETS), *_OTHERS, *map(_amazon, _AMAZON_CATEGORIES.split()))
}
"""Datasets by name that `fedrec data get` downloads."""
