"""How does a run look as HTML? For widgets, notebooks and reports."""
