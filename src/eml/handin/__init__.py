"""From the store to the hand-in: the form, the PDF, the archive, and their checks."""
