"""What was found out as lines of text and as JSON. Pure: writes nowhere, reads nothing."""
