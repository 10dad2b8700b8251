"""What a deploy could spoil: rows, long answers, streams, uploads. The tests add this to the application."""
