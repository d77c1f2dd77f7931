"""`fedrec demo`: a federation on this machine, and the device of one person as a web page."""
