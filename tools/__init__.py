"""What a checkout needs beside the package: its virtual environment and its container image."""
