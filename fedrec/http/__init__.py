"""HTTP services from one table of routes: of a device (`fedrec client serve`), of a model (`fedrec serve`)."""
