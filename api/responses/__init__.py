"""From rows to answers, files and links."""
