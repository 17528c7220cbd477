"""Evaluation: sets that are judged, passes over their volumes, findings, and doubts about them."""
