"""Data sets, their division into roles, and the file format for rows."""

from zoo.data.catalog import DATASETS, data_folder, load, load_or_digits
from zoo.data.dataset import Dataset, Missing
from zoo.data.pool import Pool

__all__ = ["DATASETS", "Dataset", "Missing", "Pool", "data_folder", "load", "load_or_digits"]
