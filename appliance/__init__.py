"""A real-time "segment anything" appliance. Read `app.py` first: it wires everything together."""

__version__ = "0.1.0"
