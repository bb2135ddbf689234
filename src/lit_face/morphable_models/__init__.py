"""Statistical head models behind one interface, one file a format."""
