"""C8 and C10: false claims against independent models, and what the counter-measures leave of them.

Source: Liu, Zhang, Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024:
nothing in a claim shows how its triggers were made, so the accuser commits to transferable adversarial examples,
in time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from defenses.training.backdoor import Backdoor
from experiments.claims.claim import Findings, share
from experiments.claims.independent import SMALL, independents, labels_of, telling
from experiments.claims.radioactive import tested_by_answers
from experiments.lab import Lab
from owner.backdoor import BackdoorTest, Marked, Study
from owner.trigger_key import TriggerKey
from wire import Array, Labels
from zoo.data import Pool
from zoo.network import Network
from zoo.training import Training


@dataclass(frozen=True)
class C8:
    """Makes false claims, and tries them on models that have nothing to do with the accuser.

    Attributes:
        data: The data set.
        references: The accuser's models, on rows of his own.
        candidates: Rows that are made into triggers; the best are kept.
        radius: Greatest change of a pixel.
        step: Size of a step of the attack.
        steps: Steps of the attack.
        secrets: Secrets that the accuser draws, to commit to the one that suits his models best.
        training: Training of the accuser's models.
        rows: Rows of each of them, and of a victim.
        hidden: Widths of the layers of a victim, and of the judge's models.
        like: Training of a victim, and of the judge's models.
        independents: Suspects, all independent.
        alike: How many of them are trained as a victim is; the others are smaller.
        judges: The judge's own models.
    """

    ID: ClassVar[str] = "C8"
    SAYS: ClassVar[str] = "A malicious accuser makes false claims within the protocol of every scheme"
    SOURCE: ClassVar[str] = "Liu et al., USENIX Security 2024"

    data: str = "fashion_mnist"
    references: int = 6
    candidates: int = 1000
    radius: float = 16 / 255
    step: float = 0.01
    steps: int = 40
    secrets: int = 256
    training: Training = field(default_factory=lambda: Training(epochs=8, batch=128, lr=4e-3))
    rows: int = 5000
    hidden: tuple[int, ...] = (128,)
    like: Training = field(default_factory=lambda: Training(epochs=24, batch=128, lr=4e-3))
    independents: int = 400
    alike: int = 8
    judges: int = 8

    def run(self, lab: Lab) -> Findings:
        """Accuses; see :class:`~experiments.claims.claim.Claim`."""
        control = lab.roles(self.data, lab.seeds[0])["control"]
        count, alike = self.judges + self.independents, self.judges + self.alike
        models = independents(lab, control, count, alike, self.hidden, self.like, self.rows)
        counts: dict[tuple[str, str], list[int]] = defaultdict(list)
        least: dict[str, float] = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="accuser"):
            held = lab.roles(self.data, seed)
            own = self._own(lab, held["shadow"], seed)
            for name, study in self._claims(own, held["pool"], seed):
                plain, judged, best = self._accused(study, models)
                counts[name, "no counter-measure"].append(plain)
                counts[name, "the judge's own models"].append(judged)
                least[name] = min(least.get(name, 1.0), best)
            tests = tested_by_answers(models, self._lucky_pairs(own, held["pool"]), self.judges)
            name = "radioactive: images moved to where all models are sure"
            counts[name, "no counter-measure"].append(sum(one.details.p_paired <= 0.01 for one in tests))
            counts[name, "the judge's own models"].append(sum(one.verdict == "accused" for one in tests))
        rows = [
            share(
                f"{name}; {measure}",
                f"{self.data}, {self.independents} independent models, {len(lab.seeds)} accusers",
                "succeeds" if measure.startswith("no") and "committed" not in name else "none",
                sum(found),
                self.independents * len(found),
                seeds=lab.seeds,
                baseline=f"least p {least[name]:.2g}" if name in least else "level 1 %",
            )
            for (name, measure), found in counts.items()
        ]
        return Findings(
            tuple(rows), {}, {}, self._notes(), {"accused": {" | ".join(k): v for k, v in counts.items()}}
        )

    def _own(self, lab: Lab, shadow: Pool, seed: int) -> list[Network]:
        made = []
        for number in range(self.references):
            rng = np.random.default_rng([seed, 17, number])
            pool = shadow.take(rng.permutation(len(shadow))[: self.rows])
            family = SMALL[number % len(SMALL)]
            made.append(lab.train(pool, seed, family=family, training=self.training, label="accuser"))
        return made

    def _claims(self, own: Sequence[Network], pool: Pool, seed: int) -> Iterator[tuple[str, Study]]:
        """Yields the triggers of false claims, with labels that the accuser picks or that are drawn."""
        rng, card = np.random.default_rng([seed, 19]), own[0].card()
        pool = pool.take(slice(self.candidates))
        assert pool.y is not None
        target = (pool.y + rng.integers(1, card.classes, len(pool))) % card.classes
        x = transferable(own, pool.x, target, self)
        agreed = np.mean([labels_of(model, x) == target for model in own], axis=0)
        loss = np.mean([-np.log(np.maximum(m.predict(x)[np.arange(len(x)), target], 1e-9)) for m in own], axis=0)
        best = np.lexsort((loss, -agreed))[:100]
        key = TriggerKey.new(Backdoor(), pool, None, rng.bytes(32).hex())
        study = BackdoorTest().prepare(Marked(key, {}), rng)
        opened = len(study.x)
        adversarial = replace(study, x=x[best[:opened]], y=target[best[:opened]])
        yield "backdoor: transferable adversarial triggers, his labels", adversarial
        natural = replace(study, x=pool.x[:opened], y=pool.y[:opened])
        yield "backdoor: natural images, their true labels", natural
        drawn = rng.integers(card.classes, size=opened)
        yield "backdoor: adversarial triggers, labels drawn from a committed seed", replace(adversarial, y=drawn)
        yield f"backdoor: the best of {self.secrets} committed secrets, by his models", self._best(own, pool, rng)

    def _best(self, own: Sequence[Network], pool: Pool, rng: np.random.Generator) -> Study:
        """Returns the triggers of the secret whose labels the accuser's models give most often."""
        test, best, most = BackdoorTest(), None, -1.0
        for _ in range(self.secrets):
            key = TriggerKey.new(Backdoor(triggers=test.most), pool, None, rng.bytes(32).hex())
            x, y = key.triggers
            held = float(np.mean([labels_of(model, x) == y for model in own]))
            if held > most:
                best, most = key, held
        assert best is not None
        return test.prepare(Marked(best, {}), rng)

    def _accused(self, study: Study, models: Sequence[Network]) -> tuple[int, int, float]:
        """Returns how many suspects are accused without and with the judge's models, and the least p-value."""
        test, card = BackdoorTest(), models[0].card()
        told = [labels_of(model, study.x) for model in models]
        judges = {str(n): telling(study.x, told[n], card) for n in range(self.judges)}
        found = [
            [
                test.accuse(telling(study.x, labels, card), replace(study, independent=others), RNG)
                for others in ({}, judges)
            ]
            for labels in told[self.judges :]
        ]
        plain, judged = (sum(pair[k].verdict == "accused" for pair in found) for k in (0, 1))
        return plain, judged, min(pair[0].p_value for pair in found)

    def _lucky_pairs(self, own: Sequence[Network], pool: Pool) -> tuple[Pool, Pool]:
        """Returns images, and the same images where the accuser's models are surer of the true labels."""
        vanilla = pool.take(slice(500))
        assert vanilla.y is not None
        return vanilla, replace(vanilla, x=transferable(own, vanilla.x, vanilla.y, self))

    def _notes(self) -> tuple[str, ...]:
        return (
            "Published: false claims always succeed, against schemes with 50 to 100 triggers on CIFAR-10 and "
            "ImageNet. Radius 16/255 as there; step and number of steps are smaller.",
            f"At most {BackdoorTest().most} triggers are opened, at 2^-64; p-values of the best of many secrets "
            "are not multiplied, as the accuser does not admit the others.",
            "Trials of one suspect with three accusers, or of one accuser, are not independent.",
        )


RNG = np.random.default_rng(0)


def transferable(models: Sequence[Network], x: Array, target: Labels, sizes: C8) -> Array:
    """Returns rows that lead several models to a label: iterative fast gradient signs on their mean loss.

    Args:
        models: The models.
        x: Rows from 0 to 1, ``(n, *shape)``.
        target: The label of each.
        sizes: Has ``radius``, ``step`` and ``steps``.
    """
    start, labels = torch.from_numpy(x), torch.from_numpy(np.asarray(target, np.int64))
    moved = start.clone()
    for _ in range(sizes.steps):
        moved.requires_grad_()
        loss = torch.stack([functional.cross_entropy(model.module(moved), labels) for model in models]).mean()
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = (moved - sizes.step * gradient.sign()).detach()
        moved = torch.minimum(torch.maximum(moved, start - sizes.radius), start + sizes.radius).clamp(0, 1)
    return np.asarray((torch.round(moved * 255) / 255).numpy())
