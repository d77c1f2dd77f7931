"""`fedrec client record`, `recommend` and the other commands of a device: each is a method of EdgeClient."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedrec.errors import InputError
from fedrec_client.edge_arguments import bounds_of, freshness_of, labels_of, model_at, moment
from fedrec_client.edge_options import DEVICE, AsJson, Folder, Model, Passphrase, folder_of, opened, show

Item = Annotated[str, typer.Argument(metavar="ITEM", help="The item's id in the catalogue.")]
Places = Annotated[int, typer.Option("-k", "--k", min=1, metavar="N", help="Most items.")]


def install(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="A run, its release/, or its model's folder.")],
    public: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public features of the items, for filters.")
    ] = None,
    min_rating: Annotated[
        float | None, typer.Option(help="data.min_rating of the run: a lower rating counts as a dislike.")
    ] = None,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Check a released model, try it, and make it the one in use.

    Its files must be those that its manifest names by their SHA-256. The old model stays until the new one made a list.
    """
    with opened(state, passphrase, create=True) as client:
        found = client.install(release, public=public, min_rating=min_rating)
    needs = "It learns from ratings alone." if found.rated else "It learns from views, likes and ratings."
    show(found, [f"Installed {found.algorithm}, which knows {found.items:,} items. {needs}"], as_json)


def record(
    item: Item,
    event: Annotated[str, typer.Option(help="view, like, rating or dislike.")] = "view",
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="UTC seconds since 1970, or ISO 8601. [default: now]")
    ] = None,
    weight: Annotated[float, typer.Option(help="Of a rating, its value.")] = 1.0,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Record what the person did with an item: it is in the next list, and survives a power cut.

    Other users of the machine see the arguments of a command while it runs; `fedrec client import` reads a file.
    """
    with opened(state, passphrase, create=True) as client:
        made = client.record(item, event, None if time is None else moment(time), weight)
        count = len(client.events())
    show({"number": made.number, **asdict(made.event)}, [f"Recorded. Events in the store: {count:,}."], as_json)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Events of one person: CSV, TSV or JSON lines.")],
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Record the events of a file, all or none; what `fedrec client export` wrote is read again.

    Columns: item_id, and where they are there timestamp, kind, and rating or weight. An error names the line.
    """
    from fedrec_client.edge.kinds_of_events import KINDS
    from fedrec_client.store import read_events

    with opened(state, passphrase, create=True) as client:
        made = client.record_all(read_events(file))
    idle = sum(each.event.kind not in KINDS for each in made)
    line = f"Events recorded: {len(made):,}." + (f" Of kinds that do not count: {idle:,}." if idle else "")
    show({"events": len(made), "not_counted": idle}, [line], as_json)


def undo(state: Folder = None, passphrase: Passphrase = False, as_json: AsJson = False) -> None:
    """Take back the event that was recorded last."""
    with opened(state, passphrase) as client:
        gone = client.undo()
    line = "There is no event." if gone is None else f"Took back the {gone.kind} of {gone.item}."
    show({} if gone is None else gone, [line], as_json)


def recommend(
    k: Places = 10,
    diversity: Annotated[
        float | None, typer.Option(help="0 for the best scores, towards 1 for items that are unlike each other.")
    ] = None,
    fresh: Annotated[
        str | None,
        typer.Option(metavar="BLOCK:HALF_LIFE", help="Prefer new items by a public number, e.g. year:10."),
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Items with an event may be on the list.")] = False,
    explore: Annotated[float, typer.Option(help="Probability of each place to go to a drawn item.")] = 0.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ITEM", help="An item that may be listed; repeat it.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="ITEM", help="An item to leave out; repeat it.")
    ] = None,
    having: Annotated[
        list[str] | None,
        typer.Option("--having", metavar="BLOCK=LABEL", help="A public label that items need; repeat it for others."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="BLOCK=LABEL", help="A public label that items must not have; repeat it."),
    ] = None,
    between: Annotated[
        list[str] | None,
        typer.Option("--between", metavar="BLOCK=LOW:HIGH", help="Bounds of a public number; repeat it for others."),
    ] = None,
    friends: Annotated[
        float, typer.Option(min=0, help="Weight of friends' taste (fedrec client friends); 0 for the own scores.")
    ] = 0.0,
    wish: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Order the best 20 by a wish in words; needs --language-model."),
    ] = None,
    language_model: Model = None,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Print the person's list, best first: item, score, and why it is there.

    exact: by its score. popular: nothing is known of the person. friends: by their taste. fresh, diverse: before items
    of a higher score. explored: drawn at random. With --wish a language model on this device orders the best items by
    public features.
    """
    from fedrec_client.edge.answers import Filters

    filters = Filters(only, exclude or (), labels_of(having), labels_of(without), bounds_of(between))
    if (wish is None) != (language_model is None):
        raise InputError("--wish TEXT and --language-model PLACE go together")
    if wish is not None and language_model is not None:
        if diversity is not None or fresh is not None or seen or explore or friends:
            raise InputError(
                "--wish orders the exact list; leave --diversity, --fresh, --seen, --explore, --friends out"
            )
        model = model_at(language_model)
        with opened(state, passphrase) as client:
            ordered = client.rerank(wish, model, k, pool=max(k, 20), filters=filters)
        lines = [f"{each.item:<24} {each.score:>12.6g}  {each.why}" for each in ordered.items]
        show(ordered, [*lines, f"Ordered by: {ordered.by or 'score'}. {ordered.note}".strip()], as_json)
        return
    with opened(state, passphrase) as client:
        found = client.recommend(
            k,
            filters=filters,
            diversity=diversity,
            freshness=None if fresh is None else freshness_of(fresh),
            exclude_seen=not seen,
            explore=explore,
            friends=friends,
        )
    show(found, [f"{each.item:<24} {each.score:>12.6g}  {each.why}" for each in found], as_json)


def questions(state: Folder = None, passphrase: Passphrase = False, as_json: AsJson = False) -> None:
    """Print what a new person may be asked: blocks of public features and their labels."""
    with opened(state, passphrase) as client:
        found = client.questionnaire()
    show(found, [f"{name}: {', '.join(labels)}" for name, labels in found.items()] or ["No questions."], as_json)


def answer(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="[BLOCK=LABEL]...", help="None takes the answers back.")
    ] = None,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Choose labels of `fedrec client questions`, in place of earlier ones. Lists use them until there are 3 events."""
    with opened(state, passphrase, create=True) as client:
        client.answer(labels_of(chosen))
        found = client.answers
    show(found, [f"Labels chosen: {sum(map(len, found.values()))}."], as_json)


