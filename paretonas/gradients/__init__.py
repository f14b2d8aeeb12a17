"""Gradients of several objectives: computing, storing, checking and multiplying them."""
