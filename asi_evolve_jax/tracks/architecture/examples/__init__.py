"""Programs to read and to start from; each passes the gates of its track."""
