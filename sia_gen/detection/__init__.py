"""The detector in use: from a photograph to a score, a verdict, and where the defects are."""
