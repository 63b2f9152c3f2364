"""Several test processes share the cores (pytest-xdist), and so do the programs that they start: one thread each.

Here, because NumPy, torch and SimpleITK read it when they are imported, and nothing of ours is imported before.
A raters' baseline that takes 2 s this way took 27 s with threads that waited for each other.
"""

import os

for _limit in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
):
    os.environ.setdefault(_limit, "1")
