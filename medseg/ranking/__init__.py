"""Ranking: reads a results table and nothing else, and says who won which contest.

A *contest* is one level of one factor and one metric (the Dice on ``kvasir_seg``); the *contestants* are the
levels of another factor (the losses). The empty-mask convention is the metrics' (see ``medseg.metrics``): no
case is ever dropped, so a value that is missing or not finite is a hole, which is named and never averaged
over.
"""

from medseg.ranking.podium import rank
from medseg.ranking.record import Ranking

__all__ = ["Ranking", "rank"]
