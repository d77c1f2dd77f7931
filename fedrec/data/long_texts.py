"""Generated logs whose items have texts: users like subjects, and a subject has many words.

Each item is about one of `SUBJECTS`, and its description uses words of that subject. The words are real English, so a
pretrained encoder may know that two of them are related; the log itself does not say so. Two logs:

* `paraphrases`: no word of a subject is in two items. Counting words finds nothing that two items share.
* `long-texts`: a description has further sentences that say nothing of its subject, and its two words are drawn at
  random from the subject's, so that a few items share one.

Quality on these logs is evidence for one thing alone: what the meaning of a text is worth where nothing else is known.
Users like a few subjects, some items are more popular than others, and order carries no signal.
"""

from functools import partial

import numpy as np
import polars as pl

from fedrec.data.log import Log
from fedrec.data.shapes import Generate
from fedrec.errors import InputError

SUBJECTS = (
    "violin orchestra symphony cello melody conductor harmony sonata pianist flute chorus opera rhythm trumpet "
    "quartet composer clarinet concerto organist baritone overture drummer harp lullaby ballad soprano tenor jazz "
    "guitarist hymn xylophone banjo accordion percussion choirmaster songwriter serenade minuet saxophone oboe",
    "submarine sailor anchor harbour lighthouse captain voyage schooner tide sailing mast frigate admiral shipwreck "
    "lagoon fishermen dock keel rudder buoy mariner ferry yacht coastguard pier nautical galleon seafarer whaling "
    "canoe regatta steamship wharf trawler helmsman cutlass hull jetty lifeboat maritime",
    "surgeon hospital nurse vaccine diagnosis ambulance patient clinic physician epidemic antibiotic anatomy fever "
    "stethoscope transplant pharmacy scalpel virus tumour therapist midwife dentist cardiology bandage paramedic "
    "radiology anaesthesia infection pediatrician syringe injury remedy immunity insulin psychiatry ward "
    "prescription quarantine wheelchair optician",
    "galaxy telescope astronaut rocket orbit comet planet nebula satellite asteroid cosmonaut eclipse spacecraft "
    "meteor supernova astronomer lunar martian gravity constellation spaceship starlight observatory interstellar "
    "shuttle cosmos saturn jupiter capsule weightless launchpad rover quasar pulsar moonlight airlock zodiac "
    "stargazer extraterrestrial celestial",
    "bakery flour pastry oven baguette dough croissant recipe chef kitchen cinnamon chocolate custard yeast pudding "
    "vanilla caramel pancake gingerbread souffle spatula marzipan biscuit dessert icing sourdough tart muffin "
    "banquet gourmet waffle praline meringue strudel brioche cupcake cookbook pantry whisk almond",
    "glacier avalanche mountaineer summit blizzard alpine sherpa crevasse iceberg snowstorm ridge climber arctic "
    "frostbite peak skier sledge husky tundra penguin antarctic polar igloo snowshoe permafrost ascent cliff "
    "basecamp expedition ravine icicle snowdrift altitude cornice chalet fjord walrus snowfall rucksack himalaya",
    "detective murder clue alibi suspect fingerprint burglar forensic inspector homicide witness blackmail heist "
    "sleuth kidnapper poison ransom culprit interrogation evidence robbery thief smuggler gangster informant "
    "sheriff mystery investigator corpse accomplice pickpocket warrant hostage forgery embezzler mugshot constable "
    "handcuffs underworld fugitive",
    "courtroom lawyer judge verdict jury prosecutor testimony attorney lawsuit acquittal barrister plaintiff "
    "statute trial appeal magistrate defendant bail litigation tribunal clerk solicitor subpoena contract perjury "
    "affidavit counsel notary custody sentencing probation jurisdiction legislation constitutional settlement "
    "arbitration injunction advocate gavel indictment",
    "garden orchid gardener greenhouse tulip compost pruning seedling hedge blossom rosebush lawn trellis bulb "
    "shrub botanist daffodil meadow wildflower petal hydrangea watering topiary lavender perennial fern peony weeds "
    "nursery lilac marigold ivy pollination soil conservatory magnolia sunflower begonia orchard honeysuckle",
    "dragon wizard sorcerer elf enchanted spell goblin unicorn dwarf prophecy potion witch troll fairy amulet "
    "phoenix magical necromancer griffin warlock giant runes mermaid ogre wand basilisk cauldron druid centaur "
    "changeling enchantress familiar alchemist talisman gnome incantation sphinx hobgoblin leprechaun oracle",
    "stadium goalkeeper football penalty midfielder referee league striker tournament coach offside champion "
    "halftime dribble substitute playoff trophy athlete supporter kickoff defender relegation hattrick fullback "
    "winger scoreboard locker soccer teammates fixture cleats tackle captaincy stoppage crossbar header jersey "
    "grandstand cup pitch",
    "battlefield soldier infantry trench artillery general regiment ceasefire sniper platoon barracks grenade "
    "colonel armistice cavalry veteran siege battalion bayonet warfare conscript bunker paratrooper ambush commando "
    "garrison medal lieutenant rifle brigade invasion tank sergeant shrapnel minefield camouflage fortress "
    "resistance reconnaissance frontline",
    "stock investor banker dividend speculator bankruptcy inflation trader bond mortgage accountant merger broker "
    "currency tycoon audit entrepreneur shareholder startup profit recession loan brokerage treasury economist tax "
    "auction monopoly subsidy invoice portfolio derivatives interest liquidity millionaire boardroom commodity "
    "exchange pension takeover",
    "computer hacker software algorithm programmer database robot keyboard encryption internet server malware "
    "processor laptop cyber network debugging firewall automation microchip android download password browser "
    "silicon bandwidth digital firmware mainframe coder compiler website pixel modem bytes motherboard "
    "smartphone cursor broadband transistor",
    "castle knight king throne medieval jousting queen crown prince dungeon chivalry monarch baron sword moat "
    "squire feudal coronation heraldry duchess courtier lance crusader regent palace drawbridge armour dynasty "
    "nobleman princess peasant royal abbey tapestry jester page scepter earl manor vassal",
    "jungle tiger elephant safari leopard rainforest monkey poacher gorilla crocodile savanna lion zebra rhinoceros "
    "giraffe cheetah wildlife python parrot chimpanzee jaguar wilderness hyena antelope ranger hippopotamus panther "
    "predator herd buffalo macaw orangutan toucan anaconda warthog baboon gazelle meerkat ostrich vulture",
    "wedding bride romance honeymoon kiss sweetheart bouquet groom proposal valentine lovers courtship engagement "
    "heartbreak bridesmaid soulmate flirtation marriage passion vows longing fiance crush elopement jealousy "
    "rendezvous affection darling infatuation newlyweds serenading embrace matchmaker tenderness suitor beloved "
    "affair devotion chemistry yearning",
    "haunted ghost vampire cemetery werewolf nightmare zombie seance demon exorcism crypt possessed phantom undead "
    "poltergeist coffin terrifying monster supernatural tombstone bloodthirsty graveyard apparition curse ghoul "
    "macabre spectre screaming shadows mummy hellish paranormal spooky creature banshee eerie occult chilling "
    "lurking slasher",
    "locomotive railway train station passenger trainspotter carriage tunnel viaduct express freight signalman "
    "steam platform timetable commuter tramway sleeper porter railroad derailment junction ticket monorail "
    "turntable boiler luggage subway coal bridge stationmaster buffers coupling branchline boxcar footplate level- "
    "crossing caboose underground gauge",
    "painter canvas gallery sculpture watercolour portrait museum easel impressionist fresco curator mural palette "
    "exhibition landscape brushstroke sketch marble masterpiece engraving studio cubism renaissance pottery mosaic "
    "ceramics charcoal abstract collage etching pastel illustrator lithograph statue artisan surrealism varnish "
    "pigment forger portraiture",
    "school teacher classroom homework pupil university professor exam graduation lecture blackboard student "
    "headmaster scholarship campus kindergarten textbook tutor library diploma detention syllabus dormitory "
    "semester essay principal recess chalk undergraduate spelling arithmetic playground literacy faculty backpack "
    "curriculum thesis bully schoolyard lesson",
    "farm cow tractor harvest barn shepherd wheat livestock plough cattle dairy goat barley ranch pasture piglet "
    "rooster hay cornfield sheepdog milking farmhouse scarecrow grain rancher crop wool hen manure fertiliser "
    "haystack silo stable lamb foal combine furrow acreage stockyard beekeeper",
    "election senator president parliament campaign ballot diplomat minister candidate democracy referendum "
    "lobbyist congress ambassador governor politician treaty scandal policy mayor cabinet coalition dictator "
    "embassy senate voter impeachment republic propaganda filibuster chancellor caucus statesman opposition "
    "inauguration veto manifesto bureaucrat constituency polling",
    "desert camel oasis dune nomad caravan sandstorm pyramid bedouin mirage scorpion pharaoh sahara cactus sphinxes "
    "tomb hieroglyph sultan nile bazaar arid turban archaeologist sunstroke papyrus mirages drought canyon "
    "rattlesnake tumbleweed coyote mesa parched caliph lizard badlands obelisk sarcophagus waterhole dromedary",
)
"""Words of each subject; none is in two subjects."""
PHRASES = (
    "This is about {}, and then about {}.",
    "Here everything turns on {}, and later on {}.",
    "At first there is {}, and in the end {}.",
    "Nobody here forgets {}, nor {}.",
)
"""Sentences around two words. Each is in many items, so it says nothing about one."""
FILLERS = (
    "Readers have asked for it many times, and it is back now.",
    "It takes an afternoon, and most people finish it.",
    "The first part is slow, but the second one makes up for that.",
    "Some said that it was too long, others that it was too short.",
    "It was made with much care by people who know their work.",
    "You need nothing else to enjoy it, and no earlier part.",
    "This edition has a new cover and a better print.",
    "It is the kind of thing that one gives to a friend.",
    "Few expected that it would be liked so much.",
    "There is more to it than one sees at once.",
    "It came out in spring, and a second one is planned.",
    "Those who liked it said so, and those who did not said so too.",
)
"""Sentences of `long-texts` that say nothing of an item's subject."""
BESIDE = {"paraphrases": 0, "long-texts": 4}
"""Such sentences in a description."""
SIZES = {"paraphrases": (2000, 480, 25), "long-texts": (2000, 480, 25)}
"""Users, items, and events a user on average."""
_LIKED = 3  # subjects that a user likes