def explain(
    item: Item,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the reasons into a new SVG file, mode 0600.")
    ] = None,
    language_model: Model = None,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Print what each own past item and each group of features adds to an item's score, against the average item.

    The shares sum to the score. A negative one lowers it. The answer is private, as the history is. A language model on
    this device may say the same in its words; where they do not hold, the plain words stay.
    """
    model = None if language_model is None else model_at(language_model)
    with opened(state, passphrase) as client:
        found = client.explain(item)
    lines = [f"{found.item}: score {found.score:.6g}, of the average item {found.baseline:.6g}", found.words]
    for title, parts in (("Own past items", found.past), ("Groups of features", found.groups)):
        largest = sorted(parts, key=lambda each: -abs(each.share))[:5]
        lines.append(f"{title}: " + (", ".join(f"{each.name} {each.value:+.3g}" for each in largest) or "none"))
    summary = found.summary
    if model is not None:
        from fedrec.generate.retell import retell

        told = retell(model, found)
        lines.append(f"{told.by}: {told.text}" + (f" ({told.note})" if told.note else ""))
        summary |= {"retold": asdict(told)}
    if picture is not None:
        from fedrec.ondevice.picture import bar_chart
        from fedrec.private_files import create

        create(picture, bar_chart(found).encode())
        lines.append(f"Wrote {picture}: private, as the history is.")
    show(summary, lines, as_json)


def similar(
    item: Item,
    k: Places = 10,
    measure: Annotated[str, typer.Option(help="cosine, pearson, or euclid, which is 1 / (1 + distance).")] = "cosine",
    threshold: Annotated[float | None, typer.Option(help="Least likeness.")] = None,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Print the items that are most alike to one, with the likeness of their rows."""
    with opened(state, passphrase) as client:
        found = client.similar(item, k, measure, threshold)
    show(found, [f"{each.item:<24} {each.likeness:>8.4f}" for each in found], as_json)


def forget(
    item: Annotated[str | None, typer.Argument(metavar="[ITEM]", help="Erase the events with this item.")] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Erase events before it.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Erase events from it on.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Erase all; the device is as new.")] = False,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Erase events and all that was derived from any event; no file of the store holds a trace of them afterwards.

    A range of times also erases events without a time. What the device paid of its privacy budget stays.
    """
    low, high = (None if text is None else moment(text) for text in (since, before))
    with opened(state, passphrase) as client:
        gone = client.forget(item, before=high, since=low, everything=everything)
    show({"erased": gone}, [f"Events erased: {gone:,}."], as_json)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, mode 0600.")],
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Write all that the store holds of the person to a file: JSON lines, in clear."""
    with opened(state, passphrase) as client:
        count = client.export_my_data(file)
    show({"lines": count}, [f"Wrote {count:,} lines to {file}, in clear: keep it safe."], as_json)


def opt_out(state: Folder = None) -> None:
    """Contribute only zeros, which a server cannot see; lists do not change."""
    _opt(state, True)


def opt_in(state: Folder = None) -> None:
    """Contribute again, within the limits of the policy."""
    _opt(state, False)


def add_to(client: typer.Typer) -> None:
    """Add the commands of a device to `fedrec client`."""
    from fedrec_client.participate_command import hub, items, participate

    for name, command in (
        ("install", install),
        ("record", record),
        ("import", import_),
        ("undo", undo),
        ("recommend", recommend),
        ("questions", questions),
        ("answer", answer),
        ("explain", explain),
        ("similar", similar),
        ("export", export),
        ("forget", forget),
        ("opt-out", opt_out),
        ("opt-in", opt_in),
        ("items", items),
        ("participate", participate),
        ("hub", hub),
    ):
        client.command(name, rich_help_panel=DEVICE)(command)


def _opt(state: Path | None, out: bool) -> None:
    from fedrec.screen import say
    from fedrec_client.consent.files import POLICY, write_opted_out

    folder = folder_of(state)
    write_opted_out(folder, out)
    say(f"{folder / POLICY}: this device contributes {'only zeros' if out else 'within its policy'} from now on.")
