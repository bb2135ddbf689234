"""FLAME: files, pose, landmarks."""
