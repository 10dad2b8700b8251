"""Puts releases of the application in service, one in the place of another, without a visitor noticing."""
