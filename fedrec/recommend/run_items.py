"""The items of a catalogue in the form that a device without tables reads."""

from fedrec.data.catalogue import Catalogue
from fedrec.ondevice.run_items import RunItems


def run_items(catalogue: Catalogue) -> RunItems:
    """Return the ids of the items and the catalogue's digest; `RunItems.write` makes a file of them."""
    return RunItems(catalogue.ids, catalogue.digest)
