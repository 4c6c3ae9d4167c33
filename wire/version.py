"""The version of all packages; ``pyproject.toml`` reads it here."""

VERSION = "0.1.0"
