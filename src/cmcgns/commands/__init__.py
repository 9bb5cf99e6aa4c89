"""The commands, a module for each part of the work; `cmcgns.cli` puts them together."""
