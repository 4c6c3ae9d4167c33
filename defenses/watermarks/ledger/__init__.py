"""The register of marks."""
