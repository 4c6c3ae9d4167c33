"""The libraries of most clients, which multiprocessing's fork server loads once for all of them.

Loading torch takes longer than many a client works. Clients run beside one another, so each gets one thread.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")  # libraries read them once, when they load

import wire.openmp  # noqa: F401, I001

import httpx  # noqa: F401
import pydantic  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import tqdm  # noqa: F401
