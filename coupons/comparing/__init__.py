"""Measure the strategies beside each other: the same load on the same servers, in turn, round after round."""
