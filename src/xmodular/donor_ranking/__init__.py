"""Donors: which languages of a model a text is read best with, and which an adapter for it may start from."""

from xmodular.donor_ranking.finding import donors, ranked
from xmodular.donor_ranking.ranking import Candidate, Donors

__all__ = ["Candidate", "Donors", "donors", "ranked"]
