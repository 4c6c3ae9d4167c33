"""PRADA straight from the paper's pseudo-code, with scipy's test."""

import math
import warnings

import numpy as np
import scipy.stats


def naive(settings, x, labels, every=False):
    """Returns the first alarm's row and W (or the least W of all), the growing sets, thresholds and distances."""
    x = np.float64(x).reshape(len(x), -1) / (255 if x.dtype == np.uint8 else 1)
    past, alarm, lowest, thresholds = [], None, math.inf, {}  # of each row: number, class, distance, joined
    for number, (row, label) in enumerate(zip(x, labels.tolist(), strict=True), start=1):
        if settings.window:
            past = [entry for entry in past if entry[0] > number - settings.window]
        growing = [entry for entry in past if entry[1] == label and entry[3]]
        if not growing:
            thresholds[label] = 0
            past.append((number, label, None, True))
        else:
            distance = min(np.sqrt(((row - x[entry[0] - 1]) ** 2).sum()) for entry in growing)
            joins = distance > thresholds[label]
            if joins:
                known = np.array([entry[2] or 0.0 for entry in growing] + [distance])
                thresholds[label] = max(thresholds[label], known.mean() - known.std())
            past.append((number, label, distance, joins))
        by_class = {}
        for _, of, distance, _ in past:
            if distance is not None:
                by_class.setdefault(of, []).append(distance)
        d = np.array([z for of in by_class.values() if len(of) >= settings.class_distances for z in of])
        if number % settings.interval or len(d) <= settings.enough:
            continue
        kept = d[np.abs(d - d.mean()) < 3 * d.std()]
        if (
            len(kept) < 3
            or np.ptp(d) <= 1e-12 * d.max()
            or (settings.counted == "after" and len(kept) <= settings.enough)
        ):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            w = scipy.stats.shapiro(kept / kept.max()).statistic  # takes a range under 1e-19 for none
        lowest = min(lowest, w)
        if alarm is None and w < settings.delta:
            alarm = number, w
            if not every:
                break
    joined = {}
    for number, label, _, joins in past:
        if joins:
            joined.setdefault(label, []).append(number)
    return alarm, lowest, joined, thresholds, np.sort(d)
