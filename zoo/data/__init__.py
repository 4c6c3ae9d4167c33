"""Rows to train on: where they come from, how they are divided, and the file that holds them."""

from zoo.data.catalog import DATASETS, data_folder, load, load_or_digits
from zoo.data.dataset import Dataset, Missing
from zoo.data.pool import Pool

__all__ = ["DATASETS", "Dataset", "Missing", "Pool", "data_folder", "load", "load_or_digits"]
