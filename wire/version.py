"""The version of all packages; ``pyproject.toml`` reads it from here."""

VERSION = "0.1.0"
