"""Data-free model stealing by labels alone (DFMS-HL).

Source: Sanyal, Addepalli, Babu, "Towards Data-Free Model Stealing in a Hard Label Setting", CVPR 2022, section 4;
the hyper-parameters are those of the authors' code (val-iisc/Hard-Label-Model-Stealing), where the class says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from attacker.asking import NotApplicable, some
from attacker.extraction.clone import Clone
from attacker.extraction.gan import Gan, shapes
from attacker.surrogate import family_named, new_seed, numbers, own_model
from wire import Array, BadInput, Oracle
from wire.fits import ranges
from zoo.data.pool import Pool
from zoo.network import Network


@dataclass(frozen=True)
class DfmsHl:
    """DFMS-HL: a GAN of proxy images makes the rows, and the clone tells it which classes are rare (CVPR 2022).

    First a DCGAN learns to make images like the proxies. A clone is then trained on the victim's labels of proxies
    and of generated images, half of each. From there on, both are trained in turn: the generator by its
    discriminator and by the diversity loss, ``diversity`` times the negative entropy of the clone's mean answer to
    a batch, which needs no gradient of the victim; the clone by the victim's labels of new images.

    The proxies are images of random shapes, or the pool. From the authors' code are the DCGAN's Adam (2e-4, beta
    0.5), its 100 numbers of noise, batches of 64, the weight of the diversity and the halves. The code trains
    GANs for 200 epochs of 50,000 proxies, and clones three times from scratch with crops; here there is one clone,
    which goes on learning from all answers so far, and no crops.

    Attributes:
        rows: Rows to query.
        proxies: What the GAN is trained on: images of random shapes, or the pool.
        shapes: Number of images of shapes.
        queries: What the clone learns from after the first rows: generated images, or, as controls, further
            proxies or uniformly random rows for all rows.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        batch: Rows per step.
        gan_epochs: Passes of the DCGAN over the proxies before the first query.
        warm_share: Share of the rows that warm the clone up.
        warm_epochs: Passes of the clone over these.
        clone_steps: Steps of the clone for each batch of new rows.
        diversity: Weight of the class diversity, lambda.
        latent: Length of the generator's noise.
        width: Channels of the first convolutions of generator and discriminator.
        lr: Learning rate of the clone's gradient descent at first; it falls by a cosine.
    """

    rows: int = 50_000
    proxies: Literal["shapes", "pool"] = "shapes"
    shapes: int = 5000
    queries: Literal["generator", "proxies", "random"] = "generator"
    family: str = "cnn"
    batch: int = 64
    gan_epochs: int = 20
    warm_share: float = 0.2
    warm_epochs: int = 5
    clone_steps: int = 2
    diversity: float = 500.0
    latent: int = 100
    width: int = 64
    lr: float = 0.01

    def __post_init__(self) -> None:
        counts = (self.rows, self.warm_epochs, self.clone_steps, self.latent, self.width)
        if min(counts) < 1 or min(self.batch, self.shapes) < 2 or self.gan_epochs < 0:
            raise BadInput(
                f"{self}: batch and shapes must be at least 2, gan_epochs at least 0, the other numbers at least 1"
            )
        if not 0 < self.warm_share <= 1 or not self.lr > 0 or not self.diversity >= 0:
            raise BadInput(
                f"{self}: warm_share must be greater than 0 and at most 1, lr positive, diversity not negative"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Trains GAN and clone; see :class:`Extraction`.

        Raises:
            NotApplicable: The victim's rows are not images.
            BadInput: The range of a feature is not known, or the pool, which is to be the proxies, has no rows.
        """
        shape = oracle.card.input_shape
        if len(shape) != 3:
            raise NotApplicable("its generator makes images (channels, height, width)")
        low, high = ranges(oracle.card)
        real = self._proxies(pool, shape, low, high, rng)
        gan = Gan(shape, (low, high), self.latent, self.width, seed=new_seed(rng))
        rounds = self.gan_epochs * (len(real) // self.batch) if self.queries == "generator" else 0
        for _ in tqdm(range(rounds), desc="gan", unit="step", leave=False, dynamic_ncols=True):
            gan.step(_drawn(real, self.batch, rng))

        warm = max(2, round(self.warm_share * self.rows))
        first = real[: warm // 2] if self.queries == "generator" else real[:0]
        x = np.concatenate([first, self._made(gan, real, len(first), warm - len(first), (low, high), rng)])
        labels = some(oracle, x).labels
        warming = self.warm_epochs * -(-len(labels) // self.batch)
        later = max(self.rows - warm, 0) // self.batch
        network = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        clone = Clone(network, max(warm, self.rows), warming + later * self.clone_steps, self.batch, self.lr)
        clone.add(x, labels)
        clone.learn(warming, rng)
        for _ in tqdm(range(later), desc="dfms-hl", unit="batch", leave=False, dynamic_ncols=True):
            if oracle.ended is not None:
                break
            if self.queries == "generator":
                gan.step(_drawn(real, self.batch, rng), lambda made: self.diversity * clone.sameness(made))
            new = self._made(gan, real, clone.rows, self.batch, (low, high), rng)
            if not len(new):
                break
            clone.add(new, oracle.collect(new).labels)
            clone.learn(self.clone_steps, rng)
        return network

    def _proxies(
        self, pool: Pool, shape: tuple[int, ...], low: Array, high: Array, rng: np.random.Generator
    ) -> Array:
        """Returns the images that the GAN is to be like, ``(n, *shape)``, in random order."""
        if self.proxies == "pool":
            if len(pool) < 2:
                raise BadInput("dfms-hl: proxies = pool needs a pool of at least 2 images; shapes need none")
            return numbers(pool.x)[rng.permutation(len(pool))]
        needed = self.rows if self.queries == "proxies" else self.shapes
        drawn = shapes(needed, shape, rng)
        scaled: Array = (low + (high - low) * drawn).astype(np.float32)
        return scaled

    def _made(
        self, gan: Gan, real: Array, asked: int, n: int, ends: tuple[Array, Array], rng: np.random.Generator
    ) -> Array:
        """Returns the next ``n`` rows to query, or fewer where the proxies are used up."""
        if self.queries == "proxies":
            return real[asked : asked + n]
        if self.queries == "random":
            return rng.uniform(*ends, (n, *gan.shape)).astype(np.float32)
        with torch.no_grad():
            return gan.made(n).numpy()


def _drawn(real: Array, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(real[rng.integers(len(real), size=n)])
