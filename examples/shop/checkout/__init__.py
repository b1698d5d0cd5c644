"""Takes payments, of team payments; its fraud checks are of team risk."""
