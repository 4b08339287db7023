"""Engines that render on other servers: a folder or file a protocol, behind one small port."""
