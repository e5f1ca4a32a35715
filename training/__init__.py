"""Offline: makes generator, encoder and direction with PyTorch, measures them, and writes bundles."""
