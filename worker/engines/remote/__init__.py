"""Engines that render on other servers: one folder or file for each protocol, behind one small
port."""
