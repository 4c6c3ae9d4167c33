"""The victim's twins: models that its owner could as well have got."""
