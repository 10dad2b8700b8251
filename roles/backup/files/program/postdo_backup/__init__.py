"""Backups of one environment, and the proof that they can be restored. Runs on the environment's host."""
