"""A real-time "segment anything" appliance. Read `app.py` first: it wires everything together."""

import os

# Before numpy is first imported: its BLAS would spin on all cores for products that one core does in a
# millisecond, and take them from the network; on two busy cores it is itself up to ten times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
