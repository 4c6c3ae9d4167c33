"""The gradient bandit over a tree of actions, and the rows of a pool that it draws.

Source: Sutton, Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, section 2.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wire import Array, BadInput
from zoo.data.pool import Pool


class GradientBandit:
    """A policy that comes to prefer the actions whose rewards exceed a baseline.

    Each node of the tree draws one of its branches by ``pi = softmax(H)``; a tree without inner branches is the
    textbook's bandit.

    Attributes:
        preferences: Preference H of each branch.
        draws: How often a reward has come by each branch, N.
        open: Whether any action of the branch may still be drawn.
        inner: The policy of each branch that branches further, else None.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]], actions: Sequence[int] | None = None) -> None:
        """Begins with equal preferences.

        Args:
            paths: Path of each action from the root, its own name last; none begins with another.
            actions: The actions' numbers; by default they are counted from 0.
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
        """Draws an action among those that are open; at least one must be."""
        left = self.policy() * self.open
        branch = int(rng.choice(len(left), p=left / left.sum()))
        inner = self.inner[branch]
        return self._actions[branch][0] if inner is None else inner.draw(rng)

    def update(self, action: int, advantage: float) -> None:
        """Learns from the reward of an action.

        With ``alpha = 1 / N``, the preference of the branch that was drawn rises by
        ``alpha * advantage * (1 - pi)``, and that of each other one falls by ``alpha * advantage * pi``.

        Args:
            action: The action that was drawn.
            advantage: Its reward, less the baseline.
        """
        branch = self._branch(action)
        self.draws[branch] += 1
        drawn = np.arange(len(self.draws)) == branch
        self.preferences += advantage / self.draws[branch] * (drawn - self.policy())
        if (inner := self.inner[branch]) is not None:
            inner.update(action, advantage)

    def close(self, action: int) -> None:
        """Takes an action out of the draw."""
        branch = self._branch(action)
        inner = self.inner[branch]
        if inner is not None:
            inner.close(action)
        self.open[branch] = inner is not None and inner.open.any()

    def _branch(self, action: int) -> int:
        return next(i for i, actions in enumerate(self._actions) if action in actions)


class ClassPolicy:
    """Draws a class of a pool, then one of its rows at random; each row once.

    Attributes:
        bandit: The policy over the classes that the pool has; class names such as ``animal/dog`` make a tree.
    """

    def __init__(self, pool: Pool, rng: np.random.Generator) -> None:
        """Puts the rows of each class in random order.

        Raises:
            BadInput: The pool has no labels.
        """
        if pool.y is None:
            raise BadInput(
                "the adaptive strategy draws rows by class, but the pool has no labels; expected a labelled one"
            )
        classes = np.unique(pool.y)
        self._rng = rng
        self._rows = [rng.permutation(np.flatnonzero(pool.y == label)).tolist() for label in classes]
        names = [pool.class_names[label] if pool.class_names else "" for label in classes]
        self.bandit = GradientBandit([(*name.split("/")[:-1], f"/{z}") for z, name in enumerate(names)])

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    def draw(self, n: int) -> tuple[list[int], list[int]]:
        """Returns the classes of up to ``n`` draws, and the row drawn of each."""
        z, rows = list[int](), list[int]()
        for _ in range(min(n, len(self))):
            z.append(self.bandit.draw(self._rng))
            rows.append(self._rows[z[-1]].pop())
            if not self._rows[z[-1]]:
                self.bandit.close(z[-1])
        return z, rows

    def update(self, z: int, advantage: float) -> None:
        """Learns from the reward of a draw of class ``z``, less the baseline."""
        self.bandit.update(z, advantage)
