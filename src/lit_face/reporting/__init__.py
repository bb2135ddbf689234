"""Tables, curves and pages from metrics and reconstructions."""
