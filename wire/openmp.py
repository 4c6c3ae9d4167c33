"""Sets how idle OpenMP threads wait.

Idle threads that spin make small networks 4 to 16 times slower where processes share cores. OpenMP reads the
setting once, when torch or scikit-learn loads it, so every package imports this module first.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
