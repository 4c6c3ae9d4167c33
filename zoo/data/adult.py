"""Adult: whether a person in the 1994 US census earns more than 50,000 dollars a year.

Source: Kohavi, "Scaling Up the Accuracy of Naive-Bayes Classifiers: a Decision-Tree Hybrid", KDD 1996; UCI Machine
Learning Repository, https://archive.ics.uci.edu/dataset/2/adult.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from wire import BadInput, Feature
from zoo.data.dataset import Dataset
from zoo.data.files import TABLE, content, located
from zoo.data.pool import Pool

NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
COLUMNS = [
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country"),
]
CLASSES = ("<=50K", ">50K")
ABSENT = "?"


def load_adult(name: str, folder: Path | None, cache: Path) -> Dataset:
    """Loads Adult: fourteen features, eight of them categorical; three may be missing.

    Looks in the data folder, and in its folder ``adult``, for ``adult.csv`` with a header line, or for UCI's
    ``adult.data`` and, optionally, ``adult.test``, which have none. Files may be gzipped.

    Raises:
        Missing: The data set was not found.
        BadInput: A file is invalid.
    """
    advice = "put UCI's adult.data, or adult.csv with a header line,"
    path = located(name, folder, ("adult.csv", "adult.data"), advice)
    rows = _rows(path)
    more = path.with_name(path.name.replace(".data", ".test"))
    if more != path and more.is_file():
        rows += _rows(more)
    columns = dict(zip((*COLUMNS, "class"), zip(*rows, strict=True), strict=True))
    categories = {title: tuple(sorted({*columns[title]} - {ABSENT})) for title in COLUMNS if title not in NUMBERS}
    features = tuple(Feature(title, categories.get(title, ())) for title in COLUMNS)
    x = np.stack([_values(path, feature, columns[feature.name]) for feature in features], axis=1)
    y = np.array([CLASSES.index(title) for title in columns["class"]], np.int64)
    try:
        pool = Pool(x, y, CLASSES, missing=True, features=features)
    except ValueError as error:  # a number is infinite
        raise BadInput(f"{path}: {error}") from None
    return Dataset(name, pool, str(path.resolve()))


def _rows(path: Path) -> list[list[str]]:
    """Returns the cells of each row: the columns in order, then the class."""
    lines = content(path, TABLE).decode("utf-8", "replace").splitlines()
    rows: list[list[str]] = []
    try:
        for line in csv.reader(lines):
            row = [cell.strip() for cell in line]
            if len(row) < 2:  # UCI's files contain a remark and empty lines
                continue
            if not rows and row[0] == "age":
                titles = [title.replace(".", "-") for title in row[:-1]]
                if titles != COLUMNS:
                    found = ", ".join(titles)[:500]
                    raise BadInput(f"{path}: the columns are {found}; expected {', '.join(COLUMNS)}")
                continue
            row[-1] = row[-1].rstrip(".")
            if len(row) != len(COLUMNS) + 1 or row[-1] not in CLASSES:
                wanted = f"expected {len(COLUMNS) + 1} and {' or '.join(CLASSES)}"
                raise BadInput(f"{path}: a row has {len(row)} cells and ends with {row[-1][:40]!r}; {wanted}")
            rows.append(row)
    except csv.Error as error:
        raise BadInput(f"{path}: {error}") from None
    if not rows:
        raise BadInput(f"{path}: the file has no rows")
    return rows


def _values(path: Path, feature: Feature, cells: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Returns a column of numbers or category codes, ``(n,)``, NaN where missing."""
    codes: dict[str, float] = {title: code for code, title in enumerate(feature.categories)}
    try:
        values = [np.nan if c == ABSENT else codes[c] if feature.categories else float(c) for c in cells]
    except ValueError as error:
        raise BadInput(f"{path}: {feature.name}: {str(error)[:100]}") from None
    with np.errstate(over="ignore"):  # to infinity, which no pool takes
        return np.array(values, np.float32)
