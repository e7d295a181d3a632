"""The self-calibrating blind filter: the best linear prediction of a pixel from its neighbours, fitted in closed form.

Noise that is independent from pixel to pixel cannot be predicted from neighbours, so the weights that best predict the
noisy pixel are those that best predict the clean one (Batson and Royer 2019; for linear filters Wiener 1949, the own
pixel left out). The weights follow from the autocovariances of the noisy frames alone: no truth, no noise level.
"""

from lowdose.wiener.blind_filter import BlindFilter, FilterStream
from lowdose.wiener.follow import FollowingStream
from lowdose.wiener.movie import fit_bands, fit_movie, fit_without
from lowdose.wiener.scan import fit_scan

__all__ = ["BlindFilter", "FilterStream", "FollowingStream", "fit_bands", "fit_movie", "fit_scan", "fit_without"]