def generator(name: str) -> tuple[Generate, tuple[int, int, int]]:
    """Return the generator (seed, users, items, events a user) of the log `name`, and its usual sizes."""
    return partial(generate, name), SIZES[name]


def generate(name: str, seed: int, users: int, items: int, interactions_per_user: int) -> Log:
    """Generate a log, the same for the same arguments.

    Args:
        name: one of `BESIDE`.
        seed: seed of every draw.
        users: number of users.
        items: number of items of the catalogue.
        interactions_per_user: mean number of events, as far as the catalogue allows.

    Raises:
        InputError: for more items than `paraphrases` has words for.
    """
    rng = np.random.default_rng([seed, items, *name.encode()])  # of the items, whatever the number of users
    words = [rng.permutation(line.split()).tolist() for line in SUBJECTS]
    subject = rng.permutation(np.arange(items) % len(words))
    most = len(words) * (min(map(len, words)) // 2)
    if name == "paraphrases" and items > most:
        raise InputError(f"data.items = {items}: 'paraphrases' has words for {most} items; lower it, or use long-texts")
    if name == "paraphrases":
        chosen = [(words[s].pop(), words[s].pop()) for s in subject]
    else:
        chosen = [tuple(rng.choice(words[s], 2, replace=False)) for s in subject]
    texts = [_text(rng, two, BESIDE[name]) for two in chosen]

    rng = np.random.default_rng([seed, users, items, interactions_per_user, *name.encode()])
    popularity = -0.5 * np.log(np.arange(1, items + 1))[rng.permutation(items)]
    liked = np.stack([rng.permutation(len(words))[:_LIKED] for _ in range(users)])
    lengths = np.clip(rng.lognormal(np.log(interactions_per_user) - 0.08, 0.4, users), 6, items // 4).astype(np.int64)
    owners, picked = [], []
    for user in range(users):
        wish = popularity + 3.5 * np.isin(subject, liked[user]) + rng.gumbel(size=items)
        owners.append(np.full(lengths[user], user))
        picked.append(np.argsort(-wish)[: lengths[user]])
    events = pl.DataFrame({"user": np.concatenate(owners), "item": np.concatenate(picked)})
    return Log(name, events, pl.DataFrame({"item": np.arange(items), "description": texts}), whole_catalogue=True)


def _text(rng: np.random.Generator, words: tuple[str, ...], beside: int) -> str:
    sentence = PHRASES[rng.integers(len(PHRASES))].format(*words)
    if not beside:
        return sentence
    sentences = [FILLERS[place] for place in rng.permutation(len(FILLERS))[:beside]]
    sentences.insert(int(rng.integers(beside + 1)), sentence)
    return " ".join(sentences)
