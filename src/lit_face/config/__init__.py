"""Pre-flight check of composed configs, allow-listed instantiate, run folders."""
