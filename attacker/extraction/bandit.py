"""A gradient bandit over a tree of actions, and a policy that draws a pool's rows with it.

Source: Sutton, Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, section 2.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wire import Array, BadInput
from zoo.data.pool import Pool


class GradientBandit:
    """A policy that learns to prefer actions whose rewards exceed a baseline.

    Each node of the tree draws one of its branches with ``pi = softmax(H)``; a tree without inner nodes is the
    textbook's bandit.

    Attributes:
        preferences: Preference H of each branch.
        draws: Number of rewards received through each branch, N.
        open: Whether any action of the branch may still be drawn.
        inner: The policy of each branch with further branches, else None.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]], actions: Sequence[int] | None = None) -> None:
        """Makes a bandit with equal preferences.

        Args:
            paths: Path of each action from the root, its own name last; no path is a prefix of another.
            actions: The actions' numbers; by default 0, 1, ...
        """
        actions = range(len(paths)) if actions is None else actions
        names = dict.fromkeys(path[0] for path in paths)
        below = [[i for i, path in enumerate(paths) if path[0] == name] for name in names]
        self._actions = [[actions[i] for i in branch] for branch in below]
        self.inner = [
            GradientBandit([paths[i][1:] for i in branch], [actions[i] for i in branch])
            if len(branch) > 1
            else None
            for branch in below
        ]
        self.preferences, self.draws = np.zeros(len(names)), np.zeros(len(names), np.int64)
        self.open = np.ones(len(names), bool)

    def policy(self) -> Array:
        """Returns the probability of each branch."""
        weights = np.exp(self.preferences - self.preferences.max())
        probabilities: Array = weights / weights.sum()
        return probabilities

    def draw(self, rng: np.random.Generator) -> int:
        """Draws an open action; at least one must be open."""
        left = self.policy() * self.open
        branch = int(rng.choice(len(left), p=left / left.sum()))
        inner = self.inner[branch]
        return self._actions[branch][0] if inner is None else inner.draw(rng)

    def update(self, action: int, advantage: float) -> None:
        """Learns from the reward of an action.

        With ``alpha = 1 / N``, the preference of the drawn branch rises by ``alpha * advantage * (1 - pi)``, and
        the preference of every other branch falls by ``alpha * advantage * pi``.

        Args:
            action: The drawn action.
            advantage: The action's reward minus the baseline.
        """
        branch = self._branch(action)
        self.draws[branch] += 1
        drawn = np.arange(len(self.draws)) == branch
        self.preferences += advantage / self.draws[branch] * (drawn - self.policy())
        if (inner := self.inner[branch]) is not None:
            inner.update(action, advantage)

    def close(self, action: int) -> None:
        """Excludes an action from further draws."""
        branch = self._branch(action)
        inner = self.inner[branch]
        if inner is not None:
            inner.close(action)
        self.open[branch] = inner is not None and inner.open.any()

    def _branch(self, action: int) -> int:
        return next(i for i, actions in enumerate(self._actions) if action in actions)


class ClassPolicy:
    """Draws a class of a pool, then one of its rows at random, without replacement.

    Attributes:
        bandit: The policy over the classes in the pool; class names such as ``animal/dog`` form a tree.
    """

    def __init__(self, pool: Pool, rng: np.random.Generator) -> None:
        """Shuffles the rows of each class.

        Raises:
            BadInput: The pool has no labels.
        """
        if pool.y is None:
            raise BadInput(
                "the adaptive strategy draws rows by class, but the pool has no labels; expected a labelled pool"
            )
        classes = np.unique(pool.y)
        self._rng = rng
        self._rows = [rng.permutation(np.flatnonzero(pool.y == label)).tolist() for label in classes]
        names = [pool.class_names[label] if pool.class_names else "" for label in classes]
        self.bandit = GradientBandit([(*name.split("/")[:-1], f"/{z}") for z, name in enumerate(names)])

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    def draw(self, n: int) -> tuple[list[int], list[int]]:
        """Returns the classes of up to ``n`` draws, and the index of the row in each draw."""
        z, rows = list[int](), list[int]()
        for _ in range(min(n, len(self))):
            z.append(self.bandit.draw(self._rng))
            rows.append(self._rows[z[-1]].pop())
            if not self._rows[z[-1]]:
                self.bandit.close(z[-1])
        return z, rows

    def update(self, z: int, advantage: float) -> None:
        """Learns from a draw of class ``z``; ``advantage`` is its reward minus the baseline."""
        self.bandit.update(z, advantage)
