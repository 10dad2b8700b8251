"""The sample application: a guest book."""
