"""The control log: accounts, keys, stacks and alarms."""
