"""The gradient bandit over a tree of actions.

Source: Sutton, Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, section 2.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wire import Array


class GradientBandit:
    """A policy that comes to prefer the actions whose rewards exceed a baseline.

    Each node of the tree draws one of its branches by ``pi = softmax(H)``; a tree without inner branches is the
    textbook's bandit.

    Attributes:
        preferences: Preference H of each branch.
        draws: How often a reward has come by each branch, N.
        open: Whether any action of the branch may still be drawn.
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
        self._inner = [
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
        inner = self._inner[branch]
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
        if (inner := self._inner[branch]) is not None:
            inner.update(action, advantage)

    def close(self, action: int) -> None:
        """Takes an action out of the draw."""
        branch = self._branch(action)
        inner = self._inner[branch]
        if inner is not None:
            inner.close(action)
        self.open[branch] = inner is not None and inner.open.any()

    def _branch(self, action: int) -> int:
        return next(i for i, actions in enumerate(self._actions) if action in actions)
