"""Weights from a hub into a folder of this machine: resumed, whole and checked."""
