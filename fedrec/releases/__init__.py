"""Releases: the record of one release, the cut into parts, and what its ledger proves; shared by server and device."""
