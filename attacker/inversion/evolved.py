"""Evolution in the space of a generative prior: draws a class by rows that look like public ones.

Source: An, Tao, Xu, Liu, Shen, Yao, Xu, Zhang, "MIRROR: Model Inversion for Deep Learning Network with High
Fidelity", NDSS 2022 (its black-box attack: a genetic search in the latent space of a generator that was trained on
public images). The generator there is StyleGAN; here it is the decoder of a variational autoencoder (Kingma and
Welling, "Auto-Encoding Variational Bayes", ICLR 2014), which is trained in a minute. The search is SciPy's
differential evolution, within the part of the latent space that public rows fill.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import Bounds, differential_evolution
from torch import nn

from attacker.asking import needs_probs, some
from attacker.extraction.targets import targets
from attacker.surrogate import class_names
from wire import Array, BadInput, Oracle
from wire.fits import bounds
from zoo.data.pool import Pool
from zoo.training import Training, train

SEED = 0  # of the autoencoder, which all classes share
LEAST = 1e-7  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class Evolved:
    """Evolution within a generative prior: a class's row among those that resemble public rows (NDSS 2022).

    A variational autoencoder learns public rows, without their labels. Differential evolution then searches its
    latent space for the row of greatest confidence; each generation is asked about at once.

    Attributes:
        public: File of the public rows, of the victim's shape.
        latent: Dimensions of the latent space.
        hidden: Hidden units of encoder and decoder.
        epochs: Passes of the autoencoder over the public rows.
        generations: Generations, at most.
        population: Rows of a generation, at least 5.
        reach: Half width of the space searched, in standard deviations of the prior.
        enough: Cost 1 - p at which it ends.
    """

    public: Path
    latent: int = 12
    hidden: int = 256
    epochs: int = 30
    generations: int = 30
    population: int = 36
    reach: float = 2.0
    enough: float = 0.01

    def __post_init__(self) -> None:
        if min(self.latent, self.hidden, self.epochs, self.generations) < 1 or self.population < 5:
            raise BadInput(f"{self}: numbers must be at least 1, and population at least 5")
        if not 0 <= self.enough < 1 or not self.reach > 0:
            raise BadInput(f"{self}: enough must lie between 0 and 1, and reach be greater than 0")

    def invert(self, oracle: Oracle, label: int, rng: np.random.Generator) -> Array:
        """Returns the row of least cost that was asked about; see :class:`Inversion`.

        Raises:
            BadInput: The public rows are not of the victim's shape.
        """
        needs_probs(oracle.card)
        if self._rows.input_shape != oracle.card.input_shape:
            raise BadInput(
                f"{self.public}: rows are {self._rows.input_shape}, the victim's {oracle.card.input_shape}"
            )
        best: list[tuple[float, Array]] = []

        def costs(z: Array) -> Array:
            """Returns the costs of points ``(latent, S)``; after an end of the answers, that of the worst row."""
            found = np.full(z.shape[1], -np.log(LEAST))
            if oracle.ended is None:
                rows = self._rows_at(z.T, oracle)
                answer = some(oracle, rows) if not oracle.spent else oracle.collect(rows)
                if len(answer):
                    p = targets(answer, len(class_names(oracle.card)))[:, label].astype(np.float64)
                    found[: len(p)] = -np.log(np.maximum(p, LEAST))
                    at = int(found[: len(p)].argmin())
                    best[:] = [min([*best, (found[at], rows[at])], key=lambda one: one[0])]
            return found

        start = rng.normal(size=(self.population, self.latent)).clip(-self.reach, self.reach)
        differential_evolution(
            costs,  # type: ignore[arg-type]  # the stubs know no vectorized costs
            Bounds(np.full(self.latent, -self.reach), np.full(self.latent, self.reach)),
            maxiter=self.generations,
            init=start,
            polish=False,
            vectorized=True,
            updating="deferred",
            rng=rng,
            tol=0,
            callback=lambda intermediate_result: self._ends(oracle, best),  # type: ignore[arg-type]  # nor its end
        )
        return best[0][1]

    def _ends(self, oracle: Oracle, best: list[tuple[float, Array]]) -> bool:
        return oracle.ended is not None or 1 - np.exp(-best[0][0]) <= self.enough

    def _rows_at(self, z: Array, oracle: Oracle) -> Array:
        """Returns the rows at points of the latent space, ``(n, *input_shape)``, within the victim's range."""
        prior = self._prior
        with torch.inference_mode():
            made = prior.decode(torch.from_numpy(z.astype(np.float32))).numpy()
        return np.asarray(np.clip(made.reshape(-1, *oracle.card.input_shape), *bounds(oracle.card)))

    @cached_property
    def _rows(self) -> Pool:
        return Pool.load(self.public)

    @cached_property
    def _prior(self) -> Autoencoder:
        """Returns the autoencoder of the public rows, after training it."""
        x = torch.from_numpy(self._rows.x.reshape(len(self._rows), -1))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            made = Autoencoder(x.shape[1], self.hidden, self.latent)
            train(made, x, x, Training(self.epochs, 128, 2e-3), seed=SEED, label="prior", loss=unlikelihood)
        return made


class Autoencoder(nn.Module):
    """A variational autoencoder of rows from 0 to 1, with one hidden layer on each side."""

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        """Makes both sides."""
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns logits of the rows made again, and the divergence from the prior, ``(n, d + 1)``."""
        mean, log_variance = self.encoder(rows).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1, keepdim=True) / 2
        return torch.cat([self.decoder(z), divergence], dim=1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Returns the rows at points of the latent space, ``(n, d)`` from 0 to 1."""
        made: torch.Tensor = self.decoder(z).sigmoid()
        return made


def unlikelihood(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Returns the negative evidence lower bound, mean over rows."""
    again = nn.functional.binary_cross_entropy_with_logits(outputs[:, :-1], rows, reduction="none").sum(dim=1)
    return (again + outputs[:, -1]).mean()
