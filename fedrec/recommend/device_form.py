"""The device form of a released model in memory: one code for what both forms compute alike."""

from fedrec.model import ReleasedModel
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.released import form_of
from fedrec.ondevice.source import Source
from fedrec.ondevice.tensor_file import HeldTensors


def device_form(model: ReleasedModel) -> DeviceModel:
    """Return the form that a device would make of the same numbers.

    Raises:
        InputError: for a kind of model without one.
    """
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in model.tensors().items()}
    return form_of(model.kind).open(Source(HeldTensors(tensors)), model.manifest()).by(model.made_by)
