"""The bytes that a participant sends, and how to read the frames that it saw."""
