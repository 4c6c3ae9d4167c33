"""What the tests of report share."""

from html.parser import HTMLParser

PROTOCOL = {
    "name": "reduced (test)",
    "budgets": [40, 160],
    "settings": {"jbda": {"seeds": 20}, "t-rnd": {"lrs": [0.001, 0.01]}},
    "candidates": 50,
    "fit_images": 12,
    "test_images": 12,
    "starts": 2,
    "independent_rows": 90,
    "twins": 15,
}


POLICIES = {"open": "", "labels": 'defenses = [{ type = "quota", rows = 100 }]'}


VOID = {"meta", "br"}


def bill(account, rows, requests=2):
    ledger = {"rows": rows, "requests": requests, "micro_cents": rows * 10_000}
    return {"account": account, "rows": rows, "requests": requests, "money": rows * 10_000, "ledger": ledger}


def rate(value):
    return [value, value - 0.0123, value + 0.0123]


def theft(attack, policy, budget, accuracy):
    stopped = policy == "labels" and budget > 100
    return {
        **bill(f"{attack}-{policy}-{budget}", min(budget, 100) if stopped else budget),
        "attack": attack,
        "policy": policy,
        "budget": budget,
        "settings": {"family": "mlp", "hidden": [20, 20], "state": None},
        "status": "stopped" if stopped else "done",
        "reason": "quota: asked for 60 rows with 0 left of 100 this day (HTTP 429)" if stopped else None,
        "seconds": 1.5,
        "accuracy": rate(accuracy),
        "agreement": rate(accuracy + 0.02),
    }


def spying(attack, policy, area, roc):
    return {
        **bill(f"{attack}-{policy}", 100),
        "attack": attack,
        "policy": policy,
        "budget": 100,
        "settings": {},
        "status": "done",
        "reason": None,
        "seconds": 0.5,
        "members": 50,
        "others": 48,
        "auc": area,
        "auc_error": 0.05,
        "balanced_accuracy": 0.5 + area / 10,
        "tpr_at": {"0.01": rate(area / 8), "0.001": rate(area / 9)},
        **({"precision": rate(0.6), "recall": rate(0.7)} if attack == "gap" else {}),
        "roc": roc,
    }


def suspect(name, delta_mu, verdict="inconclusive"):
    return {
        "name": name,
        "kind": name.split("-")[0],
        "accuracy": None if name == "victim" else rate(0.8),
        "method": "dataset-inference",
        "verdict": verdict,
        "alpha": 0.01,
        "p_value": 0.25 - delta_mu / 2,
        "delta_mu": delta_mu,
        "interval": [delta_mu - 0.2, delta_mu + 0.2],
        "money": 1_234_0000,
        "samples_exposed": 12,
        "suspect_queries": 1234,
        "victim_queries": 0,
        "victim_queries_before": 4321,
        "private_scores": [-1.0, -0.9, 0.3, 0.99],
        "unseen_scores": [-0.5, 0.1, 0.9, 1.0],
        "settings": {"fit_images": 12, "alpha": 0.01},
        "seed": 7,
        "caution": "Read it beside the rate of false accusations.",
    }


def twin(name, z, verdict="inconclusive", account=None):
    return {
        "name": name,
        "kind": name.split("-")[0],
        "account": account,
        "accuracy": None if name == "victim" else rate(0.8),
        "money": 900_0000,
        "method": "twin-test",
        "verdict": verdict,
        "alpha": 0.01,
        "p_value": 0.004,
        "suspect_queries": 900,
        "settings": {"rows": 100, "margin": 1.0},
        "caution": "It is a rate over victims.",
        "models": 16,
        "rests_on": "t",
        "rank": 1 if z > 2 else 7,
        "p_rank": 1 / 16,
        "z": z,
        "p_t": 0.004,
        "limit": 2.5,
        "independent": {"controls/0": 1.5, "controls/1": -0.4},
    }


def marked(name, matches, verdict="inconclusive", account=None):
    entries = {"method": "dawn", "settings": {}, "alpha": 1e-6, "marks": 20, "matches": matches}
    return {**twin(name, 0, verdict, account), **entries, "p_value": 0.5 - matches / 40, "money": 20_0000}


CURVE = [[0.0, 0.0, 0.02, 0.3, 0.7, 1.0], [0.0, 0.05, 0.1, 0.5, 0.8, 1.0]]


POINT = [[0.0, 0.8, 1.0], [0.0, 0.9, 1.0]]


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, the text of table rows, and all text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.rows, self.open, self.words = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    @property
    def text(self):
        return " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if words := data.strip():
            self.words.append(words)
            if {"th", "td"} & set(self.open):
                self.rows[-1].append(words)
