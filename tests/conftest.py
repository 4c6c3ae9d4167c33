import zoo  # noqa: F401  # before any test imports torch, since it says how torch's idle threads wait
