"""What async_after costs, measured. ``python -m bench --help``."""
