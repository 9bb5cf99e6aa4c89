"""cmcgns: from raw chest radiographs and reports to the tables of CM-CGNS (arXiv 2506.11674)."""
