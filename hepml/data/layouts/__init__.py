"""How each experiment writes jets and their constituents: one small file a layout.

A layout looks at the names and types of a tree's branches and says which jet collections there are, where
their momenta stand and by which kind of link their constituents are found (`collections.py`); `families.py`
lists them, `event_layout.py` is what a user chooses or writes in YAML. Reading is elsewhere
(`hepml.data.formats.events`).
"""
