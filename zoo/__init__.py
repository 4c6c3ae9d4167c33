"""Models and data that every party may own."""

import os

# Waiting OpenMP threads that spin slow small networks down 4 to 16 times where cores are shared; this must be
# set before torch is imported, which only this package and those above it do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
