"""Calibration of a detector of linked accounts, which needs to know when and from where rows came."""

import json
import tomllib

import numpy as np
import pytest
from parts import SHAPE

from server.command import main
from wire import BadInput
from zoo.data.pool import Pool


def test_a_log_with_times_and_origins_calibrates_and_rows_alone_do_not(config, network, capsys):
    place, rng = config.parent, np.random.default_rng(0)
    x = rng.random((2000, *SHAPE), np.float32)
    Pool(x[:400], network.predict(x[:400]).argmax(axis=1), tuple("abcde")).save(place / "harmless.npz")
    lines = [
        {"account": f"a{i % 40}", "rows": 1, "at": 1e9 + float(at), "prefix": f"n{i % 8}", "kind": "students"}
        for i, at in enumerate(np.sort(rng.uniform(0, 1e5, 1600)))
    ]
    (place / "access.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.savez(place / "access.npz", x=x[400:])
    np.savez(place / "rows.npz", x=x[400:], account=np.array([line["account"] for line in lines]))
    fields = [f"reference={place / 'harmless.npz'}", "rows=40", "requests=30"]
    flags = ["calibrate", "open", "--detector", "campaign", "--config", str(config), "--fpr", "0"]
    flags += [word for field in fields for word in ("--set", field)]
    main([*flags, "--rows", str(place / "access.jsonl")])
    lines = capsys.readouterr().out.splitlines()
    table = tomllib.loads("layer = " + lines[-1])["layer"]
    assert 0 < table["delta"] < 0.1 and 0 < table["beat"] < 1.6
    assert lines[-2].startswith("  students: ") and "of 20 accounts accused" in lines[-2]
    with pytest.raises(BadInput, match="it is not known when the rows came"):
        main([*flags, "--rows", str(place / "rows.npz")])
