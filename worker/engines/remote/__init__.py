"""Engines that render elsewhere: one folder or file a protocol, behind one small port."""
