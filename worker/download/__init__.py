"""Weights from a hub into a folder of this machine: resumed, complete and checked."""
