"""Gradients of several objectives: how they are taken, held, checked and multiplied."""
