"""Lists on a device, with numpy alone: the released models without torch, and exact search in large catalogues.

Three sides need this room: the client ranks with it, the server checks with it what a device can use, and the contract
in `fedrec.testing` compares it with the torch form list for list. So it is in the core, and imports none of torch,
flwr, opacus, scipy, polars and pydantic.
"""
