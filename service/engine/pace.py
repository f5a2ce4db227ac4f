"""How long runs take, by those before."""

import math

NEWEST = 0.2
"""Weight of the newest run."""
_SLOWER = 0.02
"""The same where two in a row were slower than those before. Most often the processors were busy with something else,
and what is short by itself must not be taken for long then."""
HALF_LIFE = 10.0
"""Seconds after which an estimate that no run has confirmed is believed by half: one that refuses all work would
otherwise never be put right."""
_EVIDENCE = 8.0
"""A run of an eighth of the draws of a long one is the least that says how long those take."""
_MOST_AT_ONCE = 4.0
"""No run counts for more than so many times what was known of long runs."""


class Pace:
    """Seconds that a draw (row x sample) takes, in runs of any size and in long ones.

    A call costs something by itself, so that a draw of a short run takes several times as long as one of a long run.

    Args:
        long_draws: Runs of so many draws are long; shorter ones say less of how long a draw of a long run takes.
    """

    def __init__(self, long_draws: float) -> None:
        self._long_draws = long_draws
        self.any = math.inf
        """Of any run, when little disturbs it; infinity while it is not known."""
        self._last = math.inf
        self._long = math.inf
        self._noted = 0.0

    def note(self, seconds: float, draws: int, now: float, *, long: bool) -> None:
        """Take a run into account.

        Args:
            seconds: That it took.
            draws: That it consisted of.
            now: The time, in seconds.
            long: Whether it was made of requests that are not short.
        """
        newest = seconds / draws
        lower, self._last = min(newest, self._last), newest
        past = self.any if math.isfinite(self.any) else newest
        self.any = past + (_SLOWER if lower > past else NEWEST) * (lower - past)
        if not math.isfinite(self._long):
            if draws * _EVIDENCE < self._long_draws:
                return
            self._long = newest
        elif long:
            part = min(1.0, draws / self._long_draws)
            # The machine may have stood still for a while.
            self._long += NEWEST * part * (min(newest, _MOST_AT_ONCE * self._long) - self._long)
        else:
            return
        self._noted = now

    def forget(self) -> None:
        """A run failed: how long the next one takes is not known."""
        self.any = self._last = math.inf

    def draws_of_short(self, seconds: float) -> float:
        """Draws that a short run does within some seconds; 0 while it is not known."""
        if not math.isfinite(self.any):
            return 0.0
        return seconds / self.any if self.any > 0 else math.inf

    def seconds(self, draws: float, now: float, *, long: bool) -> float:
        """How long so many draws take at least, as far as that is known; 0 while it is not.

        Args:
            draws: In runs that follow one another.
            now: The time, in seconds.
            long: Whether in long runs.
        """
        if not long:
            return draws * self.any if math.isfinite(self.any) else 0.0
        if not math.isfinite(self._long):
            return 0.0
        return draws * self._long * math.exp2((self._noted - now) / HALF_LIFE)
